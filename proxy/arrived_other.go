//go:build !linux

package proxy

import "syscall"

// inbox knows nothing: Listener's connections are on Linux only.
type inbox struct{}

func (*inbox) holds(syscall.RawConn) int64 { return 0 }
