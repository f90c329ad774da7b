package limiter

import (
	"fmt"
	"sync/atomic"
	"time"
)

const (
	// shareWindow is how long a caller counts after it last asked: long enough for one that was refused to come again.
	shareWindow = time.Second

	// shareWaitMost bounds how much longer a refused caller counts that was told to wait.
	shareWaitMost = 30 * time.Second
)

// Shares keeps one caller from taking all the room of a gate while others are refused. It counts what each caller has
// and is asked beside the gate, before it: a gate's turns are for those who wait, and reserve nothing.
//
// While nobody is refused, a caller may have as much as there is. Once somebody was refused, and until a second has passed
// without that, a caller gets no more than room divided by the active callers, rounded up: those that have
// something, or asked for it within the last second. A caller that was told to come again counts until a second after
// that, too. What a caller has beyond its share it keeps; it gets no more. Alone, it may have all.
//
//	pressed 12.4 s                        shares hold until then
//	callers [held 9, until 12.1 s][held 0, until 12.4 s][held 0, until 3.0 s] ...      two are active at 11.9 s
//
// Invariants:
//
//	H1  A caller's held is the Takes that returned true less the Gives, and at the end 0.
//	H2  A Take that finds shares in force leaves held at most the larger of 1 and the share.
//
// Hazard (two Takes of one caller both find room for one): held moves by a CAS from the value that was compared, so the
// second one compares again. Who is active is only counted, over moments: a caller that comes or goes meanwhile is in
// the count or not, and the share is that of before or after. until and pressed only grow.
//
// Memory order: the words stand alone, no other data is published by them.
//
// Progress and bounds: lock-free. A Take costs a load, a CAS and now and then a store; while shares are in force, and for
// a caller that has something, a look at each caller. 16 bytes a caller.
type Shares struct {
	pressed atomic.Int64
	_       [56]byte // written when somebody is refused; each Take reads it

	callers []share // the slice is fixed
}

// share is one caller's part of Shares. Times are nanoseconds of the user's clock.
type share struct {
	held  atomic.Int64
	until atomic.Int64
}

// NewShares makes the books for so many callers, 1 to 1024.
func NewShares(callers int) *Shares {
	if callers < 1 || callers > maxCallers {
		panic(fmt.Sprintf("bug: limiter: shares for %d callers, want 1 to %d", callers, maxCallers))
	}
	return &Shares{callers: make([]share, callers)}
}

// Take counts one more for r's caller, of the room that all have together, unless that is beyond the caller's share. now is
// a time that never goes back. If Take returns true, Give must follow. If it returns false, the caller is refused, and
// Refused must follow.
func (s *Shares) Take(r Request, room int, now time.Duration) bool {
	mine := s.of(r)
	mine.stay(now + shareWindow)
	for {
		held := mine.held.Load()
		if held > 0 && int64(now) < s.pressed.Load() && held >= s.share(room, now) {
			return false
		}
		pause()
		if mine.held.CompareAndSwap(held, held+1) {
			return true
		}
	}
}

// Give takes back one Take of r's caller.
func (s *Shares) Give(r Request) {
	if s.of(r).held.Add(-1) < 0 {
		panic("bug: limiter: Give without Take")
	}
}

// Refused says that r's caller got nothing, from Take or from the gate, and was told to wait so long.
func (s *Shares) Refused(r Request, now, wait time.Duration) {
	until := now + shareWindow + min(max(wait, 0), shareWaitMost)
	s.of(r).stay(until)
	raise(&s.pressed, until)
}

// Held returns how many Takes of r's caller were not given back yet.
func (s *Shares) Held(r Request) int { return int(s.of(r).held.Load()) }

func (s *Shares) of(r Request) *share { return &s.callers[r.Caller%uint32(len(s.callers))] }

// share is what one caller may have of room.
func (s *Shares) share(room int, now time.Duration) int64 {
	active := 0
	for i := range s.callers {
		if c := &s.callers[i]; c.held.Load() > 0 || c.until.Load() > int64(now) {
			active++
		}
	}
	active = max(active, 1) // the one who asks may have given all back since
	return int64((room + active - 1) / active)
}

// stay makes the caller count until then. It is not exact, so that a busy caller writes seldom.
func (c *share) stay(until time.Duration) {
	const step = int64(shareWindow / 16)
	if c.until.Load() < int64(until)-step {
		raise(&c.until, until)
	}
}

// raise makes t at least to.
func raise(t *atomic.Int64, to time.Duration) {
	for old := t.Load(); old < int64(to) && !t.CompareAndSwap(old, int64(to)); old = t.Load() {
	}
}
