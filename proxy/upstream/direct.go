package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/edge-proxy/edge/proxy/socket"
)

// Direct speaks HTTP/1.1 (RFC 9112) itself, on connections that it keeps between requests. It is safe for
// concurrent use.
//
// A request's own goroutine writes and reads; there is one more only while content is sent that is not in
// memory, or that is larger than what the kernel takes at once. A connection that carries no request is
// watched by nobody: it is looked at when it is wanted, and every few seconds.
//
// A request is sent again, once, on a new connection, when a kept one turns out to have been closed: if not a
// byte of it was taken, or if its method is safe (RFC 9110, section 9.2.1) and there was no byte of an answer.
type Direct struct {
	host      string // what Host says when a request does not
	path      string // put before each target
	authority string // host and port to connect to
	dialer    net.Dialer
	timeout   time.Duration // of a TLS handshake
	tls       *tls.Config   // nil: none
	pool      pool
}

// errUnusual says that a base URL is one for the Standard client.
var errUnusual = errors.New("upstream: not for a direct client")

// sessionsKept is how many TLS sessions are kept for resumption; each server name and protocol has one.
const sessionsKept = 64

// NewDirect returns a client that speaks HTTP/1.1 itself. It goes through no forward proxy.
func NewDirect(c Config) (*Direct, error) {
	base, err := parseBase(c.BaseURL)
	if err != nil {
		return nil, err
	}
	if base.Scheme != "http" && base.Scheme != "https" || !ascii(base.Host) {
		return nil, fmt.Errorf("%w: %q", errUnusual, c.BaseURL)
	}
	port := base.Port()
	d := &Direct{host: base.Host, path: base.EscapedPath(), timeout: cmp.Or(c.ConnectTimeout, dialTimeout)}
	d.dialer = net.Dialer{Timeout: d.timeout, KeepAlive: keepAlive}
	if base.Scheme == "https" {
		port = cmp.Or(port, "443")
		d.tls = &tls.Config{
			ServerName: base.Hostname(), RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12,
			NextProtos:         []string{"http/1.1"}, // HTTP/2 costs more CPU time than it saves
			ClientSessionCache: tls.NewLRUClientSessionCache(sessionsKept),
		}
	}
	d.authority = net.JoinHostPort(base.Hostname(), cmp.Or(port, "80"))
	d.pool.max = c.MaxConns
	return d, nil
}

// parseBase returns a URL that has a host.
func parseBase(text string) (*url.URL, error) {
	base, err := url.Parse(text)
	if err != nil || base.Host == "" {
		return nil, fmt.Errorf("upstream: %q is no URL with a host", text)
	}
	return base, nil
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// Close closes the connections that carry no request, and the others when theirs has ended.
func (d *Direct) Close() { d.pool.close() }

// Do sends q and fills in a. Errors: ErrTarget, ErrField, ErrLength, ErrAnswer, ErrNotSent, what Body returned, those
// of the network; when ctx has ended, its cause.
func (d *Direct) Do(ctx context.Context, q *Request, a *Response) error {
	body, again := q.Body, q.Body == nil || q.Again != nil
	if err := cmp.Or(causeOf(ctx), d.check(q)); err != nil {
		closeBody(body)
		return err
	}
	for first := true; ; first = false {
		k, err := d.call(ctx, q, body, !first)
		if err == nil {
			err = k.do(a)
		}
		if err == nil {
			return nil
		}
		if cause := causeOf(ctx); cause != nil {
			return cause
		}
		if !first || k == nil || !again || !k.repeatable() {
			if k != nil && k.sending.untouched() && k.sending.failure() == nil {
				err = fmt.Errorf("%w: %w", ErrNotSent, err)
			}
			return err
		}
		if body == nil {
			continue
		}
		if body, err = q.Again(); err != nil {
			return err
		}
	}
}

// Pipes reports whether content of q may lie in a pipe: it is sent from there, and at most once.
func (d *Direct) Pipes(q *Request) bool { return d.tls == nil && !safe(q.Method) }

// call takes a connection for one attempt, a new one if it must. On an error it has closed body.
func (d *Direct) call(ctx context.Context, q *Request, body io.ReadCloser, fresh bool) (*call, error) {
	c, err := d.connect(ctx, fresh)
	if err != nil {
		closeBody(body)
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return &call{client: d, conn: c, ctx: ctx, query: q, body: body, fresh: fresh}, nil
}

// connect returns a connection, which pool.gone or pool.give ends the use of.
func (d *Direct) connect(ctx context.Context, fresh bool) (*conn, error) {
	c, err := d.pool.take(ctx, fresh)
	if err == nil && c == nil {
		if c, err = d.dial(ctx); err != nil {
			d.pool.gone()
		}
	}
	return c, err
}

// dial makes what both clients read from and write to.
func dial(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
	conn, err := d.DialContext(ctx, network, address)
	return socket.Wrap(conn), err
}

// dial makes a connection, which the pool has counted already.
func (d *Direct) dial(ctx context.Context) (*conn, error) {
	raw, err := dial(ctx, &d.dialer, "tcp", d.authority)
	if err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	if d.tls == nil {
		return newConn(raw, raw, nil), nil
	}
	under := &records{Conn: raw}
	secure := tls.Client(under, d.tls)
	under.secure = secure
	shaking, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	if err := secure.HandshakeContext(shaking); err != nil {
		raw.Close()
		return nil, fmt.Errorf("upstream: %s: %w", d.authority, err)
	}
	return newConn(raw, secure, under), nil
}

func closeBody(body io.ReadCloser) {
	if body != nil {
		body.Close()
	}
}

// causeOf is why ctx has ended, nil when it has not.
func causeOf(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	if e, ok := ctx.(Ender); ok {
		return e.Cause()
	}
	return cmp.Or(context.Cause(ctx), ctx.Err())
}

// safe reports whether a request may be sent twice (RFC 9110, section 9.2.1).
func safe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}
