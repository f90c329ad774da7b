package proxy_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/proxy"
)

// echo answers with what it got: its name, the target, some fields and the body.
func echo(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprintf(w, "%s %s %s|", name, r.Method, r.RequestURI)
		for _, field := range []string{"Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key"} {
			if value := r.Header.Get(field); value != "" {
				fmt.Fprintf(w, "%s: %s|", field, value)
			}
		}
		_, _ = w.Write(body)
	}
}

// two is a configuration with an OpenAI-like provider called a and an Anthropic-like one, both with keys.
func two(t *testing.T, change ...func(*proxy.Config)) proxy.Config {
	c := proxy.DefaultConfig()
	c.InitialPoolSize = 16
	a, b := proxy.DefaultProvider(), proxy.DefaultProvider()
	a.BaseURL, b.BaseURL = provider(t, echo("a")), provider(t, echo("b"))
	a.Keys, b.Keys = []proxy.Key{{Value: "key-a", Weight: 1}}, []proxy.Key{{Value: "key-b", Weight: 1}}
	c.Providers = map[string]proxy.Provider{"a": a, "anthropic": b}
	for _, do := range change {
		do(&c)
	}
	return c
}

func TestModelNamesTheProvider(t *testing.T) {
	e := start(t, two(t))
	c := client(t)
	f := func(target, contentType, body, want string) {
		t.Helper()
		answer, got := call(t, c, "POST", e.url+target, body, "Content-Type", contentType)
		if answer.StatusCode != http.StatusOK || got != want {
			t.Errorf("%s %s: got %d %q, want %q", target, body, answer.StatusCode, got, want)
		}
	}
	const j = "application/json"
	f("/v1/chat/completions?x=%zz", j, `{"model":"a/gpt-4o","n":1}`, `a POST /v1/chat/completions?x=%zz|Authorization: Bearer key-a|{"model":"gpt-4o","n":1}`)
	f("/v1/messages", j, `{"n": [{"model":"a/x"}],  "model" : "anthropic\/cla\u0075de"  }`, `b POST /v1/messages|X-Api-Key: key-b|{"n": [{"model":"a/x"}],  "model" : "cla\u0075de"  }`)
	f("/v1/x", j, `{"model":"a/deep/er"}`, `a POST /v1/x|Authorization: Bearer key-a|{"model":"deep/er"}`)
	f("/v1/x", "application/x-www-form-urlencoded", ` {"model":"a/m"}`, `a POST /v1/x|Authorization: Bearer key-a| {"model":"m"}`)
	f("/v1/x", "application/vnd.api+json; charset=utf-8", `{"model":"a/"}`, `a POST /v1/x|Authorization: Bearer key-a|{"model":""}`)
	pad := strings.Repeat("x", 70000)
	f("/v1/x", j, `{"p":"`+pad+`","model":"a/m"}`, `a POST /v1/x|Authorization: Bearer key-a|{"p":"`+pad+`","model":"m"}`)
	f("/v1/x", j, `{"model":"a/m","p":"`+pad+`"}`, `a POST /v1/x|Authorization: Bearer key-a|{"model":"m","p":"`+pad+`"}`)
	for _, at := range []int{16<<10 - 9, 16<<10 - 8, 16<<10 - 7, 16<<10 - 10, 16<<10 - 11, 32<<10 - 9} { // the prefix lies across two blocks
		p := strings.Repeat("y", at-len(`{"p":"`)-len(`","model":"`))
		f("/v1/x", j, `{"p":"`+p+`","model":"anthropic/m"}`, `b POST /v1/x|X-Api-Key: key-b|{"p":"`+p+`","model":"m"}`)
	}
}

func TestModelThatNamesNoProvider(t *testing.T) {
	e := start(t, two(t))
	f := func(contentType, body string, status int, code, words string) {
		t.Helper()
		answer, got := call(t, client(t), "POST", e.url+"/v1/x", body, "Content-Type", contentType)
		refused(t, answer, got, status, code)
		if !strings.Contains(got, words) {
			t.Errorf("%s: got %s, want %q in it", body, got, words)
		}
	}
	const j = "application/json"
	f(j, `{"model":"gpt-4o"}`, 400, "unknown_model", "one of a, anthropic")
	f(j, `{"model":"nobody/gpt\n\u0000"}`, 400, "unknown_model", `nobody/gpt??`)
	f(j, `{}`, 400, "unknown_model", "one of a, anthropic")
	f("text/plain", `hello`, 400, "unknown_model", "one of a, anthropic")
	f(j, `{"model":"a/x"`, 400, "bad_request", "not JSON")
	f(j, `hello`, 400, "bad_request", "not JSON")
	f(j, `{"model":"a/x","mod\u0065l":"a/y"}`, 400, "bad_request", "second")
	f(j, `{"model":7}`, 400, "bad_request", "model")
	f(j, `["a/x"]`, 400, "bad_request", "object")
}

func TestOnlyProviderTakesBareModels(t *testing.T) {
	e := start(t, one(provider(t, echo("up"))))
	f := func(contentType, body, want string) {
		t.Helper()
		if answer, got := call(t, client(t), "POST", e.url+"/v1/x", body, "Content-Type", contentType); got != "up POST /v1/x|"+want {
			t.Errorf("%s: got %d %q", body, answer.StatusCode, got)
		}
	}
	f("application/json", `{"model":"gpt-4o"}`, `{"model":"gpt-4o"}`)
	f("application/json", `{"model":"meta/llama"}`, `{"model":"meta/llama"}`)
	f("application/json", `{"model":"up/meta/llama"}`, `{"model":"meta/llama"}`)
	f("multipart/form-data; boundary=x", "--x\r\n", "--x\r\n")
	f("", `{"half`, `{"half`)
	if answer, got := call(t, client(t), "GET", e.url+"/v1/models?x", ""); got != "up GET /v1/models?x|" {
		t.Errorf("got %d %q", answer.StatusCode, got)
	}
}

func TestConfiguredRoutes(t *testing.T) {
	e := start(t, two(t, func(c *proxy.Config) {
		c.Routes = []proxy.Route{
			{Path: "/chat/*", StripPrefix: "/chat", Provider: "a"},
			{Path: "/chat/exact", Provider: "anthropic"},
			{Path: "/v1/*", Provider: "anthropic"},
			{Host: "other.example", Path: "/*", Provider: "a"},
			{Path: "/a/v1/special", Provider: "anthropic"},
		}
	}))
	f := func(host, target, body, want string) {
		t.Helper()
		request, _ := http.NewRequestWithContext(t.Context(), "POST", e.url+target, strings.NewReader(body))
		request.Host = host
		request.Header.Set("Content-Type", "application/json")
		answer, err := client(t).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if got, _ := io.ReadAll(answer.Body); !strings.HasPrefix(string(got), want+"|") {
			t.Errorf("%s%s: got %d %q, want %q", host, target, answer.StatusCode, got, want)
		}
	}
	f("x", "/chat/y?z=%2f", "", "a POST /y?z=%2f")
	f("x", "/chat", "", "a POST /")
	f("x", "/chat/exact", "", "b POST /chat/exact")
	f("x", "/chat/exact/er", "", "a POST /exact/er")
	f("x", "/a/v1/special", "", "b POST /a/v1/special")
	f("x", "/a/v1/other", "", "a POST /v1/other")
	f("x", "/v1/y", `{"model":"bare"}`, "b POST /v1/y")
	f("x", "/v1/y", `{"model":"a/m"}`, "a POST /v1/y")
	f("OTHER.example:80", "/anything", "", "a POST /anything")
	f("other.example", "/anthropic/x", "", "b POST /x")
	answer, got := call(t, client(t), "GET", e.url+"/anything", "")
	refused(t, answer, got, http.StatusNotFound, "not_found")
	if !strings.Contains(got, "/chat/*") || !strings.Contains(got, "/anthropic/*") {
		t.Errorf("got %s, want the routes in it", got)
	}
}

func TestCallersCredentials(t *testing.T) {
	e := start(t, two(t, func(c *proxy.Config) {
		c.Auth.Tokens = []proxy.Token{{Value: "first"}, {Value: "tok"}}
		open := c.Providers["a"]
		open.Keys = nil
		c.Providers["own"] = open
	}))
	f := func(target string, want string, header ...string) {
		t.Helper()
		answer, got := call(t, client(t), "GET", e.url+target, "", header...)
		if want == "" {
			refused(t, answer, got, http.StatusUnauthorized, "unauthorized")
			if answer.Header.Get("Www-Authenticate") != "Bearer" {
				t.Error("no WWW-Authenticate")
			}
		} else if got != want {
			t.Errorf("%s %q: got %d %q, want %q", target, header, answer.StatusCode, got, want)
		}
	}
	const a = "|Authorization: Bearer key-a|"
	f("/a/x", "")
	f("/a/x", "", "Authorization", "Bearer wrong")
	f("/a/x", "", "Authorization", "first")
	f("/a/x", "", "X-Api-Key", "firs")
	f("/a/x?key=nope", "")
	f("/nowhere", "")
	if answer, got := call(t, client(t), "GET", e.url+"/", ""); answer.StatusCode != http.StatusOK || !strings.HasPrefix(got, "Edge") {
		t.Errorf("GET /: got %d %q", answer.StatusCode, got)
	}
	f("/a/x", "a GET /x"+a, "Authorization", "bearer first")
	f("/a/x", "a GET /x"+a, "X-Api-Key", "tok")
	f("/a/x", "a GET /x"+a, "Api-Key", "first")
	f("/a/x?a=%zz&key=first&b", "a GET /x?a=%zz&b"+a)
	f("/a/x?key=first", "a GET /x"+a)
	f("/a/x?key=f%69rst&monkey=1&key=2", "a GET /x?monkey=1"+a)
	f("/anthropic/x", "b GET /x|X-Api-Key: key-b|", "X-Api-Key", "first", "Authorization", "Bearer mine", "Api-Key", "mine")
	// A provider without keys gets what the caller sent, but never the token.
	f("/own/x?key=mine", "a GET /x?key=mine|Authorization: Bearer mine|", "X-Api-Key", "first", "Authorization", "Bearer mine")
	f("/own/x?key=first", "a GET /x|Authorization: Bearer mine|", "Authorization", "Bearer mine")
	f("/own/x", "a GET /x|X-Api-Key: mine|", "Authorization", "Bearer first", "X-Api-Key", "mine")
}

func TestWithoutTokensPagesOfOtherSitesAreRefused(t *testing.T) {
	e := start(t, two(t))
	answer, got := call(t, client(t), "GET", e.url+"/a/x", "", "Sec-Fetch-Site", "cross-site")
	refused(t, answer, got, http.StatusForbidden, "forbidden")
	if _, got := call(t, client(t), "GET", e.url+"/a/x", "", "Sec-Fetch-Site", "same-origin"); !strings.HasPrefix(got, "a GET") {
		t.Errorf("got %s", got)
	}
	open := start(t, two(t, func(c *proxy.Config) { c.Auth.Open = true }))
	if _, got := call(t, client(t), "GET", open.url+"/a/x", "", "Sec-Fetch-Site", "cross-site"); !strings.HasPrefix(got, "a GET") {
		t.Errorf("got %s", got)
	}
	if answer, got := call(t, client(t), "GET", e.url+"/", ""); answer.StatusCode != http.StatusOK || !strings.HasPrefix(got, "Edge") {
		t.Errorf("GET /: got %d %q", answer.StatusCode, got)
	}
}

func TestModelListsAreJoined(t *testing.T) {
	list := func(models string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v1/models" || r.Header.Get("Authorization") == "" {
				w.WriteHeader(http.StatusBadRequest)
			}
			_, _ = io.WriteString(w, models)
		}
	}
	c := proxy.DefaultConfig()
	c.InitialPoolSize = 4
	c.Providers = map[string]proxy.Provider{}
	for name, models := range map[string]string{
		"b": `{"object":"list","data":[{"id":"m1","owned_by":"x"},{"id":"m/2"}]}`, "a": `{"data":[{"id":"m1"}]}`, "broken": `nonsense`,
	} {
		c.Providers[name] = proxy.Provider{BaseURL: provider(t, list(models)), BufferSize: 1, Keys: []proxy.Key{{Value: "k", Weight: 1}}}
	}
	c.Providers["dead"] = proxy.Provider{BaseURL: "http://127.0.0.1:1", BufferSize: 1}
	e := start(t, c)
	answer, body := call(t, client(t), "GET", e.url+"/v1/models", "")
	var got struct {
		Object string
		Data   []struct {
			ID    string `json:"id"`
			Owner string `json:"owned_by"`
		}
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || answer.StatusCode != http.StatusOK || got.Object != "list" {
		t.Fatalf("got %d %s, %v", answer.StatusCode, body, err)
	}
	if s := fmt.Sprint(got.Data); s != "[{a/m1 } {b/m1 x} {b/m/2 }]" {
		t.Errorf("got %s", s)
	}
}

func TestKeysAreChosenByWeightAndModel(t *testing.T) {
	e := start(t, one(provider(t, echo("up")), func(_ *proxy.Config, p *proxy.Provider) {
		p.Keys = []proxy.Key{
			{Value: "often", Weight: 3},
			{Value: "seldom", Weight: 1},
			{Value: "never", Weight: 0},
			{Value: "special", Weight: 1000, Models: []string{"big"}},
		}
	}))
	c := client(t)
	count := map[string]int{}
	for range 400 {
		_, got := call(t, c, "POST", e.url+"/v1/x", `{"model":"small"}`, "Content-Type", "application/json")
		key, _, _ := strings.Cut(strings.TrimPrefix(got, "up POST /v1/x|Authorization: Bearer "), "|")
		count[key]++
	}
	// 400 draws with p = 3/4: outside 240 to 360 once in 10^10 runs.
	if count["often"] < 240 || count["often"] > 360 || count["often"]+count["seldom"] != 400 {
		t.Errorf("got %v, want about 300 often and 100 seldom", count)
	}
	special := 0
	for range 50 {
		if _, got := call(t, c, "POST", e.url+"/v1/x", `{"model":"big"}`, "Content-Type", "application/json"); strings.Contains(got, "special") {
			special++
		}
	}
	if special < 40 {
		t.Errorf("got %d of 50 by the key for big, want nearly all", special)
	}
	even := start(t, one(provider(t, echo("up")), func(_ *proxy.Config, p *proxy.Provider) {
		p.Keys = []proxy.Key{{Value: "this"}, {Value: "that"}}
	}))
	for _, key := range []string{"this", "that"} { // 100 draws with p = 1/2
		found := false
		for range 100 {
			_, got := call(t, c, "GET", even.url+"/up/", "")
			found = found || strings.Contains(got, key)
		}
		if !found {
			t.Errorf("%s was never used", key)
		}
	}
	only := start(t, one(provider(t, echo("up")), func(_ *proxy.Config, p *proxy.Provider) {
		p.Keys = []proxy.Key{{Value: "special", Weight: 1, Models: []string{"big"}}}
	}))
	answer, got := call(t, c, "POST", only.url+"/v1/x", `{"model":"small"}`, "Content-Type", "application/json")
	refused(t, answer, got, http.StatusServiceUnavailable, "provider_unavailable")
}

func TestMemoryForBodiesIsBounded(t *testing.T) {
	release := make(chan struct{})
	e := start(t, one(provider(t, func(w http.ResponseWriter, r *http.Request) {
		<-release
		_, _ = io.Copy(io.Discard, r.Body)
	}), func(c *proxy.Config, p *proxy.Provider) { c.MaxBuffered, p.Concurrency = 150<<10, 1 }))
	defer close(release)
	leave(t, e, t.Context(), "/v1/x", strings.Repeat("x", 100<<10))
	if !settles(2e9, func() bool { return e.sum("edge_in_flight") == 1 }) {
		t.Fatal("the first request did not arrive")
	}
	leave(t, e, t.Context(), "/v1/x", strings.Repeat("x", 100<<10)) // the first may be in the socket's buffers by now
	leave(t, e, t.Context(), "/v1/x", strings.Repeat("x", 100<<10))
	if !settles(2e9, func() bool { return e.sum("edge_rejected_total", `reason="memory"`) >= 1 }) {
		t.Errorf("got %v bytes buffered and nobody refused, want at most %d", e.sum("edge_buffered_bytes"), 150<<10)
	}
	if got := e.sum("edge_buffered_bytes"); got > 150<<10 {
		t.Errorf("got %v bytes buffered, want at most %d", got, 150<<10)
	}
}
