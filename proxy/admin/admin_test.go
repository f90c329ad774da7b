package admin_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/proxy/admin"
)

type fakeSource struct {
	ready  error
	status any
	write  func(io.Writer)
}

func (s *fakeSource) Ready() error            { return s.ready }
func (s *fakeSource) Status() any             { return s.status }
func (s *fakeSource) EffectiveConfig() []byte { return []byte(`{"listen":":8080"}`) }

func (s *fakeSource) WriteMetrics(w io.Writer) {
	if s.write != nil {
		s.write(w)
		return
	}
	_, _ = io.WriteString(w, "edge_in_flight{provider=\"demo\"} 3\n")
}

func newPlane(t testing.TB, c admin.Config, s *fakeSource) http.Handler {
	t.Helper()
	h, err := admin.New(c, s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// request is "METHOD TARGET", then header lines.
func request(t testing.TB, lines ...string) *http.Request {
	method, target, _ := strings.Cut(lines[0], " ")
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	r.Host = "127.0.0.1:9090"
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Host" {
			r.Host = value
		} else {
			r.Header.Add(name, value)
		}
	}
	return r
}

// do serves r and checks what every answer has.
func do(t testing.TB, h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s %s: %s is %q, want %q", r.Method, r.URL, name, got, want)
		}
	}
	return w
}

func code(t testing.TB, w *httptest.ResponseRecorder) string {
	t.Helper()
	var body struct {
		Error struct{ Message, Code string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Error.Message == "" {
		t.Errorf("%d: %q is no error body: %v", w.Code, w.Body, err)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("%d: an error of type %q", w.Code, got)
	}
	return body.Error.Code
}

const bearer = "Authorization: Bearer s3cret"

func TestWhoMayHaveWhat(t *testing.T) {
	open := admin.DefaultConfig()
	locked := admin.Config{Listen: "edge.internal:9090", Token: "s3cret"}
	public := locked
	public.MetricsPublic = true
	everywhere := public
	everywhere.Listen = ":9090"

	for _, test := range []struct {
		name   string
		config admin.Config
		status int
		lines  []string
	}{
		{"no token is needed on loopback", open, 200, []string{"GET /"}},
		{"nor for status", open, 200, []string{"GET /api/status"}},
		{"nor for config", open, 200, []string{"GET /api/config"}},
		{"nor for metrics", open, 200, []string{"GET /metrics"}},
		{"nor for profiles", open, 200, []string{"GET /debug/pprof/"}},
		{"a named profile", open, 200, []string{"GET /debug/pprof/goroutine?debug=1"}},
		{"the command line", open, 200, []string{"GET /debug/pprof/cmdline"}},
		{"symbols", open, 200, []string{"POST /debug/pprof/symbol"}},

		{"without the token", locked, 401, []string{"GET /"}},
		{"status without the token", locked, 401, []string{"GET /api/status"}},
		{"config without the token", locked, 401, []string{"GET /api/config"}},
		{"metrics without the token", locked, 401, []string{"GET /metrics"}},
		{"profiles without the token", locked, 401, []string{"GET /debug/pprof/"}},
		{"a profile without the token", locked, 401, []string{"GET /debug/pprof/heap"}},
		{"a trace without the token", locked, 401, []string{"GET /debug/pprof/trace"}},
		{"a stranger learns no paths", locked, 401, []string{"GET /nothing"}},
		{"nor methods", locked, 401, []string{"DELETE /api/config"}},
		{"the token", locked, 200, []string{"GET /api/status", bearer}},
		{"the scheme in lower case", locked, 200, []string{"GET /api/status", "Authorization: bearer s3cret"}},
		{"two spaces", locked, 200, []string{"GET /api/status", "Authorization: Bearer  s3cret"}},
		{"a wrong token", locked, 401, []string{"GET /api/status", "Authorization: Bearer s3creT"}},
		{"half the token", locked, 401, []string{"GET /api/status", "Authorization: Bearer s3c"}},
		{"more than the token", locked, 401, []string{"GET /api/status", "Authorization: Bearer s3crets"}},
		{"an empty token", locked, 401, []string{"GET /api/status", "Authorization: Bearer "}},
		{"another scheme", locked, 401, []string{"GET /api/status", "Authorization: Basic s3cret"}},
		{"no scheme", locked, 401, []string{"GET /api/status", "Authorization: s3cret"}},
		{"the token in the URL", locked, 401, []string{"GET /api/status?token=s3cret&key=s3cret"}},
		{"the token in other headers", locked, 401, []string{"GET /api/status", "X-Api-Key: s3cret"}},

		{"public metrics", public, 200, []string{"GET /metrics"}},
		{"public metrics, wrong token", public, 200, []string{"GET /metrics", "Authorization: Bearer wrong"}},
		{"public metrics under a name", public, 403, []string{"GET /metrics", "Host: evil.example"}},
		{"public metrics under a name, with the token", public, 200, []string{"GET /metrics", "Host: evil.example", bearer}},
		{"public metrics from a page", public, 403, []string{"GET /metrics", "Origin: https://evil.example"}},
		{"only metrics are public", public, 401, []string{"GET /debug/pprof/heap"}},

		{"Host is localhost", open, 200, []string{"GET /", "Host: localhost:9090"}},
		{"Host is LOCALHOST", open, 200, []string{"GET /", "Host: LOCALHOST"}},
		{"Host is any IPv4", open, 200, []string{"GET /", "Host: 192.0.2.7"}},
		{"Host is IPv6", open, 200, []string{"GET /", "Host: [::1]:9090"}},
		{"Host is a name", open, 403, []string{"GET /", "Host: evil.example:9090"}},
		{"Host is a name, for profiles", open, 403, []string{"GET /debug/pprof/heap", "Host: evil.example"}},
		{"Host is a name, nothing there", open, 403, []string{"GET /nothing", "Host: evil.example"}},
		{"Host ends like localhost", open, 403, []string{"GET /", "Host: evil.localhost.example"}},
		{"Host begins like an address", open, 403, []string{"GET /", "Host: 127.0.0.1.evil.example"}},
		{"Host with a user", open, 403, []string{"GET /", "Host: 127.0.0.1:80@evil.example"}},
		{"Host is empty", open, 403, []string{"GET /", "Host: "}},
		{"Host is empty like the listener's", everywhere, 403, []string{"GET /metrics", "Host: "}},
		{"Host is a port", open, 403, []string{"GET /", "Host: :9090"}},
		{"a name and a token when none is set", open, 403, []string{"GET /", "Host: evil.example", bearer}},
		{"a name and an empty token when none is set", open, 403, []string{"GET /", "Host: evil.example", "Authorization: Bearer "}},
		{"a name and the token", locked, 200, []string{"GET /", "Host: evil.example", bearer}},
		{"the listener's own name", public, 200, []string{"GET /metrics", "Host: Edge.Internal:9090"}},

		{"Origin is the Host", open, 200, []string{"GET /", "Origin: http://127.0.0.1:9090"}},
		{"Origin is the Host, by TLS", locked, 200, []string{"GET /", "Host: edge.example", "Origin: https://edge.example", bearer}},
		{"Origin is another", open, 403, []string{"GET /", "Origin: https://evil.example"}},
		{"Origin is another port", open, 403, []string{"GET /", "Origin: http://127.0.0.1:3000"}},
		{"Origin is null", open, 403, []string{"GET /", "Origin: null"}},
		{"Origin is empty", open, 403, []string{"GET /", "Origin: "}},
		{"Origin is another, with the token", locked, 403, []string{"GET /", "Origin: https://evil.example", bearer}},
		{"two Origins", open, 403, []string{"GET /", "Origin: http://127.0.0.1:9090", "Origin: https://evil.example"}},
		{"a rebound page", open, 403, []string{"GET /", "Host: evil.example", "Origin: http://evil.example"}},
		{"a page of another site", open, 403, []string{"GET /", "Sec-Fetch-Site: cross-site"}},
		{"a page of another site, with the token", locked, 403, []string{"GET /", "Sec-Fetch-Site: Cross-Site", bearer}},
		{"the address bar", open, 200, []string{"GET /", "Sec-Fetch-Site: none"}},
		{"a page of ours", open, 200, []string{"GET /", "Sec-Fetch-Site: same-origin"}},

		{"healthz for all", locked, 200, []string{"GET /healthz", "Host: evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"}},
		{"readyz for all", locked, 200, []string{"GET /readyz", "Host: edge.default.svc", "Origin: null", "Sec-Fetch-Site: cross-site"}},
		{"healthz by its path only", locked, 401, []string{"GET /healthz/"}},
		{"no cleaning of paths", locked, 401, []string{"GET /healthz/../api/config"}},

		{"nothing there", open, 404, []string{"GET /nothing"}},
		{"no such profile", open, 404, []string{"GET /debug/pprof/nothing"}},
		{"nothing below a profile", open, 404, []string{"GET /debug/pprof/heap/"}},
		{"nothing there for POST", open, 404, []string{"POST /nothing"}},
	} {
		w := do(t, newPlane(t, test.config, &fakeSource{}), request(t, test.lines...))
		if w.Code != test.status {
			t.Errorf("%s: %d, want %d: %s", test.name, w.Code, test.status, w.Body)
			continue
		}
		challenge := ""
		if w.Code == 401 {
			challenge = "Bearer"
		}
		if got := w.Header().Get("WWW-Authenticate"); got != challenge {
			t.Errorf("%s: WWW-Authenticate is %q, want %q", test.name, got, challenge)
		}
		if want, isError := map[int]string{401: "unauthorized", 403: "forbidden", 404: "not_found"}[w.Code]; isError && code(t, w) != want {
			t.Errorf("%s: code %q, want %q", test.name, code(t, w), want)
		}
	}
}

func TestMethods(t *testing.T) {
	h := newPlane(t, admin.DefaultConfig(), &fakeSource{})
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/", "/api/status", "/api/config", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/symbol"} {
		if w := do(t, h, request(t, "HEAD "+path)); w.Code != 200 {
			t.Errorf("HEAD %s: %d", path, w.Code)
		}
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get"} {
			allow := "GET, HEAD"
			if path == "/debug/pprof/symbol" {
				if allow = "GET, HEAD, POST"; method == "POST" {
					continue
				}
			}
			w := do(t, h, request(t, method+" "+path))
			if w.Code != 405 || w.Header().Get("Allow") != allow || code(t, w) != "method_not_allowed" {
				t.Errorf("%s %s: %d, Allow %q: %s", method, path, w.Code, w.Header().Get("Allow"), w.Body)
			}
		}
	}
}

func TestAnswers(t *testing.T) {
	s := &fakeSource{status: map[string]int{"in_flight": 3}}
	h := newPlane(t, admin.DefaultConfig(), s)
	f := func(path string, status int, contentType, body string) {
		t.Helper()
		w := do(t, h, request(t, "GET "+path))
		if w.Code != status || w.Header().Get("Content-Type") != contentType || !strings.Contains(w.Body.String(), body) {
			t.Errorf("%s: %d %s %q", path, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
		if csp := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none';") || strings.Contains(csp, "script") {
			t.Errorf("%s: Content-Security-Policy %q", path, csp)
		}
	}
	const text = "text/plain; charset=utf-8"
	f("/healthz", 200, text, "ok\n")
	f("/readyz", 200, text, "ok\n")
	f("/metrics", 200, "text/plain; version=0.0.4; charset=utf-8", `edge_in_flight{provider="demo"} 3`)
	f("/api/status", 200, "application/json", `{"in_flight":3}`)
	f("/api/config", 200, "application/json", `{"listen":":8080"}`)
	f("/", 200, text, "/debug/pprof/")

	s.ready = errors.Join(errors.New("draining"), errors.New("3 in flight"))
	f("/readyz", 503, text, "draining; 3 in flight\n")
	f("/healthz", 200, text, "ok\n")

	s.status = func() {} // encoding/json cannot
	f("/api/status", 500, "application/json", `"code":"internal"`)
}

func TestLogHoldsNoToken(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	h, err := admin.New(admin.Config{Listen: ":9090", Token: "s3cret"}, &fakeSource{}, log)
	if err != nil {
		t.Fatal(err)
	}
	do(t, h, request(t, "GET /api/status?token=s3cret", "Authorization: Bearer wr0ng"))
	if got := out.String(); !strings.Contains(got, "status=401") || strings.Contains(got, "s3cret") || strings.Contains(got, "wr0ng") {
		t.Errorf("log: %q", got)
	}
}

// FuzzHost checks against a reading of Host that shares nothing with the guard's.
func FuzzHost(f *testing.F) {
	for _, host := range []string{"localhost:9090", "127.0.0.1", "[::1]:80", "[fe80::1%25eth0]", "evil.example", "1.2.3.4:5@evil.example", "[::1]evil", "127.0.0.1?.evil", "%31"} {
		f.Add(host)
	}
	h := newPlane(f, admin.Config{Listen: "edge.internal:9090", Token: "s3cret", MetricsPublic: true}, &fakeSource{})
	allowed := regexp.MustCompile(`^(?i:[0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9a-f:.]+\]|localhost|edge\.internal)(:[0-9]*)?$`)
	f.Fuzz(func(t *testing.T, host string) {
		r := request(t, "GET /metrics")
		r.Host = host
		if w := do(t, h, r); w.Code == 200 && !allowed.MatchString(host) {
			t.Errorf("Host %q is served", host)
		}
	})
}
