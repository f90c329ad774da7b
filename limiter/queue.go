package limiter

import "sync/atomic"

// A signal is what ends a wait.
type signal uint8

const (
	none    signal = iota // no signal: still waiting, or cancelled
	granted               // what was waited for is now the waiter's
	shut                  // the line was closed
)

// A waiter is one call that waits. Everything but ch belongs to that call alone.
type waiter struct {
	ch      chan signal // holds 1, so a send to a waiter that was won never blocks
	caller  uint32
	segment *segment // where the waiter was placed
	cell    int
}

// What a cell holds when its waiter is gone. They are compared by address and nothing else of them is used.
var (
	grantedMark   = &waiter{}
	shutMark      = &waiter{}
	cancelledMark = &waiter{}
)

// An order of service brings anonymous signals to waiters. Its user calls resume exactly once for every waiter that it
// no longer counts as waiting, be it before or after that waiter's place (state's S2).
type order interface {
	// place puts w in line and returns none, or the signal that was already there for it: then w is not in line.
	place(w *waiter) signal

	// resume brings k, granted or shut, to the next waiter that is neither resumed nor cancelled, or leaves it for the
	// next to come.
	resume(k signal)

	// cancel takes w out of the line and reports true, or false when a signal was faster: then it is in w.ch or about
	// to be, and the caller must receive it.
	cancel(w *waiter) bool

	// promised is asked when every waiter has a signal coming, and reports whether one comes to w whatever happens.
	promised(w *waiter) bool
}

// queue is the order oldest first. It knows no counts.
//
//	enq 67 ───────────────────────────────────────────────┐  next ticket of place
//	deq 34 ─────────────────┐                             │  next ticket of resume
//	                        v                             v
//	 segment 1 (32..63)  [g][g][w][x][w] ... [w]    segment 2 (64..95)  [w][w][w][ ][ ] ...
//	     ^ head                     next ──────────────►   ^ tail
//	cells: [ ] nil   [w] waiter   [g] granted or shut   [x] cancelled
//
// A ticket names one cell for good: segment ticket/32, cell ticket%32. place and resume each take tickets in order and
// meet in the cell. It is the cancellable queue of Koval, Khalanskiy and Alistarh, "CQS: A Formally-Verified Framework
// for Fair and Abortable Synchronization", PLDI 2023, https://doi.org/10.1145/3591230, as in Kotlin's Semaphore.
//
// Invariants:
//
//	S4  A cell goes nil -> waiter -> {granted, shut, cancelled} or nil -> {granted, shut}, and never back.
//
// Hazards:
//   - Signal before its waiter: the waiter was counted and has no ticket yet. resume leaves the mark in the empty
//     cell, and place finds it there.
//   - End pointer moved past a ticket: head (tail) is read before deq (enq) is raised, so the search begins at or
//     before the ticket's segment.
//   - ABA in a cell: S4, and segments are collected, never reused. A pool of segments would break it.
//   - Waiter used again too early: resume touches ch only after it won the cell, and then sends once; the waiter goes
//     back to its pool only after it received, or won its cell for cancelled (state's S5).
//
// Memory order: a waiter's fields are plain. place writes segment and cell before the CAS that publishes the waiter,
// and only its own caller reads them. What the resumer wrote before resume happens before place or the receive
// returns: by the CAS on the cell that place's load observes, or by the send on ch.
//
// Progress and bounds: place, resume and cancel are lock-free; a signal waits while its resumer is preempted, others
// pass it. Order is by ticket, so a caller preempted between its count and its ticket is overtaken by whoever comes
// meanwhile, and by nobody else. resume skips each cancelled cell once, whole dead segments by one jump. Tickets are 64
// bits and do not wrap.
type queue struct {
	enq  atomic.Uint64
	tail atomic.Pointer[segment]
	_    [48]byte // written by those who come

	deq  atomic.Uint64
	head atomic.Pointer[segment]
	_    [48]byte // written by those who give back
}

func newQueue() *queue {
	q := &queue{}
	q.init()
	return q
}

func (q *queue) init() {
	s := &segment{}
	s.refs.Store(2 * onePointer) // head and tail
	q.tail.Store(s)
	q.head.Store(s)
}

func (q *queue) place(w *waiter) signal {
	s := q.tail.Load() // before the ticket
	pause()
	ticket := q.enq.Add(1) - 1
	if id := ticket / segmentCells; s.id != id {
		s = find(&q.tail, s, id) // that one exactly: a segment with a cell still to be filled does not die
	}
	w.segment, w.cell = s, int(ticket%segmentCells)
	cell := &s.cells[w.cell]
	pause()
	if cell.CompareAndSwap(nil, w) {
		return none
	}
	if cell.Load() == shutMark {
		return shut
	}
	return granted
}

func (q *queue) resume(k signal) {
	mark := grantedMark
	if k == shut {
		mark = shutMark
	}
	for {
		s := q.head.Load() // before the ticket
		pause()
		ticket := q.deq.Add(1) - 1
		if id := ticket / segmentCells; s.id != id {
			s = find(&q.head, s, id)
			s.prev.Store(nil) // nobody needs what is behind head; let it be collected
			if s.id != id {
				// All segments from id up to s died of cancelled cells.
				q.deq.CompareAndSwap(ticket+1, s.id*segmentCells)
				continue
			}
		}
		cell := &s.cells[ticket%segmentCells]
		for w := cell.Load(); w != cancelledMark; w = cell.Load() {
			pause()
			if cell.CompareAndSwap(w, mark) {
				if w != nil {
					w.ch <- k
				}
				return
			}
		}
	}
}

func (q *queue) cancel(w *waiter) bool {
	s := w.segment
	if !s.cells[w.cell].CompareAndSwap(w, cancelledMark) {
		return false
	}
	if s.refs.Add(1) == segmentCells {
		s.remove()
	}
	return true
}

// promised is true: whoever comes later has a later ticket.
func (q *queue) promised(*waiter) bool { return true }
