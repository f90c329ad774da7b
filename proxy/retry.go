package proxy

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// The retry budget (Envoy's retry_budget): so many in a hundred of a provider's live requests may be in a retry at once,
// and always so many.
const (
	budgetPercent = 20
	budgetLeast   = 3
)

// retriedStatus reports whether an answer's status lets the request be sent again.
func retriedStatus(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, statusOverloaded:
		return true
	}
	return false
}

// takeBudget counts the exchange among the provider's retries, if there is room for it.
func (x *exchange) takeBudget() bool {
	if x.course.budget != nil { // a further retry
		return true
	}
	p := x.end.provider
	retrying := p.retrying.Add(1)
	s := p.gate.Stats()
	live := int64(s.InFlight+s.Waiting+s.Blocked) + retrying
	if retrying > max(budgetLeast, live*budgetPercent/100) {
		p.retrying.Add(-1)
		return false
	}
	x.course.budget = p
	return true
}

func (x *exchange) returnBudget() {
	if p := x.course.budget; p != nil {
		p.retrying.Add(-1)
		x.course.budget = nil
	}
}

// retryWait is the time until the next attempt: what the provider says, unless another key can serve before; else twice as
// much as before the last, less up to half of it at random.
func (x *exchange) retryWait(err error) time.Duration {
	if err == nil && x.said.waits {
		if x.answer.Status == http.StatusTooManyRequests && len(x.end.ring.keys) > 1 {
			return min(x.said.wait, x.keyRest())
		}
		return x.said.wait
	}
	p := &x.end.config
	wait := p.RetryBackoffMax
	if shift := x.course.here - 1; shift < 20 {
		wait = min(wait, p.RetryBackoffInitial<<shift)
	}
	return wait - time.Duration(rand.Int64N(int64(wait)/2+1))
}

// rest waits for the next attempt. It holds neither place nor permit.
func (x *exchange) rest(wait time.Duration) error {
	if wait <= 0 {
		return x.going(true)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return x.going(true)
	case <-x.ctx.Done():
		return x.endedBy()
	}
}

// maxKeptBytes is how much of an answer's content is kept that may yet be passed on.
const maxKeptBytes = 64 << 10

// keepTime is how long that content may take to come.
const keepTime = time.Second

// keptAnswer is an answer that may yet be passed on, if nothing better comes.
type keptAnswer struct {
	of      *endpoint
	model   string
	took    time.Duration // until its first byte
	status  int
	fields  upstream.Fields
	length  int64
	content *body
	cut     bool // there was more content
}

// inGoodTime breaks the answer off when keepTime has passed, unless stop is called before.
func (x *exchange) inGoodTime() (stop func() bool) {
	breakUp := x.ctx.breakUp
	if cancel := x.course.cancel; cancel != nil { // the attempt has a context of its own
		breakUp = func() { cancel(context.Canceled) }
	}
	return time.AfterFunc(keepTime, breakUp).Stop
}

// keepAnswer keeps the answer in place of the one that was kept before, as far as its content comes in good time.
func (x *exchange) keepAnswer() {
	c, a := &x.course, &x.answer
	if c.kept != nil {
		c.kept.release()
	}
	k := &keptAnswer{of: x.end, model: x.model, took: x.firstByte, status: a.Status, fields: slices.Clone(a.Fields), length: a.Length, content: newHeldBody(x)}
	c.kept = k
	defer x.inGoodTime()()
	some := &io.LimitedReader{R: a.Body, N: maxKeptBytes}
	for {
		if _, err := k.content.receive(some); err != nil {
			k.cut = !errors.Is(err, io.EOF) || some.N == 0 && a.Length != k.content.size
			return
		}
	}
}

// giveKept makes the kept answer the one that the caller gets.
func (x *exchange) giveKept() {
	k, a := x.course.kept, &x.answer
	x.end, x.model, x.firstByte = k.of, k.model, k.took
	a.Status, a.Length, a.Upgraded = k.status, k.length, nil
	a.Fields = append(a.Fields[:0], k.fields...)
	a.TrailerNames, a.Trailer = a.TrailerNames[:0], noTrailer
	a.Body = k.content.reader()
	if k.cut {
		a.Body = &joined{first: a.Body, second: cutOff{}}
	}
}

func (k *keptAnswer) release() { k.content.release() }

// cutOff ends a content that is not whole.
type cutOff struct{}

func (cutOff) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
func (cutOff) Close() error             { return nil }
