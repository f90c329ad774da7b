package arena

import (
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
)

// slabsAtFirst is how many slabs a class is cut into: a slab is also a shard, so more of them means fewer collisions
// and finer retirement, but a longer search before an overflow.
const slabsAtFirst = 16

// Class is all the slots of one kind. T is a typed record, or a pointer-free array such as [16384]byte that the
// collector does not scan. Safe for concurrent use.
//
//	layout ──► serving [slab 0][slab 1] ... [slab k]     takers look here, each from its own slab on
//	           retired [slab k+1] ...                    only those with slots still out, oldest first
//
// Invariants:
//
//	C1  A published layout never changes; serving is not empty, and serving followed by retired is in order of creation.
//	C2  A slab in serving is not retired, except for the moment between Resize's decision and its publication. A slab
//	    that is retired and complete is dropped from the layout.
//	C3  Take overflows only if at one moment within the call every serving slab was empty.
//	C4  Resize makes slabs only when none is retired, and none smaller than 1/16 of the slots then wanted, rounded down
//	    (or listMax). So serving and retired together never hold more than 17/16 of the most slots ever wanted, and
//	    serving holds less than one slab more than wanted.
//	C5  A slot that overflowed is in no layout; overflows - returned are lent.
//
// Hazard (a slot that hops): slab A is seen empty, gets a slot back, then slab B loses its last one and is seen empty:
// there was a free slot all the time. steal therefore adds up the generations of all lists before and after its
// search; equal sums mean that no list changed. Hazard (a stale layout): a taker may hold a layout that Resize has
// replaced; what was retired lends nothing (S5), what was added is missed, so steal compares the layout too before it
// overflows. Hazard (drop against Resize): the last give of a retired slab and a Resize that revives it meet; both
// hold mu, and drop asks again whether the slab is retired and complete.
//
// Memory order: Resize fills a slab before it publishes the layout by a store; takers load the layout first.
//
// Progress: Take and Give are lock-free; a search is repeated only because others took or gave meanwhile. Resize
// and drop lock mu. By C4 every slab adds at least 1/32 to those before it: even growing by one slot a time, n slots, up
// to a million, are at most 16 + 33*ln(n/16) slabs.
type Class[T any] struct {
	layout atomic.Pointer[layout[T]]
	ledger ledger
	mu     sync.Mutex // held by the writers of layout

	_         [64]byte // a storm of overflows must not slow those who only read layout
	overflows atomic.Uint64
	returned  atomic.Uint64 // of the overflows
}

type layout[T any] struct {
	serving, retired []*slab[T]
}

// NewClass returns a class with exactly so many slots, at least 1, allocated now in up to 16 slabs. It costs the size of
// T and 8 bytes a slot; the pages of a large pointer-free T are mapped when first used. Less than 1 panics with "bug:".
func NewClass[T any](slots int) *Class[T] {
	c := new(Class[T])
	c.layout.Store(new(layout[T]))
	c.Resize(slots)
	return c
}

// Take lends a slot; the caller gives it back with Slot.Give. It never fails: when every slab is empty, the slot comes
// from the heap and counts as an overflow until it is given back, to the collector.
//
// hint picks the slab to begin with: any number that differs between connections. The content is what the last
// holder left. Within the slabs Take allocates nothing.
func (c *Class[T]) Take(hint uint32) Slot[T] {
	serving := c.layout.Load().serving
	from := serving[home(hint, len(serving))]
	slot, turn, ok := from.pop()
	if !ok {
		if from, slot, turn = c.steal(hint); from == nil {
			c.overflows.Add(1)
			from = newOverflow(c)
		}
	}
	return Slot[T]{slab: from, trace: c.ledger.taken(), slot: slot, turn: turn}
}

// TryTake is Take of a slot that is free. It reports false when every slab was empty at one moment, and allocates nothing.
func (c *Class[T]) TryTake(hint uint32) (Slot[T], bool) {
	serving := c.layout.Load().serving
	from := serving[home(hint, len(serving))]
	slot, turn, ok := from.pop()
	if !ok {
		if from, slot, turn = c.steal(hint); from == nil {
			return Slot[T]{}, false
		}
	}
	return Slot[T]{slab: from, trace: c.ledger.taken(), slot: slot, turn: turn}, true
}

// steal takes a slot from any slab, the one of hint first. from is nil when all were empty at one moment (C3).
func (c *Class[T]) steal(hint uint32) (from *slab[T], slot, turn uint32) {
	for {
		l := c.layout.Load()
		pause()
		before := changes(l.serving)
		first := home(hint, len(l.serving))
		for i := range l.serving {
			from = l.serving[(first+i)%len(l.serving)]
			if slot, turn, ok := from.pop(); ok {
				return from, slot, turn
			}
			pause()
		}
		if changes(l.serving) == before && c.layout.Load() == l {
			return nil, 0, 0
		}
	}
}

// Resize adds or retires slabs while others take and give, so that there are at least so many slots, 1 or more; less
// panics with "bug:".
//
// Whole slabs are added and retired: there may be up to 1/16 more slots than wanted after growing, and less than one
// slab more after shrinking (Stats.Slots says how many). A retired slab lends nothing and is dropped when its last
// slot comes home, at once if all are; growing first brings back those not yet dropped, so that repeated
// resizing retains no more than the largest size wanted, and 1/16. Calls are served one after the other.
func (c *Class[T]) Resize(slots int) {
	if slots < 1 {
		panic(fmt.Sprintf("bug: arena: got %d slots, want at least 1", slots))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var next layout[T]
	have, old := 0, c.layout.Load()
	for _, s := range slices.Concat(old.serving, old.retired) {
		if have < slots {
			s.revive()
			next.serving = append(next.serving, s)
			have += len(s.mem)
		} else if !s.retire() {
			next.retired = append(next.retired, s)
		}
	}
	if have < slots {
		least := max(1, slots/slabsAtFirst)
		add := max(slots-have, least)
		n := max(min(add/least, slabsAtFirst), (add+listMax-1)/listMax)
		for i := range n {
			next.serving = append(next.serving, newSlab(c, add*(i+1)/n-add*i/n))
		}
	}
	c.layout.Store(&next)
}

// drop forgets an overflow, or a retired slab, after the last slot came home.
func (c *Class[T]) drop(s *slab[T]) {
	if s.overflow {
		c.returned.Add(1)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.complete(s.head.Load()) {
		return // revived meanwhile
	}
	old := c.layout.Load()
	if i := slices.Index(old.retired, s); i >= 0 {
		c.layout.Store(&layout[T]{old.serving, slices.Concat(old.retired[:i], old.retired[i+1:])})
	}
}

// Stats is what a class holds and lends.
type Stats struct {
	Slots          int    // slots that can be lent: those of the slabs that are not retired
	InUse          int    // slots lent from slabs, retired ones included, so it may exceed Slots for a while
	OverflowsInUse int    // slots lent from the heap
	Overflows      uint64 // slots ever lent from the heap
	SlotBytes      int    // size of T, in bytes
}

// Stats counts without a lock, at any time. Every slab is counted exactly, but one after the other.
func (c *Class[T]) Stats() Stats {
	// In this order, since a slot is counted in overflows before it can be in returned.
	returned := c.returned.Load()
	st := Stats{Overflows: c.overflows.Load(), SlotBytes: int(reflect.TypeFor[T]().Size())}
	st.OverflowsInUse = int(st.Overflows - returned)
	l := c.layout.Load()
	for _, s := range l.serving {
		st.Slots += len(s.mem)
		st.InUse += s.lent()
	}
	for _, s := range l.retired {
		st.InUse += s.lent()
	}
	return st
}

// home spreads hints, consecutive ones too, over n slabs: Fibonacci hashing, then the upper part of a product.
func home(hint uint32, n int) int {
	return int(uint64(hint*0x9E3779B9) * uint64(n) >> 32)
}

// changes adds up the generations of the lists. Each only grows, so equal sums mean that none changed.
func changes[T any](slabs []*slab[T]) uint64 {
	sum := uint64(0)
	for _, s := range slabs {
		sum += s.changes()
	}
	return sum
}
