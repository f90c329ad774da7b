package e2e

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/edge-proxy/edge/proxy/demo"
)

// openaiClient presents edge's token and sends every request once, unless the options say otherwise.
func openaiClient(t *testing.T, base string, options ...option.RequestOption) openai.Client {
	t.Helper()
	return openai.NewClient(append([]option.RequestOption{
		option.WithBaseURL(base), option.WithAPIKey(edgeToken), option.WithMaxRetries(0),
		option.WithHTTPClient(&http.Client{Transport: newWire(t)}),
	}, options...)...)
}

// say is a chat of one message.
func say(model, text string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model: model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)},
	}
}

// slowly are the headers that make the demo provider answer so many tokens at this pace.
func slowly(tokens, perSecond string) []option.RequestOption {
	return []option.RequestOption{
		option.WithHeader("X-Demo-Tokens", tokens), option.WithHeader("X-Demo-Tokens-Per-Second", perSecond),
	}
}

func TestOpenAIChat(t *testing.T) {
	provider := provide(t, demo.Config{APIKey: openaiKey})
	e := start(t, openaiEnv(provider))
	f := func(base, model, text string) {
		t.Helper()
		ctx := bounded(t)
		direct := openaiClient(t, provider.URL+"/v1", option.WithAPIKey(openaiKey))
		want, err := direct.Chat.Completions.New(ctx, say("gpt-demo", text))
		if err != nil {
			t.Fatal(err)
		}
		client := openaiClient(t, e.url+base)
		var answer *http.Response
		got, err := client.Chat.Completions.New(ctx, say(model, text),
			option.WithHeader("X-Request-Id", "caller-7"), option.WithResponseInto(&answer))
		if err != nil {
			t.Fatalf("%s %s: %v", base, model, err)
		}
		if got.Choices[0].Message.Content != want.Choices[0].Message.Content || got.Choices[0].FinishReason != "stop" ||
			got.Model != want.Model || got.Usage.RawJSON() != want.Usage.RawJSON() || got.Usage.TotalTokens == 0 {
			t.Errorf("%s %s: got %s, want but for id and created %s", base, model, got.RawJSON(), want.RawJSON())
		}
		header(t, answer.Header, map[string]string{"X-Edge-Request-Id": "caller-7", "X-Edge-Reason": ""})
		if id := answer.Header.Get("X-Request-Id"); !strings.HasPrefix(id, "req_") {
			t.Errorf("X-Request-Id: got %q, want the provider's", id)
		}
	}
	long := strings.Repeat("words and more of them, ", 1<<16) // 1.5 MiB: many slots, streamed or held
	f("/openai/v1", "gpt-demo", "hello there")
	f("/v1", "gpt-demo", "hello there")
	f("/v1", "openai/gpt-demo", "hello there")
	f("/openai/v1", "gpt-demo", long)
	f("/v1", "openai/gpt-demo", long)
}

func TestOpenAIStream(t *testing.T) {
	const tokens = 20
	provider := provide(t, demo.Config{APIKey: openaiKey, Tokens: tokens, TokensPerSecond: 20})
	e := start(t, openaiEnv(provider))
	f := func(base, model string) {
		t.Helper()
		ctx := bounded(t)
		client := openaiClient(t, e.url+base)
		plain, err := client.Chat.Completions.New(ctx, say(model, "hello there"))
		if err != nil {
			t.Fatal(err)
		}
		params := say(model, "hello there")
		params.StreamOptions.IncludeUsage = openai.Bool(true)
		stream := client.Chat.Completions.NewStreaming(ctx, params)
		defer stream.Close()
		var whole openai.ChatCompletionAccumulator
		var chunks []openai.ChatCompletionChunk
		text := ""
		for stream.Next() {
			chunk := stream.Current()
			chunks = append(chunks, chunk)
			if len(chunk.Choices) > 0 {
				text += chunk.Choices[0].Delta.Content
			}
			if len(chunks) == 2 && provider.Provider.Stats().InFlight != 1 { // the role, and a first word
				t.Error("the first word came when the provider had already ended")
			}
			if !whole.AddChunk(chunk) {
				t.Fatalf("chunk %d does not fit the ones before it: %s", len(chunks), chunk.RawJSON())
			}
		}
		if err := stream.Err(); err != nil {
			t.Fatalf("%s: %v", base, err)
		}
		if len(chunks) != tokens+3 { // the role before the words, the end and the usage behind them
			t.Fatalf("%s: got %d chunks, want %d", base, len(chunks), tokens+3)
		}
		if text != plain.Choices[0].Message.Content || whole.Choices[0].Message.Content != text {
			t.Errorf("%s: got %q, want as without a stream %q", base, text, plain.Choices[0].Message.Content)
		}
		if role, end := chunks[0].Choices[0].Delta.Role, chunks[tokens+1].Choices[0].FinishReason; role != "assistant" || end != "stop" {
			t.Errorf("%s: role %q, finish reason %q", base, role, end)
		}
		if usage := chunks[tokens+2]; len(usage.Choices) != 0 || usage.Usage.RawJSON() != plain.Usage.RawJSON() {
			t.Errorf("%s: last chunk: got %s, want usage %s", base, usage.RawJSON(), plain.Usage.RawJSON())
		}
	}
	f("/openai/v1", "gpt-demo")
	f("/v1", "openai/gpt-demo")
	if s := provider.Provider.Stats(); s.Cancelled != 0 {
		t.Errorf("the provider was cut off %d times", s.Cancelled)
	}
}

func TestOpenAIEmbeddings(t *testing.T) {
	provider := provide(t, demo.Config{APIKey: openaiKey})
	e := start(t, openaiEnv(provider))
	embed := func(base string, format openai.EmbeddingNewParamsEncodingFormat) *openai.CreateEmbeddingResponse {
		t.Helper()
		client := openaiClient(t, e.url+base)
		got, err := client.Embeddings.New(bounded(t), openai.EmbeddingNewParams{
			Model: "demo-embedding", EncodingFormat: format,
			Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"hello there", "and you"}},
		})
		if err != nil {
			t.Fatalf("%s %q: %v", base, format, err)
		}
		return got
	}
	want := embed("/openai/v1", openai.EmbeddingNewParamsEncodingFormatFloat)
	if len(want.Data) != 2 || len(want.Data[0].Embedding) != 1536 || slices.Equal(want.Data[0].Embedding, want.Data[1].Embedding) {
		t.Fatalf("got %.300s, want two vectors of 1536", want.RawJSON())
	}
	f := func(base string, format openai.EmbeddingNewParamsEncodingFormat, first byte) {
		t.Helper()
		got := embed(base, format)
		if got.Usage.RawJSON() != want.Usage.RawJSON() || len(got.Data) != len(want.Data) {
			t.Fatalf("%s %q: got %.300s, want %.300s", base, format, got.RawJSON(), want.RawJSON())
		}
		for i := range want.Data {
			if raw := got.Data[i].JSON.Embedding.Raw(); raw[0] != first {
				t.Errorf("%s %q: on the wire %.40s", base, format, raw)
			}
			if !slices.EqualFunc(got.Data[i].Embedding, want.Data[i].Embedding, sameFloat32) {
				t.Errorf("%s %q: vector %d is another one", base, format, i)
			}
		}
	}
	const float, base64 = openai.EmbeddingNewParamsEncodingFormatFloat, openai.EmbeddingNewParamsEncodingFormatBase64
	f("/openai/v1", base64, '"')
	f("/openai/v1", "", '[') // the format that the API has by default
	f("/v1", float, '[')
	f("/v1", base64, '"')
}

// sameFloat32 compares what base64 carries whole and JSON in as many digits as a float32 needs.
func sameFloat32(a, b float64) bool { return float32(a) == float32(b) }

func TestOpenAIModels(t *testing.T) {
	const secondKey = "sk-second-key"
	first, second := provide(t, demo.Config{APIKey: openaiKey}), provide(t, demo.Config{APIKey: secondKey})
	e := start(t, openaiEnv(first))
	two := start(t, openaiEnv(first, "EDGE_PROVIDERS_SECOND_BASE_URL="+second.URL, "EDGE_PROVIDERS_SECOND_API_KEY="+secondKey))
	f := func(base string, want ...string) {
		t.Helper()
		client := openaiClient(t, base)
		list, err := client.Models.List(bounded(t))
		if err != nil {
			t.Fatalf("%s: %v", base, err)
		}
		var got []string
		for _, model := range list.Data {
			got = append(got, model.ID)
			if model.Object != "model" || model.OwnedBy != "edge-demo" || model.Created == 0 {
				t.Errorf("%s: got %s", base, model.RawJSON())
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", base, got, want)
		}
	}
	f(e.url+"/openai/v1", "demo-large", "demo-small", "demo-embedding")
	f(e.url+"/v1", "demo-large", "demo-small", "demo-embedding")
	f(two.url+"/second/v1", "demo-large", "demo-small", "demo-embedding")
	f(two.url+"/v1", "openai/demo-large", "openai/demo-small", "openai/demo-embedding",
		"second/demo-large", "second/demo-small", "second/demo-embedding")
	second.Close()
	f(two.url+"/v1", "openai/demo-large", "openai/demo-small", "openai/demo-embedding") // what lists is listed
}

func TestOpenAIModelNamesProvider(t *testing.T) {
	const secondKey = "sk-second-key"
	first, second := provide(t, demo.Config{APIKey: openaiKey}), provide(t, demo.Config{APIKey: secondKey})
	e := start(t, openaiEnv(first, "EDGE_PROVIDERS_SECOND_BASE_URL="+second.URL, "EDGE_PROVIDERS_SECOND_API_KEY="+secondKey))
	client := openaiClient(t, e.url+"/v1")
	served := func(p *demo.Server, model, want string) {
		t.Helper()
		before := p.Provider.Stats().Requests
		got, err := client.Chat.Completions.New(bounded(t), say(model, "hello"))
		if err != nil {
			t.Fatalf("%s: %v", model, err)
		}
		if n := p.Provider.Stats().Requests - before; got.Model != want || n != 1 {
			t.Errorf("%s: got model %s and %d requests at its provider, want %s and 1", model, got.Model, n, want)
		}
	}
	served(first, "openai/gpt-demo", "gpt-demo")
	served(second, "second/gpt-demo", "gpt-demo")
	served(second, "second/maker/model", "maker/model")

	refused := func(model, message string) {
		t.Helper()
		before := first.Provider.Stats().Requests + second.Provider.Stats().Requests
		_, err := client.Chat.Completions.New(bounded(t), say(model, "hello"), option.WithMaxRetries(2))
		got := openaiError(t, err)
		if got.StatusCode != http.StatusBadRequest || got.Code != "unknown_model" || got.Type != "invalid_request_error" || got.Message != message {
			t.Errorf("%s: got %d %s, want the message %q", model, got.StatusCode, got.RawJSON(), message)
		}
		var shape map[string]json.RawMessage
		if err := json.Unmarshal([]byte(got.RawJSON()), &shape); err != nil || string(shape["param"]) != "null" {
			t.Errorf("%s: param: got %s, want null", model, shape["param"])
		}
		header(t, got.Response.Header, map[string]string{"X-Edge-Reason": "unknown_model"})
		if n := first.Provider.Stats().Requests + second.Provider.Stats().Requests - before; n != 0 {
			t.Errorf("%s: %d requests reached a provider", model, n)
		}
	}
	refused("nobody/gpt-demo", `the model "nobody/gpt-demo" names no provider; write <provider>/<model> with one of openai, second`)
	refused("gpt-demo", `the model "gpt-demo" names no provider; write <provider>/<model> with one of openai, second`)
}
