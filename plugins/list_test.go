package plugins

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// FuzzFreeList replays takes and gives against a slice. An even byte takes, an odd one gives the oldest or the newest of
// those that are out, 255 adds a slot.
func FuzzFreeList(f *testing.F) {
	f.Add([]byte{255, 255, 255, 1, 1, 0, 0, 0, 3, 1, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		var l freeList
		var free, out []*slot // free: top last
		for _, op := range ops {
			before := l.head.Load() / generation
			switch {
			case op == 255 && len(free)+len(out) < listMax:
				out = append(out, l.grow())
				continue
			case op%2 == 0:
				s, left := l.pop()
				if len(free) == 0 {
					if s != nil {
						t.Fatal("took from an empty list")
					}
					continue
				}
				if want := free[len(free)-1]; s != want || left != len(free)-1 {
					t.Fatalf("took %v, %d left; want %v, %d", s, left, want, len(free)-1)
				}
				free, out = free[:len(free)-1], append(out, s)
			case len(out) > 0:
				at := int(op/2) % 2 * (len(out) - 1)
				l.push(out[at])
				free, out = append(free, out[at]), slices.Delete(out, at, at+1)
			default:
				continue
			}
			if now := l.head.Load() / generation; now != before+1 { // L3
				t.Fatalf("generation %d after %d", now, before)
			}
			if l.free() != len(free) || (l.head.Load()&topMask == 0) != (len(free) == 0) { // L2
				t.Fatalf("%d free, want %d", l.free(), len(free))
			}
		}
	})
}

// TestHammerFreeList marks who holds a slot (L1) while the table grows under the takers (L4), and counts the slots in the end (L2).
func TestHammerFreeList(t *testing.T) {
	rounds, slots := 40_000, 7
	if testing.Short() {
		rounds = 10_000
	}
	var l freeList
	var holders [7]atomic.Int32
	l.push(l.grow())
	var wg sync.WaitGroup
	for g := range 4 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for n := range rounds {
				if g == 0 && n%100 == 0 && n/100 < slots-1 {
					l.push(l.grow())
				}
				s, _ := l.pop()
				if s == nil {
					runtime.Gosched()
					continue
				}
				if holders[s.index].Add(1) != 1 {
					t.Error("a slot with two holders")
				}
				if n%7 == 0 {
					runtime.Gosched()
				}
				holders[s.index].Add(-1)
				l.push(s)
			}
		})
	}
	wg.Wait()
	if l.free() != slots {
		t.Errorf("%d free at rest, want %d", l.free(), slots)
	}
	for range slots {
		if s, _ := l.pop(); s == nil {
			t.Fatal("a slot is lost")
		}
	}
}
