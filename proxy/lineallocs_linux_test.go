//go:build !race

package proxy

import (
	"net/http"
	"runtime"
	"testing"
	"time"
)

// Under the race detector sync.Pool loses things at random, so net/http's share varies: hence the build constraint.

// TestLineAllocations pins what a whole request may allocate between a caller and a provider that allocate nothing. What
// is net/http's own was counted with a handler that sets one field and writes a constant: see docs/bench.md.
func TestLineAllocations(t *testing.T) {
	for method, most := range map[string]float64{http.MethodGet: 22, http.MethodPost: 28} {
		address, _ := line(t, nil, lineContent)
		caller := lineCall(t, address, method)
		call := func() {
			if err := caller.call(); err != nil {
				t.Fatal(err)
			}
		}
		for range 100 {
			call()
		}
		least := testing.AllocsPerRun(500, call)
		for range 4 { // others' allocations are counted, too
			least = min(least, testing.AllocsPerRun(500, call))
		}
		if least > most {
			t.Errorf("%s: %v allocations, want %v at most", method, least, most)
		}
	}
}

// What a waiting request holds beyond the arena is little: net/http's buffers of 10 KiB, a stack of 4.
func TestWaitingRequestIsSmall(t *testing.T) {
	const (
		callers = 400
		most    = 24 << 10 // bytes, both ends of the connection
	)
	hold := make(chan struct{})
	address, p := line(t, &waiting{hold: hold, held: make(chan struct{}, callers)}, 0)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range callers {
		caller := lineCall(t, address, http.MethodPost)
		caller.buffer = nil
		if _, err := caller.conn.Write(caller.request); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(10 * time.Second)
	for up := p.Status().Providers[0]; up.InFlight+up.Waiting < callers && time.Now().Before(deadline); up = p.Status().Providers[0] {
		time.Sleep(time.Millisecond)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	close(hold)
	held := (after.HeapAlloc + after.StackInuse - before.HeapAlloc - before.StackInuse) / callers
	if t.Logf("%d bytes of heap and stack", held); held > most {
		t.Errorf("got %d bytes, want %d at most", held, most)
	}
}
