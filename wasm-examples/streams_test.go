package examples_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/edge-proxy/edge/plugins/proxywasm"
)

// loadedExamples are those that loadExample has prepared: under the race detector it takes seconds.
var loadedExamples = map[string]*streamHost{}

// loadExample returns an example with a host of its own, the same for all tests. They run one after another.
func loadExample(t testing.TB, example string) *streamHost {
	t.Helper()
	if h := loadedExamples[example]; h != nil {
		return h
	}
	wasm, err := fs.ReadFile(folder, example+"/"+example+".wasm")
	if err != nil {
		t.Fatal(err)
	}
	host := &streamHost{}
	if err := host.load(wasm, ""); err != nil {
		t.Fatalf("%v\n%s", err, &host.logs)
	}
	loadedExamples[example] = host
	return host
}

// begin sends a chat through a plugin, and the headers of an answer of events.
func begin(h *streamHost) (*proxywasm.Stream, error) {
	body := `{"model":"claude-x","stream":true,"messages":[{"role":"user","content":"hi"}]}`
	x := newStreamExchange(httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/demo/v1/chat/completions", strings.NewReader(body)))
	s, err := h.plugin.Open(x)
	if err != nil {
		return nil, err
	}
	if _, err = s.RequestHeaders(false); err == nil {
		_, _, err = s.RequestBody(x.body, true)
	}
	x.status = http.StatusOK
	x.lists[proxywasm.ResponseHeaders].Set("Content-Type", "text/event-stream")
	v := proxywasm.Continue
	if err == nil {
		v, err = s.ResponseHeaders(false)
	}
	if err != nil || v != proxywasm.Continue {
		s.Close()
		return nil, fmt.Errorf("the answer's headers: %v %w", v, err)
	}
	return s, nil
}

// anthropicEvents are a stream, and how much of each OpenAI's clients must get right away.
var anthropicEvents = []struct{ event, want string }{
	{`{"type":"message_start","message":{"id":"m","model":"claude-x","usage":{"input_tokens":6,"output_tokens":1}}}`, `"delta":{"role":"assistant","content":""}`},
	{`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`, ""},
	{`{"type":"ping"}`, ""},
	{`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"one"}}`, `"delta":{"content":"one"}`},
	{`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" two"}}`, `"delta":{"content":" two"}`},
	{`{"type":"content_block_stop","index":0}`, ""},
	{`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}`, `"finish_reason":"stop"`},
	{`{"type":"message_stop"}`, "data: [DONE]"},
}

// TestStreamsAreNotWithheld wants each event of a stream to go on with the call that brought its end.
func TestStreamsAreNotWithheld(t *testing.T) {
	translator, meter := loadExample(t, "openai-to-anthropic"), loadExample(t, "token-meter")
	translated, err := begin(translator)
	if err != nil {
		t.Fatal(err)
	}
	defer translated.Close()
	counted, err := begin(meter)
	if err != nil {
		t.Fatal(err)
	}
	defer counted.Close()
	for _, e := range anthropicEvents {
		event := []byte("data: " + e.event + "\n\n")
		out, v, err := counted.ResponseBody(event, false)
		if string(out) != string(event) || v != proxywasm.Continue || err != nil {
			t.Errorf("token-meter: %s: got %q, %v, %v", event, out, v, err)
		}
		for _, part := range [][]byte{event[:9], event[9 : len(event)-1]} {
			if out, v, err = translated.ResponseBody(part, false); len(out) > 0 || v != proxywasm.Continue || err != nil {
				t.Fatalf("openai-to-anthropic: within %s: got %q, %v, %v", event, out, v, err)
			}
		}
		out, v, err = translated.ResponseBody(event[len(event)-1:], false)
		if !strings.Contains(string(out), e.want) || (len(out) > 0) != (e.want != "") || v != proxywasm.Continue || err != nil {
			t.Errorf("openai-to-anthropic: %s: got %q, %v, %v; want %q", event, out, v, err, e.want)
		}
	}
	if _, _, err := counted.ResponseBody(nil, true); err != nil {
		t.Fatal(err)
	}
	if got, _ := counted.Property("ai_log.tokens"); string(got) != `{"input":6,"output":7,"estimated":false}` {
		t.Errorf("ai_log.tokens: got %s", got)
	}
}

// TestManyStreams has streams interleave in the instances. Their counts add up, and memory does not grow with them.
func TestManyStreams(t *testing.T) {
	const atOnce = 64
	streams := 2048
	if testing.Short() {
		streams = 256
	}
	f := func(h *streamHost, check func(all string) error) {
		t.Helper()
		rounds := func(n int) {
			t.Helper()
			var wg sync.WaitGroup
			for range atOnce {
				wg.Go(func() {
					for range n / atOnce {
						if err := one(h, check); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		}
		rounds(streams)
		before := h.plugin.Stats().MemoryBytes
		rounds(streams)
		after := h.plugin.Stats().MemoryBytes
		t.Logf("%d bytes of memory after %d streams, %d after as many more", before, streams, after)
		if after > before+2<<20 {
			t.Errorf("memory grew from %d to %d bytes", before, after)
		}
	}
	meter := loadExample(t, "token-meter")
	before := metrics(meter)
	f(meter, func(all string) error {
		if strings.Count(all, "\n\n") != len(anthropicEvents) {
			return fmt.Errorf("token-meter: got %q", all)
		}
		return nil
	})
	for name, each := range map[string]int64{"token_meter_input_tokens": 6, "token_meter_output_tokens": 7} {
		if got, want := metrics(meter)[name]-before[name], each*int64(2*streams); got != want {
			t.Errorf("%s: got %d, want %d", name, got, want)
		}
	}
	f(loadExample(t, "openai-to-anthropic"), func(all string) error {
		if !strings.HasSuffix(all, "data: [DONE]\n\n") || strings.Count(all, "\n\n") != 5 {
			return fmt.Errorf("openai-to-anthropic: got %q", all)
		}
		return nil
	})
}

func metrics(h *streamHost) map[string]int64 {
	values := map[string]int64{}
	for _, m := range h.plugin.Stats().Metrics {
		values[m.Name] = m.Value
	}
	return values
}

// one is a stream of all events, an event at a time.
func one(h *streamHost, check func(all string) error) error {
	s, err := begin(h)
	if err != nil {
		return err
	}
	defer s.Close()
	var all []byte
	for _, e := range anthropicEvents {
		out, _, err := s.ResponseBody([]byte("data: "+e.event+"\n\n"), false)
		if err != nil {
			return err
		}
		all = append(all, out...)
	}
	out, _, err := s.ResponseBody(nil, true)
	if err != nil {
		return err
	}
	return check(string(append(all, out...)))
}

// TestLargeChats sends chats of megabytes again and again, within the default memory of a plugin.
func TestLargeChats(t *testing.T) {
	h := loadExample(t, "openai-to-anthropic")
	data, text := strings.Repeat("QUJD", 5<<18), strings.Repeat(`much \u00e4nd more\n`, 5<<20/19)
	body := `{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + data + `"}},` +
		`{"type":"text","text":"` + text + `"}]}]}`
	want := `{"model":"m","max_tokens":4096,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + data + `"}},` +
		`{"type":"text","text":"` + text + `"}]}]}`
	for range 10 {
		x := newStreamExchange(httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/demo/v1/chat/completions", strings.NewReader(body)))
		s, err := h.plugin.Open(x)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.RequestHeaders(false); err != nil {
			t.Fatal(err)
		}
		got, _, err := pump(x.body, 1<<20, s.RequestBody)
		s.Close()
		if err != nil || string(got) != want {
			t.Fatalf("got %d bytes of %d: %.300q, %v", len(got), len(want), got, err)
		}
	}
	t.Logf("%d bytes of memory for requests of %d", h.plugin.Stats().MemoryBytes, len(body))
}

// TestOtherPluginsAnswers wants what another plugin has answered to pass as it is: the request was not translated.
func TestOtherPluginsAnswers(t *testing.T) {
	h := loadExample(t, "openai-to-anthropic")
	x := newStreamExchange(httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/demo/v1/chat/completions", strings.NewReader("{}")))
	s, err := h.plugin.Open(x)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if v, err := s.RequestHeaders(false); v != proxywasm.Paused || err != nil {
		t.Fatal(v, err)
	}
	x.status = http.StatusOK
	if v, err := s.ResponseHeaders(false); v != proxywasm.Continue || err != nil {
		t.Fatal(v, err)
	}
	if out, v, err := s.ResponseBody([]byte("from a cache"), true); string(out) != "from a cache" || v != proxywasm.Continue || err != nil {
		t.Errorf("got %q, %v, %v", out, v, err)
	}
}

// TestBadConfiguration wants openai-to-anthropic not to start with settings that it does not understand.
func TestBadConfiguration(t *testing.T) {
	wasm, err := fs.ReadFile(folder, "openai-to-anthropic/openai-to-anthropic.wasm")
	if err != nil {
		t.Fatal(err)
	}
	for _, config := range []string{`{"max_token":1}`, `{"max_tokens":0}`} {
		h := &streamHost{}
		if err := h.load(wasm, config); err == nil || !strings.Contains(h.logs.String(), "configuration: ") {
			t.Errorf("%s: got %v, log %s", config, err, &h.logs)
		}
	}
}
