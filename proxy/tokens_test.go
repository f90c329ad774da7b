package proxy_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/proxy"
)

// saying is an upstream that answers with the content that Say asks for, with | for a line's end.
func saying(t *testing.T) (url string) {
	t.Helper()
	return provider(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", r.Header.Get("Say-Type"))
		if encoding := r.Header.Get("Say-Encoding"); encoding != "" {
			w.Header().Set("Content-Encoding", encoding)
		}
		if r.Header.Get("Say-Status") != "" {
			w.WriteHeader(http.StatusTooManyRequests)
		}
		if _, err := io.WriteString(w, strings.ReplaceAll(r.Header.Get("Say"), "|", "\n")); err != nil {
			t.Error(err)
		}
	})
}

const (
	typeJSON   = "application/json; charset=utf-8"
	typeEvents = "text/event-stream"
)

func TestTokensAreCountedByProviderAndFamily(t *testing.T) {
	up := saying(t)
	with := func(families ...string) proxy.Config {
		return one(up, func(_ *proxy.Config, p *proxy.Provider) { p.ModelFamilies = families })
	}
	e := start(t, with("gpt-4", "gpt-4o"))
	c := client(t)
	f := func(family string, input, cached, output float64) {
		t.Helper()
		want := map[string]float64{"input": input, "cached_input": cached, "output": output}
		for kind, n := range want {
			labels := []string{`provider="up"`, `family="` + family + `"`, `kind="` + kind + `"`}
			if !eventually(func() bool { return e.sum("edge_tokens_total", labels...) == n }) {
				t.Errorf("%s %s: got %v, want %v", family, kind, e.sum("edge_tokens_total", labels...), n)
			}
		}
	}
	missing := func(want float64) {
		t.Helper()
		if !eventually(func() bool { return e.sum("edge_usage_missing_total", `provider="up"`) == want }) {
			t.Errorf("missing: got %v, want %v", e.sum("edge_usage_missing_total"), want)
		}
	}
	ask := func(method, path, body string, header ...string) {
		t.Helper()
		if _, got := call(t, c, method, e.url+path, body, header...); got != strings.ReplaceAll(header[1], "|", "\n") {
			t.Errorf("%s: got %q, want what the provider said", path, got)
		}
	}
	const usage = `"usage":{"prompt_tokens":10,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4}}`
	ask(http.MethodPost, "/up/v1/chat", "{}", "Say", `{"model":"gpt-4o-mini",`+usage+`}`, "Say-Type", typeJSON)
	f("gpt-4o", 6, 4, 3)
	f("gpt-4", 0, 0, 0)
	ask(http.MethodPost, "/v1/chat", `{"model":"gpt-4-turbo"}`, "Say", "data: {\"model\":\"gpt-4o\","+usage+"}||", "Say-Type", typeEvents)
	f("gpt-4", 6, 4, 3) // by the model asked for, since that is known
	ask(http.MethodPost, "/up/v1/chat", "{}", "Say", `{"model":"o3",`+usage+`}`, "Say-Type", typeJSON)
	ask(http.MethodPost, "/up/v1/chat", "{}", "Say", `{`+usage+`}`, "Say-Type", typeJSON)
	f("other", 12, 8, 6)
	missing(0)

	ask(http.MethodPost, "/up/v1/chat", "{}", "Say", `{"a":1}`, "Say-Type", typeJSON)
	missing(1)
	ask(http.MethodPost, "/up/v1/chat", "{}", "Say", "{"+usage+"}", "Say-Type", typeEvents, "Say-Encoding", "br")
	missing(2)
	// Answers that need not say, or tell what was counted before.
	ask(http.MethodGet, "/up/v1/responses/1", "", "Say", "{"+usage+"}", "Say-Type", typeJSON)
	ask(http.MethodPost, "/up/v1/chat", "{}", "Say", "{"+usage+"}", "Say-Type", "text/plain")
	ask(http.MethodPost, "/up/v1/chat", "{}", "Say", "{"+usage+"}", "Say-Type", typeJSON, "Say-Status", "429")
	if got, _ := call(t, c, http.MethodPost, e.url+"/v2/chat", "{}"); got.StatusCode != http.StatusNotFound {
		t.Errorf("got %d", got.StatusCode)
	}
	missing(2)
	f("other", 12, 8, 6)

	// Counters outlive generations.
	if err := e.Reload(with("o3")); err != nil {
		t.Fatal(err)
	}
	ask(http.MethodPost, "/up/v1/chat", "{}", "Say", `{"model":"o3-mini",`+usage+`}`, "Say-Type", typeJSON)
	f("o3", 6, 4, 3)
	f("gpt-4o", 6, 4, 3)
	f("other", 12, 8, 6)
}

// eventually waits for what the proxy does after the caller has its answer.
func eventually(holds func() bool) bool { return settles(patienceOfTests, holds) }

// A stream that broke off counts as far as it has said, which may be nothing.
func TestTokensOfBrokenStreams(t *testing.T) {
	up := provider(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", typeEvents)
		_, _ = io.WriteString(w, "data: {\"usage\":{\"input_tokens\":7,\"output_tokens\":1")
		if strings.HasSuffix(r.URL.Path, "/said") {
			_, _ = io.WriteString(w, "}}\n\n")
		}
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	e := start(t, one(up))
	for _, path := range []string{"/said", "/unsaid"} {
		got, err := client(t).Post(e.url+"/up"+path, "application/json", strings.NewReader("{}")) //nolint:noctx // ends by itself
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(got.Body); err == nil {
			t.Error("a stream that broke off ended cleanly")
		}
		got.Body.Close()
	}
	if !eventually(func() bool { return e.sum("edge_usage_missing_total") == 1 && e.sum("edge_tokens_total") == 8 }) {
		t.Errorf("got %v missing, %v tokens", e.sum("edge_usage_missing_total"), e.sum("edge_tokens_total"))
	}
}
