//go:build !linux

package proxy

import "syscall"

// taken is for Linux.
func taken(syscall.RawConn) (uint64, bool) { return 0, false }
