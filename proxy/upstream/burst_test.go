package upstream_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// block is content in memory in pieces of one size.
type block struct {
	exact
	size int
}

func (b block) Next(most int) []byte {
	n := min(most, b.held, b.size)
	piece := b.data[:n:n]
	b.data, b.held = b.data[n:], b.held-n
	return piece
}

// Content in memory arrives as it is, however much of it the kernel takes at once, and was in memory to its end.
func TestLongContentInMemory(t *testing.T) {
	own(t, "it reads", func(t *testing.T, m maker) {
		begin := make(chan struct{}) // the server may read content
		s := serve(t, func(c *conn) {
			for {
				head, more := c.head()
				if !more {
					return
				}
				<-begin
				var length int
				_, _ = fmt.Sscanf(head[strings.Index(head, "Content-Length: "):], "Content-Length: %d", &length)
				content := read(t, c.r, length)
				c.send(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", length, content))
			}
		})
		client := m.client(t, s, atMost(1))
		for _, length := range []int{16<<10 + 1, 100 << 10, 1 << 20, 12 << 20} {
			for _, size := range []int{5000, 64 << 10, 16 << 20} {
				for _, held := range []int{length, length - 1, 16<<10 + 1} {
					text := strings.Repeat("0123456789abcdef", length/16+1)[:length]
					data := &memory{t: t, data: []byte(text), held: held}
					sent := 0
					q := post(block{exact{holding{counted{data}}}, size}, int64(length))
					q.Sent = func() { sent++ }
					asked := start(t.Context(), client, q)
					begin <- struct{}{}
					want(t, asked.wait(t), 200, text)
					if sent > 1 || sent == 1 && held < length {
						t.Errorf("%d bytes, %d held: said to be sent %d times", length, held, sent)
					}
					if n := data.closed.Load(); n != 1 {
						t.Errorf("closed %d times", n)
					}
				}
			}
		}
		if n := s.accepted.Load(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	})
}

// Sent is for what is not sent again: not for a method that is safe.
func TestSentIsCalledForWhatIsNotWantedAgain(t *testing.T) {
	own(t, "it never calls it", func(t *testing.T, m maker) {
		s := serve(t, func(c *conn) {
			for {
				if _, more := c.request(); !more {
					return
				}
				c.send(ok)
			}
		})
		client := m.client(t, s)
		f := func(method string, body io.ReadCloser, want int) {
			t.Helper()
			sent := 0
			r := do(t, client, &upstream.Request{Method: method, Target: "/", Body: body, Length: 4, Sent: func() { sent++ }})
			if r.failure() != nil || sent != want {
				t.Errorf("%s: %v, said to be sent %d times, want %d", method, r.failure(), sent, want)
			}
		}
		four := func() *memory { return &memory{t: t, data: []byte("four"), held: 4} }
		f("POST", exact{holding{counted{four()}}}, 1)
		f("GET", exact{holding{counted{four()}}}, 0)
		f("POST", four(), 0) // it goes out in a goroutine
	})
}

// An upstream that answers in the midst of content in memory, and reads no more of it, is heard.
func TestAnswerInTheMidstOfContentInMemory(t *testing.T) {
	own(t, "it has no such content", func(t *testing.T, m maker) {
		s, answered := refusing(t, tooLarge, func(_ *conn, answered <-chan struct{}) { <-answered })
		client := m.client(t, s, atMost(1))
		data := &memory{t: t, data: make([]byte, 64<<20), held: 64 << 20}
		want(t, do(t, client, post(block{exact{holding{counted{data}}}, 64 << 20}, 64<<20)), 413, "large")
		if !settles(patience, func() bool { return data.closed.Load() == 1 }) {
			t.Error("the content was not closed")
		}
		answered <- struct{}{}
		want(t, do(t, client, get("/")), 200, "ok")
		if n := s.accepted.Load(); n != 2 {
			t.Errorf("%d connections, want 2", n)
		}
	})
}
