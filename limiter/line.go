package limiter

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

// line is where callers wait, for a place or for a permit. It knows no counts: who waits in it was counted in the gate's
// state before, and is brought one signal for it. What it must survive is written at state and at queue.
type line struct {
	uncount  func() bool // takes one waiter out of the count; false: all who are left have a signal coming
	giveBack func()      // what was granted to a waiter that no longer wants it

	waiters sync.Pool // of *waiter. One for each line: a channel must not leave its synctest bubble
	queue   order     // see queue (one caller) and turns (several)
	_       [48]byte  // every wait reads these and writes a counter

	// Counters, written on the slow path only.
	waited, full, gone, shut atomic.Uint64
	_                        [32]byte // from what follows
}

func (l *line) init(callers int, uncount func() bool, giveBack func()) {
	l.uncount, l.giveBack = uncount, giveBack
	l.waiters.New = func() any { return &waiter{ch: make(chan signal, 1)} }
	if callers > 1 {
		l.queue = newTurns(callers)
	} else {
		l.queue = newQueue()
	}
}

// errClosed, errFull and errGone count why somebody did not get what it asked for.
func (l *line) errClosed() error {
	l.shut.Add(1)
	return ErrClosed
}

func (l *line) errFull() error {
	l.full.Add(1)
	return ErrFull
}

func (l *line) errGone(ctx context.Context) error {
	l.gone.Add(1)
	return context.Cause(ctx)
}

// resume brings k to the next n.
func (l *line) resume(n int, k signal) {
	for range n {
		l.queue.resume(k)
	}
}

// wait parks a caller that was counted. It returns ErrClosed or the cause of ctx.
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
		return l.errClosed()
	default:
		return l.errGone(ctx)
	}
}

// giveUp takes w out of the line. When it returns, w is in no cell and its channel is empty.
func (l *line) giveUp(w *waiter) {
	for !l.uncount() {
		// Every waiter that is left has a signal coming, this one too, unless it goes to one that comes only now.
		if l.queue.promised(w) {
			if <-w.ch == granted {
				l.giveBack()
			}
			return
		}
		runtime.Gosched()
	}
	pause()
	if !l.queue.cancel(w) {
		// What came was for one of those who still count; what is held does not change.
		l.queue.resume(<-w.ch)
	}
}
