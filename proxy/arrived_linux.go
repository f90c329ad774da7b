package proxy

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// inbox asks the kernel how much of a connection it holds that nobody has read. It is the handler goroutine's.
type inbox struct {
	look  func(fd uintptr)
	count int32 // a C int
}

// holds is how many bytes can be read without waiting; 0 when that is not known.
func (i *inbox) holds(raw syscall.RawConn) int64 {
	if i.look == nil {
		i.look = func(fd uintptr) {
			i.count = 0
			_, _, _ = syscall.RawSyscall(syscall.SYS_IOCTL, fd, unix.TIOCINQ, uintptr(unsafe.Pointer(&i.count))) // fails for what is no socket
		}
	}
	if raw == nil || raw.Control(i.look) != nil {
		return 0
	}
	return int64(i.count)
}
