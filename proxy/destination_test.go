package proxy

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// asking is an exchange that has come as far as its provider is known and its content held.
func asking(t *testing.T, c Config, target, contentType, content string) (*exchange, error) {
	t.Helper()
	c.InitialPoolSize, c.Logger = 2, slog.New(slog.DiscardHandler)
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	method, body := http.MethodGet, io.Reader(nil)
	if content != "" {
		method, body = http.MethodPost, strings.NewReader(content)
	}
	r := httptest.NewRequestWithContext(t.Context(), method, target, body)
	r.Header.Set("Content-Type", contentType)
	a := arrival{p: p, gen: p.current.Load(), r: r}
	if err := a.look(); err != nil {
		t.Fatal(err)
	}
	x := p.begin(httptest.NewRecorder(), &a, nil, false)
	t.Cleanup(func() {
		p.finish(x)
		if left := p.buffered.Load(); left != 0 {
			t.Errorf("%d bytes are left over", left)
		}
		_ = p.Close()
	})
	if err := x.resolve(); err != nil {
		return x, err
	}
	return x, x.hold()
}

// alike is a configuration of providers that speak like OpenAI, azure with and without a version among them.
func alike(change ...func(map[string]Provider)) Config {
	c := Config{Providers: map[string]Provider{
		"a": {BaseURL: "http://a", Fallbacks: []string{"b", "c/m2", "a/m3", "azure"}},
		"b": {BaseURL: "http://b"}, "c": {BaseURL: "http://c"},
		"azure":  {BaseURL: "http://azure", Deployments: map[string]string{"m": "my-m", "dots": "x"}},
		"azure2": {BaseURL: "http://azure2", Dialect: "azure", APIVersion: "2026-01-01", Deployments: map[string]string{"m": "dep.m"}},
	}}
	for _, do := range change {
		do(c.Providers)
	}
	return c
}

// to is a destination as it is configured.
func (x *exchange) to(text string) destination {
	return destinations([]string{text}, x.gen.endpoints)[0]
}

// wanted is what the provider would get: its name, the target, and the content.
func (x *exchange) wanted(t *testing.T) string {
	t.Helper()
	got := x.end.name + " " + x.targetFor() + " "
	b := x.content()
	if b == nil {
		return got
	}
	reader := b.reader()
	defer reader.Close()
	content, err := io.ReadAll(reader)
	if err != nil || int64(len(content)) != x.declaredLength() {
		t.Errorf("got %d bytes of %d, %v", len(content), x.declaredLength(), err)
	}
	return got + string(content)
}

const typeJSON = "application/json"

func TestAddress(t *testing.T) {
	f := func(target, content, to, want string) {
		t.Helper()
		x, err := asking(t, alike(), target, typeJSON, content)
		if err != nil {
			t.Fatal(err)
		}
		first := x.wanted(t)
		for range 2 { // and back: as a later attempt
			if err := x.address(x.to(to)); err != nil {
				t.Fatalf("%s to %s: %v", content, to, err)
			}
			if got := x.wanted(t); got != want {
				t.Errorf("%s to %s:\n got %s\nwant %s", content, to, got, want)
			}
			if err := x.address(x.to("a")); err != nil {
				t.Fatal(err)
			}
			if got := x.wanted(t); got != first {
				t.Errorf("%s to %s and back:\n got %s\nwant %s", content, to, got, first)
			}
		}
	}
	const v1, own = "/v1/chat/completions", "/a/v1/chat/completions"
	f(v1, `{"model":"a/m","fallbacks":["b/n"],"n":1}`, "b", "b "+v1+` {"model":"m","n":1}`)
	f(v1, `{"model":"a/m","fallbacks":["b/n"],"n":1}`, "b/m", "b "+v1+` {"model":"m","n":1}`)
	f(v1, `{"model":"a/m","fallbacks":["b/n"],"n":1}`, "b/n", "b "+v1+` {"model":"n","n":1}`)
	f(v1, `{"fallbacks":["b/n"],"model": "\u0061\/m\u0020" }`, "b", "b "+v1+` {"model": "m\u0020" }`)
	f(v1, `{"fallbacks":["b/n"],"model": "\u0061\/m\u0020" }`, "b/m ", "b "+v1+` {"model": "m\u0020" }`)
	f(v1, `{"model":"a/m"}`, `b/"quoted\/é`+"\n\x01\u2028", "b "+v1+` {"model":"\"quoted\\/é\n\u0001\u2028"}`)
	f(v1, `{"model":"a/m"}`, "c/"+strings.Repeat("long", 10000), "c "+v1+` {"model":"`+strings.Repeat("long", 10000)+`"}`)
	f(v1, `{"model":"a/"}`, "b/n", "b "+v1+` {"model":"n"}`)
	f(v1, `{"model":"a/m"}`, "azure", `azure /openai/v1/chat/completions {"model":"my-m"}`)
	f(v1, `{"model":"a/m"}`, "azure/other", `azure /openai/v1/chat/completions {"model":"other"}`)
	f(v1, `{"model":"a/m"}`, "azure2", `azure2 /openai/deployments/dep.m/chat/completions?api-version=2026-01-01 {"model":"m"}`)
	f(v1, `{"model":"a/m"}`, "azure2/n", `azure2 /openai/deployments/n/chat/completions?api-version=2026-01-01 {"model":"n"}`)
	long := strings.Repeat("x", 50<<10)
	f(v1, `{"p":"`+long+`","model":"a/m","q":"`+long+`","fallbacks":[]}`, "b/n", "b "+v1+` {"p":"`+long+`","model":"n","q":"`+long+`"}`)

	// On a provider's path all bytes stay, but for those of a model that is another.
	f(own, `{"model":"a/m","fallbacks":7}`, "b", "b "+v1+` {"model":"a/m","fallbacks":7}`)
	f(own, `{"fallbacks":[1],"fallbacks":2,"model":"m"}`, "b/n", "b "+v1+` {"fallbacks":[1],"fallbacks":2,"model":"n"}`)
	f(own, `{"model":"b/m"}`, "b/b/m", "b "+v1+` {"model":"b/m"}`)
	f(own, `not JSON`, "b", "b "+v1+` not JSON`)
	f(own, `not JSON`, "azure", "azure /openai/v1/chat/completions not JSON")
	f(own, `{"model":"m"}`, "azure", `azure /openai/v1/chat/completions {"model":"my-m"}`)
	f(own, `{"model":"m"}`, "azure2", `azure2 /openai/deployments/dep.m/chat/completions?api-version=2026-01-01 {"model":"m"}`)
	f(own, `{}`, "azure2/m", `azure2 /openai/deployments/dep.m/chat/completions?api-version=2026-01-01 {}`)
	f(own, ``, "b", "b "+v1+" ")
}

func TestAddressThatCannotBe(t *testing.T) {
	f := func(target, contentType, content, to, words string, kind error) {
		t.Helper()
		x, err := asking(t, alike(), target, contentType, content)
		if err != nil {
			t.Fatal(err)
		}
		before := x.wanted(t) + x.model
		err = x.address(x.to(to))
		if !errors.Is(err, kind) || err.Error() != words {
			t.Errorf("%s to %s:\n got %v\nwant %s", content, to, err, words)
		}
		if after := x.wanted(t) + x.model; after != before {
			t.Errorf("%s to %s: got %s, want it as before, %s", content, to, after, before)
		}
	}
	f("/a/x", "", "hello", "b/n", `the fallback "b/n" cannot be asked: the body is not JSON: unexpected 'h' at byte 0`, errBadRequest)
	f("/a/x", "", `["n"]`, "b/n", `the fallback "b/n" cannot be asked: the body is not a JSON object: it begins with '[' at byte 0`, errBadRequest)
	f("/a/x", typeJSON, `{"model":7}`, "b/n", `the fallback "b/n" cannot be asked: "model" is not a string: it begins with '7' at byte 9`, errBadRequest)
	f("/a/x", typeJSON, `{"Model":"m"}`, "b/n", `the fallback "b/n" cannot be asked: the content names no model`, errBadRequest)
	f("/a/x", "", "", "b/n", `the fallback "b/n" cannot be asked: the request has no content`, errBadRequest)
	f("/a/v1/embeddings", typeJSON, `{"model":".."}`, "azure2", `the model ".." cannot be the name of a deployment`, errUnknownModel)
	f("/v1/embeddings", typeJSON, `{"model":"a/x"}`, "azure2/.", `the model "." cannot be the name of a deployment`, errUnknownModel)

	x, err := asking(t, alike(), "/a/x", typeJSON, `{"model":"m","p":"`+strings.Repeat("x", 17<<10)+`"}`)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.address(x.to("b/n")); err == nil || err.Error() != `the fallback "b/n" cannot be asked: the content is not held` {
		t.Errorf("content that is not held: got %v", err)
	}
	if err := x.receive(x.content(), 1<<20, nil); err != nil {
		t.Fatal(err)
	}
	if err := x.address(x.to("b/n")); err != nil || !strings.HasPrefix(x.wanted(t), `b /x {"model":"n"`) {
		t.Errorf("once it is held: got %v", err)
	}
}

func TestAlternatives(t *testing.T) {
	f := func(target, content, want string) {
		t.Helper()
		x, err := asking(t, alike(), target, typeJSON, content)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(x.alternatives()); got != want {
			t.Errorf("%s %s: got %s, want %s", target, content, got, want)
		}
	}
	f("/v1/x", `{"model":"a/m"}`, "[b c/m2 a/m3 azure]")
	f("/v1/x", `{"model":"a/m3"}`, "[b c/m2 azure]")
	f("/v1/x", `{"model":"b/m"}`, "[]")
	f("/v1/x", `{"model":"a/m","fallbacks":[]}`, "[]")
	f("/v1/x", `{"model":"a/m","fallbacks":["c/x","a/m","b/m","c/x",{"provider":"a","model":"n/o"},"azure2/m"]}`, "[c/x b/m a/n/o azure2/m]")
	f("/a/x", `{"model":"a/m3","fallbacks":["c/x"]}`, "[b c/m2 a/m3 azure]")
	f("/b/x", `{"model":"a/m","fallbacks":["c/x"]}`, "[]")
	f("/a/x", ``, "[b c/m2 a/m3 azure]")
}

// The targets that one provider's path has at another.
func TestTargetsOfAzure(t *testing.T) {
	f := func(target, content, to, want string) {
		t.Helper()
		c := alike(func(p map[string]Provider) { p["azure3"] = p["azure2"] })
		x, err := asking(t, c, target, typeJSON, content)
		if err != nil {
			t.Fatal(err)
		}
		if err := x.address(x.to(to)); err != nil {
			t.Fatal(err)
		}
		if got := x.targetFor(); got != want {
			t.Errorf("%s to %s: got %s, want %s", target, to, got, want)
		}
	}
	const m = `{"model":"m"}`
	f("/azure/openai/v1/embeddings?x=%zz", m, "a", "/v1/embeddings?x=%zz")
	f("/azure/openai/deployments/d/embeddings?x=1&api-version=9&y", m, "a", "/v1/embeddings?x=1&y")
	f("/azure/openai/deployments/d/embeddings?%61PI-version=9", m, "a", "/v1/embeddings")
	f("/azure/openai/deployments/d", m, "a", "/openai/deployments/d")
	f("/azure/openai/responses?api-version=9", m, "a", "/openai/responses?api-version=9")
	f("/azure/openai/deployments/d/embeddings?api-version=9", `{}`, "azure2", "/openai/deployments/d/embeddings?api-version=9")
	f("/azure/openai/deployments/d/embeddings?api-version=9", m, "azure2", "/openai/deployments/dep.m/embeddings?api-version=2026-01-01")
	f("/azure2/openai/deployments/d/embeddings?api-version=9&b=1", m, "azure", "/openai/v1/embeddings?b=1")
	f("/azure2/v1/embeddings", m, "azure3", "/openai/deployments/dep.m/embeddings?api-version=2026-01-01")
	f("/a/v2/embeddings?a", m, "azure2", "/v2/embeddings?a")
	f("/azure2/openai/deployments/d/embeddings?a", m, "azure2/n", "/openai/deployments/d/embeddings?a") // its own path
	f("/azure2/v1/embeddings?a", m, "azure2", "/v1/embeddings?a")
}

func TestEndpointsHaveTheirFallbacks(t *testing.T) {
	x, err := asking(t, alike(), "/a/x", "", "")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for name, end := range x.gen.endpoints {
		for _, to := range end.fallbacks {
			if to.end != x.gen.endpoints[to.end.name] {
				t.Errorf("%s: %s is of another generation", name, to)
			}
		}
		got[name] = fmt.Sprint(end.fallbacks)
	}
	if want := map[string]string{"a": "[b c/m2 a/m3 azure]", "b": "[]", "c": "[]", "azure": "[]", "azure2": "[]"}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
