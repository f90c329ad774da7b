package limiter

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func newCallersWaiter(caller uint32) *waiter {
	w := newWaiter()
	w.caller = caller
	return w
}

// placeAs places a waiter of each caller and demands that nothing was there for it.
func placeAs(t *testing.T, u *turns, callers ...uint32) []*waiter {
	t.Helper()
	ws := make([]*waiter, len(callers))
	for i, c := range callers {
		ws[i] = newCallersWaiter(c)
		if k := u.place(ws[i]); k != none {
			t.Fatalf("place %d: signal %d from nobody", i, k)
		}
	}
	return ws
}

func TestGateTakesTurnsBetweenCallers(t *testing.T) {
	f := func(line string, c Config) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			g := New(c)
			p := mustAcquire(t, g)
			var served []string
			for _, name := range []string{"0a", "0b", "0c", "2a", "0d", "2b", "1a", "6c", "4e"} { // modulo 4
				startAs(t, g, uint32(name[0]-'0'), func(p Permit) {
					served = append(served, name)
					p.Done(Sample{})
				})
				synctest.Wait()
			}
			p.Done(Sample{})
			synctest.Wait()
			want := []string{"0a", "1a", "2a", "0b", "2b", "0c", "6c", "0d", "4e"}
			if !slices.Equal(served, want) {
				t.Errorf("%s: served %v, want %v", line, served, want)
			}
			checkAtRest(t, g)
		})
	}
	f("permits", Config{Limit: 1, Buffer: 9, Callers: 4})
	f("places", Config{Limit: 1, MaxBlocked: 9, Callers: 4})
}

func TestGateWithOneCallerServesOldestFirst(t *testing.T) {
	for _, callers := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			g := New(Config{Limit: 1, Buffer: 3, Callers: callers})
			p := mustAcquire(t, g)
			var served []uint32
			for _, c := range []uint32{3, 3, 1} {
				startAs(t, g, c, func(p Permit) {
					served = append(served, c)
					p.Done(Sample{})
				})
				synctest.Wait()
			}
			p.Done(Sample{})
			synctest.Wait()
			if !slices.Equal(served, []uint32{3, 3, 1}) {
				t.Errorf("%d callers: served %v", callers, served)
			}
			checkAtRest(t, g)
		})
	}
}

// The order goes around by number, across the words of the bitmap, and a caller that went idle costs no turn.
func TestTurnsGoAround(t *testing.T) {
	u := newTurns(130)
	ws := placeAs(t, u, 129, 64, 63, 0, 0, 64, 128)
	for n, want := range []int{3, 2, 1, 6, 0, 4, 5} {
		u.resume(granted)
		if len(ws[want].ch) != 1 {
			t.Fatalf("resume %d did not reach waiter %d", n, want)
		}
	}
	if u.serve(granted) {
		t.Error("served somebody when all were served")
	}
	for i := range u.active {
		if b := u.active[i].Load(); b != 0 {
			t.Errorf("word %d of active is %#x when nobody waits", i, b)
		}
	}
}

// S10: a signal that finds nobody counted is kept, of each kind.
func TestTurnsOweSignalUntilItsWaiterComes(t *testing.T) {
	u := newTurns(3)
	u.resume(shut)
	u.resume(granted)
	u.resume(granted)
	if owed := u.owed.Load(); owed != owedShut+2*owedGrant {
		t.Fatalf("owed %#x", owed)
	}
	for i, want := range []signal{granted, granted, shut, none} {
		if k := u.place(newCallersWaiter(uint32(i))); k != want {
			t.Errorf("place %d found signal %d, want %d", i, k, want)
		}
	}
	if owed := u.owed.Load(); owed != 0 {
		t.Errorf("owed %#x when all came", owed)
	}
}

// S11: a bit that is missing for a moment hides nobody.
func TestTurnsFindWaiterWhoseBitIsMissing(t *testing.T) {
	u := newTurns(3)
	ws := placeAs(t, u, 2)
	u.active[0].Store(0)
	u.resume(granted)
	if len(ws[0].ch) != 1 {
		t.Fatal("the signal did not reach the waiter")
	}
	if owed := u.owed.Load(); owed != 0 {
		t.Errorf("owed %#x", owed)
	}
}

// S9: of a signal and a cancel that meet, one wins, and the signal goes on within the caller.
func TestTurnsCancel(t *testing.T) {
	u := newTurns(2)
	ws := placeAs(t, u, 0, 0, 1)
	if u.promised(ws[0]) || u.promised(ws[2]) {
		t.Error("promised a signal that may go to the other caller")
	}
	if !u.cancel(ws[0]) {
		t.Error("refused to cancel a waiter that has no signal")
	}
	u.resume(granted)
	if len(ws[1].ch) != 1 {
		t.Fatal("the signal did not pass the cancelled waiter")
	}
	if !u.promised(ws[1]) || u.cancel(ws[1]) {
		t.Error("cancelled a waiter that has its signal")
	}

	// A resumer that has counted on caller 1, and has not come to the cell yet.
	c := u.callers[1].Load()
	c.take()
	if !u.promised(ws[2]) || u.cancel(ws[2]) {
		t.Error("cancelled a waiter that has a signal on its way")
	}
	c.queue.resume(granted)
	if len(ws[2].ch) != 1 {
		t.Error("the signal did not arrive")
	}
}

// A releaser counted on the one waiter, and chooses only after that. Until then somebody else may come whose turn is
// sooner: then the signal goes there, and a waiter that gives up must not wait for it.
func TestCancelledWaiterDoesNotWaitForANewcomersSignal(t *testing.T) {
	for range 20 {
		g := New(Config{Limit: 1, Buffer: 5, Callers: 2})
		l := &g.permits
		p := mustAcquire(t, g)
		type outcome struct {
			permit Permit
			err    error
		}
		wait := func(ctx context.Context, caller uint32) chan outcome {
			ended := make(chan outcome, 1)
			go func() {
				p, err := g.Acquire(ctx, Request{Caller: caller})
				ended <- outcome{p, err}
			}()
			return ended
		}
		within := func(what string, ok func() bool) {
			t.Helper()
			for end := time.Now().Add(5 * time.Second); !ok(); runtime.Gosched() {
				if time.Now().After(end) {
					t.Fatalf("not within 5 s: %s", what)
				}
			}
		}
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		old := wait(ctx, 1)
		within("the old waiter is placed", func() bool { return g.Stats().Waited == 1 })

		// The first half of release, as if it were preempted there.
		p.gate = nil
		s := g.load()
		if to, handOn := s.release(); !handOn || !g.swap(s, to) {
			t.Fatalf("permit room %d, want one waiting", s.permitRoom())
		}
		cancel(gone)
		for range 200 {
			runtime.Gosched() // to where the old waiter finds that nobody is counted
		}
		newcomer := wait(t.Context(), 0)
		within("the newcomer is placed", func() bool { return g.Stats().Waited == 2 })
		l.queue.resume(granted)
		g.leave()

		// The newcomer keeps its permit meanwhile.
		within("the old waiter ends", func() bool { return len(old) == 1 })
		within("the newcomer ends", func() bool { return len(newcomer) == 1 })
		if o := <-old; !errors.Is(o.err, gone) {
			t.Errorf("old waiter: %v, want the cause", o.err)
		}
		n := <-newcomer
		if n.err != nil {
			t.Fatalf("newcomer: %v", n.err)
		}
		n.permit.Done(Sample{})
		checkAtRest(t, g)
	}
}

// With one permit, turns are exact under load too: who is seen waiting is passed by no other caller twice. And at the
// end, when all others wait, no bit is missing (S11).
func TestHammerTurns(t *testing.T) {
	const callers, greedy, total = 4, 32, 4000
	g := New(Config{Limit: 1, Buffer: callers + greedy, Callers: callers})
	first := mustAcquire(t, g) // until all are there; then there is always somebody waiting
	var gp atomic.Pointer[Gate]
	gp.Store(g)
	watch(t, &gp)
	var (
		// Of who holds the permit.
		served, contested int
		seen              [callers]bool // waiting, when the last permit was given back
		passed            [callers]int  // how often others were served since then

		stop atomic.Bool
		wg   sync.WaitGroup
	)
	u := g.permits.queue.(*turns)
	hold := func(me uint32) {
		for c := range passed {
			switch {
			case c == int(me):
				passed[c] = 0
			case seen[c]:
				contested++
				if passed[c]++; passed[c] == callers {
					t.Errorf("caller %d was passed %d times", c, callers)
				}
			}
		}
		if served++; served == total {
			for countWaiting(u) < callers+greedy-1 || !allActive(u) {
				runtime.Gosched()
			}
			stop.Store(true)
		}
		runtime.Gosched()
		for c := range seen {
			// Both: between its count and its bit, a newcomer may be passed.
			seen[c] = u.waitingOf(c) > 0 && u.active[0].Load()>>c&1 == 1
		}
	}
	for i := range callers + greedy {
		me := uint32(max(0, i-greedy)) // the first has greedy+1 goroutines, the others one
		wg.Go(func() {
			for !stop.Load() {
				p, err := g.Acquire(context.Background(), Request{Caller: me})
				if err != nil {
					t.Errorf("Acquire: %v", err)
					return
				}
				hold(me)
				p.Done(Sample{})
			}
		})
	}
	for countWaiting(u) < callers+greedy {
		runtime.Gosched()
	}
	first.Done(Sample{})
	wg.Wait()
	if contested < total/4 {
		t.Errorf("the hammer missed: %d of %d had another caller waiting", contested, total)
	}
	checkAtRest(t, g)
}

// waitingOf is how many waiters of a caller are counted.
func (t *turns) waitingOf(i int) int {
	if c := t.callers[i].Load(); c != nil {
		return int(c.waiting.Load())
	}
	return 0
}

// countWaiting is how many waiters are counted, over all callers.
func countWaiting(u *turns) int {
	n := 0
	for i := range u.callers {
		n += u.waitingOf(i)
	}
	return n
}

// allActive reports whether each caller that is waiting has its bit (S11).
func allActive(u *turns) bool {
	for i := range u.callers {
		if u.waitingOf(i) > 0 && u.active[i/64].Load()>>(i%64)&1 == 0 {
			return false
		}
	}
	return true
}

// A line for many callers costs what those need that wait.
func TestTurnsMakeQueuesForThoseWhoWait(t *testing.T) {
	u := newTurns(256)
	ws := placeAs(t, u, 200, 3, 200)
	made := 0
	for i := range u.callers {
		if u.callers[i].Load() != nil {
			made++
		}
	}
	if made != 2 {
		t.Errorf("%d queues for 2 callers", made)
	}
	for n, want := range []int{1, 0, 2} {
		u.resume(granted)
		if len(ws[want].ch) != 1 {
			t.Errorf("resume %d did not reach waiter %d", n, want)
		}
	}
	if size := testing.AllocsPerRun(10, func() { New(Config{Limit: 1, Callers: 256}) }); size > 16 {
		t.Errorf("a gate for 256 callers takes %v allocations", size)
	}
}

// S15: all of a caller's waiters find one queue, also those that wait for the first time at one moment. A waiter in
// another queue sleeps for ever.
func TestHammerFirstWaits(t *testing.T) {
	const waiters, callers = 8, 4
	rounds := 2000
	if testing.Short() {
		rounds = 200
	}
	var gp atomic.Pointer[Gate]
	watch(t, &gp)
	for range rounds {
		g := New(Config{Limit: 1, Buffer: waiters, Callers: callers})
		gp.Store(g)
		p := mustAcquire(t, g)
		var wg sync.WaitGroup
		for i := range waiters {
			wg.Go(func() {
				p, err := g.Acquire(context.Background(), Request{Caller: uint32(i / 2)})
				if err != nil {
					t.Errorf("Acquire: %v", err)
					return
				}
				p.Done(Sample{})
			})
		}
		runtime.Gosched()
		p.Done(Sample{})
		wg.Wait()
		checkAtRest(t, g)
	}
}
