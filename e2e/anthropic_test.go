package e2e

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/anthropics/anthropic-sdk-go/packages/ssestream"

	"github.com/edge-proxy/edge/proxy/demo"
)

// anthropicEnv is the environment of an edge whose provider anthropic is p.
func anthropicEnv(p *demo.Server, more ...string) []string {
	return append([]string{"EDGE_PROVIDERS_ANTHROPIC_BASE_URL=" + p.URL, "ANTHROPIC_API_KEY=" + anthropicKey}, more...)
}

// anthropicClient presents edge's token as x-api-key and sends every request once, unless the options say otherwise.
func anthropicClient(t *testing.T, base string, options ...option.RequestOption) anthropic.Client {
	t.Helper()
	return anthropic.NewClient(append([]option.RequestOption{
		option.WithoutEnvironmentDefaults(), option.WithBaseURL(base), option.WithAPIKey(edgeToken), option.WithMaxRetries(0),
		option.WithHTTPClient(&http.Client{Transport: newWire(t)}),
	}, options...)...)
}

// message is a conversation of one message, to be answered in so many tokens at most.
func message(text string, tokens int64) anthropic.MessageNewParams {
	return anthropic.MessageNewParams{
		Model: "claude-demo", MaxTokens: tokens,
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(text))},
	}
}

func anthropicError(t *testing.T, err error) *anthropic.Error {
	t.Helper()
	var refusal *anthropic.Error
	if !errors.As(err, &refusal) {
		t.Fatalf("got %v, want an answer that the SDK can read as an error", err)
	}
	return refusal
}

// holdMessage is hold for Anthropic's API.
func holdMessage(t *testing.T, client anthropic.Client) *ssestream.Stream[anthropic.MessageStreamEventUnion] {
	t.Helper()
	stream := client.Messages.NewStreaming(bounded(t), message("hello", 100), option.WithHeader("X-Demo-Tokens-Per-Second", "0.001"))
	t.Cleanup(func() { stream.Close() })
	for _, want := range []string{"message_start", "content_block_start", "content_block_delta"} {
		if !stream.Next() || stream.Current().Type != want {
			t.Fatalf("stream: got %s, %v; want %s", stream.Current().RawJSON(), stream.Err(), want)
		}
	}
	return stream
}

func TestAnthropicMessages(t *testing.T) {
	provider := provide(t, demo.Config{APIKey: anthropicKey})
	e := start(t, anthropicEnv(provider))
	direct := anthropicClient(t, provider.URL, option.WithAPIKey(anthropicKey))
	want, err := direct.Messages.New(bounded(t), message("hello there", 100))
	if err != nil {
		t.Fatal(err)
	}
	f := func(options ...option.RequestOption) {
		t.Helper()
		client := anthropicClient(t, e.url+"/anthropic", options...)
		got, err := client.Messages.New(bounded(t), message("hello there", 100))
		if err != nil {
			t.Fatal(err)
		}
		if got.Content[0].Text != want.Content[0].Text || got.StopReason != "end_turn" || got.Model != "claude-demo" ||
			got.Usage.RawJSON() != want.Usage.RawJSON() || got.Usage.OutputTokens == 0 {
			t.Errorf("got %s, want but for the id %s", got.RawJSON(), want.RawJSON())
		}
	}
	f()
	f(option.WithHeaderDel("X-Api-Key"), option.WithHeader("Authorization", "Bearer "+edgeToken)) // either form is replaced
	_, err = direct.Messages.New(bounded(t), message("hello", 9), option.WithAPIKey(edgeToken))
	if refusal := anthropicError(t, err); refusal.StatusCode != http.StatusUnauthorized {
		t.Errorf("got %v, want the provider to refuse edge's token", refusal)
	}
}

func TestAnthropicStream(t *testing.T) {
	const tokens = 20
	provider := provide(t, demo.Config{APIKey: anthropicKey, Tokens: tokens, TokensPerSecond: 20})
	e := start(t, anthropicEnv(provider))
	client := anthropicClient(t, e.url+"/anthropic")
	plain, err := client.Messages.New(bounded(t), message("hello there", 100))
	if err != nil {
		t.Fatal(err)
	}
	stream := client.Messages.NewStreaming(bounded(t), message("hello there", 100))
	defer stream.Close()
	var whole anthropic.Message
	var types []string
	for stream.Next() {
		event := stream.Current()
		types = append(types, event.Type)
		if len(types) == 3 && provider.Provider.Stats().InFlight != 1 { // the first word
			t.Error("the first word came when the provider had already ended")
		}
		if err := whole.Accumulate(event); err != nil {
			t.Fatalf("event %d: %v", len(types), err)
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	want := append([]string{"message_start", "content_block_start"}, slices.Repeat([]string{"content_block_delta"}, tokens)...)
	want = append(want, "content_block_stop", "message_delta", "message_stop") // the SDK keeps the ping to itself
	if !slices.Equal(types, want) {
		t.Errorf("got the events %q, want %q", types, want)
	}
	if whole.Content[0].Text != plain.Content[0].Text || whole.StopReason != plain.StopReason || whole.Model != plain.Model ||
		whole.Usage.InputTokens != plain.Usage.InputTokens || whole.Usage.OutputTokens != tokens {
		t.Errorf("got %s, want as without a stream %s", whole.RawJSON(), plain.RawJSON())
	}
	if s := provider.Provider.Stats(); s.Cancelled != 0 {
		t.Errorf("the provider was cut off %d times", s.Cancelled)
	}
}

func TestAnthropicCancelledStream(t *testing.T) {
	provider := provide(t, demo.Config{APIKey: anthropicKey})
	e := start(t, anthropicEnv(provider))
	ctx, cancel := context.WithCancel(bounded(t))
	client := anthropicClient(t, e.url+"/anthropic")
	stream := client.Messages.NewStreaming(ctx, message("hello", 100), option.WithHeader("X-Demo-Tokens-Per-Second", "0.001"))
	defer stream.Close()
	if !stream.Next() {
		t.Fatal(stream.Err())
	}
	cancel()
	for stream.Next() { // what had come before
	}
	if err := stream.Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	e.freed(provider)
	e.settles(1, "edge_client_gone_total", `provider="anthropic"`, `stage="streaming"`)
}

func TestAnthropicProviderRateLimit(t *testing.T) {
	provider := provide(t, demo.Config{APIKey: anthropicKey, TokensPerMinute: 6000, Tokens: 6000})
	e, unaware := start(t, anthropicEnv(provider)), start(t, anthropicEnv(provider))
	wire := newWire(t)
	client := anthropicClient(t, e.url+"/anthropic", option.WithHTTPClient(&http.Client{Transport: wire}))
	// All but a few of the minute's tokens; they come back at 100 a second.
	if _, err := client.Messages.New(bounded(t), message("hello", 5980)); err != nil {
		t.Fatal(err)
	}
	_, err := client.Messages.New(bounded(t), message("hello", 200))
	refusal := anthropicError(t, err)
	if refusal.StatusCode != http.StatusTooManyRequests || refusal.Type() != anthropic.ErrorTypeRateLimitError ||
		!strings.HasPrefix(refusal.RequestID, "req_") {
		t.Errorf("got %v, want the provider's own error", refusal)
	}
	h := refusal.Response.Header
	header(t, h, map[string]string{"Anthropic-Ratelimit-Tokens-Limit": "6000", "X-Edge-Reason": ""})
	if _, err := time.Parse(time.RFC3339, h.Get("Anthropic-Ratelimit-Tokens-Reset")); err != nil {
		t.Errorf("Anthropic-Ratelimit-Tokens-Reset: %v", err)
	}
	told(t, h, "Retry-After", time.Second)

	// Edge has heard of it, and holds the next call back for as long.
	wire.forget()
	if _, err := client.Messages.New(bounded(t), message("hello", 200)); err != nil {
		t.Fatal(err)
	}
	wire.served(t)

	// An edge that has not heard of it passes the refusal on, and the SDK waits.
	wire.forget()
	client = anthropicClient(t, unaware.url+"/anthropic", option.WithHTTPClient(&http.Client{Transport: wire}))
	got, err := client.Messages.New(bounded(t), message("hello", 200), option.WithMaxRetries(2))
	if err != nil {
		t.Fatal(err)
	}
	if got.Usage.OutputTokens != 200 {
		t.Errorf("got %d tokens, want 200", got.Usage.OutputTokens)
	}
	wire.retried(t, http.StatusTooManyRequests, "Retry-After", time.Second)
	if s := provider.Provider.Stats(); s.RateLimited != 2 || s.Requests != 5 {
		t.Errorf("provider: got %d of %d requests refused, want 2 of 5", s.RateLimited, s.Requests)
	}
}

func TestAnthropicQueueFull(t *testing.T) {
	provider := provide(t, demo.Config{APIKey: anthropicKey})
	e := start(t, anthropicEnv(provider,
		"EDGE_PROVIDERS_ANTHROPIC_CONCURRENCY=1", "EDGE_PROVIDERS_ANTHROPIC_BUFFER_SIZE=0", "EDGE_DROP_EXCESS_REQUESTS=true"))
	held := holdMessage(t, anthropicClient(t, e.url+"/anthropic"))
	wire := newWire(t)
	client := anthropicClient(t, e.url+"/anthropic", option.WithHTTPClient(&http.Client{Transport: wire}))
	_, err := client.Messages.New(bounded(t), message("hello", 9))
	refusal := anthropicError(t, err)
	if refusal.StatusCode != http.StatusServiceUnavailable || !strings.Contains(refusal.RawJSON(), `"code":"queue_full"`) {
		t.Errorf("got %v, want 503 queue_full", refusal)
	}
	header(t, refusal.Response.Header, map[string]string{"X-Edge-Reason": "queue_full"})

	wire.forget()
	wire.then = func(a attempt) {
		if a.status != http.StatusOK {
			held.Close() // now there is room for the next attempt
		}
	}
	if _, err := client.Messages.New(bounded(t), message("hello", 9), option.WithMaxRetries(2)); err != nil {
		t.Fatal(err)
	}
	wire.retried(t, http.StatusServiceUnavailable, "Retry-After", time.Second)
}

func TestAnthropicWrongToken(t *testing.T) {
	provider := provide(t, demo.Config{APIKey: anthropicKey})
	e := start(t, anthropicEnv(provider))
	client := anthropicClient(t, e.url+"/anthropic", option.WithAPIKey("not-"+edgeToken), option.WithMaxRetries(2))
	_, err := client.Messages.New(bounded(t), message("hello", 9))
	refusal := anthropicError(t, err)
	if refusal.StatusCode != http.StatusUnauthorized {
		t.Errorf("got %v, want 401", refusal)
	}
	header(t, refusal.Response.Header, map[string]string{"X-Edge-Reason": "unauthorized", "Www-Authenticate": "Bearer"})
	if n := provider.Provider.Stats().Requests; n != 0 {
		t.Errorf("%d requests reached the provider", n)
	}
}
