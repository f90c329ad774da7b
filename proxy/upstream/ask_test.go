package upstream_test

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// small is content in memory that finds room behind a head.
func small(t testing.TB, text string) *memory {
	return &memory{t: t, data: []byte(text), held: len(text)}
}

// whole is a request that can be sent in one piece.
func whole(b *memory) *upstream.Request {
	q := post(exact{holding{counted{b}}}, int64(b.held))
	q.Scratch = make([]byte, 4096)
	return q
}

// stale are the ways in which a connection that is kept turns out not to be usable.
var stale = map[string]func(*conn){
	"FIN": func(c *conn) { c.Close() }, "RST": (*conn).reset, "half a FIN": (*conn).finish,
	"bytes":     func(c *conn) { c.send("x") },
	"an answer": func(c *conn) { c.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil") },
}

// However many kept connections are stale, a request that may be sent once only, and whose content cannot be had again,
// goes out once, on one that is not.
func TestStaleConnectionsAreNotUsed(t *testing.T) {
	own(t, "it finds out in another goroutine", func(t *testing.T, m maker) {
		const kept = 4
		for name, end := range stale {
			for _, most := range []int{0, kept} {
				var together atomic.Int32
				spoil, spoiled := make(chan struct{}), make(chan struct{})
				s := serve(t, func(c *conn) {
					c.request()
					if c.n >= kept {
						c.send(ok)
						return
					}
					together.Add(1)
					settles(patience, func() bool { return together.Load() == kept })
					c.send(ok)
					<-spoil
					end(c)
					spoiled <- struct{}{}
				})
				client := m.client(t, s, atMost(most))
				var calls []*call
				for range kept {
					calls = append(calls, start(t.Context(), client, get("/first")))
				}
				for _, c := range calls {
					want(t, c.wait(t), 200, "ok")
				}
				close(spoil)
				for range kept {
					receive(t, spoiled)
				}
				b, sent := small(t, "hello"), 0
				q := whole(b)
				q.Sent = func() { sent++ }
				want(t, do(t, client, q), 200, "ok")
				if n := b.closed.Load(); n != 1 || sent != 1 {
					t.Errorf("%s: the content was closed %d times and said to be sent %d times, want once each", name, n, sent)
				}
				if a, r := s.accepted.Load(), s.requests.Load(); a != kept+1 || r != kept+1 {
					t.Errorf("%s: %d requests on %d connections, want %d", name, r, a, kept+1)
				}
				client.Close()
			}
		}
	})
}

// The kept connection is stale, and no other is to be had: then nothing was sent.
func TestStaleConnectionAndNoOther(t *testing.T) {
	own(t, "it has no such error", func(t *testing.T, m maker) {
		for _, in := range []bool{true, false} { // the content is in memory
			closed := make(chan struct{})
			s := serve(t, func(c *conn) {
				c.request()
				c.s.listener.Close()
				c.send(ok)
				c.Close()
				close(closed)
			})
			client := m.client(t, s, atMost(1))
			want(t, do(t, client, get("/")), 200, "ok")
			receive(t, closed)
			b := small(t, "hello")
			q := whole(b)
			q.Again = func() (io.ReadCloser, error) {
				t.Error("the content is wanted again")
				return nil, io.ErrNoProgress
			}
			if !in {
				q.Body = b
			}
			for range 2 { // the place in the pool is free again
				if r := do(t, client, q); !errors.Is(r.err, upstream.ErrNotSent) {
					t.Errorf("got %v, want %v", r, upstream.ErrNotSent)
				}
				if n := b.closed.Load(); n != 1 {
					t.Errorf("the content was closed %d times, want once", n)
				}
				q.Body, q.Length = nil, 0
			}
		}
	})
}

// Sent is called before the answer is waited for, when the content has been closed; for what is safe, never.
func TestSentBeforeTheAnswer(t *testing.T) {
	own(t, "it never calls it", func(t *testing.T, m maker) {
		said := make(chan struct{}, 1)
		s := serve(t, func(c *conn) {
			for {
				q, more := c.request()
				if !more {
					return
				}
				if q.content != "" {
					receive(t, said)
				}
				c.send(ok)
			}
		})
		client := m.client(t, s)
		want(t, do(t, client, get("/")), 200, "ok")
		for range 3 {
			b := small(t, "hello")
			q := whole(b)
			q.Sent = func() {
				if n := b.closed.Load(); n != 1 {
					t.Errorf("the content was closed %d times when it was said to be sent, want once", n)
				}
				said <- struct{}{}
			}
			want(t, do(t, client, q), 200, "ok")
		}
		q := get("/")
		q.Sent = func() { t.Error("a GET was said to be sent") }
		want(t, do(t, client, q), 200, "ok")
		if n := s.accepted.Load(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	})
}

// A connection that ends under a request in one piece: only what is safe is sent again.
func TestConnectionThatDiesUnderARequestInOnePiece(t *testing.T) {
	own(t, "it reads it", func(t *testing.T, m maker) {
		for how, end := range ends {
			for _, method := range []string{"POST", "GET"} {
				s := serve(t, func(c *conn) {
					for i := 0; ; i++ {
						q, more := c.request()
						if !more {
							return
						}
						if i > 0 && q.content != "hello" {
							t.Errorf("got %q", q.content)
						}
						if c.n == 0 && i == 1 {
							end(c)
							return
						}
						c.send(ok)
					}
				})
				client := m.client(t, s)
				want(t, do(t, client, get("/")), 200, "ok")
				q := whole(small(t, "hello"))
				q.Method = method
				var again *memory
				q.Again = func() (io.ReadCloser, error) {
					again = small(t, "hello")
					return exact{holding{counted{again}}}, nil
				}
				r := do(t, client, q)
				if method == "POST" {
					if r.err == nil || errors.Is(r.err, upstream.ErrNotSent) || again != nil || s.requests.Load() != 2 {
						t.Errorf("%s: got %v after %d requests, want an error after 2", how, r, s.requests.Load())
					}
					continue
				}
				if want(t, r, 200, "ok"); again == nil || again.closed.Load() != 1 || s.requests.Load() != 3 {
					t.Errorf("%s: %d requests, want 3", how, s.requests.Load())
				}
			}
		}
	})
}

// The end of a context ends the wait on a kept connection, and costs no other.
func TestCancelOnAKeptConnection(t *testing.T) {
	own(t, "as on a new one", func(t *testing.T, m maker) {
		for i := range m.endings(t) {
			var together atomic.Int32
			asked, closed := make(chan struct{}), make(chan time.Time, 2)
			s := serve(t, func(c *conn) {
				c.tested = true
				c.request()
				together.Add(1)
				settles(patience, func() bool { return together.Load() >= 2 })
				for c.send(ok); ; c.send(ok) {
					q, more := c.request()
					if !more {
						return
					}
					if q.content == "hello" {
						asked <- struct{}{}
						c.wait()
						closed <- time.Now()
						return
					}
				}
			})
			client := m.client(t, s)
			first, second := start(t.Context(), client, get("/")), start(t.Context(), client, get("/"))
			want(t, first.wait(t), 200, "ok")
			want(t, second.wait(t), 200, "ok")
			ctx := m.endings(t)[i]
			call := start(ctx.Context, client, whole(small(t, "hello")))
			receive(t, asked)
			before := time.Now()
			ctx.end(errGone)
			if r := call.wait(t); !errors.Is(r.err, errGone) {
				t.Errorf("%s: got %v, want %v", ctx.name, r, errGone)
			}
			ctx.check(t, "kept")
			if took := receive(t, closed).Sub(before); took > soon {
				t.Errorf("the server saw it after %v, want at most %v", took, soon)
			}
			want(t, do(t, client, get("/")), 200, "ok")
			if n := s.accepted.Load(); n != 2 {
				t.Errorf("%d connections, want 2", n)
			}
		}
	})
}

// On the connection that is taken in place of a stale one, the end of the context is heard, too.
func TestCancelAfterAStaleConnection(t *testing.T) {
	own(t, "as on a new one", func(t *testing.T, m maker) {
		for _, ctx := range m.endings(t) {
			closed, asked := make(chan struct{}), make(chan struct{})
			s := serve(t, func(c *conn) {
				if c.request(); c.n == 0 {
					c.send(ok)
					c.Close()
					close(closed)
					return
				}
				close(asked)
			})
			client := m.client(t, s)
			want(t, do(t, client, get("/")), 200, "ok")
			receive(t, closed)
			call := start(ctx.Context, client, whole(small(t, "hello")))
			receive(t, asked)
			ctx.end(errGone)
			if r := call.wait(t); !errors.Is(r.err, errGone) {
				t.Errorf("%s: got %v, want %v", ctx.name, r, errGone)
			}
			ctx.check(t, "stale")
		}
	})
}

// endingContent ends a context when it is asked how much there is of it.
type endingContent struct {
	*memory
	length int // that it says
	end    func(error)
}

func (b endingContent) Len() int {
	b.end(errGone)
	return b.length
}

func (b endingContent) Exact() bool { return true }

// A context that ends before anything is sent closes the connection that was taken for that, and no other.
func TestCancelBeforeSendingCostsOneConnection(t *testing.T) {
	own(t, "it has no such moment", func(t *testing.T, m maker) {
		const kept = 3
		for _, length := range []int{5, 4} { // in one piece, or not
			var together atomic.Int32
			s := serve(t, func(c *conn) {
				c.request()
				together.Add(1)
				settles(patience, func() bool { return together.Load() >= kept })
				for more := true; more; _, more = c.request() {
					c.send(ok)
				}
			})
			client := m.client(t, s)
			var calls []*call
			for range kept {
				calls = append(calls, start(t.Context(), client, get("/")))
			}
			for _, c := range calls {
				want(t, c.wait(t), 200, "ok")
			}
			e, b := newEnder(), small(t, "hello")
			r := start(e, client, post(endingContent{b, length, e.end}, 5)).wait(t)
			if !errors.Is(r.err, errGone) || b.closed.Load() != 1 {
				t.Errorf("got %v, want %v; the content was closed %d times, want once", r, errGone, b.closed.Load())
			}
			for range 2 {
				want(t, do(t, client, get("/")), 200, "ok")
			}
			if a, r := s.accepted.Load(), s.requests.Load(); a != kept || r != kept+2 {
				t.Errorf("%d requests on %d connections, want %d on %d", r, a, kept+2, kept)
			}
		}
	})
}

// Content that is shorter than it says, and a head for which there is no room.
func TestRequestInOnePiece(t *testing.T) {
	own(t, "it reads it", func(t *testing.T, m maker) {
		s, got := listening(t, ok)
		client := m.client(t, s)
		ask := func(q *upstream.Request, content string) {
			t.Helper()
			want(t, do(t, client, q), 200, "ok")
			if sent := receive(t, got); sent.content != content {
				t.Errorf("got %.100q, want %.100q", sent.content, content)
			}
		}
		ask(get("/"), "")
		for _, size := range []int{0, 1, 2, 300, 4000, 5000} {
			for _, scratch := range []int{0, 255, 256, 400, 4096, 8192} {
				text := string(make([]byte, size))
				q := whole(small(t, text))
				q.Scratch = make([]byte, scratch)
				q.Fields = upstream.Fields{{Name: "X-Long", Value: strings.Repeat("v", 300)}}
				ask(q, text)
			}
		}
		q := whole(small(t, "hello"))
		q.Fields = upstream.Fields{{Name: "X-Longest", Value: strings.Repeat("v", 200<<10)}}
		ask(q, "hello")
		b := small(t, "hell")
		b.held = 5
		if r := do(t, client, whole(b)); !errors.Is(r.err, upstream.ErrLength) || b.closed.Load() != 1 {
			t.Errorf("got %v, want %v", r, upstream.ErrLength)
		}
	})
}
