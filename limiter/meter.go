package limiter

import (
	"math"
	"time"
)

// meter is what a Ledger believes of one quota. Providers enforce quotas in one of two ways, and announce both alike:
//
//	bucket   level  /|/|  /      refilled evenly; Reset is until it is full, and moves with each request
//	               /   |_/
//	window   left  |_  |_        full again at one instant; Reset is until that, whatever is used before
//	                 |_  |__
//
// Which one it is follows from the announcements. A meter foretells each Reset twice, by the use and by the instant told before,
// and goes with what has come nearer. Both states are kept all the time. While it is not clear, it goes by the window, with
// the instant as late as it can be: at a Reset either kind is full.
//
// Seconds count from the ledger's base. Its fields are under the ledger's lock.
type meter struct {
	known bool
	limit float64
	most  float64 // the highest level told, for a provider that tells no limit

	kind   meterKind
	score  float64 // above 0: bucket
	mark   float64 // an instant of Reset told before, to compare with; 0: none
	last   float64 // when the request of the last answer looked at was sent
	rounds int     // marks that have passed
	fine   bool    // not all Resets were whole seconds
	low    bool    // little remained once, so longest is near to what it can be

	level, at float64 // of the bucket, and when
	unit      float64 // seconds that one unit takes to come back; 0: not known

	left    float64 // of the window
	end     float64 // of the window; 0: not known
	seen    float64 // the last end that was told
	began   float64 // when this window was taken to have begun, unless that was told
	length  float64 // 0: not known
	stated  bool    // length was told, not found out
	longest float64 // Reset

	margin  float64 // the share of what is told that is believed
	ceiling float64 // what margin was before it was lowered last
	burst   float64 // the highest level believed
}

type meterKind uint8

const (
	kindUnknown meterKind = iota
	kindBucket
	kindWindow
)

// moments are of one answer: when its request was sent, and when it came.
type moments struct{ sent, now float64 }

// later is what was dispatched after a request: all that may have come to the provider after it, and what surely has.
type later struct{ all, sure float64 }

const (
	sureScore  = 2.0
	mostScore  = 6.0
	sureRounds = 4
	minMargin  = .05
	nearPeriod = .06  // how far from a usual period is still that period
	early      = .005 // seconds by which one request may overtake another on its way
	coarsest   = 4.0  // seconds: a Reset up to this says nothing when it is rounded to whole ones
)

// periods are those that providers count in, in seconds, the shortest first.
var periods = [...]float64{1, 10, 60, 600, 3600, 86400}

// usual is the usual period that is near to p, else p.
func usual(p float64) float64 {
	for _, u := range periods {
		if math.Abs(p-u) <= nearPeriod*u {
			return u
		}
		if p < u { // so it is far below those that follow
			break
		}
	}
	return p
}

// atLeast is the shortest usual period that a Reset of p may be of.
func atLeast(p float64) float64 {
	for _, u := range periods {
		if p <= u*(1+nearPeriod/2) {
			return u
		}
	}
	return p
}

// advance brings the states to the time at.
func (m *meter) advance(at float64) {
	passed := at - m.at
	if passed <= 0 {
		return
	}
	m.at = at
	// What was refused once is tried again: soon up to nearly there, slowly beyond.
	if m.margin < 1 {
		speed := .0005
		if m.margin < .95*m.ceiling {
			speed = .02
		}
		m.margin = min(1, m.margin+speed*passed)
	}
	if m.burst < m.limit {
		m.burst = min(m.limit, m.burst*(1+passed/600))
	}
	m.level = min(m.level+m.speed()*passed, m.top())
	if over := m.end + m.guard(); m.end > 0 && at >= over {
		length := m.period()
		m.end += length * (1 + math.Floor((at-over)/length))
		m.left, m.began = m.whole(), at
	}
}

// whole is what a window has at its beginning.
func (m *meter) whole() float64 { return max(1, math.Round(m.limit*m.margin)) }

// top is the highest level believed. Where it is not clear when a window ends, what is evenly spaced fits in any.
func (m *meter) top() float64 {
	if m.vague() {
		return 1
	}
	return max(m.burst, 1)
}

// vague reports whether the announcements cannot say of which kind the quota is.
func (m *meter) vague() bool {
	return !m.fine && m.longest > 0 && m.longest <= coarsest && m.low
}

// period is the window's length, as far as it is known.
func (m *meter) period() float64 {
	switch {
	case m.length > 0:
		return m.length
	case m.rounds >= sureRounds:
		return usual(m.longest)
	}
	return atLeast(m.longest)
}

// speed is how fast the level rises.
func (m *meter) speed() float64 {
	switch {
	case m.stated:
		return m.limit / m.length * m.margin
	case m.kind != kindBucket && m.longest > 0:
		return m.limit / m.period() * m.margin
	case m.unit > 0:
		return m.margin / m.unit
	}
	return m.limit / 60 * m.margin
}

// guard is how long after its end a window is taken for over: clocks and networks are not exact.
func (m *meter) guard() float64 { return min(max(.005*m.period(), .003), .1) }

// wait is how long a request has to wait that needs so much, in seconds.
func (m *meter) wait(at, cost float64) (wait float64) {
	if !m.known {
		return 0
	}
	m.advance(at)
	need := min(max(cost, 1), m.whole())
	if m.smooth() {
		if need := min(need+m.speed()*early, m.top()); m.level < need-1e-6 {
			wait = (need - m.level) / m.speed()
		}
	}
	if m.stepped() && m.left < need-1e-6 {
		wait = max(wait, m.end+m.guard()-at)
	}
	return wait
}

// smooth reports whether the level counts.
func (m *meter) smooth() bool {
	return m.kind == kindBucket || m.end == 0 || m.burst < m.limit || m.vague()
}

// stepped reports whether the window counts.
func (m *meter) stepped() bool { return m.kind != kindBucket && m.end > 0 && !m.vague() }

// take spends so much.
func (m *meter) take(cost float64) { m.level, m.left = m.level-cost, m.left-cost }

// observe takes in what an answer says. since is what was dispatched after its request.
func (m *meter) observe(l *Level, t moments, since later) {
	limit, remaining := float64(l.Limit), float64(l.Remaining)
	m.most = max(m.most, remaining)
	if l.Said&SaidLimit == 0 || limit < 1 {
		limit = max(m.limit, m.most)
	}
	if limit < 1 { // nothing is left, and it does not say of what
		return
	}
	if !m.known {
		*m = meter{known: true, most: m.most, at: t.now, level: remaining - since.all, left: remaining - since.all, margin: 1, ceiling: 1, burst: limit}
	}
	if limit != m.limit {
		if m.burst >= m.limit {
			m.burst = limit
		}
		m.unit, m.low = 0, false
	}
	m.limit = limit
	m.low = m.low || remaining < .2*limit
	if l.Window > 0 {
		m.length, m.stated = l.Window.Seconds(), true
	}
	m.advance(t.now)
	if l.Said&SaidReset != 0 {
		remaining = m.observeReset(l, t, remaining, since)
	}
	m.bound(remaining, t.now-t.sent, since)
}

// observeReset takes in a Reset. It returns how much remains, as exactly as that says it.
func (m *meter) observeReset(l *Level, t moments, remaining float64, since later) float64 {
	reset := l.Reset.Seconds()
	m.fine = m.fine || l.Reset%time.Second != 0
	m.longest = max(m.longest, reset)
	full := t.sent + reset
	if l.Absolute {
		full = t.now + reset
		reset += t.now - t.sent
	} else if t.now-t.sent < .05*m.period() {
		full = t.now + reset // the provider may have written it at any time between
	}
	m.tell(full, reset, m.limit-remaining, t)
	m.learn(reset, m.limit-remaining)
	if m.kind == kindUnknown && !l.Absolute {
		full = t.now + l.Reset.Seconds()
	}
	m.roll(full, t, remaining, since)
	if m.kind == kindBucket && m.fine && m.unit > 0 { // what remains was rounded down
		return min(max(remaining, m.limit-reset/m.unit), remaining+.999)
	}
	return remaining
}

// bound keeps the level within what an answer of that age leaves possible: what came in since may have found the bucket full.
func (m *meter) bound(remaining, age float64, since later) {
	came := m.speed() * age
	if most := min(m.top(), remaining+came-since.sure); m.level > most {
		m.level = max(most, -m.limit)
	} else if least := min(m.top(), remaining+came) - since.all; m.level < least {
		m.level += .1 * (least - m.level)
	}
}

// tell weighs what the announcement says of the kind: full is when the quota is to be full again.
func (m *meter) tell(full, reset, used float64, t moments) {
	if t.sent < m.last {
		return
	}
	m.last = t.sent
	if m.mark == 0 || t.sent >= m.mark {
		m.mark = full
		m.rounds++
		return
	}
	if m.unit == 0 || m.vague() {
		return
	}
	byUse := math.Abs(reset - used*m.unit)
	byInstant := math.Abs(full - m.mark)
	slack := .03 * m.longest
	if !m.fine {
		slack = 1
	}
	if math.Abs(byUse-byInstant) < slack {
		return
	}
	if byUse < byInstant {
		m.score = min(m.score+1, mostScore)
	} else {
		m.score = max(m.score-1, -mostScore)
	}
	if m.score >= sureScore && m.kind != kindBucket {
		m.kind = kindBucket
		m.level = min(m.level, m.left)
	} else if m.score <= -sureScore && m.kind != kindWindow {
		m.kind = kindWindow
	}
}

// learn finds out how fast a bucket is filled. What was used is rounded up, so what one unit takes is at least their ratio; but
// at most that, if the Reset is rounded up to whole seconds, which is more.
func (m *meter) learn(reset, used float64) {
	if used < 1 || reset <= 0 {
		return
	}
	unit := reset / used
	switch {
	case m.unit == 0 || m.fine && unit > m.unit:
		m.unit = unit
	case m.fine:
		m.unit += .002 * (unit - m.unit)
	default:
		m.unit = min(1.001*m.unit, unit)
	}
	if near := usual(m.limit * m.unit); near != m.limit*m.unit && unit > .5*m.unit {
		m.unit = near / m.limit
	}
}

// roll takes in that the window ends at full, and what remained of it.
func (m *meter) roll(full float64, t moments, remaining float64, since later) {
	left, least := min(remaining-since.sure, m.whole()), min(remaining-since.all, m.whole())
	length := m.period()
	jump := full - m.seen
	if m.stepped() && m.kind == kindWindow && !m.stated && m.seen > 0 && jump > .3*m.longest && jump >= .97*m.longest && (m.length == 0 || jump < m.length) {
		m.length = usual(jump)
	}
	m.seen = max(m.seen, full)
	switch ahead := full - m.end; {
	case m.end == 0, ahead > length/2, ahead < -length/2 && m.length == 0 && t.sent >= m.began:
		m.end, m.left = full, least // a window that was not foreseen, or an unclear instant that moves
	case ahead < -length/2: // an answer from the window before
	case m.kind == kindUnknown:
		m.end = max(m.end, full)
		if left < m.left {
			m.left = left
		} else { // something has come in
			m.left += .2 * max(0, least-m.left)
		}
	default:
		if t.now-t.sent > .02*length { // where in between it was written is not known
			ahead *= .2
		}
		m.end += ahead
		m.left = min(m.left, left)
	}
}

// cut takes in that a request was refused which was thought to be within the quota. A provider that says all the same that
// there is something left counts in another way than it says; of a window it may be that its end is not where it was thought.
// What is evenly spaced is right in either case.
func (m *meter) cut(at float64, lied bool) {
	if !m.known {
		return
	}
	m.advance(at)
	m.ceiling = m.margin
	if lied {
		m.margin = max(minMargin, .9*m.margin)
	} else {
		m.margin = max(minMargin, .98*m.margin)
	}
	if lied || m.kind == kindWindow {
		m.burst = max(1, min(m.burst, m.limit)/2)
	}
	m.level = min(m.level, 0)
}

// promise takes in that a refused request is to be sent again after wait. If nothing is left and it is full much later, some of
// it comes back before: it is a bucket, unless answers have shown a window.
func (m *meter) promise(wait time.Duration, l *Level) {
	const told = SaidRemaining | SaidReset
	if !m.known || m.kind != kindUnknown || l.Said&told != told || l.Remaining > 0 || wait > l.Reset/2 {
		return
	}
	m.kind, m.score = kindBucket, max(m.score, sureScore)
	m.level = min(m.level, m.left)
}

func (m *meter) stats(at float64) LevelStats {
	if !m.known {
		return LevelStats{}
	}
	m.advance(at)
	s := LevelStats{Known: true, Limit: int64(m.limit)}
	free := m.limit
	if m.smooth() {
		free = min(free, m.level)
		s.Reset = asDuration(max(0, m.limit-m.level) / m.speed())
	}
	if m.stepped() {
		free = min(free, m.left)
		s.Reset = asDuration(m.end - at)
	}
	s.Remaining = int64(max(0, free))
	return s
}
