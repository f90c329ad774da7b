package limiter

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// takes asks n times for a caller and returns how often it got something.
func (s *Shares) takes(caller uint32, n, room int, now time.Duration) (got int) {
	r := Request{Caller: caller}
	for range n {
		if s.Take(r, room, now) {
			got++
		} else {
			s.Refused(r, now, 0)
		}
	}
	return got
}

func TestSharesHoldWhileSomebodyIsRefused(t *testing.T) {
	const room = 8
	s := NewShares(10)
	f := func(what string, caller uint32, n int, at time.Duration, want int) {
		t.Helper()
		if got := s.takes(caller, n, room, at); got != want {
			t.Errorf("%s: caller %d got %d of %d, want %d", what, caller, got, n, want)
		}
	}
	f("nobody is refused", 1, 6, 0, 6)
	f("nobody is refused, two active", 2, 3, 0, 3)
	s.Refused(Request{Caller: 3}, 10*time.Millisecond, 0) // the gate was full
	f("over its share, 3 of 8", 1, 1, 20*time.Millisecond, 0)
	f("at its share", 2, 1, 20*time.Millisecond, 0)
	f("up to its share", 3, 5, 20*time.Millisecond, 3)
	for range 4 {
		s.Give(Request{Caller: 1})
	}
	f("below its share again", 1, 3, 900*time.Millisecond, 1)
	f("a second without a refusal", 1, 3, 3*time.Second, 3)
}

func TestShareIsAtLeastOneAndAloneAll(t *testing.T) {
	s := NewShares(300)
	alone := Request{Caller: 7}
	s.Refused(alone, 0, 0)
	if got := s.takes(7, 20, 9, time.Millisecond); got != 9 {
		t.Errorf("alone: got %d, want all 9", got)
	}
	for caller := range uint32(300) {
		if want := 1; caller != 7 && s.takes(caller, 3, 9, 2*time.Millisecond) < want {
			t.Errorf("caller %d got nothing", caller)
		}
	}
}

// Who was told to come again in 20 s finds its share still kept for it then.
func TestRefusedCallerCountsUntilItIsToComeAgain(t *testing.T) {
	s := NewShares(4)
	const room = 4
	if got := s.takes(0, 4, room, 0); got != 4 {
		t.Fatalf("got %d of 4", got)
	}
	s.Refused(Request{Caller: 1}, 0, 20*time.Second)
	s.Give(Request{})
	s.Give(Request{})
	s.Give(Request{})
	if got := s.takes(0, 3, room, 20*time.Second); got != 1 {
		t.Errorf("within the wait of another: got %d more, want 1", got)
	}
	s.Refused(Request{Caller: 1}, time.Minute, time.Hour)
	if got := s.takes(0, 4, room, time.Minute+shareWaitMost+2*shareWindow); got != 4 {
		t.Errorf("beyond the longest wait: got %d more, want 4", got)
	}
}

// H1 and H2, while callers come and go.
func TestHammerShares(t *testing.T) {
	const callers, room, goroutines = 3, 7, 16
	s := NewShares(callers)
	s.Refused(Request{Caller: 0}, 0, 0)
	s.Refused(Request{Caller: 1}, 0, 0)
	s.Refused(Request{Caller: 2}, 0, 0) // all are active for good, since the time stands still: the share is 3
	var holds [callers]atomic.Int64
	var refused atomic.Int64
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range 3000 {
				r := Request{Caller: rand.Uint32N(callers)}
				if !s.Take(r, room, 0) {
					refused.Add(1)
					runtime.Gosched()
					continue
				}
				if n := holds[r.Caller].Add(1); n > 3 {
					t.Errorf("caller %d holds %d, want 3 at most (H2)", r.Caller, n)
				}
				runtime.Gosched()
				holds[r.Caller].Add(-1)
				s.Give(r)
			}
		})
	}
	wg.Wait()
	if refused.Load() == 0 {
		t.Error("the hammer missed: nobody was refused")
	}
	for i := range s.callers {
		if held := s.Held(Request{Caller: uint32(i)}); held != 0 {
			t.Errorf("caller %d has %d at the end (H1)", i, held)
		}
	}
}

func TestSharesAllocateNothing(t *testing.T) {
	s := NewShares(256)
	at := time.Duration(0)
	if n := testing.AllocsPerRun(100, func() {
		at += time.Millisecond
		if s.Take(Request{Caller: 5}, 4, at) {
			s.Give(Request{Caller: 5})
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestGiveWithoutTakePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	NewShares(1).Give(Request{})
}
