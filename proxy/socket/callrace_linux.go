//go:build linux && (race || 386)

package socket

import "syscall"

// The calls as the race detector wants them, since it has to see the memory that they touch and what they order, and as a
// 386 has them: there they go through another.

func read(fd uintptr, p []byte) (int, syscall.Errno) { return number(syscall.Read(int(fd), p)) }

func write(fd uintptr, p []byte) (int, syscall.Errno) { return number(syscall.Write(int(fd), p)) }

func peek(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, err := syscall.Recvfrom(int(fd), p, syscall.MSG_PEEK)
	return number(n, err)
}

func number(n int, err error) (int, syscall.Errno) {
	if errno, failed := err.(syscall.Errno); failed { //nolint:errorlint // package syscall wraps none, and errors.As allocates
		return 0, errno
	}
	return n, 0
}

func splice(from uintptr, to, most int) (int, syscall.Errno) {
	n, err := syscall.Splice(int(from), nil, to, nil, most, spliceFlags)
	return number(int(n), err)
}
