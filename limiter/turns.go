package limiter

import (
	"math/bits"
	"sync/atomic"
)

// turns serves several callers one after the other: each has a queue of its own, oldest first, and a signal goes to the
// next caller, in the order of their numbers, that has a waiter. It has the three verbs of a queue and stands in its
// place when a gate has more than one caller.
//
//	owed     | shut 32 | granted 32 |       signals that found nobody counted
//	cursor 1 ───────┐
//	                v
//	active   [1][0][1][0] ...               who may have waiters
//	callers  [p][ ][p][ ] ...               nil: has never waited
//	          │     └► waiting 2, queue: [w][w]
//	          └──────► waiting 5, queue: [w][g][w][w][w][w]      one signal between its count and its waiter
//	used 3                                  nobody from this number on has ever waited
//
// waiting is to a caller's queue what the count in the state is to the line: the live waiters that have no signal coming.
// place raises it before it takes a ticket; resume and cancel lower it before they touch a cell.
//
// A caller's queue is made at its first wait, so that a line for many callers costs what those need that wait.
//
// Invariants:
//
//	S9   Live waiters in a caller's queue - signals not yet delivered in it = its waiting.
//	S10  When nobody is inside place or resume, nothing is owed or nobody is waiting.
//	S11  When nobody is inside place or resume, the bit of each caller that is waiting is set.
//	S15  A caller's queue, once there, is its queue for good; used exceeds its number, and never falls. Who has none was
//	     never counted, and its bit is 0.
//
// Hazards:
//   - Signal before its waiter: the state counts a waiter that has not come to its count here. The signal is owed.
//     place raises its count and then looks at owed; resume raises owed and then looks at the counts: one of the two
//     sees the other, and settles (S10).
//   - The bit of a caller is cleared while somebody comes: who clears it looks at the count again, and sets it again. In
//     between it is missing, so settle looks at the counts and never at the bits; it sets what is missing itself, and
//     waits for nobody.
//   - Grant meets cancel: as in the line, the count first, then the cell. A count of 0 says that a signal is on its way in
//     this queue. If the cell is lost all the same, the signal was for another waiter of the same caller, and goes there.
//   - A signal that is counted on goes to somebody else: between the state's count and resume's choice a newcomer may
//     come, and its turn may be sooner. Nobody may therefore wait for a signal because the state's count is 0; promised
//     says when one may.
//   - Two resumers take the same turn: cursor moves by a CAS, before the count is lowered. (ABA: after a whole round
//     inside one load-to-CAS window, a caller that came within it may be passed over once.)
//   - Two first waits of one caller make two queues: the pointer moves from nil by a CAS, and the loser takes the winner's.
//   - A caller that has a queue is not among those used yet: used is raised first, so who finds the queue need not wait for
//     who made it. A resumer that read used before that owes its signal, and looks again (S10).
//
// Memory order: a queue's first segment is plain until the CAS on the caller's pointer publishes it; who finds the caller
// found it by that pointer. Everything else that is shared is an atomic. What a releaser wrote reaches the next holder through that caller's queue;
// if its signal was owed in between, through owed to the one who took it there, and then through the queue.
//
// Progress and bounds: lock-free. resume looks at one word for 64 callers of those used, at each count when something is
// owed, and clears a caller's bit once for each time that it went idle. A caller costs 8 bytes, and from its first wait on
// about 430 more: the memory is bounded by the number of callers, and never given back. owed and waiting are bounded by the
// state's count.
type turns struct {
	callers []atomic.Pointer[callerQueue] // the slice is fixed
	active  []atomic.Uint64               // a bit for each of callers; the slice is fixed
	used    atomic.Uint32                 // written by the first wait of a caller
	_       [12]byte

	cursor atomic.Uint32 // whose turn is next; written by each resume
	_      [60]byte

	owed atomic.Uint64 // read by each place, seldom written
	_    [56]byte
}

// callerQueue is one caller's part of turns.
type callerQueue struct {
	waiting atomic.Uint32
	queue   queue
}

const (
	owedGrant uint64 = 1
	owedShut  uint64 = 1 << 32
)

func newTurns(callers int) *turns {
	return &turns{callers: make([]atomic.Pointer[callerQueue], callers), active: make([]atomic.Uint64, (callers+63)/64)}
}

func (t *turns) place(w *waiter) signal {
	i := t.index(w)
	c := t.callers[i].Load()
	if c == nil {
		c = t.introduce(i)
	}
	c.waiting.Add(1)
	pause()
	t.activate(i)
	pause()
	t.settle()
	return c.queue.place(w)
}

// introduce makes the queue of a caller that waits for the first time.
func (t *turns) introduce(i int) *callerQueue {
	c := &callerQueue{}
	c.queue.init()
	for n := t.used.Load(); n <= uint32(i) && !t.used.CompareAndSwap(n, uint32(i)+1); n = t.used.Load() {
	}
	pause()
	if !t.callers[i].CompareAndSwap(nil, c) {
		return t.callers[i].Load() // another wait of the caller's was faster
	}
	return c
}

func (t *turns) resume(k signal) {
	if t.serve(k) {
		return
	}
	t.owe(k)
	pause()
	t.settle()
}

func (t *turns) cancel(w *waiter) bool {
	c := t.callers[t.index(w)].Load()
	if !c.take() {
		return false
	}
	pause()
	if !c.queue.cancel(w) {
		c.queue.resume(<-w.ch)
	}
	return true
}

// promised is false while it is open to which caller the next signal goes.
func (t *turns) promised(w *waiter) bool {
	return len(w.ch) > 0 || t.callers[t.index(w)].Load().waiting.Load() == 0
}

// serve brings k to the next caller that is waiting. It reports false when there is none.
func (t *turns) serve(k signal) bool {
	for {
		from := t.cursor.Load()
		i, ok := t.next(int(from))
		if !ok {
			return false
		}
		pause()
		if to := uint32((i + 1) % len(t.callers)); to != from && !t.cursor.CompareAndSwap(from, to) {
			continue // that turn is somebody else's
		}
		if c := t.callers[i].Load(); c.take() {
			pause()
			c.queue.resume(k)
			return true
		}
	}
}

// next returns the first caller from number from on that is waiting, going around once.
func (t *turns) next(from int) (i int, ok bool) {
	used := int(t.used.Load())
	if used == 0 {
		return 0, false
	}
	words := (used + 63) / 64
	if from >= used {
		from = 0
	}
	mask := ^uint64(0) << (from % 64)
	for n := range words + 1 { // the first word twice: its upper part, and at the end its lower
		at := (from/64 + n) % words
		for b := t.active[at].Load() & mask; b != 0; b &= b - 1 {
			i := at*64 + bits.TrailingZeros64(b)
			c := t.callers[i].Load() // there, since its bit was set
			if c.waiting.Load() > 0 {
				return i, true
			}
			pause()
			t.active[at].And(^(b & -b))
			pause()
			if c.waiting.Load() > 0 {
				t.activate(i)
				return i, true
			}
		}
		mask = ^uint64(0)
	}
	return 0, false
}

// settle brings what is owed to who is waiting, until there is nothing or nobody left.
func (t *turns) settle() {
	for {
		owed := t.owed.Load()
		if owed == 0 || !t.anyWaiting() {
			return
		}
		k, one := granted, owedGrant
		if owed%owedShut == 0 {
			k, one = shut, owedShut
		}
		if t.owed.CompareAndSwap(owed, owed-one) && !t.serve(k) {
			t.owe(k)
		}
	}
}

// anyWaiting looks for somebody whose count is not 0, and sets the caller's bit, so that serve finds it.
func (t *turns) anyWaiting() bool {
	for i := range t.callers[:t.used.Load()] {
		if c := t.callers[i].Load(); c != nil && c.waiting.Load() > 0 {
			t.activate(i)
			return true
		}
	}
	return false
}

func (t *turns) owe(k signal) {
	if k == shut {
		t.owed.Add(owedShut)
	} else {
		t.owed.Add(owedGrant)
	}
}

func (t *turns) activate(i int) {
	word, bit := &t.active[i/64], uint64(1)<<(i%64)
	if word.Load()&bit == 0 { // writing is dearer, and the bit is mostly set
		word.Or(bit)
	}
}

func (t *turns) index(w *waiter) int { return int(w.caller % uint32(len(t.callers))) }

// take lowers waiting, unless it is 0.
func (c *callerQueue) take() bool {
	for {
		n := c.waiting.Load()
		if n == 0 {
			return false
		}
		if c.waiting.CompareAndSwap(n, n-1) {
			return true
		}
	}
}
