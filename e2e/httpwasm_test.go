package e2e

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/http-wasm/http-wasm-host-go/tck"
)

// TestConformanceKit runs http-wasm's own conformance kit, the guest that it ships included, through a running edge.
func TestConformanceKit(t *testing.T) {
	module := filepath.Join(t.TempDir(), "tck.wasm")
	if err := os.WriteFile(module, tck.GuestWASM, 0o600); err != nil {
		t.Fatal(err)
	}
	backend := tck.StartBackend("")
	t.Cleanup(backend.Close)
	environ := []string{
		"EDGE_AUTH_OPEN=true", "EDGE_PROVIDERS_UP_BASE_URL=" + backend.URL, "EDGE_H2C=true",
		"EDGE_ROUTES_0_PATH=/*", "EDGE_ROUTES_0_PROVIDER=up",
		"EDGE_PLUGINS_0_NAME=tck", "EDGE_PLUGINS_0_PATH=" + module, "EDGE_PLUGINS_0_MAX_INSTANCES=8",
	}
	h2c := &http.Transport{Protocols: new(http.Protocols)}
	h2c.Protocols.SetUnencryptedHTTP2(true)
	for name, transport := range map[string]*http.Transport{"HTTP/1.1": {TLSClientConfig: &tls.Config{}}, "HTTP/2": h2c} {
		for _, where := range []string{"EDGE_PROVIDERS_UP_PLUGINS=tck", "EDGE_ROUTES_0_PLUGINS=tck"} {
			t.Run(name+" "+where, func(t *testing.T) {
				e := start(t, append(environ, where))
				t.Cleanup(transport.CloseIdleConnections)
				// Run calls t.Parallel; in a test of its own it ends before edge does.
				t.Run("kit", func(t *testing.T) { tck.Run(t, &http.Client{Transport: refusesTrace{t, transport}}, e.url) })
			})
		}
	}
}

// refusesTrace stands before edge where the kit asks for what edge will not do: TRACE would show a caller the provider's
// key. It checks that edge refuses, and answers as the kit wants.
type refusesTrace struct {
	t *testing.T
	http.RoundTripper
}

func (r refusesTrace) RoundTrip(request *http.Request) (*http.Response, error) {
	answer, err := r.RoundTripper.RoundTrip(request)
	if err != nil || request.Method != http.MethodTrace {
		return answer, err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusBadRequest || answer.Header.Get("X-Edge-Reason") != "bad_request" {
		r.t.Errorf("TRACE: got %s %q, want 400 bad_request", answer.Status, answer.Header.Get("X-Edge-Reason"))
	}
	w := httptest.NewRecorder()
	w.Header().Set("X-Httpwasm-Tck-Handled", "1")
	stand := w.Result()
	stand.Body = io.NopCloser(bytes.NewReader(nil))
	return stand, nil
}
