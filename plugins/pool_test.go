package plugins

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// newPool returns a pool of the zoo. Its test, or the host's, need not close it.
func newPool(t testing.TB, c Config, pc PoolConfig) *Pool {
	t.Helper()
	p, err := NewPool(load(t, newHost(t), c, binding("nop")), pc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func mustTake(t testing.TB, p *Pool) *Instance {
	t.Helper()
	i, err := p.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// killInstance makes a lent instance die.
func killInstance(t testing.TB, i *Instance) {
	t.Helper()
	if _, err := invoke(i, "trap"); err == nil {
		t.Fatal("the guest did not trap")
	}
}

func TestPoolTakeGive(t *testing.T) {
	states := 0
	p := newPool(t, Config{}, PoolConfig{Max: 3, New: func() any { states++; return states }})
	a := mustTake(t, p)
	if a.State() != 1 {
		t.Errorf("state %v, want 1", a.State())
	}
	b := mustTake(t, p) // waits for the goroutine that makes it
	if a == b {
		t.Fatal("one instance lent twice")
	}
	if s := p.Stats(); s.InUse != 2 || s.Max != 3 || s.Waiting != 0 {
		t.Errorf("stats %+v", s)
	}
	p.Give(a)
	if c := mustTake(t, p); c != a && c.State() != 3 {
		t.Errorf("got %v", c.State())
	} else {
		p.Give(c)
	}
	p.Give(b)
	eventually(t, "two or three instances, none in use", func() bool {
		s := p.Stats()
		return s.InUse == 0 && (s.Instances == 2 || s.Instances == 3) && s.MemoryBytes == int64(s.Instances)*2*pageSize && s.Replaced == 0
	})
}

func TestPoolKeepsWarm(t *testing.T) {
	p := newPool(t, Config{}, PoolConfig{Max: 5, Warm: 2})
	if got := p.Stats(); got.Instances != 2 {
		t.Errorf("%d instances before the first Take, want 2", got.Instances)
	}
	var out []*Instance
	for n := range 5 {
		out = append(out, mustTake(t, p))
		want := min(n+1+2, 5)
		eventually(t, "the pool grows ahead of its callers", func() bool { return p.Stats().Instances == want })
	}
	for _, i := range out {
		p.Give(i)
	}
}

func TestPoolRefuses(t *testing.T) {
	m := load(t, newHost(t), Config{}, binding("trap"))
	_, err := NewPool(m, PoolConfig{Max: 1})
	checkTrap(t, err, ReasonTrap, "trap")
	for _, n := range []int{-1, 0, listMax + 1} {
		if _, err := NewPool(m, PoolConfig{Max: n}); err == nil {
			t.Errorf("a pool of %d instances", n)
		}
	}
}

// TestPoolServesInOrder has callers wait: one leaves, the others are served oldest first.
func TestPoolServesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		p, err := NewPool(load(t, h, Config{}, binding()), PoolConfig{Max: 1})
		if err != nil {
			t.Fatal(err)
		}
		first := mustTake(t, p)
		var order []int
		var mu sync.Mutex
		var wg sync.WaitGroup
		gone := errors.New("gone")
		leaving, leave := context.WithCancelCause(t.Context())
		for n := range 4 {
			wg.Go(func() {
				ctx := t.Context()
				if n == 1 {
					ctx = leaving
				}
				i, err := p.Take(ctx)
				if n == 1 {
					if !errors.Is(err, gone) {
						t.Errorf("a caller that left got %v", err)
					}
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, n)
				mu.Unlock()
				time.Sleep(time.Millisecond) // bubble time
				p.Give(i)
			})
			synctest.Wait()
		}
		if s := p.Stats(); s.Waiting != 4 {
			t.Errorf("%d wait, want 4", s.Waiting)
		}
		leave(gone)
		synctest.Wait()
		p.Give(first)
		wg.Wait()
		if !slices.Equal(order, []int{0, 2, 3}) {
			t.Errorf("served in the order %v, want 0 2 3", order)
		}
		p.Close()
		closeAll(t, h)
	})
}

// TestPoolBacksOff kills every instance before it served: the first is replaced at once, then ever later, to 1 s.
func TestPoolBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		p, err := NewPool(load(t, h, Config{}, binding()), PoolConfig{Max: 1})
		if err != nil {
			t.Fatal(err)
		}
		next := func() time.Duration {
			begin := time.Now()
			i := mustTake(t, p)
			killInstance(t, i)
			p.Give(i)
			return time.Since(begin)
		}
		want := []time.Duration{0, 0, 10, 20, 40, 80, 160, 320, 640, 1000, 1000}
		for n, ms := range want {
			if took := next(); took != ms*time.Millisecond {
				t.Errorf("instance %d after %v, want %v ms", n, took, int64(ms))
			}
		}
		i := mustTake(t, p)
		mustInvoke(t, i, "nop")
		p.Give(i) // it served: all is forgiven
		next()
		if took := next(); took != 0 {
			t.Errorf("after one that served the next is late by %v", took)
		}
		if s := p.Stats(); s.Replaced != 13 || s.Traps[ReasonTrap] != 13 {
			t.Errorf("stats %+v, want 13 replaced", s)
		}
		p.Close()
		closeAll(t, h)
	})
}

// TestPoolRetries has instances that cannot be made: the pool says so, tries again later, and a caller who waits is
// served in the end.
func TestPoolRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rec recorder
		h := newHost(t)
		m := load(t, h, Config{Module: source{imports: zoo.imports, funcs: []function{
			{name: "_start", signature: ":", code: asm(i32(0), call(3), opIf, empty, opUnreachable, opEnd)},
		}}.bytes()}, binding("_start"))
		fails := 0
		p, err := NewPool(m, PoolConfig{Max: 2, Logger: rec.logger(), New: func() any {
			return hostFunc(func(context.Context, int32) int32 { fails--; return int32(min(max(fails, 0), 1)) })
		}})
		if err != nil {
			t.Fatal(err)
		}
		fails = 5
		first, begin := mustTake(t, p), time.Now()
		second := mustTake(t, p)
		if took := time.Since(begin); took != 70*time.Millisecond { // 0, 0, 10, 20 and 40 ms; the last one lives
			t.Errorf("served after %v, want 70 ms", took)
		}
		if lines := rec.lines(); len(lines) != 4 || !strings.Contains(lines[0], `level=ERROR msg="plugin instance not made" plugin=zoo`) {
			t.Errorf("log is %q, want 4 errors", lines)
		}
		p.Give(first)
		p.Give(second)
		p.Close()
		closeAll(t, h)
	})
}

func TestPoolResize(t *testing.T) {
	p := newPool(t, Config{}, PoolConfig{Max: 2})
	a, b := mustTake(t, p), mustTake(t, p)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.ErrUnsupported)
	if _, err := p.Take(ctx); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("third of two: %v", err)
	}
	p.Resize(4)
	c, d := mustTake(t, p), mustTake(t, p)
	p.Resize(1)
	p.Give(a)
	p.Give(b)
	p.Give(c)
	if s := p.Stats(); s.Instances != 1 || s.Max != 1 || s.InUse != 1 || a.Memory() != nil {
		t.Errorf("stats %+v, want the one that is out", s)
	}
	p.Give(d)
	if e := mustTake(t, p); e != d {
		t.Error("the last instance was thrown away")
	} else {
		p.Give(e)
	}
	p.Resize(-5)
	if s := p.Stats(); s.Max != 1 {
		t.Errorf("resized to %d", s.Max)
	}
}

// TestPoolTrims closes what nobody took for a while, but for Warm.
func TestPoolTrims(t *testing.T) {
	p := newPool(t, Config{}, PoolConfig{Max: 6, Warm: 1})
	var out []*Instance
	for range 6 {
		out = append(out, mustTake(t, p))
	}
	for _, i := range out {
		p.Give(i)
	}
	p.trim()
	if s := p.Stats(); s.Instances != 6 || s.InUse != 0 {
		t.Errorf("after the burst %+v, want 6 instances", s)
	}
	a := mustTake(t, p)
	b := mustTake(t, p)
	p.Give(b)
	p.trim()
	if s := p.Stats(); s.Instances != 2 || s.InUse != 1 {
		t.Errorf("a while later %+v, want the two that were taken", s)
	}
	p.Give(a)
	p.trim()
	p.trim()
	if s := p.Stats(); s.Instances != 1 {
		t.Errorf("in the end %d instances, want 1", s.Instances)
	}
}

func TestPoolClose(t *testing.T) {
	h := newHost(t)
	m := load(t, h, Config{}, binding())
	p, err := NewPool(m, PoolConfig{Max: 2})
	if err != nil {
		t.Fatal(err)
	}
	a, b := mustTake(t, p), mustTake(t, p)
	waiting := make(chan error)
	go func() {
		_, err := p.Take(context.Background())
		waiting <- err
	}()
	eventually(t, "a caller waits", func() bool { return p.Stats().Waiting == 1 })
	p.Close()
	p.Close()
	if err := <-waiting; !errors.Is(err, ErrClosed) {
		t.Errorf("who waited got %v", err)
	}
	if _, err := p.Take(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("take from a closed pool: %v", err)
	}
	mustInvoke(t, a, "nop") // what is out works on
	killInstance(t, b)
	p.Give(b)
	if err := h.Close(); err == nil {
		t.Error("the module was closed under an instance")
	}
	p.Give(a)
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

func TestPoolGiveTwicePanics(t *testing.T) {
	p := newPool(t, Config{}, PoolConfig{Max: 1})
	i := mustTake(t, p)
	p.Give(i)
	defer func() {
		if recover() == nil {
			t.Error("the second Give went unnoticed")
		}
	}()
	p.Give(i)
}

func TestPoolDoesNotAllocate(t *testing.T) {
	p := newPool(t, Config{}, PoolConfig{Max: 2, Warm: 2})
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		i, err := p.Take(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		p.Give(i)
	}); n != 0 {
		t.Errorf("%v allocations for Take and Give, want 0", n)
	}
}

// TestHammerPool has more callers than instances; some hang up, some kill what they got, the pool is resized, and in the
// end closed while half of them are still at it. An instance has one holder (L1), is never lent dead (P4), and
// nobody waits for ever (P2, P3).
func TestHammerPool(t *testing.T) {
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	p := newPool(t, Config{Timeout: time.Minute}, PoolConfig{Max: 3, New: func() any { return new(atomic.Int32) }})
	var served, died atomic.Int64
	caller := func(rng *rand.Rand) error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if rng.IntN(4) == 0 {
			go cancel()
		}
		i, err := p.Take(ctx)
		if err != nil {
			return err
		}
		holders := i.State().(*atomic.Int32)
		if holders.Add(1) != 1 || i.Dead() {
			t.Error("an instance with two holders, or dead")
		}
		mustInvoke(t, i, "nop")
		served.Add(1)
		if rng.IntN(20) == 0 {
			killInstance(t, i)
			died.Add(1)
		}
		if rng.IntN(50) == 0 {
			p.Resize(1 + rng.IntN(4))
		}
		holders.Add(-1)
		p.Give(i)
		return nil
	}
	var wg sync.WaitGroup
	for g := range 4 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 0))
			for range rounds {
				if err := caller(rng); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if s := p.Stats(); s.InUse != 0 || s.Waiting != 0 || s.Replaced != uint64(died.Load()) || int(p.made.Load()) > 4 {
		t.Errorf("at rest %+v, made %d; died %d", s, p.made.Load(), died.Load())
	}
	for g := range 4 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 1))
			for !errors.Is(caller(rng), ErrClosed) {
			}
		})
	}
	for before := served.Load(); served.Load() < before+100; runtime.Gosched() {
	}
	p.Close()
	wg.Wait()
	if s := p.module.Stats(); s.Instances != 0 {
		t.Errorf("%d instances left in a closed pool", s.Instances)
	}
}
