package limiter

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestGateDropAdmitsExactlyLimitPlusBuffer(t *testing.T) {
	const limit, buffer = 3, 5
	g := New(Config{Limit: limit, Buffer: buffer})
	// As many at once as there are places: a CAS lost to a neighbour must not answer full.
	for range 300 {
		places := make([]Place, limit+buffer)
		var wg sync.WaitGroup
		for i := range places {
			wg.Go(func() {
				var err error
				if places[i], err = g.Enter(t.Context(), Request{}); err != nil {
					t.Errorf("Enter with a place free: %v", err)
				}
			})
		}
		wg.Wait()
		wantHeld(t, g, 0, limit+buffer, 0)
		wantFull(t, g)
		for i := range places {
			wg.Go(places[i].Leave)
		}
		wg.Wait()
	}
	if full := g.Stats().Full; full != 300 {
		t.Errorf("Full = %d, want 300", full)
	}
	checkAtRest(t, g)
}

func TestGateHandsPermitToOldestWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 100
		g := New(Config{Limit: 1, Buffer: n})
		p := mustAcquire(t, g)
		served := make(chan int, n)
		for i := range n {
			start(t, g, func(p Permit) {
				served <- i
				p.Done(Sample{})
			})
			synctest.Wait()
		}
		wantHeld(t, g, 1, n, 0)
		p.Done(Sample{})
		for want := range n {
			if got := <-served; got != want {
				t.Fatalf("caller %d was served, want %d", got, want)
			}
		}
		synctest.Wait()
		if w := g.Stats().Waited; w != n {
			t.Errorf("Waited = %d, want %d", w, n)
		}
		checkAtRest(t, g)
	})
}

// S1: while somebody waits, a permit that is given back belongs to the waiter, and a newcomer finds nothing free.
func TestGateLetsNobodyBarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Limit: 1, Buffer: 1, MaxBlocked: 1})
		p := mustAcquire(t, g)
		waiter := make(chan Permit, 1)
		start(t, g, func(p Permit) { waiter <- p })
		synctest.Wait()
		p.Done(Sample{})
		// The waiter may not have run yet. The permit is its own all the same.
		place := mustEnter(t, g)
		cause := errors.New("would wait")
		if _, err := place.Acquire(ended(t, cause)); !errors.Is(err, cause) {
			t.Fatalf("newcomer: %v, want to have to wait", err)
		}
		p = <-waiter
		p.Done(Sample{})
		checkAtRest(t, g)
	})
}

func TestGateBlocksInArrivalOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Limit: 1, Buffer: 1, MaxBlocked: 3})
		places := []Place{mustEnter(t, g), mustEnter(t, g)}
		entered := make(chan int, 3)
		for i := range 3 {
			go func() {
				pl, err := g.Enter(t.Context(), Request{})
				if err == nil {
					entered <- i
					pl.Leave()
				}
			}()
			synctest.Wait()
		}
		wantHeld(t, g, 0, 2, 3)
		wantFull(t, g)
		places[0].Leave()
		for want := range 3 {
			if got := <-entered; got != want {
				t.Fatalf("caller %d entered, want %d", got, want)
			}
		}
		places[1].Leave()
		synctest.Wait()
		checkAtRest(t, g)
	})
}

func TestGateCancelledWaitersFreeTheirPlacesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 500
		g := New(Config{Limit: 1, Buffer: n, MaxBlocked: n})
		p := mustAcquire(t, g)
		gone := errors.New("client hung up")
		errs := make(chan error, 2*n)
		ctx, cancel := context.WithCancelCause(t.Context())
		for range 2 * n {
			go func() {
				_, err := g.Acquire(ctx, Request{})
				errs <- err
			}()
		}
		synctest.Wait()
		wantHeld(t, g, 1, n, n)
		cancel(gone)
		for range cap(errs) {
			if err := <-errs; !errors.Is(err, gone) {
				t.Fatalf("Acquire: %v, want the cause", err)
			}
		}
		wantHeld(t, g, 1, 0, 0)
		places := make([]Place, n)
		for i := range places {
			places[i] = mustEnter(t, g)
		}
		for i := range places {
			places[i].Leave()
		}
		p.Done(Sample{})
		if s := g.Stats(); s.Gone != 2*n {
			t.Errorf("Gone = %d, want %d", s.Gone, 2*n)
		}
		checkAtRest(t, g)
	})
}

func TestGateWaitEndsWithItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Limit: 1, Buffer: 1, MaxBlocked: 1})
		p := mustAcquire(t, g)
		late := errors.New("queue timeout")
		start := time.Now()
		var wg sync.WaitGroup
		for _, wait := range []string{"for a permit", "for a place"} {
			wg.Go(func() {
				ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Second, late)
				defer cancel()
				if _, err := g.Acquire(ctx, Request{}); !errors.Is(err, late) {
					t.Errorf("wait %s: %v, want the cause", wait, err)
				}
				if d := time.Since(start); d != 30*time.Second {
					t.Errorf("wait %s: %v, want 30s", wait, d)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		p.Done(Sample{})
		checkAtRest(t, g)
	})
}

func TestGateCloseEndsAllWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Limit: 2, Buffer: 3, MaxBlocked: 40})
		p, q := mustAcquire(t, g), mustAcquire(t, g)
		buffering := mustEnter(t, g)
		errs := make(chan error, 42)
		for range cap(errs) {
			go func() {
				_, err := g.Acquire(t.Context(), Request{})
				errs <- err
			}()
		}
		synctest.Wait()
		wantHeld(t, g, 2, 3, 40)
		g.Close()
		g.Close()
		g.Resize(Config{Limit: 9}) // a closed gate stays closed
		for range cap(errs) {
			if err := <-errs; !errors.Is(err, ErrClosed) {
				t.Fatalf("waiter: %v, want ErrClosed", err)
			}
		}
		if _, err := g.Enter(t.Context(), Request{}); !errors.Is(err, ErrClosed) {
			t.Errorf("newcomer: %v, want ErrClosed", err)
		}
		if _, err := buffering.Acquire(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("holder of a place: %v, want ErrClosed", err)
		}
		synctest.Wait()
		wantHeld(t, g, 2, 0, 0)
		p.Done(Sample{})
		q.Done(Sample{})
		if s := g.Stats(); s.Closed != 44 {
			t.Errorf("Closed = %d, want 44", s.Closed)
		}
		checkAtRest(t, g)
	})
}

func TestGateAllocatesNothingWhenFreeOrFull(t *testing.T) {
	g := New(Config{Limit: 1})
	ctx := t.Context()
	var place Place
	if n := testing.AllocsPerRun(1000, func() {
		pl, err := g.Enter(ctx, Request{Caller: 1})
		if err != nil {
			t.Fatal(err)
		}
		p, err := pl.Acquire(ctx)
		if err != nil {
			t.Fatal(err)
		}
		p.Done(Sample{Status: 200, Held: time.Millisecond})
	}); n != 0 {
		t.Errorf("Enter, Acquire, Done: %v allocations, want 0", n)
	}
	place, _ = g.Enter(ctx, Request{})
	defer place.Leave()
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := g.Acquire(ctx, Request{}); !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("ErrFull: %v allocations, want 0", n)
	}
}
