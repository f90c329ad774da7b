package plugins

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero/api"
)

func TestCallEnds(t *testing.T) {
	h := newHost(t)
	for _, deadline := range []Deadline{DeadlineRewrite, DeadlineContext, DeadlineNone} {
		m := load(t, h, Config{Deadline: deadline}, binding())
		f := func(reason TrapReason, name string, params ...uint64) {
			t.Helper()
			i := instantiate(t, m, nil)
			if v := mustInvoke(t, i, "add", 2, 3); v != 5 {
				t.Errorf("2 + 3 = %d", v)
			}
			counted := m.Stats().Traps[reason]
			begin := time.Now()
			if reason == ReasonTimeout {
				i.Within(short)
			}
			wantTrap(t, i, reason, name, params...)
			if took := time.Since(begin); reason == ReasonTimeout && (took < short || took > 5*time.Second) {
				t.Errorf("%s, %s: stopped after %v, want %v and a little", deadline, name, took, short)
			}
			if got := m.Stats().Traps[reason]; got != counted+1 {
				t.Errorf("%s: counted %d times for %s, want 1", name, got-counted, reason)
			}
		}
		f(ReasonTrap, "trap")
		f(ReasonTrap, "outside")
		f(ReasonExit, "exit", 0)
		f(ReasonExit, "exit", 3)
		if deadline != DeadlineNone {
			f(ReasonTimeout, "loop")
			f(ReasonTimeout, "sleep", uint64(time.Hour))
		}
	}
	deep := instantiate(t, load(t, h, Config{}, binding()), nil)
	wantTrap(t, deep, ReasonRecursion, "recurse")
}

// TestStackOverflow is wazero's own bound, which takes hundreds of megabytes: where the rewriter's is not there.
func TestStackOverflow(t *testing.T) {
	i := instantiate(t, load(t, newHost(t), Config{Deadline: DeadlineNone}, binding()), nil)
	wantTrap(t, i, ReasonRecursion, "recurse")
}

// TestCollectionProceeds forces collections while a guest is in an endless loop. A collection stops the world, and must
// not wait for the guest's end.
func TestCollectionProceeds(t *testing.T) {
	i := instantiate(t, load(t, newHost(t), Config{}, binding()), nil)
	ended := make(chan error, 1)
	go func() {
		_, err := invoke(i, "loop")
		ended <- err
	}()
	eventually(t, "the guest runs", func() bool { return i.watch.word.Load()&stateMask == running })
	begin := time.Now()
	for range 3 {
		runtime.GC()
	}
	t.Logf("3 collections in %v", time.Since(begin))
	if i.watch.word.Load()&stateMask != running {
		t.Error("the guest ended before the collections did")
	}
	i.watch.condemn()
	checkTrap(t, <-ended, ReasonTimeout, "loop")
}

func TestMemoryGrowRefused(t *testing.T) {
	const refused = 1<<32 - 1
	h := newHost(t)
	m := load(t, h, Config{MemoryLimit: 10 << 16}, binding())
	i := instantiate(t, m, nil)
	f := func(pages, want uint64) {
		t.Helper()
		if got := mustInvoke(t, i, "grow", pages); got != want {
			t.Errorf("memory.grow %d gave %d, want %d", pages, int32(got), int32(want))
		}
	}
	f(3, 2)
	f(6, refused)
	f(5, 5)
	f(1, refused)
	if got := m.Stats().MemoryBytes; got != 10<<16 {
		t.Errorf("memory is %d bytes, want %d", got, 10<<16)
	}
	// The same code, shared through the cache, with another limit.
	if got := mustInvoke(t, instantiate(t, load(t, h, Config{MemoryLimit: 64 << 16}, binding()), nil), "grow", 62); got != 2 {
		t.Errorf("memory.grow 62 gave %d, want 2", int32(got))
	}
	i.Close()
	if got := m.Stats().MemoryBytes; got != 0 {
		t.Errorf("memory is %d bytes with no instance", got)
	}
}

// TestTableGrowRefused: wazero itself has no limit for tables.
func TestTableGrowRefused(t *testing.T) {
	h := newHost(t)
	f := func(table []int, delta, want int32) {
		t.Helper()
		i := instantiate(t, load(t, h, Config{MemoryLimit: 1 << 20, Module: source{table: table, funcs: []function{
			{name: "grow", signature: "i:i", code: asm(0xd0, 0x70, opGet, 0, 0xfc, 0x0f, 0)},
		}}.bytes()}, Binding{}), nil)
		if got := int32(mustInvoke(t, i, "grow", api.EncodeI32(delta))); got != want {
			t.Errorf("table %v: table.grow %d gave %d, want %d", table, delta, got, want)
		}
	}
	f([]int{5}, 1000, 5)
	f([]int{5}, 1<<17, -1)
	f([]int{5}, 1<<30, -1)
	f([]int{5, 10}, 5, 5)
	f([]int{5, 10}, 6, -1)
	f([]int{5, 1 << 30}, 1<<20, -1)
}

func TestStateOf(t *testing.T) {
	m := load(t, newHost(t), Config{}, binding())
	var instance *Instance
	f := hostFunc(func(ctx context.Context, n int32) int32 {
		inner, cancel := context.WithCancel(ctx)
		defer cancel()
		if InstanceOf(ctx) != instance || InstanceOf(inner) != instance || StateOf(inner) == nil {
			t.Error("the context does not lead to the instance")
		}
		return n + 1
	})
	instance = instantiate(t, m, f)
	if v := mustInvoke(t, instance, "host", 6); v != 7 {
		t.Errorf("got %d, want 7", v)
	}
	if instance.State() == nil || instance.Module() != m {
		t.Error("the instance does not know its state and module")
	}
	if InstanceOf(t.Context()) != nil || StateOf(t.Context()) != nil {
		t.Error("a foreign context has an instance")
	}
	add := instance.Function("add")
	if add != instance.Function("add") || add.Name() != "add" || add.Params() != 2 || add.Results() != 1 || instance.Function("none") != nil {
		t.Errorf("function %+v", add)
	}
}

func TestNestedCalls(t *testing.T) {
	h := newHost(t)
	// nested makes a new instance whose host function calls name, and calls that host function.
	nested := func(name string, params ...uint64) (inner, outer error) {
		timeout := time.Minute
		if name == "loop" {
			timeout = short
		}
		i := instantiate(t, load(t, h, Config{Timeout: timeout}, binding()), hostFunc(func(ctx context.Context, n int32) int32 {
			_, inner = invoke(InstanceOf(ctx), name, params...)
			return n
		}))
		_, outer = invoke(i, "host", 1)
		if i.Dead() != (outer != nil) || (i.Memory() == nil) != i.Dead() {
			t.Errorf("%s: dead %v, memory %v after %v", name, i.Dead(), i.Memory(), outer)
		}
		return inner, outer
	}
	if inner, outer := nested("add", 1, 2); inner != nil || outer != nil {
		t.Errorf("call within a call: %v, %v", inner, outer)
	}
	// A host function that goes on after a failure does not save the instance; the first failure is what is told.
	for name, reason := range map[string]TrapReason{"trap": ReasonTrap, "loop": ReasonTimeout, "exit": ReasonExit} {
		inner, outer := nested(name, 0)
		checkTrap(t, inner, reason, name)
		if !errors.Is(outer, inner) {
			t.Errorf("%s: the outer call returned %v", name, outer)
		}
	}
	inner, outer := nested("host", 1)
	checkTrap(t, inner, ReasonRecursion, "host")
	if !errors.Is(outer, inner) {
		t.Errorf("the outer call returned %v", outer)
	}
}

func TestAbort(t *testing.T) {
	cause := errors.New("the client is gone")
	m := load(t, newHost(t), Config{}, binding())
	i := instantiate(t, m, hostFunc(func(ctx context.Context, n int32) int32 {
		InstanceOf(ctx).Abort(cause)
		return n
	}))
	if _, err := invoke(i, "host", 1); !errors.Is(err, cause) || !i.Dead() {
		t.Errorf("got %v, dead %v; want the error given to Abort", err, i.Dead())
	}
	if s := m.Stats(); s.Traps[ReasonAbort] != 1 || s.Traps[ReasonTrap] != 0 {
		t.Errorf("counted as %v", s.Traps)
	}
}

// TestWithin bounds a call by less than the plugin's timeout, and not by more.
func TestWithin(t *testing.T) {
	h := newHost(t)
	f := func(timeout, within time.Duration, want string) {
		t.Helper()
		i := instantiate(t, load(t, h, Config{Timeout: timeout}, binding()), nil)
		i.Within(within)
		_, err := invoke(i, "loop")
		checkTrap(t, err, ReasonTimeout, "loop")
		if !strings.Contains(err.Error(), "over its "+want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
	f(time.Hour, short, "30ms")
	f(short, time.Hour, "30ms")
	f(short, 0, "30ms")
}

// TestUnits wants the same count for the same work, also of instances that are gone.
func TestUnits(t *testing.T) {
	m := load(t, newHost(t), Config{}, binding())
	burn := func(turns uint64) uint64 {
		before := m.Stats().CPUUnits
		i := instantiate(t, m, nil)
		mustInvoke(t, i, "burn", turns)
		now := m.Stats().CPUUnits
		i.Close()
		if after := m.Stats().CPUUnits; after != now {
			t.Errorf("%d units with the instance, %d without", now, after)
		}
		return now - before
	}
	few, many := burn(1000), burn(1_000_000)
	if few != burn(1000) || few < 1000 || few > 1010 || many < 1_000_000 || many > 1_000_100 {
		t.Errorf("%d units for a thousand turns, %d for a million", few, many)
	}
	if s := load(t, newHost(t), Config{Deadline: DeadlineNone}, binding()).Stats(); s.CPUUnits != 0 {
		t.Errorf("%d units without a rewrite", s.CPUUnits)
	}
}

// interpreted is n where wazero has no compiler for the machine, since its interpreter allocates, and 0 elsewhere.
func interpreted(n float64) float64 {
	if runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64" {
		return 0
	}
	return n
}

func TestCallsDoNotAllocate(t *testing.T) {
	h := newHost(t)
	for _, deadline := range []Deadline{DeadlineRewrite, DeadlineNone} {
		m, inner, line := load(t, h, Config{Deadline: deadline}, binding()), make([]uint64, 2), []byte("x")
		i := instantiate(t, m, hostFunc(func(ctx context.Context, n int32) int32 {
			i := InstanceOf(ctx)
			if err := i.Call(i.Function("add"), inner); err != nil {
				t.Error(err)
			}
			return n
		}))
		host, stack := i.Function("host"), make([]uint64, 1)
		mustInvoke(t, i, "add", 1, 2)
		f := func(name string, want float64, call func()) {
			t.Helper()
			if n := testing.AllocsPerRun(1000, call); n != want {
				t.Errorf("%s, %s: %v allocations, want %v", deadline, name, n, want)
			}
		}
		f("call", interpreted(3), func() {
			i.SetRequest("r1")
			i.Within(time.Second)
			if err := i.Call(host, stack); err != nil {
				t.Error(err)
			}
		})
		f("log that is off", 0, func() { i.Log(slog.LevelInfo, line) })
	}
}
