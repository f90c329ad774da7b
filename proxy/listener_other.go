//go:build !linux

package proxy

import "net"

// Listener returns l: it is for Linux.
func (p *Proxy) Listener(l net.Listener) net.Listener { return l }

// UnderTLS returns l: it is for Linux.
func UnderTLS(l net.Listener) net.Listener { return l }
