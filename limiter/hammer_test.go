package limiter

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	hammerGoroutines = 48
	watchdogTime     = 10 * time.Second
)

// tally counts what the hammer's callers got.
type tally struct{ permits, left, full, gone, closed atomic.Uint64 }

func (c *tally) add(err error) bool {
	switch {
	case errors.Is(err, ErrFull):
		c.full.Add(1)
	case errors.Is(err, ErrClosed):
		c.closed.Add(1)
	case errors.Is(err, context.DeadlineExceeded):
		c.gone.Add(1)
	case err != nil:
		panic(err)
	}
	return err == nil
}

// watch panics with all stacks when the test is not over in time: a waiter that nobody wakes sleeps for ever.
func watch(t *testing.T, g *atomic.Pointer[Gate]) {
	timer := time.AfterFunc(watchdogTime, func() {
		buf := make([]byte, 1<<16)
		panic(fmt.Sprintf("hammer: no end after %v: %+v\n%s", watchdogTime, g.Load().Stats(), buf[:runtime.Stack(buf, true)]))
	})
	t.Cleanup(func() { timer.Stop() })
}

// visit is one caller's way through the gate: a third with a deadline that often ends the wait, some turning back with
// their place. in is run while the permit is held.
func visit(g *Gate, c *tally, in func()) {
	ctx := context.Background()
	if rand.IntN(3) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.IntN(200))*time.Microsecond)
		defer cancel()
	}
	place, err := g.Enter(ctx, Request{Caller: rand.Uint32()})
	if !c.add(err) {
		runtime.Gosched() // the refused come back at once; let those inside get on
		return
	}
	defer place.Leave()
	if rand.IntN(8) == 0 {
		c.left.Add(1)
		return
	}
	permit, err := place.Acquire(ctx)
	if !c.add(err) {
		return
	}
	c.permits.Add(1)
	in()
	permit.Done(Sample{Held: time.Microsecond})
}

// TestHammerGate checks S1 while 48 callers come, go and give up, that in flight never exceeds the limit, that what a
// holder wrote is seen by the next one (limit 1: a plain counter, for -race), and the books at the end (S2, S3, S5, S6).
func TestHammerGate(t *testing.T) {
	for _, h := range []struct {
		name   string
		config Config
		resize bool
	}{
		{"one permit", Config{Limit: 1, Buffer: 10, MaxBlocked: 20}, false},
		{"fixed", Config{Limit: 4, Buffer: 8, MaxBlocked: 16}, false},
		{"wide", Config{Limit: 8, Buffer: hammerGoroutines}, false},
		{"resized", Config{Limit: 8, Buffer: 8, MaxBlocked: 20}, true},
		{"one permit, turns", Config{Limit: 1, Buffer: 10, MaxBlocked: 20, Callers: 3}, false},
		{"wide, turns", Config{Limit: 8, Buffer: hammerGoroutines, Callers: 70}, false},
		{"resized, turns", Config{Limit: 8, Buffer: 8, MaxBlocked: 20, Callers: 4}, true},
	} {
		t.Run(h.name, func(t *testing.T) { hammer(t, h.config, h.resize) })
	}
}

func hammer(t *testing.T, c Config, resize bool) {
	runFor := 250 * time.Millisecond
	if testing.Short() {
		runFor = 50 * time.Millisecond
	}
	var gp atomic.Pointer[Gate]
	g := New(c)
	gp.Store(g)
	watch(t, &gp)
	var (
		stop     atomic.Bool
		counts   tally
		inFlight atomic.Int64
		plain    uint64 // written by who holds the one permit
	)
	in := func() {
		if n := inFlight.Add(1); n > int64(c.Limit) {
			t.Errorf("%d in flight, limit %d", n, c.Limit)
		}
		if c.Limit == 1 {
			plain++
		}
		if rand.IntN(2) == 0 {
			runtime.Gosched()
		}
		inFlight.Add(-1)
	}
	var callers, others sync.WaitGroup
	for range hammerGoroutines {
		callers.Go(func() {
			for !stop.Load() {
				visit(g, &counts, in)
			}
		})
	}
	others.Go(func() {
		for ; !stop.Load(); runtime.Gosched() {
			sampleState(t, g, !resize)
		}
	})
	if resize {
		others.Go(func() {
			for ; !stop.Load(); runtime.Gosched() {
				g.Resize(Config{Limit: rand.IntN(9), Buffer: rand.IntN(9), MaxBlocked: rand.IntN(21)})
			}
			g.Resize(c) // a pause would hold the callers for ever
		})
	}
	time.AfterFunc(runFor, func() { stop.Store(true) })
	callers.Wait()
	others.Wait()

	checkAtRest(t, g)
	s := g.Stats()
	if s.Full != counts.full.Load() || s.Gone != counts.gone.Load() || s.Closed != 0 {
		t.Errorf("stats %+v; callers saw %d full, %d gone", s, counts.full.Load(), counts.gone.Load())
	}
	if c.Limit == 1 && plain != counts.permits.Load() {
		t.Errorf("plain counter %d, want %d", plain, counts.permits.Load())
	}
	if counts.permits.Load() == 0 || s.Waited == 0 || s.Gone == 0 {
		t.Errorf("the hammer missed: %d permits, stats %+v", counts.permits.Load(), s)
	}
	t.Logf("%d permits, %d left, %+v", counts.permits.Load(), counts.left.Load(), s)
}

// sampleState checks S1 and S12, and the bounds of a gate that is not resized.
func sampleState(t *testing.T, g *Gate, fixed bool) {
	a := g.loadAside()
	s, c := g.look()
	placed, inFlight := s.counts(c)
	waiting := 0
	switch {
	case !s.aside():
		waiting = max(0, -s.permitRoom())
	case g.loadAside() == a && !a.frozen():
		waiting = a.waiting()
	}
	if s.blocked() > 0 && placed < c.places() {
		t.Errorf("%d blocked with %d of %d places held (S1)", s.blocked(), placed, c.places())
	}
	if waiting > 0 && s.permitFree() {
		t.Errorf("%d waiting with %d of %d in flight (S1)", waiting, inFlight, c.Limit)
	}
	if placed < 0 || inFlight < 0 || inFlight+waiting > placed {
		t.Errorf("%d in flight, %d waiting, %d placed (S12)", inFlight, waiting, placed)
	}
	if fixed && (placed > c.places() || inFlight > c.Limit || s.aside()) {
		t.Errorf("%d placed, %d in flight, aside %v, bounds %+v", placed, inFlight, s.aside(), *c)
	}
}

// TestHammerClose closes gates under load: nobody may be left asleep, and everything comes back.
func TestHammerClose(t *testing.T) {
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	var gp atomic.Pointer[Gate]
	watch(t, &gp)
	for range rounds {
		g := New(Config{Limit: 2, Buffer: 4, MaxBlocked: 8})
		gp.Store(g)
		var counts tally
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for counts.closed.Load() == 0 {
					visit(g, &counts, runtime.Gosched)
				}
			})
		}
		for counts.permits.Load() < 20 {
			runtime.Gosched()
		}
		g.Close()
		wg.Wait()
		checkAtRest(t, g)
		if s := g.Stats(); s.Closed != counts.closed.Load() {
			t.Fatalf("Closed = %d, callers saw %d", s.Closed, counts.closed.Load())
		}
		if _, err := g.Enter(t.Context(), Request{}); !errors.Is(err, ErrClosed) {
			t.Fatalf("newcomer: %v, want ErrClosed", err)
		}
	}
}

// TestHammerExactFull lets in as many callers as there is room for, each with at most one request: a CAS lost to a
// neighbour is the only way to hear that the gate is full.
func TestHammerExactFull(t *testing.T) {
	const n = 8
	rounds := 20000
	if testing.Short() {
		rounds = 2000
	}
	f := func(name string, c Config, enter func(*Gate) (Place, error)) {
		t.Helper()
		g := New(c)
		var gp atomic.Pointer[Gate]
		gp.Store(g)
		watch(t, &gp)
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				for range rounds {
					pl, err := enter(g)
					if err != nil {
						t.Errorf("%s: %v", name, err)
						return
					}
					pl.Leave()
				}
			})
		}
		wg.Wait()
		checkAtRest(t, g)
	}
	try := func(g *Gate) (Place, error) {
		pl, ok := g.TryEnter(Request{})
		if !ok {
			return Place{}, ErrFull
		}
		return pl, nil
	}
	enter := func(g *Gate) (Place, error) { return g.Enter(context.Background(), Request{}) }
	f("TryEnter, a place for each", Config{Limit: 2, Buffer: n - 2}, try)
	f("Enter, a place for each", Config{Limit: 2, Buffer: n - 2}, enter)
	f("Enter, one place, and room to wait for the others", Config{Limit: 1, MaxBlocked: n - 1}, enter)
}
