package plugins

import (
	"testing"
)

// BenchmarkCall calls an export that adds two numbers.
func BenchmarkCall(b *testing.B) {
	f := func(name string, deadline Deadline) {
		b.Run(name, func(b *testing.B) {
			i := instantiate(b, load(b, newHost(b), Config{Deadline: deadline}, binding()), nil)
			add, stack := i.Function("add"), make([]uint64, 2)
			b.ReportAllocs()
			for b.Loop() {
				if err := i.Call(add, stack); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	f("none", DeadlineNone) // the baseline: wazero's call and nothing else
	f("rewrite", DeadlineRewrite)
	f("context", DeadlineContext)
}

// BenchmarkInstantiate makes and closes instances; it is what a dead one costs.
func BenchmarkInstantiate(b *testing.B) {
	m := load(b, newHost(b), Config{}, binding("nop"))
	b.ReportAllocs()
	for b.Loop() {
		i, err := m.Instantiate(b.Context(), nil)
		if err != nil {
			b.Fatal(err)
		}
		i.Close()
	}
}

// BenchmarkHostFunction has the guest call a host function that asks for its state.
func BenchmarkHostFunction(b *testing.B) {
	i := instantiate(b, load(b, newHost(b), Config{}, binding()), nil)
	host, stack := i.Function("host"), make([]uint64, 1)
	b.ReportAllocs()
	for b.Loop() {
		if err := i.Call(host, stack); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPool takes and gives; the channel is the plain way to do it.
func BenchmarkPool(b *testing.B) {
	p, err := NewPool(load(b, newHost(b), Config{}, binding()), PoolConfig{Max: 64, Warm: 64})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	b.Run("pool", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				i, err := p.Take(b.Context())
				if err != nil {
					b.Error(err)
					return
				}
				p.Give(i)
			}
		})
	})
	b.Run("channel", func(b *testing.B) {
		free := make(chan *Instance, 64)
		for range cap(free) {
			free <- &Instance{}
		}
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				select {
				case i := <-free:
					free <- i
				case <-b.Context().Done():
				}
			}
		})
	})
}
