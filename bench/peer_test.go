package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMetricValue(t *testing.T) {
	const text = "# TYPE go_memstats_mallocs_total counter\ngo_memstats_mallocs_total_more 1\ngo_memstats_mallocs_total 1234\n"
	if got, err := metricValue(text, mallocsMetric); got != 1234 || err != nil {
		t.Errorf("got %v, %v; want 1234", got, err)
	}
	if _, err := metricValue(text, allocatedMetric); err == nil {
		t.Error("a metric that is not there: want an error")
	}
}

func TestEdgeEnvironment(t *testing.T) {
	setup := edgeSetup{
		profile: "balanced", concurrency: 300, providers: 2, plugin: "/tmp/a.wasm", plugins: 2, config: "{}", cacheDir: "/tmp/cache",
	}
	got := setup.environment([]string{"PATH=/bin", "EDGE_CONFIG=/etc/edge.json", "GOGC=50"}, "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
	want := strings.Fields(`PATH=/bin GOGC=50
		EDGE_LISTEN=127.0.0.1:2 EDGE_ADMIN_LISTEN=127.0.0.1:3 EDGE_PROFILE=balanced EDGE_LOG_LEVEL=warn EDGE_CONCURRENCY=300
		EDGE_CACHE_DIR=/tmp/cache
		EDGE_PLUGINS_0_NAME=plugin-0 EDGE_PLUGINS_0_PATH=/tmp/a.wasm EDGE_PLUGINS_0_PHASES=request EDGE_PLUGINS_0_CONFIG={}
		EDGE_PLUGINS_1_NAME=plugin-1 EDGE_PLUGINS_1_PATH=/tmp/a.wasm EDGE_PLUGINS_1_PHASES=request EDGE_PLUGINS_1_CONFIG={}
		EDGE_PROVIDERS_UP0_BASE_URL=http://127.0.0.1:1 EDGE_PROVIDERS_UP0_PLUGINS=plugin-0,plugin-1
		EDGE_PROVIDERS_UP1_BASE_URL=http://127.0.0.1:1 EDGE_PROVIDERS_UP1_PLUGINS=plugin-0,plugin-1`)
	if !slices.Equal(got, want) { // the caller's configuration of edge is not in it
		t.Errorf("got %q, want %q", got, want)
	}
	got = edgeSetup{profile: "balanced", processors: true}.environment([]string{"GOMAXPROCS=100"}, "", "", "")
	if want := fmt.Sprintf("GOMAXPROCS=%d", runtime.GOMAXPROCS(0)); got[len(got)-1] != want { // exec takes the last
		t.Errorf("got %q, want %q at the end", got, want)
	}
	got = edgeSetup{profile: "balanced", providers: 1}.environment(nil, "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
	if text := strings.Join(got, " "); strings.Contains(text, "CONCURRENCY") || strings.Contains(text, "PLUGINS") || strings.Contains(text, "CACHE") {
		t.Errorf("got %q, want the profile's", text)
	}
}

// TestMeasuredEdge: the limits are beyond what a workload reaches.
func TestMeasuredEdge(t *testing.T) {
	for _, w := range served() {
		if got := measured(w).concurrency; got <= w.connections || got > 1<<16 {
			t.Errorf("%s: got concurrency %d for %d connections", w.name, got, w.connections)
		}
	}
}

// wanted asks for a program, and skips the test where there is none, unless EDGE_TEST_REQUIRE is all.
func wanted(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("EDGE_TEST_REQUIRE") == "all" {
			t.Fatalf("%s is not here, and EDGE_TEST_REQUIRE is all", name)
		}
		t.Skip(name + " is not here")
	}
	return path
}

// TestStampIsBuilt compares W9's Proxy-Wasm plugin with its source.
func TestStampIsBuilt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stamp.wasm")
	if output, err := exec.CommandContext(t.Context(), wanted(t, "wat2wasm"), "testdata/stamp.wat", "-o", file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	built, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(built, stampProxyWasm) {
		t.Errorf("testdata/stamp.wasm is not what wat2wasm makes of stamp.wat: %d bytes against %d, %v", len(stampProxyWasm), len(built), err)
	}
}

// siteOf has an upstream, until the test ends.
func siteOf(t *testing.T) *site {
	t.Helper()
	upstream, at, err := startSelf(t.Context(), upstreamCommand)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(upstream.stop)
	return &site{dir: t.TempDir(), upstream: at.Serving}
}

// TestEdge builds it, and has it serve what the tables ask of it.
func TestEdge(t *testing.T) {
	onLinux(t)
	s := siteOf(t)
	var err error
	if s.edge, err = buildEdge(t.Context(), s.dir); err != nil {
		t.Fatal(err)
	}
	w, _ := workloadNamed("W2")
	two := func(ctx context.Context, s *site, w workload) (*peer, error) {
		setup := measured(w)
		setup.providers = 2
		return setup.start(ctx, s)
	}
	for name, start := range map[string]starter{
		"alone": startEdge, "two providers": two, oneHTTPWasm: edgeWith(1, httpWasmModule), fiveProxyWasm: edgeWith(5, proxyWasmModule),
	} {
		p, err := start(t.Context(), s, w)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := p.turn(t.Context(), w, loadTime); err != nil || !(got[mallocs] > 0) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
		p.stop()
	}
	module := func(*site) (string, error) { return filepath.Abs("testdata/stamp.wat") }
	if _, err := edgeWith(1, module)(t.Context(), s, w); err == nil || !strings.Contains(err.Error(), "the proxy said: ") {
		t.Errorf("a plugin that is none: got error %v, want what edge said", err)
	}
}

// TestPrograms has the proxies of others serve, those that are here.
func TestPrograms(t *testing.T) {
	onLinux(t)
	s := siteOf(t)
	for _, p := range programs {
		path, err := p.find()
		if errors.Is(err, exec.ErrNotFound) {
			t.Logf("%s is not here", p.name)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if p.versionOf(t.Context(), path) == "" {
			t.Errorf("%s has no version", p.name)
		}
		for _, name := range []string{"W2", "W4b"} {
			if p.only != "" && p.only != name {
				continue
			}
			w, _ := workloadNamed(name)
			one, err := p.starter(path)(t.Context(), s, w)
			if err != nil {
				t.Errorf("%s: %v", p.name, err)
				continue
			}
			got, err := one.turn(t.Context(), w, loadTime)
			if err != nil || !(got[cpu] > 0 && got[idle] > 0) || p.counters != (got[mallocs] > 0) {
				t.Errorf("%s %s: got %v, %v", p.name, name, got, err)
			}
			all := one.process.all()
			one.stop()
			for _, pid := range all {
				if _, err := os.Stat(procFile(pid, "stat")); err == nil {
					t.Errorf("%s: process %d is still there", p.name, pid)
				}
			}
		}
	}
}

func TestProgramConfigs(t *testing.T) {
	for _, p := range programs {
		for _, streams := range []bool{false, true} {
			file := filepath.Join(t.TempDir(), "config")
			s := setting{
				Dir: "/tmp/d", Upstream: "127.0.0.1:1", Listen: "127.0.0.1:2", Admin: "127.0.0.1:3",
				Connections: 1111, Files: 2222, IdleConns: 3333, Processes: 2, Streams: streams, AsRoot: true,
			}
			if err := p.writeConfig(file, s); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			f := func(want bool, part string) {
				t.Helper()
				if strings.Contains(string(text), part) != want {
					t.Errorf("%s: got\n%s\nwant %q in it: %v", p.name, text, part, want)
				}
			}
			f(true, s.Upstream)
			text = append(text, strings.Join(p.arguments(file, s), "\n")...)
			f(true, s.Listen)
			f(p.counters || p.health != "", s.Admin)
			f(p.name == nginxPeer && streams, "proxy_buffering off")
			f(p.name == haproxyPeer && streams, "http-no-delay")
			f(p.name == caddyPeer && streams, "flush_interval -1")
			f(p.name != haproxyPeer, "3333")
		}
	}
	if _, err := (program{name: "no-such-program"}).find(); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("got error %v, want not found", err)
	}
}

// TestStartThatFails: the error says how edge ended.
func TestStartThatFails(t *testing.T) {
	onLinux(t)
	s := &site{dir: t.TempDir(), edge: "/bin/false"}
	var r started
	begin := time.Now()
	if err := r.measure(t.Context(), s, edgeSetup{profile: "balanced", providers: 1}); err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("got error %v after %v, want how it ended", err, time.Since(begin))
	}
}
