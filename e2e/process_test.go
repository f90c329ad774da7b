package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/proxy/demo"
)

// bifrostConfig has the shape of Bifrost's config.json, with keys that edge does not have, and %s for the two
// providers' addresses.
const bifrostConfig = `{
  "$schema": "https://www.getbifrost.ai/schema",
  "encryption_key": "env.A_VARIABLE_THAT_IS_NOT_SET",
  "client": {
    "drop_excess_requests": true,
    "initial_pool_size": 300,
    "prometheus_labels": ["team"],
    "enable_logging": true,
    "max_request_body_size_mb": 10
  },
  "providers": {
    "openai": {
      "keys": [{ "name": "openai-main", "value": "env.MY_OPENAI_KEY", "models": [], "weight": 1.0 }],
      "network_config": {
        "base_url": "%s",
        "default_request_timeout_in_seconds": 30,
        "max_retries": 0,
        "retry_backoff_initial_ms": 100,
        "retry_backoff_max_ms": 2000
      },
      "concurrency_and_buffer_size": { "concurrency": 1, "buffer_size": 0 },
      "send_back_raw_response": false
    },
    "anthropic": {
      "keys": [{ "name": "anthropic-main", "value": "env.MY_ANTHROPIC_KEY", "models": ["claude-demo"], "weight": 1.0, "use_for_batch_api": true }],
      "network_config": { "base_url": "%s" },
      "concurrency_and_buffer_size": { "concurrency": 3, "buffer_size": 10 }
    }
  },
  "config_store": { "enabled": false },
  "logs_store": { "enabled": false }
}
`

func TestBifrostConfig(t *testing.T) {
	first, second := provide(t, demo.Config{APIKey: openaiKey}), provide(t, demo.Config{APIKey: anthropicKey})
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, fmt.Appendf(nil, bifrostConfig, first.URL, second.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	e := start(t, []string{"MY_OPENAI_KEY=" + openaiKey, "MY_ANTHROPIC_KEY=" + anthropicKey}, "-config", path)

	client := openaiClient(t, e.url+"/v1")
	if _, err := client.Chat.Completions.New(bounded(t), say("openai/gpt-demo", "hello")); err != nil {
		t.Errorf("openai: %v", err)
	}
	claude := anthropicClient(t, e.url+"/anthropic")
	if _, err := claude.Messages.New(bounded(t), message("hello", 9)); err != nil {
		t.Errorf("anthropic: %v", err)
	}

	// The limits of the file are in force.
	for name, want := range map[string]float64{
		`edge_concurrency_limit provider="openai"`: 1, `edge_waiting_limit provider="openai"`: 0,
		`edge_concurrency_limit provider="anthropic"`: 3, `edge_waiting_limit provider="anthropic"`: 10,
		`edge_arena_slots class="exchange"`: 300,
	} {
		name, label, _ := strings.Cut(name, " ")
		e.settles(want, name, label)
	}
	held := hold(t, openaiClient(t, e.url+"/openai/v1"))
	_, err := client.Chat.Completions.New(bounded(t), say("openai/gpt-demo", "hello"))
	if refusal := openaiError(t, err); refusal.StatusCode != http.StatusServiceUnavailable || refusal.Code != "queue_full" {
		t.Errorf("got %d %s, want 503 queue_full", refusal.StatusCode, refusal.RawJSON())
	}
	held.Close()

	// One warning names what is not edge's.
	if n := strings.Count(e.stderr.String(), `"level":"WARN"`); n != 1 {
		t.Errorf("got %d warnings, want 1", n)
	}
	note := ""
	for line := range strings.Lines(e.stderr.String()) {
		if strings.Contains(line, `"level":"WARN"`) {
			note = line
		}
	}
	for _, key := range []string{
		"$schema", "encryption_key", "client.prometheus_labels", "client.enable_logging", "config_store", "logs_store",
		"providers.openai.send_back_raw_response", "use_for_batch_api",
	} {
		if !strings.Contains(note, key) {
			t.Errorf("the warning does not name %s: %s", key, note)
		}
	}
}

func TestHealthcheck(t *testing.T) {
	e := start(t, openaiEnv(provide(t, demo.Config{})))
	e.healthcheck(0)
	e.signal()
	e.wait()
	e.healthcheck(1)
}

func TestDrainLetsStreamsEnd(t *testing.T) {
	const tokens = 20
	provider := provide(t, demo.Config{APIKey: openaiKey, Tokens: tokens, TokensPerSecond: 8})
	e := start(t, openaiEnv(provider, "EDGE_DRAIN_TIMEOUT=1m"))
	client := openaiClient(t, e.url+"/openai/v1")
	stream := client.Chat.Completions.NewStreaming(bounded(t), say("gpt-demo", "hello"))
	defer stream.Close()
	if !stream.Next() {
		t.Fatal(stream.Err())
	}
	e.signal()
	e.healthcheckTurns()
	if !until(patience, func() bool { return !e.accepts(t) }) {
		t.Error("edge still accepts connections")
	}
	words := 0
	for stream.Next() {
		if stream.Current().Choices[0].Delta.Content != "" {
			words++
		}
	}
	if err := stream.Err(); err != nil || words != tokens {
		t.Errorf("got %d words and the error %v, want %d and none", words, err, tokens)
	}
	e.wait()
	e.stopped(1, 0)
}

func TestDrainEndsInTime(t *testing.T) {
	f := func(signals int, environ ...string) {
		t.Helper()
		provider := provide(t, demo.Config{APIKey: openaiKey})
		e := start(t, openaiEnv(provider, environ...))
		stream := hold(t, openaiClient(t, e.url+"/openai/v1"))
		for range signals {
			e.signal()
			if !until(patience, func() bool { return e.logged("draining") != nil }) {
				t.Error("edge does not drain")
			}
		}
		if stream.Next() || stream.Err() == nil {
			t.Errorf("got %s and the error %v, want no chunk and an error", stream.Current().RawJSON(), stream.Err())
		}
		e.wait()
		e.stopped(0, 1)
	}
	f(1, "EDGE_DRAIN_TIMEOUT=300ms")
	f(2, "EDGE_DRAIN_TIMEOUT=1h") // the second one means now
}

// While a load balancer looks elsewhere, edge goes on serving.
func TestDrainDelay(t *testing.T) {
	provider := provide(t, demo.Config{APIKey: openaiKey})
	e := start(t, openaiEnv(provider, "EDGE_DRAIN_DELAY=1h"))
	e.signal()
	e.healthcheckTurns()
	client := openaiClient(t, e.url+"/openai/v1")
	if _, err := client.Chat.Completions.New(bounded(t), say("gpt-demo", "hello")); err != nil {
		t.Errorf("during the delay: %v", err)
	}
	e.settles(0, "edge_in_flight")
	e.signal()
	e.wait()
	e.stopped(0, 0)
}

// healthcheckTurns waits until edge drains and checks that it says so.
func (e *edge) healthcheckTurns() {
	e.t.Helper()
	if !until(patience, func() bool { return e.logged("draining") != nil }) {
		e.t.Error("edge does not drain")
	}
	until(patience, func() bool { return !e.ready() })
	e.healthcheck(1)
}

// ready asks /readyz, which nobody answers once edge has ended.
func (e *edge) ready() bool {
	request, err := http.NewRequestWithContext(e.t.Context(), http.MethodGet, e.admin+"/readyz", http.NoBody)
	if err != nil {
		e.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

func (e *edge) accepts(t *testing.T) bool {
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(e.url, "http://"))
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// stopped checks the counts of edge's last log line.
func (e *edge) stopped(ended, aborted float64) {
	e.t.Helper()
	line := e.logged("stopped")
	if line["requests_ended"] != ended || line["requests_aborted"] != aborted || line["upgraded_connections"] != 0.0 {
		e.t.Errorf("last line: got %v, want %v ended, %v aborted", line, ended, aborted)
	}
}
