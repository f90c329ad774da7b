package limiter

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// shrunk returns a gate with held permits out, more than its limit of 1, and room for two more places; and the permits.
func shrunk(t *testing.T, held int) (*Gate, []Permit) {
	t.Helper()
	g := New(Config{Limit: held, Buffer: 2})
	ps := make([]Permit, held)
	for i := range ps {
		ps[i] = mustAcquire(t, g)
	}
	g.Resize(Config{Limit: 1, Buffer: held + 1})
	if !g.load().aside() {
		t.Fatal("more are in flight than the limit, and now has not the bit")
	}
	return g, ps
}

func wantAside(t *testing.T, g *Gate, waiting int) {
	t.Helper()
	if s, a := g.load(), g.loadAside(); !s.aside() || a.frozen() || a.waiting() != waiting {
		t.Fatalf("bit %v, aside frozen %v, waiting %d; want it open with %d", s.aside(), a.frozen(), a.waiting(), waiting)
	}
}

// S2, S3, S13: who waits counts aside until no more are in flight than the limit, then in now. Order is kept throughout.
func TestGateCountsAsideWhileTooManyAreInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Limit: 3, Buffer: 4})
		var held []Permit
		for range 3 {
			held = append(held, mustAcquire(t, g))
		}
		served := make(chan int, 4)
		wait := func(n int) { start(t, g, func(p Permit) { served <- n; p.Done(Sample{}) }); synctest.Wait() }
		wait(0)
		wait(1)
		g.Resize(Config{Limit: 1, Buffer: 6})
		wantAside(t, g, 2) // taken from now
		wait(2)
		wantAside(t, g, 3)

		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := g.Acquire(ctx, Request{})
			ended <- err
		}()
		synctest.Wait()
		wantAside(t, g, 4)
		wantFull(t, g)
		cancel(gone)
		if err := <-ended; !errors.Is(err, gone) {
			t.Errorf("cancelled waiter: %v, want the cause", err)
		}
		wantAside(t, g, 3)
		wantHeld(t, g, 3, 3, 0)

		g.Resize(Config{Limit: 2, Buffer: 5}) // still too many
		held[0].Done(Sample{})
		if s := g.load(); s.aside() || s.permitRoom() != -3 {
			t.Fatalf("bit %v, permit room %d when as many as the limit are in flight; want -3", s.aside(), s.permitRoom())
		}
		wantHeld(t, g, 2, 3, 0)
		g.Resize(Config{Limit: 0, Buffer: 7})
		wantAside(t, g, 3)
		held[1].Done(Sample{})
		held[2].Done(Sample{})
		wantHeld(t, g, 0, 3, 0)
		g.Resize(Config{Limit: 1, Buffer: 6})
		for want := range 3 {
			if got := <-served; got != want {
				t.Errorf("caller %d was served, want %d", got, want)
			}
		}
		synctest.Wait()
		checkAtRest(t, g)
	})
}

// S13: a word that somebody left unsettled is settled by whoever comes to the permits next, so nobody waits for the one
// that was preempted. Each case begins with the last permit too many given back by the first half of Done.
func TestUnsettledGateIsSettledByWhoeverComes(t *testing.T) {
	gone := errors.New("gone")
	f := func(name string, then func(t *testing.T, g *Gate, p Permit, cancel context.CancelCauseFunc)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			g, held := shrunk(t, 2)
			ctx, cancel := context.WithCancelCause(t.Context())
			ended := make(chan error, 1)
			go func() {
				p, err := g.Acquire(ctx, Request{})
				if err == nil {
					p.Done(Sample{})
				}
				ended <- err
			}()
			synctest.Wait()
			wantAside(t, g, 1)

			held[0].gate = nil
			s := g.load()
			if to, handOn := s.release(); handOn || !to.unsettled() || !g.swap(s, to+onePlace) {
				t.Fatalf("%s: not the step that leaves now unsettled", name)
			}
			wantHeld(t, g, 1, 1, 0)
			then(t, g, held[1], cancel)
			synctest.Wait()
			if s := g.load(); s.unsettled() || !g.loadAside().frozen() {
				t.Errorf("%s: nobody settled", name)
			}
			if n := g.Stats().InFlight; n != 1 {
				t.Errorf("%s: %d in flight, want 1", name, n)
			}
			held[1].Done(Sample{}) // lets the waiter through, if it is still there
			if err := <-ended; err != nil && !errors.Is(err, gone) && !errors.Is(err, ErrClosed) {
				t.Errorf("%s: %v", name, err)
			}
			synctest.Wait()
			checkAtRest(t, g)
		})
	}
	f("Acquire", func(t *testing.T, g *Gate, _ Permit, _ context.CancelCauseFunc) {
		if _, err := g.Acquire(ended(t, gone), Request{}); !errors.Is(err, gone) {
			t.Errorf("newcomer: %v, want to have to wait", err)
		}
	})
	f("cancel", func(t *testing.T, g *Gate, _ Permit, cancel context.CancelCauseFunc) {
		cancel(gone)
		synctest.Wait()
		wantHeld(t, g, 1, 0, 0)
	})
	f("Resize up", func(t *testing.T, g *Gate, _ Permit, _ context.CancelCauseFunc) {
		g.Resize(Config{Limit: 2, Buffer: 2})
		synctest.Wait()
	})
	f("Close", func(t *testing.T, g *Gate, _ Permit, _ context.CancelCauseFunc) { g.Close() })
	f("settle, twice", func(t *testing.T, g *Gate, _ Permit, _ context.CancelCauseFunc) {
		g.settle()
		g.settle()
	})
}

// A permit that comes back while now is unsettled goes to who counts aside.
func TestUnsettledGateHandsPermitsOn(t *testing.T) {
	for _, name := range []string{"Done", "release"} {
		synctest.Test(t, func(t *testing.T) {
			g, held := shrunk(t, 2)
			served := make(chan Permit, 1)
			start(t, g, func(p Permit) { served <- p })
			synctest.Wait()
			held[0].gate = nil
			s := g.load()
			to, _ := s.release()
			g.swap(s, to+onePlace)
			if name == "Done" {
				held[1].Done(Sample{})
			} else {
				g.release()
				g.leave()
			}
			p := <-served
			wantHeld(t, g, 1, 0, 0)
			p.Done(Sample{})
			checkAtRest(t, g)
		})
	}
}

// S13: what was read of aside before it was frozen, or under an earlier version, counts nobody.
func TestStaleAsideCountsNobody(t *testing.T) {
	g, held := shrunk(t, 2)
	a := g.loadAside()
	held[0].Done(Sample{})
	if g.swapAside(a, a+1) {
		t.Error("counted in a word that is frozen")
	}
	held[0] = Permit{}
	g.Resize(Config{Limit: 0, Buffer: 4})
	if b := g.loadAside(); b.frozen() || b.waiting() != 0 || b == a {
		t.Fatalf("aside %#x, before %#x; want it open and another", b, a)
	}
	if g.swapAside(a, a+1) {
		t.Error("counted in the word of an earlier version")
	}
	held[1].Done(Sample{})
	checkAtRest(t, g)
}

// S14: Resize ends only when nobody settles any more, so that a settler meets no second one.
func TestResizeWaitsForSettlers(t *testing.T) {
	g := New(Config{Limit: 1})
	g.settling.Add(1)
	var resized atomic.Bool
	done := make(chan struct{})
	go func() {
		g.Resize(Config{Limit: 2})
		resized.Store(true)
		close(done)
	}()
	for end := time.Now().Add(20 * time.Millisecond); time.Now().Before(end); runtime.Gosched() {
		if resized.Load() {
			t.Fatal("Resize returned while somebody settles")
		}
	}
	if s, _ := g.look(); s.permitRoom() != 2 {
		t.Errorf("permit room %d, want 2: only the return waits", s.permitRoom())
	}
	g.settling.Add(-1)
	<-done
	checkAtRest(t, g)
}

func TestGateClosedWhileTooManyAreInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, held := shrunk(t, 3)
		errs := make(chan error, 2)
		for range cap(errs) {
			go func() {
				_, err := g.Acquire(t.Context(), Request{})
				errs <- err
			}()
		}
		synctest.Wait()
		wantAside(t, g, 2)
		g.Close()
		for range cap(errs) {
			if err := <-errs; !errors.Is(err, ErrClosed) {
				t.Errorf("waiter: %v, want ErrClosed", err)
			}
		}
		synctest.Wait()
		wantHeld(t, g, 3, 0, 0)
		for i := range held {
			held[i].Done(Sample{})
			wantHeld(t, g, 2-i, 0, 0)
		}
		checkAtRest(t, g)
	})
}

// A place is on its way to a blocked caller that gives up at this moment: it is received and goes on to the next.
func TestCancelWhileAPlaceIsHandedOver(t *testing.T) {
	for _, callers := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			g := New(Config{Limit: 1, MaxBlocked: 3, Callers: callers})
			place := mustEnter(t, g)
			gone := errors.New("gone")
			ctx, cancel := context.WithCancelCause(t.Context())
			first, second := make(chan error, 1), make(chan Place, 1)
			go func() {
				_, err := g.Enter(ctx, Request{})
				first <- err
			}()
			synctest.Wait()
			// The first half of leave, as if it were preempted there.
			place.gate = nil
			s := g.load()
			if to, handOn := s.leave(); !handOn || !g.swap(s, to) {
				t.Fatal("the place is not handed on")
			}
			go func() {
				pl, err := g.Enter(t.Context(), Request{Caller: 1})
				if err != nil {
					t.Errorf("second: %v", err)
				}
				second <- pl
			}()
			wantHeld(t, g, 0, 1, 0) // nobody counts but who comes now
			go cancel(gone)
			go g.places.queue.resume(granted)
			if err := <-first; err != nil && !errors.Is(err, gone) {
				t.Fatalf("first: %v", err)
			} else if err == nil {
				g.leave() // the place was faster
			}
			pl := <-second
			pl.Leave()
			synctest.Wait()
			checkAtRest(t, g)
		})
	}
}

// From block to drop while callers are blocked: they keep waiting and are let in in order, newcomers get ErrFull.
func TestGateResizedToDropServesTheBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Limit: 2, Buffer: 1, MaxBlocked: 3})
		places := []Place{mustEnter(t, g), mustEnter(t, g), mustEnter(t, g)}
		entered := make(chan int, 3)
		ctx, cancel := context.WithCancelCause(t.Context())
		for i := range 3 {
			ctx := ctx
			if i != 1 {
				ctx = t.Context()
			}
			go func() {
				if pl, err := g.Enter(ctx, Request{}); err == nil {
					entered <- i
					defer pl.Leave()
					<-t.Context().Done()
				}
			}()
			synctest.Wait()
		}
		g.Resize(Config{Limit: 1, Buffer: 1})
		wantHeld(t, g, 0, 3, 3)
		wantFull(t, g)
		places[0].Leave() // one too many: not handed on
		wantHeld(t, g, 0, 2, 3)
		wantFull(t, g)
		cancel(errors.New("gone"))
		synctest.Wait()
		wantHeld(t, g, 0, 2, 2)
		wantFull(t, g)
		for _, want := range []int{0, 2} {
			places = places[1:]
			places[0].Leave()
			if got := <-entered; got != want {
				t.Errorf("caller %d entered, want %d", got, want)
			}
			wantFull(t, g)
		}
		wantHeld(t, g, 0, 2, 0)
	})
}

// TestHammerAside pauses and opens a gate under load, so that it goes aside and settles all the time, with callers that
// come, give up and give back in between; every third gate is closed in the middle.
func TestHammerAside(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	var gp atomic.Pointer[Gate]
	watch(t, &gp)
	settled := 0
	for round := range rounds {
		open := Config{Limit: 4, Buffer: 4, MaxBlocked: 4, Callers: round % 2 * 3}
		g := New(open)
		gp.Store(g)
		var (
			stop     atomic.Bool
			counts   tally
			inFlight atomic.Int64
			callers  sync.WaitGroup
		)
		in := func() {
			if n := inFlight.Add(1); n > int64(open.Limit) {
				t.Errorf("%d in flight, limit %d", n, open.Limit)
			}
			runtime.Gosched()
			inFlight.Add(-1)
		}
		for range 16 {
			callers.Go(func() {
				for !stop.Load() {
					visit(g, &counts, in)
				}
			})
		}
		for range 150 {
			c := open
			c.Limit, c.Buffer = 0, open.Limit+open.Buffer
			if rand.IntN(2) == 0 {
				c.Limit = 1
			}
			g.Resize(c)
			if g.load().aside() {
				settled++
			}
			for range rand.IntN(8) {
				sampleState(t, g, false)
				runtime.Gosched()
			}
			g.Resize(open)
			runtime.Gosched()
		}
		if round%3 == 0 {
			g.Resize(Config{Limit: 0, Buffer: 8, MaxBlocked: 4})
			g.Close()
		}
		stop.Store(true)
		callers.Wait()
		checkAtRest(t, g)
		if s := g.Stats(); s.Full != counts.full.Load() || s.Gone != counts.gone.Load() || s.Closed != counts.closed.Load() {
			t.Errorf("stats %+v; callers saw %d full, %d gone, %d closed", s, counts.full.Load(), counts.gone.Load(), counts.closed.Load())
		}
	}
	if settled == 0 {
		t.Error("the hammer missed: the gate never went aside")
	}
	t.Logf("aside %d times", settled)
}
