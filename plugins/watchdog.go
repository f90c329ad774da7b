package plugins

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// The states of a call, in the low bits of a stopwatch's word.
const (
	idle    = iota // no guest call
	running        // the guest's time counts
	outside        // a host function waits for I/O: not the guest's time
	killing        // the watchdog is about to strike
	killed         // it has; the guest ends at its next check

	stateBits = 3
	stateMask = 1<<stateBits - 1
)

// stopwatch bounds the guest calls of one instance. Its owner begins and ends calls, the watchdog kills.
//
//	word    call 61 | state 3
//
//	        begin            leave
//	idle ----------> running <-----> outside      owner
//	  ^                |  |   enter
//	  +----------------+  |
//	        end           +--> killing --> killed  watchdog
//
// Invariants:
//
//	W1  idle, running and outside change by the owner only, but for running -> killing by the watchdog.
//	W2  strike is called once at most, and only between killing and killed.
//	W3  end returns only when the watchdog is not between killing and killed: a strike never meets the next call.
//	W4  A call is killed only after it was seen running for its budget, in four looks at least: never early, and late by
//	    two ticks where the watchdog runs in time.
//	W5  The watchdog never parks while a call is running.
//
// Hazard (late kill): the watchdog decides by what it read before; meanwhile the call may end and the next begin. Its
// swap compares the call's number too, so it fails. Hazard (lost wake-up): the watchdog parks while a call begins.
// It says parked, then looks at all words again; begin writes the word, then looks at parked. One sees the other.
// Hazard (stale clock): there is no clock that callers read; the watchdog counts from where it first saw the
// call, so that a watchdog which the scheduler neglected kills late and not early. And where a machine stands still, guest
// and watchdog do so together: what lies between two looks counts for a quarter of the budget at most.
//
// Memory order: budget and away are written before the word that the watchdog reads before them. What strike writes
// happens before killed, which end reads. The plain fields are the watchdog's own.
//
// Progress: begin, leave and enter are wait-free. end is, except while a strike is under way, for which it yields. The
// call number wraps after 2^61.
type stopwatch struct {
	strike func()        // ends the guest; called by the watchdog; fixed before the first begin
	alarm  chan struct{} // has a token after a strike, for whoever sleeps
	dog    *watchdog
	place  int // in dog.watched, under its mutex

	word    atomic.Uint64 // written by the owner and the watchdog
	budget  atomic.Int64  // nanoseconds; the owner
	away    atomic.Int64  // nanoseconds of this call that were outside; the owner
	outAt   time.Time     // the owner
	call    uint64        // the watchdog: the call it saw last
	age     time.Duration // the watchdog: what it counts of that call
	seen    time.Duration // the watchdog: when it last looked
	awayAgo time.Duration // the watchdog: away at that time
}

// begin starts the clock of a call.
func (s *stopwatch) begin(budget time.Duration) {
	if s.budget.Load() != int64(budget) {
		s.budget.Store(int64(budget))
	}
	if s.away.Load() != 0 {
		s.away.Store(0)
	}
	s.word.Store((s.word.Load()>>stateBits+1)<<stateBits | running)
	s.dog.rouse()
}

// end stops the clock. It reports false for a call that was killed; there is no begin after that.
func (s *stopwatch) end() (inTime bool) {
	for {
		switch word := s.word.Load(); word & stateMask {
		case running, outside:
			if s.word.CompareAndSwap(word, word&^stateMask) {
				return true
			}
		case killing:
			runtime.Gosched()
		case killed:
			return false
		default:
			panic("bug: plugins: end of a call that did not begin")
		}
	}
}

// leave holds the clock until enter. It reports false when it is too late for this call.
func (s *stopwatch) leave() bool {
	word := s.word.Load()
	if word&stateMask != running || !s.word.CompareAndSwap(word, word&^stateMask|outside) {
		return word&stateMask == outside
	}
	s.outAt = time.Now()
	return true
}

// enter lets the clock run on.
func (s *stopwatch) enter() {
	word := s.word.Load()
	if word&stateMask != outside {
		return
	}
	s.away.Add(int64(time.Since(s.outAt)))
	s.word.Store(word&^stateMask | running)
	s.dog.rouse()
}

// over reports whether the call was killed.
func (s *stopwatch) over() bool { return s.word.Load()&stateMask >= killing }

// condemn lets the watchdog end a call, or the next one, at its next tick. Any goroutine may call it.
func (s *stopwatch) condemn() {
	s.budget.Store(-1)
	s.dog.rouse()
}

// look is the watchdog's turn: it kills a call that is over its budget.
func (s *stopwatch) look(now time.Duration) (isRunning bool) {
	word := s.word.Load()
	if word&stateMask != running {
		return false
	}
	away, budget := time.Duration(s.away.Load()), time.Duration(s.budget.Load())
	if call := word >> stateBits; call != s.call {
		s.call, s.age = call, 0
	} else {
		s.age += max(0, min(now-s.seen-(away-s.awayAgo), max(budget/4, 2*tick)))
	}
	s.seen, s.awayAgo = now, away
	if s.age < budget {
		return true
	}
	if s.word.CompareAndSwap(word, word&^stateMask|killing) {
		s.strike()
		s.word.Store(word&^stateMask | killed)
		select {
		case s.alarm <- struct{}{}:
		default:
		}
	}
	return true
}

const (
	// tick is how often the watchdog looks, oftener for timeouts under 10 ms.
	tick = time.Millisecond
	// lookEach bounds its work: with more than a thousand instances ticks get longer.
	lookEach = time.Microsecond
	// idleTicks is how often in a row it must see no guest call before it parks.
	idleTicks = 32
)

// watchdog ends guest calls that are over their time, for all plugins of a host. Between calls it sleeps.
type watchdog struct {
	parked atomic.Bool
	wake   chan struct{}
	stop   chan struct{}
	done   chan struct{}

	mu      sync.Mutex
	watched []*stopwatch
	every   time.Duration // of a tick
}

func newWatchdog() *watchdog {
	d := &watchdog{wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}), every: tick}
	go d.run()
	return d
}

// close ends the watchdog and waits for it.
func (d *watchdog) close() {
	close(d.stop)
	<-d.done
}

// hurry makes ticks short enough for calls of this length.
func (d *watchdog) hurry(timeout time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.every = max(min(d.every, timeout/10), tick/10)
}

// watch adds a stopwatch; its fields are set.
func (d *watchdog) watch(s *stopwatch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.place = len(d.watched)
	d.watched = append(d.watched, s)
}

// forget removes it. After it there is no strike.
func (d *watchdog) forget(s *stopwatch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	last := len(d.watched) - 1
	d.watched[s.place] = d.watched[last]
	d.watched[s.place].place = s.place
	d.watched[last] = nil
	d.watched = d.watched[:last]
}

// rouse unparks the watchdog.
func (d *watchdog) rouse() {
	if d.parked.Load() && d.parked.CompareAndSwap(true, false) {
		d.wake <- struct{}{} // has room: only one swap succeeds for each time it parks
	}
}

func (d *watchdog) run() {
	defer close(d.done)
	start := time.Now()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	period := tick
	for quiet := 0; ; {
		select {
		case <-d.stop:
			return
		case <-ticker.C:
		}
		isRunning, every := d.look(time.Since(start))
		if quiet++; isRunning {
			quiet = 0
		}
		if every != period {
			period = every
			ticker.Reset(period)
		}
		if quiet < idleTicks {
			continue
		}
		quiet = 0
		ticker.Stop()
		if !d.park(start) {
			return
		}
		ticker.Reset(period)
	}
}

// park sleeps until a call begins. It returns false when the watchdog is closed.
func (d *watchdog) park(start time.Time) bool {
	d.parked.Store(true)
	if isRunning, _ := d.look(time.Since(start)); isRunning && d.parked.CompareAndSwap(true, false) {
		return true
	}
	select {
	case <-d.stop:
		return false
	case <-d.wake:
		return true
	}
}

func (d *watchdog) look(now time.Duration) (isRunning bool, every time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.watched {
		if s.look(now) {
			isRunning = true
		}
	}
	return isRunning, max(d.every, time.Duration(len(d.watched))*lookEach)
}
