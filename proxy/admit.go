package proxy

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/edge-proxy/edge/limiter"
)

// enter takes a place: in flight or in the provider's queue. While there is none, the caller waits here,
// its body unread and without a slot.
func (x *exchange) enter() (err error) {
	x.stage = stageQueued
	if x.placed { // begin had one at once
		return nil
	}
	if err = x.claimOnce(); err != nil {
		return err
	}
	began := time.Now()
	ctx, err := x.bound(deadlineQueue, x.queueLeft())
	if err != nil {
		return err
	}
	x.place, err = x.end.gate.Enter(ctx, x.caller.request())
	x.waited += time.Since(began)
	if err != nil {
		x.unclaim()
		if errors.Is(err, limiter.ErrFull) {
			x.turnedAway()
		}
		return x.admission(err)
	}
	x.placed = true
	return x.unbound()
}

// hold reads the content as far as one slot goes, so that a slow uploader holds no permit.
func (x *exchange) hold() error {
	b := x.content()
	if b == nil || b.whole.Load() || !x.course.several && (b.size > 0 || expectsContinue(x.r)) {
		return nil
	}
	err := x.receive(b, x.holdLimit(), nil)
	if errors.Is(err, errMemory) && x.course.several { // what does not fit is sent as it comes, and not twice
		return x.unwatch()
	}
	return err
}

// queueLeft is what is left of the time that a request may wait for its turn.
func (x *exchange) queueLeft() time.Duration {
	return max(x.gen.config.QueueTimeout-x.waited, time.Microsecond)
}

// receive reads content into memory, within what the whole request has: from its arrival, queue_timeout and
// the provider's timeout together, or total_timeout if that is less. A caller that sends a byte now and then does
// not hold a place for ever.
func (x *exchange) receive(b *body, limit int64, see func([]byte)) error {
	if err := x.watchBody(); err != nil {
		return err
	}
	if err := x.reading(b.fill(limit, see)); err != nil {
		if errors.Is(err, errBodyTimeout) && x.totalOver() {
			return errTotal
		}
		return err
	}
	return x.unwatch()
}

// watchBody bounds a wait for content by what the whole request has.
func (x *exchange) watchBody() error {
	timeout := x.gen.longest
	if x.end != nil {
		timeout = x.end.config.Timeout
	}
	end := x.totalEnd()
	if timeout > 0 {
		end = sooner(end, x.arrived.Add(x.gen.config.QueueTimeout+timeout))
	}
	if end.IsZero() {
		return nil
	}
	return x.going(x.clock.set(deadlineBody, moment(end)))
}

// admit turns the place into a permit, oldest first. since is when the wait for that began.
func (x *exchange) admit(since time.Time) (err error) {
	ctx, err := x.bound(deadlineQueue, x.queueLeft())
	if err != nil {
		return err
	}
	x.placed = false // Acquire gives the place back itself when it fails
	x.permit, err = x.place.Acquire(ctx)
	if err != nil {
		x.unpace()
		x.unclaim()
		x.waited += time.Since(since)
		return x.admission(err)
	}
	x.flying, x.began = true, time.Now()
	x.depart(x.began)
	if x.head.P() == nil {
		x.head = x.p.heads.Take(x.hint)
	}
	x.waited += x.began.Sub(since)
	x.end.stats.queueWait.Update(x.waited.Seconds())
	x.stage = stageWaiting
	if x.p.aborted.Load() { // the permit may be that of a request which Abort has just ended
		x.cancel(errDrainDeadline)
	}
	return x.unbound()
}

// admission returns why there is neither place nor permit.
func (x *exchange) admission(err error) error {
	if x.ctx.Err() != nil {
		err = x.endedBy()
	}
	if errors.Is(err, errQueueTimeout) && x.totalOver() {
		return errTotal
	}
	return err
}

// reading returns why the content could not be read. net/http ends the request's context when a read fails,
// also when we ended it: so a deadline of ours comes first, and what is left means that the caller has gone.
func (x *exchange) reading(err error) error {
	if errors.Is(err, errFiltered) {
		if own, failed := x.pipeFailed(); failed {
			return cmp.Or(own, errReplied)
		}
	}
	if (errors.Is(err, errBodyRead) || errors.Is(err, errBodyTimeout) || errors.Is(err, context.Canceled)) && x.ctx.Err() != nil {
		return x.cause()
	}
	return err
}

// expectsContinue reports whether the caller waits for 100 before it sends its content (RFC 9110, section
// 10.1.1). net/http sends that at the first read, so such a body is read when the provider wants it.
func expectsContinue(r *http.Request) bool {
	return strings.EqualFold(headerOf(r.Header, "Expect"), "100-continue")
}
