package proxy

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// taken is how many bytes the other side of a connection has acknowledged since it was made, if the kernel tells. Some
// that keep the interface do not count them: then the number stays.
func taken(raw syscall.RawConn) (n uint64, known bool) {
	if raw == nil {
		return 0, false
	}
	_ = raw.Control(func(fd uintptr) { // fails for a closed one
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if known = err == nil; known {
			n = info.Bytes_acked
		}
	})
	return n, known
}
