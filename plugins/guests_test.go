package plugins

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// zoo is a guest that can do everything wrong, one export each.
//
// Its imports are numbered first: 0 proc_exit, 1 poll_oneoff, 2 fd_write, 3 host.
var zoo = source{
	imports: []imported{
		{"wasi_snapshot_preview1", "proc_exit", "i:"},
		{"wasi_snapshot_preview1", "poll_oneoff", "iiii:i"},
		{"wasi_snapshot_preview1", "fd_write", "iiii:i"},
		{"env", "host", "i:i"},
	},
	funcs: []function{
		{name: "nop", signature: ":"},
		{name: "add", signature: "ii:i", code: asm(opGet, 0, opGet, 1, opAdd)},
		{name: "trap", signature: ":", code: asm(opUnreachable)},
		{name: "loop", signature: ":", code: asm(opLoop, empty, opBr, 0, opEnd)},
		{name: "outside", signature: ":i", code: asm(i32(-4), opLoad, memarg)},
		{name: "recurse", signature: ":", code: asm(call(4+5), call(4+5))},
		{name: "exit", signature: "i:", code: asm(opGet, 0, call(0))},
		{name: "grow", signature: "i:i", code: asm(opGet, 0, opGrow, 0)},
		// A clock subscription at 64 whose timeout is the parameter, in nanoseconds.
		{name: "sleep", signature: "I:", code: asm(
			i32(88), opGet, 0, opStore64, []byte{3, 0},
			i32(64), i32(128), i32(1), i32(160), call(1), opDrop)},
		// Writes n bytes at address p to file descriptor fd.
		{name: "write", signature: "iii:", code: asm(
			i32(0), opGet, 1, opStore, memarg, i32(4), opGet, 2, opStore, memarg,
			opGet, 0, i32(0), i32(1), i32(8), call(2), opDrop)},
		{name: "writev", signature: "ii:i", code: asm(i32(1), opGet, 0, opGet, 1, i32(0), call(2))},
		{name: "host", signature: "i:i", code: asm(opGet, 0, call(3))},
		{name: "burn", signature: "i:", code: asm( // so many turns
			opLoop, empty, opGet, 0, i32(-1), opAdd, opTee, 0, opBrIf, 0, opEnd)},
	},
	memory: []int{2, 64},
	data:   map[int]string{1024: "hello\nworld\n"},
}

// hostFunc is the import env.host of a test.
type hostFunc func(ctx context.Context, n int32) int32

// binding brings env.host; it calls the state of the instance, if that is a hostFunc.
func binding(start ...string) Binding {
	return Binding{
		Start: start,
		HostModules: func(ctx context.Context, rt wazero.Runtime) error {
			_, err := rt.NewHostModuleBuilder("env").NewFunctionBuilder().
				WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, _ api.Module, stack []uint64) {
					if f, ok := StateOf(ctx).(hostFunc); ok {
						stack[0] = api.EncodeI32(f(ctx, api.DecodeI32(stack[0])))
					}
				}), []api.ValueType{api.ValueTypeI32}, []api.ValueType{api.ValueTypeI32}).
				Export("host").Instantiate(ctx)
			return err
		},
	}
}

func newHost(t testing.TB) *Host {
	t.Helper()
	h, err := NewHost(HostConfig{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// load loads a module whose log goes nowhere and whose time is long, unless c says otherwise: a busy machine may leave a
// guest of the tests waiting for longer than a plugin gets.
func load(t testing.TB, h *Host, c Config, b Binding) *Module {
	t.Helper()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = time.Minute
	}
	if c.Module == nil {
		c.Module = zoo.bytes()
	}
	if c.Name == "" {
		c.Name = "zoo"
	}
	m, err := h.Load(t.Context(), c, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	return m
}

func instantiate(t testing.TB, m *Module, state any) *Instance {
	t.Helper()
	i, err := m.Instantiate(t.Context(), state)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	return i
}

// invoke calls an export and returns its first result.
func invoke(i *Instance, name string, params ...uint64) (uint64, error) {
	stack := append(make([]uint64, 0, 8), params...)[:max(len(params), 1)]
	err := i.Call(i.Function(name), stack)
	return stack[0], err
}

// mustInvoke wants no error.
func mustInvoke(t testing.TB, i *Instance, name string, params ...uint64) uint64 {
	t.Helper()
	v, err := invoke(i, name, params...)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// wantTrap wants a call to fail for a reason, and the instance to be dead and bare after it.
func wantTrap(t testing.TB, i *Instance, reason TrapReason, name string, params ...uint64) {
	t.Helper()
	f := i.Function(name)
	_, err := invoke(i, name, params...)
	checkTrap(t, err, reason, name)
	if !i.Dead() || f.fn != nil || i.Memory() != nil || i.Function(name) != nil {
		t.Errorf("%s: dead %v, function %v, memory %v after %v", name, i.Dead(), f.fn, i.Memory(), err)
	}
	if err := i.Call(f, nil); !errors.Is(err, ErrDead) {
		t.Errorf("call of a dead instance: %v, want ErrDead", err)
	}
}

func checkTrap(t testing.TB, err error, reason TrapReason, function string) {
	t.Helper()
	trap, ok := errors.AsType[*TrapError](err)
	if !ok || trap.Reason != reason || trap.Function != function || trap.Err == nil {
		t.Fatalf("%s: %#v, want a TrapError for %s in %s", function, err, reason, function)
	}
	if want := "plugins: " + trap.Plugin + ": " + function + ": " + string(reason) + ": "; !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%s: error %q, want it to begin with %q", function, err, want)
	}
}

// short is a timeout for guests that run until they are stopped.
const short = 30 * time.Millisecond
