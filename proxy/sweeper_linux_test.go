package proxy

import (
	"net/http"
	"sync/atomic"
	"testing"
)

// BenchmarkSweeper is what an exchange pays for being looked at. Connections differ, so do shards.
func BenchmarkSweeper(b *testing.B) {
	s := newSweeper()
	defer s.close()
	var hints atomic.Uint32
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		x := &exchange{ctx: &lifetime{parent: b.Context()}}
		hint := hints.Add(1)
		for pb.Next() {
			s.add(x, hint)
			s.remove(x)
			x.prev, x.next = nil, nil
		}
	})
}

// BenchmarkSweep is a look at 2,000 exchanges whose connections are Listener's, or are asked for one by one.
func BenchmarkSweep(b *testing.B) {
	for name, own := range map[string]bool{"Listener": true, "others": false} {
		b.Run(name, func(b *testing.B) {
			s := newSweeper()
			close(s.quit) // this goroutine sweeps
			<-s.done
			defer s.watch.close()
			r := &http.Request{ProtoMajor: 1}
			for i := range 2000 {
				c, _ := callerPair(b)
				raw, err := c.SyscallConn()
				if err != nil {
					b.Fatal(err)
				}
				conn := &connection{raw: raw}
				if own {
					conn.own = c
					s.watch.enter(c)
				}
				s.add(&exchange{arrival: arrival{r: r}, ctx: &lifetime{parent: b.Context()}, conn: conn}, uint32(i))
			}
			for b.Loop() {
				s.sweep()
			}
		})
	}
}
