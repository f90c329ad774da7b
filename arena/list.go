package arena

import "sync/atomic"

// The fields of list.head, lowest first, as they are added and masked.
const (
	topMask    = 1<<16 - 1
	freeOne    = 1 << 16
	retired    = 1 << 32
	generation = 1 << 33
)

// listMax is the most slots in one list: top and next are positions from 1 in 16 bits.
const listMax = topMask

// list is the free slots of one slab, as a lock-free LIFO list of indexes (Treiber's stack).
//
//	head   generation 31 | retired 1 | free 16 | top 16          one word on a cache line of its own
//	links  [ turn 32 | unused 16 | next 16 ] ...                 one word per slot
//
//	top and next are index+1, 0 ends the list:   head(free 3, top 1): slot 0 -> slot 2 -> slot 1 -> end
//	links  [ turn, next 3 ][ turn, next 0 ][ turn, next 2 ] ...
//
// Invariants:
//
//	S1  A slot is either on the list or lent to exactly one holder.
//	S2  free is the number of slots on the list, in every value of head; free == 0 exactly when top == 0.
//	S3  Every successful pop, push, retire and revive adds 1 to the generation.
//	S4  The turn of a slot changes only in claim, by 1; while the slot is lent, it is the turn its holder was told.
//	    Of all claims with one turn one succeeds.
//	S5  A retired list lends nothing, and takes back what is out.
//	S6  links and its length never change after fill.
//
// Hazard (ABA): pop reads the link of the top slot before it swaps head. Between the two, others may pop that slot, pop
// its successor and push the first again: same top, other successor. The swap compares the generation too (S3), so
// it fails. Hazard (a second give): two copies of one Slot may be given at the same moment, and the slot would be on
// the list twice. Both must swap the turn in the link; one fails (S4).
//
// Memory order: push writes the link, then publishes the slot by swapping head; pop loads head, then reads the link.
// If its swap succeeds, head did not change in between, so the slot was on top all the time and nobody wrote its link.
// The content of a slot is plain memory: what its holder wrote happens before push's swap, which happens before the
// swap of the pop that lends it again.
//
// Progress: lock-free; a swap lost to a neighbour is tried again. pop on an empty or retired list answers ok=false
// at once. The generation wraps after 2^31 changes of one list, the turn after 2^32 gives of one slot: to be fooled, a
// pop must sleep through exactly 2^31 changes, or a stale copy must be given after exactly 2^32 turns.
type list struct {
	links []atomic.Uint64

	_    [64]byte // every take and give writes head; links and the slab's fields are only read
	head atomic.Uint64
	_    [56]byte
}

// fill puts slots 0 to n-1 on a new list, the first on top. n is 1 to listMax.
func (l *list) fill(n int) {
	l.links = make([]atomic.Uint64, n)
	for i := range n - 1 {
		l.links[i].Store(uint64(i) + 2)
	}
	l.head.Store(uint64(n)*freeOne | 1)
}

// pop lends the top slot. turn is what claim wants to hear.
func (l *list) pop() (slot, turn uint32, ok bool) {
	for {
		head := l.head.Load()
		top := head & topMask
		if top == 0 || head&retired != 0 {
			return 0, 0, false
		}
		link := l.links[top-1].Load()
		pause()
		if l.head.CompareAndSwap(head, (head+generation-freeOne)&^topMask|link&topMask) {
			return uint32(top - 1), uint32(link >> 32), true
		}
	}
}

// claim ends the turn of a lent slot; ok is false when that turn is over. Until push, slot is still the caller's alone.
// The link is written here already, for the head that is returned: in the common case push need not write it.
func (l *list) claim(slot, turn uint32) (head uint64, ok bool) {
	link := l.links[slot].Load()
	if uint32(link>>32) != turn {
		return 0, false
	}
	head = l.head.Load()
	pause()
	return head, l.links[slot].CompareAndSwap(link, uint64(turn+1)<<32|head&topMask)
}

// push puts back a slot after claim(slot, turn) returned head. last means that the list is retired and now complete.
func (l *list) push(slot, turn uint32, head uint64) (last bool) {
	for {
		next := (head+generation+freeOne)&^topMask | uint64(slot) + 1
		pause()
		if l.head.CompareAndSwap(head, next) {
			return l.complete(next)
		}
		head = l.head.Load()
		l.links[slot].Store(uint64(turn+1)<<32 | head&topMask)
	}
}

// retire ends lending and reports whether all slots are home. On a retired list it only reports.
func (l *list) retire() (home bool) {
	for {
		head := l.head.Load()
		if head&retired != 0 {
			return l.complete(head)
		}
		next := head + generation | retired
		if l.head.CompareAndSwap(head, next) {
			return l.complete(next)
		}
	}
}

// revive takes retire back.
func (l *list) revive() {
	for {
		head := l.head.Load()
		if head&retired == 0 || l.head.CompareAndSwap(head, (head+generation)&^retired) {
			return
		}
	}
}

// complete reports whether a list with this head is retired with all its slots home.
func (l *list) complete(head uint64) bool {
	return head&retired != 0 && int(head/freeOne&topMask) == len(l.links)
}

// lent returns how many slots are out.
func (l *list) lent() int {
	return len(l.links) - int(l.head.Load()/freeOne&topMask)
}

// changes returns the generation.
func (l *list) changes() uint64 {
	return l.head.Load() / generation
}
