package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// instant is a provider that answers at once, without a connection.
type instant struct{ got upstream.Fields }

func (i *instant) Do(_ context.Context, q *upstream.Request, a *upstream.Response) error {
	i.got = append(i.got[:0], q.Fields...)
	if q.Body != nil {
		q.Body.Close()
	}
	a.Status, a.Length, a.Body, a.Trailer = http.StatusOK, 0, http.NoBody, noTrailer
	a.Fields = a.Fields[:0]
	return nil
}

func (*instant) Close() {}

// discard is a caller that reads nothing.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Flush()                      {}

// chained makes a proxy whose provider answers at once behind plugins, and returns both.
func chained(tb testing.TB, plugins ...Plugin) (*instant, func(http.ResponseWriter, *http.Request)) {
	tb.Helper()
	c := DefaultConfig()
	c.InitialPoolSize, c.Logger = 4, slog.New(slog.DiscardHandler)
	up := DefaultProvider()
	c.Plugins = plugins
	for _, plugin := range plugins {
		up.Plugins = append(up.Plugins, plugin.Name)
	}
	up.BaseURL = "http://127.0.0.1:1"
	c.Providers = map[string]Provider{"up": up}
	p, err := New(c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { p.Close() })
	provider := &instant{}
	p.current.Load().endpoints["up"].replicas[0].client = provider
	return provider, p.ServeHTTP
}

// stamped serves a request behind so many plugins that set a field each: a POST if it has content, else a GET.
func stamped(tb testing.TB, content string, module []byte, plugins int, phases ...string) (*instant, func()) {
	tb.Helper()
	var all []Plugin
	for i := range plugins {
		plugin := DefaultPlugin()
		plugin.Name, plugin.Module, plugin.Phases = fmt.Sprintf("p%d", i), module, phases
		all = append(all, plugin)
	}
	provider, serve := chained(tb, all...)
	r := httptest.NewRequestWithContext(tb.Context(), http.MethodGet, "/up/v1/models", nil)
	for i := range 8 {
		r.Header.Set(fmt.Sprintf("X-Field-%d", i), "value")
	}
	if content != "" {
		r.Method, r.ContentLength = http.MethodPost, int64(len(content))
		r.Header.Set("Content-Length", strconv.Itoa(len(content)))
	}
	w, body := &discard{header: http.Header{}}, strings.NewReader("")
	return provider, func() {
		clear(w.header)
		body.Reset(content)
		r.Body = io.NopCloser(body)
		serve(w, r)
	}
}

// interpreted is n where wazero has no compiler for the machine, since its interpreter allocates, and 0 elsewhere.
func interpreted(n float64) float64 {
	if runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64" {
		return 0
	}
	return n
}

// Plugins cost a request no allocation: neither one that sets a field nor one that sees the answer, too.
func TestPluginsAllocateNothing(t *testing.T) {
	measure := func(content string, module []byte, plugins int, phases ...string) float64 {
		provider, serve := stamped(t, content, module, plugins, phases...)
		for range 100 { // records, strings and instances are there after the first ones
			serve()
		}
		if plugins > 0 && provider.got.Get("X-Stamp") != "edge" {
			t.Fatalf("the provider got %v", provider.got)
		}
		least := testing.AllocsPerRun(200, serve)
		for range 4 { // what other goroutines allocate meanwhile is counted, too, and can only add
			least = min(least, testing.AllocsPerRun(200, serve))
		}
		return least
	}
	for _, content := range []string{"", strings.Repeat("x", 1<<10)} {
		without := measure(content, nil, 0)
		for abi, module := range map[string][]byte{"http-wasm": StampGuest(), "Proxy-Wasm": FilterGuest()} {
			for _, plugins := range []int{1, 5, 8} {
				for _, phases := range [][]string{{phaseRequest}, {phaseRequest, phaseResponse}} {
					each := 2.0
					if abi == "http-wasm" {
						each = float64(1 + len(phases))
					}
					if got, want := measure(content, module, plugins, phases...), without+interpreted(each*float64(plugins)); got != want {
						t.Errorf("%d bytes, %d plugins of %s, phases %v: %v allocations a request, want %v", len(content), plugins, abi, phases, got, want)
					}
				}
			}
		}
	}
}

// BenchmarkChain is a whole request through ServeHTTP to a provider that answers at once, behind plugins that set one
// field each.
func BenchmarkChain(b *testing.B) {
	for _, c := range []struct {
		name    string
		module  []byte
		plugins int
		phases  []string
	}{
		{"none", nil, 0, nil},
		{"http-wasm=1", StampGuest(), 1, []string{phaseRequest}},
		{"http-wasm=1/answers", StampGuest(), 1, []string{phaseRequest, phaseResponse}},
		{"http-wasm=5", StampGuest(), 5, []string{phaseRequest}},
		{"proxy-wasm=1", FilterGuest(), 1, []string{phaseRequest}},
		{"proxy-wasm=5", FilterGuest(), 5, []string{phaseRequest}},
	} {
		b.Run(c.name, func(b *testing.B) {
			_, serve := stamped(b, "", c.module, c.plugins, c.phases...)
			serve()
			b.ReportAllocs()
			for b.Loop() {
				serve()
			}
		})
	}
}

func TestBodyCopiesFromAnywhereAroundACut(t *testing.T) {
	whole := make([]byte, 40<<10)
	for i := range whole {
		whole[i] = byte(i*7 + i>>8)
	}
	p := &Proxy{}
	p.initArena(4)
	x := &exchange{arrival: arrival{p: p, gen: &generation{config: DefaultConfig()}}, ctx: &lifetime{parent: t.Context()}}
	for _, cut := range [][2]int64{{0, 0}, {0, 10}, {16<<10 - 5, 16<<10 + 5}, {40<<10 - 3, 40 << 10}, {100, 39 << 10}} {
		b := newHeldBody(x)
		if err := b.append(whole); err != nil {
			t.Fatal(err)
		}
		b.edit(edit{from: cut[0], to: cut[1]})
		want := append(append([]byte(nil), whole[:cut[0]]...), whole[cut[1]:]...)
		if b.length() != int64(len(want)) {
			t.Errorf("cut %v: length %d, want %d", cut, b.length(), len(want))
		}
		for _, step := range []int{1000, 16 << 10, 50 << 10} {
			var got []byte
			into := make([]byte, step)
			for {
				n := b.copyAt(into, int64(len(got)))
				if n == 0 {
					break
				}
				got = append(got, into[:n]...)
			}
			if string(got) != string(want) {
				t.Errorf("cut %v, step %d: got %d bytes that differ from the %d wanted", cut, step, len(got), len(want))
			}
		}
		read, err := io.ReadAll(b.reader())
		if err != nil || string(read) != string(want) {
			t.Errorf("cut %v: reader gave %d bytes, %v", cut, len(read), err)
		}
	}
}
