package proxy_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// listing is an upstream that lists two models and answers everything else with what it was asked for.
func listing(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/v1/models") {
		_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"small","x":1},{"id":"large"}]}`)
		return
	}
	content, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s", r.Method, r.URL, content)
}

// among is a configuration with providers one, two and three, and tokens.
func among(t *testing.T, base string, tokens ...proxy.Token) proxy.Config {
	t.Helper()
	c := one(base)
	p := c.Providers["up"]
	c.Providers = map[string]proxy.Provider{"one": p, "two": p, "three": p}
	c.Auth.Tokens = tokens
	return c
}

func TestCallerUsesOnlyItsProviders(t *testing.T) {
	c := among(t, provider(t, listing),
		proxy.Token{Name: "all", Value: "ta"},
		proxy.Token{Name: "some", Value: "ts", Providers: []string{"two", "one"}},
		proxy.Token{Name: "single", Value: "t1", Providers: []string{"three"}})
	c.Routes = []proxy.Route{{Path: "/own/*", Provider: "three"}, {Path: "/mine/*", Provider: "one"}, {Path: "/v1/own/*", Provider: "three"}}
	e := start(t, c)
	web := client(t)
	f := func(token, method, path, body string, status int, words ...string) {
		t.Helper()
		got, text := call(t, web, method, e.url+path, body, "Authorization", "Bearer "+token)
		if status == http.StatusOK && got.StatusCode != status {
			t.Errorf("%s %s: got %d %s", token, path, got.StatusCode, text)
		} else if status != http.StatusOK {
			refused(t, got, text, status, map[int]string{403: "forbidden", 404: "not_found", 400: "unknown_model"}[status])
		}
		for _, word := range words {
			if without, not := strings.CutPrefix(word, "!"); strings.Contains(text, without) == not {
				t.Errorf("%s %s: %s: %q", token, path, text, word)
			}
		}
	}
	f("ta", "POST", "/three/x", "a", 200, "POST /x a")
	f("ts", "POST", "/one/x", "a", 200)
	f("ts", "POST", "/three/x", "a", 403, "may use one, two")
	f("ts", "POST", "/own/x", "a", 403, "may use one, two")
	f("t1", "POST", "/own/x", "a", 200)
	f("ts", "POST", "/v1/chat", `{"model":"one/m"}`, 200, `"m"`)
	f("ts", "POST", "/v1/chat", `{"model":"three/m"}`, 403, "may use one, two")
	f("ts", "POST", "/v1/own/chat", `{"model":"m"}`, 403, "may use one, two")
	f("ts", "POST", "/v1/own/chat", `{"model":"two/m"}`, 200)
	f("ts", "POST", "/v1/chat", `{"model":"m"}`, 400, "one of one, two", "!three")
	f("t1", "POST", "/v1/chat", `{"model":"m"}`, 200, `"m"`) // it has but one
	f("ta", "POST", "/v1/chat", `{"model":"m"}`, 400, "three")
	f("ts", "GET", "/nowhere", "", 404, "/one/*", "/two/*", "/mine/*", "!/three/*", "!/own/*")
	f("t1", "GET", "/nowhere", "", 404, "/three/*", "/own/*", "!/one/*", "!/mine/*")
	f("ts", "GET", "/v1/models", "", 200, "one/small", "two/large", "!three")
	f("t1", "GET", "/v1/models", "", 200, `{"object":"list","data":[{"id":"small","x":1},{"id":"large"}]}`)
	if got := e.sum("edge_caller_refused_total", `caller="some"`); got != 6 {
		t.Errorf("edge_caller_refused_total: got %v, want 6", got)
	}
	if got := e.sum("edge_caller_refused_total", `caller="single"`); got != 1 {
		t.Errorf("edge_caller_refused_total: got %v, want 1", got)
	}
}

// Before anything of the content is read, where the path names the provider.
func TestForbiddenProviderIsRefusedUnread(t *testing.T) {
	e := start(t, among(t, provider(t, listing), proxy.Token{Value: "t1", Providers: []string{"one"}}))
	_, reader := raw(t, e.url, "POST /two/x HTTP/1.1\r\nHost: e\r\nX-Api-Key: t1\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
	got, text := next(t, reader)
	refused(t, got, text, http.StatusForbidden, "forbidden")
}

func TestCallerAsksOnlyForItsModels(t *testing.T) {
	c := among(t, provider(t, listing),
		proxy.Token{Name: "kid", Value: "tk", Models: []string{"small", "two/large", "three/gpt-*"}},
		proxy.Token{Name: "gem", Value: "tg", Models: []string{"gem-*", "deep"}})
	for name, dialect := range map[string]string{"gemini": "gemini", "azure": "azure"} {
		p := c.Providers["one"]
		p.Dialect = dialect
		if dialect == "azure" {
			p.Deployments = map[string]string{"deep": "my-deep"}
		}
		c.Providers[name] = p
	}
	e := start(t, c)
	web := client(t)
	f := func(token, path, body string, status int) {
		t.Helper()
		method := "POST"
		if body == "" {
			method = "GET"
		}
		got, text := call(t, web, method, e.url+path, body, "X-Api-Key", token)
		if status == http.StatusForbidden {
			refused(t, got, text, status, "forbidden")
		} else if got.StatusCode != status {
			t.Errorf("%s: got %d %s, want %d", path, got.StatusCode, text, status)
		}
	}
	long := strings.Repeat(" ", 100<<10)
	for _, in := range []string{"/v1/chat", "/one/chat"} {
		prefix := map[string]string{"/v1/chat": "one/"}[in]
		f("tk", in, `{"model":"`+prefix+`small"}`, 200)
		f("tk", in, `{`+long+`"model":"`+prefix+`small"}`, 200)
		f("tk", in, `{"model":"`+prefix+`large"}`, 403)
		f("tk", in, `{`+long+`"model":"`+prefix+`large"}`, 403)
		f("tk", in, `{"model":"`+prefix+`smaller"}`, 403)
	}
	f("tk", "/v1/chat", `{"model":"two/large"}`, 200)
	f("tk", "/two/chat", `{"model":"large"}`, 200)
	f("tk", "/v1/chat", `{"model":"three/gpt-4"}`, 200)
	f("tk", "/two/chat", `{"model":"gpt-4"}`, 403)
	f("tk", "/one/chat", `{"no":"model"}`, 403)
	f("tk", "/one/chat", `no JSON`, 403)
	f("tk", "/one/chat", `{"model":"small","model":"large"}`, 403)
	f("tk", "/one/chat", `{"model":["small"]}`, 403)
	f("tk", "/v1/chat", `{"model":"one/small","model":"one/large"}`, 400)
	f("tk", "/one/models", "", 200)

	f("tg", "/gemini/v1beta/models/gem-1:generateContent", `{"contents":[]}`, 200)
	f("tg", "/gemini/v1beta/models/gem-1:generateContent?alt=sse", `{"model":"other"}`, 200) // the path decides there
	f("tg", "/gemini/v1beta/models/pro:generateContent", `{"contents":[]}`, 403)
	f("tg", "/gemini/v1beta/models/gem-1:x/models/pro:generateContent", `{"contents":[]}`, 403)
	f("tg", "/gemini/v1beta/models/gem-1:x/../pro:generateContent", `{"contents":[]}`, 403)
	f("tg", "/gemini/v1beta/models/gem-1%2f..%2fpro:generateContent", `{"contents":[]}`, 403)
	f("tg", "/gemini/v1beta//models/gem-1:generateContent", `{"contents":[]}`, 403)
	f("tg", "/gemini/v1beta/Models/pro:generateContent", `{"model":"gem-1"}`, 403)
	f("tg", "/gemini/v1beta/openai/chat/completions", `{"model":"gem-1"}`, 200)
	f("tg", "/gemini/v1beta/openai/chat/completions", `{"model":"pro"}`, 403)
	f("tg", "/gemini/v1beta/models", "", 200)
	f("tg", "/azure/openai/deployments/gem-x/chat/completions?api-version=1", `{"messages":[]}`, 200)
	f("tg", "/azure/openai/deployments/my-deep/chat/completions", `{"messages":[]}`, 200)
	f("tg", "/azure/openai/deployments/pro/chat/completions", `{"model":"gem-x"}`, 403)
	f("tg", "/azure/openai/Deployments/pro/chat/completions", `{"model":"gem-x"}`, 403)
	f("tg", "/azure/openai/deployments/pro/chat/completions", "", 403)
	f("tg", "/azure/openai/v1/chat/completions", `{"model":"gem-x"}`, 200)
	f("tg", "/azure/openai/v1/chat/completions", `{"model":"pro"}`, 403)

	got, text := call(t, web, "GET", e.url+"/v1/models", "", "X-Api-Key", "tk")
	var list struct{ Data []struct{ ID string } }
	if err := json.Unmarshal([]byte(text), &list); err != nil || got.StatusCode != http.StatusOK {
		t.Fatalf("got %d %s", got.StatusCode, text)
	}
	seen := ""
	for _, model := range list.Data {
		seen += model.ID + " "
	}
	if want := "azure/small one/small three/small two/small two/large "; seen != want {
		t.Errorf("GET /v1/models: got %q, want %q", seen, want)
	}
}

// A WebSocket carries what Edge does not see; its model is in the query.
func TestUpgradeOfCallerWithModelsNamesItInTheQuery(t *testing.T) {
	e := start(t, among(t, provider(t, listing), proxy.Token{Value: "t1", Models: []string{"small"}}))
	f := func(query string, status int) {
		t.Helper()
		_, reader := raw(t, e.url, "GET /one/v1/realtime"+query+" HTTP/1.1\r\nHost: e\r\nX-Api-Key: t1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		if got, text := next(t, reader); got.StatusCode != status {
			t.Errorf("%q: got %d %s, want %d", query, got.StatusCode, text, status)
		}
	}
	f("?model=small", 200)
	f("?model=large", 403)
	f("?model=small&model=large", 403)
	f("", 403)
}

// Models are listed without prefix when the caller has one provider.
func TestModelListOfCallerWithModelsAndOneProvider(t *testing.T) {
	e := start(t, among(t, provider(t, listing), proxy.Token{Value: "t1", Providers: []string{"two"}, Models: []string{"two/sm*"}}))
	_, text := call(t, client(t), "GET", e.url+"/v1/models", "", "X-Api-Key", "t1")
	if want := `{"object":"list","data":[{"id":"small","x":1}]}`; text != want {
		t.Errorf("got %s, want %s", text, want)
	}
}

// logLines collects what is logged.
type logLines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestLogSaysWhoCalls(t *testing.T) {
	var log logLines
	c := among(t, provider(t, listing), proxy.Token{Name: "alice", Value: "secret-a"}, proxy.Token{Value: "secret-b"})
	c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	e := start(t, c)
	web := client(t)
	call(t, web, "GET", e.url+"/one/x", "", "X-Api-Key", "secret-a")
	call(t, web, "GET", e.url+"/one/x?key=secret-b", "")
	call(t, web, "GET", e.url+"/one/x", "", "X-Api-Key", "wrong")
	for _, want := range []string{" token=alice ", " token=token-1 ", ` token="" `} {
		if !settles(5*time.Second, func() bool { return strings.Contains(log.String(), want) }) {
			t.Errorf("no %s in %s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "secret") {
		t.Error("a token's value is in the log")
	}
}
