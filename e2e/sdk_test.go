package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/edge-proxy/edge/proxy/demo"
)

// sdk is one of the SDKs, and where its calls go: to its provider itself, or through edge.
type sdk struct {
	name string
	key  string // the provider's
	env  func(p *demo.Server, more ...string) []string

	direct, through string // paths of its base URL at the provider and at edge

	// call makes one call and returns the text that came.
	call func(ctx context.Context, t *testing.T, at place, how manner) (text string, err error)
}

// place is where an SDK's calls go, and with which key.
type place struct{ base, key string }

// manner is how a call is made.
type manner struct {
	stream  bool
	model   string            // empty: one that all share
	retries int               // of the SDK
	timeout time.Duration     // of each attempt; 0 means none
	began   func()            // called at the first text of a stream; may be nil
	client  http.RoundTripper // of the SDK
}

var sdks = []sdk{
	{"openai", openaiKey, openaiEnv, "/v1", "/openai/v1", callOpenAI},
	{"anthropic", anthropicKey, anthropicEnv, "", "/anthropic", callAnthropic},
}

func callOpenAI(ctx context.Context, t *testing.T, at place, how manner) (text string, err error) {
	t.Helper()
	options := []option.RequestOption{
		option.WithAPIKey(at.key), option.WithMaxRetries(how.retries), option.WithHTTPClient(&http.Client{Transport: how.client}),
	}
	if how.timeout > 0 {
		options = append(options, option.WithRequestTimeout(how.timeout))
	}
	client := openaiClient(t, at.base, options...)
	if !how.stream {
		got, err := client.Chat.Completions.New(ctx, say(cmp.Or(how.model, "gpt-demo"), "hello there"))
		if err != nil {
			return "", err
		}
		return got.Choices[0].Message.Content, nil
	}
	stream := client.Chat.Completions.NewStreaming(ctx, say(cmp.Or(how.model, "gpt-demo"), "hello there"))
	defer stream.Close()
	for stream.Next() {
		if choices := stream.Current().Choices; len(choices) > 0 {
			text += choices[0].Delta.Content
		}
		if text != "" && how.began != nil {
			how.began()
		}
	}
	return text, stream.Err()
}

func callAnthropic(ctx context.Context, t *testing.T, at place, how manner) (text string, err error) {
	t.Helper()
	options := []anthropicoption.RequestOption{
		anthropicoption.WithAPIKey(at.key), anthropicoption.WithMaxRetries(how.retries),
		anthropicoption.WithHTTPClient(&http.Client{Transport: how.client}),
	}
	if how.timeout > 0 {
		options = append(options, anthropicoption.WithRequestTimeout(how.timeout))
	}
	client, params := anthropicClient(t, at.base, options...), message("hello there", 100)
	params.Model = cmp.Or(how.model, params.Model)
	if !how.stream {
		got, err := client.Messages.New(ctx, params)
		if err != nil {
			return "", err
		}
		return got.Content[0].Text, nil
	}
	stream := client.Messages.NewStreaming(ctx, params)
	defer stream.Close()
	for stream.Next() {
		text += stream.Current().Delta.Text
		if text != "" && how.began != nil {
			how.began()
		}
	}
	return text, stream.Err()
}

// outcome is what an application and its provider see of one call.
type outcome struct {
	text     string
	failure  string // "", answer, deadline, cancelled or broken: what the SDK's error is made of
	status   int    // of the last answer that the SDK took for an error
	kind     string // that error's type, and code
	message  string
	attempts string // the statuses of the SDK's attempts, 0 for none
	requests int64  // that the provider got
	ids      string // whether the last answer has the provider's id of the request, and edge's
	told     string // the fields of the last answer that speak of retries
	tried    string // how many attempts edge says it made for that answer; empty if it does not
}

// pair is a provider and an edge before it.
type pair struct {
	sdk
	t        *testing.T
	provider *demo.Server
	edge     *edge
	calls    int // of same, so that each has a script of its own
}

func newPair(t *testing.T, s sdk, c demo.Config, more ...string) *pair {
	t.Helper()
	c.APIKey = s.key
	p := &pair{sdk: s, t: t, provider: provide(t, c)}
	p.edge = start(t, s.env(p.provider, more...))
	return p
}

// directly and throughEdge are the two ways to the provider.
func (p *pair) directly() place    { return place{p.provider.URL + p.direct, p.key} }
func (p *pair) throughEdge() place { return place{p.edge.url + p.through, edgeToken} }

// try makes one call whose every attempt has these fields, given as name and value in turn.
func (p *pair) try(ctx context.Context, at place, how manner, fields ...string) outcome {
	p.t.Helper()
	w := newWire(p.t)
	w.fields = fields
	how.client = w
	before := p.provider.Provider.Stats().Requests
	text, err := p.call(ctx, p.t, at, how)
	got := outcome{text: text, requests: p.provider.Provider.Stats().Requests - before}
	var openaiAnswer *openai.Error
	var anthropicAnswer *anthropic.Error
	switch {
	case err == nil:
	case errors.As(err, &openaiAnswer):
		got.failure, got.status, got.message = "answer", openaiAnswer.StatusCode, openaiAnswer.Message
		got.kind = openaiAnswer.Type + " " + openaiAnswer.Code
	case errors.As(err, &anthropicAnswer):
		got.failure, got.status = "answer", anthropicAnswer.StatusCode
		got.kind, got.message = string(anthropicAnswer.Type()), withoutIDs(anthropicAnswer.RawJSON())
	case errors.Is(err, context.DeadlineExceeded):
		got.failure = "deadline"
	case errors.Is(err, context.Canceled):
		got.failure = "cancelled"
	default:
		got.failure = "broken"
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var statuses []string
	for _, a := range w.attempts {
		statuses = append(statuses, fmt.Sprint(a.status))
	}
	got.attempts = strings.Join(statuses, " ")
	if n := len(w.attempts); n > 0 {
		h := w.attempts[n-1].header
		got.ids = fmt.Sprintf("provider's %t, edge's %t", strings.HasPrefix(h.Get("X-Request-Id"), "req_"), h.Get("X-Edge-Request-Id") != "")
		got.tried = h.Get("X-Edge-Attempts")
		for _, name := range []string{"Retry-After", "Retry-After-Ms", "X-Should-Retry"} {
			if value := h.Get(name); value != "" {
				got.told += name + "=" + value + " "
			}
		}
	}
	return got
}

// withoutIDs cuts off what differs between two answers of the demo provider.
func withoutIDs(text string) string {
	text, _, _ = strings.Cut(text, `,"request_id"`)
	return text
}

// same makes a call both ways and wants the same of both, but for edge's own id of the request. It returns what came
// through edge.
func (p *pair) same(how manner, fields ...string) outcome {
	p.t.Helper()
	p.calls++
	want := p.try(bounded(p.t), p.directly(), how, append(fields, "X-Demo-Id", fmt.Sprint("direct ", p.calls))...)
	got := p.try(bounded(p.t), p.throughEdge(), how, append(fields, "X-Demo-Id", fmt.Sprint("through ", p.calls))...)
	compared := got
	if !strings.HasSuffix(got.attempts, "0") || strings.HasSuffix(got.attempts, "00") { // an answer came
		compared.ids = strings.Replace(got.ids, "edge's true", "edge's false", 1)
		if compared.ids == got.ids {
			p.t.Errorf("%s %q: the answer through edge has no X-Edge-Request-Id", p.name, fields)
		}
	}
	if compared != want {
		p.t.Errorf("%s %q, stream %t, %d retries:\nthrough edge %+v\ndirectly     %+v", p.name, fields, how.stream, how.retries, got, want)
	}
	return got
}

// served makes a call through edge that goes well, so that edge does not take the provider for one that is down.
func (p *pair) served() {
	p.t.Helper()
	if got := p.try(bounded(p.t), p.throughEdge(), manner{}, "X-Demo-Script", "ok"); got.failure != "" {
		p.t.Errorf("got %+v, want an answer", got)
	}
}

// everySDK runs a test for each.
func everySDK(t *testing.T, f func(t *testing.T, s sdk)) {
	t.Helper()
	t.Parallel() // most of the time is spent in the SDKs' waits
	for _, s := range sdks {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			f(t, s)
		})
	}
}

// TestSDKAnswers: what a provider answers reaches the SDK as it is, and the SDK does with it as it does without edge.
// Nothing is retried by edge (max_retries is 0), so that the provider gets each of the SDK's attempts, once.
func TestSDKAnswers(t *testing.T) {
	everySDK(t, func(t *testing.T, s sdk) {
		check := func(p *pair, stream bool, script, retryAfter string, retries int, attempts string, more ...string) {
			t.Helper()
			fields := append([]string{"X-Demo-Script", script, "X-Demo-Retry-After", retryAfter}, more...)
			got := p.same(manner{stream: stream, retries: retries}, fields...)
			if got.attempts != attempts || got.requests != int64(len(strings.Fields(attempts))) {
				t.Errorf("%s: attempts %s, %d at the provider; want %s", script, got.attempts, got.requests, attempts)
			}
			if failed := !strings.HasSuffix(attempts, "200"); failed != (got.failure == "answer") || failed == (got.text != "") {
				t.Errorf("%s: got %+v", script, got)
			}
		}
		p := newPair(t, s, demo.Config{})
		f := func(script, retryAfter string, retries int, attempts string, more ...string) {
			t.Helper()
			for _, stream := range []bool{false, true} {
				check(p, stream, script, retryAfter, retries, attempts, more...)
				p.served()
			}
		}
		f("ok", "", 2, "200")
		for _, status := range []string{"400", "401", "403", "404", "413", "422"} {
			f(status, "", 2, status)
		}
		f("503", "date:0s", 1, "503 200")
		f("500", "ms:20", 2, "500", "X-Demo-Header", "X-Should-Retry: false")
		f("400*9", "ms:20", 1, "400 400", "X-Demo-Header", "X-Should-Retry: true")
		for _, status := range []string{"500", "502", "503", "504", "529", "429"} { // after a 429 edge goes slowly
			if status != "429" {
				f(status, "7", 0, status)
			}
			f(status, "ms:20", 2, status+" 200")
			f(status+"*9", "0.02", 2, strings.Repeat(status+" ", 2)+status)
		}
		f("429", "NaN", 0, "429")
		p.edge.settles(0, "edge_rejected_total")

		// What comes after one of these edge holds back for that time, so each has an edge of its own. What the SDK makes of
		// a year is its own affair.
		for _, wait := range []string{"7", "31536000"} {
			for _, stream := range []bool{false, true} {
				p := newPair(t, s, demo.Config{})
				check(p, stream, "429", wait, 0, "429")
				p.edge.settles(0, "edge_rejected_total")
			}
		}
	})
}

// TestSDKQuota spends a quota that the provider announces; the SDK waits as long as it is told, and is served.
func TestSDKQuota(t *testing.T) {
	everySDK(t, func(t *testing.T, s sdk) {
		p := newPair(t, s, demo.Config{RequestsPerWindow: 1, Window: time.Second, FixedWindow: true})
		for _, at := range []place{p.directly(), p.throughEdge()} {
			// Each of these calls is served at the latest by its second attempt, in the next second. One that is served
			// at once leaves nothing for another of the same second.
			for calls, refused := 0, false; !refused; calls++ {
				got := p.try(bounded(t), at, manner{retries: 2})
				if got.failure != "" || got.attempts != "200" && got.attempts != "429 200" {
					t.Fatalf("%s: got %+v, want 200 by the second attempt", at.base, got)
				}
				if refused = got.attempts == "429 200"; !refused && calls == 20 {
					t.Fatalf("%s: %d calls and no refusal", at.base, calls)
				}
			}
		}
		if s := p.provider.Provider.Stats(); s.RateLimited != 2 {
			t.Errorf("%+v, want 2 rate limited", s)
		}
	})
}

// TestSDKWrongKey: edge refuses a wrong token as a provider does a wrong key, at once and for good.
func TestSDKWrongKey(t *testing.T) {
	everySDK(t, func(t *testing.T, s sdk) {
		p := newPair(t, s, demo.Config{})
		want := p.try(bounded(t), place{p.directly().base, "wrong"}, manner{retries: 2})
		got := p.try(bounded(t), place{p.throughEdge().base, "wrong"}, manner{retries: 2})
		if got.failure != want.failure || got.status != want.status || got.attempts != want.attempts || got.status != http.StatusUnauthorized {
			t.Errorf("through edge %+v\ndirectly     %+v", got, want)
		}
		if got.requests != 0 || want.requests != 1 {
			t.Errorf("the provider got %d requests through edge and %d directly, want 0 and 1", got.requests, want.requests)
		}
	})
}

// TestOpenAIUnknownModel: a provider's own 404 passes; a prefix that is no provider is refused, once.
func TestOpenAIUnknownModel(t *testing.T) {
	p := newPair(t, sdks[0], demo.Config{})
	var found []*openai.Error
	for _, at := range []place{p.directly(), p.throughEdge()} {
		client := openaiClient(t, at.base, option.WithAPIKey(at.key), option.WithMaxRetries(2))
		_, err := client.Models.Get(bounded(t), "gpt-nobody-has")
		found = append(found, openaiError(t, err))
	}
	if want, got := found[0], found[1]; got.StatusCode != http.StatusNotFound || got.RawJSON() != want.RawJSON() || got.Code != "model_not_found" {
		t.Errorf("through edge %s\ndirectly     %s", got.RawJSON(), want.RawJSON())
	}
	if n := p.provider.Provider.Stats().Requests; n != 2 {
		t.Errorf("the provider got %d requests, want one from each", n)
	}
	got := p.try(bounded(t), place{p.edge.url + "/v1", edgeToken}, manner{retries: 2})
	if got.failure != "" {
		t.Errorf("got %+v, want a bare name to go to the only provider", got)
	}
	second := start(t, openaiEnv(p.provider, "EDGE_PROVIDERS_SECOND_BASE_URL="+p.provider.URL))
	got = p.try(bounded(t), place{second.url + "/v1", edgeToken}, manner{retries: 2})
	if got.status != http.StatusBadRequest || got.kind != "invalid_request_error unknown_model" || got.attempts != "400" || got.requests != 0 {
		t.Errorf("got %+v, want one attempt and 400 unknown_model", got)
	}
}
