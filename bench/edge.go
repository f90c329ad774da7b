package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// edgeSetup is how an edge is configured.
type edgeSetup struct {
	profile     string
	concurrency int // 0: the profile's
	providers   int
	plugin      string // file of the module, absolute
	plugins     int    // so many plugins of that module, which see requests only
	config      string // of each
	cacheDir    string
	takeover    bool // client.takeover
	processors  bool // all of them at all times, as edge has them with plugins
}

// The http-wasm plugin of W9, and the one written in Go that a start from the cache has.
const (
	stampHeader = "../wasm-examples/stamp-header/stamp-header.wasm"
	checkKey    = "../wasm-examples/check-key/check-key.wasm"

	checkKeyConfig = `{"header":"x-plugin-key","keys":["first-demo-key"]}`
)

// stampProxyWasm is W9's Proxy-Wasm plugin, which does what stamp-header does: testdata/stamp.wat.
//
//go:embed testdata/stamp.wasm
var stampProxyWasm []byte

// buildEdge builds edge as the Makefile does, and returns the binary's path.
func buildEdge(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "edge")
	cmd := command(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./cmd/edge")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build ../cmd/edge: %w\n%s", err, output)
	}
	return binary, nil
}

// measured is the edge of the tables: its limits are beyond what the workload reaches.
func measured(w workload) edgeSetup {
	return edgeSetup{profile: "high-throughput", concurrency: max(200, w.connections+w.connections/3), providers: 1}
}

// startEdge is the edge of the tables, without plugins.
func startEdge(ctx context.Context, s *site, w workload) (*peer, error) {
	return measured(w).start(ctx, s)
}

// startTakenOver is the same edge, but for client.takeover.
func startTakenOver(ctx context.Context, s *site, w workload) (*peer, error) {
	setup := measured(w)
	setup.takeover = true
	return setup.start(ctx, s)
}

// startBusy is edge without plugins as W9 compares with it: its segments are shorter than it takes edge to see that there is
// much to do.
func startBusy(ctx context.Context, s *site, w workload) (*peer, error) {
	setup := measured(w)
	setup.processors = true
	return setup.start(ctx, s)
}

// edgeWith is the edge of the tables with so many plugins of one module, which do what they should.
func edgeWith(plugins int, module func(*site) (string, error)) starter {
	return func(ctx context.Context, s *site, w workload) (*peer, error) {
		setup := measured(w)
		file, err := module(s)
		if err != nil {
			return nil, err
		}
		setup.plugin, setup.plugins = file, plugins
		p, err := setup.start(ctx, s)
		if err != nil {
			return nil, err
		}
		if _, err := fetch(ctx, "http://"+p.address+p.prefixes[0]+stampedPath); err != nil {
			p.stop()
			return nil, err
		}
		return p, nil
	}
}

func httpWasmModule(*site) (string, error) { return filepath.Abs(stampHeader) }

func proxyWasmModule(s *site) (string, error) {
	file := filepath.Join(s.dir, "stamp.wasm")
	return file, os.WriteFile(file, stampProxyWasm, 0o644)
}

// start returns when edge is ready.
func (e edgeSetup) start(ctx context.Context, s *site) (*peer, error) {
	p, url, err := e.launch(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := awaitReady(ctx, p.process, url, readyPoll); err != nil {
		p.stop()
		return nil, err
	}
	return ready(p)
}

// launch returns at once, with the URL that says when edge is ready.
func (e edgeSetup) launch(ctx context.Context, s *site) (*peer, string, error) {
	ports, err := freeAddresses(ctx, 2)
	if err != nil {
		return nil, "", err
	}
	process, err := start(ctx, s.edge, e.environment(os.Environ(), s.upstream, ports[0], ports[1]), "run")
	if err != nil {
		return nil, "", err
	}
	p := &peer{address: ports[0], process: process, counters: "http://" + ports[1] + "/metrics"}
	for i := range e.providers {
		p.prefixes = append(p.prefixes, "/"+provider(i))
	}
	return p, "http://" + ports[1] + "/readyz", nil
}

func provider(i int) string { return fmt.Sprintf("up%d", i) }

// environment is environ without what would configure edge, and with what shall.
func (e edgeSetup) environment(environ []string, upstream, listen, admin string) []string {
	environ = slices.DeleteFunc(slices.Clone(environ), func(variable string) bool { return strings.HasPrefix(variable, "EDGE_") })
	set := func(name, value string) { environ = append(environ, "EDGE_"+name+"="+value) }
	set("LISTEN", listen)
	set("ADMIN_LISTEN", admin)
	set("PROFILE", e.profile)
	set("LOG_LEVEL", "warn")
	if e.concurrency > 0 {
		set("CONCURRENCY", fmt.Sprint(e.concurrency))
	}
	if e.takeover {
		set("TAKEOVER", "true")
	}
	if e.processors {
		environ = append(environ, fmt.Sprintf("GOMAXPROCS=%d", runtime.GOMAXPROCS(0)))
	}
	if e.cacheDir != "" {
		set("CACHE_DIR", e.cacheDir)
	}
	var plugins []string
	for i := range e.plugins {
		plugins = append(plugins, fmt.Sprintf("plugin-%d", i))
		element := fmt.Sprintf("PLUGINS_%d_", i)
		set(element+"NAME", plugins[i])
		set(element+"PATH", e.plugin)
		set(element+"PHASES", "request")
		if e.config != "" {
			set(element+"CONFIG", e.config)
		}
	}
	for i := range e.providers {
		name := "PROVIDERS_" + strings.ToUpper(provider(i))
		set(name+"_BASE_URL", "http://"+upstream)
		if len(plugins) > 0 {
			set(name+"_PLUGINS", strings.Join(plugins, ","))
		}
	}
	return environ
}
