package proxy_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// held is an upstream that answers when it is let.
func held(t *testing.T) (url string, entered func() int, let func()) {
	hold := make(chan struct{})
	let = sync.OnceFunc(func() { close(hold) })
	t.Cleanup(let)
	var n atomic.Int64
	url = provider(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		n.Add(1)
		<-hold
	})
	return url, func() int { return int(n.Load()) }, let
}

// ask sends a request of a caller's and returns its status, or 0, and what was said about coming again.
func ask(ctx context.Context, c *http.Client, url, token string) (status int, reason, again string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"model":"m"}`))
	if err != nil {
		return 0, "", ""
	}
	request.Header.Set("X-Api-Key", token)
	answer, err := c.Do(request)
	if err != nil {
		return 0, "", ""
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return 0, "", ""
	}
	return answer.StatusCode, answer.Header.Get("X-Edge-Reason"), answer.Header.Get("Retry-After")
}

// inside is what Status says of a caller.
func (e *edge) inside(name string) int64 {
	for _, c := range e.Status().Callers {
		if c.Name == name {
			return c.Inside
		}
	}
	return -1
}

func TestCallerConcurrency(t *testing.T) {
	url, entered, let := held(t)
	config := func(a int) proxy.Config {
		c := one(url, func(c *proxy.Config, p *proxy.Provider) { p.Concurrency, p.BufferSize = 2, 10 })
		c.Auth.Tokens = []proxy.Token{{Name: "a", Value: "ta", Concurrency: a}, {Name: "b", Value: "tb"}}
		return c
	}
	e := start(t, config(3))
	web := client(t)
	var all sync.WaitGroup
	hold := func(token string) {
		all.Go(func() {
			if status, reason, _ := ask(context.Background(), web, e.url+"/up/x", token); status != http.StatusOK {
				t.Errorf("%s: got %d %s", token, status, reason)
			}
		})
	}
	for range 3 {
		hold("ta")
	}
	if !settles(5*time.Second, func() bool { return e.inside("a") == 3 && entered() == 2 }) { // one of them waits
		t.Fatalf("%d inside, %d at the provider", e.inside("a"), entered())
	}
	got, text := call(t, web, "POST", e.url+"/up/x", "", "X-Api-Key", "ta")
	refused(t, got, text, http.StatusTooManyRequests, "caller_quota")
	if again, err := strconv.Atoi(got.Header.Get("Retry-After")); err != nil || again < 1 {
		t.Errorf("Retry-After: got %q, want 1 at least", got.Header.Get("Retry-After"))
	}
	if !strings.Contains(text, `"type":"requests"`) {
		t.Errorf("got %s, want OpenAI's type for too many requests", text)
	}
	hold("tb") // another caller's limit is its own
	if !settles(5*time.Second, func() bool { return e.inside("b") == 1 }) {
		t.Fatal("b is not inside")
	}

	if err := e.Reload(config(4)); err != nil { // while requests are inside
		t.Fatal(err)
	}
	hold("ta")
	if !settles(5*time.Second, func() bool { return e.inside("a") == 4 }) {
		t.Fatalf("%d inside after the limit was raised to 4", e.inside("a"))
	}
	if err := e.Reload(config(1)); err != nil {
		t.Fatal(err)
	}
	if status, reason, _ := ask(t.Context(), web, e.url+"/up/x", "ta"); status != http.StatusTooManyRequests {
		t.Errorf("4 inside, limit 1: got %d %s", status, reason)
	}
	let()
	all.Wait()
	// The next request of a caller whose last answer is whole is not one too many, whatever connection it takes.
	for range 50 {
		if status, reason, _ := ask(t.Context(), client(t), e.url+"/up/x", "ta"); status != http.StatusOK {
			t.Fatalf("one after the other, limit 1: got %d %s", status, reason)
		}
	}
	if got := e.sum("edge_rejected_total", `provider="up"`, `reason="caller_quota"`); got != 2 {
		t.Errorf("edge_rejected_total: got %v, want 2", got)
	}
}

func TestCallerRequestsPerMinute(t *testing.T) {
	c := one(provider(t, listing))
	c.Auth.Tokens = []proxy.Token{{Name: "a", Value: "ta", RequestsPerMinute: 4}, {Name: "b", Value: "tb", RequestsPerMinute: 2}}
	e := start(t, c)
	web := client(t)
	for i, path := range []string{"/up/x", "/nowhere", "/v1/x", "/up/y"} { // what nobody serves counts, too
		if status, reason, _ := ask(t.Context(), web, e.url+path, "ta"); status == http.StatusTooManyRequests {
			t.Fatalf("request %d: got %d %s", i, status, reason)
		}
	}
	for range 2 { // being refused costs nothing
		status, reason, again := ask(t.Context(), web, e.url+"/up/x", "ta")
		seconds, err := strconv.Atoi(again)
		if status != http.StatusTooManyRequests || reason != "caller_quota" || err != nil || seconds < 1 || seconds > 15 {
			t.Errorf("got %d %s, Retry-After %q, want 429 and at most 15, a quarter of a minute", status, reason, again)
		}
	}
	if got, _ := call(t, web, "GET", e.url+"/", "", "X-Api-Key", "ta"); got.StatusCode != http.StatusOK {
		t.Errorf("GET /: got %d", got.StatusCode)
	}
	if status, reason, _ := ask(t.Context(), web, e.url+"/up/x", "tb"); status != http.StatusOK {
		t.Errorf("another caller: got %d %s", status, reason)
	}
	if err := e.Reload(c); err != nil { // the clock goes on
		t.Fatal(err)
	}
	if status, _, _ := ask(t.Context(), web, e.url+"/up/x", "ta"); status != http.StatusTooManyRequests {
		t.Errorf("after a reload: got %d, want 429", status)
	}
}

// A flood is one caller with a hundred times the load of each of nine others.
type flood struct {
	drop       bool
	buffer     int
	maxBlocked int
}

const (
	floodService = 80 * time.Millisecond // of each request; 4 at once make 50 a second
	floodTurn    = 800 * time.Millisecond
	floodTurns   = 16 // in each of them each caller sends one request, the flooder a hundred
)

// run returns how many requests of each caller were answered; the last is the flooder. With load 1 there is no flood.
//
// Each request is sent on time, whatever became of the one before: what does not get through is lost.
func (f flood) run(t *testing.T, load int) (completed [10]int64) {
	t.Helper()
	url := provider(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-time.After(floodService):
		case <-r.Context().Done():
		}
	})
	c := one(url, func(c *proxy.Config, p *proxy.Provider) {
		c.DropExcessRequests, c.MaxBlocked, p.Concurrency, p.BufferSize = f.drop, f.maxBlocked, 4, f.buffer
		c.QueueTimeout = 5 * time.Second
	})
	for i := range completed {
		c.Auth.Tokens = append(c.Auth.Tokens, proxy.Token{Value: proxy.Secret(fmt.Sprintf("t%d", i))})
	}
	e := start(t, c)
	web := client(t)
	web.Transport.(*http.Transport).MaxIdleConnsPerHost = 200
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var counts [10]atomic.Int64
	var all, others sync.WaitGroup
	send := func(i int) {
		if status, _, _ := ask(ctx, web, e.url+"/up/x", fmt.Sprintf("t%d", i)); status == http.StatusOK {
			counts[i].Add(1)
		}
	}
	beat := func(i, sends int) { // so many a turn, evenly, and each caller at a moment of its own
		<-time.After(floodTurn * time.Duration(i) / 10)
		ticks := time.NewTicker(floodTurn / time.Duration(sends))
		defer ticks.Stop()
		for range floodTurns * sends {
			<-ticks.C
			if i == 9 {
				all.Go(func() { send(i) })
			} else {
				others.Go(func() { send(i) })
			}
		}
	}
	for i := range 9 {
		others.Go(func() { beat(i, 1) })
	}
	all.Go(func() { beat(9, load) })
	others.Wait()
	cancel() // what of the flood still waits
	all.Wait()
	for i := range completed {
		completed[i] = counts[i].Load()
	}
	return completed
}

// Whatever the mode and the buffer, the other nine lose at most a tenth of what they get without the flood.
func TestFloodingCallerDoesNotStarveOthers(t *testing.T) {
	for name, f := range map[string]flood{
		"block, small buffer": {false, 4, 100},
		"block, large buffer": {false, 500, 10000},
		"drop, small buffer":  {true, 4, 0},
		"drop, large buffer":  {true, 500, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			var calm, under [10]int64
			var both sync.WaitGroup
			both.Go(func() { calm = f.run(t, 1) })
			under = f.run(t, 100)
			both.Wait()
			t.Logf("without the flood %v, with it %v", calm, under)
			for i := range 9 {
				if under[i]*10 < calm[i]*9 {
					t.Errorf("caller %d: %d requests were answered, and %d without the flood", i, under[i], calm[i])
				}
			}
			if under[9] < 4*floodTurns {
				t.Errorf("the flooder got %d, and there was room for more", under[9])
			}
		})
	}
}

// TestHammerCallers sends requests of random callers while their tokens change, and many of them are abandoned. In the end
// nothing of any caller is inside, and each caller may have all again.
func TestHammerCallers(t *testing.T) {
	up := newCounter()
	url := provider(t, up.slow(time.Millisecond))
	config := func(random *rand.Rand, drop bool) proxy.Config {
		c := one(url, func(c *proxy.Config, p *proxy.Provider) {
			c.DropExcessRequests, c.MaxBlocked, p.Concurrency, p.BufferSize = drop, 6, 3, 3
			c.QueueTimeout = 100 * time.Millisecond
		})
		for i := range 1 + random.IntN(6) {
			token := proxy.Token{Name: fmt.Sprintf("n%d", random.IntN(3)*10+i), Value: proxy.Secret(fmt.Sprintf("t%d", i)), Concurrency: random.IntN(5)}
			if random.IntN(3) == 0 {
				token.RequestsPerMinute = 1 + random.IntN(1000)
			}
			if random.IntN(3) == 0 {
				token.Models = []string{"m"}
			}
			c.Auth.Tokens = append(c.Auth.Tokens, token)
		}
		return c
	}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test's
	e := start(t, config(random, false))
	total := int64(*hammerRequests)
	if testing.Short() {
		total /= 10
	}
	var sent atomic.Int64
	var seen [600]atomic.Int64
	var all sync.WaitGroup
	for worker := range 24 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 3)) //nolint:gosec // a test's
			web := client(t)
			for sent.Add(1) <= total {
				ctx, cancel := context.WithCancel(context.Background())
				if random.IntN(3) == 0 {
					time.AfterFunc(time.Duration(random.IntN(10_000))*time.Microsecond, cancel)
				}
				path := []string{"/up/x", "/up/stream", "/v1/x", "/nowhere"}[random.IntN(4)]
				status, reason, _ := ask(ctx, web, e.url+path, fmt.Sprintf("t%d", random.IntN(7)))
				if status == 0 && ctx.Err() == nil || status >= http.StatusBadRequest && reason == "" {
					t.Errorf("%s: got %d %s", path, status, reason)
				}
				seen[status].Add(1)
				cancel()
			}
		})
	}
	for sent.Load() < total {
		if err := e.Reload(config(random, random.IntN(2) == 0)); err != nil {
			t.Error(err)
		}
		<-time.After(time.Duration(random.IntN(5)) * time.Millisecond)
	}
	all.Wait()
	for status := range seen {
		if n := seen[status].Load(); n > 0 {
			t.Logf("%3d: %d", status, n)
		}
	}
	for _, status := range []int{0, http.StatusOK, http.StatusUnauthorized, http.StatusNotFound, http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		if seen[status].Load() == 0 {
			t.Errorf("the hammer missed: no status %d", status)
		}
	}
	if !settles(5*time.Second, func() bool {
		for _, c := range e.Status().Callers {
			if c.Inside != 0 {
				return false
			}
		}
		return e.Claimed() == 0
	}) {
		t.Errorf("at the end: %d claimed, %+v", e.Claimed(), e.Status().Callers)
	}
}
