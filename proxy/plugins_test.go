package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// scripted is the guest of testdata/guest, which does what its configuration says.
var scripted = sync.OnceValues(func() ([]byte, error) { return buildGuest("./testdata/guest") })

// buildGuest compiles a guest in plain Go.
func buildGuest(from string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "edge-guest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "guest.wasm")
	build := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-o", out, from) //nolint:noctx // it ends with the test
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build of %s: %w\n%s", from, err, text)
	}
	return os.ReadFile(out)
}

// compiled keeps what the guest compiles to between the tests of one run.
var compiled = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "edge-compiled-")
	if err != nil {
		panic(err)
	}
	return dir
})

// script is a plugin with the scripted guest.
func script(t *testing.T, name, steps string, change ...func(*proxy.Plugin)) proxy.Plugin {
	t.Helper()
	module, err := scripted()
	if err != nil {
		t.Fatal(err)
	}
	p := proxy.DefaultPlugin()
	p.Name, p.Module, p.Config, p.Timeout = name, module, proxy.Settings(steps), 10*time.Second
	p.LogLinesPerSecond = 1000
	for _, do := range change {
		do(&p)
	}
	return p
}

// around puts plugins around the provider of one.
func around(all ...proxy.Plugin) func(*proxy.Config, *proxy.Provider) {
	return func(c *proxy.Config, p *proxy.Provider) {
		c.CacheDir = compiled()
		c.Plugins = append(c.Plugins, all...)
		for _, plugin := range all {
			p.Plugins = append(p.Plugins, plugin.Name)
		}
	}
}

// before puts plugins on the built-in routes.
func before(all ...proxy.Plugin) func(*proxy.Config, *proxy.Provider) {
	return func(c *proxy.Config, _ *proxy.Provider) {
		c.CacheDir = compiled()
		c.Plugins = append(c.Plugins, all...)
		var names []string
		for _, plugin := range all {
			names = append(names, plugin.Name)
		}
		c.Routes = append(c.Routes, proxy.Route{Path: "/*", Plugins: names})
	}
}

func requestOnly(p *proxy.Plugin) { p.Phases = []string{"request"} }
func instances(n int) func(*proxy.Plugin) {
	return func(p *proxy.Plugin) { p.MaxInstances = n }
}
func skipping(p *proxy.Plugin) { p.OnError = "skip" }

// mirror answers with the request as it came: the line, its fields in order of their names, an empty line, the content.
func mirror(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s %s\n", r.Method, r.RequestURI)
	_ = r.Header.Write(&out)
	fmt.Fprintf(&out, "\n%s", body)
	for name, values := range r.Trailer {
		fmt.Fprintf(&out, "|%s: %s", name, strings.Join(values, ","))
	}
	w.Header().Set("X-Up", "yes")
	w.Header().Set("Content-Length", fmt.Sprint(out.Len()))
	_, _ = w.Write(out.Bytes())
}

// logged is a logger whose text can be read while others write.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func TestProviderPluginChangesTheRequest(t *testing.T) {
	e := start(t, one(provider(t, mirror), around(script(t, "edit", `
		q: method PUT
		q: set 0 x-seen {method} {uri} {protocol} {0:host}
		q: uri /other%2Fpath?x=%zz
		q: add 0 x-a 2
		q: del 0 x-drop
		q: upper 0`))))
	_, got := call(t, client(t), "POST", e.url+"/up/path?q=1", "hello", "X-A", "1", "X-Drop", "me")
	f := func(want string) {
		t.Helper()
		if !strings.Contains(got, want) {
			t.Errorf("want %q in\n%s", want, got)
		}
	}
	f("PUT /other%2Fpath?x=%zz\n")
	f("X-Seen: PUT /path?q=1 HTTP/1.1 " + strings.TrimPrefix(e.Status().Providers[0].BaseURL, "http://"))
	f("X-A: 1\r\nX-A: 2\r\n")
	f("\n\nHELLO")
	f("Content-Length: 5\r\n")
	if strings.Contains(got, "X-Drop") {
		t.Errorf("a field that was removed is in\n%s", got)
	}
}

func TestRoutePluginSeesTheRequestAsTheCallerSentIt(t *testing.T) {
	e := start(t, one(provider(t, mirror), before(script(t, "look", `
		q: set 0 x-seen {uri} {0:authorization}
		q: uri /up/changed?b`, requestOnly)), func(c *proxy.Config, p *proxy.Provider) {
		c.Auth.Tokens = []proxy.Token{{Value: "token"}}
		p.Keys = []proxy.Key{{Value: "key", Weight: 1}}
	}))
	_, got := call(t, client(t), "GET", e.url+"/up/a?b", "", "Authorization", "Bearer token")
	for _, want := range []string{"GET /changed?b\n", "X-Seen: /up/a?b Bearer token\r\n", "Authorization: Bearer key\r\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("want %q in\n%s", want, got)
		}
	}
}

func TestNoPluginSeesTheProvidersKeyOrEdgesToken(t *testing.T) {
	var log logged
	e := start(t, one(provider(t, mirror), around(script(t, "spy", `
		q: log spy {0:authorization} {0:x-api-key} {uri} {0:x-extra} end
		s: log spy {0:authorization} {1:authorization} end`)), func(c *proxy.Config, p *proxy.Provider) {
		c.Logger = log.logger()
		c.Auth.Tokens = []proxy.Token{{Value: "the-token"}}
		p.Keys = []proxy.Key{{Value: "the-key", Weight: 1}}
		p.ExtraHeaders = map[string]string{"X-Extra": "the-extra"}
	}))
	_, got := call(t, client(t), "GET", e.url+"/up/?key=the-token&a=b", "", "X-Api-Key", "the-token")
	if !strings.Contains(got, "Bearer the-key") || !strings.Contains(got, "the-extra") || strings.Contains(got, "the-token") {
		t.Errorf("the provider got\n%s", got)
	}
	if text := log.String(); !strings.Contains(text, "spy") || strings.Contains(text, "the-") {
		t.Errorf("the guest saw a secret, or nothing: %s", text)
	}
}

func TestPluginAnswersInPlaceOfTheProvider(t *testing.T) {
	up := provider(t, func(http.ResponseWriter, *http.Request) { t.Error("the provider was reached") })
	steps := `
		q: status 418
		q: set 1 content-type text/x-tea
		q: set 1 content-length 99
		q: write 1 short
		q: write 1 -and-stout
		q: stop`
	for _, where := range []func(...proxy.Plugin) func(*proxy.Config, *proxy.Provider){around, before} {
		head := start(t, one(up, where(script(t, "tea", steps, requestOnly))))
		if answer, got := call(t, client(t), "HEAD", head.url+"/up/x", ""); answer.StatusCode != 418 || got != "" {
			t.Errorf("HEAD: got %d %q", answer.StatusCode, got)
		}
		e := start(t, one(up, where(script(t, "tea", steps, requestOnly))))
		for _, body := range []string{"", "small", strings.Repeat("x", 100<<10)} {
			answer, got := call(t, client(t), "POST", e.url+"/up/x", body)
			if answer.StatusCode != 418 || got != "short-and-stout" || answer.Header.Get("Content-Type") != "text/x-tea" || answer.ContentLength != 15 {
				t.Errorf("got %d %q %v", answer.StatusCode, got, answer.Header)
			}
			if answer.Header.Get("X-Edge-Reason") != "" || answer.Header.Get("X-Edge-Request-Id") == "" {
				t.Errorf("fields: %v", answer.Header)
			}
		}
		if got := e.sum("edge_requests_total", `code="4xx"`); got != 3 {
			t.Errorf("edge_requests_total 4xx: got %v, want 3", got)
		}
	}
}

func TestPluginChangesTheAnswerItHolds(t *testing.T) {
	up := provider(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Up", "1")
		w.Header().Set("X-Drop", "1")
		w.Header().Set("Content-Length", "5")
		if r.Method != http.MethodHead {
			_, _ = io.WriteString(w, "hello")
		}
	})
	e := start(t, one(up, around(script(t, "edit", `
		i: features 2
		q: set 1 x-early {method}
		s: set 1 x-seen {status} {failed} {1:x-up}
		s: del 1 x-drop
		s: status 202
		s: upper 1
		s: write 1 !`))))
	answer, got := call(t, client(t), "GET", e.url+"/up/", "")
	if answer.StatusCode != 202 || got != "HELLO!" || answer.ContentLength != 6 {
		t.Errorf("got %d %q, length %d", answer.StatusCode, got, answer.ContentLength)
	}
	if h := answer.Header; h.Get("X-Seen") != "200 false 1" || h.Get("X-Drop") != "" || h.Get("X-Early") != "GET" {
		t.Errorf("fields: %v", h)
	}
	answer, _ = call(t, client(t), "HEAD", e.url+"/up/", "")
	if answer.StatusCode != 202 {
		t.Errorf("HEAD: got %d", answer.StatusCode)
	}
}

func TestAnswersWithoutContent(t *testing.T) {
	up := provider(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	dead := httptest.NewServer(nil)
	dead.Close()
	f := func(base, method, steps string, status int) {
		t.Helper()
		e := start(t, one(base, around(script(t, "x", steps))))
		c := client(t)
		for range 2 { // the second is on the connection of the first
			if answer, got := call(t, c, method, e.url+"/up/", ""); answer.StatusCode != status || got != "" {
				t.Errorf("%s %s: got %d %q, want %d", method, steps, answer.StatusCode, got, status)
			}
		}
	}
	f(up, "GET", "q: status 204\nq: write 1 content\nq: stop", 204)
	f(up, "GET", "i: features 2\ns: status 204\ns: write 1 content", 204)
	f(up, "GET", "i: features 2\ns: status 304", 304)
	f(up, "HEAD", "i: features 2\ns: write 1 content", 200)
	f(up, "HEAD", "q: write 1 before", 200)
	f(dead.URL, "HEAD", "i: features 2", 502)
	f(dead.URL, "HEAD", "s: log x", 502)
	f(up, "HEAD", "q: trap", 500)
	f(up, "HEAD", "q: method TRACE", 400)
}

func TestPluginsRunInOrderAndInReverse(t *testing.T) {
	named := func(name string, change ...func(*proxy.Plugin)) proxy.Plugin {
		return script(t, name, "i: features 2\nq: add 0 x-order "+name+"\ns: add 1 x-order "+name, append(change, instances(4))...)
	}
	e := start(t, one(provider(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Got", strings.Join(r.Header["X-Order"], ","))
	}), before(named("r1"), named("r2")), around(named("p1"), named("p2"))))
	answer, _ := call(t, client(t), "GET", e.url+"/up/", "")
	if got := answer.Header.Get("X-Got"); got != "r1,r2,p1,p2" {
		t.Errorf("requests: got %s", got)
	}
	if got := strings.Join(answer.Header["X-Order"], ","); got != "p2,p1,r2,r1" {
		t.Errorf("answers: got %s", got)
	}
}

func TestOnePluginWithTwoConfigurations(t *testing.T) {
	c := two(t, func(c *proxy.Config) {
		c.CacheDir = compiled()
		c.Plugins = []proxy.Plugin{script(t, "one", "q: set 1 x-mark one"), script(t, "two", "q: set 1 x-mark two")}
		for name, plugin := range map[string]string{"a": "one", "anthropic": "two"} {
			p := c.Providers[name]
			p.Plugins = []string{plugin}
			c.Providers[name] = p
		}
	})
	e := start(t, c)
	for name, want := range map[string]string{"a": "one", "anthropic": "two"} {
		if answer, _ := call(t, client(t), "GET", e.url+"/"+name+"/", ""); answer.Header.Get("X-Mark") != want {
			t.Errorf("%s: got %q, want %q", name, answer.Header.Get("X-Mark"), want)
		}
	}
}

func TestPluginThatReadsGivesTheContentOn(t *testing.T) {
	contents := []string{"", "a", strings.Repeat("b", 16<<10), strings.Repeat("c", 16<<10+1), strings.Repeat("defg", 50<<10)}
	for name, steps := range map[string]string{
		"all": "q: log {body}", "some": "q: read 0 7", "kept": "i: features 1\nq: read 0 7\ns: log {body}",
	} {
		e := start(t, one(provider(t, mirror), around(script(t, name, steps)), before(script(t, "route-"+name, strings.ReplaceAll(steps, "s: log {body}", ""), requestOnly))))
		for _, body := range contents {
			for _, chunked := range []bool{false, true} {
				request, err := http.NewRequestWithContext(t.Context(), "POST", e.url+"/up/", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				if chunked {
					request.Body, request.ContentLength = io.NopCloser(dribble{strings.NewReader(body)}), -1
				}
				got, err := client(t).Do(request)
				if err != nil {
					t.Fatal(err)
				}
				_, text := whole(t, got)
				if _, content, _ := strings.Cut(text, "\n\n"); content != body {
					t.Errorf("%s, chunked %v: %d bytes reached the provider, want %d", name, chunked, len(content), len(body))
				}
			}
		}
	}
}

// dribble gives at most 1000 bytes at a time.
type dribble struct{ r io.Reader }

func (d dribble) Read(p []byte) (int, error) { return d.r.Read(p[:min(len(p), 1000)]) }

func TestPluginPicksTheModel(t *testing.T) {
	c := two(t, func(c *proxy.Config) {
		before(script(t, "pick", `q: literal 0 {"model":"anthropic/big","n":1}`, requestOnly))(c, nil)
	})
	e := start(t, c)
	_, got := call(t, client(t), "POST", e.url+"/v1/chat", `{"model":"a/small"}`, "Content-Type", "application/json")
	if want := `b POST /v1/chat|X-Api-Key: key-b|{"model":"big","n":1}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPluginsSeeTheModelList(t *testing.T) {
	c := two(t, func(c *proxy.Config) {
		before(script(t, "list", "i: features 2\ns: write 1 mine", instances(2)))(c, nil)
	})
	e := start(t, c)
	if answer, got := call(t, client(t), "GET", e.url+"/v1/models", ""); got != "mine" || answer.ContentLength != 4 {
		t.Errorf("got %q", got)
	}
}

func TestPluginsSeeEdgesOwnAnswer(t *testing.T) {
	dead := httptest.NewServer(nil)
	dead.Close()
	e := start(t, one(dead.URL, around(script(t, "see", "i: features 2\ns: set 1 x-failed {failed} {status}\ns: status 599"))))
	answer, got := call(t, client(t), "GET", e.url+"/up/", "")
	if answer.StatusCode != 599 || answer.Header.Get("X-Failed") != "true 502" || answer.Header.Get("X-Edge-Reason") != "upstream_error" || !strings.Contains(got, `"code":"upstream_error"`) {
		t.Errorf("got %d %v %s", answer.StatusCode, answer.Header, got)
	}
	if got := e.sum("edge_rejected_total", `reason="upstream_error"`); got != 1 {
		t.Errorf("edge_rejected_total: got %v, want 1", got)
	}
}

func TestFailingPluginAnswers500OrIsSkipped(t *testing.T) {
	f := func(reason, steps string, change ...func(*proxy.Plugin)) {
		t.Run(reason+" "+steps, func(t *testing.T) {
			var log logged
			change := append(change, instances(2))
			e := start(t, one(provider(t, mirror), around(script(t, "bad", "i: features 2\n"+steps, change...)), func(c *proxy.Config, _ *proxy.Provider) { c.Logger = log.logger() }))
			for range 2 {
				answer, got := call(t, client(t), "POST", e.url+"/up/", "content")
				refused(t, answer, got, 500, "plugin_error")
				if strings.Contains(got, "wasm") || strings.Contains(got, "words") || strings.Contains(got, "bad") {
					t.Errorf("the caller is told too much: %s", got)
				}
			}
			if got := e.sum("edge_plugin_errors_total", `reason="`+reason+`"`); got != 2 {
				t.Errorf("edge_plugin_errors_total of %s: got %v, want 2", reason, got)
			}
			text := log.String()
			for _, want := range []string{"plugin=bad", "function=handle_re", "request_id=", "phase=re"} {
				if !strings.Contains(text, want) {
					t.Errorf("no %s in the log: %s", want, text)
				}
			}
			skips := start(t, one(provider(t, mirror), around(script(t, "bad", "i: features 2\nq: set 0 x-half done\nq: write 0 half\nq: set 1 x-half done\n"+steps, append(change, skipping)...))))
			for range 2 {
				answer, got := call(t, client(t), "POST", skips.url+"/up/", "content")
				request := strings.HasPrefix(steps, "q:")
				if answer.StatusCode != 200 || answer.Header.Get("X-Up") != "yes" || request && (strings.Contains(got, "X-Half") || !strings.HasSuffix(got, "\n\ncontent")) {
					t.Errorf("skipped: got %d %v %s", answer.StatusCode, answer.Header, got)
				}
				if request && answer.Header.Get("X-Half") != "" {
					t.Errorf("skipped, and yet %v", answer.Header)
				}
			}
		})
	}
	f("trap", "q: trap")
	f("trap", "s: trap")
	f("exit", "q: exit")
	f("exit", "s: exit")
	f("trap", "q: oob")
	f("trap", "s: method PUT") // the wrong phase
	brief := func(p *proxy.Plugin) { p.Timeout = 50 * time.Millisecond }
	f("timeout", "q: loop", brief)
	f("timeout", "s: loop", brief)
	f("timeout", "q: sleep 100000", brief)
}

func TestPluginWithoutAFreeInstance(t *testing.T) {
	hold := make(chan struct{})
	up := provider(t, func(http.ResponseWriter, *http.Request) { <-hold })
	defer close(hold)
	e := start(t, one(up, before(script(t, "few", "q: set 0 x-a b", instances(1))), func(c *proxy.Config, _ *proxy.Provider) {
		c.QueueTimeout = 100 * time.Millisecond
	}))
	first := make(chan struct{})
	c := client(t)
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		defer close(first)
		request, _ := http.NewRequestWithContext(ctx, "GET", e.url+"/up/", nil)
		if got, err := c.Do(request); err == nil {
			got.Body.Close()
		}
	}()
	if !settles(5*time.Second, func() bool { return e.sum("edge_in_flight") == 1 }) {
		t.Fatal("the first request is not in flight")
	}
	answer, got := call(t, client(t), "GET", e.url+"/up/", "")
	refused(t, answer, got, 503, "plugin_busy")
	if answer.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	leave()
	<-first
	if !settles(5*time.Second, func() bool { return e.sum("edge_plugin_instances_in_use") == 0 }) {
		t.Error("the instance of a caller that has left is not back")
	}
}

func TestContentBeyondMaxBody(t *testing.T) {
	small := func(p *proxy.Plugin) { p.MaxBody = 1000 }
	var log logged
	big := strings.Repeat("x", 5000)
	f := func(steps string, status int, code string) {
		t.Helper()
		e := start(t, one(provider(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, big) }),
			around(script(t, "small", steps, small)), func(c *proxy.Config, _ *proxy.Provider) { c.Logger = log.logger() }))
		answer, got := call(t, client(t), "POST", e.url+"/up/", big)
		refused(t, answer, got, status, code)
		if !strings.Contains(log.String(), "plugin=small") {
			t.Error("the log does not name the plugin")
		}
	}
	f("q: upper 0", 413, "body_too_large")
	f("i: features 1", 413, "body_too_large")
	f("q: fill 0 1001", 413, "body_too_large")
	f("i: features 2", 502, "plugin_body_too_large")
	f("q: fill 1 1001\nq: stop", 502, "plugin_body_too_large")
}

func TestStreamPassesAPluginThatDoesNotHoldIt(t *testing.T) {
	events := make(chan string)
	up := provider(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for event := range events {
			_, _ = io.WriteString(w, event)
			_ = http.NewResponseController(w).Flush()
		}
	})
	var log logged
	e := start(t, one(up, around(script(t, "watch", "q: set 1 x-mark on\ns: log end {status} {failed}")), func(c *proxy.Config, _ *proxy.Provider) { c.Logger = log.logger() }))
	go func() { events <- "data: 1\n\n" }()
	request, err := http.NewRequestWithContext(t.Context(), "GET", e.url+"/up/", nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := client(t).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if got.Header.Get("X-Mark") != "on" {
		t.Errorf("fields: %v", got.Header)
	}
	reader := bufio.NewReader(got.Body)
	for i := 1; i <= 3; i++ { // each event is here before the next one is sent
		line, err := reader.ReadString('\n')
		if want := fmt.Sprintf("data: %d\n", i); err != nil || line != want {
			t.Fatalf("got %q %v, want %q", line, err, want)
		}
		_, _ = reader.ReadString('\n')
		if i < 3 {
			events <- fmt.Sprintf("data: %d\n\n", i+1)
		}
	}
	close(events)
	if rest, err := io.ReadAll(reader); err != nil || len(rest) > 0 {
		t.Errorf("rest %q, %v", rest, err)
	}
	if !settles(5*time.Second, func() bool { return strings.Contains(log.String(), "end 200 false") }) {
		t.Errorf("the guest was not told of the end: %s", log.String())
	}
}

func TestPluginsOverHTTP2AndTogether(t *testing.T) {
	e := start(t, one(provider(t, mirror), around(
		script(t, "a", "i: features 3\nq: upper 0\ns: upper 1", instances(8)),
		script(t, "b", "q: set 0 x-protocol {protocol}\nq: add 1 x-b b", instances(8))),
		func(_ *proxy.Config, p *proxy.Provider) { p.Concurrency, p.BufferSize = 8, 1000 }),
		func(s *httptest.Server) { s.StartTLS() })
	secure := e.server.Client()
	plain := start(t, one(provider(t, mirror), around(script(t, "c", "i: features 3\nq: upper 0\ns: upper 1", instances(4)))))
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			for j := range 5 {
				body := strings.Repeat(fmt.Sprintf("<%d-%d>", i, j), 1+i*j*20)
				c, url := secure, e.url
				if i%2 == 0 {
					c, url = plain.server.Client(), plain.url
				}
				request, err := http.NewRequestWithContext(t.Context(), "POST", url+"/up/x", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := c.Do(request)
				if err != nil {
					t.Error(err)
					return
				}
				text, err := io.ReadAll(got.Body)
				got.Body.Close()
				if err != nil || !bytes.HasSuffix(text, []byte("\n\n"+body)) {
					t.Errorf("request %d-%d: %v, %d bytes", i, j, err, len(text))
				}
				if i%2 != 0 && (got.ProtoMajor != 2 || !bytes.Contains(text, []byte("X-PROTOCOL: HTTP/2.0"))) {
					t.Errorf("%s: %s", got.Proto, text[:min(len(text), 300)])
				}
			}
		})
	}
	all.Wait()
}

func TestTrailersWithPlugins(t *testing.T) {
	up := provider(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		fmt.Fprintf(w, "%s %v", body, r.Trailer["X-Request-Sum"])
		w.Header().Set("X-Sum", "7")
	})
	e := start(t, one(up, around(script(t, "t", "i: features 7\nq: log {body}\nq: set 2 x-request-sum {2:x-request-sum}-changed\ns: set 3 x-sum {3:x-sum}-changed"))))
	conn, reader := raw(t, e.url, "POST /up/ HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: X-Request-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Request-Sum: 3\r\n\r\n")
	defer conn.Close()
	r, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, text := whole(t, r)
	if text != "abc [3-changed]" || r.Trailer.Get("X-Sum") != "7-changed" {
		t.Errorf("got %q, trailer %v", text, r.Trailer)
	}
}

func TestPluginThatCannotBeLoaded(t *testing.T) {
	f := func(want string, change func(*proxy.Plugin)) {
		t.Helper()
		c := one("http://127.0.0.1:1", around(script(t, "x", "", change)))
		c.Logger = slog.New(slog.DiscardHandler)
		p, err := proxy.New(c)
		if err == nil {
			p.Close()
			t.Errorf("no error, want one about %s", want)
			return
		}
		if !strings.Contains(err.Error(), "plugins[0]") || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
		if faults := proxy.CheckPlugins(t.Context(), c); len(faults) != 1 || !strings.Contains(faults[0].String(), want) {
			t.Errorf("CheckPlugins: got %v, want %s", faults, want)
		}
	}
	f("WebAssembly", func(p *proxy.Plugin) { p.Module = []byte("#!/bin/sh") })
	f("sha256", func(p *proxy.Plugin) { p.SHA256 = strings.Repeat("0", 64) })
	f("memory", func(p *proxy.Plugin) { p.MemoryLimit = 64 << 10 })
	f("x", func(p *proxy.Plugin) { p.Config = "i: trap" })
	f("x", func(p *proxy.Plugin) { p.Config = "i: method GET" })
}

func TestThousandReplacedPluginsLeaveMemoryFlat(t *testing.T) {
	rounds := 1000
	if testing.Short() {
		rounds = 100
	}
	c := one(provider(t, mirror))
	p, err := proxy.New(quietly(c))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	guest := proxy.SmallGuest()
	reload := func(i int) {
		plugin := proxy.DefaultPlugin()
		plugin.Name, plugin.Module, plugin.Config = "small", guest, proxy.Settings(fmt.Sprint(i))
		next := one(c.Providers["up"].BaseURL, around(plugin))
		if err := p.Reload(quietly(next)); err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/up/", nil))
		if w.Code != 200 {
			t.Fatalf("round %d: %d %s", i, w.Code, w.Body)
		}
	}
	measure := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for i := range 20 {
		reload(i)
	}
	before, goroutines := measure(), runtime.NumGoroutine()
	for i := range rounds {
		reload(20 + i)
	}
	if after := measure(); after > before+before/4+4<<20 {
		t.Errorf("the heap grew from %d to %d bytes in %d reloads", before, after, rounds)
	}
	if !settles(2*time.Second, func() bool { return runtime.NumGoroutine() <= goroutines+2 }) {
		t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), goroutines)
	}
}

func TestReloadLetsRequestsEndWithTheirPlugins(t *testing.T) {
	entered, hold := make(chan struct{}), make(chan struct{})
	up := provider(t, func(w http.ResponseWriter, _ *http.Request) {
		entered <- struct{}{}
		<-hold
		_, _ = io.WriteString(w, "done")
	})
	config := func(mark string) proxy.Config {
		return quietly(one(up, around(script(t, "p", "i: features 2\ns: set 1 x-mark "+mark))))
	}
	e := start(t, config("old"))
	marks := make(chan string, 2)
	ask := func() {
		answer, _ := call(t, client(t), "GET", e.url+"/up/", "")
		marks <- answer.Header.Get("X-Mark")
	}
	go ask()
	<-entered
	if err := e.Reload(config("new")); err != nil {
		t.Fatal(err)
	}
	go ask()
	<-entered
	hold <- struct{}{}
	hold <- struct{}{}
	got := []string{<-marks, <-marks}
	if slices.Sort(got); !slices.Equal(got, []string{"new", "old"}) {
		t.Errorf("got %v", got)
	}
}

// quietly is c without a log.
func quietly(c proxy.Config) proxy.Config {
	c.Logger = slog.New(slog.DiscardHandler)
	return c
}
