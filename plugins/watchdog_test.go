package plugins

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestWatchdogParks wants no ticks between calls, and ticks in time for the next (W4, W5).
func TestWatchdogParks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newWatchdog()
		defer d.close()
		var struck time.Time
		s := &stopwatch{alarm: make(chan struct{}, 1), dog: d, strike: func() { struck = time.Now() }}
		d.watch(s)
		synctest.Wait()
		time.Sleep(time.Hour)
		synctest.Wait()
		if !d.parked.Load() {
			t.Fatal("the watchdog does not park without calls")
		}
		begin := time.Now()
		s.begin(5 * time.Millisecond)
		if d.parked.Load() {
			t.Error("the watchdog is parked while a call runs")
		}
		<-s.alarm
		if took := struck.Sub(begin); took < 5*time.Millisecond || took > 5*time.Millisecond+2*tick {
			t.Errorf("struck after %v, want 5 ms to 7 ms", took)
		}
		if s.end() {
			t.Error("a killed call ended in time")
		}
		d.forget(s)
	})
}

// TestWatchdogHurries wants shorter ticks for shorter timeouts, down to a bound.
func TestWatchdogHurries(t *testing.T) {
	d := newWatchdog()
	defer d.close()
	f := func(timeout, want time.Duration) {
		t.Helper()
		if d.hurry(timeout); d.every != want {
			t.Errorf("ticks of %v for %v, want %v", d.every, timeout, want)
		}
	}
	f(time.Second, tick)
	f(5*time.Millisecond, 500*time.Microsecond)
	f(time.Second, 500*time.Microsecond)
	f(time.Microsecond, tick/10)
}

// TestHammerWatchdog begins and ends calls whose time is over at once, so that ends and kills meet. A strike belongs to
// the call it ends (W2, W3), and every call that goes on is killed (W4, W5).
func TestHammerWatchdog(t *testing.T) {
	rounds := 400
	if testing.Short() {
		rounds = 100
	}
	d := newWatchdog()
	defer d.close()
	d.hurry(0)
	var killed, ended atomic.Int64
	var wg sync.WaitGroup
	for g := range 2 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for n := range rounds {
				var inCall, struck atomic.Bool
				s := &stopwatch{alarm: make(chan struct{}, 1), dog: d}
				s.strike = func() {
					if !inCall.Load() || struck.Swap(true) {
						t.Error("a strike outside a call, or a second one")
					}
				}
				d.watch(s)
				for call := 0; ; call++ {
					inCall.Store(true)
					s.begin(time.Duration(n % 100 * int(time.Microsecond)))
					if (n+g)%3 == 0 {
						s.leave()
						s.enter()
					}
					for range n % 50 {
						runtime.Gosched()
					}
					if call == 10 {
						<-s.alarm // a call that goes on
						killed.Add(1)
					}
					inTime := s.end()
					inCall.Store(false)
					if inTime == struck.Load() {
						t.Errorf("in time: %v, struck: %v", inTime, struck.Load())
					}
					if !inTime {
						break
					}
					ended.Add(1)
				}
				d.forget(s)
			}
		})
	}
	wg.Wait()
	if killed.Load() == 0 || ended.Load() == 0 {
		t.Errorf("%d killed, %d ended: nothing met", killed.Load(), ended.Load())
	}
}

// A machine that stands still between two looks kills no guest (W4): it did not run, either.
func TestStalledMachineKillsNobody(t *testing.T) {
	d := &watchdog{wake: make(chan struct{}, 1)}
	s := &stopwatch{alarm: make(chan struct{}, 1), dog: d, strike: func() {}}
	s.begin(100 * time.Millisecond)
	now := time.Duration(0)
	for _, stall := range []time.Duration{0, time.Second, time.Hour} {
		now += stall
		s.look(now)
	}
	if s.over() {
		t.Error("killed by a stall")
	}
	for range 51 { // 50 ms were counted for the two
		now += tick
		s.look(now)
	}
	if !s.over() {
		t.Error("not killed after its time")
	}
}
