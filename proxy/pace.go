package proxy

import (
	"context"
	"net/http"
	"time"

	"github.com/edge-proxy/edge/limiter"
)

// pacing is what one attempt has to do with keys and quotas.
type pacing struct {
	key   *ringKey // nil: none, or a KeySource's
	keyed bool     // the key was chosen
	lane  *lane    // nil until it matters
	state ticketState
	limiter.Ticket
}

// ticketState is how far a request with a ticket has come.
type ticketState uint8

const (
	ticketNone     ticketState = iota
	ticketPaid                 // it waits for its permit
	ticketDeparted             // it has one
	ticketSent                 // it was sent: what it took is gone
)

// dispatch says that the request is sent now.
func (p *pacing) dispatch() {
	if p.state == ticketDeparted {
		p.state = ticketSent
	}
}

// recall says that nothing was sent after all.
func (p *pacing) recall() {
	if p.state == ticketSent {
		p.state = ticketDeparted
	}
}

// pace chooses the key for an attempt and waits until there is quota for it. It holds a place meanwhile, and no permit. What
// is left of the queue timeout bounds it; a wait that the provider has said to be longer is refused at once. at is when it was over.
func (x *exchange) pace() (at time.Time, err error) {
	x.unpace()
	if !x.end.quota.engaged.Load() {
		return time.Now(), nil
	}
	model := x.laneModel()
	if err := x.takeKey(model); err != nil {
		return at, err
	}
	l := x.end.quota.lane(x.laneID(model), x.laneName())
	x.pacing.lane = l
	began := time.Now()
	left := x.within(x.queueLeft())
	l.mu.Lock()
	t, wait, ok := l.take(nil, began)
	switch {
	case ok:
		x.pacing.Ticket, x.pacing.state = t, ticketPaid
		l.mu.Unlock()
		return began, nil // which is now, as far as that matters
	case wait.Exact && wait.For > left:
		l.mu.Unlock()
		return at, x.outOfQuota(wait.For)
	}
	w := l.join(x.turn)
	l.mu.Unlock()
	ctx, err := x.bound(deadlineQueue, left)
	if err == nil {
		err = x.await(ctx, w, began.Add(left))
	} else {
		l.mu.Lock()
		l.leave(w, false)
		l.mu.Unlock()
	}
	at = time.Now()
	x.waited += at.Sub(began)
	return at, err
}

// await waits for w's turn and for the ledger, until the deadline that is watched. Then w is not in the lane any more.
func (x *exchange) await(ctx context.Context, w *laneWaiter, deadline time.Time) error {
	l := x.pacing.lane
	for {
		at := time.Now()
		l.mu.Lock()
		t, wait, ok := l.take(w, at)
		vain := !ok && wait.Exact && at.Add(wait.For).After(deadline)
		head := l.head() == w && l.paid < maxPaid
		if ok || vain {
			l.leave(w, ok)
		}
		l.mu.Unlock()
		if ok {
			x.pacing.Ticket, x.pacing.state = t, ticketPaid
			return x.unbound()
		}
		if vain {
			if err := x.unbound(); err != nil {
				return err
			}
			return x.outOfQuota(wait.For)
		}
		var timer *time.Timer
		var rings <-chan time.Time
		if head { // who is not waits to be woken
			timer = time.NewTimer(max(wait.For, time.Millisecond))
			rings = timer.C
		}
		gone := false
		select {
		case <-w.wake:
		case <-rings:
		case <-ctx.Done():
			gone = true
		}
		if timer != nil {
			timer.Stop()
		}
		if gone {
			l.mu.Lock()
			l.leave(w, false)
			l.mu.Unlock()
			return x.admission(context.Cause(ctx))
		}
	}
}

// depart says that x has its permit since at: the next one of its lane may wait for one.
func (x *exchange) depart(at time.Time) {
	if x.pacing.state != ticketPaid {
		return
	}
	l := x.pacing.lane
	l.ledger.Depart(&x.pacing.Ticket, at)
	x.pacing.state = ticketDeparted
	l.mu.Lock()
	l.paid--
	l.wakeHead()
	l.mu.Unlock()
}

// unpace ends what x has to do with its lane and its key. A ticket of which nothing was sent goes back. It may be called again.
func (x *exchange) unpace() {
	p := &x.pacing
	if p.state == ticketPaid || p.state == ticketDeparted {
		p.lane.ledger.Return(p.Ticket)
		p.lane.mu.Lock()
		if p.state == ticketPaid {
			p.lane.paid--
		}
		p.lane.wakeHead()
		p.lane.mu.Unlock()
	}
	if p.keyed {
		*p = pacing{}
	}
}

// announced takes in what the head of the provider's answer says of quotas and of the key. It comes before any plugin sees the
// answer. The error is why x has ended, if it has.
func (x *exchange) announced(at time.Time) error {
	status := x.answer.Status
	a := announce(x.answer.Fields, status, at)
	refused := refusedForQuota(status)
	if refused {
		if err := x.readRefusal(&a); err != nil {
			return err
		}
	}
	x.said = a.hint
	x.judgeKey(status)
	q := &x.end.quota
	if !q.engaged.Load() {
		if !a.told && !refused {
			if status < http.StatusMultipleChoices && !q.silent.Load() {
				q.silent.Store(true)
			}
			return nil
		}
		q.engaged.Store(true)
	}
	l := x.pacing.lane
	if l == nil {
		l = q.lane(x.laneID(x.laneModel()), x.laneName())
		x.pacing.lane = l
	}
	ticket := x.pacing.Ticket
	if x.pacing.state != ticketSent {
		ticket = l.ledger.Sent(x.began)
	}
	x.pacing.state = ticketNone
	switch {
	case refused:
		q.rests.Add(1)
		l.refused.Add(1)
		wait := a.wait
		if a.waits { // 0 is a word, too
			wait = max(wait, time.Millisecond)
		}
		l.ledger.Refused(ticket, time.Now(), wait, &a.levels)
	case status < http.StatusInternalServerError:
		l.ledger.Observe(ticket, at, &a.levels)
	default: // it is no refusal, but a failing provider's head is often another machine's
		l.ledger.Observe(ticket, at, new(limiter.Levels))
	}
	l.changed(refused)
	return nil
}
