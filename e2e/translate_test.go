package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/shared"

	"github.com/edge-proxy/edge/proxy/demo"
)

// translated is the environment of an edge that speaks OpenAI's API for a provider that speaks Anthropic's, by the
// example plugin.
func translated(t *testing.T, base string) []string {
	t.Helper()
	module, err := filepath.Abs("../wasm-examples/openai-to-anthropic/openai-to-anthropic.wasm")
	if err != nil {
		t.Fatal(err)
	}
	return []string{
		"EDGE_PROVIDERS_ANTHROPIC_BASE_URL=" + base, "ANTHROPIC_API_KEY=" + anthropicKey, "EDGE_PROVIDERS_ANTHROPIC_PLUGINS=translate",
		"EDGE_PLUGINS_0_NAME=translate", "EDGE_PLUGINS_0_PATH=" + module, `EDGE_PLUGINS_0_CONFIG={"max_tokens":1024}`,
	}
}

func TestOpenAIClientTalksToAnthropic(t *testing.T) {
	const tokens = 20
	provider := provide(t, demo.Config{APIKey: anthropicKey, Tokens: tokens, TokensPerSecond: 40})
	e := start(t, translated(t, provider.URL))
	for _, base := range []string{"/anthropic/v1", "/v1"} {
		client := openaiClient(t, e.url+base)
		ctx := bounded(t)
		got, err := client.Chat.Completions.New(ctx, say("claude-demo", "hello there"))
		if err != nil {
			t.Fatal(err)
		}
		content := got.Choices[0].Message.Content
		if !strings.Contains(content, "hello there") || got.Model != "claude-demo" || got.Usage.CompletionTokens != tokens || got.Usage.TotalTokens == 0 {
			t.Errorf("%s: got %s", base, got.RawJSON())
		}
		params := say("claude-demo", "hello there")
		params.StreamOptions.IncludeUsage = openai.Bool(true)
		stream := client.Chat.Completions.NewStreaming(ctx, params)
		var whole openai.ChatCompletionAccumulator
		chunks := 0
		for stream.Next() {
			if chunks++; chunks == 3 && provider.Provider.Stats().InFlight != 1 {
				t.Error("the first words came when the provider had already ended")
			}
			if !whole.AddChunk(stream.Current()) {
				t.Fatalf("chunk %d does not fit the ones before it: %s", chunks, stream.Current().RawJSON())
			}
		}
		if err := stream.Err(); err != nil {
			t.Fatalf("%s: %v", base, err)
		}
		stream.Close()
		if whole.Choices[0].Message.Content != content || whole.Choices[0].FinishReason != got.Choices[0].FinishReason || whole.Usage.CompletionTokens != tokens {
			t.Errorf("%s: the stream gave %+v, want as without one %q", base, whole.Choices, content)
		}
	}
	var failed *openai.Error
	client := openaiClient(t, e.url+"/anthropic/v1")
	_, err := client.Chat.Completions.New(bounded(t), openai.ChatCompletionNewParams{Model: "claude-demo"})
	if !errors.As(err, &failed) || failed.StatusCode != http.StatusBadRequest || failed.Message == "" {
		t.Errorf("no messages: got %v, want a 400 in OpenAI's shape", err)
	}
}

// weather is an Anthropic-like provider that asks for a tool first, and answers when it has the tool's result.
func weather(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		var q struct {
			Stream bool
			Tools  []struct {
				Name        string
				InputSchema map[string]any `json:"input_schema"`
			}
			ToolChoice map[string]any `json:"tool_choice"`
			Messages   []struct {
				Role    string
				Content json.RawMessage
			}
		}
		if err := json.Unmarshal(raw, &q); err != nil || r.URL.Path != "/v1/messages" || r.Header.Get("X-Api-Key") != anthropicKey || r.Header.Get("Anthropic-Version") == "" {
			t.Errorf("the provider got %s %v %s: %v", r.URL, r.Header, raw, err)
		}
		last := string(q.Messages[len(q.Messages)-1].Content)
		if strings.Contains(last, "tool_result") {
			if !strings.Contains(last, "toolu_7") || !strings.Contains(last, "18 degrees") {
				t.Errorf("the tool's result came as %s", last)
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"id":"msg_2","type":"message","role":"assistant","model":"claude-x","content":[{"type":"text","text":"It is 18 degrees."}],"stop_reason":"end_turn","usage":{"input_tokens":30,"output_tokens":6}}`)
			return
		}
		if len(q.Tools) != 1 || q.Tools[0].Name != "get_weather" || q.Tools[0].InputSchema["type"] != "object" || q.ToolChoice["type"] != "any" {
			t.Errorf("tools came as %s", raw)
		}
		if !q.Stream {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[{"type":"text","text":"Let me look."},{"type":"tool_use","id":"toolu_7","name":"get_weather","input":{"city":"Paris"}}],"stop_reason":"tool_use","usage":{"input_tokens":20,"output_tokens":9}}`)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for _, event := range []string{
			`{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[],"usage":{"input_tokens":20,"output_tokens":1}}}`,
			`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
			`{"type":"ping"}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Let me look."}}`,
			`{"type":"content_block_stop","index":0}`,
			`{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_7","name":"get_weather","input":{}}}`,
			`{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"city\":"}}`,
			`{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"\"Paris\"}"}}`,
			`{"type":"content_block_stop","index":1}`,
			`{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":9}}`,
			`{"type":"message_stop"}`,
		} {
			var kind struct{ Type string }
			_ = json.Unmarshal([]byte(event), &kind)
			fmt.Fprintf(w, "event: %s\ndata: %s\n\n", kind.Type, event)
			_ = http.NewResponseController(w).Flush()
		}
	}
}

func TestOpenAIToolCallsWithAnthropic(t *testing.T) {
	server := httptest.NewServer(weather(t))
	t.Cleanup(server.Close)
	e := start(t, translated(t, server.URL))
	client := openaiClient(t, e.url+"/anthropic/v1")
	params := say("claude-x", "What is the weather in Paris?")
	params.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
		Name: "get_weather", Description: openai.String("The weather of a city"),
		Parameters: shared.FunctionParameters{"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}}, "required": []string{"city"}},
	})}
	params.ToolChoice = openai.ChatCompletionToolChoiceOptionUnionParam{OfAuto: openai.String("required")}
	plain, err := client.Chat.Completions.New(bounded(t), params)
	if err != nil {
		t.Fatal(err)
	}
	check := func(how string, message openai.ChatCompletionMessage, reason string) {
		t.Helper()
		if len(message.ToolCalls) != 1 || message.Content != "Let me look." || reason != "tool_calls" {
			t.Fatalf("%s: got %+v, %s", how, message, reason)
		}
		tool := message.ToolCalls[0]
		var input map[string]string
		if err := json.Unmarshal([]byte(tool.Function.Arguments), &input); err != nil || tool.ID != "toolu_7" || tool.Function.Name != "get_weather" || input["city"] != "Paris" {
			t.Errorf("%s: got %s %+v, %v", how, tool.ID, tool.Function, err)
		}
	}
	check("plain", plain.Choices[0].Message, plain.Choices[0].FinishReason)

	stream := client.Chat.Completions.NewStreaming(bounded(t), params)
	defer stream.Close()
	var whole openai.ChatCompletionAccumulator
	for stream.Next() {
		if !whole.AddChunk(stream.Current()) {
			t.Fatalf("a chunk does not fit: %s", stream.Current().RawJSON())
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	check("stream", whole.Choices[0].Message, whole.Choices[0].FinishReason)

	params.Messages = append(params.Messages, plain.Choices[0].Message.ToParam(), openai.ToolMessage("18 degrees", "toolu_7"))
	answer, err := client.Chat.Completions.New(bounded(t), params)
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.Choices[0].Message.Content; got != "It is 18 degrees." || answer.Choices[0].FinishReason != "stop" {
		t.Errorf("got %s", answer.RawJSON())
	}
}
