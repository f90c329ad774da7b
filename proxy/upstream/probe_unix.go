//go:build unix

package upstream

import "syscall"

// probe asks the kernel what has arrived on an idle connection, without waiting and without taking it.
type probe struct {
	raw   syscall.RawConn // nil: nothing can be asked
	look  func(fd uintptr) bool
	found error
	count int
	into  [1]byte
}

// quiet reports whether nothing has arrived: neither bytes, which nobody has asked for, nor the end. Under TLS that
// may be a session ticket; then the connection is given up for nothing, which is rare since servers send it before
// their first answer.
func (p *probe) quiet() bool {
	if p.raw == nil {
		return true
	}
	if p.look == nil {
		p.look = func(fd uintptr) bool {
			p.count, p.found = peek(fd, p.into[:])
			return true // whatever it was, do not wait
		}
	}
	if err := p.raw.Read(p.look); err != nil {
		return false // closed on our side
	}
	return p.found == syscall.EAGAIN || p.found == syscall.EINTR //nolint:errorlint // numbers, as the kernel gives them
}
