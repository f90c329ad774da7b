package limiter

import (
	"runtime"
	"sync"
	"testing"
)

func newWaiter() *waiter { return &waiter{ch: make(chan signal, 1)} }

func placeMany(t *testing.T, q *queue, n int) []*waiter {
	t.Helper()
	ws := make([]*waiter, n)
	for i := range ws {
		ws[i] = newWaiter()
		if k := q.place(ws[i]); k != none {
			t.Fatalf("place %d: signal %d from nobody", i, k)
		}
	}
	return ws
}

func TestQueueServesInOrder(t *testing.T) {
	q := newQueue()
	ws := placeMany(t, q, 100)
	for i, w := range ws {
		q.resume(granted)
		select {
		case <-w.ch:
		default:
			t.Fatalf("resume %d did not reach waiter %d", i, i)
		}
	}
	if n := q.segments(); n > 3 {
		t.Errorf("%d segments when empty, want at most 3 (S6)", n)
	}
}

// S4, the way nil -> granted or shut: a signal may come before its waiter, across segments.
func TestQueueKeepsSignalForItsWaiter(t *testing.T) {
	q := newQueue()
	kinds := []signal{granted, shut}
	for i := range 100 {
		q.resume(kinds[i%2])
	}
	for i := range 100 {
		if k := q.place(newWaiter()); k != kinds[i%2] {
			t.Fatalf("place %d found signal %d, want %d", i, k, kinds[i%2])
		}
	}
	ws := placeMany(t, q, 1)
	q.resume(shut)
	if k := <-ws[0].ch; k != shut {
		t.Errorf("got %d, want shut", k)
	}
}

func TestQueueSkipsTheCancelled(t *testing.T) {
	q := newQueue()
	ws := placeMany(t, q, 300)
	stay := map[int]bool{5: true, 31: true, 32: true, 200: true, 299: true}
	for i, w := range ws {
		if !stay[i] && !q.cancel(w) {
			t.Fatalf("cancel %d refused", i)
		}
	}
	if n := q.segments(); n > len(stay)+3 {
		t.Errorf("%d segments for %d waiters (S6)", n, len(stay))
	}
	for _, i := range []int{5, 31, 32, 200, 299} {
		q.resume(granted)
		if len(ws[i].ch) != 1 {
			t.Fatalf("the signal did not reach waiter %d", i)
		}
	}
	if deq := q.deq.Load(); deq != 300 {
		t.Errorf("deq = %d, want 300", deq)
	}
}

// S5: of a signal and a cancel that meet, one wins.
func TestQueueRefusesCancelAfterSignal(t *testing.T) {
	q := newQueue()
	ws := placeMany(t, q, 2)
	q.resume(granted)
	if q.cancel(ws[0]) {
		t.Error("cancelled a waiter that has its signal")
	}
	if !q.cancel(ws[1]) {
		t.Error("refused to cancel a waiter that has none")
	}
	q.resume(granted)
	if k := q.place(ws[1]); k != granted || len(ws[0].ch) != 1 {
		t.Errorf("signal %d for who came after the cancelled, want granted", k)
	}
}

// S6: while nobody is resumed, comers that cancel leave nothing behind, whoever stays among them.
func TestQueueCollectsDeadSegments(t *testing.T) {
	comers := 20000
	if testing.Short() {
		comers = 4000
	}
	for _, every := range []int{0, 200} { // how many comers to one that stays
		q := newQueue()
		var wg sync.WaitGroup
		var stayed [8]int
		for n := range stayed {
			wg.Go(func() {
				for i := range comers {
					w := newWaiter()
					if k := q.place(w); k != none {
						t.Errorf("signal %d from nobody", k)
						return
					}
					if every != 0 && i%every == 7*n {
						stayed[n]++
					} else if !q.cancel(w) {
						t.Error("cancel refused")
						return
					}
				}
			})
		}
		wg.Wait()
		want := 0
		for _, n := range stayed {
			want += n
		}
		if live, _ := q.survey(); live != want {
			t.Errorf("%d waiters reachable from head, want %d (S8)", live, want)
		}
		if n := q.segments(); n > want+3 {
			t.Errorf("%d segments for %d waiters, want at most 3 more (S6)", n, want)
		}
		for range want {
			q.resume(granted)
		}
		if live, left := q.survey(); live != 0 || left != 0 {
			t.Errorf("%d waiters and %d signals left after all were resumed", live, left)
		}
	}
}

// S6 again: a waiter at rest in the pool must not hold the segments behind the one it stood in.
func TestWaiterForgetsItsSegment(t *testing.T) {
	g := New(Config{Limit: 1, Buffer: 1})
	p := mustAcquire(t, g)
	served := make(chan *waiter)
	start(t, g, func(p Permit) {
		p.Done(Sample{})
		served <- g.permits.waiters.Get().(*waiter)
	})
	for g.Stats().Waited == 0 {
		runtime.Gosched()
	}
	p.Done(Sample{})
	if w := <-served; w.segment != nil {
		t.Error("the pooled waiter still points to a segment")
	}
	checkAtRest(t, g)
}
