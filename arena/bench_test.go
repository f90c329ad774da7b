package arena

import (
	"sync"
	"sync/atomic"
	"testing"
)

type body = [16384]byte

var sink atomic.Pointer[body]

// BenchmarkTakeGive lends a 16 KiB slot, writes one byte and gives it back, alone and in parallel; the others are what
// one would write instead, each with as many slots.
func BenchmarkTakeGive(b *testing.B) {
	const slots = 1024
	f := func(name string, loan func(hint uint32)) {
		b.Run(name+"/alone", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				loan(1)
			}
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			var hints atomic.Uint32
			b.RunParallel(func(pb *testing.PB) {
				hint := hints.Add(1)
				for pb.Next() {
					loan(hint)
				}
			})
		})
	}

	c := NewClass[body](slots)
	f("arena", func(hint uint32) {
		s := c.Take(hint)
		s.P()[0] = 1
		s.Give()
	})

	oneShard := NewClass[body](1)
	oneShard.layout.Store(&layout[body]{serving: []*slab[body]{newSlab(oneShard, slots)}})
	f("arena-one-shard", func(hint uint32) {
		s := oneShard.Take(hint)
		s.P()[0] = 1
		s.Give()
	})

	var mu sync.Mutex
	list := make([]*body, slots)
	for i := range list {
		list[i] = new(body)
	}
	f("mutex", func(uint32) {
		mu.Lock()
		p := list[len(list)-1]
		list = list[:len(list)-1]
		mu.Unlock()
		p[0] = 1
		mu.Lock()
		list = append(list, p)
		mu.Unlock()
	})

	channel := make(chan *body, slots)
	for range slots {
		channel <- new(body)
	}
	f("channel", func(uint32) {
		p := <-channel
		p[0] = 1
		channel <- p
	})

	pool := sync.Pool{New: func() any { return new(body) }}
	f("pool", func(uint32) {
		p := pool.Get().(*body)
		p[0] = 1
		pool.Put(p)
	})

	f("make", func(uint32) {
		p := new(body)
		p[0] = 1
		sink.Store(p)
	})
}

// BenchmarkTakeGiveScarce is a class whose home slab is always empty, and one where all are.
func BenchmarkTakeGiveScarce(b *testing.B) {
	f := func(name string, lent int) {
		b.Run(name, func(b *testing.B) {
			c := NewClass[body](16)
			for range lent {
				c.Take(1)
			}
			b.ReportAllocs()
			for b.Loop() {
				s := c.Take(1)
				s.Give()
			}
		})
	}
	f("last-slot", 15)
	f("overflow", 16)
}
