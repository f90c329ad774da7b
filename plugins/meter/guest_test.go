package meter

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// raceDetector says that the tests run under it.
var raceDetector bool

// build runs a compiler that takes -o and returns what it wrote. Without the program the test is skipped,
// or fails where everything must be there.
func build(tb testing.TB, env []string, program string, args ...string) []byte {
	tb.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("EDGE_TEST_REQUIRE") == "all" {
			tb.Fatalf("%s is not here, and EDGE_TEST_REQUIRE is all", program)
		}
		tb.Skipf("%s is not here", program)
	}
	out := filepath.Join(tb.TempDir(), "guest.wasm")
	if i := slices.Index(args, "-o"); i >= 0 {
		args = slices.Insert(args, i+1, out)
	}
	cmd := exec.CommandContext(tb.Context(), program, args...)
	cmd.Env = append(os.Environ(), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%s: %v\n%s", cmd, err, text)
	}
	module, err := os.ReadFile(out)
	if err != nil {
		tb.Fatal(err)
	}
	return module
}

var goGuestOnce struct {
	sync.Once
	module []byte
}

// goGuest is testdata/guest.
func goGuest(tb testing.TB) []byte {
	tb.Helper()
	goGuestOnce.Do(func() {
		env := []string{"GOOS=wasip1", "GOARCH=wasm", "GOFLAGS="}
		goGuestOnce.module = build(tb, env, "go", "build", "-buildmode=c-shared", "-o", "testdata/guest/main.go")
	})
	return goGuestOnce.module
}

// cGuest is testdata/guest.c. A modern one has vectors, operations on much memory, and tail calls.
func cGuest(tb testing.TB, modern bool) []byte {
	tb.Helper()
	flags := []string{
		"--target=wasm32", "-O2", "-nostdlib", "-fno-builtin-memset", "-fno-builtin-memcpy", "-Wl,--no-entry",
		"testdata/guest.c",
	}
	if modern {
		flags = append(flags, strings.Fields("-msimd128 -mbulk-memory -mtail-call -mmultivalue -msign-ext -mnontrapping-fptoint")...)
	}
	if _, err := exec.LookPath("wasm-ld"); err != nil {
		build(tb, nil, "wasm-ld") // skips or fails
	}
	return build(tb, nil, "clang", append(flags, "-o")...)
}

// tried is what a call of wazero's returns, which panics where an int has 32 bits and does not hold what a module says.
func tried[T any](call func() (T, error)) (_ T, err error) {
	defer func() {
		if v := recover(); v != nil && strconv.IntSize == 32 {
			err = fmt.Errorf("wazero panicked: %v", v)
		} else if v != nil {
			panic(v)
		}
	}()
	return call()
}

func compile(ctx context.Context, rt wazero.Runtime, module []byte) (wazero.CompiledModule, error) {
	return tried(func() (wazero.CompiledModule, error) { return rt.CompileModule(ctx, module) })
}

// guest is an instance of a module.
type guest struct {
	api.Module
	room int64 // what there is outside of calls
}

// start makes an instance and starts it as a host should.
func start(tb testing.TB, c wazero.RuntimeConfig, module []byte, o *options) guest {
	tb.Helper()
	ctx := context.Background()
	hasStart := false
	if o != nil {
		rewritten, err := rewrite(module, *o)
		if err != nil {
			tb.Fatal(err)
		}
		module, hasStart = rewritten.Module, rewritten.HasStart
	}
	rt := wazero.NewRuntimeWithConfig(ctx, c.WithCoreFeatures(allFeatures))
	tb.Cleanup(func() { rt.Close(ctx) })
	wasi_snapshot_preview1.MustInstantiate(ctx, rt)
	compiled, err := rt.CompileModule(ctx, module)
	if err != nil {
		tb.Fatal(err)
	}
	m, err := rt.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithStartFunctions().
		WithStdout(os.Stdout).WithStderr(os.Stderr))
	if err != nil {
		tb.Fatal(err)
	}
	g := guest{Module: m}
	if room := m.ExportedGlobal(RoomExport); room != nil {
		g.room = int64(room.Get())
	}
	if hasStart {
		g.call(tb, StartExport)
	}
	if m.ExportedFunction("_initialize") != nil {
		g.call(tb, "_initialize")
	}
	return g
}

// call calls an export that must not fail.
func (g guest) call(tb testing.TB, name string, args ...uint64) string {
	tb.Helper()
	got, err := g.ExportedFunction(name).Call(context.Background(), args...)
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	if room := g.ExportedGlobal(RoomExport); room != nil && name != "_start" && int64(room.Get()) != g.room {
		tb.Fatalf("%s: %d of the room is not back", name, g.room-int64(room.Get()))
	}
	return fmt.Sprint(got)
}
