package upstream_test

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
)

// memory is content of which the first part is in memory, as long as it was not closed.
type memory struct {
	t      testing.TB
	data   []byte
	held   int // bytes of data that can be had without waiting
	closed atomic.Int32
}

func (b *memory) Read(p []byte) (int, error) {
	if b.closed.Load() > 0 {
		b.t.Error("Read after Close")
		return 0, errClosedUpload
	}
	n := copy(p, b.data)
	if b.data, b.held = b.data[n:], max(0, b.held-n); n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Close makes what is held unreadable.
func (b *memory) Close() error {
	b.closed.Add(1)
	data := b.data[:0]
	for i := range data[:cap(data)] {
		data[:cap(data)][i] = '!'
	}
	return nil
}

// The kinds of content that a client knows: each has one method more.
type (
	counted struct{ *memory }
	holding struct{ counted }
	exact   struct{ holding }
)

func (b counted) Len() int { return b.held }

func (b holding) Next(most int) []byte {
	n := min(most, b.held, 5000) // blocks
	piece := b.data[:n:n]
	b.data, b.held = b.data[n:], b.held-n
	return piece
}

func (b exact) Exact() bool { return true }

func kindsOfMemory(b *memory) map[string]io.ReadCloser {
	return map[string]io.ReadCloser{"Len": counted{b}, "Next": holding{counted{b}}, "Exact": exact{holding{counted{b}}}}
}

func TestContentInMemory(t *testing.T) {
	own(t, "net/http reads it", func(t *testing.T, m maker) {
		s, got := listening(t, ok)
		client := m.client(t, s)
		for _, size := range []int{0, 1, 2, 5, 4000, 4096, 16 << 10, 16<<10 + 1, 100_000, 1 << 20} {
			for _, held := range []int{0, 1, size / 2, size - 1, size} {
				for kind := range kindsOfMemory(nil) {
					for _, length := range []int64{int64(size), -1} {
						whole := strings.Repeat("0123456789abcdef!", size/17+1)[:size]
						b := &memory{t: t, data: []byte(whole), held: max(0, min(held, size))}
						q := post(kindsOfMemory(b)[kind], length)
						q.Scratch = make([]byte, 4096)
						want(t, do(t, client, q), 200, "ok")
						if sent := receive(t, got); sent.content != whole {
							t.Errorf("%s, %d of %d bytes, length %d: got %d, %.100q", kind, held, size, length, len(sent.content), sent.content)
						}
						if !settles(patience, func() bool { return b.closed.Load() == 1 }) {
							t.Errorf("%s: closed %d times", kind, b.closed.Load())
						}
					}
				}
			}
		}
		s.reuses(t, int(s.requests.Load()))
	})
}

// What lies in memory may be more or less than what was declared, too.
func TestContentInMemoryOfAnotherLength(t *testing.T) {
	own(t, "net/http reads it", func(t *testing.T, m maker) {
		for _, size := range []int{0, 1, 5, 3000, 16 << 10, 100_000} {
			for _, length := range []int{size - 1, size + 1, size / 2, 2*size + 7, size + 100_000} {
				for _, held := range []int{0, 1, size / 2, size} {
					for kind := range kindsOfMemory(nil) {
						if length < 0 || length == size || kind == "Exact" && size > length { // then it has lied
							continue
						}
						b := &memory{t: t, data: []byte(strings.Repeat("x", size)), held: min(held, size)}
						name := fmt.Sprintf("%s, %d of %d bytes as %d", kind, b.held, size, length)
						s := serve(t, func(c *conn) {
							c.tested = true
							if _, more := c.head(); more {
								if rest := c.wait(); len(rest) >= length && length > 0 {
									t.Errorf("%s: looks complete", name)
								}
							}
						})
						client := m.client(t, s)
						if r := do(t, client, post(kindsOfMemory(b)[kind], int64(length))); r.err == nil {
							t.Errorf("%s: got %v", name, r)
						}
						if !settles(patience, func() bool { return b.closed.Load() == 1 }) {
							t.Errorf("%s: closed %d times", name, b.closed.Load())
						}
						client.Close()
					}
				}
			}
		}
	})
}
