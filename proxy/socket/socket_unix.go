//go:build unix && !linux

package socket

import (
	"net"
	"syscall"
)

// Conn is a TCP connection.
type Conn struct {
	*net.TCPConn
	raw syscall.RawConn
}

// New returns c as a Conn. The caller closes one of them.
func New(c *net.TCPConn) *Conn {
	raw, _ := c.SyscallConn() // fails for a nil connection only
	return &Conn{c, raw}
}

// Raw is SyscallConn's, made once.
func (c *Conn) Raw() syscall.RawConn { return c.raw }

// Quiet reports whether nothing has arrived that was not read, neither bytes nor the end. It does not wait.
func (c *Conn) Quiet() (quiet bool) {
	err := c.raw.Read(func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
		quiet = err == syscall.EAGAIN || err == syscall.EINTR //nolint:errorlint // numbers, as the kernel gives them
		return true                                           // whatever it was, do not wait
	})
	return err == nil && quiet
}
