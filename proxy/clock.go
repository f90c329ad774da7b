package proxy

import (
	"net/http"
	"sync/atomic"
	"time"
)

// clock is the one deadline that an exchange has at a time. The handler's goroutine sets it, the sweeper fires it, or puts it
// off: see progress.
//
//	word | deadline, µs since the process began, 61 bits | what for, 3 bits |      0 = none
//
// Invariants:
//
//	C1  A deadline is fired at most once: by the compare-and-swap that puts fired in the word.
//	C2  After fired, set and stop report it and nothing else is ever in the word.
//
// Hazard (a stage that ended just before it was fired): the sweeper swaps only the very word that it found
// expired, so a deadline that the handler has replaced cannot fire, nor be put off. A word may be set anew to what it was
// within one sweep; it is the same deadline then.
//
// Memory order: the sweeper cancels the exchange's context after its swap; the handler learns the cause from
// the context, whose own lock orders the two.
//
// Progress: set and stop are wait-free but for swaps lost to the sweeper, which makes two at most between sweeps.
type clock struct{ word atomic.Uint64 }

type deadline uint8

const (
	noDeadline deadline = iota
	deadlineBody
	deadlineQueue
	deadlineFirstByte
	deadlineIdle
	deadlineWrite
	deadlineTotal // of an answer on its way; until then the total bounds the others
	deadlineFired
)

const fired = uint64(deadlineFired)

// deadlineErrors is what each deadline ends an exchange with.
var deadlineErrors = [...]error{
	deadlineBody: errBodyTimeout, deadlineQueue: errQueueTimeout, deadlineFirstByte: errFirstByte,
	deadlineIdle: errStreamIdle, deadlineWrite: errSlowReader, deadlineTotal: errTotal,
}

var processStart = time.Now()

// now is microseconds since the process began.
func now() uint64 { return moment(time.Now()) }

// moment is t as now tells it.
func moment(t time.Time) uint64 { return uint64(t.Sub(processStart).Microseconds()) }

// set replaces the deadline with one at the given time. It reports false when one has fired.
func (c *clock) set(what deadline, at uint64) bool { return c.put(at<<3 | uint64(what)) }

func (c *clock) put(word uint64) bool {
	for {
		old := c.word.Load()
		if old == fired {
			return false
		}
		if c.word.CompareAndSwap(old, word) {
			return true
		}
	}
}

// stop removes the deadline. It reports false when one has fired.
func (c *clock) stop() bool { return c.put(0) }

// fire reports which deadline has passed at the given time, once.
func (c *clock) fire(at uint64) (deadline, bool) {
	word := c.word.Load()
	if word == 0 || word == fired || word>>3 > at || !c.word.CompareAndSwap(word, fired) {
		return noDeadline, false
	}
	return deadline(word & 7), true
}

// watch sets x's deadline, in d from now, 0 for none, and returns why x has ended, if it has.
func (x *exchange) watch(what deadline, d time.Duration) error {
	if d == 0 {
		return x.going(x.clock.stop())
	}
	return x.going(x.clock.set(what, x.p.sweeper.after(d)))
}

// going returns why x has ended, if it has; not set says that a deadline has fired.
func (x *exchange) going(set bool) error {
	if !set || x.ctx.Err() != nil {
		return x.endedBy()
	}
	return nil
}

// unwatch removes x's deadline and returns why x has ended, if it has.
func (x *exchange) unwatch() error { return x.watch(noDeadline, 0) }

// endedBy waits for the sweeper, which fires before it cancels, and returns the cause.
func (x *exchange) endedBy() error {
	<-x.ctx.Done()
	return x.cause()
}

// expire ends x because of a deadline. The sweeper calls it under the shard's lock, so x is still there.
func (x *exchange) expire(what deadline) {
	x.cancel(deadlineErrors[what])
	if what == deadlineWrite || what == deadlineTotal {
		x.interrupt(deadlineWrite)
	}
	x.interruptRead()
}

// interruptRead ends the read of content that goes on, if one does: net/http's Transport waits for it.
func (x *exchange) interruptRead() {
	if b := x.body.Load(); b != nil && b.deadline.Swap(0) != 0 {
		x.interrupt(deadlineBody)
	}
}

// abort ends x because of err, wherever its handler is. It is called under the shard's lock.
func (x *exchange) abort(err error) {
	x.cancel(err)
	for _, c := range [...]*clock{&x.clock, &x.comment} {
		if what := deadline(c.word.Load() & 7); what == deadlineWrite || what == deadlineTotal {
			x.interrupt(deadlineWrite)
		}
	}
	x.interruptRead()
}

// interrupt ends a Read or Write of the caller's connection that the handler may be in.
func (x *exchange) interrupt(what deadline) {
	past := time.Unix(1, 0)
	control := http.NewResponseController(x.w)
	switch what {
	case deadlineBody:
		_ = control.SetReadDeadline(past) // an error means that the server under us cannot; the read ends by itself
	case deadlineWrite:
		_ = control.SetWriteDeadline(past)
	}
}
