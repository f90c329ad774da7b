package takeover

import (
	"context"
	"log"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what a Takeover serves, and within which limits. Those of the http.Server around it hold for what comes
// before a connection is taken over.
type Config struct {
	// Handler serves the requests, those of connections that are not taken over too.
	Handler http.Handler

	// MaxHeaderBytes bounds a request's head; a larger one is answered 431. As in net/http, 4096 bytes more pass.
	// Default http.DefaultMaxHeaderBytes.
	MaxHeaderBytes int

	// ReadHeaderTimeout is how long a head may take from its first byte on. 0 means no limit.
	ReadHeaderTimeout time.Duration

	// IdleTimeout is how long a connection may stay open between two requests; it may be an eighth shorter, at most a
	// second. 0 means no limit.
	IdleTimeout time.Duration

	// WriteTimeout is how long a request may take from its head to the end of its answer. 0 means no limit.
	WriteTimeout time.Duration

	// ErrorLog takes panics of the handler and what it does wrong. Nil means the standard logger.
	ErrorLog *log.Logger
}

// Takeover is the http.Handler that takes connections over. It is safe for concurrent use.
type Takeover struct {
	config    Config
	headBytes int
	date      atomic.Pointer[stamp]
	draining  atomic.Bool

	mu      sync.Mutex
	conns   map[*conn]struct{}
	closed  bool
	waiting []chan struct{} // of Shutdown: closed with the last connection
}

// New returns a Takeover for an http.Server's Handler.
func New(c Config) *Takeover {
	if c.MaxHeaderBytes <= 0 {
		c.MaxHeaderBytes = http.DefaultMaxHeaderBytes
	}
	return &Takeover{config: c, headBytes: c.MaxHeaderBytes + 4096, conns: map[*conn]struct{}{}}
}

// ServeHTTP takes the connection over if it can be, and returns when the connection has ended. Otherwise the Handler
// serves this one request.
func (t *Takeover) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	hijacker, ok := w.(http.Hijacker)
	if !ok || !eligible(r) {
		t.config.Handler.ServeHTTP(w, r)
		return
	}
	c := newConn(t, r)
	// Before Hijack: a connection is at each moment in the sight of the server's Shutdown or in that of ours.
	if !t.add(c) {
		t.config.Handler.ServeHTTP(w, r)
		return
	}
	defer t.remove(c)
	rwc, buffered, err := hijacker.Hijack()
	if err != nil {
		t.config.Handler.ServeHTTP(w, r)
		return
	}
	c.begin(r.Context(), rwc, buffered)
	c.serve(r)
}

// eligible reports whether the connection of a first request is taken over: one that goes on after it, and a request
// of which net/http has only read the head. With Expect it may have sent an answer, too.
func eligible(r *http.Request) bool {
	if r.TLS != nil || r.ProtoMajor != 1 || r.ProtoMinor != 1 || r.Close || r.Method == http.MethodConnect {
		return false
	}
	for _, name := range [...]string{"Upgrade", "Expect"} {
		if _, has := r.Header[name]; has {
			return false
		}
	}
	return !hasToken(first(r.Header, "Connection"), "close")
}

// add reports whether the connection may be taken over.
func (t *Takeover) add(c *conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.draining.Load() {
		return false
	}
	t.conns[c] = struct{}{}
	return true
}

func (t *Takeover) remove(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, c)
	if len(t.conns) == 0 {
		for _, wait := range t.waiting {
			close(wait)
		}
		t.waiting = nil
	}
}

// Drain closes the connections that are idle and makes every answer from now on the last of its connection. No
// further connection is taken over. It does not wait.
func (t *Takeover) Drain() {
	t.draining.Store(true)
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.conns {
		c.closeIdle()
	}
}

// Shutdown drains and waits until no connection is left. The error is the context's.
func (t *Takeover) Shutdown(ctx context.Context) error {
	t.Drain()
	t.mu.Lock()
	if len(t.conns) == 0 {
		t.mu.Unlock()
		return nil
	}
	gone := make(chan struct{})
	t.waiting = append(t.waiting, gone)
	t.mu.Unlock()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close closes all connections at once. It does not wait for their handlers, and it does not close those that a
// handler has hijacked.
func (t *Takeover) Close() error {
	t.draining.Store(true)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for c := range t.conns {
		c.cut()
	}
	return nil
}

func (t *Takeover) logf(format string, values ...any) {
	if t.config.ErrorLog != nil {
		t.config.ErrorLog.Printf(format, values...)
		return
	}
	log.Printf(format, values...)
}

// stamp is a value of Date, good for one second.
type stamp struct {
	second int64
	text   string
}

// dateAt returns the value of Date at a time.
func (t *Takeover) dateAt(now time.Time) string {
	s := t.date.Load()
	if second := now.Unix(); s == nil || s.second != second {
		s = &stamp{second, now.UTC().Format(http.TimeFormat)}
		t.date.Store(s)
	}
	return s.text
}
