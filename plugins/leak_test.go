package plugins

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// footprint is what a process holds.
type footprint struct {
	heap, resident, mappings, goroutines int
}

// measure collects garbage until finalizers have unmapped what they can, and measures. resident and mappings need
// Linux; they are 0 elsewhere.
func measure() (f footprint) {
	for range 3 { // wazero unmaps code in finalizers, which run after a collection
		debug.FreeOSMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	f.heap, f.goroutines = int(m.HeapAlloc), runtime.NumGoroutine()
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		var size, resident int
		_, _ = fmt.Sscan(string(statm), &size, &resident)
		f.resident = resident * os.Getpagesize()
	}
	if maps, err := os.ReadFile("/proc/self/maps"); err == nil {
		f.mappings = strings.Count(string(maps), " r-xp ")
	}
	return f
}

// TestReloadsLeaveNothing loads, uses and closes plugins, all of different code so that no cache helps: afterwards heap,
// resident memory, executable mappings and goroutines are as before.
func TestReloadsLeaveNothing(t *testing.T) {
	warm, rounds := 50, 1000
	if testing.Short() {
		warm, rounds = 20, 100
	}
	h := newHost(t)
	round := func(n int) {
		s := zoo
		s.funcs = append(slices.Clip(s.funcs), function{name: "n", signature: ":i", code: i32(n)})
		m, err := h.Load(t.Context(), Config{Name: "zoo", Module: s.bytes(), Deadline: []Deadline{DeadlineRewrite, DeadlineContext}[n%2]}, binding("nop"))
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewPool(m, PoolConfig{Max: 2})
		if err != nil {
			t.Fatal(err)
		}
		i, err := p.Take(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if got := mustInvoke(t, i, "n"); got != uint64(n) {
			t.Fatalf("plugin %d says it is %d", n, got)
		}
		if n%3 == 0 {
			killInstance(t, i)
		}
		p.Close()
		p.Give(i)
	}
	for n := range warm {
		round(n)
	}
	before := measure()
	for n := range rounds {
		round(warm + n)
	}
	after := measure()
	t.Logf("before %+v", before)
	t.Logf("after  %+v", after)
	const slack = 4 << 20 // a thousand kept plugins would be over 100 MB
	if after.heap > before.heap+slack || after.resident > before.resident+4*slack {
		t.Errorf("memory grew from %+v to %+v in %d reloads", before, after, rounds)
	}
	if after.mappings > before.mappings+10 || after.goroutines > before.goroutines {
		t.Errorf("mappings or goroutines grew from %+v to %+v in %d reloads", before, after, rounds)
	}
	if len(h.watchdog.watched) != 0 {
		t.Errorf("%d instances are still watched", len(h.watchdog.watched))
	}
}
