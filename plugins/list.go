package plugins

import "sync/atomic"

// The fields of freeList.head, lowest first, as they are added and masked.
const (
	topMask    = 1<<16 - 1
	freeOne    = 1 << 16
	generation = 1 << 32

	listMax = topMask // the most slots of a list
)

// freeList is the instances of a pool that nobody uses, as a lock-free LIFO list of slots (Treiber's stack). The last
// one given is the next one taken: its memory is still in the caches, and what a burst needed stays at the bottom.
//
//	head   generation 32 | free 16 | top 16        one word on a cache line of its own
//	slots  [ instance, next ] ...                  a table that only grows; the slots themselves never move
//
//	top and next are index+1, 0 ends the list:     head(free 2, top 3): slot 2 -> slot 0 -> end
//
// Invariants:
//
//	L1  A slot is on the list, lent to one holder, or vacant: known to the pool alone, under its mutex.
//	L2  free is the number of slots on the list in every value of head; free == 0 exactly when top == 0.
//	L3  Every successful pop and push adds 1 to the generation.
//	L4  A table holds all slots of the tables before it. A slot is pushed only after a table with it was published.
//	L5  The instance of a slot changes only while the slot is vacant.
//
// Hazard (ABA): pop reads next of the top slot before it swaps head. Between the two, others may pop that slot, pop its
// successor and push the first again: same top, other successor. The swap compares the generation too (L3), so
// it fails. Hazard (old table): a slot may be on the list that the table which was loaded before does not hold. pop
// loads head first and the table after it (L4).
//
// Memory order: push writes next, then publishes the slot by swapping head; pop loads head, then reads next. If its swap
// succeeds, head did not change in between, so nobody wrote next. All that the giver did to the instance happens before
// push's swap, which happens before the swap of the pop that lends it again.
//
// Progress: lock-free; a swap lost to a neighbour is tried again. pop on an empty list answers nil at once. The
// generation wraps after 2^32 changes: to be fooled, a pop must sleep through exactly so many.
type freeList struct {
	table atomic.Pointer[[]*slot]

	_    [64]byte // every take and give writes head; table is only read
	head atomic.Uint64
	_    [56]byte
}

// slot is a place for one instance.
type slot struct {
	next     atomic.Uint32
	index    uint32
	instance *Instance
	used     bool // was lent since the last trim
}

// grow adds a vacant slot. Callers exclude each other.
func (l *freeList) grow() *slot {
	var old []*slot
	if table := l.table.Load(); table != nil {
		old = *table
	}
	s := &slot{index: uint32(len(old))}
	table := append(old, s) // may share memory with old, whose readers do not look behind its end
	l.table.Store(&table)
	return s
}

// pop lends the top slot, nil if there is none. free is how many are left.
func (l *freeList) pop() (s *slot, free int) {
	for {
		head := l.head.Load()
		top := head & topMask
		if top == 0 {
			return nil, 0
		}
		s := (*l.table.Load())[top-1]
		next := head + generation - freeOne - top + uint64(s.next.Load())
		if l.head.CompareAndSwap(head, next) {
			return s, int(next / freeOne & topMask)
		}
	}
}

// push puts a lent or vacant slot on the list.
func (l *freeList) push(s *slot) {
	for {
		head := l.head.Load()
		s.next.Store(uint32(head & topMask))
		if l.head.CompareAndSwap(head, (head+generation+freeOne)&^topMask|uint64(s.index)+1) {
			return
		}
	}
}

// free returns how many slots are on the list.
func (l *freeList) free() int { return int(l.head.Load() / freeOne & topMask) }
