package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// counter is an upstream that counts who is inside at once.
type counter struct {
	inside, most, total atomic.Int64
	cancelled           chan time.Time
}

func newCounter() *counter { return &counter{cancelled: make(chan time.Time, 1000)} }

func (c *counter) enter() {
	n := c.inside.Add(1)
	c.total.Add(1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
}

// slow answers after d, as a stream of events when the path says so.
func (c *counter) slow(d time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c.enter()
		defer c.inside.Add(-1)
		_, _ = io.Copy(io.Discard, r.Body)
		events := 1
		if strings.HasSuffix(r.URL.Path, "/stream") {
			events = 3
			w.Header().Set("Content-Type", "text/event-stream")
		}
		for i := range events {
			select {
			case <-r.Context().Done():
				c.cancelled <- time.Now()
				return
			case <-time.After(d / time.Duration(events)):
			}
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
		}
	}
}

func TestConcurrencyAndBufferBoundTheProvider(t *testing.T) {
	for _, path := range []string{"/up/plain", "/up/stream"} {
		f := func(drop bool, wantOK, wantFull int) {
			t.Helper()
			up := newCounter()
			e := start(t, one(provider(t, up.slow(300*time.Millisecond)), func(c *proxy.Config, p *proxy.Provider) {
				c.DropExcessRequests, p.Concurrency, p.BufferSize = drop, 2, 2
			}))
			c := client(t)
			var ok, full atomic.Int64
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					answer, body := call(t, c, "POST", e.url+path, `{"a":1}`)
					switch answer.StatusCode {
					case http.StatusOK:
						ok.Add(1)
					default:
						full.Add(1)
						refused(t, answer, body, http.StatusServiceUnavailable, "queue_full")
						if answer.Header.Get("Retry-After") == "" {
							t.Error("no Retry-After")
						}
					}
				})
			}
			all.Wait()
			if ok.Load() != int64(wantOK) || full.Load() != int64(wantFull) {
				t.Errorf("%s drop=%v: got %d answered, %d refused, want %d and %d", path, drop, ok.Load(), full.Load(), wantOK, wantFull)
			}
			if most := up.most.Load(); most > 2 || up.total.Load() != int64(wantOK) {
				t.Errorf("%s drop=%v: the upstream saw %d at once, %d in all, want at most 2 and %d", path, drop, most, up.total.Load(), wantOK)
			}
			if got := e.sum("edge_rejected_total", `reason="queue_full"`); got != float64(wantFull) {
				t.Errorf("edge_rejected_total: got %v, want %d", got, wantFull)
			}
		}
		f(true, 4, 16)
		f(false, 20, 0)
	}
}

func TestBlockedBeyondMaxBlockedIsRefused(t *testing.T) {
	up := newCounter()
	e := start(t, one(provider(t, up.slow(300*time.Millisecond)), func(c *proxy.Config, p *proxy.Provider) {
		c.MaxBlocked, p.Concurrency, p.BufferSize = 3, 1, 1
	}))
	c := client(t)
	var ok atomic.Int64
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if answer, _ := call(t, c, "GET", e.url+"/up/", ""); answer.StatusCode == http.StatusOK {
				ok.Add(1)
			}
		})
	}
	all.Wait()
	if ok.Load() != 5 {
		t.Errorf("got %d answered, want 1 in flight + 1 waiting + 3 blocked", ok.Load())
	}
}

func TestQueueTimeout(t *testing.T) {
	up := newCounter()
	e := start(t, one(provider(t, up.slow(2*time.Second)), func(c *proxy.Config, p *proxy.Provider) {
		c.QueueTimeout, p.Concurrency = 100*time.Millisecond, 1
	}))
	c := client(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	leave(t, e, ctx, "/up/", "")
	if !settles(time.Second, func() bool { return up.inside.Load() == 1 }) {
		t.Fatal("the first request did not arrive")
	}
	answer, body := call(t, c, "GET", e.url+"/up/", "")
	refused(t, answer, body, http.StatusServiceUnavailable, "queue_timeout")
	if answer.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if up.total.Load() != 1 {
		t.Errorf("the upstream saw %d requests, want 1", up.total.Load())
	}
}

// leave sends a request whose answer nobody waits for, and returns at once; it ends with ctx.
func leave(t *testing.T, e *edge, ctx context.Context, path, body string) {
	t.Helper()
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	request, err := http.NewRequestWithContext(ctx, method, e.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	c := client(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if answer, err := c.Do(request); err == nil {
			_, _ = io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
		}
	}()
	t.Cleanup(func() { <-done })
}

func TestCallersThatLeaveTheQueueNeverReachTheProvider(t *testing.T) {
	for _, size := range []int{0, 100, 64 << 10} {
		for _, buffer := range []int{0, 500} { // blocked, unread; and waiting, read as far as a slot goes
			t.Run(fmt.Sprintf("%d bytes, buffer %d", size, buffer), func(t *testing.T) {
				up := newCounter()
				hold := make(chan struct{})
				once := sync.OnceFunc(func() { close(hold) })
				defer once()
				held := func(w http.ResponseWriter, r *http.Request) { // nobody gets the permit before all have left
					<-hold
					up.slow(time.Millisecond)(w, r)
				}
				e := start(t, one(provider(t, held), func(c *proxy.Config, p *proxy.Provider) {
					p.Concurrency, p.BufferSize = 1, buffer
				}))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				leave(t, e, ctx, "/up/", "")
				if !settles(time.Second, func() bool { return e.sum("edge_in_flight") == 1 }) {
					t.Fatal("the first request did not arrive")
				}
				quitters, quit := context.WithCancel(t.Context())
				defer quit()
				for range 20 {
					leave(t, e, quitters, "/up/", string(bytes.Repeat([]byte("x"), size)))
				}
				waiting := func() float64 { return e.sum("edge_waiting") + e.sum("edge_blocked") }
				if !settles(2*time.Second, func() bool { return waiting() == 20 }) {
					t.Fatalf("got %v waiting, want 20", waiting())
				}
				quit()
				left := time.Now()
				if !settles(2*time.Second, func() bool { return waiting() == 0 }) {
					t.Fatalf("got %v waiting after their callers left, want 0", waiting())
				}
				t.Logf("noticed within %v", time.Since(left))
				once()
				answer, _ := call(t, client(t), "GET", e.url+"/up/", "")
				if answer.StatusCode != http.StatusOK || up.total.Load() != 2 {
					t.Errorf("got %d and %d requests upstream, want 200 and 2", answer.StatusCode, up.total.Load())
				}
				if got := e.sum("edge_client_gone_total", `stage="queued"`); got != 20 {
					t.Errorf("edge_client_gone_total queued: got %v, want 20", got)
				}
			})
		}
	}
}

func TestCallerThatLeavesAStreamCancelsTheProvider(t *testing.T) {
	up := newCounter()
	e := start(t, one(provider(t, up.slow(30*time.Second)), func(_ *proxy.Config, p *proxy.Provider) { p.Concurrency = 1 }))
	for _, body := range []string{"", "small", strings.Repeat("x", 64<<10)} {
		ctx, cancel := context.WithCancel(t.Context())
		leave(t, e, ctx, "/up/stream", body)
		if !settles(time.Second, func() bool { return up.inside.Load() == 1 }) {
			t.Fatal("the stream did not begin")
		}
		cancel()
		left := time.Now()
		select {
		case at := <-up.cancelled:
			t.Logf("%d bytes: cancelled after %v", len(body), at.Sub(left))
		case <-time.After(2 * time.Second):
			t.Fatal("the upstream was not cancelled")
		}
		if !settles(time.Second, func() bool { return e.sum("edge_in_flight") == 0 }) {
			t.Error("the permit was not given back")
		}
	}
}

func TestPermitIsHeldUntilTheLastByte(t *testing.T) {
	release := make(chan struct{})
	e := start(t, one(provider(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-release
		_, _ = io.WriteString(w, "data: end\n\n")
	}), func(_ *proxy.Config, p *proxy.Provider) { p.Concurrency = 1 }))
	answer, err := client(t).Post(e.url+"/up/", "text/plain", strings.NewReader("content")) //nolint:noctx // ends with the handler
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if got := e.sum("edge_in_flight"); got != 1 {
		t.Errorf("edge_in_flight after the head: got %v, want 1", got)
	}
	body := func() float64 { return e.sum("edge_arena_slots_in_use", `class="body"`) }
	if !settles(time.Second, func() bool { return body() == 1 }) { // for the answer; the request's content was sent
		t.Errorf("body slots in use: got %v, want 1", body())
	}
	if got := e.sum("edge_arena_slots_in_use", `class="exchange"`); got != 1 {
		t.Errorf("exchange slots in use: got %v, want 1", got)
	}
	close(release)
	if text, err := io.ReadAll(answer.Body); err != nil || string(text) != "data: end\n\n" {
		t.Errorf("got %q, %v", text, err)
	}
}
