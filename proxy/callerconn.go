package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/edge-proxy/edge/proxy/socket"
)

// callerConn is a caller's TCP connection that tells net/http's background read from all other reads, and answers it at
// once while the Proxy serves a request.
//
// The background read (net/http/server.go, connReader.backgroundRead) is of one byte, into an array of one byte. It
// begins in its own goroutine when the request's content has ended: before the handler is called, when there is none,
// else in the Read that meets the end. It is over before net/http reads anything else: the end of a handler and Hijack
// wait for it. With no byte and no error it ends, and leaves no trace: no byte is kept, the context goes on.
//
// The reads of an HTTP/1.1 connection while served is set, and why each is what it is taken for:
//
//   - backgroundRead: one byte, and no room behind it. It is answered.
//   - bufio.Reader's, for content, its chunk lines and trailers: of its buffer of 4,096 bytes, from some offset to the
//     end. At the offset 4,095 this is one byte with no room behind it, too, and the only one that is: it is told by its
//     address, the buffer's last byte. The first read of a connection shows where that is.
//   - bufio.Reader's that goes past its buffer: at least as long as that.
//   - net/http cuts a read short only while it reads a head, when served is not set; and a cut slice has room behind it.
//   - After Hijack: served is not set.
//   - Under HTTP/2, where reads of one byte are usual, and under TLS: served is never set.
//
// A background read that begins before served is set, since the request had no content, waits as ever: that is slower,
// not wrong. So is one of a later net/http that reads more than a byte.
//
// Requests that follow while one is served stay where they are: in the socket, or in bufio.Reader.
type callerConn struct {
	*socket.Conn
	reads, writes deadlines

	watch  *watcher
	number uint64      // in watch, 0: not there; set before the connection is used
	left   atomic.Bool // the caller has closed it, or its sending side

	served atomic.Bool // a handler of ours is running
	tail   *byte       // the last of bufio.Reader's buffer; set by the first Read, before any other goroutine reads

	lines headLines

	// What a Read for the memory that begins at aside finds goes into pipe and not there: an argument that net/http cannot
	// hand on. Its bufio.Reader hands long memory on as it is; for what it has read already, it makes no Read. The handler's,
	// while it reads content; the background read is answered before it gets here.
	pipe  *socket.Pipe
	aside *byte
}

func newCallerConn(tcp *net.TCPConn, w *watcher) *callerConn {
	c := &callerConn{Conn: socket.New(tcp), watch: w}
	c.reads.apply, c.writes.apply = tcp.SetReadDeadline, tcp.SetWriteDeadline
	return c
}

// watched reports whether somebody else notes when the caller leaves.
func (c *callerConn) watched() bool { return c != nil && c.number != 0 }

// gone reports whether the caller has left.
func (c *callerConn) gone() bool { return c != nil && c.left.Load() }

// Close closes the connection.
func (c *callerConn) Close() error {
	err := c.TCPConn.Close()
	c.lines.drop()
	if c.watched() {
		c.watch.forget(c)
	}
	return err
}

// Read reads, or answers the background read.
func (c *callerConn) Read(p []byte) (int, error) {
	switch {
	case len(p) == 1 && cap(p) == 1 && c.served.Load() && &p[0] != c.tail:
		return 0, nil
	case c.tail == nil && cap(p) > 0:
		c.tail = &p[:cap(p)][cap(p)-1]
	}
	for {
		n, err := c.receive(p)
		if err == nil || !c.reads.early(err) {
			return n, err
		}
	}
}

// receive reads into p, or into the pipe that was put in its place.
func (c *callerConn) receive(p []byte) (int, error) {
	if c.pipe != nil && len(p) > 0 && &p[0] == c.aside {
		if n, err := c.pipe.Fill(c.Conn, len(p)); !errors.Is(err, socket.ErrNoSplice) {
			return n, err
		}
	}
	return c.Conn.Read(p)
}

// Write writes all of p, or what of it can be until the write deadline, and the lines that belong into the head of it.
func (c *callerConn) Write(p []byte) (int, error) {
	if c.lines.pending.Load() && c.lines.pending.Swap(false) {
		return c.writeHead(p)
	}
	return c.write(p)
}

func (c *callerConn) write(p []byte) (sent int, err error) {
	for {
		n, err := c.Conn.Write(p[sent:])
		if sent += n; err == nil || !c.writes.early(err) {
			return sent, err
		}
	}
}

// WriteBuffers is v.WriteTo(c) in one system call, for who has taken the connection over. net.Buffers itself would go round
// Write, and with it round what Write does with an early deadline.
func (c *callerConn) WriteBuffers(v *net.Buffers) (sent int64, err error) {
	for {
		n, err := v.WriteTo(c.TCPConn) // leaves in v what was not sent
		if sent += n; err == nil || !c.writes.early(err) {
			return sent, err
		}
	}
}

// ReadFrom is for passages, and for other handlers of the server: net/http sends files with it.
func (c *callerConn) ReadFrom(r io.Reader) (int64, error) {
	if p, ok := r.(*passage); ok {
		return p.reach(c), nil
	}
	return c.writes.exactly(func() (int64, error) { return c.TCPConn.ReadFrom(r) })
}

// drain is Write of some of what is in a pipe.
func (c *callerConn) drain(p *socket.Pipe) (sent int, err error) {
	for {
		n, err := p.DrainSome(c.Conn)
		if sent += n; err == nil || !c.writes.early(err) {
			return sent, err
		}
	}
}

// WriteTo is for who has taken the connection over.
func (c *callerConn) WriteTo(w io.Writer) (int64, error) {
	return c.reads.exactly(func() (int64, error) { return c.TCPConn.WriteTo(w) })
}

// SetReadDeadline, SetWriteDeadline and SetDeadline are as net.Conn has them.
func (c *callerConn) SetReadDeadline(t time.Time) error  { return c.reads.want(t) }
func (c *callerConn) SetWriteDeadline(t time.Time) error { return c.writes.want(t) }
func (c *callerConn) SetDeadline(t time.Time) error {
	return errors.Join(c.reads.want(t), c.writes.want(t))
}

// enter notes that a handler of ours begins with r.
func (c *connection) enter(r *http.Request) {
	if c != nil && c.own != nil && r.ProtoMajor == 1 {
		c.own.served.Store(true)
	}
}

// exit notes that it has ended, or has taken the connection over.
func (c *connection) exit() {
	if c != nil && c.own != nil {
		c.own.served.Store(false)
	}
}
