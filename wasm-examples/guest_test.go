package examples_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGuest runs a plugin that uses all of package guest.
func TestGuest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "probe.wasm")
	build := exec.CommandContext(context.Background(), "go", "build", "-buildmode=c-shared", "-o", file, "./guest/testdata/probe")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, said)
	}
	wasm, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	answer := strings.Repeat("answer ", 1000)
	var seen *http.Request
	var seenBody string
	host := &guestHost{config: strings.Repeat("c", 5000), send: func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		seen, seenBody = r, string(body)
		return &http.Response{StatusCode: 200, Header: http.Header{"X-Gone": {"x"}}, Body: io.NopCloser(strings.NewReader(answer))}, err
	}}
	host.runtime, host.compiled = compile(t, wasm)
	call := func(body string, headers ...string) *httptest.ResponseRecorder {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/a%20b?c=%20d", strings.NewReader(body))
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

	long, large := strings.Repeat("v", 10000), bytes.Repeat([]byte("body "), 100000)
	w := call(string(large), "x-long: "+long, "x-list: one", "x-list: two")
	f("status", w.Result().Status, "201 Created")
	f("served", w.Header().Get("X-Served"), "true")
	f("removed from the answer", w.Header().Get("X-Gone"), "")
	f("answer", w.Body.String(), "500000 false 200 ans 0 <nil> 6997 6")
	f("target", seen.Method+" "+seen.URL.RequestURI(), "PUT /changed?x=%20")
	f("body", seenBody, strings.ToUpper(string(large)))
	f("x-seen", seen.Header.Get("X-Seen"), "POST /a%20b?c=%20d HTTP/1.1 true")
	f("x-names", seen.Header.Get("X-Names"), "host,x-list,x-long,x-seen")
	f("x-list", seen.Header.Get("X-List"), "one+two")
	f("x-length", seen.Header.Get("X-Length"), "10000")
	f("x-none", seen.Header.Get("X-None"), `"" 0`)
	f("removed from the request", seen.Header.Get("X-Long"), "")

	call("keep")
	f("kept body", seenBody, "keep")
	call("")
	f("empty body", seenBody, "")

	w = call("", "x-stop: yes")
	f("stopped", w.Result().Status+" "+strings.Join(w.Header()["X-Many"], ",")+" "+w.Body.String(), "418 I'm a teapot 1,2 status 418, stopped")
	f("log", host.logs.String(), "probe: on 1, config 5000 bytes, \"a\\\"b\" an error 5% true %!\n")
}
