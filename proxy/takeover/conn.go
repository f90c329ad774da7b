package takeover

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	bufferBytes = 4 << 10 // of each side, as in net/http
	partBytes   = 2 << 10 // content that waits for the end of the handler: shorter answers get a Content-Length
	leastRoom   = 512     // to read into, if there can be so much
	refuseTime  = 5 * time.Second
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 256 << 10
	keptNames   = 64 // a larger header map is not used again
)

// conn is a connection that was taken over. Its fields are those of the goroutine that serves it, and of the handler
// while one runs, but for those that say otherwise.
type conn struct {
	t       *Takeover
	rwc     net.Conn
	ctx     context.Context // ends when reading or writing fails; has what the server's ConnContext put there
	cancel  context.CancelFunc
	remote  string
	options bool // OPTIONS * is answered without the handler

	state  atomic.Uint32 // one of the states; Drain swaps idle for closed
	broken atomic.Bool   // must not be used after this request

	// What came, in[from:to]. While content is open, its holder's.
	in       []byte
	first    []byte // in, unless a head needed more
	from, to int
	armed    time.Time // read deadline that is set for the next idle time; zero when it is none of that kind
	posted   bool      // the last request was a POST
	head     head
	header   http.Header // of requests
	values   []string    // in header

	// What goes.
	out    []byte // not sent yet; part lies behind it, in the same buffer
	whole  []byte // the buffer of both
	part   []byte // content of the answer that is not in out yet
	werr   error
	pieces [3][]byte
	vector net.Buffers
	answer http.Header // of answers
	names  []string    // scratch: in answer, sorted

	// Set by handlers, whichever goroutine they do it in.
	readSet, writeSet atomic.Bool
	limits            sync.Mutex // a deadline and whether it was set belong together
	hijacked          atomic.Bool
}

const (
	stateActive uint32 = iota
	stateIdle
	stateClosed
)

// newConn makes a connection of the one that r came on, which may still be net/http's.
func newConn(t *Takeover, r *http.Request) *conn {
	c := &conn{t: t, remote: r.RemoteAddr, header: http.Header{}, answer: http.Header{}, options: true}
	if server, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok {
		c.options = !server.DisableGeneralOptionsHandler
	}
	return c
}

// begin takes what Hijack gave. The two buffers go on as ours: net/http does not use them any more.
func (c *conn) begin(ctx context.Context, rwc net.Conn, buffered *bufio.ReadWriter) {
	reader, writer := buffered.Reader, buffered.Writer
	pending, _ := reader.Peek(reader.Buffered()) // never fails for what is there
	pending = append(make([]byte, 0, len(pending)), pending...)
	reader.Reset(rwc)
	in, _ := reader.Peek(0)
	if c.first = in[:cap(in)]; cap(in) < max(bufferBytes, len(pending)) {
		c.first = make([]byte, max(bufferBytes, len(pending)))
	}
	c.in, c.to = c.first, copy(c.first, pending)
	if c.whole = writer.AvailableBuffer(); cap(c.whole) < bufferBytes {
		c.whole = make([]byte, 0, bufferBytes)
	}
	c.whole = c.whole[:bufferBytes]
	c.out, c.part = c.whole[:0:bufferBytes-partBytes], c.whole[bufferBytes-partBytes:bufferBytes-partBytes]
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	c.ctx, c.cancel = context.WithCancel(ctx)
	if c.rwc = rwc; c.t.closed {
		c.cut()
	}
}

// serve answers the request that net/http has read the head of, and all later ones. The connection is closed when it
// returns, unless a handler has hijacked it.
func (c *conn) serve(r *http.Request) {
	defer c.cancel()
	defer func() {
		if !c.hijacked.Load() {
			c.rwc.Close()
		}
	}()
	x := newExchange(c)
	x.content.init(c, r.ContentLength)
	c.posted = r.Method == http.MethodPost
	for again := c.handle(x, *r); again; {
		if !c.wait() {
			return
		}
		var request http.Request
		var err error
		if x, request, err = c.read(); err != nil {
			c.refuse(x, request, err)
			return
		}
		again = c.handle(x, request)
	}
}

// wait returns when something of the next request is there, with the connection active. It reports false when none
// will come.
func (c *conn) wait() bool {
	if c.from < c.to {
		return true
	}
	c.from, c.to, c.in = 0, 0, c.first
	c.arm()
	c.state.Store(stateIdle)
	if c.t.draining.Load() { // looked at after the store: Drain looks at the state after it has set this
		return false
	}
	err := c.fill(len(c.in))
	return c.state.CompareAndSwap(stateIdle, stateActive) && err == nil
}

// arm sets the read deadline for an idle time, unless the one that is set is nearly that already: setting it costs
// about as much as the rest of the waiting.
func (c *conn) arm() {
	d := c.t.config.IdleTimeout
	if d <= 0 {
		if c.readSet.Swap(false) {
			_ = c.rwc.SetReadDeadline(time.Time{}) // an error shows at the read
		}
		return
	}
	until := time.Now().Add(d)
	if !c.readSet.Swap(false) && until.Sub(c.armed) <= min(d/8, time.Second) {
		return
	}
	c.armed = until
	_ = c.rwc.SetReadDeadline(until)
}

// read reads a request's head, of which a part is there.
func (c *conn) read() (*exchange, http.Request, error) {
	blank := 0
	if c.posted {
		blank = 1 // some old clients send a line end behind a POST (RFC 9112, section 2.2)
	}
	c.head.reset(blank)
	limited := false
	for {
		whole, err := c.head.parse(c.in[c.from:c.to])
		if err != nil {
			return nil, http.Request{}, err
		}
		if whole {
			break
		}
		if !limited {
			limited = true
			c.unlimit()
			if d := c.t.config.ReadHeaderTimeout; d > 0 {
				c.limitReading(d)
			}
		}
		if err := c.fill(c.t.headBytes); err != nil {
			if errors.Is(err, io.EOF) && c.to-c.from >= 4 { // that much makes a request in net/http
				err = errBad
			}
			return nil, http.Request{}, err
		}
	}
	x := newExchange(c)
	r, err := c.request(c.in[c.from:c.to], x)
	c.from += c.head.at
	if err == nil || errors.Is(err, errExpectation) {
		x.content.init(c, r.ContentLength)
		c.posted = r.Method == http.MethodPost
	}
	return x, r, err
}

// fill reads more into the buffer, which may grow to hold limit bytes.
func (c *conn) fill(limit int) error {
	if c.to-c.from >= limit {
		return errTooLarge
	}
	if c.from == c.to {
		c.from, c.to = 0, 0
	}
	// A read of a single byte may be taken for net/http's background read by a connection that answers that itself.
	if room := len(c.in) - c.to; room == 0 || room < leastRoom && c.from > 0 {
		into := c.in
		if c.from == 0 {
			into = make([]byte, min(2*len(c.in), max(limit, len(c.in)+1)))
		}
		c.from, c.to = 0, copy(into, c.in[c.from:c.to])
		c.in = into
	}
	n, err := c.rwc.Read(c.in[c.to:])
	if c.to += n; n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// handle has one request answered and reports whether the connection goes on.
func (c *conn) handle(x *exchange, head http.Request) bool {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	r := with(ctx, head)
	if x.content.left != 0 || x.content.chunked {
		r.Body = &x.content
		x.content.request = r
		if x.content.chunked || x.content.left > int64(c.to-c.from) {
			// The content is the handler's to limit. That it is here is the usual case, which needs no deadline.
			c.unlimit()
		}
	} else {
		r.Body = http.NoBody
		x.content.ended = true
		x.content.eof.Store(true)
	}
	if d := c.t.config.WriteTimeout; d > 0 {
		c.writeSet.Store(true)
		_ = c.rwc.SetWriteDeadline(time.Now().Add(d))
	}
	x.begin(r)
	if !c.call(x, r) {
		if !c.hijacked.Load() {
			c.abort(x)
		}
		return false
	}
	if c.hijacked.Load() {
		return false
	}
	cancel()
	return c.finish(x)
}

// call runs the handler and reports whether it has returned.
func (c *conn) call(x *exchange, r *http.Request) (returned bool) {
	defer func() {
		if returned {
			return
		}
		if v := recover(); v != nil && v != http.ErrAbortHandler { //nolint:errorlint // panic values are compared as net/http compares them
			stack := make([]byte, 64<<10)
			c.t.logf("takeover: panic serving %s: %v\n%s", c.remote, v, stack[:runtime.Stack(stack, false)])
		}
	}()
	if c.options && r.RequestURI == "*" && r.Method == http.MethodOptions {
		x.options(r)
	} else {
		c.t.config.Handler.ServeHTTP(x, r)
	}
	return true
}

// finish sends what is left of the answer and makes the connection ready for the next request.
func (c *conn) finish(x *exchange) bool {
	x.finish()
	keep := x.reusable()
	whole := x.content.end(keep)
	if form := x.r.MultipartForm; form != nil {
		_ = form.RemoveAll() // as in net/http, what cannot be removed stays
	}
	if c.writeSet.Swap(false) {
		_ = c.rwc.SetWriteDeadline(time.Time{})
	}
	if !keep || !whole || c.broken.Load() {
		if c.werr == nil && (!whole || c.from < c.to) {
			c.linger()
		}
		return false
	}
	c.recycle()
	return true
}

// recycle forgets what the maps and lists of a request and its answer held.
func (c *conn) recycle() {
	if cap(c.values) > 2*keptNames {
		c.values = nil
	}
	clear(c.values)
	c.values = c.values[:0]
	for _, h := range [...]*http.Header{&c.header, &c.answer} {
		if len(*h) > keptNames {
			*h = http.Header{}
		}
		clear(*h)
	}
	if cap(c.names) > 2*keptNames {
		c.names = nil
	}
	clear(c.names)
	c.names = c.names[:0]
	c.out, c.part = c.whole[:0:bufferBytes-partBytes], c.part[:0]
}

// refuse answers a head that is no request, if anybody is there to read it.
func (c *conn) refuse(x *exchange, head http.Request, err error) {
	var why *refusal
	if !errors.As(err, &why) {
		return
	}
	_ = c.rwc.SetWriteDeadline(time.Now().Add(refuseTime))
	if why == errExpectation {
		x.begin(with(c.ctx, head))
		x.header["Connection"] = []string{"close"}
		x.WriteHeader(http.StatusExpectationFailed)
		x.finish()
	} else {
		_, err = io.WriteString(c.rwc, "HTTP/1.1 "+why.status+"\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"+why.text)
	}
	if err == nil || why == errExpectation {
		c.linger()
	}
}

// abort ends the connection behind a handler that has not returned. What has not been sent is not sent any more: the
// client is to see that its answer is not whole.
func (c *conn) abort(x *exchange) {
	c.cancel()
	c.rwc.Close() // before the content is locked: a reader of it may be waiting
	x.content.end(false)
}

// linger closes the writing side and waits until the client has read the answer. Closing at once would throw the
// answer away when more of the request is still to come (RFC 9112, section 9.6).
func (c *conn) linger() {
	if half, ok := c.rwc.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	until := time.Now().Add(lingerTime)
	_ = c.rwc.SetReadDeadline(until)
	for read := 0; read < lingerBytes; {
		n, err := c.rwc.Read(c.in)
		if read += n; err != nil {
			return
		}
	}
	time.Sleep(time.Until(until)) // more than that is not read; the client may look at its answer meanwhile
}

// fail notes that the connection is of no more use.
func (c *conn) fail() {
	c.broken.Store(true)
	c.cancel()
}

// interrupt ends a read that goes on.
func (c *conn) interrupt() { _ = c.setReadDeadline(time.Unix(1, 0)) }

// unlimit removes the read deadline of the idle time.
func (c *conn) unlimit() {
	c.armed = time.Time{}
	c.readSet.Store(false)
	_ = c.rwc.SetReadDeadline(time.Time{})
}

// limitReading sets a read deadline unless a handler has.
func (c *conn) limitReading(d time.Duration) {
	c.limits.Lock()
	defer c.limits.Unlock()
	if !c.readSet.Swap(true) {
		_ = c.rwc.SetReadDeadline(time.Now().Add(d))
	}
}

func (c *conn) setReadDeadline(deadline time.Time) error {
	c.limits.Lock()
	defer c.limits.Unlock()
	c.readSet.Store(true)
	return c.rwc.SetReadDeadline(deadline)
}

// closeIdle closes the connection if it is idle. The Takeover's mutex is held.
func (c *conn) closeIdle() {
	if c.state.CompareAndSwap(stateIdle, stateClosed) {
		c.rwc.Close()
	}
}

// cut closes the connection whatever it does. The Takeover's mutex is held.
func (c *conn) cut() {
	if c.rwc != nil && !c.hijacked.Load() {
		c.cancel()
		c.rwc.Close()
	}
}
