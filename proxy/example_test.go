package proxy_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/edge-proxy/edge/proxy"
)

// vault is a proxy.KeySource: the key of each provider by its name.
type vault map[string]proxy.Secret

func (v vault) Key(provider, _ string) (proxy.Secret, error) { return v[provider], nil }

// repeatCall is a provider that answers with what it was asked.
func repeatCall(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintln(w, r.Method, r.URL.Path, "with", r.Header.Get("Authorization"))
}

func ExampleNew() {
	upstream := httptest.NewServer(http.HandlerFunc(repeatCall))
	defer upstream.Close()
	p, err := proxy.New(proxy.Config{
		InitialPoolSize:    100,
		DropExcessRequests: true,
		Providers:          map[string]proxy.Provider{"local": {BaseURL: upstream.URL, Concurrency: 5, BufferSize: 50}},
		Keys:               vault{"local": "sk-local"},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	answer := httptest.NewRecorder() // p is an http.Handler; p.Server gives it a server
	p.ServeHTTP(answer, httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/local/v1/models", nil))
	fmt.Print(answer.Code, " ", answer.Body)
	// Output: 200 GET /v1/models with Bearer sk-local
}
