package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// refuser keeps each request as mirror shows it, answers the first with 503, and then mirrors.
type refuser struct {
	mu   sync.Mutex
	seen []string
}

func (f *refuser) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	shown := &shown{header: http.Header{}}
	mirror(shown, r)
	f.mu.Lock()
	f.seen = append(f.seen, shown.text.String())
	first := len(f.seen) == 1
	f.mu.Unlock()
	if first {
		w.WriteHeader(503)
		return
	}
	w.Header().Set("X-Up", "yes")
	_, _ = w.Write(shown.text.Bytes())
}

// shown is where a mirror writes to.
type shown struct {
	header http.Header
	text   bytes.Buffer
}

func (s *shown) Header() http.Header         { return s.header }
func (s *shown) WriteHeader(int)             {}
func (s *shown) Write(p []byte) (int, error) { return s.text.Write(p) }

// long is a content of several slots.
var long = strings.Repeat("defg", 25<<10)

// requests are those that have come.
func (f *refuser) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.seen...)
}

// TestRetryStartsFromWhatRoutePluginsLeft: what a provider's plugins have done to an attempt does not show in the next, and
// what the route's have done shows in all.
func TestRetryStartsFromWhatRoutePluginsLeft(t *testing.T) {
	edit := func(name string) proxy.Plugin {
		return script(t, name, "q: add 0 x-order "+name+"\nq: upper 0\nq: write 0 -"+name, instances(1), requestOnly)
	}
	f := func(name, content, want string, change ...func(*proxy.Config, *proxy.Provider)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			up := &refuser{}
			e := start(t, one(provider(t, up.ServeHTTP), append(change, retrying(1))...))
			got, _ := call(t, client(t), "POST", e.url+"/up/path", content)
			seen := up.requests()
			if got.StatusCode/100 != 2 || got.Header.Get("X-Edge-Attempts") != "2" || len(seen) != 2 || seen[0] != seen[1] {
				t.Fatalf("got %d after %s attempts, want 200 after 2; the provider got\n%.300s", got.StatusCode, got.Header.Get("X-Edge-Attempts"), strings.Join(seen, "\n===\n"))
			}
			if text := seen[1]; !strings.HasSuffix(text, "\n\n"+want) {
				t.Errorf("the provider got %d bytes, want %d: %.300s ... %.50q", len(text), len(want), text, text[max(0, len(text)-50):])
			}
			if n := e.sum("edge_plugin_streams"); n != 0 {
				t.Errorf("%v streams of plugins are left", n)
			}
		})
	}
	f("http-wasm of the provider", "content", "CONTENT-p", around(edit("p")))
	f("http-wasm of both", "content", "CONTENT-R-p", before(edit("r")), around(edit("p")))
	f("http-wasm of both, long", long, strings.ToUpper(long)+"-R-p", before(script(t, "r", "q: upper 0\nq: write 0 -r", requestOnly)), around(script(t, "p", "q: upper 0\nq: write 0 -p")))
	f("http-wasm that replaces what it has not read", long, "mine", before(script(t, "r", "q: write 0 mine", requestOnly)))
	f("http-wasm of the provider's that does", long, "mine", around(script(t, "p", "q: write 0 mine", requestOnly)))
	f("method and target", "content", "content", around(script(t, "p", "q: method PUT\nq: uri /on?x\nq: add 0 x-a {method}")))
	for content, size := range map[string]string{"content": "short", long: "long"} {
		f("Proxy-Wasm of the provider, "+size, content, "["+content+"]", around(filter(t, "p", "whole")))
		f("Proxy-Wasm of the route, "+size, content, "["+content+"]", before(filter(t, "r", "whole")))
		f("Proxy-Wasm of both, "+size, content, "[["+content+"]]", before(filter(t, "r", "whole")), around(filter(t, "p", "whole")))
		f("chunk by chunk, "+size, content, strings.ToUpper(content), before(filter(t, "r", "upper")), around(filter(t, "p", "upper")))
		f("both ABIs, "+size, content, "[["+strings.ToUpper(content)+"-p]]",
			before(filter(t, "r", "upper"), filter(t, "s", "observe")), around(script(t, "p", "q: upper 0\nq: write 0 -p"), filter(t, "q", "whole"), filter(t, "s2", "whole")))
		f("skipped, "+size, content, content, around(script(t, "p", "q: set 0 x-gone yes\nq: upper 0\nq: trap", skipping)))
	}
	f("Proxy-Wasm that is skipped", "content", "content", around(filter(t, "p", "trap-headers", skipping), filter(t, "q", "observe")))
	f("heads", "content", "content", around(filter(t, "p", "headers")))
}

// TestRetryWithTrailers: a plugin that changes a trailer changes the caller's in each attempt.
func TestRetryWithTrailers(t *testing.T) {
	for name, where := range map[string]func(...proxy.Plugin) func(*proxy.Config, *proxy.Provider){"route": before, "provider": around} {
		for _, content := range []string{"abc", long} {
			up := &refuser{}
			e := start(t, one(provider(t, up.ServeHTTP), retrying(1), where(filter(t, "f", "trailers"))))
			_, reader := raw(t, e.url, fmt.Sprintf("POST /up/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n%x\r\n%s\r\n0\r\nX-Sum: 3\r\n\r\n", len(content), content))
			got, _ := next(t, reader)
			if seen := up.requests(); got.StatusCode != 200 || len(seen) != 2 || !strings.HasSuffix(seen[0], content+"|X-Sum: 3-in") || seen[1] != seen[0] {
				t.Errorf("%s, %d bytes: got %d, and the provider ...%.60q", name, len(content), got.StatusCode, tails(seen, 30))
			}
		}
	}
}

// tails are the ends of texts.
func tails(all []string, n int) (ends []string) {
	for _, text := range all {
		ends = append(ends, text[max(0, len(text)-n):])
	}
	return ends
}

// behind is a configuration with a fallback that has these plugins of its own.
func behind(c proxy.Config, all ...proxy.Plugin) proxy.Config {
	other := c.Providers["other"]
	for _, plugin := range all {
		c.Plugins, other.Plugins = append(c.Plugins, plugin), append(other.Plugins, plugin.Name)
	}
	c.Providers["other"], c.CacheDir = other, compiled()
	return c
}

// TestFallbackStartsFromWhatRoutePluginsLeft, with the fallback's own plugins in place of the first provider's.
func TestFallbackStartsFromWhatRoutePluginsLeft(t *testing.T) {
	f := func(name, content, want string, change []func(*proxy.Config, *proxy.Provider), others ...proxy.Plugin) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			other := &refuser{seen: []string{"none"}}
			e := start(t, behind(pair(provider(t, status(503)), provider(t, other.ServeHTTP), change...), others...))
			got, _ := call(t, client(t), "POST", e.url+"/up/path", content, "X-Own", "caller")
			seen := other.requests()
			text := seen[len(seen)-1]
			if got.StatusCode != 200 || !strings.HasSuffix(text, "\n\n"+want) {
				t.Errorf("got %d %.300s ... %.50q, want %d bytes of content", got.StatusCode, text, text[max(0, len(text)-50):], len(want))
			}
			if !strings.Contains(text, "X-Own: caller\r\n") || strings.Contains(text, "X-First") || !strings.Contains(text, "POST /path\n") {
				t.Errorf("the head is\n%.300s", text)
			}
		})
	}
	do := func(all ...func(*proxy.Config, *proxy.Provider)) []func(*proxy.Config, *proxy.Provider) { return all }
	first := script(t, "first", "q: method PUT\nq: uri /first\nq: set 0 x-first yes\nq: set 0 x-own first\nq: upper 0\nq: write 0 -first", instances(1))
	f("http-wasm", "content", "CONTENT-other", do(around(first)), script(t, "o", "q: upper 0\nq: write 0 -other"))
	f("http-wasm, then Proxy-Wasm", "content", "[content]", do(around(first)), filter(t, "o", "whole"))
	for content, size := range map[string]string{"content": "short", long: "long"} {
		f("Proxy-Wasm, "+size, content, "[["+content+"]]", do(before(filter(t, "r", "whole")), around(filter(t, "p", "whole"))), filter(t, "o", "whole"))
		f("Proxy-Wasm, then none, "+size, content, content, do(around(filter(t, "p", "whole"))))
	}
}

// TestFallbackBeforeARouteFilterHasSeenAll: where the provider admits nobody, content that comes through a plugin of the
// route's goes to the next all the same.
func TestFallbackBeforeARouteFilterHasSeenAll(t *testing.T) {
	for _, mode := range []string{"upper", "observe"} {
		c := pair(provider(t, never), provider(t, giveBack), before(filter(t, "r", mode)), func(c *proxy.Config, p *proxy.Provider) {
			c.DropExcessRequests, p.Concurrency, p.BufferSize = true, 1, 0
		})
		e := start(t, c)
		occupied(t, e, "up")
		want := long
		if mode == "upper" {
			want = strings.ToUpper(long)
		}
		for range 3 {
			if got, text := call(t, client(t), "POST", e.url+"/up/x", long); got.StatusCode != 200 || text != want {
				t.Errorf("%s: got %d and %d bytes, want 200 and %d", mode, got.StatusCode, len(text), len(want))
			}
		}
	}
}

// TestPluginAnswersTheSecondAttempt: the answer is the plugin's, whatever the first provider has said.
func TestPluginAnswersTheSecondAttempt(t *testing.T) {
	f := func(name, content string, wantStatus int, want, code string, other proxy.Plugin) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			reached := func(http.ResponseWriter, *http.Request) { t.Error("the fallback was reached") }
			e := start(t, behind(pair(provider(t, status(503, "X-First", "yes")), provider(t, reached), around(script(t, "p", "q: upper 0"))), other))
			got, text := call(t, client(t), "POST", e.url+"/up/x", content)
			if got.StatusCode != wantStatus || !strings.Contains(text, want) || got.Header.Get("X-First") != "" || got.Header.Get("X-Edge-Attempts") != "2" || got.Header.Get("X-Edge-Reason") != code {
				t.Errorf("got %d %q %v, want %d %q after two attempts", got.StatusCode, text, got.Header, wantStatus, want)
			}
		})
	}
	for content, size := range map[string]string{"content": "short", long: "long"} {
		f("http-wasm, "+size, content, 418, "tea", "", script(t, "o", "q: status 418\nq: write 1 tea\nq: stop"))
		f("Proxy-Wasm, "+size, content, 403, "no entry", "", filter(t, "o", "reply"))
		f("Proxy-Wasm at the content, "+size, content, 422, "not this content", "", filter(t, "o", "reply-body"))
		f("one that fails, "+size, content, 500, "plugin_error", "plugin_error", script(t, "o", "q: trap"))
		f("one that fails at the content, "+size, content, 500, "plugin_error", "plugin_error", filter(t, "o", "trap-body"))
	}
}

// TestAnswerPluginsSeeTheLastAttemptOnly, once.
func TestAnswerPluginsSeeTheLastAttemptOnly(t *testing.T) {
	plugin := func(name string) proxy.Plugin {
		return script(t, name, "i: features 2\nq: add 0 x-asked "+name+"\ns: add 1 x-back "+name+"-{status}\ns: upper 1", instances(1))
	}
	up := steps(status(429), status(503), func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "asked %s", strings.Join(r.Header["X-Asked"], ","))
	})
	e := start(t, one(provider(t, up.ServeHTTP), retrying(2), before(plugin("r")), around(plugin("p"), filter(t, "f", "observe"))))
	got, text := call(t, client(t), "POST", e.url+"/up/x", "content")
	if got.StatusCode != 200 || text != "ASKED R,P" || strings.Join(got.Header["X-Back"], ",") != "p-200,r-200" {
		t.Errorf("got %d %q %v", got.StatusCode, text, got.Header["X-Back"])
	}
}

// TestKeptAnswerPassesTheRoutesPlugins: an answer that is passed on since nobody else admits is not the first provider's
// plugins' to change any more.
func TestKeptAnswerPassesTheRoutesPlugins(t *testing.T) {
	c := pair(provider(t, status(429, "X-Own", "yes")), provider(t, never), around(script(t, "p", "s: add 1 x-back p")), before(script(t, "r", "i: features 2\ns: add 1 x-back r{status}\ns: upper 1\ns: write 1 !", instances(2))))
	other := c.Providers["other"]
	other.Concurrency, other.BufferSize = 1, 0
	c.Providers["other"], c.DropExcessRequests = other, true
	e := start(t, c)
	occupied(t, e, "other")
	got, text := call(t, client(t), "POST", e.url+"/up/x", "content")
	if got.StatusCode != 429 || text != "429!" || got.Header.Get("X-Own") != "yes" || strings.Join(got.Header["X-Back"], ",") != "r429" {
		t.Errorf("got %d %q %v", got.StatusCode, text, got.Header)
	}
}

// TestLastAnswerIsPassedOnAfterAWaitInTheQueue: a retry that does not get its turn does not hide what the provider said.
func TestLastAnswerIsPassedOnAfterAWaitInTheQueue(t *testing.T) {
	up := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/occupied" {
			never(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		status(503, "X-Own", "yes", "Retry-After-Ms", "1000")(w, r)
	}
	e := start(t, one(provider(t, up), retrying(1), func(c *proxy.Config, p *proxy.Provider) {
		p.Concurrency, p.BufferSize, c.QueueTimeout = 1, 5, 200*time.Millisecond
	}))
	done := make(chan answer)
	go func() {
		got, _ := call(t, client(t), "POST", e.url+"/up/x", "content")
		done <- got
	}()
	if !settles(5*time.Second, func() bool { return e.sum("edge_retries_total") == 1 && e.sum("edge_in_flight") == 0 }) {
		t.Fatal("there is no retry")
	}
	occupied(t, e, "up")
	if got := <-done; got.StatusCode != 503 || got.Header.Get("X-Own") != "yes" || got.Header.Get("X-Edge-Reason") != "" {
		t.Errorf("got %d %v, want the provider's 503", got.StatusCode, got.Header)
	}
}
