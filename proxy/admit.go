package proxy

import (
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
	began := time.Now()
	if err = x.watch(deadlineQueue, x.gen.config.QueueTimeout); err != nil {
		return err
	}
	x.place, err = x.end.gate.Enter(x.ctx, limiter.Request{})
	if err != nil {
		return x.admission(err)
	}
	x.placed = true
	x.waited = time.Since(began)
	return x.unwatch()
}

// hold reads the content as far as one slot goes, so that a slow uploader holds no permit.
func (x *exchange) hold() error {
	b := x.body.Load()
	if b == nil || b.size > 0 || expectsContinue(x.r) {
		return nil
	}
	return x.reading(b.fill(int64(len(bodyBlock{})), nil))
}

// admit turns the place into a permit, oldest first.
func (x *exchange) admit() (err error) {
	began := time.Now()
	left := x.gen.config.QueueTimeout - x.waited
	if err = x.watch(deadlineQueue, max(left, time.Microsecond)); err != nil {
		return err
	}
	x.placed = false // Acquire gives the place back itself when it fails
	x.permit, err = x.place.Acquire(x.ctx)
	if err != nil {
		return x.admission(err)
	}
	x.flying = true
	x.head = x.p.heads.Take(x.hint)
	x.began = time.Now()
	x.waited += x.began.Sub(began)
	x.end.stats.queueWait.Update(x.waited.Seconds())
	x.stage = stageWaiting
	return x.unwatch()
}

// admission returns why there is neither place nor permit.
func (x *exchange) admission(err error) error {
	if x.ctx.Err() != nil {
		return x.endedBy()
	}
	return err
}

// reading returns why the content could not be read. net/http ends the request's context at any failed read,
// so that alone does not mean that the caller has left.
func (x *exchange) reading(err error) error {
	if errors.Is(err, errBodyRead) && x.ctx.Err() != nil {
		return x.cause()
	}
	return err
}

// expectsContinue reports whether the caller waits for 100 before it sends its content (RFC 9110, section
// 10.1.1). net/http sends that at the first read, so such a body is read when the provider wants it.
func expectsContinue(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Expect"), "100-continue")
}
