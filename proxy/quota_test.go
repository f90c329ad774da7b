package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// metered is a provider that takes 10 requests a second and says so as OpenAI does.
type metered struct {
	window bool

	mu     sync.Mutex
	began  time.Time
	at     time.Time
	tokens float64

	sent, refused, accepted int // after the first second
}

const meteredLimit = 10

func (m *metered) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	m.mu.Lock()
	now := time.Now()
	if m.began.IsZero() {
		m.began, m.at, m.tokens = now, now.Truncate(time.Second), meteredLimit
	}
	var reset, wait time.Duration
	if m.window {
		if now.Sub(m.at) >= time.Second {
			m.at, m.tokens = now.Truncate(time.Second), meteredLimit
		}
	} else {
		m.tokens = min(meteredLimit, m.tokens+now.Sub(m.at).Seconds()*meteredLimit)
		m.at = now
	}
	ok := m.tokens >= 1
	if ok {
		m.tokens--
	}
	if m.window {
		reset = m.at.Add(time.Second).Sub(now)
		wait = reset
	} else {
		reset = time.Duration((meteredLimit - m.tokens) / meteredLimit * float64(time.Second))
		wait = time.Duration((1 - m.tokens) / meteredLimit * float64(time.Second))
	}
	if now.Sub(m.began) >= time.Second {
		m.sent++
		if ok {
			m.accepted++
		} else {
			m.refused++
		}
	}
	h := w.Header()
	h.Set("X-Ratelimit-Limit-Requests", strconv.Itoa(meteredLimit))
	h.Set("X-Ratelimit-Remaining-Requests", strconv.Itoa(int(m.tokens)))
	h.Set("X-Ratelimit-Reset-Requests", reset.Round(time.Millisecond).String())
	m.mu.Unlock()
	if !ok {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}
	fmt.Fprint(w, "answer")
}

func TestAnnouncedQuotaIsKeptAndUsed(t *testing.T) {
	for _, window := range []bool{false, true} {
		t.Run(fmt.Sprintf("window %v", window), func(t *testing.T) {
			t.Parallel()
			up := &metered{window: window}
			e := start(t, one(provider(t, up.ServeHTTP)))
			ctx, cancel := context.WithCancel(t.Context())
			c := client(t)
			var all sync.WaitGroup
			var answered atomic.Int64
			for range 30 {
				all.Go(func() {
					for ctx.Err() == nil {
						request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url+"/up/v1/chat/completions", strings.NewReader(`{"model":"m"}`))
						if err != nil {
							t.Error(err)
							return
						}
						got, err := c.Do(request)
						if err != nil {
							return // cancelled
						}
						_, _ = io.Copy(io.Discard, got.Body)
						got.Body.Close()
						answered.Add(1)
					}
				})
			}
			<-time.After(6 * time.Second)
			up.mu.Lock()
			sent, refused, accepted := up.sent, up.refused, up.accepted
			up.mu.Unlock()
			cancel()
			all.Wait()
			t.Logf("%d sent, %d accepted, %d refused after the first second", sent, accepted, refused)
			if refused*20 >= sent {
				t.Errorf("%d of %d refused, want under 5 %%", refused, sent)
			}
			if accepted < 8*5 {
				t.Errorf("%d accepted in 5 s, want 40 at least", accepted)
			}
			quotas := e.Status().Providers[0].Quotas
			if len(quotas) != 1 || quotas[0].Model != "m" || len(quotas[0].Levels) != 1 || quotas[0].Levels[0].Limit != meteredLimit {
				t.Errorf("status: %+v", quotas)
			}
			if limit := e.sum("edge_quota_limit", `dimension="requests"`); limit != meteredLimit {
				t.Errorf("edge_quota_limit: got %v, want %d", limit, meteredLimit)
			}
		})
	}
}

// keyed is a provider with two keys, called a and b.
func keyed(c *proxy.Config, p *proxy.Provider) {
	c.QueueTimeout = 2 * time.Second
	p.Keys = []proxy.Key{{Name: "first", Value: "secret-a", Weight: 1}, {Value: "secret-b", Weight: 1}}
}

func TestKeyThatIsRefusedRestsAndTheOtherServes(t *testing.T) {
	var calls [2]atomic.Int64
	e := start(t, one(provider(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer secret-a" {
			calls[0].Add(1)
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		calls[1].Add(1)
	}), keyed))
	c := client(t)
	for range 40 {
		call(t, c, "POST", e.url+"/up/", `{"model":"m"}`)
	}
	if a, b := calls[0].Load(), calls[1].Load(); a != 1 || b != 39 {
		t.Errorf("got %d and %d calls, want 1 with the key that was refused and 39 with the other", a, b)
	}
	if got := e.sum("edge_key_rests_total"); got != 1 {
		t.Errorf("edge_key_rests_total: got %v, want 1", got)
	}
	keys := e.Status().Providers[0].Keys
	if len(keys) != 2 || keys[0].Name != "first" || keys[0].RestSec < 50 || keys[1].RestSec != 0 {
		t.Errorf("status: %+v", keys)
	}
	other, _ := call(t, c, "POST", e.url+"/up/", `{"model":"other"}`) // rests are by model
	if other.StatusCode != http.StatusOK && calls[0].Load() != 2 {
		t.Errorf("another model: got %d", other.StatusCode)
	}
}

func TestKeyThatIsNotTakenIsSetAside(t *testing.T) {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		var calls [2]atomic.Int64
		var bad atomic.Value
		bad.Store("secret-a")
		up := provider(t, func(w http.ResponseWriter, r *http.Request) {
			key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
			calls[map[bool]int{false: 1, true: 0}[key == "secret-a"]].Add(1)
			if all := bad.Load().(string); all == key || all == "all" {
				w.WriteHeader(status)
			}
		})
		var log syncBuffer
		config := one(up, keyed)
		config.Logger = slog.New(slog.NewTextHandler(&log, nil))
		e := start(t, config)
		c := client(t)
		for range 40 {
			call(t, c, "GET", e.url+"/up/", "")
		}
		if a, b := calls[0].Load(), calls[1].Load(); a != 1 || b != 39 {
			t.Errorf("%d: got %d and %d calls, want 1 and 39", status, a, b)
		}
		if text := log.String(); strings.Count(text, "set aside") != 1 || !strings.Contains(text, "key=first") || strings.Contains(text, "secret") {
			t.Errorf("log: %s", text)
		}
		if got := e.sum("edge_keys_set_aside"); got != 1 {
			t.Errorf("edge_keys_set_aside: got %v, want 1", got)
		}
		// A reload with the same value changes nothing; one with another does.
		again := func(value proxy.Secret) {
			t.Helper()
			changed := one(up, keyed, func(_ *proxy.Config, p *proxy.Provider) { p.Keys[0].Value = value })
			if err := e.Reload(changed); err != nil {
				t.Fatal(err)
			}
		}
		again("secret-a")
		if got := e.sum("edge_keys_set_aside"); got != 1 {
			t.Errorf("edge_keys_set_aside after a reload: got %v, want 1", got)
		}
		again("secret-c")
		if got := e.sum("edge_keys_set_aside"); got != 0 {
			t.Errorf("edge_keys_set_aside after a new value: got %v, want 0", got)
		}
		// With nothing else left, a key that was set aside is used.
		bad.Store("all")
		for range 20 {
			if got, _ := call(t, c, "GET", e.url+"/up/", ""); got.StatusCode != status {
				t.Fatalf("got %d, want the provider's own %d", got.StatusCode, status)
			}
		}
	}
}

// syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestEmptyProviderIsAnsweredAtOnce(t *testing.T) {
	f := func(head, content string, status int, want string, keys ...proxy.Key) {
		t.Helper()
		var calls atomic.Int64
		e := start(t, one(provider(t, func(w http.ResponseWriter, _ *http.Request) {
			calls.Add(1)
			for line := range strings.SplitSeq(head, "\n") {
				if name, value, ok := strings.Cut(line, ": "); ok {
					w.Header().Set(name, value)
				}
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, content)
		}), func(_ *proxy.Config, p *proxy.Provider) { p.Keys = keys }))
		c := client(t)
		for range max(1, len(keys)) {
			if got, body := call(t, c, "POST", e.url+"/up/", `{"model":"m"}`); got.StatusCode != status || body != content {
				t.Fatalf("got %d %q, want what the provider says", got.StatusCode, body)
			}
		}
		got, body := call(t, c, "POST", e.url+"/up/", `{"model":"m"}`)
		refused(t, got, body, http.StatusServiceUnavailable, "provider_quota")
		after, err := strconv.Atoi(got.Header.Get("Retry-After"))
		if wanted, _ := strconv.Atoi(want); err != nil || after > wanted || after < wanted-5 {
			t.Errorf("%s %s: Retry-After %q, want %s or a little less", head, content, got.Header.Get("Retry-After"), want)
		}
		if int(calls.Load()) != max(1, len(keys)) {
			t.Errorf("the provider was asked %d times", calls.Load())
		}
		if reasons := e.sum("edge_rejected_total", `reason="provider_quota"`); reasons != 1 {
			t.Errorf("edge_rejected_total: got %v, want 1", reasons)
		}
	}
	a, b := proxy.Key{Value: "a", Weight: 1}, proxy.Key{Value: "b", Weight: 1}
	f("Retry-After: 60", "", 429, "60")
	f("Retry-After: 60", "", 429, "60", a)
	f("Retry-After: 60", "", 429, "60", a, b)
	f("Retry-After-Ms: 45500\nRetry-After: 1", "", 429, "46")
	f("Retry-After: 31536000", "", 429, "86400")
	f("X-Ratelimit-Limit-Requests: 5\nX-Ratelimit-Remaining-Requests: 0\nX-Ratelimit-Reset-Requests: 50s", "", 200, "51")
	f("Anthropic-Ratelimit-Output-Tokens-Limit: 5\nAnthropic-Ratelimit-Output-Tokens-Remaining: 0\nAnthropic-Ratelimit-Output-Tokens-Reset: "+time.Now().Add(90*time.Second).UTC().Format(time.RFC3339), "", 200, "91")
	f("Content-Type: application/json", `{"error":{"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"45s"}]}}`, 429, "45")
}

func TestCallerThatLeavesTheQueueForQuotaIsUnlinked(t *testing.T) {
	var calls atomic.Int64
	e := start(t, one(provider(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.Header().Set("Retry-After", "20")
		w.WriteHeader(http.StatusTooManyRequests)
	})))
	call(t, client(t), "GET", e.url+"/up/", "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 10 {
		leave(t, e, ctx, "/up/", "")
	}
	waiting := func() int { return e.Status().Providers[0].Quotas[0].Waiting }
	if !settles(2*time.Second, func() bool { return waiting() == 10 }) {
		t.Fatalf("got %d waiting, want 10", waiting())
	}
	if got := e.sum("edge_in_flight"); got != 0 {
		t.Errorf("edge_in_flight: got %v, want 0: who has no quota holds no permit", got)
	}
	cancel()
	if !settles(2*time.Second, func() bool { return waiting() == 0 }) {
		t.Errorf("got %d waiting after their callers left, want 0", waiting())
	}
	if calls.Load() != 1 {
		t.Errorf("the provider was asked %d times, want once", calls.Load())
	}
	if got := e.sum("edge_client_gone_total", `stage="queued"`); got != 10 {
		t.Errorf("edge_client_gone_total queued: got %v, want 10", got)
	}
}

func TestStickyKeysGiveACallerTheSameKey(t *testing.T) {
	seen := map[string]int{}
	var mu sync.Mutex
	var resting atomic.Value
	resting.Store("")
	e := start(t, one(provider(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen[r.Header.Get("Authorization")]++
		mu.Unlock()
		if r.Header.Get("Authorization") == resting.Load().(string) {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}), keyed, func(_ *proxy.Config, p *proxy.Provider) { p.StickyKeys = true }))
	c := client(t)
	for range 30 {
		call(t, c, "GET", e.url+"/up/", "")
	}
	if len(seen) != 1 {
		t.Fatalf("got keys %v, want one for all", seen)
	}
	for key := range seen {
		resting.Store(key)
	}
	for range 30 {
		call(t, c, "GET", e.url+"/up/", "")
	}
	if len(seen) != 2 || seen[resting.Load().(string)] != 31 {
		t.Errorf("got keys %v, want the other one once the first rests", seen)
	}
}
