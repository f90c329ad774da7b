package meter

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/assemblyscript"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

type guestCall struct {
	name string
	args []uint64
}

// testAlike makes the calls in a plain module and in rewritten ones, the slow way at nearly every check or hardly ever.
// The answers must be the same, and the room must be back after each.
func testAlike(t *testing.T, module []byte, calls []guestCall) {
	t.Helper()
	answers := func(t *testing.T, config wazero.RuntimeConfig, o *options) (answers []string) {
		g := start(t, config, module, o)
		for _, c := range calls {
			answers = append(answers, c.name+": "+g.call(t, c.name, c.args...))
		}
		return answers
	}
	for name, config := range engines() {
		t.Run(name, func(t *testing.T) {
			want := answers(t, config, nil)
			for _, refill := range []int32{3, Refill} {
				got := answers(t, config, &options{refill: refill, room: Room})
				if i := firstDifference(want, got); i >= 0 {
					t.Errorf("refill %d: got %s, want %s", refill, got[i], want[i])
				}
			}
		})
	}
}

func TestGuestsC(t *testing.T) {
	calls := []guestCall{
		{"quiet", nil},
		{"fill", []uint64{3}},
		{"loop", []uint64{10_000}},
		{"fnv", []uint64{1}},
		{"upper", nil},
		{"json", nil},
		{"fib", []uint64{15}},
		{"deep", []uint64{1000}},
		{"even", []uint64{1001}},
		{"matmul", []uint64{3}},
		{"sort", []uint64{6}},
		{"vector", []uint64{1000}},
		{"bulk", []uint64{5}},
		{"grow", []uint64{2}},
		{"fnv", []uint64{1}},
	}
	t.Run("plain", func(t *testing.T) { testAlike(t, cGuest(t, false), calls) })
	calls = append(calls, guestCall{"tail", []uint64{100_000}}, guestCall{"mixed", []uint64{500}})
	t.Run("modern", func(t *testing.T) { testAlike(t, cGuest(t, true), calls) })
}

// TestPrograms runs programs of other languages that wazero keeps for its tests.
func TestPrograms(t *testing.T) {
	text := bytes.Repeat([]byte("one line of text\n"), 500)
	config := wazero.NewModuleConfig().WithStartFunctions().WithFS(fstest.MapFS{"test.txt": {Data: text}, "b": {Data: text}})
	f := func(path string, args ...string) {
		t.Run(path, func(t *testing.T) {
			module, err := os.ReadFile(filepath.Join(wazeroDir(t), "imports/wasi_snapshot_preview1", path))
			if err != nil {
				t.Fatal(err)
			}
			plain := program(t, module, config.WithArgs(args...))
			rewritten, err := rewrite(module, options{refill: 3, room: Room})
			if err != nil {
				t.Fatal(err)
			}
			if got := program(t, rewritten.Module, config.WithArgs(args...)); got != plain {
				t.Errorf("got %s, want %s", got, plain)
			}
		})
	}
	for _, language := range []string{"cargo-wasi", "tinygo", "zig", "zig-cc"} {
		f("example/testdata/"+language+"/cat.wasm", "cat", "test.txt")
		f("testdata/"+language+"/wasi.wasm", "wasi", "ls", ".")
	}
}

// program runs a program to its end and returns what it wrote.
func program(t *testing.T, module []byte, config wazero.ModuleConfig) string {
	ctx := t.Context()
	rt := wazero.NewRuntime(ctx)
	defer rt.Close(ctx)
	wasi_snapshot_preview1.MustInstantiate(ctx, rt)
	var out bytes.Buffer
	m, err := rt.InstantiateWithConfig(ctx, module, config.WithStdout(&out).WithStderr(&out))
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.ExportedFunction("_start").Call(ctx)
	if code, ok := err.(*sys.ExitError); ok { //nolint:errorlint // wazero returns it as it is
		return fmt.Sprintf("exit %d: %s", code.ExitCode(), &out)
	}
	return fmt.Sprintf("%v: %s", outcome(err), &out)
}

func TestAssemblyScript(t *testing.T) {
	module, err := os.ReadFile(filepath.Join(wazeroDir(t), "imports/assemblyscript/example/testdata/index.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	rewritten, err := rewrite(module, options{refill: 1, room: Room})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	rt := wazero.NewRuntime(ctx)
	defer rt.Close(ctx)
	assemblyscript.MustInstantiate(ctx, rt)
	m, err := rt.InstantiateWithConfig(ctx, rewritten.Module, wazero.NewModuleConfig().WithStartFunctions())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.ExportedFunction("hello_world").Call(ctx, 4); err != nil || got[0] != 7 {
		t.Errorf("hello_world: %v, %v", got, err)
	}
}

// TestExceptionsAndRoom throws out of a deep recursion, again and again: were room lost each time, none would be left.
func TestExceptionsAndRoom(t *testing.T) {
	module := mod(
		sec(secType, vec(typ("", ""), typ(i32, ""))),
		sec(secFunction, vec([]byte{1}, []byte{1})),
		sec(13, vec([]byte{0, 0})),
		sec(secExport, vec(exp("f", 0))),
		sec(secCode, vec(
			// do { try { g(500) } catch_all {} } while (--n)
			fn(opLoop, 0x40, opBlock, 0x40, opTryTable, 0x40, 1, 2, 0, opI32Const, 0xf4, 3, opCall, 1, opEnd, opEnd,
				opLocalGet, 0, opI32Const, 1, opI32Sub, opLocalTee, 0, opBrIf, 0, opEnd),
			// if (!n) throw; g(n-1)
			fn(opLocalGet, 0, opI32Eqz, opIf, 0x40, opThrow, 0, opEnd, opLocalGet, 0, opI32Const, 1, opI32Sub, opCall, 1),
		)))
	for name, config := range engines() {
		t.Run(name, func(t *testing.T) {
			start(t, config, module, &options{refill: 3, room: 100_000}).call(t, "f", 50)
		})
	}
}

// TestStart: the start function runs when it is called, not before.
func TestStart(t *testing.T) {
	module := mod(sec(secType, vec(typ("", ""), typ("", i32))), sec(secFunction, vec([]byte{0}, []byte{1})),
		sec(secGlobal, vec(cat(i32, 1, opI32Const, 5, opEnd))), sec(secExport, vec(exp("f", 1))), sec(secStart, 0),
		sec(secCode, vec(fn(opI32Const, 7, opGlobalSet, 0), fn(opGlobalGet, 0))))
	rewritten, err := Rewrite(module)
	if err != nil || !rewritten.HasStart {
		t.Fatal(err, rewritten.HasStart)
	}
	g := start(t, wazero.NewRuntimeConfig(), rewritten.Module, nil)
	before := g.call(t, "f")
	g.call(t, StartExport)
	if after := g.call(t, "f"); before != "[5]" || after != "[7]" {
		t.Errorf("before %s, after %s", before, after)
	}
}

// TestUnits: the work done is the same for the same input, and has a meaning in simple cases.
func TestUnits(t *testing.T) {
	f := func(name string, want uint64, refill int32, code ...any) {
		t.Helper()
		module := one(i32, "", fn(code...))
		g := start(t, wazero.NewRuntimeConfig(), module, &options{refill: refill, room: Room})
		g.call(t, "f", 100)
		units := g.ExportedGlobal(UnitsExport).Get()
		fuel := int64(int32(g.ExportedGlobal(FuelExport).Get()))
		if got := int64(units) + int64(refill) - fuel; uint64(got) != want {
			t.Errorf("%s: %d units, want %d", name, got, want)
		}
	}
	loop := cat(opLoop, 0x40, opLocalGet, 0, opI32Const, 1, opI32Sub, opLocalTee, 0, opBrIf, 0, opEnd)
	f("nothing", 0, Refill)
	f("loop", 100, Refill, loop)
	f("loop, refilled", 133, 3, loop) // a refill in a loop costs a unit more
	f("grow", growUnits, Refill, opI32Const, 1, opMemoryGrow, 0, opDrop)
	f("bulk", 1024, 3, opI32Const, 0, opI32Const, 0, opI32Const, 0x80, 0x80, 4, opMisc, 11, 0)
}
