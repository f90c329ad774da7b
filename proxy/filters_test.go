package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// filtering is the guest of testdata/filter, which speaks Proxy-Wasm.
var filtering = sync.OnceValues(func() ([]byte, error) { return buildGuest("./testdata/filter") })

// filter is a plugin with the filtering guest.
func filter(t *testing.T, name, mode string, change ...func(*proxy.Plugin)) proxy.Plugin {
	t.Helper()
	module, err := filtering()
	if err != nil {
		t.Fatal(err)
	}
	p := proxy.DefaultPlugin()
	p.Name, p.Module, p.Config, p.Timeout = name, module, proxy.Settings(mode), 10*time.Second
	p.MaxInstances = 1
	for _, do := range change {
		do(&p)
	}
	return p
}

func TestFilterChangesHeads(t *testing.T) {
	up := provider(t, mirror)
	e := start(t, one(up, around(filter(t, "f", "headers")), func(c *proxy.Config, p *proxy.Provider) {
		c.Auth.Tokens = []proxy.Token{{Value: "the-token"}}
		p.Keys = []proxy.Key{{Value: "the-key", Weight: 1}}
		p.ExtraHeaders = map[string]string{"X-Extra": "the-extra"}
	}))
	answer, got := call(t, client(t), "POST", e.url+"/up/path?q=1", "hello", "Authorization", "Bearer the-token")
	host := strings.TrimPrefix(up, "http://")
	for _, want := range []string{
		"POST /changed?x=1\n", "X-Provider: up\r\n", "Authorization: Bearer the-key\r\n", "X-Extra: the-extra\r\n", "Content-Length: 5\r\n", "\n\nhello",
		"X-Seen: :method=POST :path=/path?q=1 :authority=" + host + " :scheme=http authorization= host=" + host + " x-extra=",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("want %q in\n%s", want, got)
		}
	}
	if answer.StatusCode != 201 || answer.Header.Get("X-Answer") != "200" {
		t.Errorf("got %d %v", answer.StatusCode, answer.Header)
	}
	if got := e.sum("edge_guest_hits", `plugin="f"`); got != 1 {
		t.Errorf("edge_guest_hits: got %v, want 1", got)
	}
}

func TestRouteFilterSeesWhatTheCallerSent(t *testing.T) {
	e := start(t, one(provider(t, mirror), before(filter(t, "f", "headers", requestOnly))))
	answer, got := call(t, client(t), "GET", e.url+"/up/path?q=1", "", "Authorization", "Bearer x")
	if want := "X-Seen: :method=GET :path=/up/path?q=1 :authority=" + strings.TrimPrefix(e.url, "http://") + " :scheme=http authorization=Bearer x"; !strings.Contains(got, want) {
		t.Errorf("want %q in\n%s", want, got)
	}
	if answer.StatusCode != 200 || !strings.HasPrefix(got, "GET /changed?x=1\n") {
		t.Errorf("got %d %s", answer.StatusCode, got)
	}
}

// contents are request contents of sizes around those of slots.
var contents = []string{"a", strings.Repeat("b", 16<<10), strings.Repeat("c", 16<<10+1), strings.Repeat("defg", 50<<10)}

func TestFilterChangesContentChunkByChunk(t *testing.T) {
	for mode, want := range map[string]func(string) string{
		"upper":   strings.ToUpper,
		"whole":   func(s string) string { return "[" + s + "]" },
		"observe": func(s string) string { return s },
	} {
		echoes := provider(t, func(w http.ResponseWriter, r *http.Request) {
			got, err := io.ReadAll(r.Body)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			w.Header().Set("X-Length", fmt.Sprint(r.ContentLength))
			w.Header().Set("Content-Length", fmt.Sprint(len(got)))
			_, _ = w.Write(got)
		})
		for _, where := range []func(...proxy.Plugin) func(*proxy.Config, *proxy.Provider){around, before} {
			e := start(t, one(echoes, where(filter(t, "f", mode))))
			for _, content := range contents {
				for _, chunked := range []bool{false, true} {
					body, length := io.Reader(strings.NewReader(content)), int64(len(content))
					if chunked {
						body, length = dribble{strings.NewReader(content)}, -1
					}
					request, err := http.NewRequestWithContext(t.Context(), "POST", e.url+"/up/", io.NopCloser(body))
					if err != nil {
						t.Fatal(err)
					}
					request.ContentLength = length
					got, err := client(t).Do(request)
					if err != nil {
						t.Fatalf("%s, %d bytes, chunked %v: %v", mode, len(content), chunked, err)
					}
					answer, text := whole(t, got)
					if wanted := want(want(content)); answer.StatusCode != 200 || text != wanted {
						t.Errorf("%s, %d bytes, chunked %v: got %d and %d bytes (%.60s), want %d", mode, len(content), chunked, answer.StatusCode, len(text), text, len(wanted))
					}
				}
			}
		}
	}
}

func TestFilterAnswersInPlaceOfTheProvider(t *testing.T) {
	up := provider(t, mirror)
	f := func(mode, method, content string, status int, want string) {
		t.Helper()
		for _, where := range []func(...proxy.Plugin) func(*proxy.Config, *proxy.Provider){around, before} {
			e := start(t, one(up, where(filter(t, "f", mode))))
			answer, got := call(t, client(t), method, e.url+"/up/", content)
			if answer.StatusCode != status || got != want || answer.ContentLength != int64(len(want)) {
				t.Errorf("%s: got %d %q %v, want %d %q", mode, answer.StatusCode, got, answer.Header, status, want)
			}
			if mode == "reply" && (answer.Header.Get("X-Own") != "yes" || answer.Header.Get("X-Back") != "403") {
				t.Errorf("%s: fields %v", mode, answer.Header)
			}
		}
	}
	f("reply", "GET", "", 403, "no entry")
	f("reply", "POST", "content", 403, "no entry")
	f("reply-body", "POST", "content", 422, "not this content")
	f("reply-body", "POST", strings.Repeat("x", 200<<10), 422, "not this content")
	f("reply-response", "GET", "", 451, "not this answer")
}

func TestFilterAsksAnotherProvider(t *testing.T) {
	auth := provider(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/auth" || r.Host != "auth.example" || r.Header.Get("Authorization") != "Bearer auth-key" {
			t.Errorf("the call was %s %s %v", r.Host, r.URL, r.Header)
		}
		_, _ = io.WriteString(w, "ada")
	})
	deny := provider(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(418) })
	dead := httptest.NewServer(nil)
	dead.Close()
	f := func(upstream string, status int, want string) {
		t.Helper()
		for _, where := range []func(...proxy.Plugin) func(*proxy.Config, *proxy.Provider){around, before} {
			c := one(provider(t, mirror), where(filter(t, "f", "callout "+upstream)))
			for name, base := range map[string]string{"auth": auth, "deny": deny, "dead": dead.URL} {
				p := proxy.DefaultProvider()
				p.BaseURL = base
				p.Keys = []proxy.Key{{Value: "auth-key", Weight: 1}}
				c.Providers[name] = p
			}
			e := start(t, c)
			answer, got := call(t, client(t), "GET", e.url+"/up/", "")
			if answer.StatusCode != status || !strings.Contains(got, want) {
				t.Errorf("%s: got %d %s, want %d %s", upstream, answer.StatusCode, got, status, want)
			}
		}
	}
	f("auth", 200, "X-User: ada\r\n")
	f("outbound|443||auth.dns", 200, "X-User: ada\r\n")
	f("deny", 401, "refused 418")
	f("dead", 401, "refused")
	f("nobody", 503, "call: ")
}

func TestFilterDoesNotCallTheProviderWhosePermitItHolds(t *testing.T) {
	calls := make(chan string, 10)
	up := provider(t, func(w http.ResponseWriter, r *http.Request) { calls <- r.URL.Path })
	e := start(t, one(up, around(filter(t, "f", "callout up"))))
	answer, got := call(t, client(t), "GET", e.url+"/up/", "")
	if answer.StatusCode < 400 || len(calls) != 0 {
		t.Errorf("got %d %s, and %d calls", answer.StatusCode, got, len(calls))
	}
	outer := start(t, one(up, before(filter(t, "f", "callout up")))) // holds none yet
	if answer, got := call(t, client(t), "GET", outer.url+"/up/", ""); answer.StatusCode != 200 || <-calls != "/auth" {
		t.Errorf("got %d %s", answer.StatusCode, got)
	}
}

func TestFilterThatFails(t *testing.T) {
	f := func(mode string, status int, code string) {
		t.Helper()
		var log logged
		e := start(t, one(provider(t, mirror), around(filter(t, "bad", mode, func(p *proxy.Plugin) { p.PauseTimeout = 50 * time.Millisecond })),
			func(c *proxy.Config, _ *proxy.Provider) { c.Logger = log.logger() }))
		for range 2 { // an instance that died is replaced
			var answer answer
			var got string
			if !settles(5*time.Second, func() bool {
				method, content := "POST", "content"
				if mode == "pause" { // content would let the guest go on
					method, content = "GET", ""
				}
				answer, got = call(t, client(t), method, e.url+"/up/", content)
				return answer.Header.Get("X-Edge-Reason") != "plugin_busy"
			}) {
				t.Errorf("%s: no instance", mode)
			}
			refused(t, answer, got, status, code)
			if strings.Contains(got, "words") || !strings.Contains(log.String(), "plugin=bad") {
				t.Errorf("%s: got %s; log %s", mode, got, log.String())
			}
		}
	}
	f("trap-headers", 500, "plugin_error")
	f("trap-body", 500, "plugin_error")
	f("trap-response", 500, "plugin_error")
	f("pause", 500, "plugin_error")
	skips := start(t, one(provider(t, mirror), around(filter(t, "bad", "trap-headers", skipping), filter(t, "worse", "trap-response", skipping))))
	for range 3 {
		answer, got := call(t, client(t), "POST", skips.url+"/up/", "content")
		if answer.StatusCode != 200 || !strings.HasSuffix(got, "\n\ncontent") {
			t.Errorf("skipped: got %d %s", answer.StatusCode, got)
		}
	}
	for _, mode := range []string{"trap-response-body", "reset"} { // nothing can be said but that it is over
		e := start(t, one(provider(t, mirror), around(filter(t, "bad", mode))))
		request, _ := http.NewRequestWithContext(t.Context(), "POST", e.url+"/up/", strings.NewReader("content"))
		if got, err := client(t).Do(request); err == nil {
			_, err = io.ReadAll(got.Body)
			got.Body.Close()
			if err == nil {
				t.Errorf("%s: got a whole answer, %d", mode, got.StatusCode)
			}
		}
		if got := e.sum("edge_rejected_total", `reason="plugin_error"`); got != 1 {
			t.Errorf("%s: edge_rejected_total: got %v, want 1", mode, got)
		}
	}
}

func TestFilterWithTrailers(t *testing.T) {
	up := provider(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		fmt.Fprintf(w, "%s %v", body, r.Trailer["X-Sum"])
		w.Header().Set("X-Sum", "7")
	})
	for _, where := range []func(...proxy.Plugin) func(*proxy.Config, *proxy.Provider){around, before} {
		e := start(t, one(up, where(filter(t, "f", "trailers"))))
		for _, body := range []string{"abc", strings.Repeat("x", 40<<10)} {
			conn, reader := raw(t, e.url, fmt.Sprintf("POST /up/ HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n%x\r\n%s\r\n0\r\nX-Sum: 3\r\n\r\n", len(body), body))
			r, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, text := whole(t, r)
			if text != body+" [3-in]" || r.Trailer.Get("X-Sum") != "7-out" {
				t.Errorf("got %.60q ... %q, trailer %v", text, text[max(0, len(text)-20):], r.Trailer)
			}
			conn.Close()
		}
	}
}

// giveBack answers with the content it got. It reads all of it first: net/http does not let a handler do both.
func giveBack(w http.ResponseWriter, r *http.Request) {
	content, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(content)
}

func TestFiltersAndGuestsInOneChain(t *testing.T) {
	e := start(t, one(provider(t, mirror),
		before(script(t, "r1", "i: features 3\nq: upper 0\ns: add 1 x-order r1\ns: write 1 {1:x-order}", instances(2)), filter(t, "r2", "whole")),
		around(filter(t, "p1", "whole"), script(t, "p2", "i: features 2\nq: add 0 x-p2 on\ns: add 1 x-order p2\ns: upper 1"), filter(t, "p3", "upper"))))
	answer, got := call(t, client(t), "POST", e.url+"/up/", "content")
	if got != "p2,r1" || answer.ContentLength != 5 {
		t.Errorf("got %d %q %v", answer.StatusCode, got, answer.Header)
	}
	plain := start(t, one(provider(t, giveBack),
		before(script(t, "r1", "q: upper 0", requestOnly), filter(t, "r2", "whole")), around(filter(t, "p1", "whole"), script(t, "p2", "i: features 2\ns: upper 1\ns: write 1 !"))))
	if _, got := call(t, client(t), "POST", plain.url+"/up/", "content"); got != "[[[[CONTENT]]!]]" {
		t.Errorf("got %s", got)
	}
}

func TestStreamPassesAFilterAtOnce(t *testing.T) {
	events := make(chan string)
	up := provider(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for event := range events {
			_, _ = io.WriteString(w, event)
			_ = http.NewResponseController(w).Flush()
		}
	})
	e := start(t, one(up, around(filter(t, "f", "upper"))))
	go func() { events <- "data: a1\n\n" }()
	request, err := http.NewRequestWithContext(t.Context(), "GET", e.url+"/up/", nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := client(t).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	reader := bufio.NewReader(got.Body)
	for i := 1; i <= 3; i++ { // each event is here before the next one is sent
		line, err := reader.ReadString('\n')
		if want := fmt.Sprintf("DATA: A%d\n", i); err != nil || line != want {
			t.Fatalf("got %q %v, want %q", line, err, want)
		}
		_, _ = reader.ReadString('\n')
		if i < 3 {
			events <- fmt.Sprintf("data: a%d\n\n", i+1)
		}
	}
	close(events)
	if rest, err := io.ReadAll(reader); err != nil || len(rest) > 0 {
		t.Errorf("rest %q, %v", rest, err)
	}
}

func TestFiltersTogether(t *testing.T) {
	var log logged
	defer func() {
		if t.Failed() {
			t.Logf("%.3000s", log.String())
		}
	}()
	e := start(t, one(provider(t, giveBack),
		around(filter(t, "f", "upper", func(p *proxy.Plugin) { p.MaxInstances = 2 })), func(_ *proxy.Config, p *proxy.Provider) { p.Concurrency, p.BufferSize = 64, 1000 }, func(c *proxy.Config, _ *proxy.Provider) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) }))
	c := e.server.Client()
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			for j := range 5 {
				body := strings.Repeat(fmt.Sprintf("<%d-%d-abc>", i, j), 1+i*j*20)
				request, err := http.NewRequestWithContext(t.Context(), "POST", e.url+"/up/x", strings.NewReader(body))
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
				if err != nil || string(text) != strings.ToUpper(body) {
					t.Errorf("request %d-%d: %v, %d bytes of %d", i, j, err, len(text), len(body))
				}
			}
		})
	}
	all.Wait()
}

func TestFilterThatRefusesItsConfiguration(t *testing.T) {
	c := one("http://127.0.0.1:1", around(filter(t, "x", "broken")))
	p, err := proxy.New(quietly(c))
	if err == nil {
		p.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "plugins[0]") || !strings.Contains(err.Error(), "configure") {
		t.Errorf("got %v", err)
	}
}

func TestReloadTakesAFiltersSettings(t *testing.T) {
	up := provider(t, mirror)
	config := func(pause time.Duration, instances int) proxy.Config {
		return quietly(one(up, around(filter(t, "f", "pause", func(p *proxy.Plugin) { p.PauseTimeout, p.MaxInstances = pause, instances }))))
	}
	e := start(t, config(time.Minute, 1))
	if err := e.Reload(config(50*time.Millisecond, 2)); err != nil {
		t.Fatal(err)
	}
	if got := e.sum("edge_plugin_instances"); got != 2 {
		t.Errorf("edge_plugin_instances: got %v, want 2", got)
	}
	answer, got := call(t, client(t), "GET", e.url+"/up/", "")
	refused(t, answer, got, 500, "plugin_error")
}

// TestHammerFilteredStreams sends event streams through a guest that reads every chunk: each arrives whole and is nobody
// else's, its first event before the provider sends the next, and at the end nothing has grown.
func TestHammerFilteredStreams(t *testing.T) {
	streams, events := *hammerRequests/10, 20
	var gates sync.Map // by number, of every 50th stream: a channel that is closed when the first event was seen
	up := provider(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		flush := http.NewResponseController(w)
		for i := range events {
			fmt.Fprintf(w, "data: %s %d %s\n\n", r.URL.RawQuery, i, strings.Repeat("x", i*7))
			_ = flush.Flush()
			if gate, ok := gates.Load(r.URL.RawQuery); ok && i == 0 {
				select {
				case <-gate.(chan struct{}):
				case <-r.Context().Done():
					return
				}
			}
		}
	})
	e := start(t, one(up, around(filter(t, "f", "observe", func(p *proxy.Plugin) { p.MaxInstances = 2 })),
		func(_ *proxy.Config, p *proxy.Provider) { p.Concurrency, p.BufferSize = 64, 64 }))
	c := client(t)
	c.Transport.(*http.Transport).MaxIdleConnsPerHost = 64
	one := func(n int) error {
		seen := make(chan struct{})
		if n%50 == 0 {
			gates.Store(fmt.Sprint(n), seen)
			defer gates.Delete(fmt.Sprint(n))
		}
		request, err := http.NewRequestWithContext(t.Context(), "POST", fmt.Sprintf("%s/up/?%d", e.url, n), strings.NewReader("hello"))
		if err != nil {
			return err
		}
		got, err := c.Do(request)
		if err != nil {
			return err
		}
		defer got.Body.Close()
		var want strings.Builder
		for i := range events {
			fmt.Fprintf(&want, "data: %d %d %s\n\n", n, i, strings.Repeat("x", i*7))
		}
		first := make([]byte, len(fmt.Sprintf("data: %d 0 \n\n", n)))
		if _, err := io.ReadFull(got.Body, first); err != nil {
			return err
		}
		close(seen)
		rest, err := io.ReadAll(got.Body)
		if err == nil && string(first)+string(rest) != want.String() {
			err = fmt.Errorf("stream %d: got %d bytes that differ from the %d wanted", n, len(first)+len(rest), want.Len())
		}
		return err
	}
	run := func(from, to int) {
		var next atomic.Int64
		next.Store(int64(from))
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() {
				for {
					n := int(next.Add(1))
					if n > to || t.Failed() {
						return
					}
					if err := one(n); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	run(0, streams/5)
	before, memory := heap(), e.sum("edge_plugin_memory_bytes")
	run(streams/5, streams)
	if after := heap(); after > before+before/4+8<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
	if after := e.sum("edge_plugin_memory_bytes"); after > 1.5*memory+8<<20 {
		t.Errorf("the guests' memory grew from %v to %v bytes", memory, after)
	}
	if got := e.sum("edge_plugin_streams"); got != 0 {
		t.Errorf("edge_plugin_streams: got %v at the end, want 0", got)
	}
	t.Logf("%d streams; heap %d to %d bytes, guests %v to %v", streams, before, heap(), memory, e.sum("edge_plugin_memory_bytes"))
}
