//go:build !linux

package upstream

import (
	"syscall"

	"github.com/edge-proxy/edge/proxy/socket"
)

// burst is not known here: a goroutine sends what is long.
type burst struct{ pieces [burstPieces][]byte }

func (*conn) bursts() bool { return false }

func (*burst) write(*socket.Conn, [][]byte) (int, error) { return 0, syscall.EAGAIN }
