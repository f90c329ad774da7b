package upstream_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/edge-proxy/edge/proxy/upstream"
)

func TestCloseEndsIdleConnections(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		s := answering(t, ok)
		client := m.client(t, s)
		var held []*upstream.Response
		for range 5 {
			held = append(held, open(t, client, get("/")))
		}
		for _, a := range held[:4] {
			read(t, a.Body, 2)
		}
		client.Close()
		if !settles(soon, func() bool { return s.open.Load() == 1 }) {
			t.Errorf("%d connections are open, want the one in use", s.open.Load())
		}
		if got := read(t, held[4].Body, 2); got != "ok" {
			t.Errorf("got %q", got)
		}
		if !settles(soon, func() bool { return s.open.Load() == 0 }) {
			t.Errorf("%d connections are open at the end, want none", s.open.Load())
		}
		client.Close()
	})
}

func TestCloseWaitsForAnUpgradedConnection(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		s := serve(t, func(c *conn) {
			if _, more := c.head(); more {
				c.send(switched)
				_, _ = io.Copy(c, io.LimitReader(c.r, 5))
			}
		})
		client := m.client(t, s)
		conn := upgraded(t, client, upgrade())
		client.Close()
		exchange(t, conn, "hello", "hello")
		conn.Close()
		if !settles(soon, func() bool { return s.open.Load() == 0 }) {
			t.Error("a connection is open at the end")
		}
	})
}

// Close may come while others send. They get their answer or an error, and nothing stays open.
func TestCloseDuringRequests(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		for _, most := range []int{0, 1, 3} {
			s := answering(t, ok)
			client := m.client(t, s, atMost(most))
			var all sync.WaitGroup
			for range 10 {
				all.Go(func() {
					for range 10 {
						if r := do(t, client, get("/")); r.err == nil {
							want(t, r, 200, "ok")
						}
					}
				})
			}
			for range 5 {
				client.Close()
			}
			all.Wait()
			client.Close()
			if !settles(patience, func() bool { return s.open.Load() == 0 }) {
				t.Errorf("%d connections are open at the end, want none", s.open.Load())
			}
		}
	})
}

// The strings of an answer are its own, whatever happens to the memory that was lent.
func TestScratchIsOnlyLent(t *testing.T) {
	f := func(name, answer string, closes bool) {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, m maker) {
				s := serve(t, func(c *conn) {
					for {
						if _, more := c.request(); !more {
							return
						}
						if c.send(answer); closes {
							c.finish()
						}
					}
				})
				client := m.client(t, s)
				wanted := do(t, client, get("/")).String()
				for _, size := range []int{0, 64, 256, 300, 1000, 4096, 32 << 10} {
					for _, length := range []int64{0, 5, -1, 50_000} {
						scratch := make([]byte, size)
						q := &upstream.Request{Method: "POST", Target: "/" + strings.Repeat("t", 300), Scratch: scratch}
						if length != 0 {
							q.Body, q.Length = content(t, strings.Repeat("x", int(max(length, 5)))), length
						}
						q.Fields = upstream.Fields{{Name: "X-A", Value: strings.Repeat("v", 5000)}}
						r := do(t, client, q)
						for i := range scratch {
							scratch[i] = 0xDB
						}
						if got := r.String(); got != wanted {
							t.Errorf("%d bytes: got %s\nwant %s", size, got, wanted)
						}
						want(t, do(t, client, get("/")), r.Status, r.content)
						if i := bytes.IndexFunc(scratch, func(r rune) bool { return r != '\uFFFD' }); i >= 0 {
							t.Errorf("byte %d was written after the end", i)
						}
					}
				}
			})
		})
	}
	f("length", "HTTP/1.1 200 OK\r\nX-A: one\r\nX-B: two\r\nContent-Length: 12\r\n\r\nhello world!", false)
	f("chunked", chunkedAnswer, false)
	f("until the end", "HTTP/1.1 200 OK\r\nX-A: one\r\n\r\nhello world!", true)
	f("204", "HTTP/1.1 204 No Content\r\nX-A: one\r\n\r\n", false)
	f("hints", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"+ok, false)
	f("a long head", "HTTP/1.1 200 OK\r\nX-A: "+strings.Repeat("a", 300)+"\r\nX-B: "+strings.Repeat("b", 10_000)+"\r\nContent-Length: 2\r\n\r\nok", false)
	f("many fields", "HTTP/1.1 200 OK\r\n"+strings.Repeat("X-A: 1\r\n", 1000)+"Content-Length: 2\r\n\r\nok", false)
}

// What lies behind the memory that was lent is somebody else's, if it is of the same array or not.
func TestMemoryBehindScratchIsNotTouched(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		client := m.client(t, answering(t, ok))
		all := bytes.Repeat([]byte{'?'}, 8192)
		q := get("/" + strings.Repeat("t", 8000))
		q.Scratch = all[:4096]
		want(t, do(t, client, q), 200, "ok")
		if i := bytes.IndexByte(all[4096:], 't'); i >= 0 {
			t.Errorf("4096 bytes were lent, and byte %d was written", 4096+i)
		}
	})
}

// After an error the memory is the caller's, even if the content is still being waited for.
func TestScratchIsTheCallersAfterAnError(t *testing.T) {
	own(t, "net/http uses none", func(t *testing.T, m maker) {
		s := serve(t, func(c *conn) {
			if _, more := c.head(); more {
				c.tested = true
				c.reset()
			}
		})
		client := m.client(t, s)
		for _, length := range []int64{-1, 100_000} {
			for range 20 {
				u := uploading(t, "hello")
				u.deaf = true
				q := post(u, length)
				q.Scratch, q.Trailer = make([]byte, 4096), http.Header{"X-Sum": {"1"}}
				if length >= 0 {
					q.Trailer = nil
				}
				scratch := q.Scratch
				if r := do(t, client, q); r.err == nil {
					t.Errorf("got %v, want an error", r)
				}
				u.pieces <- "world"
				for i := range scratch {
					scratch[i] = 0xDB // the race detector looks at it
				}
				close(u.pieces)
				wantClosed(t, u)
			}
		}
	})
}

func TestBaseURLs(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		for _, bad := range []string{"", "/", "api.example", "http://", "://x", "http://a b/", "http://[::1", "http://x:port"} {
			if client, err := m.make(upstream.Config{BaseURL: bad}); err == nil {
				client.Close()
				t.Errorf("%q was accepted", bad)
			}
		}
		s, got := listening(t, ok)
		client := m.client(t, s, func(c *upstream.Config) { c.BaseURL += "/base" })
		want(t, do(t, client, get("/x")), 200, "ok")
		if q := receive(t, got); q.target() != "/base/x" || q.field("Host") != s.listener.Addr().String() {
			t.Errorf("got %q", q.head)
		}
	})
}

// New chooses Edge's own client where it can.
func TestNew(t *testing.T) {
	f := func(c upstream.Config, want string) {
		t.Helper()
		client, err := upstream.New(c)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if got := fmt.Sprintf("%T", client); got != want {
			t.Errorf("got a %s, want a %s", got, want)
		}
	}
	f(upstream.Config{BaseURL: "http://a"}, "*upstream.Direct")
	f(upstream.Config{BaseURL: "https://a:1/b"}, "*upstream.Direct")
	f(upstream.Config{BaseURL: "https://a", HTTP2: true}, "*upstream.Standard")
	f(upstream.Config{BaseURL: "https://a", Proxy: http.ProxyURL(nil)}, "*upstream.Direct")
	through := http.ProxyURL(mustParse("http://proxy.example:3128"))
	f(upstream.Config{BaseURL: "https://a", Proxy: through}, "*upstream.Standard")
}
