package meter

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// script is a script of the specification's test suite, as wast2json writes it.
type script struct {
	Commands []struct {
		Type     string
		Line     int
		Name     string
		Filename string
		As       string
		Action   struct {
			Type, Module, Field string
			Args                []scriptValue
		}
	}
}

type scriptValue struct {
	Type     string
	LaneType string `json:"lane_type"`
	Value    any
}

// words returns the value as wazero takes it.
func (v scriptValue) words() []uint64 {
	number := func(s any, bits int) uint64 {
		n, err := strconv.ParseUint(fmt.Sprint(s), 10, 64)
		if err != nil {
			n = math.MaxUint64 >> (64 - bits) // a NaN
		}
		return n
	}
	switch v.Type {
	case "i32", "f32":
		return []uint64{number(v.Value, 32)}
	case "i64", "f64":
		return []uint64{number(v.Value, 64)}
	case "v128":
		lanes, _ := v.Value.([]any)
		words := make([]uint64, 2)
		for i, lane := range lanes {
			width := 128 / len(lanes)
			words[i*width/64] |= number(lane, width) << (i * width % 64)
		}
		return words
	default: // a reference
		if n, err := strconv.ParseUint(fmt.Sprint(v.Value), 10, 32); err == nil {
			return []uint64{n + 1}
		}
		return []uint64{0}
	}
}

// world runs scripts, with modules rewritten or not.
type world struct {
	t        *testing.T
	ctx      context.Context
	rt       wazero.Runtime
	modules  map[string]api.Module // by their names in the script, and by those they are registered with
	last     api.Module
	rewrites *options
}

func newWorld(t *testing.T, c wazero.RuntimeConfig, rewrites *options) *world {
	w := &world{t: t, modules: make(map[string]api.Module), rewrites: rewrites}
	w.ctx = experimental.WithImportResolver(t.Context(), func(name string) api.Module { return w.modules[name] })
	w.rt = wazero.NewRuntimeWithConfig(w.ctx, c.WithCoreFeatures(allFeatures))
	t.Cleanup(func() { w.rt.Close(context.Background()) })
	return w
}

// instantiate makes an instance and runs its start function.
func (w *world) instantiate(binary []byte) (api.Module, error) {
	hasStart := false
	if w.rewrites != nil {
		rewritten, err := rewrite(binary, *w.rewrites)
		if err != nil {
			w.t.Fatal(err)
		}
		binary, hasStart = rewritten.Module, rewritten.HasStart
	}
	compiled, err := compile(w.ctx, w.rt, binary)
	if err != nil {
		return nil, err
	}
	m, err := tried(func() (api.Module, error) {
		return w.rt.InstantiateModule(w.ctx, compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	})
	if err == nil && hasStart {
		if _, err = m.ExportedFunction(StartExport).Call(w.ctx); err != nil {
			err = fmt.Errorf("start function[%s] failed: %w", m.ExportedFunction(StartExport).Definition().DebugName(), err)
		}
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// run runs a script and returns what each command did, in words.
func (w *world) run(dir string, s *script) (log []string) {
	spectest, err := os.ReadFile(filepath.Join(dir, "../../testdata/spectest.wasm"))
	if err != nil {
		w.t.Fatal(err)
	}
	if w.modules["spectest"], err = w.instantiate(spectest); err != nil {
		w.t.Fatal(err)
	}
	for _, c := range s.Commands {
		result := ""
		switch {
		case c.Type == "register":
			w.modules[c.As] = w.last
			if c.Name != "" {
				w.modules[c.As] = w.modules[c.Name]
			}
		case c.Type == "module", c.Type == "assert_uninstantiable":
			result = w.module(filepath.Join(dir, c.Filename), c.Name)
		case c.Action.Type == "invoke":
			m := w.last
			if c.Action.Module != "" {
				m = w.modules[c.Action.Module]
			}
			if m == nil {
				result = "no module"
				break
			}
			var args []uint64
			for _, v := range c.Action.Args {
				args = append(args, v.words()...)
			}
			got, err := m.ExportedFunction(c.Action.Field).Call(w.ctx, args...)
			result = fmt.Sprint(got) + outcome(err)
			w.checkRoom(fmt.Sprintf("%s: line %d", dir, c.Line), m, err)
			if c.Type == "assert_exhaustion" {
				result = fmt.Sprint(err != nil)
			}
			for _, t := range m.ExportedFunction(c.Action.Field).Definition().ResultTypes() {
				if t < 0x7b && err == nil { // below the vector: an address
					result = "a reference"
				}
			}
		}
		log = append(log, fmt.Sprintf("line %d: %s %s: %s", c.Line, c.Type, c.Action.Field, result))
	}
	return log
}

// checkRoom sees to it that all of the room is back after a call. A trap leaves it as it was, here in any module.
func (w *world) checkRoom(where string, m api.Module, err error) {
	if w.rewrites == nil {
		return
	}
	if room := m.ExportedGlobal(RoomExport).Get(); err == nil && room != uint64(w.rewrites.room) {
		w.t.Errorf("%s: %d of the room, want %d", where, room, w.rewrites.room)
	}
	for _, m := range w.modules {
		m.ExportedGlobal(RoomExport).(api.MutableGlobal).Set(uint64(w.rewrites.room))
	}
	m.ExportedGlobal(RoomExport).(api.MutableGlobal).Set(uint64(w.rewrites.room))
}

// module makes an instance the last one.
func (w *world) module(path, name string) string {
	binary, err := os.ReadFile(path)
	if err != nil {
		return "no file" // a .wat
	}
	m, err := w.instantiate(binary)
	if err == nil {
		w.last = m
		if name != "" {
			w.modules[name] = m
		}
	}
	return outcome(err)
}

// outcome is the first line of an error: those below are of the stack, where function indices may differ.
func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	if _, cause, ok := strings.Cut(text, "] failed: "); ok {
		return "start function: " + cause
	}
	return text
}

// TestSpecification runs the scripts of the specification's test suite, as wazero has them, with modules rewritten and
// not. Every call must end alike.
func TestSpecification(t *testing.T) {
	o := options{refill: 3, room: Room}
	scripts, err := filepath.Glob(filepath.Join(wazeroDir(t), "internal/integration_test/spectest/*/testdata/*.json"))
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts: ", err)
	}
	for name, config := range engines() {
		t.Run(name, func(t *testing.T) {
			commands := 0
			for i, path := range scripts {
				if strings.Contains(path, "/v1/") || (testing.Short() || raceDetector) && i%10 != 0 {
					continue // version 2 has the scripts of version 1, and more
				}
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				var s script
				if err := json.Unmarshal(data, &s); err != nil {
					t.Fatal(err)
				}
				dir, script := filepath.Split(path)
				want := newWorld(t, config, nil).run(dir, &s)
				got := newWorld(t, config, &o).run(dir, &s)
				if i := firstDifference(want, got); i >= 0 {
					t.Errorf("%s:\nplain:     %s\nrewritten: %s", script, want[i], got[i])
				}
				commands += len(got)
			}
			t.Logf("%d commands", commands)
		})
	}
}

func firstDifference(a, b []string) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// compiles says that wazero has a compiler for this machine, and not its interpreter alone, which bounds recursion itself: at
// 2000 frames.
const compiles = runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64"

// engines are those that wazero has here.
func engines() map[string]wazero.RuntimeConfig {
	all := map[string]wazero.RuntimeConfig{"interpreter": wazero.NewRuntimeConfigInterpreter()}
	if compiles {
		all["compiler"] = wazero.NewRuntimeConfigCompiler()
	}
	return all
}
