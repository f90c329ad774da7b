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
}

// transfer is a Read or Write that is under way, and the function for it, bound once.
type transfer struct {
	mu     sync.Mutex // held by the one that is; the others wait
	rest   []byte
	done   int
	failed error // a syscall.Errno, or nil
	once   func(fd uintptr) bool
}

// New returns c as a Conn. The caller closes one of them.
func New(c *net.TCPConn) *Conn {
	s := &Conn{TCPConn: c}
	s.raw, _ = c.SyscallConn() // fails for a nil connection only
	s.in.once, s.out.once = s.in.read, s.out.write
	return s
}

// Read is net.Conn's.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 || len(p) > longest {
		return c.TCPConn.Read(p)
	}
	n, failed, err := c.in.run(p, c.raw.Read)
	switch {
	case err != nil || failed != nil:
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
	n, failed, err := c.out.run(p, c.raw.Write)
	if err != nil || failed != nil {
		return n, c.failure("write", failed, err)
	}
	return n, nil
}

// failure is what package net would say: of a system call that failed, or of a wait for it that ended with err.
func (c *Conn) failure(op string, failed, err error) error {
	if failed != nil {
		err = os.NewSyscallError(op, failed)
	} else if raw := (*net.OpError)(nil); errors.As(err, &raw) {
		err = raw.Err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// run moves p by once, which wait calls again whenever the socket is ready.
func (t *transfer) run(p []byte, wait func(func(fd uintptr) bool) error) (n int, failed, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rest, t.done, t.failed = p, 0, nil
	err = wait(t.once)
	t.rest = nil
	return t.done, t.failed, err
}

// read reads what there is; false: nothing yet.
func (t *transfer) read(fd uintptr) bool {
	for {
		n, errno := read(fd, t.rest)
		switch errno {
		case 0:
			t.done = n
			return true
		case syscall.EAGAIN:
			return false
		case syscall.EINTR:
		default:
			t.failed = errno
			return true
		}
	}
}

// write writes what there is room for; false: not all.
func (t *transfer) write(fd uintptr) bool {
	for {
		n, errno := write(fd, t.rest)
		switch errno {
		case 0:
			t.done, t.rest = t.done+n, t.rest[n:]
			if len(t.rest) == 0 {
				return true
			}
		case syscall.EAGAIN:
			return false
		case syscall.EINTR:
		default:
			t.failed = errno
			return true
		}
	}
}
