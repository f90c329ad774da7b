package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/edge-proxy/edge/proxy/demo"
)

// variable is the name of a setting of the SDK's provider.
func (s *sdk) variable(name string) string {
	return "EDGE_PROVIDERS_" + strings.ToUpper(s.name) + "_" + name
}

// newRetryingPair is newPair with an edge that sends a request up to three times.
func newRetryingPair(t *testing.T, s sdk, more ...string) *pair {
	t.Helper()
	return newPair(t, s, demo.Config{}, append(more,
		s.variable("MAX_RETRIES=2"), s.variable("RETRY_BACKOFF_INITIAL=1ms"), s.variable("RETRY_BACKOFF_MAX=1ms"))...)
}

// expected is what becomes of a call through an edge that retries.
type expected struct {
	attempts string // of the SDK, as in outcome
	requests int64  // that the provider got
	tried    string // X-Edge-Attempts
}

// goes makes a call with a model of its own, so that no refusal before it holds it back.
func (p *pair) goes(how manner, want expected, fields ...string) outcome {
	p.t.Helper()
	p.calls++
	if how.model == "" {
		how.model = fmt.Sprint("model-", p.calls)
	}
	got := p.try(bounded(p.t), p.throughEdge(), how, append(fields, "X-Demo-Id", fmt.Sprint("call ", p.calls))...)
	if (expected{got.attempts, got.requests, got.tried}) != want {
		p.t.Errorf("%q, stream %t, %d retries: got %+v, want %+v", fields, how.stream, how.retries, got, want)
	}
	failed := !strings.HasSuffix(want.attempts, "200")
	if failed != (got.failure == "answer") || got.failure == "" && got.text == "" {
		p.t.Errorf("%q, stream %t, %d retries: got %+v", fields, how.stream, how.retries, got)
	}
	return got
}

// TestSDKRetriedByEdge: what edge retries costs the SDK no attempt of its own; what edge gives up the SDK sees as it does
// without edge, and does with it what it always does.
func TestSDKRetriedByEdge(t *testing.T) {
	everySDK(t, func(t *testing.T, s sdk) {
		p := newRetryingPair(t, s)
		once := []int{0, 2} // the SDK's own retries make no difference
		check := func(how manner, script, retryAfter string, want expected, more ...string) {
			t.Helper()
			got := p.goes(how, want, append([]string{"X-Demo-Script", script, "X-Demo-Retry-After", retryAfter}, more...)...)
			if told := strings.Contains(got.told, "Should-Retry"); told != (len(more) > 0) {
				t.Errorf("%s: got the fields %s", script, got.told)
			}
			p.served()
		}
		f := func(script, retryAfter string, retries []int, want expected, more ...string) {
			t.Helper()
			for _, n := range retries {
				check(manner{retries: n}, script, retryAfter, want, more...)
				check(manner{retries: n, stream: true}, script, retryAfter, want, more...)
			}
		}
		third := expected{"200", 3, "3"}
		for _, form := range []string{"0.02", "ms:20", "x-ms:20"} {
			f("429*2", form, once, third)
		}
		for i, form := range []string{"0", "date:0s", "date:-1h", "NaN", "-5", ""} { // edge waits as long as it thinks right
			check(manner{stream: i%2 == 1, retries: i % 3}, "429*2", form, third)
		}
		check(manner{}, "429*2", "1", third)
		check(manner{stream: true}, "429*2", "date:2s", third)
		for _, status := range []string{"502", "503", "504", "529"} {
			f(status+"*2", "ms:20", once, third)
			f(status+"*2", "", once, third)
		}
		f("429,503", "ms:20", once, third)
		f("ok", "", once, expected{"200", 1, "1"})

		f("503*3", "ms:20", []int{0}, expected{"503", 3, "3"})
		f("429*3", "ms:20", []int{0}, expected{"429", 3, "3"})
		f("503*4", "ms:20", []int{1}, expected{"503 200", 5, "2"})
		f("500", "ms:20", []int{0}, expected{"500", 1, "1"})
		f("500", "ms:20", []int{1}, expected{"500 200", 2, "1"})
		f("400", "ms:20", once, expected{"400", 1, "1"})

		never := []string{"X-Demo-Header", "X-Should-Retry: false"}
		f("503", "ms:20", once, expected{"503", 1, "1"}, never...)
		f("429", "ms:20", once, expected{"429", 1, "1"}, never...)
		p.edge.settles(0, "edge_rejected_total")
	})
}

// TestSDKResetRetriedByEdge: a request that may have been carried out is sent again only when it says that this does no
// harm. The SDKs do not say so by themselves.
func TestSDKResetRetriedByEdge(t *testing.T) {
	everySDK(t, func(t *testing.T, s sdk) {
		p := newRetryingPair(t, s)
		w := newWire(t)
		if _, err := p.call(bounded(t), t, p.throughEdge(), manner{client: w}); err != nil {
			t.Fatal(err)
		}
		w.served(t)
		if got := w.attempts[0].asked.Values("Idempotency-Key"); len(got) > 0 {
			t.Errorf("the SDK sends Idempotency-Key %q", got)
		}
		for _, stream := range []bool{false, true} {
			for _, fault := range []string{"reset", "close", "not-http"} {
				p.goes(manner{stream: stream}, expected{"502", 1, "1"}, "X-Demo-Script", fault)
				p.served()
				p.goes(manner{stream: stream, retries: 1}, expected{"502 200", 2, "1"}, "X-Demo-Script", fault)
				p.goes(manner{stream: stream}, expected{"200", 2, "2"}, "X-Demo-Script", fault, "Idempotency-Key", "one")
				p.goes(manner{stream: stream}, expected{"200", 3, "3"}, "X-Demo-Script", fault+"*2", "Idempotency-Key", "two")
			}
		}
	})
}

// TestSDKWaitBeyondDeadline: a wait that edge has no time for is the SDK's to wait, or not. Edge holds back what comes next.
func TestSDKWaitBeyondDeadline(t *testing.T) {
	const year = "31536000"
	everySDK(t, func(t *testing.T, s sdk) {
		p := newRetryingPair(t, s)
		for _, stream := range []bool{false, true} {
			got := p.goes(manner{stream: stream}, expected{"429", 1, "1"}, "X-Demo-Script", "429", "X-Demo-Retry-After", year)
			if got.told != "Retry-After="+year+" " {
				t.Errorf("got the fields %s, want the provider's", got.told)
			}
			model := fmt.Sprint("model-", p.calls)
			got = p.goes(manner{stream: stream, model: model}, expected{"503", 0, "1"})
			if !strings.Contains(got.kind+got.message, "provider_quota") {
				t.Errorf("got %+v, want provider_quota", got)
			}
		}

		// One SDK gives up, the other waits until its context ends: with edge as without.
		f := func(at place, id string) outcome {
			ctx, cancel := context.WithTimeout(t.Context(), patience/2)
			defer cancel()
			got := p.try(ctx, at, manner{retries: 1, model: "another"}, "X-Demo-Script", "429", "X-Demo-Retry-After", year, "X-Demo-Id", id)
			got.ids, got.tried = "", ""
			return got
		}
		direct, through := f(p.directly(), "direct"), f(p.throughEdge(), "through")
		if through != direct || direct.attempts != "429" || direct.requests != 1 {
			t.Errorf("through edge %+v\ndirectly     %+v", through, direct)
		}
	})
}

// TestSDKSilenceNotRetriedByEdge: who has waited for a provider is not made to wait again.
func TestSDKSilenceNotRetriedByEdge(t *testing.T) {
	everySDK(t, func(t *testing.T, s sdk) {
		p := newRetryingPair(t, s, s.variable("TIMEOUT=500ms"))
		for i, stream := range []bool{false, true} {
			p.goes(manner{stream: stream}, expected{"504", 1, "1"}, "X-Demo-Script", "silence", "Idempotency-Key", "one")
			p.left(int64(i + 1))
			p.served()
		}
		p.edge.settles(0, "edge_retries_total")
	})
}

// TestSDKStreamRetriedByEdge: a stream that has not begun is asked for again, and is the same as without a failure. One that
// breaks off is not.
func TestSDKStreamRetriedByEdge(t *testing.T) {
	everySDK(t, func(t *testing.T, s sdk) {
		p := newRetryingPair(t, s)
		whole := p.goes(manner{stream: true}, expected{"200", 1, "1"})
		got := p.goes(manner{stream: true}, expected{"200", 3, "3"}, "X-Demo-Script", "503,529", "Idempotency-Key", "one")
		if got.text != whole.text {
			t.Errorf("got %q, want %q", got.text, whole.text)
		}
		for _, fault := range []string{"body-reset", "short-chunked"} {
			for _, retries := range []int{0, 2} {
				got := p.try(bounded(t), p.throughEdge(), manner{stream: true, retries: retries},
					"X-Demo-Script", fault, "X-Demo-Id", fmt.Sprint(fault, retries), "Idempotency-Key", "one")
				if got.failure != "broken" || got.attempts != "200" || got.requests != 1 || got.tried != "1" ||
					got.text == "" || got.text == whole.text || !strings.HasPrefix(whole.text, got.text) {
					t.Errorf("%s, %d retries: got %+v, want the beginning of %q and an error", fault, retries, got, whole.text)
				}
				p.served()
			}
		}
		p.edge.settles(2, "edge_retries_total")
	})
}

// TestSDKLeavesDuringRetryWait: a caller that leaves while edge waits to try again is asked for no more.
func TestSDKLeavesDuringRetryWait(t *testing.T) {
	everySDK(t, func(t *testing.T, s sdk) {
		p := newRetryingPair(t, s)
		for i, stream := range []bool{false, true} {
			ctx, cancel := context.WithCancel(bounded(t))
			ended := make(chan outcome)
			before := p.provider.Provider.Stats().Requests
			go func() {
				ended <- p.try(ctx, p.throughEdge(), manner{stream: stream, retries: 2},
					"X-Demo-Script", "503*9", "X-Demo-Retry-After", "20", "X-Demo-Id", fmt.Sprint(i))
			}()
			if !until(patience, func() bool { return p.provider.Provider.Stats().Requests == before+1 }) {
				t.Error("the provider was not asked")
			}
			p.edge.settles(0, "edge_in_flight") // the permit is not held while it waits
			cancel()
			if got := <-ended; got.failure != "cancelled" || got.requests != 1 || got.attempts != "0" {
				t.Errorf("got %+v, want one request and a cancelled call", got)
			}
			p.edge.settles(float64(i+1), "edge_client_gone_total", `stage="queued"`)
			if n := p.provider.Provider.Stats().Requests - before; n != 1 {
				t.Errorf("the provider got %d requests, want 1", n)
			}
		}
		p.edge.settles(0, "edge_retries_total")
		p.served()
	})
}

// alternative starts a second provider of the same API, and returns the variables that make it known to edge.
func alternative(t *testing.T, s sdk) (*demo.Server, []string) {
	t.Helper()
	second := provide(t, demo.Config{APIKey: s.key})
	return second, []string{
		"EDGE_PROVIDERS_SECOND_BASE_URL=" + second.URL, "EDGE_PROVIDERS_SECOND_API_KEY=" + s.key, "EDGE_PROVIDERS_SECOND_DIALECT=" + s.name,
	}
}

// TestSDKFallback: what a provider cannot serve the next one does, and the SDK sees an answer.
func TestSDKFallback(t *testing.T) {
	everySDK(t, func(t *testing.T, s sdk) {
		second, known := alternative(t, s)
		p := newPair(t, s, demo.Config{Script: "503,429,reset,529,ok,400,ok"}, append(known, s.variable("FALLBACKS=second"))...)
		served := int64(0)
		f := func(stream bool, attempts, tried string, fallen int64) {
			t.Helper()
			got := p.try(bounded(t), p.throughEdge(), manner{stream: stream, retries: 2, model: fmt.Sprint("model-", served)})
			served += fallen
			if got.attempts != attempts || got.tried != tried || got.requests != 1 || second.Provider.Stats().Requests != served {
				t.Errorf("got %+v and %d requests at the second provider, want %s, %s attempts of edge, and %d", got, second.Provider.Stats().Requests, attempts, tried, served)
			}
		}
		f(false, "200", "2", 1)
		f(true, "200", "2", 1)
		f(false, "200", "2", 1)
		f(true, "200", "2", 1)
		f(false, "200", "1", 0)
		f(false, "400", "1", 0) // it would be one everywhere
		f(true, "200", "1", 0)
		p.edge.settles(4, "edge_fallbacks_total")
	})
}

// TestOpenAIFallbacksField: a request brings its own fallbacks, and no provider sees them.
func TestOpenAIFallbacksField(t *testing.T) {
	t.Parallel()
	second, known := alternative(t, sdks[0])
	p := newPair(t, sdks[0], demo.Config{Script: "ok,503,ok,503"}, known...)
	field := option.WithJSONSet("fallbacks", []string{"second/gpt-other"})

	direct := openaiClient(t, p.directly().base, option.WithAPIKey(p.key))
	_, err := direct.Chat.Completions.New(bounded(t), say("gpt-demo", "hello"), field)
	if refusal := openaiError(t, err); refusal.StatusCode != http.StatusBadRequest || refusal.Code != "unknown_parameter" {
		t.Fatalf("got %s, want the provider to refuse the field", refusal.RawJSON())
	}
	client := openaiClient(t, p.edge.url+"/v1", option.WithMaxRetries(2))
	f := func(stream bool, model string, first, other int64) {
		t.Helper()
		got := ""
		if stream {
			events := client.Chat.Completions.NewStreaming(bounded(t), say("openai/gpt-demo", "hello"), field)
			defer events.Close()
			var whole openai.ChatCompletionAccumulator
			for events.Next() {
				whole.AddChunk(events.Current())
			}
			if got, err = whole.Model, events.Err(); err == nil && whole.Choices[0].FinishReason != "stop" {
				t.Errorf("the stream ended with %q", whole.Choices[0].FinishReason)
			}
		} else {
			var answer *openai.ChatCompletion
			if answer, err = client.Chat.Completions.New(bounded(t), say("openai/gpt-demo", "hello"), field); err == nil {
				got = answer.Model
			}
		}
		if a, b := p.provider.Provider.Stats().Requests, second.Provider.Stats().Requests; err != nil || got != model || a != first+1 || b != other {
			t.Errorf("got an answer of %q, %v, %d and %d requests; want one of %s, %d and %d", got, err, a-1, b, model, first, other)
		}
	}
	f(false, "gpt-demo", 1, 0)
	f(false, "gpt-other", 2, 1)
	f(true, "gpt-demo", 3, 1)
	f(true, "gpt-other", 4, 2)
	p.edge.settles(2, "edge_fallbacks_total")
}

// TestSDKRefusedKey: once the provider has refused one of two keys, no call goes with it. Where edge may retry a refusal, the
// SDK does not see the first one either.
func TestSDKRefusedKey(t *testing.T) {
	const bad = "sk-key-that-the-provider-refuses"
	everySDK(t, func(t *testing.T, s sdk) {
		f := func(status, retries, seen string) {
			t.Helper()
			keys := fmt.Sprintf(`EDGE_CONFIG_JSON={"providers":{%q:{"keys":[{"name":"bad","value":%q},{"name":"good","value":%q}]}}}`, s.name, bad, s.key)
			p := newPair(t, s, demo.Config{Keys: []demo.Key{{Value: bad, Script: status + "*1000"}}, RetryAfter: "60"},
				keys, s.variable("MAX_RETRIES="+retries))
			const after = 20
			refused, left := int64(0), after
			for calls := 0; left > 0; calls++ {
				if calls == 1000 {
					t.Fatalf("%s: the key was never used", status)
				}
				got := p.try(bounded(t), p.throughEdge(), manner{stream: calls%2 == 1})
				want := "200"
				if refused > 0 {
					left--
				} else if got.attempts != "200" || got.requests > 1 {
					refused++
					want = seen
				}
				if got.attempts != want || (got.failure == "") != (want == "200") || left < after && got.requests != 1 {
					t.Errorf("%s, max_retries %s, %d calls before: got %+v, want %s", status, retries, calls, got, want)
				}
			}
			if strings.Contains(p.edge.stderr.String(), bad) {
				t.Error("stderr shows the key")
			}
		}
		f("401", "0", "401")
		f("429", "0", "429")
		f("401", "2", "401") // no retry helps a caller whose key is wrong
		f("429", "2", "200")
	})
}
