//go:build !linux

package socket

import "net"

// Conn is a TCP connection.
type Conn struct{ *net.TCPConn }

// New returns c as a Conn. The caller closes one of them.
func New(c *net.TCPConn) *Conn { return &Conn{c} }
