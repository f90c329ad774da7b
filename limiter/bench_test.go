package limiter

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

// semaphore is what the benchmark compares. pair takes one, calls hold and gives it back.
type semaphore interface {
	pair(ctx context.Context, hold func())
}

// pair is one whole visit: place, permit, and both back.
func (g *Gate) pair(ctx context.Context, hold func()) {
	p, err := g.Acquire(ctx, Request{})
	if err != nil {
		panic(err)
	}
	hold()
	p.Done(Sample{})
}

// turnsGate is a gate with 64 callers, of which any may come next.
type turnsGate struct{ *Gate }

func (g turnsGate) pair(ctx context.Context, hold func()) {
	p, err := g.Acquire(ctx, Request{Caller: rand.Uint32()})
	if err != nil {
		panic(err)
	}
	hold()
	p.Done(Sample{})
}

// chanSemaphore is a buffered channel: no bound on who waits, no resize, no close.
type chanSemaphore chan struct{}

func (s chanSemaphore) pair(ctx context.Context, hold func()) {
	select {
	case s <- struct{}{}:
	case <-ctx.Done():
		panic(ctx.Err())
	}
	hold()
	<-s
}

// listSemaphore bounds permits with a mutex and a list of who waits, oldest first.
type listSemaphore struct {
	mu          sync.Mutex
	held, limit int
	head        listWaiter // of a ring: head.next is the oldest
	pool        sync.Pool
}

type listWaiter struct {
	ch         chan struct{}
	prev, next *listWaiter // nil: not in the list
}

func (w *listWaiter) unlink() {
	w.prev.next, w.next.prev = w.next, w.prev
	w.prev, w.next = nil, nil
}

func newListSemaphore(limit int) *listSemaphore {
	s := &listSemaphore{limit: limit}
	s.head.prev, s.head.next = &s.head, &s.head
	s.pool.New = func() any { return &listWaiter{ch: make(chan struct{}, 1)} }
	return s
}

func (s *listSemaphore) acquire(ctx context.Context) error {
	s.mu.Lock()
	if s.held < s.limit {
		s.held++
		s.mu.Unlock()
		return nil
	}
	w := s.pool.Get().(*listWaiter)
	w.prev, w.next = s.head.prev, &s.head
	w.prev.next, s.head.prev = w, w
	s.mu.Unlock()
	defer s.pool.Put(w)
	select {
	case <-w.ch:
		return nil
	case <-ctx.Done():
		s.mu.Lock()
		cancelled := w.next != nil
		if cancelled {
			w.unlink()
		}
		s.mu.Unlock()
		if !cancelled {
			<-w.ch
			s.release()
		}
		return context.Cause(ctx)
	}
}

func (s *listSemaphore) release() {
	s.mu.Lock()
	w := s.head.next
	if w == &s.head {
		s.held--
		s.mu.Unlock()
		return
	}
	w.unlink()
	s.mu.Unlock()
	w.ch <- struct{}{}
}

func (s *listSemaphore) pair(ctx context.Context, hold func()) {
	if err := s.acquire(ctx); err != nil {
		panic(err)
	}
	hold()
	s.release()
}

// measureCPU reports the processor time of the whole process for each operation of b. Beside ns/op it does not mind the
// machine's other users, and it counts every processor. Call it before the loop and the result after it.
func measureCPU(b *testing.B) (report func()) {
	before := cpuTime()
	return func() { b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op") }
}

// BenchmarkGate compares a gate, which bounds places and permits, with one line, with turns among 256 of which one comes,
// and with turns among 64 that all come, with a buffered channel and with a mutex and a list, which bound permits only.
//
// alone: one goroutine. ample: all processors, always a permit free. parked: 64 goroutines for 4 permits that yield
// while they hold one, so that most acquires park.
func BenchmarkGate(b *testing.B) {
	kinds := []struct {
		name string
		make func(limit int) semaphore
	}{
		{"gate", func(limit int) semaphore { return New(Config{Limit: limit, Buffer: 1000}) }},
		{"one of 256", func(limit int) semaphore { return New(Config{Limit: limit, Buffer: 1000, Callers: 256}) }},
		{"turns", func(limit int) semaphore {
			return turnsGate{New(Config{Limit: limit, Buffer: 1000, Callers: 64})}
		}},
		{"channel", func(limit int) semaphore { return make(chanSemaphore, limit) }},
		{"mutexlist", func(limit int) semaphore { return newListSemaphore(limit) }},
	}
	for _, k := range kinds {
		b.Run("alone/"+k.name, func(b *testing.B) {
			b.ReportAllocs()
			s, hold := k.make(64), func() {}
			report := measureCPU(b)
			for b.Loop() {
				s.pair(b.Context(), hold)
			}
			report()
		})
	}
	for _, k := range kinds {
		b.Run("ample/"+k.name, func(b *testing.B) { benchParallel(b, k.make(64), 1, func() {}) })
	}
	for _, k := range kinds {
		b.Run("parked/"+k.name, func(b *testing.B) { benchParallel(b, k.make(4), 64, runtime.Gosched) })
	}
}

// benchParallel lets at least so many goroutines go through s, rounded up to a multiple of the processors.
func benchParallel(b *testing.B, s semaphore, goroutines int, hold func()) {
	b.ReportAllocs()
	ctx := b.Context()
	b.SetParallelism((goroutines + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
	report := measureCPU(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.pair(ctx, hold)
		}
	})
	report()
}

// BenchmarkLedger takes a ticket and observes an answer that tells of two quotas, with 64 requests in flight.
func BenchmarkLedger(b *testing.B) {
	var l Ledger
	const inFlight, step = 64, 50 * time.Microsecond
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	levels := Levels{
		Requests: {Said: SaidLimit | SaidRemaining | SaidReset, Limit: 10_000_000, Remaining: 9_999_999, Reset: 6 * time.Millisecond},
		Tokens:   {Said: SaidLimit | SaidRemaining | SaidReset, Limit: 30_000_000, Remaining: 29_999_999},
	}
	l.Observe(Ticket{}, now, &levels)
	var tickets [inFlight]Ticket
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		now = now.Add(step)
		if t := &tickets[i%inFlight]; i >= inFlight {
			l.Observe(*t, now, &levels)
		}
		t, w, ok := l.Take(now, Cost{Requests: 1})
		if !ok {
			b.Fatal(w)
		}
		l.Depart(&t, now)
		tickets[i%inFlight] = t
	}
}
