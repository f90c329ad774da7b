//go:build linux && race

package socket

import (
	"errors"
	"syscall"
)

// read and write, as the race detector wants them: it has to see the memory that they touch, and what they order.

func read(fd uintptr, p []byte) (int, syscall.Errno) {
	n, err := syscall.Read(int(fd), p)
	return n, number(err)
}

func write(fd uintptr, p []byte) (int, syscall.Errno) {
	n, err := syscall.Write(int(fd), p)
	return n, number(err)
}

func number(err error) (errno syscall.Errno) {
	errors.As(err, &errno)
	return errno
}
