package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/limiter"
	"github.com/edge-proxy/edge/proxy/upstream"
)

var announceNow = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// announcedText writes an announcement as the cases below do.
func announcedText(a announcement) string {
	var parts []string
	for d, l := range a.levels {
		if l.Said == 0 && l.Window == 0 {
			continue
		}
		text := limiter.Dimension(d).String()
		if l.Said&limiter.SaidRemaining != 0 {
			text += fmt.Sprint(" ", l.Remaining)
		}
		if l.Said&limiter.SaidLimit != 0 {
			text += fmt.Sprint(" of ", l.Limit)
		}
		if l.Said&limiter.SaidReset != 0 {
			text += fmt.Sprint(" in ", l.Reset)
			if l.Absolute {
				text += " sharp"
			}
		}
		if l.Window != 0 {
			text += fmt.Sprint(" per ", l.Window)
		}
		parts = append(parts, text)
	}
	if a.waits {
		parts = append(parts, fmt.Sprint("wait ", a.wait))
	}
	if a.never {
		parts = append(parts, "never")
	}
	return strings.Join(parts, "; ")
}

func headFields(lines string) (fields upstream.Fields) {
	for line := range strings.SplitSeq(lines, "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			fields.Add(strings.TrimSpace(name), strings.TrimSpace(value))
		}
	}
	return fields
}

func TestAnnounceReadsEveryProvider(t *testing.T) {
	f := func(lines, want string) {
		t.Helper()
		if got := announcedText(announce(headFields(lines), 429, announceNow)); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", lines, got, want)
		}
	}
	// OpenAI
	f("x-ratelimit-limit-requests: 60\nx-ratelimit-remaining-requests: 59\nx-ratelimit-reset-requests: 1s\n"+
		"x-ratelimit-limit-tokens: 150000\nx-ratelimit-remaining-tokens: 149984\nx-ratelimit-reset-tokens: 6m0s",
		"requests 59 of 60 in 1s; tokens 149984 of 150000 in 6m0s")
	f("x-ratelimit-reset-requests: 20ms\nx-ratelimit-reset-tokens: 8.64s", "requests in 20ms; tokens in 8.64s")
	f("retry-after-ms: 1500\nretry-after: 20\nx-should-retry: false", "wait 1.5s; never")
	f("x-should-retry: true\nretry-after: 0.25", "wait 250ms")
	// Anthropic
	f("anthropic-ratelimit-requests-limit: 50\nanthropic-ratelimit-requests-remaining: 0\nanthropic-ratelimit-requests-reset: 2026-03-04T05:06:37Z\n"+
		"anthropic-ratelimit-tokens-limit: 9\nanthropic-ratelimit-input-tokens-remaining: 4\nanthropic-ratelimit-output-tokens-reset: 2026-03-04T06:06:37+01:00\n"+
		"anthropic-ratelimit-unified-status: allowed\nretry-after: 30",
		"requests 0 of 50 in 30s sharp; tokens of 9; input_tokens 4; output_tokens in 30s sharp; wait 30s")
	// Azure OpenAI
	f("x-ratelimit-remaining-requests: 9\nx-ratelimit-remaining-tokens: 800\nx-ms-retry-after-ms: 700\nRetry-After: 1", "requests 9; tokens 800; wait 700ms")
	// Groq
	f("x-ratelimit-limit-requests: 14400\nx-ratelimit-remaining-requests: 14370\nx-ratelimit-reset-requests: 2m59.56s", "requests 14370 of 14400 in 2m59.56s")
	// Mistral, now and before
	f("x-ratelimit-limit-req-minute: 60\nx-ratelimit-remaining-req-minute: 58\nx-ratelimit-limit-tokens-minute: 500000\n"+
		"x-ratelimit-remaining-tokens-minute: 499000\nx-ratelimit-tokens-query-cost: 32",
		"requests 58 of 60 per 1m0s; tokens 499000 of 500000 per 1m0s")
	f("x-ratelimitbysize-limit-minute: 500\nx-ratelimitbysize-remaining-minute: 400\nx-ratelimitbysize-limit-month: 9\nratelimitbysize-query-cost: 3", "tokens 400 of 500 per 1m0s")
	f("ratelimitbysize-limit: 500\nratelimitbysize-remaining: 400\nratelimitbysize-reset: 32", "tokens 400 of 500 in 32s")
	// OpenRouter, GitHub, IETF drafts
	f("X-RateLimit-Limit: 20\nX-RateLimit-Remaining: 0\nX-RateLimit-Reset: 1772600787000", "requests 0 of 20 in 20s sharp")
	f("x-ratelimit-limit: 5000\nx-ratelimit-remaining: 4999\nx-ratelimit-used: 1\nx-ratelimit-reset: 1772600827", "requests 4999 of 5000 in 1m0s sharp")
	f("RateLimit-Limit: 100, 100;w=60\nRateLimit-Remaining: 7\nRateLimit-Reset: 13", "requests 7 of 100 in 13s")
	f("RateLimit: \"default\";r=50;t=30\nRateLimit-Policy: \"default\";q=100;w=60", "requests 50 of 100 in 30s per 1m0s")
	f("RateLimit-Policy: \"burst\";q=100;w=60, \"day\";q=5000;w=86400\nRateLimit: \"burst\";r=50;t=30, \"day\";r=900;t=4000", "requests 50 of 100 in 30s per 1m0s")
	f("RateLimit: \"a,b;r=1\";r=3;t=4\nRateLimit-Policy: \"x\";q=9;qu=\"content-bytes\"", "requests 3 in 4s")
	f("Retry-After: Wed, 04 Mar 2026 05:07:07 GMT", "wait 1m0s")
}

func TestAnnounceIgnoresWhatMakesNoSense(t *testing.T) {
	f := func(lines, want string) {
		t.Helper()
		if got := announcedText(announce(headFields(lines), 429, announceNow)); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", lines, got, want)
		}
	}
	f("Retry-After: 31536000", "wait 24h0m0s") // a year
	f("Retry-After: Wed, 04 Mar 2099 05:07:07 GMT", "wait 24h0m0s")
	f("Retry-After: Wed, 04 Mar 1999 05:07:07 GMT", "wait 0s")
	for _, value := range []string{"NaN", "-1", "1e400", "", "inf", "0x10", "1_000", "-0.5", "+3", "soon", strings.Repeat("9", 400), "1e", ".", "١"} {
		f("Retry-After: "+value, "")
		f("retry-after-ms: "+value+"\nRetry-After: 2", "wait 2s")
		f("x-ratelimit-remaining-requests: "+value, "")
		f("x-ratelimit-reset-requests: "+value, "")
		f("anthropic-ratelimit-requests-reset: "+value, "")
		f("RateLimit: \"a\";r="+value+";t=3", "")
	}
	f("x-ratelimit-remaining-requests: 99999999999999999999999", "")
	f("x-ratelimit-remaining-requests: 999999999999999\nx-ratelimit-limit-requests: 0000000000000000000100", "requests 999999999999999 of 100")
	f("x-ratelimit-reset-requests: 9999999h", "requests in 24h0m0s")
	f("x-ratelimit-reset-requests: 1s2", "")
	f("x-ratelimit-reset-requests: -5s", "")
	f("x-ratelimit-reset: 1000", "requests in 16m40s")
	f("x-ratelimit-reset: 1500000000", "requests in 0s sharp") // passed
	f("x-ratelimit-reset: 99999999999999", "requests in 24h0m0s sharp")
	f("Retry-After: 1\nRetry-After: 100", "wait 1s")
	f("Retry-After: 10, 20", "wait 10s")
	f("x-ratelimit-remaining-requests: 4\nx-ratelimit-remaining-requests: 9", "requests 4")
	f("x-ratelimit-remaining-requests: 4, 9", "requests 4")
	f("x-ratelimit-remaining-requests-1h: 4\nx-ratelimit-weather-requests: 4\nx-ratelimit-: 4\nx-ratelimit: 4", "")
	f("anthropic-ratelimit-: 3\nanthropic-ratelimit-limit: 3\nanthropic-ratelimit-fast-requests-limit: 3", "")
	for _, value := range []string{`"default`, `"default";`, `"default";r`, `"default";r=`, `;r=`, `"`, `""";;;`, `,,,`, `"\`, `r=5`} {
		f("RateLimit: "+value+"\nRateLimit-Policy: "+value, "")
	}
	f(`RateLimit: "a";r=5;t=`, "requests 5")
	if a := announce(headFields("Retry-After: 5"), 202, announceNow); a.waits {
		t.Error("Retry-After of a 202 was taken for a quota's")
	}
}

func TestRetryInfo(t *testing.T) {
	f := func(content, want string) {
		t.Helper()
		if got := announcedText(retryInfo([]byte(content), announceNow)); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", content, got, want)
		}
	}
	const wait = `{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"45.8s"}`
	const failure = `{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPer%sPerProjectPerModel-FreeTier"}]}`
	f(`{"error":{"code":429,"details":[`+wait+`]}}`, "wait 45.8s")
	f(`[{"error":{"code":429,"details":[`+wait+`]}}]`, "wait 45.8s")
	f(`{"error":{"details":[`+fmt.Sprintf(failure, "Minute")+`,`+wait+`]}}`, "wait 45.8s")
	f(`{"error":{"details":[`+wait+`,`+fmt.Sprintf(failure, "Day")+`]}}`, "wait 1h0m0s; never")
	f(`{"error":{"details":[`+fmt.Sprintf(failure, "Day")+`,`+wait+`]}}`, "wait 1h0m0s; never")
	f(`{"error":{"metadata":{"headers":{"X-RateLimit-Limit":"50","X-RateLimit-Remaining":"0","X-RateLimit-Reset":"1772600787000"}}}}`, "requests 0 of 50 in 20s sharp")
	f(`{"error":{"metadata":{"headers":{"X-RateLimit-Reset":1772600787000}}}}`, "requests in 20s sharp")
	for _, bad := range []string{``, `null`, `[]`, `[1]`, `{"error":"no"}`, `{"error":{"details":{}}}`, `{"error":{"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"-1s"}]}}`, `{"error":{"details":[` + wait} {
		f(bad, "")
	}
}

func TestAnnounceAllocatesNothing(t *testing.T) {
	fields := headFields("content-type: application/json\nx-ratelimit-limit-requests: 60\nx-ratelimit-remaining-requests: 59\nx-ratelimit-reset-requests: 6m0.5s\n" +
		"anthropic-ratelimit-requests-reset: 2026-03-04T05:06:37Z\nratelimit: \"a\";r=5;t=3\nretry-after: 3")
	if n := testing.AllocsPerRun(100, func() { announce(fields, 429, announceNow) }); n > 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

func FuzzAnnounce(f *testing.F) {
	f.Add("x-ratelimit-reset-requests", "6m0s", "retry-after", "1e400", 429)
	f.Add("ratelimit", `"a\"";r=5;t=`, "ratelimit-policy", `"a";q=5;w=1`, 200)
	f.Add("anthropic-ratelimit-requests-reset", "2026-03-04T05:06:37Z", "retry-after", "Wed, 21 Oct 2099 07:28:00 GMT", 503)
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string, status int) {
		a := announce(upstream.Fields{{Name: name1, Value: value1}, {Name: name2, Value: value2}}, status, announceNow)
		if a.wait < 0 || a.wait > maxAnnounced || a.waits && status < 400 {
			t.Fatalf("wait %v", a.wait)
		}
		for _, l := range a.levels {
			if l.Limit < 0 || l.Remaining < 0 || l.Reset < 0 || l.Reset > maxAnnounced || l.Window < 0 || l.Window > maxAnnounced {
				t.Fatalf("%+v", l)
			}
		}
		if body := retryInfo([]byte(value1), announceNow); body.wait < 0 || body.wait > maxAnnounced {
			t.Fatalf("wait %v", body.wait)
		}
		var ledger limiter.Ledger // whatever is announced, nobody waits longer than it believes
		ledger.Observe(limiter.Ticket{}, announceNow, &a.levels)
		for range 3 {
			if _, w, ok := ledger.Take(announceNow, oneRequest); !ok && (w.For <= 0 || w.For > 24*time.Hour) {
				t.Fatalf("wait %v after %+v", w, a.levels)
			}
		}
	})
}

// BenchmarkAnnounce reads what OpenAI answers.
func BenchmarkAnnounce(b *testing.B) {
	fields := headFields("content-type: application/json\ncontent-length: 1024\ndate: Wed, 04 Mar 2026 05:06:07 GMT\nserver: cloudflare\n" +
		"x-request-id: req_123\nopenai-organization: demo\nopenai-processing-ms: 45\nopenai-version: 2020-10-01\n" +
		"x-ratelimit-limit-requests: 10000000\nx-ratelimit-limit-tokens: 30000000\nx-ratelimit-remaining-requests: 9999999\n" +
		"x-ratelimit-remaining-tokens: 29999999\nx-ratelimit-reset-requests: 6ms\nx-ratelimit-reset-tokens: 0s\n" +
		"strict-transport-security: max-age=31536000; includeSubDomains; preload")
	b.ReportAllocs()
	for b.Loop() {
		announce(fields, 200, announceNow)
	}
}
