package e2e

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/ssestream"

	"github.com/edge-proxy/edge/proxy/demo"
)

// openaiError is what the SDK makes of an answer that is an error.
func openaiError(t *testing.T, err error) *openai.Error {
	t.Helper()
	var refusal *openai.Error
	if !errors.As(err, &refusal) {
		t.Fatalf("got %v, want an answer that the SDK can read as an error", err)
	}
	return refusal
}

// hold opens a stream that holds its permit until it is closed, and reads its first word. The second would come
// after a quarter of an hour.
func hold(t *testing.T, client openai.Client) *ssestream.Stream[openai.ChatCompletionChunk] {
	t.Helper()
	stream := client.Chat.Completions.NewStreaming(bounded(t), say("gpt-demo", "hello"), slowly("100", "0.001")...)
	t.Cleanup(func() { stream.Close() })
	for _, want := range []string{"", "You"} { // the role comes first
		if !stream.Next() || stream.Current().Choices[0].Delta.Content != want {
			t.Fatalf("stream: got %s, %v; want %q", stream.Current().RawJSON(), stream.Err(), want)
		}
	}
	return stream
}

func TestOpenAIProviderRateLimit(t *testing.T) {
	provider := provide(t, demo.Config{APIKey: openaiKey, RequestsPerMinute: 6000, TokensPerMinute: 6000})
	e, unaware := start(t, openaiEnv(provider)), start(t, openaiEnv(provider))
	wire := newWire(t)
	client := openaiClient(t, e.url+"/openai/v1", option.WithHTTPClient(&http.Client{Transport: wire}))
	// All but a few of the minute's tokens; they come back at 100 a second.
	if _, err := client.Chat.Completions.New(bounded(t), say("gpt-demo", "hello"), slowly("5980", "0")...); err != nil {
		t.Fatal(err)
	}
	_, err := client.Chat.Completions.New(bounded(t), say("gpt-demo", "hello"), slowly("230", "0")...)
	refusal := openaiError(t, err)
	if refusal.StatusCode != http.StatusTooManyRequests || refusal.Code != "rate_limit_exceeded" || refusal.Type != "tokens" ||
		!strings.HasPrefix(refusal.Message, "Rate limit reached") {
		t.Errorf("got %d %s, want the provider's own error", refusal.StatusCode, refusal.RawJSON())
	}
	h := refusal.Response.Header
	header(t, h, map[string]string{
		"X-Ratelimit-Limit-Requests": "6000", "X-Ratelimit-Limit-Tokens": "6000", "X-Edge-Reason": "", "X-Should-Retry": "",
	})
	for _, name := range []string{"Remaining-Requests", "Remaining-Tokens", "Reset-Requests", "Reset-Tokens"} {
		if h.Get("X-Ratelimit-"+name) == "" {
			t.Errorf("X-Ratelimit-%s did not come through", name)
		}
	}
	told(t, h, "Retry-After", time.Second)

	// Edge has heard of it, and holds the next call back for as long.
	wire.forget()
	if _, err := client.Chat.Completions.New(bounded(t), say("gpt-demo", "hello"), slowly("230", "0")...); err != nil {
		t.Fatal(err)
	}
	wire.served(t)

	// An edge that has not heard of it passes the refusal on, and the SDK waits.
	wire.forget()
	client = openaiClient(t, unaware.url+"/openai/v1", option.WithHTTPClient(&http.Client{Transport: wire}))
	got, err := client.Chat.Completions.New(bounded(t), say("gpt-demo", "hello"),
		append(slowly("230", "0"), option.WithMaxRetries(2))...)
	if err != nil {
		t.Fatal(err)
	}
	if got.Usage.CompletionTokens != 230 {
		t.Errorf("got %d tokens, want 230", got.Usage.CompletionTokens)
	}
	wire.retried(t, http.StatusTooManyRequests, "Retry-After-Ms", time.Millisecond)
	if s := provider.Provider.Stats(); s.RateLimited != 2 || s.Requests != 5 {
		t.Errorf("provider: got %d of %d requests refused, want 2 of 5", s.RateLimited, s.Requests)
	}
}

func TestOpenAIQueueFull(t *testing.T) {
	provider := provide(t, demo.Config{APIKey: openaiKey})
	e := start(t, openaiEnv(provider,
		"EDGE_PROVIDERS_OPENAI_CONCURRENCY=1", "EDGE_PROVIDERS_OPENAI_BUFFER_SIZE=0", "EDGE_DROP_EXCESS_REQUESTS=true"))
	held := hold(t, openaiClient(t, e.url+"/openai/v1"))
	f := func(base, model string) {
		t.Helper()
		client := openaiClient(t, e.url+base)
		_, err := client.Chat.Completions.New(bounded(t), say(model, "hello"))
		refusal := openaiError(t, err)
		if refusal.StatusCode != http.StatusServiceUnavailable || refusal.Code != "queue_full" || refusal.Type != "server_error" ||
			refusal.Message != "the queue of openai is full (concurrency 1, buffer_size 0)" {
			t.Errorf("%s: got %d %s, want 503 queue_full", base, refusal.StatusCode, refusal.RawJSON())
		}
		header(t, refusal.Response.Header, map[string]string{"X-Edge-Reason": "queue_full"})
		told(t, refusal.Response.Header, "Retry-After", time.Second)
	}
	f("/openai/v1", "gpt-demo")
	f("/v1", "openai/gpt-demo")

	wire := newWire(t)
	wire.then = func(a attempt) {
		if a.status != http.StatusOK {
			held.Close() // now there is room for the next attempt
		}
	}
	client := openaiClient(t, e.url+"/openai/v1", option.WithHTTPClient(&http.Client{Transport: wire}), option.WithMaxRetries(2))
	if _, err := client.Chat.Completions.New(bounded(t), say("gpt-demo", "hello")); err != nil {
		t.Fatal(err)
	}
	wire.retried(t, http.StatusServiceUnavailable, "Retry-After", time.Second)
	if s := provider.Provider.Stats(); s.Requests != 2 || s.MaxInFlight != 1 {
		t.Errorf("provider: got %d requests, %d at once; want 2, 1 at once", s.Requests, s.MaxInFlight)
	}
	e.settles(3, "edge_rejected_total", `provider="openai"`, `reason="queue_full"`)
}

func TestOpenAIWrongToken(t *testing.T) {
	provider := provide(t, demo.Config{APIKey: openaiKey})
	e := start(t, openaiEnv(provider))
	f := func(base, key, code string) {
		t.Helper()
		client := openaiClient(t, base, option.WithAPIKey(key), option.WithMaxRetries(2))
		_, err := client.Chat.Completions.New(bounded(t), say("gpt-demo", "hello"))
		refusal := openaiError(t, err)
		if refusal.StatusCode != http.StatusUnauthorized || refusal.Code != code || refusal.Type != "invalid_request_error" {
			t.Errorf("%s: got %d %s, want 401 %s", base, refusal.StatusCode, refusal.RawJSON(), code)
		}
	}
	f(e.url+"/openai/v1", "not-"+edgeToken, "unauthorized")
	f(e.url+"/v1", "not-"+edgeToken, "unauthorized")
	f(e.url+"/openai/v1", openaiKey, "unauthorized") // the provider's key is no token
	if n := provider.Provider.Stats().Requests; n != 0 {
		t.Errorf("%d requests reached the provider", n)
	}
	f(provider.URL+"/v1", edgeToken, "invalid_api_key") // and edge's token is no key: what passes carries another
	e.settles(3, "edge_rejected_total", `reason="unauthorized"`)
}

func TestOpenAIProviderError(t *testing.T) {
	provider := provide(t, demo.Config{APIKey: openaiKey})
	e := start(t, openaiEnv(provider))
	f := func(base, status, retryAfter string, want int) {
		t.Helper()
		before := provider.Provider.Stats().Requests
		client := openaiClient(t, e.url+base)
		_, err := client.Chat.Completions.New(bounded(t), say("gpt-demo", "hello"),
			option.WithHeader("X-Demo-Status", status), option.WithHeader("X-Demo-Retry-After", retryAfter))
		refusal := openaiError(t, err)
		if refusal.StatusCode != want || refusal.Type != "server_error" || refusal.Code != "" || refusal.Message == "" {
			t.Errorf("%s: got %d %s, want the provider's own %d", base, refusal.StatusCode, refusal.RawJSON(), want)
		}
		h := refusal.Response.Header
		header(t, h, map[string]string{"X-Edge-Reason": "", "Retry-After": retryAfter})
		if !strings.HasPrefix(h.Get("X-Request-Id"), "req_") || h.Get("X-Edge-Request-Id") == "" {
			t.Errorf("%s: ids of the request: %q, %q", base, h.Get("X-Request-Id"), h.Get("X-Edge-Request-Id"))
		}
		if n := provider.Provider.Stats().Requests - before; n != 1 {
			t.Errorf("%s: the provider got %d requests, want 1", base, n)
		}
	}
	f("/openai/v1", "500", "", http.StatusInternalServerError)
	f("/v1", "500", "", http.StatusInternalServerError)
	f("/openai/v1", "503", "7", http.StatusServiceUnavailable)
	e.settles(3, "edge_requests_total", `provider="openai"`, `code="5xx"`)
	e.settles(0, "edge_rejected_total")
}

// An answer that its provider did not end must not look whole.
func TestProviderDiesInMidStream(t *testing.T) {
	provider := provide(t, demo.Config{APIKey: openaiKey})
	e := start(t, openaiEnv(provider))
	stream := hold(t, openaiClient(t, e.url+"/openai/v1"))
	provider.Close()
	if stream.Next() || stream.Err() == nil {
		t.Errorf("got %s and the error %v, want no chunk and an error", stream.Current().RawJSON(), stream.Err())
	}
	e.settles(1, "edge_rejected_total", `provider="openai"`, `reason="upstream_error"`)

	client := openaiClient(t, e.url+"/openai/v1")
	_, err := client.Chat.Completions.New(bounded(t), say("gpt-demo", "hello"))
	if refusal := openaiError(t, err); refusal.StatusCode != http.StatusBadGateway || refusal.Code != "upstream_error" {
		t.Errorf("got %d %s, want 502 upstream_error", refusal.StatusCode, refusal.RawJSON())
	}
}
