//go:build linux

package main

import (
	"container/list"
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/edge-proxy/edge/limiter"
)

// bound lets at most so many run at once; its maker says how many.
type bound interface {
	// visit waits until it may, runs hold and lets the next one in.
	visit(ctx context.Context, hold func())
	// close ends what the bound started. Nobody visits any more.
	close()
}

// waitersMost is how many may wait, where a bound can limit that; nobody is refused here.
const waitersMost = 1000

type gateBound struct{ *limiter.Gate }

func newGateBound(limit int) bound {
	return gateBound{limiter.New(limiter.Config{Limit: limit, Buffer: waitersMost})}
}

func (g gateBound) visit(ctx context.Context, hold func()) {
	p, err := g.Acquire(ctx, limiter.Request{})
	if err != nil {
		panic(err)
	}
	hold()
	p.Done(limiter.Sample{})
}

func (g gateBound) close() { g.Close() }

// workersBound is as many goroutines behind a buffered channel. They run what the visitor brings, so unlike a gate's a
// visitor that queued cannot leave.
type workersBound struct {
	jobs    chan *job
	free    sync.Pool
	workers sync.WaitGroup
}

type job struct {
	hold func()
	done chan struct{}
}

func newWorkersBound(limit int) bound {
	b := &workersBound{jobs: make(chan *job, waitersMost)}
	b.free.New = func() any { return &job{done: make(chan struct{}, 1)} }
	for range limit {
		b.workers.Go(func() {
			for j := range b.jobs {
				j.hold()
				j.done <- struct{}{}
			}
		})
	}
	return b
}

func (b *workersBound) visit(ctx context.Context, hold func()) {
	j := b.free.Get().(*job)
	j.hold = hold
	select {
	case b.jobs <- j:
	case <-ctx.Done():
		panic(ctx.Err())
	}
	<-j.done
	b.free.Put(j)
}

func (b *workersBound) close() {
	close(b.jobs)
	b.workers.Wait()
}

// channelBound is a buffered channel that holds one value for each visitor.
type channelBound chan struct{}

func newChannelBound(limit int) bound { return make(channelBound, limit) }

func (b channelBound) visit(ctx context.Context, hold func()) {
	select {
	case b <- struct{}{}:
	case <-ctx.Done():
		panic(ctx.Err())
	}
	hold()
	<-b
}

func (channelBound) close() {}

type weightedBound struct{ *semaphore.Weighted }

func newWeightedBound(limit int) bound { return weightedBound{semaphore.NewWeighted(int64(limit))} }

func (b weightedBound) visit(ctx context.Context, hold func()) {
	if err := b.Acquire(ctx, 1); err != nil {
		panic(err)
	}
	hold()
	b.Release(1)
}

func (weightedBound) close() {}

// listBound is a mutex and a list of who waits, oldest first, with pooled waiters.
type listBound struct {
	mu      sync.Mutex
	free    int
	waiting list.List // of chan struct{}
	pool    sync.Pool
}

func newListBound(limit int) bound {
	b := &listBound{free: limit}
	b.pool.New = func() any { return make(chan struct{}, 1) }
	return b
}

func (b *listBound) visit(ctx context.Context, hold func()) {
	b.mu.Lock()
	if b.free > 0 {
		b.free--
		b.mu.Unlock()
	} else {
		turn := b.pool.Get().(chan struct{})
		b.waiting.PushBack(turn)
		b.mu.Unlock()
		select {
		case <-turn:
			b.pool.Put(turn)
		case <-ctx.Done():
			panic(ctx.Err())
		}
	}
	hold()
	b.mu.Lock()
	defer b.mu.Unlock()
	if oldest := b.waiting.Front(); oldest != nil {
		b.waiting.Remove(oldest).(chan struct{}) <- struct{}{}
	} else {
		b.free++
	}
}

func (*listBound) close() {}

var bounds = []struct {
	name string
	make func(limit int) bound
}{
	{"gate", newGateBound},
	{"workers", newWorkersBound},
	{"channel", newChannelBound},
	{"weighted", newWeightedBound},
	{"mutex-list", newListBound},
}

func TestBounds(t *testing.T) {
	const limit, visitors, visits = 3, 16, 50
	for _, k := range bounds {
		t.Run(k.name, func(t *testing.T) {
			b := k.make(limit)
			var inside, done atomic.Int32
			var all sync.WaitGroup
			for range visitors {
				all.Go(func() {
					for range visits {
						b.visit(t.Context(), func() {
							if n := inside.Add(1); n > limit {
								t.Errorf("%d inside, want at most %d", n, limit)
							}
							runtime.Gosched()
							inside.Add(-1)
							done.Add(1)
						})
					}
				})
			}
			all.Wait()
			b.close()
			if n := done.Load(); n != visitors*visits {
				t.Errorf("%d visits, want %d", n, visitors*visits)
			}
		})
	}
}

// BenchmarkGate compares a gate with what else bounds how many run at once.
//
// alone: one goroutine, 64 permits. ample: one goroutine for each processor, 64 permits. queued: 64 goroutines for 4
// permits, so that most wait; a hold of 0 is one yield to the scheduler there, without which -cpu 1 would see no queue.
//
// A hold of 50 µs is busy: a fixed piece of work that takes so long on an idle core. It is not a wait for the clock,
// which would let more threads than cores hold for less than their share of CPU time. cpu-ns/op has it included.
func BenchmarkGate(b *testing.B) {
	nothing := func() {}
	work := sync.OnceValue(busyFor50Micros)
	modes := []struct {
		name              string
		limit, goroutines int // 0 goroutines: one for each processor
		hold              func() func()
	}{
		{"alone/hold=0", 64, 1, func() func() { return nothing }},
		{"alone/hold=50us", 64, 1, work},
		{"ample/hold=0", 64, 0, func() func() { return nothing }},
		{"queued/hold=0", 4, 64, func() func() { return runtime.Gosched }},
		{"queued/hold=50us", 4, 64, work},
	}
	for _, m := range modes {
		for _, k := range bounds {
			b.Run(m.name+"/"+k.name, func(b *testing.B) {
				s, hold, ctx := k.make(m.limit), m.hold(), b.Context()
				defer s.close()
				goroutines(b, m.goroutines, func(next func() bool) {
					for next() {
						s.visit(ctx, hold)
					}
				})
			})
		}
	}
}

// goroutines measures b with so many goroutines, rounded up to a multiple of the processors except for 1; 0 is one for
// each processor. It reports allocations, and the CPU time of this process for each operation, which minds the
// machine's other users less than ns/op does and counts every core.
func goroutines(b *testing.B, count int, run func(next func() bool)) {
	b.ReportAllocs()
	b.ResetTimer()
	before := ownCPUTime(b)
	if count == 1 {
		left := b.N
		run(func() bool { left--; return left >= 0 })
	} else {
		procs := runtime.GOMAXPROCS(0)
		b.SetParallelism(max(1, (count+procs-1)/procs))
		b.RunParallel(func(pb *testing.PB) { run(pb.Next) })
	}
	b.ReportMetric(float64(ownCPUTime(b)-before)/float64(b.N), "cpu-ns/op")
}

func ownCPUTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// busyFor50Micros returns a fixed piece of work. The least time of many tries is the one that nobody disturbed.
func busyFor50Micros() func() {
	const wanted, trial, tries = 50 * time.Microsecond, 50_000, 200
	least := time.Hour
	for range tries {
		begin := time.Now()
		spin(trial)
		least = min(least, time.Since(begin))
	}
	n := int(trial * wanted / max(1, least))
	return func() { spin(n) }
}

// spin is a chain of dependent steps.
func spin(n int) {
	x := uint64(n)
	for range n {
		x = x*6364136223846793005 + 1442695040888963407
	}
	spun.Store(x)
}

var spun atomic.Uint64 // so that the compiler keeps the steps
