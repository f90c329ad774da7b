package examples_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// folder is this folder, where the examples are.
var folder = os.DirFS(".")

// patience is how long a test waits for what should come at once.
const patience = 15 * time.Second

// names are the examples, each of which has a folder.
func names(t *testing.T) []string {
	t.Helper()
	files, err := fs.Glob(folder, "*/edge.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("found no example: %v", err)
	}
	for i, file := range files {
		files[i] = filepath.Dir(file)
	}
	return files
}

// edgeConfig is what the runner knows of an edge.json.
type edgeConfig struct {
	Plugins []map[string]any `json:"plugins"`
}

// readConfig returns the plugins of an example with the case's configuration and the module's whole path.
func readConfig(t *testing.T, example string, c testCase) edgeConfig {
	t.Helper()
	data, err := fs.ReadFile(folder, example+"/edge.json")
	if err != nil {
		t.Fatal(err)
	}
	var config edgeConfig
	if err := json.Unmarshal(data, &config); err != nil {
		t.Fatalf("%s/edge.json: %v", example, err)
	}
	if len(config.Plugins) != 1 || config.Plugins[0]["path"] != example+".wasm" {
		t.Fatalf("%s/edge.json: want one plugin with the path %s.wasm", example, example)
	}
	if c.config != "" {
		config.Plugins[0]["config"] = json.RawMessage(c.config)
	}
	path, err := filepath.Abs(filepath.Join(example, example+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	config.Plugins[0]["path"] = path
	return config
}

// guestConfig is a configuration as the guest reads it: a string's own bytes, nothing for null, else the JSON text.
func guestConfig(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var s *string
	if err := json.Unmarshal(text, &s); err != nil {
		return string(text)
	} else if s == nil {
		return ""
	}
	return *s
}

// TestABI runs the cases on a host of nothing but the ABI: what an example needs of a host is what the ABI gives.
func TestABI(t *testing.T) {
	upstream := startUpstream(t)
	for _, example := range names(t) {
		t.Run(example, func(t *testing.T) {
			wasm, err := fs.ReadFile(folder, example+"/"+example+".wasm")
			if err != nil {
				t.Fatal(err)
			}
			if isProxyWasm(t, wasm) {
				runStreams(t, upstream, example, wasm)
				return
			}
			runtime, compiled := compile(t, wasm)
			hosts := map[string]*guestHost{}
			for _, c := range readCases(t, example) {
				t.Run(c.name, func(t *testing.T) {
					config := guestConfig(t, readConfig(t, example, c).Plugins[0]["config"])
					host := hosts[config]
					if host == nil {
						host = &guestHost{send: upstream.send, config: config, runtime: runtime, compiled: compiled}
						hosts[config] = host
					}
					server := httptest.NewServer(host)
					defer server.Close()
					run(t, upstream, c, server.Listener.Addr().String(), &host.logs)
				})
			}
		})
	}
}

// TestEdge runs the cases through edge as it is shipped, with the example's own edge.json. Where a plugin refuses its
// configuration, edge may refuse to start: it serves none of these requests then, which is what such a case is about.
func TestEdge(t *testing.T) {
	edge := build(t)
	upstream := startUpstream(t)
	for _, example := range names(t) {
		t.Run(example, func(t *testing.T) {
			running := map[string]*process{}
			for _, c := range readCases(t, example) {
				config := readConfig(t, example, c)
				key := guestConfig(t, config.Plugins[0]["config"])
				if running[key] == nil {
					running[key] = start(t, edge, example, config, upstream.URL)
				}
				t.Run(c.name, func(t *testing.T) {
					if p := running[key]; p.address == "" && c.wantNone && strings.Contains(c.wantResponse.first, " 500 ") {
						checkLog(t, c, &p.stderr)
						return
					}
					run(t, upstream, c, running[key].address, &running[key].stderr)
				})
			}
		})
	}
}

// run puts a case through what listens on the address and logs to log: whole and split, again on instances that have
// served before, and many at once.
func run(t *testing.T, upstream *caseUpstream, c testCase, address string, log *output) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("log:\n%s", log)
		}
	}()
	if address == "" {
		t.Fatal("edge does not serve")
	}
	for i := range 6 {
		if err := upstream.exchange(c, address, i%2 == 1); err != nil {
			t.Fatalf("exchange %d (odd ones in chunks): %v", i, err)
		}
		upstream.recover(t, c, address)
	}
	const together = 8
	atOnce := together
	if c.upstream.failing() {
		atOnce = 4 // five in a row are more than edge lets happen
	}
	for range together / atOnce {
		failures := make(chan error, atOnce)
		for i := range atOnce {
			go func() { failures <- upstream.exchange(c, address, i%2 == 1) }()
		}
		for range atOnce {
			if err := <-failures; err != nil {
				t.Errorf("%d at once: %v", atOnce, err)
			}
		}
		upstream.recover(t, c, address)
	}
	checkLog(t, c, log)
}

func checkLog(t *testing.T, c testCase, log *output) {
	t.Helper()
	for _, want := range c.wantLog {
		if !settles(func() bool { return strings.Contains(log.String(), want) }) {
			t.Errorf("log: want %q", want)
		}
	}
}

// settles waits until a condition holds, and reports whether it does.
func settles(holds func() bool) bool {
	deadline := time.After(patience)
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline:
			return false
		}
	}
	return true
}

// built is edge, built at the first call of build.
var built struct {
	once sync.Once
	dir  string
	err  error
}

// TestMain removes what build has built.
func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// build returns the path of edge.
func build(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "edge-examples-"); built.err != nil { //nolint:usetesting // it serves all tests
			return
		}
		build := exec.CommandContext(context.Background(), "go", "build", "-o", filepath.Join(built.dir, "edge.exe"), "../cmd/edge")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if said, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%w\n%s", err, said)
		}
	})
	if built.err != nil {
		t.Fatalf("go build: %v", built.err)
	}
	return filepath.Join(built.dir, "edge.exe")
}

// process is a running edge.
type process struct {
	address string // of its data listener; empty if it did not come to serve
	stderr  output
}

// start runs edge with an example's edge.json: on free ports, with the upstream as its provider and the plugin as given.
// Variables are added to its environment.
func start(t *testing.T, edge, example string, config edgeConfig, upstream string, variables ...string) *process {
	t.Helper()
	over, err := json.Marshal(map[string]any{
		"listen": "127.0.0.1:0", "admin": map[string]any{"listen": "127.0.0.1:0"}, "log": map[string]any{"level": "debug"},
		"providers": map[string]any{"demo": map[string]any{"network_config": map[string]any{"base_url": upstream}}},
		"plugins":   config.Plugins,
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &process{}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, edge, "run", "-config", filepath.Join(example, "edge.json"))
	cmd.Env = append([]string{"EDGE_CONFIG_JSON=" + string(over), "HOME=" + t.TempDir()}, variables...)
	cmd.Stderr = &p.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // what it wrote tells why it ended
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	serving := settles(func() bool {
		select {
		case <-ended:
			return true
		default:
			p.address = p.listens()
			return p.address != ""
		}
	})
	if !serving {
		t.Fatalf("edge neither serves nor ends; it wrote\n%s", p.stderr.String())
	}
	return p
}

// listens returns the address in the line that says that edge serves.
func (p *process) listens() string {
	for line := range bytes.Lines([]byte(p.stderr.String())) {
		var said struct{ Msg, Listen string }
		if json.Unmarshal(line, &said) == nil && said.Msg == "serving" {
			return said.Listen
		}
	}
	return ""
}
