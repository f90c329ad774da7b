package demo_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/demo"
)

// TestAnnouncements plays each provider's way of announcing limits: an answer, and refusals by requests and by tokens,
// with the fields that speak of limits. testdata/limits has what is wanted. Each begins at 2000-01-01 00:00:10.5 UTC.
func TestAnnouncements(t *testing.T) {
	minute := demo.Config{RequestsPerMinute: 3, TokensPerMinute: 100}
	daily := demo.Config{RequestsPerWindow: 2, Window: 24 * time.Hour, TokensPerMinute: 100}
	f := func(name string, c demo.Config) {
		t.Helper()
		c.Announce = strings.TrimSuffix(name, "-a-day")
		for _, path := range []string{chatPath, messagesPath} {
			if name != "" && (path == messagesPath) != (name == "anthropic") {
				continue // as on the other path, with that API's error
			}
			file := name
			if name == "" {
				file = "default" + strings.ReplaceAll(path, "/", "-")
			}
			bubble(t, c, func(t *testing.T, _ *demo.Provider, client *http.Client) {
				time.Sleep(10500 * time.Millisecond)
				var out strings.Builder
				out.WriteString(exchangeText(t, client, path, "first", 5))
				out.WriteString(exchangeText(t, client, path, "second", 5))
				out.WriteString(exchangeText(t, client, path, "more tokens than are left", 90))
				out.WriteString(exchangeText(t, client, path, "more tokens than the limit", 1000))
				exchangeText(t, client, path, "third", 5)
				out.WriteString(exchangeText(t, client, path, "more requests than the limit", 5))
				golden(t, "testdata/limits/"+file+".txt", out.String())
			})
		}
	}
	f("", minute)
	f("openai", minute)
	f("anthropic", demo.Config{RequestsPerMinute: 3, InputTokensPerMinute: 60, OutputTokensPerMinute: 100})
	f("azure", demo.Config{RequestsPerMinute: 30, TokensPerMinute: 100})
	f("groq-a-day", daily)
	f("mistral", minute)
	f("mistral-old", minute)
	f("gemini", minute)
	f("gemini-a-day", daily)
	f("openrouter", minute)
	f("openrouter-free", minute)
	f("ietf", demo.Config{RequestsPerMinute: 60, RequestsPerWindow: 3, Window: 1500 * time.Millisecond})
	f("ietf-old", minute)
	f("github", demo.Config{RequestsPerWindow: 3, Window: time.Hour, FixedWindow: true})
	f("none", minute)
}

// exchangeText sends a request whose answer has so many tokens at most and prints what its answer says of limits.
func exchangeText(t *testing.T, client *http.Client, path, title string, tokens int) string {
	t.Helper()
	body := strings.Replace(hello, "{", fmt.Sprintf(`{"max_tokens":%d,`, tokens), 1)
	status, h, text := do(t, client, path, body, "X-Demo-Tokens", fmt.Sprint(tokens))
	out := fmt.Sprintf("-- %s --\n%d\n", title, status)
	var lines []string
	for name, values := range h {
		if lower := strings.ToLower(name); strings.Contains(lower, "ratelimit") || strings.Contains(lower, "retry") {
			lines = append(lines, name+": "+strings.Join(values, " | ")+"\n")
		}
	}
	slices.Sort(lines)
	out += strings.Join(lines, "")
	if status != http.StatusOK {
		out += text
	}
	return out
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got:\n%s\nwant:\n%s", file, got, want)
	}
}

// TestAnnounceByHeader changes the way of one request.
func TestAnnounceByHeader(t *testing.T) {
	bubble(t, demo.Config{RequestsPerMinute: 9, Announce: "groq"}, func(t *testing.T, _ *demo.Provider, client *http.Client) {
		_, h, _ := do(t, client, chatPath, hello, "X-Demo-Announce", "github")
		if h.Get("X-Ratelimit-Used") != "1" || h.Get("X-Ratelimit-Limit-Requests") != "" {
			t.Errorf("got %v, want GitHub's", h)
		}
	})
}

// passes sends a request at each of these times and says which passed.
func passes(t *testing.T, c demo.Config, at ...time.Duration) (passed []time.Duration, last http.Header) {
	t.Helper()
	bubble(t, c, func(t *testing.T, _ *demo.Provider, client *http.Client) {
		start := time.Now()
		for _, d := range at {
			time.Sleep(d - time.Since(start))
			status, h, text := do(t, client, chatPath, hello)
			if last = h; status == http.StatusOK {
				passed = append(passed, d)
			} else if status != http.StatusTooManyRequests {
				t.Fatalf("%d %s", status, text)
			}
		}
	})
	return passed, last
}

func TestWindows(t *testing.T) {
	f := func(c demo.Config, at, want []time.Duration) {
		t.Helper()
		if got, _ := passes(t, c, at...); !slices.Equal(got, want) {
			t.Errorf("%+v: passed at %v, want %v", c, got, want)
		}
	}
	const ms = time.Millisecond
	all := []time.Duration{0, 600 * ms, 900 * ms, 999 * ms, 1000 * ms, 1100 * ms, 1200 * ms, 1999 * ms}
	f(demo.Config{RequestsPerWindow: 2, FixedWindow: true}, all, []time.Duration{0, 600 * ms, 1000 * ms, 1100 * ms})
	f(demo.Config{RequestsPerWindow: 2}, all, []time.Duration{0, 600 * ms, 900 * ms, 1100 * ms, 1999 * ms})
	f(demo.Config{RequestsPerWindow: 1, Window: 500 * ms}, all, []time.Duration{0, 600 * ms, 1100 * ms, 1999 * ms})
	// Both limits count: no more than two a second, nor three a minute, of which one comes back in 20 s.
	f(demo.Config{RequestsPerWindow: 2, FixedWindow: true, RequestsPerMinute: 3}, append(all, 20*time.Second),
		[]time.Duration{0, 600 * ms, 1000 * ms, 20 * time.Second})
	// Azure: three a minute's tenth, though thirty a minute were left.
	f(demo.Config{RequestsPerMinute: 30, Announce: "azure"},
		[]time.Duration{0, 1, 2, 3, 5999 * ms, 6000 * ms, 6001 * ms, 6002 * ms, 6003 * ms},
		[]time.Duration{0, 1, 2, 6000 * ms, 6001 * ms, 6002 * ms})
}

// TestLimitsThatLie announces 600 requests a minute and lets five a second pass.
func TestLimitsThatLie(t *testing.T) {
	var at []time.Duration
	for i := range 100 {
		at = append(at, time.Duration(i)*100*time.Millisecond)
	}
	if passed, _ := passes(t, demo.Config{AnnouncedPerMinute: 1, RequestsPerWindow: 5, FixedWindow: true}, at[:9]...); len(passed) != 5 {
		t.Errorf("%d passed in a second, want 5 though one a minute is announced", len(passed))
	}
	passed, h := passes(t, demo.Config{AnnouncedPerMinute: 600, RequestsPerWindow: 5, FixedWindow: true}, at...)
	if len(passed) != 50 {
		t.Errorf("%d of 100 passed in 10 s, want 50", len(passed))
	}
	if got := limits(h, "x-ratelimit-"); got != "limit-requests=600 remaining-requests=600 reset-requests=0s Retry-After=1 Retry-After-Ms=100" {
		t.Errorf("got %s", got)
	}
}
