package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// longest is what one call copies at most, in bytes: the block in which content travels.
const longest = 128 << 10

// Conn is a TCP connection. Any number of goroutines may use it, as with every net.Conn.
type Conn struct {
	*net.TCPConn
	raw     syscall.RawConn
	in, out transfer
	look    [1]byte // what a look finds
	purpose purpose // of in
	ask     question
}

// question is what Ask under way sends.
type question struct {
	request []byte
	wrote   int    // of it
	sent    func() // called once that is all
}

// purpose is what the call under way in Conn.in is for.
type purpose uint8

const (
	reading purpose = iota
	looking         // to see whether something is there to read
	asking          // to look first, then to write, then to read
	telling         // the second step of that
)

// transfer is a call that is under way, and the function for it, bound once.
type transfer struct {
	mu     sync.Mutex // held by the one that is; the others wait
	rest   []byte     // what is left of its bytes
	failed syscall.Errno
	once   func(fd uintptr) bool
}

// New returns c as a Conn. The caller closes one of them.
func New(c *net.TCPConn) *Conn {
	s := &Conn{TCPConn: c}
	s.raw, _ = c.SyscallConn() // fails for a nil connection only
	s.in.once, s.out.once = s.read, s.write
	return s
}

// Raw is SyscallConn's, made once.
func (c *Conn) Raw() syscall.RawConn { return c.raw }

// Read is net.Conn's.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 || len(p) > longest {
		return c.TCPConn.Read(p)
	}
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	n, failed, err := c.in.run(p, c.raw.Read)
	switch {
	case err != nil || failed != 0:
		return 0, c.failure("read", failed, err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write is net.Conn's.
func (c *Conn) Write(p []byte) (int, error) {
	if len(p) == 0 || len(p) > longest {
		return c.TCPConn.Write(p)
	}
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	n, failed, err := c.out.run(p, c.raw.Write)
	if err != nil || failed != 0 {
		return n, c.failure("write", failed, err)
	}
	return n, nil
}

// Quiet reports whether nothing has arrived that was not read, neither bytes nor the end. It does not wait, but for a
// Read that does.
func (c *Conn) Quiet() bool {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.purpose = looking
	_, failed, err := c.in.run(c.look[:], c.raw.Read)
	c.purpose = reading
	return err == nil && failed == syscall.EAGAIN
}

// Ask sends a request if the connection is quiet, calls sent (nil: none) once all of it has been taken, and reads what
// comes then, as Read does. It returns how much of the request was taken, and how much was read into into, which may be the
// same memory. While sent runs, Close waits. Errors: ErrNotQuiet, with nothing sent; those of Write, if not all of request
// was taken; those of Read.
//
// The kernel and the runtime are asked as little as can be: one look, one write, then the wait, and one read.
func (c *Conn) Ask(request, into []byte, sent func()) (wrote, n int, err error) {
	if len(request) == 0 || len(into) == 0 || max(len(request), len(into)) > longest {
		if !c.Quiet() {
			return 0, 0, ErrNotQuiet
		}
		return c.talk(request, into, sent)
	}
	c.in.mu.Lock()
	c.purpose, c.ask = asking, question{request: request, sent: sent}
	n, failed, err := c.in.run(into, c.raw.Read)
	reached, wrote := c.purpose, c.ask.wrote
	c.purpose, c.ask = reading, question{}
	c.in.mu.Unlock()
	switch {
	case reached == asking:
		return 0, 0, ErrNotQuiet
	case reached == telling && failed != 0:
		return wrote, 0, c.failure("write", failed, err)
	case reached == telling: // there is no room for the rest now, or somebody else writes
		more, n, err := c.talk(request[wrote:], into, sent)
		return wrote + more, n, err
	case err != nil || failed != 0:
		return wrote, 0, c.failure("read", failed, err)
	case n == 0:
		return wrote, 0, io.EOF
	}
	return wrote, n, nil
}

// failure is what package net would say: of a call that failed, or of a wait for it that ended with err.
func (c *Conn) failure(op string, failed syscall.Errno, err error) error {
	if failed != 0 {
		err = os.NewSyscallError(op, failed)
	} else if raw := (*net.OpError)(nil); errors.As(err, &raw) {
		err = raw.Err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// run moves p by once, which wait calls again whenever the socket is ready. Its caller holds mu.
func (t *transfer) run(p []byte, wait func(func(fd uintptr) bool) error) (n int, failed syscall.Errno, err error) {
	t.rest, t.failed = p, 0
	err = wait(t.once)
	n = len(p) - len(t.rest)
	t.rest = nil
	return n, t.failed, err
}

// read reads what there is; false: nothing yet, and somebody wants to wait for it.
func (c *Conn) read(fd uintptr) bool {
	call := read
	switch c.purpose {
	case looking:
		call = peek
	case asking:
		return c.lookAndWrite(fd)
	}
	for {
		n, errno := call(fd, c.in.rest)
		switch {
		case errno == 0:
			c.in.rest = c.in.rest[n:]
			return true
		case errno == syscall.EINTR:
		case errno == syscall.EAGAIN && c.purpose == reading:
			return false
		default:
			c.in.failed = errno
			return true
		}
	}
}

// lookAndWrite takes the steps of Ask up to the wait; false: the answer is to be waited for, and then read.
//
// A readiness that the runtime heard of before this call is forgotten, and one that it hears of later ends the wait. So the
// look must be in the same call: what it does not find comes later.
func (c *Conn) lookAndWrite(fd uintptr) bool {
	q := &c.ask
	errno := syscall.EINTR
	for errno == syscall.EINTR {
		_, errno = peek(fd, c.look[:])
	}
	if errno != syscall.EAGAIN {
		return true
	}
	c.purpose = telling
	if !c.out.mu.TryLock() { // a Write waits for room, perhaps until somebody reads
		return true
	}
	c.out.rest, c.out.failed = q.request, 0
	c.write(fd)
	q.wrote, c.in.failed = len(q.request)-len(c.out.rest), c.out.failed
	c.out.rest = nil
	c.out.mu.Unlock()
	if q.wrote < len(q.request) {
		return true
	}
	if q.sent != nil {
		q.sent()
	}
	c.purpose = reading
	return false
}

// write writes what there is room for; false: not all.
func (c *Conn) write(fd uintptr) bool {
	for {
		n, errno := write(fd, c.out.rest)
		switch errno {
		case 0:
			if c.out.rest = c.out.rest[n:]; len(c.out.rest) == 0 {
				return true
			}
		case syscall.EAGAIN:
			return false
		case syscall.EINTR:
		default:
			c.out.failed = errno
			return true
		}
	}
}
