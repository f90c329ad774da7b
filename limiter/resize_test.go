package limiter

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestGateResizeUpWakesAsManyAsItFrees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Limit: 1, Buffer: 4, MaxBlocked: 4})
		var permits, places atomic.Int32
		leave := make(chan struct{})
		for range 9 {
			go func() {
				pl, err := g.Enter(t.Context(), Request{})
				if err != nil {
					return // seen in the count
				}
				places.Add(1)
				p, err := pl.Acquire(t.Context())
				if err != nil {
					return
				}
				permits.Add(1)
				<-leave
				p.Done(Sample{})
			}()
		}
		want := func(c Config, wantPermits, wantPlaces int32) {
			t.Helper()
			g.Resize(c)
			if s := g.Stats(); s.InFlight != int(wantPermits) {
				t.Errorf("%+v: %d in flight when Resize returns, want %d", c, s.InFlight, wantPermits)
			}
			synctest.Wait()
			if permits.Load() != wantPermits || places.Load() != wantPlaces {
				t.Errorf("%+v: %d permits, %d places, want %d, %d", c, permits.Load(), places.Load(), wantPermits, wantPlaces)
			}
		}
		synctest.Wait()
		want(Config{Limit: 1, Buffer: 4, MaxBlocked: 4}, 1, 5)
		want(Config{Limit: 3, Buffer: 2, MaxBlocked: 4}, 3, 5)
		want(Config{Limit: 3, Buffer: 4}, 3, 7) // MaxBlocked 0 evicts nobody
		wantHeld(t, g, 3, 4, 2)
		want(Config{Limit: 5, Buffer: 9}, 5, 9)
		close(leave)
		synctest.Wait()
		checkAtRest(t, g)
	})
}

func TestGateResizeDownHandsOnOnlyBelowTheNewLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Limit: 4, Buffer: 2})
		var held []Permit
		for range 4 {
			held = append(held, mustAcquire(t, g))
		}
		served := make(chan Permit, 2)
		for range 2 {
			start(t, g, func(p Permit) { served <- p })
		}
		synctest.Wait()
		g.Resize(Config{Limit: 2})
		wantHeld(t, g, 4, 2, 0)
		for left := 3; left >= 2; left-- {
			held[left].Done(Sample{})
			wantHeld(t, g, left, 2, 0)
		}
		held[1].Done(Sample{})
		wantHeld(t, g, 2, 1, 0)
		held[0].Done(Sample{})
		wantHeld(t, g, 2, 0, 0)
		for range 2 {
			p := <-served
			p.Done(Sample{})
		}
		checkAtRest(t, g)
	})
}

func TestGateServesPlacesThatOutliveAShrink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Limit: 1, Buffer: 3})
		places := []Place{mustEnter(t, g), mustEnter(t, g), mustEnter(t, g), mustEnter(t, g)}
		g.Resize(Config{Limit: 1})
		var wg sync.WaitGroup
		for i := range places {
			wg.Go(func() {
				p, err := places[i].Acquire(t.Context())
				if err != nil {
					t.Errorf("Acquire on a place that was given: %v", err)
					return
				}
				p.Done(Sample{})
			})
		}
		wg.Wait()
		checkAtRest(t, g)
	})
}

func TestGateLimitZeroPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Limit: 2, Buffer: 2})
		p := mustAcquire(t, g)
		g.Resize(Config{Limit: 0, Buffer: 2})
		served := make(chan Permit, 1)
		start(t, g, func(p Permit) { served <- p })
		synctest.Wait()
		p.Done(Sample{})
		synctest.Wait()
		wantHeld(t, g, 0, 1, 0)
		g.Resize(Config{Limit: 1, Buffer: 2})
		p = <-served
		p.Done(Sample{})
		checkAtRest(t, g)
	})
}

// governor is all that it takes to pause a gate until a time: one owner of Resize that knows the wish and the pause, and
// one timer for the gate.
type governor struct {
	mu    sync.Mutex
	gate  *Gate
	want  Config
	until time.Time
	timer *time.Timer
}

func govern(g *Gate, want Config) *governor {
	v := &governor{gate: g, want: want}
	v.timer = time.AfterFunc(0, func() { v.change(func() {}) })
	return v
}

func (v *governor) change(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f()
	c := v.want
	if left := time.Until(v.until); left > 0 {
		c.Limit, c.Buffer = 0, c.Limit+c.Buffer // as many places as without the pause
		v.timer.Reset(left)
	}
	v.gate.Resize(c)
}

func (v *governor) resize(c Config)       { v.change(func() { v.want = c }) }
func (v *governor) pause(d time.Duration) { v.change(func() { v.until = time.Now().Add(d) }) }

// The next tests show that Resize and a timer of its owner are all that a quota needs.
func TestGateOutOfQuotaIsWokenByATimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := Config{Limit: 2, Buffer: 3}
		g := New(want)
		v := govern(g, want)
		begin := time.Now()
		v.pause(30 * time.Second)
		var served [5]time.Duration // by order of arrival
		for i := range served {
			start(t, g, func(p Permit) {
				served[i] = time.Since(begin)
				time.Sleep(time.Second)
				p.Done(Sample{})
			})
			synctest.Wait()
		}
		wantFull(t, g)
		time.Sleep(30*time.Second - 1)
		synctest.Wait()
		wantHeld(t, g, 0, 5, 0)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if at := [5]time.Duration{30 * time.Second, 30 * time.Second, 31 * time.Second, 31 * time.Second, 32 * time.Second}; served != at {
			t.Errorf("served at %v, want %v", served, at)
		}
		checkAtRest(t, g)
	})
}

func TestGateResizedDuringAPauseStaysPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := Config{Limit: 2, Buffer: 3, MaxBlocked: 2}
		g := New(want)
		v := govern(g, want)
		p := mustAcquire(t, g) // from before
		v.pause(30 * time.Second)
		var served atomic.Int32
		for range 6 {
			start(t, g, func(p Permit) {
				served.Add(1)
				<-t.Context().Done()
			})
		}
		after := func(d time.Duration, wantServed int32, inFlight, waiting, blocked int) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			wantHeld(t, g, inFlight, waiting, blocked)
			if n := served.Load(); n != wantServed {
				t.Fatalf("%d served, want %d", n, wantServed)
			}
		}
		after(0, 0, 1, 4, 2)
		p.Done(Sample{})
		after(10*time.Second, 0, 0, 5, 1) // the permit is not handed on, the place is
		v.resize(Config{Limit: 3, Buffer: 3, MaxBlocked: 2})
		after(10*time.Second, 0, 0, 6, 0)
		v.pause(20 * time.Second) // longer than before
		after(20*time.Second-1, 0, 0, 6, 0)
		after(1, 3, 3, 3, 0)
		v.resize(Config{Limit: 5, Buffer: 1})
		after(0, 5, 5, 1, 0)
		v.pause(time.Second)
		v.resize(Config{Limit: 6}) // at once after the end of the pause, not before
		after(time.Second-1, 5, 5, 1, 0)
		after(1, 6, 6, 0, 0)
	})
}

func TestGateClosedDuringAPauseStaysClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := Config{Limit: 2, Buffer: 2}
		g := New(want)
		v := govern(g, want)
		v.pause(30 * time.Second)
		errs := make(chan error, 1)
		go func() {
			_, err := g.Acquire(t.Context(), Request{})
			errs <- err
		}()
		synctest.Wait()
		g.Close()
		if err := <-errs; !errors.Is(err, ErrClosed) {
			t.Errorf("waiter: %v, want ErrClosed", err)
		}
		time.Sleep(time.Minute) // the timer fires
		if _, ok := g.TryEnter(Request{}); ok {
			t.Error("a place of a closed gate")
		}
		checkAtRest(t, g)
	})
}
