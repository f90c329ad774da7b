package takeover

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// exchange is one request and its answer: the handler's ResponseWriter, and the request's content. It is not used
// again, so that a handler's goroutine that is late meets its own exchange and no other.
type exchange struct {
	c       *conn
	r       *http.Request
	header  http.Header
	content content

	wants10KeepAlive bool // the request is HTTP/1.0, with Connection: keep-alive
	wantsClose       bool

	status   int   // 0 until WriteHeader
	length   int64 // as the handler has declared it; -1: it has not
	written  int64
	noted    answerHead
	trailers []string // names that the handler has announced

	sent       bool // the head is in the connection's buffer to the end, or out
	chunking   bool
	closeAfter bool
	fullDuplex bool
	done       bool // the handler has returned
}

var (
	errDone = errors.New("takeover: the handler has returned")

	_ http.Hijacker   = (*exchange)(nil)
	_ http.Flusher    = (*exchange)(nil)
	_ io.ReaderFrom   = (*exchange)(nil)
	_ io.StringWriter = (*exchange)(nil)
)

func newExchange(c *conn) *exchange {
	return &exchange{c: c, header: c.answer, length: -1}
}

// begin notes what the request says of the connection, before the handler may change it.
func (x *exchange) begin(r *http.Request) {
	x.r = r
	connection := first(r.Header, "Connection")
	x.wants10KeepAlive = r.ProtoMinor == 0 && hasToken(connection, "keep-alive")
	x.wantsClose = r.Close || hasToken(connection, "close")
}

// options answers OPTIONS *, as http.Server does in front of its handler.
func (x *exchange) options(r *http.Request) {
	const most = 4 << 10 // of a content that has no meaning yet
	x.header["Content-Length"] = []string{"0"}
	if n, _ := io.CopyN(io.Discard, r.Body, most+1); n > most { // an error shows when the rest is read
		x.header["Connection"] = []string{"close"}
	}
}

// Header returns the fields of the answer. What is changed after WriteHeader concerns trailers only.
func (x *exchange) Header() http.Header { return x.header }

// WriteHeader sends a 1xx answer at once; any other is the answer's head.
func (x *exchange) WriteHeader(status int) {
	switch {
	case x.c.hijacked.Load():
		x.c.t.logf("takeover: WriteHeader on a hijacked connection")
		return
	case x.status != 0:
		x.c.t.logf("takeover: superfluous WriteHeader")
		return
	case status < 100 || status > 999:
		panic("takeover: invalid WriteHeader code " + strconv.Itoa(status))
	}
	if status < 101 || status > 199 {
		x.content.noContinue()
	}
	c := x.c
	c.out = appendStatus(c.out, x.r.ProtoMinor, status)
	if status <= 199 && status != http.StatusSwitchingProtocols {
		c.out = x.appendEarly(c.out)
		_ = c.flush() // a write that fails fails again
		return
	}
	x.status = status
	c.out = x.note(c.out)
	if text := x.noted.lengthText; text != "" {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
			x.length = n
		} else {
			c.t.logf("takeover: invalid Content-Length of %q", text)
			delete(x.header, "Content-Length")
		}
	}
}

// Write sends content. What fits in one piece waits for the end of the handler, or Flush.
func (x *exchange) Write(p []byte) (int, error) {
	if err := x.allow(len(p)); err != nil || len(p) == 0 {
		return 0, err
	}
	c, n := x.c, 0
	for (!x.sent || x.chunking) && len(p) > partBytes-len(c.part) {
		if len(c.part) == 0 { // so much is a piece of its own
			if err := x.send(p); err != nil {
				return n, err
			}
			return n + len(p), nil
		}
		some := partBytes - len(c.part)
		c.part = append(c.part, p[:some]...)
		n, p = n+some, p[some:]
		if err := x.sendPart(); err != nil {
			return n, err
		}
	}
	if x.sent && !x.chunking {
		if err := x.send(p); err != nil {
			return n, err
		}
		return n + len(p), nil
	}
	c.part = append(c.part, p...)
	return n + len(p), c.werr
}

// WriteString is Write, but for that a large one goes in smaller pieces, as in net/http.
func (x *exchange) WriteString(s string) (n int, err error) {
	if err := x.allow(len(s)); err != nil || len(s) == 0 {
		return 0, err
	}
	for c := x.c; ; {
		some := min(len(s), partBytes-len(c.part))
		c.part = append(c.part, s[:some]...)
		if n, s = n+some, s[some:]; s == "" {
			return n, c.werr
		}
		if err := x.sendPart(); err != nil {
			return n, err
		}
	}
}

// ReadFrom writes what r reads. Where the content is neither framed nor left out it is the connection's ReadFrom, behind all
// that was written so far.
func (x *exchange) ReadFrom(r io.Reader) (n int64, err error) {
	to, ok := x.c.rwc.(io.ReaderFrom)
	if err := x.allow(0); err != nil || !ok || !x.sent || x.chunking || x.r.Method == http.MethodHead || !hasBody(x.status) {
		return io.Copy(struct{ io.Writer }{x}, r) // which meets the error again
	}
	if err := x.FlushError(); err != nil {
		return 0, err
	}
	n, err = to.ReadFrom(r)
	x.written += n
	return n, err
}

// allow reports why n bytes of content may not be written.
func (x *exchange) allow(n int) error {
	if x.c.hijacked.Load() {
		return http.ErrHijacked
	}
	if x.done {
		return errDone
	}
	x.content.noContinue()
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	if n == 0 {
		return nil
	}
	if !hasBody(x.status) {
		return http.ErrBodyNotAllowed
	}
	if x.written += int64(n); x.length != -1 && x.written > x.length {
		return http.ErrContentLength
	}
	return nil
}

// sendPart sends the content that waits.
func (x *exchange) sendPart() error {
	if len(x.c.part) == 0 {
		return x.c.werr
	}
	err := x.send(x.c.part)
	x.c.part = x.c.part[:0]
	return err
}

// send sends the head, if it has yet to go, and a piece of content.
func (x *exchange) send(p []byte) error {
	if !x.sent {
		x.sendHead(p)
	}
	switch {
	case x.r.Method == http.MethodHead:
		return nil
	case x.chunking:
		return x.c.sendChunk(p)
	}
	return x.c.sendBytes(p)
}

// Flush is FlushError.
func (x *exchange) Flush() { _ = x.FlushError() }

// FlushError sends what was written so far.
func (x *exchange) FlushError() error {
	switch {
	case x.c.hijacked.Load():
		return http.ErrHijacked
	case x.done:
		return errDone
	case x.status == 0:
		x.WriteHeader(http.StatusOK)
	}
	if err := x.sendPart(); err != nil {
		return err
	}
	if !x.sent {
		x.sendHead(nil)
	}
	return x.c.flush()
}

// finish sends the rest of the answer when the handler has returned.
func (x *exchange) finish() {
	x.done = true
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	_ = x.sendPart() // an error stays, and the connection ends
	if !x.sent {
		x.sendHead(nil)
	}
	if x.chunking {
		x.c.out = x.appendTrailers(append(x.c.out, "0\r\n"...))
		x.c.out = append(x.c.out, "\r\n"...)
	}
	_ = x.c.flush() // as above
}

// reusable reports whether another request may come behind this answer.
func (x *exchange) reusable() bool {
	if x.closeAfter || x.c.werr != nil || x.content.early.Load() {
		return false
	}
	return x.r.Method == http.MethodHead || x.length == -1 || !hasBody(x.status) || x.length == x.written
}

// SetReadDeadline limits reads of the request's content. The next request is not concerned.
func (x *exchange) SetReadDeadline(deadline time.Time) error {
	return x.c.setReadDeadline(deadline)
}

// SetWriteDeadline limits writes of the answer, its end behind the handler included. The next one is not concerned.
func (x *exchange) SetWriteDeadline(deadline time.Time) error {
	x.c.writeSet.Store(true)
	return x.c.rwc.SetWriteDeadline(deadline)
}

// EnableFullDuplex leaves unread content alone when the answer begins.
func (x *exchange) EnableFullDuplex() error {
	x.fullDuplex = true
	return nil
}

// Hijack hands the connection over, with what came behind the request.
func (x *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c := x.c
	if x.done {
		return nil, nil, errDone
	}
	x.content.noContinue()
	if x.status != 0 {
		if !x.sent {
			x.sendHead(nil)
		}
		_ = c.flush() // an error shows at the next write
	}
	if c.hijacked.Swap(true) {
		return nil, nil, http.ErrHijacked
	}
	c.t.remove(c)
	_ = c.rwc.SetDeadline(time.Time{}) // as above
	rest := c.in[c.from:c.to]
	r := bufio.NewReaderSize(&behind{rest, c.rwc}, max(bufferBytes, len(rest)))
	_, _ = r.Peek(len(rest)) // so that Buffered tells of it
	return c.rwc, bufio.NewReadWriter(r, bufio.NewWriterSize(c.rwc, bufferBytes)), nil
}

// behind reads some bytes, then a connection.
type behind struct {
	bytes []byte
	conn  net.Conn
}

func (b *behind) Read(p []byte) (int, error) {
	if len(b.bytes) > 0 {
		n := copy(p, b.bytes)
		b.bytes = b.bytes[n:]
		return n, nil
	}
	return b.conn.Read(p)
}

// hasBody reports whether an answer of that status may have content.
func hasBody(status int) bool {
	return status > 199 && status != http.StatusNoContent && status != http.StatusNotModified
}
