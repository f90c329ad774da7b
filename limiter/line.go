package limiter

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

// A word is the whole state of a line in 64 bits, so that one compare-and-swap decides on all of it. Its fields are in
// the picture of line.
type word uint64

const (
	countBits = 20
	countMax  = 1<<countBits - 1

	waitOne    word = 1
	heldOne    word = 1 << countBits
	limitShift      = 2 * countBits
	genShift        = 3 * countBits
	genCount        = 8
	closedBit  word = 1 << 63
)

func (s word) waiting() int { return int(s & countMax) }
func (s word) held() int    { return int(s >> countBits & countMax) }
func (s word) limit() int   { return int(s >> limitShift & countMax) }
func (s word) gen() int     { return int(s >> genShift % genCount) }
func (s word) closed() bool { return s&closedBit != 0 }

func makeWord(gen, limit, held, waiting int) word {
	return word(gen)<<genShift | word(limit)<<limitShift | word(held)<<countBits | word(waiting)
}

// line is a counting semaphore with a bounded queue: at most limit are held, at most maxWaiting wait. All that it decides
// by lives in one word; the queue behind it only brings n signals to n waiters, and chooses to whom.
//
//	state       | closed 1 | gen 3 | limit 20 | held 20 | waiting 20 |
//	maxWaiting  [0][1][2][3][4][5][6][7]     by gen: a resize writes the next one, then makes it valid by its CAS
//	queue       waiter, waiter, ...          see queue (one caller) and turns (several)
//
// held counts what is out, grants on their way to a waiter included. waiting counts the live waiters that have no
// signal coming: a canceller takes itself out of it first and leaves its cell in the queue second.
//
// Invariants:
//
//	S1  waiting > 0 implies held >= limit, in every value of state. So who finds held < limit overtakes nobody.
//	S2  Live waiters in the queue - signals not yet delivered = waiting.
//	S3  held falls only in release; a hand-off to a waiter leaves it.
//	S5  Each wait ends with exactly one of a signal or a cancelled cell, and the waiter's channel is empty at its end.
//
// (S4 is the queue's, S6 to S8 are the segment's, S9 to S11 the turns'.)
//
// Hazards:
//   - Lost wake-up: release sees no waiter while a waiter sees nothing free. Both counts are in one word, so one of
//     the two CASes fails and looks again (S1).
//   - Grant meets cancel: the canceller takes back its count, then its cell. If a releaser was faster at the cell, the
//     signal was meant for somebody who still counts, and is passed on (S2). The other way round, cell first, would
//     strand the signal of a releaser that had counted on the canceller.
//   - Full of ghosts: full is read from waiting, which counts the living only.
//   - A CAS lost to a neighbour says nothing about full: every loop loads again and decides anew.
//   - Release without acquire: borrowing from the limit's bits. Both paths of release test held != 0.
//   - ABA of state: harmless, the value is the whole state. gen makes a resize visible that changes maxWaiting only;
//     it wraps after 8 of them inside one load-to-CAS window, and one caller is then judged by an older bound.
//
// Memory order: what a holder wrote before release happens before what the next holder does after acquire: through
// the CAS on state, or through the queue (cell, then channel) for a hand-off. maxWaiting[gen] is stored before the CAS
// that publishes gen. Every shared field is an atomic; Go's are sequentially consistent (go.dev/ref/mem).
//
// Progress and bounds: acquire up to the wait, release, cancelling and load are lock-free, with one exception: a
// canceller whose signal is already on its way waits for the releaser that is between its CAS and its send; while it is
// not known yet whose signal that is (turns), it yields and looks again. A full line answers ErrFull. limit, held and
// waiting stay below 2^20: held by the largest limit ever set, waiting by maxWaiting or by the number of places.
type line struct {
	state atomic.Uint64
	_     [56]byte // every acquire and release writes state; the rest is for those who wait

	maxWaiting [genCount]atomic.Uint32 // written by resize
	waiters    sync.Pool               // of *waiter. One for each line: a channel must not leave its synctest bubble
	queue      order
	_          [40]byte // every wait reads these and writes a counter

	// Counters, written on the slow path only.
	waited, full, gone, shut atomic.Uint64
	_                        [32]byte // from the state of the next line
}

func (l *line) init(limit, maxWaiting, callers int) {
	l.maxWaiting[0].Store(uint32(maxWaiting))
	l.state.Store(uint64(makeWord(0, limit, 0, 0)))
	l.waiters.New = func() any { return &waiter{ch: make(chan signal, 1)} }
	if callers > 1 {
		l.queue = newTurns(callers)
	} else {
		l.queue = newQueue()
	}
}

func (l *line) load() word { return word(l.state.Load()) }

func (l *line) swap(from, to word) bool { return l.state.CompareAndSwap(uint64(from), uint64(to)) }

// acquire takes one, waiting for it if need be. It returns ErrFull, ErrClosed or the cause of ctx.
func (l *line) acquire(ctx context.Context, caller uint32) error {
	s := l.load()
	if s.held() < s.limit() && l.swap(s, s+heldOne) {
		return nil
	}
	return l.acquireSlow(ctx, caller)
}

// try takes one if one is free, and reports whether it did.
func (l *line) try() bool {
	for {
		s := l.load()
		if s.held() >= s.limit() {
			return false
		}
		pause()
		if l.swap(s, s+heldOne) {
			return true
		}
	}
}

// acquireSlow is apart from acquire to keep that one small.
func (l *line) acquireSlow(ctx context.Context, caller uint32) error {
	for {
		s := l.load()
		pause()
		switch {
		case s.held() < s.limit():
			if l.swap(s, s+heldOne) {
				return nil
			}
		case s.closed():
			l.shut.Add(1)
			return ErrClosed
		case s.waiting() >= int(l.maxWaiting[s.gen()].Load()):
			l.full.Add(1)
			return ErrFull
		case ctx.Err() != nil:
			l.gone.Add(1)
			return context.Cause(ctx)
		default:
			if l.swap(s, s+waitOne) {
				return l.wait(ctx, caller)
			}
		}
	}
}

// wait parks a caller that was counted in waiting.
func (l *line) wait(ctx context.Context, caller uint32) error {
	pause()
	w := l.waiters.Get().(*waiter)
	w.caller = caller
	k := l.queue.place(w)
	if k == none {
		l.waited.Add(1)
		if done := ctx.Done(); done == nil {
			k = <-w.ch
		} else {
			select {
			case k = <-w.ch:
			case <-done:
				l.giveUp(w)
			}
		}
	}
	w.segment = nil // a waiter at rest in the pool would keep all segments behind this one alive
	l.waiters.Put(w)

	switch k {
	case granted:
		return nil
	case shut:
		l.shut.Add(1)
		return ErrClosed
	default:
		l.gone.Add(1)
		return context.Cause(ctx)
	}
}

// giveUp takes w out of the line. When it returns, w is in no cell and its channel is empty.
func (l *line) giveUp(w *waiter) {
	for {
		s := l.load()
		if s.waiting() == 0 {
			// Every waiter that is left has a signal coming, this one too, unless it goes to one that comes only now.
			if !l.queue.promised(w) {
				runtime.Gosched()
				continue
			}
			if <-w.ch == granted {
				l.release()
			}
			return
		}
		if l.swap(s, s-waitOne) {
			break
		}
	}
	pause()
	if !l.queue.cancel(w) {
		// What came was for one of those who still count; held does not change.
		l.queue.resume(<-w.ch)
	}
}

// release gives one back, to the oldest waiter if there is one. It panics when none is held.
func (l *line) release() {
	s := l.load()
	if s.waiting() == 0 && s.held() != 0 && l.swap(s, s-heldOne) {
		return
	}
	l.releaseSlow()
}

func (l *line) releaseSlow() {
	for {
		s := l.load()
		switch {
		case s.held() == 0:
			panic("bug: limiter: release without acquire")
		case s.waiting() > 0 && s.held() <= s.limit():
			if l.swap(s, s-waitOne) {
				pause()
				l.queue.resume(granted)
				return
			}
		default: // nobody waits, or a resize to less left too many out
			if l.swap(s, s-heldOne) {
				return
			}
		}
	}
}

// resize sets limit and maxWaiting and hands what became free to the oldest waiters. One resize or close at a time.
func (l *line) resize(limit, maxWaiting int) {
	for {
		s := l.load()
		if s.closed() {
			return
		}
		gen := (s.gen() + 1) % genCount
		l.maxWaiting[gen].Store(uint32(maxWaiting))
		grants := min(s.waiting(), max(0, limit-s.held()))
		if l.swap(s, makeWord(gen, limit, s.held()+grants, s.waiting()-grants)) {
			pause()
			for range grants {
				l.queue.resume(granted)
			}
			return
		}
	}
}

// close refuses everybody from now on and shuts the waiters out. One resize or close at a time.
func (l *line) close() {
	for {
		s := l.load()
		if s.closed() {
			return
		}
		if l.swap(s, makeWord(s.gen(), 0, s.held(), 0)|closedBit) {
			pause()
			for range s.waiting() {
				l.queue.resume(shut)
			}
			return
		}
	}
}
