package socket

import "net"

// Wrap returns c as a Conn if it is one of package net's TCP connections, else as it is, nil included.
func Wrap(c net.Conn) net.Conn {
	if tcp, ok := c.(*net.TCPConn); ok {
		return New(tcp)
	}
	return c
}
