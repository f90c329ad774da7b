package upstream

import (
	"syscall"
	"unsafe"
)

// peek looks without waiting and without a word to the scheduler; package socket says why.
func peek(fd uintptr, into []byte) (int, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&into[0])), uintptr(len(into)), syscall.MSG_PEEK, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
