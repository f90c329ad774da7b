package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// TestHammerAllAtOnce has everything on at once: retries, fallbacks, replicas that fail, quotas, two keys, callers with limits,
// keep-alive comments, total timeouts, bodies of all sizes, reloads, and callers that leave anywhere. Nothing may be missing
// from the books at the end (start checks them), each request is counted once, and no answer is another's.
func TestHammerAllAtOnce(t *testing.T) {
	t.Run("HTTP/1.1", func(t *testing.T) { hammerAllAtOnce(t) })
	t.Run("HTTP/2", func(t *testing.T) { hammerAllAtOnce(t, (*httptest.Server).StartTLS) })
}

func hammerAllAtOnce(t *testing.T, with ...func(*httptest.Server)) {
	count := int64(1500)
	if testing.Short() {
		count /= 5
	}
	c, lines := allAtOnce(t)
	e := start(t, c, with...)
	var sent, whole, left atomic.Int64
	var all, reloads sync.WaitGroup
	reloads.Go(func() {
		for n := 0; sent.Load() < count; n++ {
			if err := e.Reload(reloaded(c, n)); err != nil {
				t.Error(err)
			}
			<-time.After(20 * time.Millisecond)
		}
	})
	for worker := range 32 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 3)) //nolint:gosec // a test's
			c := client(t)
			if len(with) > 0 {
				c = e.server.Client()
			}
			for number := sent.Add(1); number <= count; number = sent.Add(1) {
				switch allAtOnceCall(t, e, c, random, number) {
				case http.StatusOK:
					whole.Add(1)
				case 0:
					left.Add(1)
				}
			}
		})
	}
	all.Wait()
	reloads.Wait()
	if whole.Load() == 0 || left.Load() == 0 || e.sum("edge_retries_total") == 0 || e.sum("edge_fallbacks_total") == 0 {
		t.Errorf("the hammer missed: %d whole, %d left, %v retries, %v fallbacks", whole.Load(), left.Load(), e.sum("edge_retries_total"), e.sum("edge_fallbacks_total"))
	}
	if !settles(5*time.Second, func() bool { return e.Status().Requests == 0 }) {
		t.Error("requests are still inside")
	}
	counted := e.sum("edge_requests_total") + e.sum("edge_client_gone_total")
	logged := func() float64 {
		return float64(strings.Count(lines.String(), "\n")) + e.sum("edge_access_log_dropped_total")
	}
	if !settles(2*time.Second, func() bool { return logged() == counted }) {
		t.Errorf("%v requests are counted and %v lines logged", counted, logged())
	}
}

// allAtOnce is the configuration of TestHammerAllAtOnce, with what its access log is written to.
func allAtOnce(t *testing.T) (proxy.Config, *logLines) {
	up := func(seed uint64) string {
		var mu sync.Mutex
		random := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // a test's
		return provider(t, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			dice := random.IntN(20)
			mu.Unlock()
			capricious(w, r, dice)
		})
	}
	lines := new(logLines)
	c := one(up(1), func(c *proxy.Config, p *proxy.Provider) {
		c.QueueTimeout, c.MaxBuffered, c.MaxBlocked = 300*time.Millisecond, 2<<20, 20
		c.AccessLog, c.AccessFormat = lines, "json"
		p.BaseURLs = []string{up(2)}
		p.Keys = []proxy.Key{{Value: "a", Weight: 1}, {Value: "b", Weight: 1}}
		p.Concurrency, p.BufferSize, p.MaxRetries = 6, 6, 2
		p.RetryBackoffInitial, p.RetryBackoffMax = time.Millisecond, 10*time.Millisecond
		p.Timeout, p.TotalTimeout, p.StreamKeepalive = 100*time.Millisecond, time.Second, 5*time.Millisecond
	})
	first := c.Providers["up"]
	other := first
	other.BaseURL, other.BaseURLs, other.MaxRetries, other.Concurrency = up(3), nil, 1, 4
	third := other
	third.BaseURL, third.TotalTimeout = up(4), 0
	first.Fallbacks = []string{"other", "third"}
	c.Providers = map[string]proxy.Provider{"up": first, "other": other, "third": third}
	c.Auth.Tokens = []proxy.Token{
		{Name: "one", Value: "one", Concurrency: 20},
		{Name: "two", Value: "two", Models: []string{"m*"}},
		{Name: "three", Value: "three", RequestsPerMinute: 1000},
	}
	return c, lines
}

// reloaded is c as the nth reload has it.
func reloaded(c proxy.Config, n int) proxy.Config {
	c.Providers = maps.Clone(c.Providers)
	up := c.Providers["up"]
	up.Concurrency = 3 + n%4
	up.Keys = up.Keys[:1+n%2]
	if n%3 == 0 {
		up.BaseURLs, up.Fallbacks = nil, up.Fallbacks[:1]
	}
	c.Providers["up"] = up
	return c
}

// capricious answers as the dice say, mostly with the request's number.
func capricious(w http.ResponseWriter, r *http.Request, dice int) {
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	pause := func(d time.Duration) {
		select {
		case <-r.Context().Done():
		case <-time.After(d):
		}
	}
	h := w.Header()
	h.Set("X-Ratelimit-Limit-Requests", "1000")
	h.Set("X-Ratelimit-Remaining-Requests", "800")
	h.Set("X-Ratelimit-Reset-Requests", "100ms")
	switch {
	case dice == 0:
		status(429, "Retry-After-Ms", "20")(w, r)
	case dice == 1:
		status(429, "Content-Type", "application/json")(w, r)
	case dice == 2:
		status(503)(w, r)
	case dice == 3:
		reset(w, r)
	case dice == 4:
		pause(200 * time.Millisecond)
	case dice < 8:
		h.Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "data: %s\n\n", r.Header.Get("X-Number"))
		w.(http.Flusher).Flush()
		pause(15 * time.Millisecond)
		fmt.Fprint(w, "data: {\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n")
	default:
		fmt.Fprintf(w, "%s %d", r.Header.Get("X-Number"), len(content))
	}
}

// allAtOnceCall sends a request of some kind, and returns its answer's status, or 0 if there was none that is whole.
func allAtOnceCall(t *testing.T, e *edge, c *http.Client, random *rand.Rand, number int64) int {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if random.IntN(5) == 0 {
		defer time.AfterFunc(time.Duration(random.IntN(60000))*time.Microsecond, cancel).Stop()
	}
	model, path := "m1", []string{"/up/v1/x", "/v1/x", "/other/v1/x"}[random.IntN(3)]
	if path == "/v1/x" {
		model = "up/m1"
	}
	body := fmt.Sprintf(`{"model":%q,"pad":%q}`, model, strings.Repeat("x", []int{20, 1000, 20 << 10, 100 << 10, 400 << 10}[random.IntN(5)]))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url+path, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Number", fmt.Sprint(number))
	request.Header.Set("Authorization", "Bearer "+[]string{"one", "two", "three"}[random.IntN(3)])
	if random.IntN(2) == 0 {
		request.Header.Set("Idempotency-Key", "k")
	}
	if random.IntN(10) == 0 {
		request.Header.Set("Expect", "100-continue")
	}
	got, err := c.Do(request)
	if err != nil {
		if _, ok := errors.AsType[*url.Error](err); !ok {
			t.Error(err)
		}
		return 0
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		return 0
	}
	said := strings.Fields(strings.TrimPrefix(strings.ReplaceAll(string(text), ": keep-alive\n\n", ""), "data: "))
	if got.StatusCode == http.StatusOK && len(said) > 0 && said[0] != fmt.Sprint(number) {
		t.Errorf("request %d got %.80q", number, text)
	}
	return got.StatusCode
}
