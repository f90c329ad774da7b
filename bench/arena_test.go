//go:build linux

package main

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/edge-proxy/edge/arena"
)

// piece is what is lent: a body slot of edge's arena.
type piece = [16384]byte

// loan takes a piece, calls use and gives it back. hint differs between goroutines.
type loan func(hint uint32, use func(*piece))

// piecesKept is how many pieces a lender keeps, where that can be said; more than are ever out.
const piecesKept = 1024

func arenaLoan() loan {
	c := arena.NewClass[piece](piecesKept)
	return func(hint uint32, use func(*piece)) {
		s := c.Take(hint)
		use(s.P())
		s.Give()
	}
}

func poolLoan() loan {
	pool := sync.Pool{New: func() any { return new(piece) }}
	return func(_ uint32, use func(*piece)) {
		p := pool.Get().(*piece)
		use(p)
		pool.Put(p)
	}
}

func channelLoan() loan {
	free := make(chan *piece, piecesKept)
	for range piecesKept {
		free <- new(piece)
	}
	return func(_ uint32, use func(*piece)) {
		p := <-free
		use(p)
		free <- p
	}
}

func mutexLoan() loan {
	var mu sync.Mutex
	free := make([]*piece, piecesKept)
	for i := range free {
		free[i] = new(piece)
	}
	return func(_ uint32, use func(*piece)) {
		mu.Lock()
		last := len(free) - 1
		p := free[last]
		free = free[:last]
		mu.Unlock()
		use(p)
		mu.Lock()
		free = append(free, p)
		mu.Unlock()
	}
}

// makeLoan leaves the giving back to the collector.
func makeLoan() loan {
	return func(_ uint32, use func(*piece)) {
		p := new(piece)
		escaped.Store(p)
		use(p)
	}
}

var escaped atomic.Pointer[piece] // so that makeLoan's pieces are on the heap

var lenders = []struct {
	name string
	make func() loan
}{
	{"arena", arenaLoan},
	{"pool", poolLoan},
	{"channel", channelLoan},
	{"mutex", mutexLoan},
	{"make", makeLoan},
}

func TestLenders(t *testing.T) {
	for _, k := range lenders {
		t.Run(k.name, func(t *testing.T) {
			lend := k.make()
			lend(1, func(p *piece) {
				lend(1, func(q *piece) {
					if p == nil || q == nil || p == q {
						t.Errorf("got %p and %p, want two pieces", p, q)
					}
				})
			})
		})
	}
}

// BenchmarkArena compares an arena with what else hands out 16 KiB: take, write one byte, give back, by 1 goroutine and
// by 8.
func BenchmarkArena(b *testing.B) {
	touch := func(p *piece) { p[0] = 1 }
	for _, m := range []struct {
		name  string
		count int
	}{{"goroutines=1", 1}, {"goroutines=8", 8}} {
		for _, k := range lenders {
			b.Run(m.name+"/"+k.name, func(b *testing.B) {
				lend := k.make()
				var hints atomic.Uint32
				goroutines(b, m.count, func(next func() bool) {
					hint := hints.Add(1)
					for next() {
						lend(hint, touch)
					}
				})
			})
		}
	}
}
