package examples_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/plugins/proxywasm"
)

// buildGuest builds a plugin in Go.
func buildGuest(t *testing.T, folder string) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "guest.wasm")
	build := exec.CommandContext(context.Background(), "go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", file, folder)
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, said)
	}
	wasm, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

// callee answers the calls of a guest.
type callee struct{ seen []proxywasm.Call }

func (c *callee) Call(_ context.Context, call proxywasm.Call, done func(proxywasm.CallResult)) error {
	c.seen = append(c.seen, call)
	switch call.Upstream {
	case "answers":
		go done(proxywasm.CallResult{Status: 203, Body: append([]byte("answer to "), call.Body...)})
	case "late":
		go done(proxywasm.CallResult{Err: context.DeadlineExceeded})
	default:
		return proxywasm.ErrUnknownUpstream
	}
	return nil
}

func (c *callee) Redis() proxywasm.Redis { return nil }

// TestProxyGuest runs a plugin that uses all of package proxyguest.
func TestProxyGuest(t *testing.T) {
	wasm := buildGuest(t, "./proxyguest/testdata/probe")
	if err := new(streamHost).load(wasm, "refuse"); err == nil || !strings.Contains(err.Error(), "proxy_on_configure returned 0") {
		t.Fatalf("a configuration that is refused: got %v", err)
	}
	var seen *http.Request
	var seenBody string
	upstream := &callee{}
	host := &streamHost{options: proxywasm.Options{Services: upstream}, send: func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		seen, seenBody = r, string(body)
		return &http.Response{StatusCode: 200, Header: http.Header{"X-Up": {"1"}}, Body: io.NopCloser(strings.NewReader("a b c"))}, err
	}}
	if err := host.load(wasm, strings.Repeat("c", 5000)); err != nil {
		t.Fatal(err)
	}
	defer host.plugin.Close()
	call := func(body string, headers ...string) *httptest.ResponseRecorder {
		t.Helper()
		seen, seenBody = &http.Request{Header: http.Header{}}, ""
		r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/a?b=c", strings.NewReader(body))
		for _, header := range headers {
			name, value, _ := strings.Cut(header, ": ")
			r.Header.Add(name, value)
		}
		w := httptest.NewRecorder()
		host.ServeHTTP(w, r)
		return w
	}
	f := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}

	large := strings.Repeat("body ", 100000)
	for range 3 {
		w := call(large, "x-list: one", "x-list: two", "x-gone: 1", "x-empty: ")
		f("status", w.Result().Status, "201 Created")
		f("answer", w.Body.String(), "abc")
		f("answer's header", w.Header().Get("X-Up"), "1")
		f("said", w.Header().Get("X-Said"), `POST /a?b=c example.com http end false; none false empty "" true list "one,two"; `+
			`8 fields <nil>; source 192.0.2.1:1234 true; own set <nil>; now true; `+
			`shared value proxyguest: not found <nil> proxyguest: version mismatch; no call: proxyguest: not found, bad name: proxyguest: bad argument; `+
			`body 500000 500000 500000 "od" <nil>; status 200`)
		f("body", seenBody, "<"+strings.ToUpper(large)+">")
		f("added", strings.Join(seen.Header["X-List"], "+"), "one+two+three")
		f("set", seen.Header.Get("X-Config"), "5000")
		f("removed", seen.Header.Get("X-Gone"), "")
	}
	call("", "x-replace: 1")
	f("replaced", seen.Method+" "+seen.URL.Path+" "+seen.Host+" "+seen.Header.Get("X-Only")+seen.Header.Get("X-Replace"), "PUT /replaced r.test 1")

	w := call("", "x-stop: yes")
	f("stopped", w.Result().Status+" "+w.Header().Get("X-A")+" "+w.Body.String(), "201 Created 1 stopped")
	w = call("", "x-reset: yes")
	f("reset", w.Result().Status, "500 Internal Server Error")

	call("", "x-call: answers")
	f("called", seen.Header.Get("X-Called"), "true 203 answer to question <nil>")
	f("call", upstream.seen[0].Method+" "+upstream.seen[0].Path+" "+upstream.seen[0].Authority+" "+upstream.seen[0].Timeout.String(), "POST /call call.test 1s")
	call("x", "x-call: late")
	f("failed call", seen.Header.Get("X-Called"), "false   <nil>")
	f("body after a call", seenBody, "<X>")
	call("", "x-call: nobody")
	f("refused call", seen.Header.Get("X-Called"), "proxyguest: bad argument")

	for _, want := range []string{"probe: ticked", "probe: end 201, 9 streams"} {
		if !settles(func() bool { return strings.Contains(host.logs.String(), want) }) {
			t.Errorf("log: want %q in\n%s", want, &host.logs)
		}
	}
	for _, m := range host.plugin.Stats().Metrics {
		want := map[string]int64{"probe_streams": 9, "probe_gauge": 5, "probe_sizes": 0}[m.Name]
		if m.Value != want || m.Name == "probe_sizes" && (m.Count != 4 || m.Sum != 1500001) {
			t.Errorf("metric %+v: want %d", m, want)
		}
	}
	trailers(t, host)
}

// trailers has them after bodies without an end.
func trailers(t *testing.T, host *streamHost) {
	t.Helper()
	x := newStreamExchange(httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/", strings.NewReader("ab")))
	x.lists[proxywasm.RequestTrailers].Add("X-Trailer", "t")
	s, err := host.plugin.Open(x)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if v, err := s.RequestHeaders(false); v != proxywasm.Continue || err != nil {
		t.Fatal(v, err)
	}
	if _, v, err := s.RequestBody(x.body, false); v != proxywasm.Paused || err != nil {
		t.Fatal(v, err)
	}
	if v, err := s.RequestTrailers(); v != proxywasm.Continue || err != nil || string(s.TakeHeld(false)) != "ab" {
		t.Fatal(v, err)
	}
	if v, err := s.ResponseHeaders(false); v != proxywasm.Continue || err != nil {
		t.Fatal(v, err)
	}
	if out, v, err := s.ResponseBody([]byte("c d"), true); v != proxywasm.Continue || err != nil || string(out) != "cd" {
		t.Fatal(string(out), v, err)
	}
	if v, err := s.ResponseTrailers(); v != proxywasm.Continue || err != nil || x.lists[proxywasm.ResponseTrailers].Len() != 2 {
		t.Fatal(v, err, x.lists[proxywasm.ResponseTrailers])
	}
	if !strings.Contains(host.logs.String(), "request trailers t") {
		t.Error(host.logs.String())
	}
}
