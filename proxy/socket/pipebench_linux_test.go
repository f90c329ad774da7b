package socket_test

import (
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/edge-proxy/edge/proxy/socket"
)

// BenchmarkMove moves content that has arrived from one connection to another, through memory and through a pipe. What its
// sender and its receiver cost is in all figures.
func BenchmarkMove(b *testing.B) {
	for _, size := range []int{8 << 10, 16 << 10, 24 << 10, 32 << 10, 64 << 10, 100 << 10} {
		for _, through := range []string{"memory", "pipe"} {
			b.Run(fmt.Sprintf("%dKiB/%s", size>>10, through), func(b *testing.B) {
				from, sender := pair(b)
				to, receiver := pair(b)
				near, far := socket.New(from), socket.New(to)
				content, block, back := make([]byte, size), make([]byte, size), make([]byte, size)
				p := socket.TakePipe()
				defer p.Give()
				for b.Loop() {
					if _, err := sender.Write(content); err != nil {
						b.Fatal(err)
					}
					moved, err := 0, error(nil)
					for n := 0; moved < size && err == nil; moved += n {
						if through == "memory" {
							if n, err = near.Read(block); err == nil {
								_, err = far.Write(block[:n])
							}
						} else if n, err = p.Fill(near, size-moved); err == nil {
							_, err = p.Drain(far)
						}
					}
					if err == nil {
						_, err = io.ReadFull(net.Conn(receiver), back)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
