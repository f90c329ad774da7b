package limiter

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestExpectedWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Limit: 2, Buffer: 2, MaxBlocked: 1})
		want := func(when string, d time.Duration) {
			t.Helper()
			if got := g.ExpectedWait(); got != d {
				t.Errorf("%s: %v, want %v", when, got, d)
			}
		}
		want("no sample", 0)
		p, q := mustAcquire(t, g), mustAcquire(t, g)
		want("no sample, permits taken", 0)
		p.Done(Sample{Held: 10 * time.Second})
		want("a permit free", 0)
		p = mustAcquire(t, g)
		want("next in line", 5*time.Second)
		var waiters [3]Permit
		done := make(chan int, 3)
		for i := range waiters {
			start(t, g, func(p Permit) {
				waiters[i] = p
				done <- i
			})
			synctest.Wait()
		}
		wantHeld(t, g, 2, 2, 1)
		want("two wait, one is blocked", 20*time.Second)
		g.Resize(Config{Limit: 0, Buffer: 4, MaxBlocked: 1})
		want("paused", 40*time.Second)
		g.Resize(Config{Limit: 2, Buffer: 2, MaxBlocked: 1})
		p.Done(Sample{Held: 26 * time.Second})
		p = waiters[<-done]
		want("mean 11 s, two before", 16500*time.Millisecond)
		q.Done(Sample{})
		q = waiters[<-done]
		p.Done(Sample{})
		p = waiters[<-done]
		want("samples without Held do not count", 5500*time.Millisecond)
		p.Done(Sample{})
		q.Done(Sample{})
		want("all free", 0)
		checkAtRest(t, g)
	})
}

func TestExpectedWaitStaysInRange(t *testing.T) {
	g := New(Config{Limit: 1, Buffer: 9})
	p := mustAcquire(t, g)
	p.Done(Sample{Held: 1<<63 - 1})
	p = mustAcquire(t, g)
	for range 9 {
		pl := mustEnter(t, g)
		defer pl.Leave()
	}
	if d := g.ExpectedWait(); d < 100*365*24*time.Hour {
		t.Errorf("%v after a sample of 292 years", d)
	}
	// The mean comes down to what is seen, and never to 0, which would mean unknown.
	for range 2000 {
		g.learn(1)
	}
	if mean := g.meanHeld.Load(); mean < 1 || mean > meanWeight {
		t.Errorf("mean of %d ns after 2000 samples of 1 ns", mean)
	}
	p.Done(Sample{})
}
