package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openai/openai-go/v3/option"

	"github.com/edge-proxy/edge/proxy/demo"
)

func TestConcurrencyBoundsStreams(t *testing.T) {
	const callers, tokens = 12, 10
	provider := provide(t, demo.Config{APIKey: openaiKey, Tokens: tokens, TokensPerSecond: 50})
	e := start(t, openaiEnv(provider, "EDGE_PROVIDERS_OPENAI_CONCURRENCY=2"))
	ctx, client := bounded(t), openaiClient(t, e.url+"/openai/v1")
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			stream := client.Chat.Completions.NewStreaming(ctx, say("gpt-demo", fmt.Sprintf("caller-%d", i)))
			defer stream.Close()
			text, end := "", ""
			for stream.Next() {
				text += stream.Current().Choices[0].Delta.Content
				end = stream.Current().Choices[0].FinishReason
			}
			if want := fmt.Sprintf("You said: “caller-%d”.", i); stream.Err() != nil || end != "stop" ||
				!strings.HasPrefix(text, want) || len(strings.Fields(text)) != tokens {
				t.Errorf("caller %d: got %q, %q, %v; want %d words that begin with %s", i, text, end, stream.Err(), tokens, want)
			}
		})
	}
	all.Wait()
	if s := provider.Provider.Stats(); s.MaxInFlight != 2 || s.MaxStreams > 2 || s.Requests != callers {
		t.Errorf("provider: got %d requests, %d at once and %d streams; want %d and 2", s.Requests, s.MaxInFlight, s.MaxStreams, callers)
	}
	// The SDK hangs up at [DONE], which edge may see before the provider's last byte: then it counts the caller as gone.
	if !until(patience, func() bool {
		return e.sum("edge_requests_total", `code="2xx"`)+e.sum("edge_client_gone_total", `stage="streaming"`) == callers
	}) {
		t.Errorf("edge has not counted %d answers", callers)
	}
	e.settles(0, "edge_rejected_total")
}

func TestCancelledStream(t *testing.T) {
	provider := provide(t, demo.Config{APIKey: openaiKey})
	e := start(t, openaiEnv(provider, "EDGE_PROVIDERS_OPENAI_CONCURRENCY=1"))
	client := openaiClient(t, e.url+"/openai/v1")
	stream := hold(t, client)
	began := time.Now()
	stream.Close()
	e.freed(provider)
	t.Logf("the provider was told and the permit is free %v after the caller left", time.Since(began))
	e.settles(1, "edge_client_gone_total", `provider="openai"`, `stage="streaming"`)
	if _, err := client.Chat.Completions.New(bounded(t), say("gpt-demo", "hello")); err != nil {
		t.Errorf("the next caller: %v", err)
	}
}

// Over HTTP/2 a caller that leaves resets its stream and keeps its connection, and edge resets what it cannot end.
func TestHTTP2(t *testing.T) {
	provider := provide(t, demo.Config{APIKey: openaiKey})
	e := start(t, openaiEnv(provider, "EDGE_H2C=true"))
	wire := newWire(t)
	wire.Protocols = new(http.Protocols)
	wire.Protocols.SetUnencryptedHTTP2(true)
	client := openaiClient(t, e.url+"/openai/v1", option.WithHTTPClient(&http.Client{Transport: wire}))
	var answer *http.Response
	got, err := client.Chat.Completions.New(bounded(t), say("gpt-demo", "hello"), option.WithResponseInto(&answer))
	if err != nil {
		t.Fatal(err)
	}
	if answer.ProtoMajor != 2 || got.Choices[0].FinishReason != "stop" {
		t.Errorf("got %s over %s", got.RawJSON(), answer.Proto)
	}
	hold(t, client).Close()
	e.freed(provider)
	e.settles(1, "edge_client_gone_total", `provider="openai"`, `stage="streaming"`)
	stream := hold(t, client)
	provider.Close()
	if stream.Next() || stream.Err() == nil {
		t.Errorf("got %s and the error %v, want no chunk and an error", stream.Current().RawJSON(), stream.Err())
	}
}

func TestCancelledBeforeFirstByte(t *testing.T) {
	provider := provide(t, demo.Config{APIKey: openaiKey})
	e := start(t, openaiEnv(provider))
	ctx, cancel := context.WithCancel(bounded(t))
	client, ended := openaiClient(t, e.url+"/openai/v1"), make(chan error, 1)
	go func() {
		_, err := client.Chat.Completions.New(ctx, say("gpt-demo", "hello"), option.WithHeader("X-Demo-Delay", "1h"))
		ended <- err
	}()
	if !until(patience, func() bool { return provider.Provider.Stats().InFlight == 1 }) {
		t.Error("the request has not reached the provider")
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	e.freed(provider)
	e.settles(1, "edge_client_gone_total", `provider="openai"`, `stage="waiting"`)
}

func TestCancelledInQueue(t *testing.T) {
	provider := provide(t, demo.Config{APIKey: openaiKey})
	e := start(t, openaiEnv(provider, "EDGE_PROVIDERS_OPENAI_CONCURRENCY=1"))
	client := openaiClient(t, e.url+"/openai/v1")
	held := hold(t, client)
	ctx, cancel := context.WithCancel(bounded(t))
	ended := make(chan error, 1)
	go func() {
		_, err := client.Chat.Completions.New(ctx, say("gpt-demo", "hello"))
		ended <- err
	}()
	e.settles(1, "edge_waiting", `provider="openai"`)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	e.settles(0, "edge_waiting", `provider="openai"`)
	e.settles(1, "edge_client_gone_total", `provider="openai"`, `stage="queued"`)
	held.Close()
	e.freed(provider)
	if n := provider.Provider.Stats().Requests; n != 1 {
		t.Errorf("the provider got %d requests, want only the one that held the permit", n)
	}
}

// freed checks that one request was cut off at the provider, that none is left there, and that its permit is back.
// Edge promises both within 110 ms; the bound is far from what its other timeouts are.
func (e *edge) freed(p *demo.Server) {
	e.t.Helper()
	const soon = 2 * time.Second
	var s demo.Stats
	if !until(soon, func() bool { s = p.Provider.Stats(); return s.Cancelled == 1 && s.InFlight == 0 }) {
		e.t.Errorf("provider: got %d cancelled and %d in flight after %v, want 1 and 0", s.Cancelled, s.InFlight, soon)
	}
	e.settles(0, "edge_in_flight")
}
