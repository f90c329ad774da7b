package upstream

import (
	"syscall"
	"unsafe"

	"github.com/edge-proxy/edge/proxy/socket"
)

// burst is what a connection needs for one: the call that the kernel gets, and a function that is bound once.
type burst struct {
	pieces [burstPieces][]byte
	vector [burstPieces]syscall.Iovec
	count  int
	bytes  int
	sent   uintptr
	failed syscall.Errno
	once   func(fd uintptr) bool
}

// bursts reports whether sender.burst can be used: not under TLS.
func (c *conn) bursts() bool {
	if c.records != nil || c.tcp == nil {
		return false
	}
	if c.burst == nil {
		c.burst = new(burst)
		c.burst.once = c.burst.writev
	}
	return true
}

// write sends what the kernel takes of pieces, none of which is empty, without waiting.
func (b *burst) write(c *socket.Conn, pieces [][]byte) (int, error) {
	b.bytes = 0
	for i, piece := range pieces {
		b.bytes += len(piece)
		b.vector[i].Base = unsafe.SliceData(piece)
		b.vector[i].SetLen(len(piece))
	}
	b.count = len(pieces)
	err := c.Raw().Write(b.once)
	clear(b.vector[:])
	switch {
	case err != nil: // closed on our side
		return 0, err
	case b.failed == 0:
		return int(b.sent), nil
	case b.failed == syscall.EAGAIN, b.failed == syscall.EINTR:
		return 0, nil
	}
	return 0, b.failed
}

// longBurst is how many bytes are copied without the scheduler's knowledge at most, 256 KiB; package socket says why.
const longBurst = 256 << 10

func (b *burst) writev(fd uintptr) bool {
	if b.bytes > longBurst {
		b.sent, _, b.failed = syscall.Syscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&b.vector[0])), uintptr(b.count))
	} else {
		b.sent, _, b.failed = syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&b.vector[0])), uintptr(b.count))
	}
	return true // whatever it was, do not wait
}
