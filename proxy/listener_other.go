//go:build !linux

package proxy

import "net"

// Listener returns l: it is for Linux.
func (p *Proxy) Listener(l net.Listener) net.Listener { return l }
