package limiter

import "sync/atomic"

const (
	segmentCells = 32
	onePointer   = 1 << 16
)

// segment is a run of 32 cells of a queue, in a doubly linked list from which it unlinks itself, in the middle too, once
// all its cells are cancelled and neither end of the queue points to it.
//
//	nil <- prev [segment 4] next -> <- prev [segment 5] next -> <- prev [segment 7] next -> nil
//	              ^ head, pinned                                  ^ tail, pinned       (6 is dead and unlinked)
//	refs  | pointers 16 | cancelled 16 |       pointers: how many of head and tail are here, or are about to be
//
// Invariants:
//
//	S6  Segments reachable from head are at most live waiters + 3.
//	S7  A segment is dead when refs is exactly 32 (no pointers, 32 cancelled) and it is not the last; it stays dead.
//	S8  next of a segment leads to every segment behind it that is not dead; following it passes none.
//
// Hazards:
//   - Two neighbours die at once and link each other back in: remove looks again at both sides after linking.
//   - A segment dies while it is last, and nobody may unlink the last: who appends behind it looks, and removes it.
//   - head or tail moves to a segment that dies meanwhile: tryPoint refuses the dead, and a pointer keeps alive.
//   - A dead segment's prev keeps the past alive: resume cuts prev when head moves, and remove never sets it again.
//
// Memory order: id is plain; it and prev are written before the CAS on next that publishes the segment. A reader came
// by next, head or tail.
//
// Progress and bounds: lock-free. One segment, 288 bytes, is made for 32 waits and left to the collector.
type segment struct {
	id         uint64
	next, prev atomic.Pointer[segment]
	refs       atomic.Uint32
	cells      [segmentCells]atomic.Pointer[waiter]
}

// find returns the first segment from s on that is not dead and whose number is at least id, makes it if need be, and
// moves end forward to it.
func find(end *atomic.Pointer[segment], s *segment, id uint64) *segment {
	for {
		for s.id < id || s.dead() {
			next := s.next.Load()
			if next == nil {
				next = &segment{id: s.id + 1}
				next.prev.Store(s)
				if !s.next.CompareAndSwap(nil, next) {
					continue
				}
				if s.dead() {
					s.remove() // it could not go while it was last
				}
			}
			s = next
		}
		pause()
		if moveForward(end, s) {
			return s
		}
	}
}

// moveForward makes end point to s unless it is further already. It reports false when s died first.
func moveForward(end *atomic.Pointer[segment], s *segment) bool {
	for {
		e := end.Load()
		if e.id >= s.id {
			return true
		}
		if !s.tryPoint() {
			return false
		}
		if end.CompareAndSwap(e, s) {
			e.unpoint()
			return true
		}
		s.unpoint()
	}
}

func (s *segment) dead() bool {
	return s.refs.Load() == segmentCells && s.next.Load() != nil
}

func (s *segment) tryPoint() bool {
	for {
		refs := s.refs.Load()
		if refs == segmentCells && s.next.Load() != nil {
			return false
		}
		if s.refs.CompareAndSwap(refs, refs+onePointer) {
			return true
		}
	}
}

func (s *segment) unpoint() {
	if s.refs.Add(^uint32(onePointer-1)) == segmentCells {
		s.remove()
	}
}

// remove unlinks a segment whose refs reached 32. The last one stays until something is appended.
func (s *segment) remove() {
	if s.next.Load() == nil {
		return
	}
	for {
		left := s.prev.Load()
		for left != nil && left.dead() {
			left = left.prev.Load()
		}
		right := s.next.Load()
		for right.dead() {
			right = right.next.Load()
		}
		pause()
		for {
			prev := right.prev.Load()
			if prev == nil || right.prev.CompareAndSwap(prev, left) {
				break
			}
		}
		if left != nil {
			left.next.Store(right)
		}
		if right.dead() || left != nil && left.dead() {
			continue
		}
		return
	}
}
