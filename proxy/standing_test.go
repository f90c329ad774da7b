package proxy

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestRequestsPerMinuteComeAtOnceAndThenEvenly(t *testing.T) {
	f := func(perMinute int) {
		t.Helper()
		each := int64(time.Minute) / int64(perMinute)
		q, now := &standing{}, int64(time.Hour)
		for i := range perMinute {
			if wait := q.spend(perMinute, now); wait != 0 {
				t.Fatalf("%d a minute: request %d waits %v", perMinute, i, wait)
			}
		}
		for i := range 3 {
			wait := q.spend(perMinute, now)
			if wait != time.Duration(each) {
				t.Fatalf("%d a minute: got a wait of %v, want %v", perMinute, wait, time.Duration(each))
			}
			if early := q.spend(perMinute, now+int64(wait)-1); early != 1 {
				t.Errorf("%d a minute, 1 ns too early: got a wait of %v, want 1 ns", perMinute, early)
			}
			if now += int64(wait); q.spend(perMinute, now) != 0 {
				t.Errorf("%d a minute: wait %d was not enough", perMinute, i)
			}
		}
		now += int64(time.Minute)
		for i := range perMinute {
			if q.spend(perMinute, now) != 0 {
				t.Fatalf("%d a minute, a minute later: request %d waits", perMinute, i)
			}
		}
	}
	for _, perMinute := range []int{1, 7, 60, 100_000} {
		f(perMinute)
	}
}

// A change of the limit leaves the same part of the minute spent.
func TestRequestsPerMinuteMayChange(t *testing.T) {
	q, now := &standing{}, int64(0)
	for range 50 {
		q.spend(100, now)
	}
	n := 0
	for q.spend(10, now) == 0 {
		n++
	}
	if n != 5 {
		t.Errorf("half of 100 was spent: %d of 10 are left, want 5", n)
	}
	if wait := q.spend(1000, now); wait != 60*time.Millisecond {
		t.Errorf("all is spent: got a wait of %v, want 60ms", wait)
	}
}

// Neither limit is passed, and nobody is refused who was within it, however many come at once.
func TestHammerQuota(t *testing.T) {
	const goroutines, rounds, limit, perMinute = 16, 2000, 16, 5000
	var q standing
	var inside, got atomic.Int64
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for range rounds {
				if !q.enter(limit) {
					t.Error("refused with fewer inside than may be")
					return
				}
				if n := inside.Add(1); n > limit {
					t.Errorf("%d inside, limit %d", n, limit)
				}
				if q.spend(perMinute, 0) == 0 {
					got.Add(1)
				}
				inside.Add(-1)
				q.inside.Add(-1)
			}
		})
	}
	all.Wait()
	if got.Load() != perMinute || q.inside.Load() != 0 {
		t.Errorf("%d requests of %d, %d inside at the end", got.Load(), perMinute, q.inside.Load())
	}
	if !q.enter(1) || q.enter(1) {
		t.Error("one may be inside, and was refused, or two were not")
	}
}

// Numbers stay with their names over reloads, and are used again when a caller is gone.
func TestCallersKeepTheirNumbers(t *testing.T) {
	p := &Proxy{standings: map[string]*standing{}}
	numbers := func(names ...string) (out []uint32) {
		var c Config
		for _, name := range names {
			c.Auth.Tokens = append(c.Auth.Tokens, Token{Name: name, Value: Secret(name)})
		}
		for _, caller := range p.newCallers(c, nil) {
			out = append(out, caller.request().Caller)
		}
		return out
	}
	f := func(want []uint32, names ...string) {
		t.Helper()
		got := numbers(names...)
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%v: got %v, want %v", names, got, want)
				return
			}
		}
	}
	f([]uint32{0, 1, 2}, "a", "b", "c")
	f([]uint32{2, 0}, "c", "a")
	p.standings["a"].inside.Add(1)
	f([]uint32{1, 3, 2}, "new", "newer", "c") // a is still inside and keeps 0
	p.standings["a"].inside.Add(-1)
	f([]uint32{0, 2, 1}, "b", "c", "new")
	for range 1000 {
		name := string(rune('d' + rand.IntN(20)))
		f([]uint32{2}, "c", name)
	}
	if len(p.standings) > 2 {
		t.Errorf("%d callers are kept, 2 are configured", len(p.standings))
	}
	var many []string
	for i := range 600 {
		many = append(many, string(rune(1000+i)))
	}
	for i, n := range numbers(many...) {
		if n >= edgeItself.Caller {
			t.Errorf("caller %d has Edge's line %d", i, n)
		}
	}
}
