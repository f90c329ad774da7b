package arena

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"weak"
)

type block = [64]byte

// takeAll takes n slots and fails on one that is lent already.
func takeAll[T any](t *testing.T, c *Class[T], n int) []Slot[T] {
	t.Helper()
	seen := make(map[*T]bool, n)
	slots := make([]Slot[T], n)
	for i := range slots {
		slots[i] = c.Take(uint32(i))
		p := slots[i].P()
		if p == nil || seen[p] {
			t.Fatalf("take %d: got %p, which is nil or lent", i, p)
		}
		seen[p] = true
	}
	return slots
}

func giveAll[T any](slots []Slot[T]) {
	for i := range slots {
		slots[i].Give()
	}
}

func wantStats(t *testing.T, got, want Stats) {
	t.Helper()
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// wantPanic runs f and returns the panic's text, which must begin with "bug:".
func wantPanic(t *testing.T, f func()) (text string) { //nolint:unparam // debug_test.go, with -tags edgedebug, reads the text
	t.Helper()
	defer func() {
		t.Helper()
		if text = fmt.Sprint(recover()); !strings.HasPrefix(text, "bug: arena: ") {
			t.Errorf("got panic %q, want one that begins with bug:", text)
		}
	}()
	f()
	return ""
}

func TestClassHasTheSlotsAskedFor(t *testing.T) {
	for _, n := range []int{1, 2, 15, 16, 17, 31, 100, 1000, 1_048_561} {
		c := NewClass[[1]byte](n)
		wantStats(t, c.Stats(), Stats{Slots: n, SlotBytes: 1})
		if slabs := len(c.layout.Load().serving); slabs != min(n, 16) && n < 1_000_000 || slabs > 17 {
			t.Errorf("%d slots: %d slabs", n, slabs)
		}
	}
	wantPanic(t, func() { NewClass[block](0) })
	wantPanic(t, func() { NewClass[block](1).Resize(-1) })
}

func TestClassCountsOverflows(t *testing.T) { // C3, C5
	c := NewClass[block](20)
	slots := takeAll(t, c, 20)
	wantStats(t, c.Stats(), Stats{Slots: 20, InUse: 20, SlotBytes: 64})
	extra := takeAll(t, c, 3)
	wantStats(t, c.Stats(), Stats{Slots: 20, InUse: 20, OverflowsInUse: 3, Overflows: 3, SlotBytes: 64})
	copied := extra[0]
	giveAll(extra[:2])
	wantStats(t, c.Stats(), Stats{Slots: 20, InUse: 20, OverflowsInUse: 1, Overflows: 3, SlotBytes: 64})
	wantPanic(t, copied.Give)
	giveAll(slots)
	giveAll(extra[2:])
	wantStats(t, c.Stats(), Stats{Slots: 20, Overflows: 3, SlotBytes: 64})
	giveAll(takeAll(t, c, 20))
	wantStats(t, c.Stats(), Stats{Slots: 20, Overflows: 3, SlotBytes: 64})
}

func TestTryTakeTakesOnlyWhatIsFree(t *testing.T) { // C3
	c := NewClass[block](20)
	slots := takeAll(t, c, 19)
	last, ok := c.TryTake(7)
	if !ok || last.P() == nil {
		t.Error("got nothing, and one was free")
	}
	if extra, ok := c.TryTake(7); ok || extra.P() != nil {
		t.Error("got a slot, and none was free")
	}
	wantStats(t, c.Stats(), Stats{Slots: 20, InUse: 20, SlotBytes: 64})
	last.Give()
	wantStats(t, c.Stats(), Stats{Slots: 20, InUse: 19, SlotBytes: 64})
	giveAll(slots)
	if n := testing.AllocsPerRun(100, func() {
		if s, ok := c.TryTake(3); ok {
			s.Give()
		}
	}); n != 0 {
		t.Errorf("got %v allocations", n)
	}
}

func TestTakeStealsBeforeItOverflows(t *testing.T) { // C3
	c := NewClass[block](50)
	slots := make([]Slot[block], 50)
	for i := range slots {
		slots[i] = c.Take(7)
	}
	for i := range slots {
		from := slots[i].P()
		slots[i].Give()
		if slots[i] = c.Take(uint32(i)); slots[i].P() != from {
			t.Fatalf("the only free slot was not taken")
		}
	}
	if got := c.Stats(); got.Overflows != 0 {
		t.Errorf("%d overflows of a class that was never short", got.Overflows)
	}
	giveAll(slots)
}

func TestSlotIsGivenOnce(t *testing.T) { // S4
	var zero Slot[block]
	if zero.P() != nil {
		t.Error("the zero slot holds something")
	}
	wantPanic(t, zero.Give)

	c := NewClass[block](1)
	slot := c.Take(0)
	copied := slot
	slot.Give()
	if slot != zero {
		t.Error("Give did not zero the slot")
	}
	wantPanic(t, slot.Give)
	wantPanic(t, func() { stale := copied; stale.Give() })

	other := c.Take(0)
	if other.P() != copied.P() {
		t.Fatal("the slot is not lent again")
	}
	wantPanic(t, copied.Give)
	wantStats(t, c.Stats(), Stats{Slots: 1, InUse: 1, SlotBytes: 64})
	other.Give()
	wantStats(t, c.Stats(), Stats{Slots: 1, SlotBytes: 64})
}

type nested struct {
	self Slot[nested]
	n    int
}

func TestSlotMayLieInItself(t *testing.T) {
	c := NewClass[nested](1)
	slot := c.Take(0)
	x := slot.P()
	x.self, x.n = slot, 1
	x.self.Give()
	if x.self != (Slot[nested]{}) {
		t.Error("Give did not zero the slot")
	}
	wantPanic(t, slot.Give)
}

func TestSlotContentIsTheLastHolders(t *testing.T) {
	c := NewClass[nested](1)
	slot := c.Take(0)
	slot.P().n = 42
	slot.Give()
	if slot = c.Take(0); slot.P().n != 42 {
		t.Errorf("got %d, want what the last holder left", slot.P().n)
	}
}

func TestClassSurvivesCollections(t *testing.T) {
	heap := func() int {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	const slots = 1000
	before := heap()
	c := NewClass[[16384]byte](slots)
	grown := heap() - before
	if want := slots * 16384; grown < want || grown > want*11/10 {
		t.Errorf("the heap grew by %d bytes, want %d to 10 %% more", grown, want)
	}
	first := make(map[*[16384]byte]bool)
	taken := takeAll(t, c, slots)
	for _, s := range taken {
		first[s.P()] = true
	}
	giveAll(taken)
	heap()
	taken = takeAll(t, c, slots)
	for _, s := range taken {
		if !first[s.P()] {
			t.Fatal("after two collections a slot is not one of the first")
		}
	}
	giveAll(taken)
	if got := c.Stats().Overflows; got != 0 {
		t.Errorf("%d overflows", got)
	}
}

func TestResizeUpAndDown(t *testing.T) { // C2, C4
	c := NewClass[block](160)
	slots := takeAll(t, c, 160)
	c.Resize(320)
	wantStats(t, c.Stats(), Stats{Slots: 320, InUse: 160, SlotBytes: 64})
	slots = append(slots, takeAll(t, c, 160)...)
	wantStats(t, c.Stats(), Stats{Slots: 320, InUse: 320, SlotBytes: 64})

	c.Resize(25) // slabs of 10 at first
	wantStats(t, c.Stats(), Stats{Slots: 30, InUse: 320, SlotBytes: 64})
	giveAll(slots)
	wantStats(t, c.Stats(), Stats{Slots: 30, SlotBytes: 64})
	if n := len(c.layout.Load().retired); n != 0 {
		t.Errorf("%d retired slabs are kept with all slots home", n)
	}
	slots = takeAll(t, c, 31)
	wantStats(t, c.Stats(), Stats{Slots: 30, InUse: 30, OverflowsInUse: 1, Overflows: 1, SlotBytes: 64})
	giveAll(slots)

	c.Resize(31)
	wantStats(t, c.Stats(), Stats{Slots: 31, Overflows: 1, SlotBytes: 64})
	c.Resize(1)
	wantStats(t, c.Stats(), Stats{Slots: 10, Overflows: 1, SlotBytes: 64})
}

func TestRetiredSlabGoesWithItsLastSlot(t *testing.T) { // S5, C2
	c := NewClass[block](2)
	a, b := c.Take(0), c.Take(0)
	if a.slab == c.layout.Load().serving[0] {
		a, b = b, a
	}
	slab := weak.Make(a.slab)
	c.Resize(1)
	wantStats(t, c.Stats(), Stats{Slots: 1, InUse: 2, SlotBytes: 64})

	*a.P() = block{1, 2, 3}
	runtime.GC()
	runtime.GC()
	if *a.P() != (block{1, 2, 3}) {
		t.Error("a slot of a retired slab lost its content")
	}
	kept := a.P()
	a.Give()
	wantStats(t, c.Stats(), Stats{Slots: 1, InUse: 1, SlotBytes: 64})
	runtime.GC()
	runtime.GC()
	if slab.Value() != nil {
		t.Error("a retired slab is kept after its last slot came home")
	}
	if kept[0] = 9; kept[0] != 9 {
		t.Error("a pointer kept beyond Give is not valid memory")
	}
	b.Give()
}

// The last give of a retired slab may be overtaken by a Resize that revives it and one that retires it again.
func TestLateDropKeepsASlabThatIsOut(t *testing.T) { // C2
	c := NewClass[block](2)
	slots := takeAll(t, c, 2)
	c.Resize(1)
	c.drop(c.layout.Load().retired[0])
	wantStats(t, c.Stats(), Stats{Slots: 1, InUse: 2, SlotBytes: 64})
	c.Resize(2)
	wantStats(t, c.Stats(), Stats{Slots: 2, InUse: 2, SlotBytes: 64})
	giveAll(slots)
	c.drop(c.layout.Load().serving[1])
	wantStats(t, c.Stats(), Stats{Slots: 2, SlotBytes: 64})
}

func TestRepeatedResizeRetainsNoMoreThanTheLargest(t *testing.T) { // C4
	c := NewClass[block](1000)
	var held []Slot[block]
	for i := range 100 {
		held = append(held, takeAll(t, c, 10)...)
		c.Resize(10 + i%7)
		c.Resize(1000 - i)
		total := 0
		l := c.layout.Load()
		for _, s := range slices.Concat(l.serving, l.retired) {
			total += len(s.mem)
		}
		if total > 1062 || len(l.serving) > 32 {
			t.Fatalf("round %d: %d slots in %d serving and %d retired slabs", i, total, len(l.serving), len(l.retired))
		}
	}
	giveAll(held)
	c.Resize(10)
	got := c.Stats()
	if got.InUse != 0 || got.Slots >= 10+63 || len(c.layout.Load().retired) != 0 {
		t.Errorf("got %+v and %d retired slabs", got, len(c.layout.Load().retired))
	}
}

func TestGrowingByOneKeepsSlabsFew(t *testing.T) { // C4
	c := NewClass[block](1)
	for n := 1; n <= 5000; n++ {
		c.Resize(n)
		got, slabs := c.Stats().Slots, len(c.layout.Load().serving)
		if got < n || got > n+max(1, n/16) {
			t.Fatalf("%d slots wanted, got %d", n, got)
		}
		if most := 16 + int(33*math.Log(math.Max(1, float64(got)/16))); slabs > most {
			t.Fatalf("%d slots in %d slabs, want at most %d", got, slabs, most)
		}
	}
}

func TestHomeReachesEverySlab(t *testing.T) {
	for _, n := range []int{1, 3, 16, 31} {
		reached := make(map[int]bool)
		for hint := range uint32(4 * n) {
			reached[home(hint, n)] = true
		}
		for _, hint := range []uint32{0, 1 << 31, math.MaxUint32} {
			reached[home(hint, n)] = true
		}
		if len(reached) != n {
			t.Errorf("%d consecutive hints reach %d of %d slabs", 4*n, len(reached), n)
		}
	}
}
