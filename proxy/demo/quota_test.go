package demo_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/demo"
)

// limits lists the headers that speak of limits, in alphabetical order, without their prefixes.
func limits(h http.Header, prefix string) string {
	var out []string
	for _, name := range []string{
		prefix + "limit-requests", prefix + "remaining-requests", prefix + "reset-requests",
		prefix + "limit-tokens", prefix + "remaining-tokens", prefix + "reset-tokens",
		prefix + "requests-limit", prefix + "requests-remaining", prefix + "requests-reset",
		prefix + "tokens-limit", prefix + "tokens-remaining", prefix + "tokens-reset",
		"Retry-After", "Retry-After-Ms", "X-Should-Retry",
	} {
		if value := h.Get(name); value != "" {
			out = append(out, strings.TrimPrefix(name, prefix)+"="+value)
		}
	}
	return strings.Join(out, " ")
}

func TestRequestsPerMinute(t *testing.T) {
	bubble(t, demo.Config{RequestsPerMinute: 3}, func(t *testing.T, p *demo.Provider, client *http.Client) {
		f := func(key string, status int, want string) {
			t.Helper()
			got, h, text := do(t, client, chatPath, hello, "Authorization", "Bearer "+key)
			if got != status || limits(h, "x-ratelimit-") != want {
				t.Errorf("got %d %s: %s; want %d %s", got, limits(h, "x-ratelimit-"), text, status, want)
			}
		}
		f("a", 200, "limit-requests=3 remaining-requests=2 reset-requests=20s")
		f("a", 200, "limit-requests=3 remaining-requests=1 reset-requests=40s")
		time.Sleep(time.Millisecond / 4)
		f("a", 200, "limit-requests=3 remaining-requests=0 reset-requests=1m0s") // 59.99975s, rounded up
		f("a", 429, "limit-requests=3 remaining-requests=0 reset-requests=1m0s Retry-After=20 Retry-After-Ms=20000")
		f("b", 200, "limit-requests=3 remaining-requests=2 reset-requests=20s")
		time.Sleep(20*time.Second - time.Millisecond/4 - 1)
		f("a", 429, "limit-requests=3 remaining-requests=0 reset-requests=40.001s Retry-After=1 Retry-After-Ms=1")
		time.Sleep(time.Nanosecond)
		f("a", 200, "limit-requests=3 remaining-requests=0 reset-requests=1m0s")
		time.Sleep(10 * time.Minute)
		f("a", 200, "limit-requests=3 remaining-requests=2 reset-requests=20s")
		if got := p.Stats(); got.RateLimited != 2 || got.Requests != 8 {
			t.Errorf("%+v, want 2 of 8 rate limited", got)
		}
	})
}

func TestTokensPerMinute(t *testing.T) {
	// hello costs 3 + 3 for the prompt and 32 for the answer.
	bubble(t, demo.Config{TokensPerMinute: 60, RequestsPerMinute: 6000}, func(t *testing.T, _ *demo.Provider, client *http.Client) {
		f := func(path string, status int, want, message string, header ...string) {
			t.Helper()
			got, h, text := do(t, client, path, strings.Replace(hello, "{", `{"max_tokens":500,`, 1), header...)
			prefix := "x-ratelimit-"
			if path == messagesPath {
				prefix = "anthropic-ratelimit-"
			}
			if got != status || limits(h, prefix) != want || !strings.Contains(text, message) {
				t.Errorf("got %d %s: %s; want %d %s: %s", got, limits(h, prefix), text, status, want, message)
			}
		}
		f(chatPath, 200, "limit-requests=6000 remaining-requests=5999 reset-requests=10ms "+
			"limit-tokens=60 remaining-tokens=22 reset-tokens=38s", "You said")
		f(chatPath, 429, "limit-requests=6000 remaining-requests=5999 reset-requests=10ms "+
			"limit-tokens=60 remaining-tokens=22 reset-tokens=38s Retry-After=16 Retry-After-Ms=16000",
			`{"error":{"message":"Rate limit reached for this key on tokens per min (TPM): Limit 60, Used 38, Requested 38. `+
				`Please try again in 16s.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}`)
		f(messagesPath, 429, "requests-limit=6000 requests-remaining=5999 requests-reset=2000-01-01T00:00:01Z "+
			"tokens-limit=60 tokens-remaining=22 tokens-reset=2000-01-01T00:00:38Z Retry-After=16", `"type":"rate_limit_error"`)
		time.Sleep(500 * time.Millisecond)
		f(messagesPath, 429, "requests-limit=6000 requests-remaining=6000 requests-reset=2000-01-01T00:00:01Z "+
			"tokens-limit=60 tokens-remaining=22 tokens-reset=2000-01-01T00:00:38Z Retry-After=16", `"type":"rate_limit_error"`)
		f(chatPath, 429, "limit-requests=6000 remaining-requests=6000 reset-requests=0s "+
			"limit-tokens=60 remaining-tokens=22 reset-tokens=37.5s Retry-After=7", "try again", "X-Demo-Retry-After", "7")
		f(chatPath, 429, "limit-requests=6000 remaining-requests=6000 reset-requests=0s "+
			"limit-tokens=60 remaining-tokens=22 reset-tokens=37.5s X-Should-Retry=false",
			"Request too large for this key on tokens per min (TPM): Limit 60, Requested 66.", "X-Demo-Tokens", "60")
		f(chatPath, 200, "limit-requests=6000 remaining-requests=5999 reset-requests=10ms "+
			"limit-tokens=60 remaining-tokens=6 reset-tokens=53.5s", "You", "X-Demo-Tokens", "10")
	})
}

// TestQuotaIsEnforced sends as fast as it can for ten minutes; no minute may pass more than the bucket holds and
// what comes back meanwhile.
func TestQuotaIsEnforced(t *testing.T) {
	bubble(t, demo.Config{RequestsPerMinute: 7}, func(t *testing.T, _ *demo.Provider, client *http.Client) {
		passed := 0
		for range 600 {
			if status, _, _ := do(t, client, messagesPath, `{"model":"m","max_tokens":1,"messages":[{"role":"user","content":""}]}`); status == 200 {
				passed++
			}
			time.Sleep(time.Second)
		}
		if want := 7 + 7*10 - 1; passed != want { // the last second's share has not quite come back
			t.Errorf("%d requests passed in 10 minutes, want %d", passed, want)
		}
	})
}

// TestQuotaBoundsKeys fills the table of accounts; further keys share one until the others are idle.
func TestQuotaBoundsKeys(t *testing.T) {
	bubble(t, demo.Config{RequestsPerMinute: 1}, func(t *testing.T, p *demo.Provider, _ *http.Client) {
		f := func(key, want string) {
			t.Helper()
			w := &answer{header: http.Header{}}
			req := newPost(t.Context(), embeddingsPath, `{"model":"m","input":"x","dimensions":1}`, "Authorization", "Bearer "+key)
			p.ServeHTTP(w, req)
			if got := fmt.Sprint(w.status); got != want {
				t.Errorf("key %s: status %s, want %s", key, got, want)
			}
		}
		for i := range 10_000 {
			f(fmt.Sprint("key", i), "200")
		}
		f("one more", "200")
		f("and another", "429") // shares what "one more" spent
		f("key0", "429")
		time.Sleep(time.Minute)
		f("and another", "200")
		f("one more", "200") // has an account of its own now
	})
}

// answer keeps nothing but the status.
type answer struct {
	header http.Header
	status int
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return len(b), nil }
