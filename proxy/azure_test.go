package proxy_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/proxy"
)

// azured is a configuration with providers that are Azure: old by deployments, new by /openai/v1.
func azured(t *testing.T, change ...func(*proxy.Config)) proxy.Config {
	t.Helper()
	return several(t, append([]func(*proxy.Config){func(c *proxy.Config) {
		for name, version := range map[string]string{"old": "2024-10-21", "new": ""} {
			p := proxy.DefaultProvider()
			p.BaseURL, p.Dialect, p.APIVersion = provider(t, echo(name)), "azure", version
			p.Keys = []proxy.Key{{Value: "key", Weight: 1}}
			p.Deployments = map[string]string{"gpt-4o": "our-gpt", "gpt-4": "a.b"}
			c.Providers[name] = p
		}
	}}, change...)...)
}

func TestAzureIsAskedByItsOwnPaths(t *testing.T) {
	e := start(t, azured(t))
	c := client(t)
	f := func(target, body, want string) {
		t.Helper()
		if got, text := send(t, c, e.url+target, body, false); got.StatusCode != http.StatusOK || text != want {
			t.Errorf("%s %s:\n got %d %s\nwant %s", target, body, got.StatusCode, text, want)
		}
	}
	const old, chat = "old POST /openai/deployments/", "/chat/completions?api-version=2024-10-21|Api-Key: key|"
	f("/v1/chat/completions", `{"model":"old/gpt-4o"}`, old+"our-gpt"+chat+`{"model":"gpt-4o"}`)
	f("/v1/chat/completions", `{"model":"old/gpt-4","fallbacks":["a/x"]}`, old+"a.b"+chat+`{"model":"gpt-4"}`)
	f("/v1/chat/completions", `{"model":"old/mine"}`, old+"mine"+chat+`{"model":"mine"}`)
	f("/v1/chat/completions", `{"model":"old/a/../?b#%\u00e9 \n"}`, old+"a%2F..%2F%3Fb%23%25%C3%A9%20%0A"+chat+`{"model":"a/../?b#%\u00e9 \n"}`)
	f("/v1/embeddings?a=%zz&key=k&b", `{"model":"old/mine"}`, old+"mine/embeddings?a=%zz&b&api-version=2024-10-21|Api-Key: key|"+`{"model":"mine"}`)
	f("/v1/images/edits?API-version=9", `{"model":"old/mine"}`, old+"mine/images/edits?API-version=9|Api-Key: key|"+`{"model":"mine"}`)
	// What has no path for each deployment has its name in the content.
	f("/v1/responses", `{"model":"old/gpt-4o"}`, `old POST /openai/responses?api-version=2024-10-21|Api-Key: key|{"model":"our-gpt"}`)
	f("/v1/responses?api-version=preview", `{"model":"old/mine"}`, `old POST /openai/responses?api-version=preview|Api-Key: key|{"model":"mine"}`)

	f("/v1/chat/completions", `{"n":1,"model":"new/gpt-4o"}`, `new POST /openai/v1/chat/completions|Api-Key: key|{"n":1,"model":"our-gpt"}`)
	f("/v1/chat/completions?a=%zz", `{"model":"new/mine"}`, `new POST /openai/v1/chat/completions?a=%zz|Api-Key: key|{"model":"mine"}`)

	// By its own path a provider gets what the caller wrote.
	f("/old/v1/chat/completions?x", `{"model":"gpt-4o"}`, `old POST /v1/chat/completions?x|Api-Key: key|{"model":"gpt-4o"}`)
	f("/old/openai/deployments/d/x?api-version=1", `{"model":"gpt-4o"}`, `old POST /openai/deployments/d/x?api-version=1|Api-Key: key|{"model":"gpt-4o"}`)
	f("/new/openai/v1/x", `{"model":"gpt-4o"}`, `new POST /openai/v1/x|Api-Key: key|{"model":"gpt-4o"}`)

	got, text := send(t, c, e.url+"/v1/chat/completions", `{"model":"old/.."}`, false)
	refused(t, got, text, http.StatusBadRequest, "unknown_model")
	if !strings.Contains(text, `the model \"..\" cannot be the name of a deployment`) {
		t.Errorf("got %s", text)
	}
}

func TestAzureAlone(t *testing.T) {
	f := func(version, method, target, contentType, body, want string) {
		t.Helper()
		e := start(t, one(provider(t, echo("up")), func(_ *proxy.Config, p *proxy.Provider) { p.Dialect, p.APIVersion = "azure", version }))
		if got, text := call(t, client(t), method, e.url+target, body, "Content-Type", contentType); text != want {
			t.Errorf("%s: got %d %s, want %s", target, got.StatusCode, text, want)
		}
	}
	const version = "2024-10-21"
	f(version, "GET", "/v1/models", "", "", "up GET /openai/models?api-version=2024-10-21|")
	f("", "GET", "/v1/models", "", "", "up GET /openai/v1/models|")
	f(version, "POST", "/v1/files", "multipart/form-data; boundary=x", "--x\r\n", "up POST /openai/files?api-version=2024-10-21|--x\r\n")
	f(version, "POST", "/v1/embeddings", "application/json", `{"model":"m"}`, `up POST /openai/deployments/m/embeddings?api-version=2024-10-21|{"model":"m"}`)
	f("", "POST", "/v1/embeddings", "application/json", `{"model":"m"}`, `up POST /openai/v1/embeddings|{"model":"m"}`)
}

// A route of the configuration names its provider, so that gets the targets as they are; below /v1 the model does.
func TestAzureOnConfiguredRoutes(t *testing.T) {
	e := start(t, azured(t, func(c *proxy.Config) {
		c.Routes = []proxy.Route{{Path: "/v1/*", Provider: "old"}, {Path: "/mine/*", StripPrefix: "/mine", Provider: "old"}}
	}))
	f := func(target, body, want string) {
		t.Helper()
		if got, text := send(t, client(t), e.url+target, body, false); text != want {
			t.Errorf("%s: got %d %s, want %s", target, got.StatusCode, text, want)
		}
	}
	f("/v1/embeddings", `{"model":"gpt-4o"}`, `old POST /openai/deployments/our-gpt/embeddings?api-version=2024-10-21|Api-Key: key|{"model":"gpt-4o"}`)
	f("/v1/embeddings", `{"model":"a/gpt-4o"}`, `a 0 /v1/embeddings|{"model":"gpt-4o"}`)
	f("/mine/v1/embeddings", `{"model":"gpt-4o"}`, `old POST /v1/embeddings|Api-Key: key|{"model":"gpt-4o"}`)
}
