package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/upstream"
)

func atMost(n int) func(*upstream.Config) {
	return func(c *upstream.Config) { c.MaxConns = n }
}

func TestMaxConnsIsNeverExceeded(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		const most = 3
		for _, answer := range []string{ok, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"} {
			keeps := answer == ok
			s := serve(t, func(c *conn) {
				for {
					if _, more := c.request(); !more {
						return
					}
					if !keeps {
						c.tell() // the client's close may be seen after its next connection
						c.send(answer)
						return
					}
					c.send(answer)
				}
			})
			client := m.client(t, s, atMost(most))
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					for range 6 {
						want(t, do(t, client, get("/")), 200, "ok")
					}
				})
			}
			all.Wait()
			if n := s.most.Load(); n > most {
				t.Errorf("%d connections at a time, want at most %d", n, most)
			}
			if n := s.accepted.Load(); keeps && n > most {
				t.Errorf("%d connections, want at most %d", n, most)
			}
		}
	})
}

// asleep counts the goroutines of a test that wait in Do. No client tells how many it makes wait.
func asleep() (n int) {
	stacks := make([]byte, 1<<20)
	for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		state, _, _ := strings.Cut(stack, ":")
		if strings.Contains(stack, "upstream_test.doWith(") && strings.Contains(stack, ".Do(") &&
			(strings.Contains(state, "[select") || strings.Contains(state, "[chan receive") || strings.Contains(state, "[sync.")) {
			n++
		}
	}
	return n
}

// queue starts a request and waits until it waits, as the n-th to do so.
func queue(ctx context.Context, t *testing.T, client upstream.Client, q *upstream.Request, n int) *call {
	t.Helper()
	c := start(ctx, client, q)
	if !settles(patience, func() bool { return asleep() == n }) {
		t.Fatalf("%d requests wait, want %d", asleep(), n)
	}
	return c
}

// occupying takes the only connection, and returns what gives it back.
func occupying(t *testing.T, client upstream.Client) *upstream.Response {
	t.Helper()
	return open(t, client, get("/held"))
}

func TestWaitersAreServedInOrder(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		for _, closes := range []bool{false, true} {
			s, got := listening(t, ok)
			client := m.client(t, s, atMost(1))
			held := occupying(t, client)
			var calls []*call
			for i := range 8 {
				calls = append(calls, queue(t.Context(), t, client, get(fmt.Sprintf("/%d", i)), i+1))
			}
			if !closes { // then the first of them has the connection that is free, else a new one
				read(t, held.Body, 2)
			}
			held.Body.Close()
			for _, c := range calls {
				want(t, c.wait(t), 200, "ok")
			}
			receive(t, got)
			for i := range calls {
				if q := receive(t, got); q.target() != fmt.Sprintf("/%d", i) {
					t.Errorf("%s came in place of /%d", q.target(), i)
				}
			}
			if n := s.most.Load(); n != 1 && !closes {
				t.Errorf("%d connections at a time, want 1", n)
			}
		}
	})
}

// A waiter that gives up is not waited for, wherever in the queue it stands.
func TestWaiterThatGivesUpGoesAway(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		s, got := listening(t, ok)
		client := m.client(t, s, atMost(1))
		for _, gone := range [][]int{{0}, {2}, {4}, {0, 1, 2}, {4, 3}, {0, 1, 2, 3, 4}} {
			held := occupying(t, client)
			receive(t, got)
			cause := errors.New("test: gives up")
			var calls []*call
			var cancels []context.CancelCauseFunc
			for i := range 5 {
				ctx, cancel := context.WithCancelCause(t.Context())
				cancels = append(cancels, cancel)
				q := get(fmt.Sprintf("/%d", i))
				q.Body, q.Length = content(t, "x"), 1
				calls = append(calls, queue(ctx, t, client, q, i+1))
			}
			for _, i := range gone {
				cancels[i](cause)
				if r := calls[i].wait(t); !errors.Is(r.err, cause) {
					t.Errorf("got %v, want %v", r, cause)
				}
			}
			read(t, held.Body, 2)
			held.Body.Close()
			for i, c := range calls {
				if !slices.Contains(gone, i) {
					want(t, c.wait(t), 200, "ok")
					if q := receive(t, got); q.target() != fmt.Sprintf("/%d", i) {
						t.Errorf("%s came in place of /%d", q.target(), i)
					}
				}
				cancels[i](nil)
			}
		}
		if n := s.accepted.Load(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	})
}

// Whatever happens to a connection, its place goes to a waiter.
func TestPlaceIsGivenOnWhateverHappens(t *testing.T) {
	f := func(name, answer string, end func(*conn)) {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, m maker) {
				first := make(chan struct{})
				s := serve(t, func(c *conn) {
					if _, more := c.request(); !more {
						return
					}
					if c.n > 0 {
						c.send(ok)
						return
					}
					<-first
					c.send(answer)
					if end != nil {
						end(c)
					}
				})
				client := m.client(t, s, atMost(1))
				ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errStuck)
				defer cancel()
				failing := start(ctx, client, get("/0"))
				settles(patience, func() bool { return s.requests.Load() == 1 })
				before := asleep()
				waiting := start(ctx, client, get("/1"))
				settles(soon, func() bool { return asleep() > before })
				close(first)
				failing.wait(t)
				want(t, waiting.wait(t), 200, "ok")
			})
		})
	}
	f("refused", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", nil)
	f("close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", nil)
	f("FIN", "", (*conn).finish)
	f("RST", "", (*conn).reset)
	f("cut off", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", (*conn).finish)
	f("until the end", "HTTP/1.1 200 OK\r\n\r\nhello", (*conn).finish)
}

func TestPlaceIsGivenOnWhenNobodyListens(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		s := serve(t, func(*conn) {})
		s.listener.Close()
		client := m.client(t, s, atMost(1))
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if r := do(t, client, get("/")); r.err == nil {
					t.Errorf("got %v, want an error", r)
				}
			})
		}
		all.Wait()
	})
}

// Requests that give up at every moment must never take a connection or a wake-up with them.
func TestHammerMaxConns(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		s := answering(t, ok)
		client := m.client(t, s, atMost(2))
		until := time.Now().Add(hammering() / 2)
		gone := errors.New("test: gives up")
		var all sync.WaitGroup
		for range 32 {
			all.Go(func() {
				for time.Now().Before(until) {
					ctx, cancel := context.WithCancelCause(t.Context())
					if rand.IntN(2) == 0 {
						c := start(ctx, client, get("/"))
						for range rand.IntN(200) {
							runtime.Gosched()
						}
						cancel(gone)
						if r := c.wait(t); r.failure() != nil && !errors.Is(r.failure(), gone) {
							t.Errorf("failed: %v", r.failure())
						}
						continue
					}
					want(t, do(t, client, get("/")), 200, "ok")
					cancel(nil)
				}
			})
		}
		all.Wait()
		want(t, do(t, client, get("/")), 200, "ok")
	})
}

// hammering is how long a hammer hammers.
func hammering() time.Duration {
	if testing.Short() {
		return 300 * time.Millisecond
	}
	return time.Second
}
