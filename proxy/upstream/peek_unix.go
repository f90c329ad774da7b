//go:build unix && !linux

package upstream

import "syscall"

func peek(fd uintptr, into []byte) (int, error) {
	n, _, err := syscall.Recvfrom(int(fd), into, syscall.MSG_PEEK)
	return n, err
}
