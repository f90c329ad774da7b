package limiter

import (
	"math"
	"sync"
	"time"
)

// Ledger keeps what a provider says of its quotas and tells who may go, so that few requests are refused and little of
// the quota is left unused. It knows one kind of request: one key, one model. It starts no goroutine and no timer and
// reads no clock. The zero value is ready, and lets everybody go until something is observed.
//
//	for {
//		t, wait, ok := l.Take(time.Now(), limiter.Cost{limiter.Requests: 1})
//		if ok {
//			break // send it, then Observe or Refused with t; or Return, if it was not sent
//		}
//		sleep(wait.For)
//	}
//
// Invariants:
//
//	Q1  With nothing observed and nothing refused, Take never waits.
//	Q2  Take waits while a refusal's wait lasts, whatever the levels say.
//	Q3  The wait that Take returns without a ticket is above 0 and at most 24 hours.
//	Q4  A level lower than what is believed counts at once, a higher one by a tenth: answers come late and out of order.
//
// Each quota is a meter, which tells a bucket from a window; see there. Beyond the levels, three things hold requests back:
// the gate, which a refusal closes for as long as the provider says; the ramp, by which a lane of which nothing but a refusal is
// known opens again, two requests for each that was answered; and the margin, by which a meter believes less than it is told
// while refusals prove that wrong.
//
// It follows the ledger of Edge's controller (est, avail, rate; a tenth upwards) and differs in three points. A window is kept as
// one, since the ratio (limit - remaining) / reset means nothing there: it is low at its beginning and without bound at its end. The
// rate of a bucket is taken with half a unit less used, since providers round remaining down, and is put to a usual period that is
// near. And what was refused is not counted as dispatched: it cost nothing.
//
// It is safe for concurrent use.
type Ledger struct {
	mu     sync.Mutex
	base   time.Time // seconds count from here
	meters [Dimensions]meter
	spent  Cost // dispatched so far, without what was refused

	count  uint64       // of tickets
	recent [128]float64 // when they were taken

	gate    float64 // nobody goes before
	exact   bool    // so is the gate
	refused float64 // when the last refusal of a request that went after the one before it came
	strikes int     // such refusals in a row, without an answer in between

	ramping   bool // of this lane only a refusal is known: what goes after it
	ramped    int
	confirmed int
	heard     float64
}

const (
	maxWait      = 24 * 3600.0 // seconds; more is not believed
	firstBackoff = .5          // of a refusal that says no wait; doubled by each in a row
	lastBackoff  = 30.0
	rampEnd      = 64  // answers after which a ramp is over
	rampPatience = 1.0 // without an answer for so long, one more may go
)

// Ticket is the right to send one request, and what Observe must know of it.
type Ticket struct {
	cost  Cost
	spent Cost   // with this one
	count uint64 // so too
	sent  float64
	told  bool // some quota was known
	taken bool
}

// seconds is t as the ledger counts.
func (l *Ledger) seconds(t time.Time) float64 {
	if l.base.IsZero() {
		l.base = t.Add(-24 * time.Hour) // 0 is before all that happens
	}
	return t.Sub(l.base).Seconds()
}

// Take asks to send a request now. Without ok it is to ask again after the wait, and not before.
func (l *Ledger) Take(now time.Time, c Cost) (t Ticket, w Wait, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.seconds(now)
	if w = l.wait(at, &c); w.For > 0 {
		return Ticket{}, w, false
	}
	t = Ticket{cost: c, sent: at, taken: true}
	for d := range l.meters {
		m := &l.meters[d]
		m.take(float64(c[d]))
		t.told = t.told || m.known
		l.spent[d] += c[d]
	}
	l.count++
	l.recent[l.count%uint64(len(l.recent))] = at
	t.spent, t.count = l.spent, l.count
	if l.ramping {
		if l.ramped++; l.ramped > 2*l.confirmed+1 { // nobody has answered for a while
			l.heard = at
		}
	}
	return t, Wait{}, true
}

// Peek is the wait that Take would return, 0 if it would return a ticket.
func (l *Ledger) Peek(now time.Time, c Cost) Wait {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wait(l.seconds(now), &c)
}

func (l *Ledger) wait(at float64, c *Cost) Wait {
	longest, exact := 0.0, true
	if l.gate > at {
		longest, exact = l.gate-at, l.exact
	}
	for d := range l.meters {
		if w := l.meters[d].wait(at, float64(c[d])); w > longest {
			longest, exact = w, true
		}
	}
	if quiet := at - l.heard; longest == 0 && l.ramping && l.ramped > 2*l.confirmed && quiet < rampPatience {
		longest, exact = rampPatience-quiet, false
	}
	if longest <= 0 {
		return Wait{}
	}
	return Wait{min(max(asDuration(longest), time.Millisecond), 24*time.Hour), exact}
}

// asDuration rounds up: who asks too early asks twice.
func asDuration(seconds float64) time.Duration {
	return time.Duration(math.Ceil(min(seconds, maxWait) * 1e9))
}

// Sent returns the ticket of a request that was sent without asking, when nothing was known yet.
func (l *Ledger) Sent(at time.Time) Ticket {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Ticket{sent: l.seconds(at)}
}

// Depart says that t's request is sent now, later than Take.
func (l *Ledger) Depart(t *Ticket, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t.sent = l.seconds(now)
}

// Return gives back what t took: its request was not sent.
func (l *Ledger) Return(t Ticket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.taken {
		l.refund(&t.cost)
	}
}

func (l *Ledger) refund(c *Cost) {
	for d := range l.meters {
		l.meters[d].take(-float64(c[d]))
		l.spent[d] -= c[d]
	}
}

// Observe takes in the levels of an answer to t's request, when its first byte is there. Of an answer that says nothing it
// takes that the request was answered. The zero Ticket counts as sent now.
func (l *Ledger) Observe(t Ticket, now time.Time, levels *Levels) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.seconds(now)
	l.observe(&t, at, levels)
	l.heard, l.strikes = at, 0
	if l.confirmed++; l.ramping && l.confirmed >= rampEnd {
		l.ramping = false
	}
}

func (l *Ledger) observe(t *Ticket, at float64, levels *Levels) {
	if *t == (Ticket{}) {
		t.sent, t.spent, t.count = at, l.spent, l.count
	}
	before, sure := l.beside(t)
	for d := range l.meters {
		if level := &levels[d]; level.Said&SaidRemaining != 0 {
			since := float64(max(0, l.spent[d]-t.spent[d]))
			l.meters[d].observe(level, moments{sent: t.sent, now: at}, later{all: since + float64(before*t.cost[d]), sure: sure * since})
			l.ramping = false
		}
	}
}

// beside counts the requests that left at nearly the same time as t's and may have overtaken it, or been overtaken: those
// taken before it, and what share of those taken after it surely came to the provider later.
func (l *Ledger) beside(t *Ticket) (before int64, sure float64) {
	since, size := l.count-t.count, uint64(len(l.recent))
	if !t.taken || since >= size {
		return 0, 1
	}
	oldest, from := max(l.count, size)-size, t.sent-early
	for n := t.count - 1; n > oldest && l.recent[n%size] >= from; n-- {
		before++
	}
	after, newest, to := 0, l.count, t.sent+early
	for n := t.count + 1; n <= newest && l.recent[n%size] <= to; n++ {
		after++
	}
	if since == 0 {
		return before, 1
	}
	return before, 1 - float64(after)/float64(since)
}

// Refused takes in that t's request was refused for want of quota, and the levels that the refusal says. wait is what the
// provider asks for; 0 means that it does not say.
func (l *Ledger) Refused(t Ticket, now time.Time, wait time.Duration, levels *Levels) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.seconds(now)
	if t.taken {
		l.refund(&t.cost)
	}
	l.observe(&t, at, levels)
	known := false
	for d := range l.meters {
		known = known || l.meters[d].known
	}
	fresh := t.sent >= l.refused // it was sent after the refusal that counted last
	if fresh {
		l.refused = at
		l.strikes++
		for d := range l.meters {
			if t.told {
				l.meters[d].cut(at, levels[d].Said&SaidRemaining != 0 && levels[d].Remaining > 0)
			}
		}
	}
	gate, exact := at+wait.Seconds(), true
	if wait > 0 {
		for d := range l.meters {
			l.meters[d].promise(wait, &levels[d])
		}
	} else {
		exact = false
		gate = at + min(firstBackoff*math.Pow(2, float64(max(0, l.strikes-1))), lastBackoff)
		if known { // then the meters say how long
			gate = at
		}
	}
	gate = min(gate, at+maxWait)
	if gate > l.gate {
		l.gate, l.exact = gate, exact
	}
	if fresh && !known {
		l.ramping, l.ramped, l.confirmed, l.heard = true, 0, 0, l.gate
	}
}

// Rest is how much longer a refusal's wait lasts.
func (l *Ledger) Rest(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(0, min(asDuration(l.gate-l.seconds(now)), 24*time.Hour))
}

// Stats is what the ledger believes of each quota.
func (l *Ledger) Stats(now time.Time) (out [Dimensions]LevelStats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.seconds(now)
	for d := range l.meters {
		out[d] = l.meters[d].stats(at)
	}
	return out
}
