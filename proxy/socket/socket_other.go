//go:build !unix

package socket

import (
	"net"
	"syscall"
)

// Conn is a TCP connection.
type Conn struct{ *net.TCPConn }

// New returns c as a Conn. The caller closes one of them.
func New(c *net.TCPConn) *Conn { return &Conn{c} }

// Raw is for Unix.
func (*Conn) Raw() syscall.RawConn { return nil }

// Quiet cannot ask here: a connection that the other side has closed is found out by using it.
func (*Conn) Quiet() bool { return true }
