package arena

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// owned is written with plain stores, so that under -race two owners are also a data race. It is given back through
// self, which lies in the slot: Give must be done with it before the next holder comes.
type owned struct {
	owner, check int
	self         Slot[owned]
}

// hammer lets goroutines take up to hold slots each, mark them, check the marks and give them back, for a while.
func hammer(t *testing.T, c *Class[owned], procs, goroutines, hold int, beside func(stop *atomic.Bool)) {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
	length := time.Second
	if testing.Short() {
		length = 100 * time.Millisecond
	}
	var stop atomic.Bool
	defer time.AfterFunc(length, func() { stop.Store(true) }).Stop()
	var ops atomic.Int64
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 1))
			slots := make([]Slot[owned], hold)
			for n := 0; !stop.Load(); n++ {
				k := 1 + random.IntN(hold)
				for i := range k {
					slots[i] = c.Take(random.Uint32())
					*slots[i].P() = owned{g, i, slots[i]}
				}
				if random.IntN(8) == 0 {
					runtime.Gosched()
				}
				for i := range k {
					p := slots[i].P()
					if *p != (owned{g, i, slots[i]}) {
						t.Errorf("S1: slot of %d/%d is marked %+v", g, i, *p)
						stop.Store(true)
					}
					p.self.Give()
				}
				ops.Add(int64(k))
			}
		})
	}
	if beside != nil {
		all.Go(func() { beside(&stop) })
	}
	all.Wait()
	got := c.Stats()
	t.Logf("%d loans, %+v", ops.Load(), got)
	if got.InUse != 0 || got.OverflowsInUse != 0 {
		t.Errorf("S2, C5: after all gave back: %+v", got)
	}
	l := c.layout.Load()
	if len(l.retired) != 0 {
		t.Errorf("C2: %d retired slabs are kept", len(l.retired))
	}
	for _, s := range l.serving {
		if n := len(s.freeSlots(t)); n != len(s.mem) || s.head.Load()&retired != 0 {
			t.Errorf("S1: %d of %d slots are on the list, head %x", n, len(s.mem), s.head.Load())
		}
	}
}

func TestHammerClass(t *testing.T) { // S1 to S4, C5
	c := NewClass[owned](64)
	hammer(t, c, 8, 32, 3, nil)
	if got := c.Stats(); got.Slots != 64 {
		t.Errorf("got %+v, want 64 slots", got)
	}
}

// With one slot for each goroutine and one goroutine for each slot, whoever takes knows that a slot is free, though it
// may be in another slab every time one looks.
func TestHammerNeverOverflowsWhileASlotIsFree(t *testing.T) { // C3
	for _, slots := range []int{4, 16} {
		c := NewClass[owned](slots)
		hammer(t, c, max(2, slots/2), slots, 1, nil)
		if got := c.Stats(); got.Overflows != 0 {
			t.Errorf("%d slots: %d overflows", slots, got.Overflows)
		}
	}
}

func TestHammerResize(t *testing.T) { // S5, C1 to C5
	c := NewClass[owned](64)
	most := 0
	hammer(t, c, 8, 32, 4, func(stop *atomic.Bool) {
		random := rand.New(rand.NewPCG(1, 2))
		for !stop.Load() {
			want := 1 + random.IntN(128)
			c.Resize(want)
			got := c.Stats()
			if got.Slots < want || got.InUse < 0 || got.OverflowsInUse < 0 {
				t.Errorf("C4: %d slots wanted, got %+v", want, got)
			}
			total := 0
			l := c.layout.Load()
			for _, s := range slices.Concat(l.serving, l.retired) {
				total += len(s.mem)
			}
			most = max(most, total)
			runtime.Gosched()
		}
	})
	if most > 128+8 {
		t.Errorf("C4: up to %d slots retained, want at most 136", most)
	}
}

// All holders of copies give at once: one may.
func TestHammerGiveOfCopies(t *testing.T) { // S4
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	c := NewClass[owned](2)
	for round := range 3000 {
		slot := c.Take(uint32(round))
		var ready, done sync.WaitGroup
		var given atomic.Int32
		const holders = 4
		ready.Add(holders)
		for range holders {
			done.Go(func() {
				defer func() {
					if recover() == nil {
						given.Add(1)
					}
				}()
				loan := slot
				ready.Done()
				ready.Wait()
				loan.Give()
			})
		}
		done.Wait()
		if got := c.Stats(); given.Load() != 1 || got.InUse != 0 {
			t.Fatalf("round %d: %d of %d gives succeeded, %+v", round, given.Load(), holders, got)
		}
	}
	for _, s := range c.layout.Load().serving {
		s.freeSlots(t)
	}
}

// Enough for everybody at every size: a resize alone must not make a taker overflow.
func TestHammerResizeNeverOverflowsWhileASlotIsFree(t *testing.T) { // C3
	const goroutines = 8
	c := NewClass[owned](goroutines)
	hammer(t, c, 4, goroutines, 1, func(stop *atomic.Bool) {
		for n := goroutines; !stop.Load(); n++ {
			c.Resize(goroutines * (1 + n%8))
			runtime.Gosched()
		}
	})
	if got := c.Stats(); got.Overflows != 0 {
		t.Errorf("%d overflows", got.Overflows)
	}
}

// One goroutine holds all slots but one, at two sizes. What it takes after growing may be the last slot that another
// one, still looking at the smaller layout, could have found.
func TestHammerTakersSeeTheLatestLayout(t *testing.T) { // C3
	c := NewClass[owned](8)
	hammer(t, c, 2, 1, 1, func(stop *atomic.Bool) {
		random := rand.New(rand.NewPCG(3, 4))
		var slots []Slot[owned]
		for !stop.Load() {
			for _, size := range []int{8, 16, 8} {
				for len(slots) >= size {
					i := random.IntN(len(slots))
					slots[i].Give()
					slots[i] = slots[len(slots)-1]
					slots = slots[:len(slots)-1]
				}
				c.Resize(size)
				for len(slots) < size-1 {
					slots = append(slots, c.Take(random.Uint32()))
				}
			}
		}
		for i := range slots {
			slots[i].Give()
		}
	})
	if got := c.Stats(); got.Overflows != 0 {
		t.Errorf("%d overflows", got.Overflows)
	}
}
