package plugins

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero/api"
)

var (
	i32Type = []api.ValueType{api.ValueTypeI32}
	i64Type = []api.ValueType{api.ValueTypeI64}
)

// TestLoadRefuses checks what is refused before anything of the module runs, and that errors say what to change.
func TestLoadRefuses(t *testing.T) {
	h := newHost(t)
	f := func(name string, c Config, b Binding, want ...string) {
		t.Helper()
		c.Name = "redact"
		m, err := h.Load(t.Context(), c, b)
		if err == nil {
			_ = m.Close(context.Background())
			t.Errorf("%s: loaded", name)
			return
		}
		for _, w := range append(want, "plugins: redact: ") {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, want %q in it", name, err, w)
			}
		}
		if strings.Count(err.Error(), "plugins: ") != 1 {
			t.Errorf("%s: %v names the package twice", name, err)
		}
	}
	nop := []function{{name: "nop", signature: ":"}}
	small := source{funcs: nop}.bytes()
	sum := sha256.Sum256(small)

	f("not wasm", Config{Module: []byte("hello")}, Binding{}, "not WebAssembly")
	f("component", Config{Module: []byte("\x00asm\x0d\x00\x01\x00")}, Binding{}, "core module")
	f("truncated", Config{Module: small[:len(small)-5]}, Binding{}, "truncated")
	f("wrong pin", Config{Module: small, SHA256: strings.Repeat("0", 64)}, Binding{}, "sha256", hex.EncodeToString(sum[:]))
	f("no memory", Config{Module: source{funcs: nop, memory: []int{}}.bytes()}, Binding{}, `must export memory "memory"`)
	f("missing exports", Config{Module: small}, Binding{Required: []Signature{
		{Name: "handle_request", Results: i64Type}, {Name: "handle_response", Params: append(i32Type, i32Type...)},
	}}, `"handle_request" () -> i64; function "handle_response" (i32, i32) -> ()`)
	f("wrong signature", Config{Module: small}, Binding{Required: []Signature{{Name: "nop", Params: i32Type}}}, `"nop" (i32) -> (), not () -> ()`)
	f("export of a wrong kind", Config{Module: small}, Binding{Required: []Signature{{Name: "memory2"}}}, `"memory2"`)
	f("start with parameters", Config{Module: source{funcs: []function{{name: "_start", signature: "i:"}}}.bytes()},
		Binding{Start: []string{"_start"}}, `"_start" () -> ()`)
	f("memory over the limit", Config{Module: source{funcs: nop, memory: []int{17}}.bytes(), MemoryLimit: 1 << 20}, Binding{}, "1114112", "memory_limit_mb")
	f("table over the limit", Config{Module: source{funcs: nop, table: []int{1 << 20}}.bytes(), MemoryLimit: 1 << 20}, Binding{}, "table", "memory_limit_mb")
	f("threads", Config{Module: withMemory(3, 1, 2)}, Binding{}, "without threads")
	f("64 bits", Config{Module: withMemory(4, 1)}, Binding{}, "wasm32")
	f("two memories", Config{Module: withMemory(0, 1, 0, 1)}, Binding{})
	f("unknown imports", Config{Module: source{funcs: nop, imports: []imported{
		{"env", "nobody", "iI:i"}, {"wasi_snapshot_preview1", "no_such", ":"}, {"env", "host", "I:"}, {"elsewhere", "f", ":"},
	}}.bytes()}, binding(), "env.nobody (i32, i64) -> i32", "wasi_snapshot_preview1.no_such () -> ()",
		"env.host (i64) -> (), which here is (i32) -> i32", "elsewhere.f")
	f("invalid code", Config{Module: source{funcs: []function{{name: "f", signature: ":i"}}}.bytes()}, Binding{}, "compile: ")
	f("malformed code", Config{Module: source{funcs: []function{{name: "f", signature: ":", code: asm(opBlock)}}}.bytes()}, Binding{})
	f("an index that is no int of 32 bits", Config{Module: source{funcs: []function{{
		name: "f", signature: ":", code: []byte{opBr, 0xff, 0xff, 0xff, 0xff, 0x0f},
	}}}.bytes()}, Binding{}, "compile: ")
	f("no sense", Config{Module: small, Deadline: "soon"}, Binding{}, `"soon", want rewrite`)
	f("no memory allowed", Config{Module: small, MemoryLimit: 5}, Binding{}, "memory limit: got 5")
	f("negative time", Config{Module: small, Timeout: -1}, Binding{}, "timeouts: got -1ns")
	f("negative lines", Config{Module: small, LogLinesPerSecond: -1}, Binding{}, "log lines")
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	f("closed host", Config{Module: small}, Binding{}, "closed")
}

// withMemory is a module whose memory section holds these bytes, as one memory or, if there are four, as two.
func withMemory(limits ...byte) []byte {
	n := byte(1)
	if len(limits) == 4 {
		n = 2
	}
	export := vec(append(str("memory"), 2, 0))
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		[]byte{5, byte(len(limits)) + 1, n}, limits, []byte{7, byte(len(export))}, export)
}

func TestLoadKeeps(t *testing.T) {
	module := zoo.bytes()
	sum := sha256.Sum256(module)
	m := load(t, newHost(t), Config{Module: module, SHA256: strings.ToUpper(hex.EncodeToString(sum[:])), Settings: []byte("x")}, binding())
	if m.Name() != "zoo" || string(m.Settings()) != "x" || len(m.Info().Imports) != 4 || m.Deadline() != DeadlineRewrite {
		t.Errorf("name %q, settings %q, info %+v, deadline %q", m.Name(), m.Settings(), m.Info(), m.Deadline())
	}
	if m.config.Module != nil {
		t.Error("a loaded module keeps its bytes")
	}
}

// TestLoadFallsBack loads a module that the rewriter does not know: reserved export names.
func TestLoadFallsBack(t *testing.T) {
	var log bytes.Buffer
	h, err := NewHost(HostConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	m := load(t, h, Config{Timeout: short, Module: source{funcs: []function{
		{name: "edge:flag", signature: ":"}, {name: "loop", signature: ":", code: asm(opLoop, empty, opBr, 0, opEnd)},
	}}.bytes()}, Binding{})
	defer m.Close(context.Background())
	if m.Deadline() != DeadlineContext || strings.Count(log.String(), "level=WARN") != 1 || !strings.Contains(log.String(), "plugin=zoo") {
		t.Errorf("deadline %q, log %q; want context and a warning", m.Deadline(), log.String())
	}
	i, err := m.Instantiate(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	wantTrap(t, i, ReasonTimeout, "loop")
}

func TestStart(t *testing.T) {
	h := newHost(t)
	loop := asm(opLoop, empty, opBr, 0, opEnd)
	f := func(name, section string, code []byte, reason TrapReason) {
		t.Helper()
		for _, deadline := range []Deadline{DeadlineRewrite, DeadlineContext} {
			timeout := short
			if reason != ReasonTimeout {
				timeout = time.Minute
			}
			m := load(t, h, Config{StartTimeout: timeout, Deadline: deadline, Module: source{
				imports: zoo.imports, funcs: []function{{name: "_initialize", signature: ":", code: code}}, start: section,
			}.bytes()}, binding("_initialize", "_start"))
			i, err := m.Instantiate(t.Context(), nil)
			switch {
			case reason == "":
				if err != nil {
					t.Fatalf("%s, %s: %v", name, deadline, err)
				}
				i.Close()
			case section == "":
				checkTrap(t, err, reason, "_initialize")
			default:
				if trap, ok := errors.AsType[*TrapError](err); !ok || trap.Reason != reason {
					t.Errorf("%s, %s: %v, want %s", name, deadline, err, reason)
				}
			}
			if s := m.Stats(); s.Instances != 0 {
				t.Errorf("%s, %s: %d instances left", name, deadline, s.Instances)
			}
		}
	}
	for _, section := range []string{"", "_initialize"} {
		f("fine", section, nil, "")
		f("trap", section, asm(opUnreachable), ReasonTrap)
		f("exit", section, asm(i32(0), call(0)), ReasonExit)
		f("loop", section, loop, ReasonTimeout)
	}
}

// TestStartOrder wants the start section, then the first of the binding's names and no other.
func TestStartOrder(t *testing.T) {
	note := func(n int) []byte { return asm(i32(n), call(3), opDrop) }
	m := load(t, newHost(t), Config{Module: source{
		imports: zoo.imports,
		funcs: []function{
			{name: "_start", signature: ":", code: note(3)},
			{name: "_initialize", signature: ":", code: note(2)},
			{name: "first", signature: ":", code: note(1)},
		},
		start: "first",
	}.bytes()}, binding("_initialize", "_start"))
	var order []int32
	instantiate(t, m, hostFunc(func(ctx context.Context, n int32) int32 {
		order = append(order, n)
		return 0
	}))
	if len(order) != 2 || order[0] != 1 || order[1] != 2 {
		t.Errorf("start functions ran in the order %v, want 1 and 2", order)
	}
}

func TestInstantiateEndsWithContext(t *testing.T) {
	m := load(t, newHost(t), Config{StartTimeout: time.Hour, Module: source{
		imports: zoo.imports,
		funcs:   []function{{name: "_start", signature: ":", code: asm(i32(1), call(3), opDrop, opLoop, empty, opBr, 0, opEnd)}},
	}.bytes()}, binding("_start"))
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := m.Instantiate(ctx, hostFunc(func(context.Context, int32) int32 {
		cancel(os.ErrProcessDone)
		return 0
	}))
	if err == nil || !strings.Contains(err.Error(), os.ErrProcessDone.Error()) {
		t.Errorf("got %v, want the context's cause", err)
	}
}

func TestCacheDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	var log bytes.Buffer
	run := func(dir string) {
		t.Helper()
		h, err := NewHost(HostConfig{CacheDir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		m := load(t, h, Config{}, binding())
		i := instantiate(t, m, nil)
		if v := mustInvoke(t, i, "add", 40, 2); v != 42 {
			t.Errorf("40 + 2 = %d", v)
		}
		i.Close()
		_ = m.Close(context.Background())
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	files := func() (paths []string) {
		_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, _ error) error {
			if d != nil && d.Type().IsRegular() {
				paths = append(paths, path)
			}
			return nil
		})
		return paths
	}
	run(dir)
	compiled := files()
	if interpreted(1) > 0 { // there is nothing to keep
		if len(compiled) > 0 || log.Len() > 0 {
			t.Errorf("cache holds %v, log %q; want nothing and silence", compiled, log.String())
		}
		return
	}
	if len(compiled) != 1 || log.Len() > 0 {
		t.Fatalf("cache holds %v, log %q; want one file and silence", compiled, log.String())
	}
	before, _ := os.Stat(compiled[0])
	run(dir)
	if after, err := os.Stat(compiled[0]); err != nil || !os.SameFile(before, after) || len(files()) != 1 {
		t.Error("the second start compiled again")
	}
	// A damaged file, and then a path that is no folder, cost one warning each and nothing else.
	if err := os.WriteFile(compiled[0], []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{dir, compiled[0]} {
		log.Reset()
		run(dir)
		if strings.Count(log.String(), "level=WARN") != 1 {
			t.Errorf("log %q, want one warning", log.String())
		}
	}
}

func TestHostCloseNamesOpenModules(t *testing.T) {
	h := newHost(t)
	m := load(t, h, Config{}, binding())
	if err := h.Close(); err == nil || !strings.Contains(err.Error(), "zoo") {
		t.Errorf("close with an open module: %v", err)
	}
	i := instantiate(t, m, nil)
	_ = m.Close(context.Background())
	if err := h.Close(); err == nil {
		t.Error("closed under an instance")
	}
	mustInvoke(t, i, "nop")
	if _, err := m.Instantiate(t.Context(), nil); err == nil {
		t.Error("a closed module was instantiated")
	}
	i.Close()
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}
