package upstream_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// ender is a context of which nobody but an upstream.Ender knows why it has ended.
type ender struct {
	done chan struct{}

	mu      sync.Mutex // held while Break runs: OnEnd waits for that
	cause   error
	breaker upstream.Breaker
	set     int // times that OnEnd was called with a connection
	unset   int // with nil
	broken  int // times that Break was called
}

func newEnder() *ender { return &ender{done: make(chan struct{})} }

func (e *ender) Deadline() (time.Time, bool) { return time.Time{}, false }
func (e *ender) Done() <-chan struct{}       { return e.done }
func (e *ender) Value(any) any               { return nil }

func (e *ender) Cause() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cause
}

func (e *ender) Err() error {
	if e.Cause() != nil {
		return context.Canceled
	}
	return nil
}

func (e *ender) OnEnd(b upstream.Breaker) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.breaker = b; b == nil {
		e.unset++
		return
	}
	if e.set++; e.cause != nil {
		e.breakIt()
	}
}

func (e *ender) end(cause error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cause == nil {
		e.cause = cause
		close(e.done)
		if e.breaker != nil {
			e.breakIt()
		}
	}
}

func (e *ender) breakIt() {
	e.breaker.Break()
	e.broken++
	e.breaker = nil
}

// released reports an ender that still holds a connection, or was never told that it does not.
func (e *ender) released(t *testing.T, where string) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.breaker != nil || e.set > 0 && e.unset == 0 || e.broken > e.set {
		t.Errorf("%s: holds %v; OnEnd was called %d times, with nil %d times, Break %d times", where, e.breaker, e.set, e.unset, e.broken)
	}
}

// ending is a context and what ends it.
type ending struct {
	context.Context
	name  string
	end   func(error)
	check func(t *testing.T, where string) // that nothing is held for it
}

// endings returns one context of each kind that a client must know.
func (m maker) endings(t *testing.T) []ending {
	ctx, cancel := context.WithCancelCause(t.Context())
	t.Cleanup(func() { cancel(nil) })
	kinds := []ending{{ctx, "WithCancelCause", cancel, func(*testing.T, string) {}}}
	if m.own { // net/http asks context.Cause
		e := newEnder()
		kinds = append(kinds, ending{e, "Ender", e.end, e.released})
	}
	return kinds
}

var errGone = errors.New("test: the caller has gone")

// vigil is a server that waits for what script waits for, and then for the client to close.
type vigil struct {
	*server
	ready  chan struct{} // the request is where the test wants it
	closed chan time.Time
}

func watching(t *testing.T, script func(c *conn)) *vigil {
	v := &vigil{ready: make(chan struct{}, 8), closed: make(chan time.Time, 8)}
	v.server = serve(t, func(c *conn) {
		c.tested = true
		if script(c); c.n == 0 {
			v.ready <- struct{}{}
		}
		c.wait()
		v.closed <- time.Now()
	})
	return v
}

// wantClosedSoon checks that the server saw the end of its connection in time.
func (v *vigil) wantClosedSoon(t *testing.T, since time.Time) {
	t.Helper()
	if took := receive(t, v.closed).Sub(since); took > soon {
		t.Errorf("the server saw it after %v, want at most %v", took, soon)
	}
}

// TestCancel ends requests at each of their stations.
func TestCancel(t *testing.T) {
	stalling := func(length int64, pieces ...string) func(t *testing.T) (*upstream.Request, *upload) {
		return func(t *testing.T) (*upstream.Request, *upload) {
			u := uploading(t, pieces...)
			u.deaf = true
			return post(u, length), u
		}
	}
	none := func(*testing.T) (*upstream.Request, *upload) { return get("/"), nil }
	f := func(name string, request func(t *testing.T) (*upstream.Request, *upload), script func(c *conn)) {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, m maker) {
				if strings.Contains(name, "caller") && !m.own {
					return // net/http waits for a Read of the content
				}
				for _, ctx := range m.endings(t) {
					v := watching(t, script)
					q, u := request(t)
					call := start(ctx.Context, m.client(t, v.server), q)
					receive(t, v.ready)
					before := time.Now()
					ctx.end(errGone)
					if r := call.wait(t); !errors.Is(r.err, errGone) || time.Since(before) > soon {
						t.Errorf("%s: got %v after %v, want %v", ctx.name, r, time.Since(before), errGone)
					}
					ctx.check(t, name)
					v.wantClosedSoon(t, before)
					if u != nil {
						close(u.pieces)
						wantClosed(t, u)
					}
				}
			})
		})
	}
	head := func(c *conn) { c.head() }
	f("waiting for the head", none, head)
	f("half a head", none, func(c *conn) { c.head(); c.send("HTTP/1.1 200 OK\r\nContent-"); c.taken() })
	f("after an early answer", none, func(c *conn) { c.head(); c.send("HTTP/1.1 103 Early Hints\r\n\r\n"); c.taken() })
	f("the caller stalls, chunked", stalling(-1, "x"), head)
	f("the caller stalls, of a length", stalling(100_000, "x"), head)
	expecting := func(t *testing.T) (*upstream.Request, *upload) {
		q, u := stalling(-1)(t)
		q.Fields = upstream.Fields{{Name: "Expect", Value: "100-continue"}}
		return q, u
	}
	f("waiting for 100", expecting, head)
}

// endless is a content that never ends.
type endless struct{ reads, closed atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.reads.Add(1)
	return len(p), nil
}

func (e *endless) Close() error {
	e.closed.Add(1)
	return nil
}

func TestCancelOfAnUploadThatNobodyReads(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		for _, length := range []int64{-1, 1 << 40} {
			for _, ctx := range m.endings(t) {
				ended, closed := make(chan struct{}), make(chan time.Time, 1)
				s := serve(t, func(c *conn) {
					c.tested = true
					c.head()
					<-ended
					_, _ = io.Copy(io.Discard, c)
					closed <- time.Now()
				})
				e := &endless{}
				call := start(ctx.Context, m.client(t, s), post(e, length))
				settles(patience, func() bool { // the kernel takes no more
					n := e.reads.Load()
					<-time.After(soon / 10)
					return n > 0 && n == e.reads.Load()
				})
				before := time.Now()
				ctx.end(errGone)
				if r := call.wait(t); !errors.Is(r.err, errGone) || time.Since(before) > soon {
					t.Errorf("%s: got %v after %v, want %v", ctx.name, r, time.Since(before), errGone)
				}
				ctx.check(t, "writing")
				close(ended)
				if took := receive(t, closed).Sub(before); took > 5*soon { // behind megabytes
					t.Errorf("the server saw it after %v, want at most %v", took, 5*soon)
				}
				if !settles(patience, func() bool { return e.closed.Load() == 1 }) {
					t.Errorf("the content was closed %d times, want once", e.closed.Load())
				}
			}
		}
	})
}

func TestCancelWhileTheContentIsRead(t *testing.T) {
	f := func(name, answer string) {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, m maker) {
				if name == "a trailer to come" && !m.own {
					return // net/http waits for it
				}
				for _, ctx := range m.endings(t) {
					v := watching(t, func(c *conn) {
						c.head()
						c.send(answer)
					})
					var a upstream.Response
					if err := m.client(t, v.server).Do(ctx.Context, get("/"), &a); err != nil {
						t.Fatal(err)
					}
					read(t, a.Body, 5)
					failed := make(chan error, 1)
					go func() {
						_, err := a.Body.Read(make([]byte, 1))
						failed <- err
					}()
					before := time.Now()
					ctx.end(errGone)
					if err := receive(t, failed); !errors.Is(err, errGone) {
						t.Errorf("%s: got %v, want %v", ctx.name, err, errGone)
					}
					v.wantClosedSoon(t, before)
					ctx.check(t, "reading")
					if _, err := a.Body.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
						t.Errorf("%s: got %v from another Read", ctx.name, err)
					}
					a.Body.Close()
				}
			})
		})
	}
	f("length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
	f("chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	f("half a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello")
	f("a trailer to come", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX")
	f("until the end", "HTTP/1.1 200 OK\r\n\r\nhello")
}

// Nobody reads, and the caller goes: the server must see it all the same.
func TestCancelBetweenReads(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		for _, ctx := range m.endings(t) {
			v := watching(t, func(c *conn) {
				c.head()
				c.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
			})
			var a upstream.Response
			if err := m.client(t, v.server).Do(ctx.Context, get("/"), &a); err != nil {
				t.Fatal(err)
			}
			receive(t, v.ready)
			before := time.Now()
			ctx.end(errGone)
			v.wantClosedSoon(t, before)
			if _, err := io.ReadAll(a.Body); !errors.Is(err, errGone) {
				t.Errorf("%s: got %v, want %v", ctx.name, err, errGone)
			}
			a.Body.Close()
			ctx.check(t, "between reads")
		}
	})
}

func TestCancelWhileWaitingForAConnection(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		s := answering(t, ok)
		client := m.client(t, s, atMost(1))
		for _, ctx := range m.endings(t) {
			held := occupying(t, client)
			u := uploading(t)
			call := queue(ctx.Context, t, client, post(u, -1), 1)
			before := time.Now()
			ctx.end(errGone)
			if r := call.wait(t); !errors.Is(r.err, errGone) || time.Since(before) > soon {
				t.Errorf("%s: got %v after %v, want %v", ctx.name, r, time.Since(before), errGone)
			}
			wantClosed(t, u)
			read(t, held.Body, 2)
			held.Body.Close()
			want(t, do(t, client, get("/")), 200, "ok")
		}
		if n := s.accepted.Load(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	})
}

// Nothing is sent for who has gone before, not even where a connection is at hand.
func TestCancelBeforeDo(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		for kind := range m.endings(t) {
			for _, kept := range []bool{false, true} {
				s := answering(t, ok)
				s.lenient.Store(true) // there is a better message below
				client := m.client(t, s)
				for range 20 {
					requests := s.requests.Load()
					if kept {
						want(t, do(t, client, get("/")), 200, "ok")
						requests++
					}
					ctx := m.endings(t)[kind]
					ctx.end(errGone)
					u := content(t, "hello")
					if r := doWith(ctx.Context, client, post(u, 5)); !errors.Is(r.err, errGone) {
						t.Errorf("%s: got %v, want %v", ctx.name, r, errGone)
					}
					wantClosed(t, u)
					if n := s.requests.Load(); n != requests {
						t.Errorf("%s: a request was sent", ctx.name)
					}
				}
			}
		}
	})
}

// A context that ends after the answer has nothing more to do with the connection.
func TestCancelAfterTheEnd(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		for _, answer := range []string{ok, chunkedAnswer, "HTTP/1.1 204 No Content\r\n\r\n"} {
			s := answering(t, answer)
			client := m.client(t, s)
			for range 20 {
				for _, ctx := range m.endings(t) {
					if r := doWith(ctx.Context, client, get("/")); r.failure() != nil {
						t.Errorf("failed: %v", r.failure())
					}
					ctx.check(t, "after the end")
					ctx.end(errGone)
				}
			}
			if n := s.accepted.Load(); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		}
	})
}

// While an answer goes on its context holds the connection, and no longer.
func TestEnderHoldsTheConnectionToTheEnd(t *testing.T) {
	own(t, "net/http knows of no Ender", func(t *testing.T, m maker) {
		client := m.client(t, answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"))
		for _, whole := range []bool{true, false} {
			e := newEnder()
			var a upstream.Response
			if err := client.Do(e, get("/"), &a); err != nil {
				t.Fatal(err)
			}
			read(t, a.Body, 9)
			e.mu.Lock()
			if e.breaker == nil {
				t.Error("before the end: nothing is held")
			}
			e.mu.Unlock()
			if whole {
				read(t, a.Body, 1)
				e.released(t, "at the end")
			}
			a.Body.Close()
			e.released(t, "after Close")
		}
	})
}

// Callers that go at any moment get either their answer or their own cause, and disturb nobody else.
func TestHammerCancel(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		s := serve(t, func(c *conn) {
			for {
				q, more := c.request()
				if !more {
					return
				}
				c.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"+q.target()[:5], "\r\n0\r\n\r\n")
			}
		})
		s.lenient.Store(true) // a request may be cut off
		client := m.client(t, s, atMost(8))
		until := time.Now().Add(hammering() / 2)
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				target := "/" + strings.Repeat(string(rune('a'+i)), 4)
				for time.Now().Before(until) {
					kinds := m.endings(t)
					ctx := kinds[rand.IntN(len(kinds))]
					q := post(content(t, "hello"), []int64{-1, 5}[rand.IntN(2)])
					q.Target = target
					call := start(ctx.Context, client, q)
					for range rand.IntN(100) {
						runtime.Gosched()
					}
					ctx.end(errGone)
					r := call.wait(t)
					if err := r.failure(); err != nil && !errors.Is(err, errGone) || err == nil && r.content != target {
						t.Errorf("%s: got %v", target, r)
					}
				}
			})
		}
		all.Wait()
		want(t, do(t, client, get("/last")), 200, "/last")
	})
}
