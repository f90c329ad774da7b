package proxy

import (
	"cmp"
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/edge-proxy/edge/limiter"
)

// course is how far the attempts at an exchange have come. Its zero value is the course of an exchange that has one.
type course struct {
	several bool          // there may be more than one
	here    int           // attempts at the provider that is asked now
	ahead   []destination // fallbacks that are left
	model   string        // that the first attempt is for
	saved   *mark         // the exchange as the route's plugins left it
	visits  int           // of those
	budget  *provider     // in whose retries the exchange counts; nil: in none
	until   time.Time     // the end of all attempts; zero: none
	total   time.Time     // the end of the answer, too; zero: none
	unsent  bool          // no byte of the attempt's request has left
	failed  error         // why the last attempt got no answer; nil: it got one
	kept    *keptAnswer   // the last answer of a provider that was not passed on; nil: none
	cancel  context.CancelCauseFunc
	timer   *time.Timer
	timed   deadline // what timer ends
}

// step is what follows an attempt.
type step uint8

const (
	stepEnd step = iota // what came of it is what the caller gets
	stepRetry
	stepFallback
)

// attemptAll asks the provider, and again, or another, as long as that may help. One that has failed has ended its plugins'
// part and has given its permit back before the next begins, or the wait for it.
func (x *exchange) attemptAll() error {
	if x.plan(); x.totalOver() { // the upload has taken it all
		return x.conclude(errTotal)
	}
	for {
		x.attempts++
		x.course.here++
		err := x.attempt()
		then, wait := x.decide(err)
		switch then {
		case stepEnd:
			return x.conclude(err)
		case stepRetry:
			x.endAttempt(err)
			if err := x.rest(wait); err != nil {
				return x.conclude(err)
			}
			x.end.stats.retries.Add(1)
		case stepFallback:
			x.endAttempt(err)
			if !x.fallBack() {
				return x.conclude(errNobodyElse)
			}
		}
	}
}

// plan prepares for more than one attempt, where the provider is to be asked again or others after it.
func (x *exchange) plan() {
	c, p := &x.course, &x.end.config
	c.total = x.totalEnd()
	c.until = c.total
	ahead := x.alternatives()
	if p.MaxRetries == 0 && len(ahead) == 0 {
		return
	}
	c.several, c.ahead, c.model = true, ahead, x.model
	if p.Timeout > 0 {
		c.until = sooner(c.total, x.arrived.Add(x.gen.config.QueueTimeout+p.Timeout))
	}
	c.visits = len(x.draft.visits)
	c.saved = x.mark()
}

// totalEnd is when the whole request ends, by the provider that is asked first, or by the slowest of all while that is not
// known; zero: never.
func (x *exchange) totalEnd() time.Time {
	if x.attempts > 0 {
		return x.course.total
	}
	total := x.gen.longestTotal
	if x.end != nil {
		total = x.end.config.TotalTimeout
	}
	if total == 0 {
		return time.Time{}
	}
	return x.arrived.Add(total)
}

// totalOver reports whether that has come.
func (x *exchange) totalOver() bool {
	end := x.totalEnd()
	return !end.IsZero() && !time.Now().Before(end)
}

func sooner(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// attempt takes the request from the gate to the head of the answer.
func (x *exchange) attempt() error {
	x.course.unsent = true
	if wait := x.end.available(); wait > 0 {
		return x.unavailable(wait)
	}
	if !watchesUnread { // this system tells of lost callers only once their content was read
		if err := x.hold(); err != nil {
			return err
		}
	}
	if err := x.enter(); err != nil { // a place: in flight or in the queue
		return err
	}
	if err := x.holdOrLeave(); err != nil { // the content, as far as one slot goes
		return err
	}
	since, err := x.pace() // the provider's quota, if it has told of one
	if err != nil {
		return err
	}
	x.saveHeld()
	if err := x.admit(since); err != nil { // a permit
		return err
	}
	if err := x.compose(); err != nil { // the request as the provider will get it, but for the key
		return err
	}
	if err := x.providerPlugins(); err != nil || x.draft.answered {
		return err
	}
	return x.forward() // until the head of the answer
}

// failure is what came of an attempt, as far as the next is concerned.
type failure uint8

const (
	failureNone     failure = iota // there is an answer, or an error that no other attempt would change
	failureAdmit                   // the provider admits nobody
	failureFallback                // another provider may do better
	failureRetry                   // so may this one
)

// failure says what came of the attempt.
func (x *exchange) failure(err error) failure {
	switch {
	case x.ctx.Err() != nil || x.draft.answered:
		return failureNone
	case err == nil && !retriedStatus(x.answer.Status):
		return failureNone
	case err == nil && x.said.never:
		return failureFallback
	case err == nil:
		return failureRetry
	case errors.Is(err, limiter.ErrFull), errors.Is(err, errQueueTimeout), errors.Is(err, errQuota), errors.Is(err, errUnavailable), errors.Is(err, errKeySource):
		return failureAdmit
	case errors.Is(err, errFirstByte):
		return failureFallback
	case errors.Is(err, errUpstream) && (x.course.unsent || x.header("Idempotency-Key") != ""):
		return failureRetry
	case errors.Is(err, errUpstream):
		return failureFallback
	}
	return failureNone
}

// decide says what follows an attempt that ended with err.
func (x *exchange) decide(err error) (then step, wait time.Duration) {
	c := &x.course
	if !c.several {
		return stepEnd, 0
	}
	what := x.failure(err)
	if what == failureNone || !x.repeatable() {
		return stepEnd, 0
	}
	if what == failureRetry && c.here <= x.end.config.MaxRetries {
		wait := x.retryWait(err)
		if (c.until.IsZero() || time.Now().Add(wait).Before(c.until)) && x.takeBudget() {
			return stepRetry, wait
		}
	}
	if len(c.ahead) > 0 && (c.until.IsZero() || time.Now().Before(c.until)) {
		return stepFallback, 0
	}
	return stepEnd, 0
}

// saveHeld lets attempts start from content that plugins of the route had yet to see when the first began, now that it is
// held.
func (x *exchange) saveHeld() {
	if c := &x.course; c.several && len(x.draft.piped) > 0 && x.content().kept() {
		x.detachAll()
		c.saved.drop()
		c.saved = x.mark()
	}
}

// repeatable reports whether the content that attempts start from can be had again: it is held, or nothing of it was taken
// that is not.
func (x *exchange) repeatable() bool {
	c := &x.course
	b := c.saved.draft.content
	if b == nil {
		b = x.body.Load()
	}
	if b == nil || b.kept() {
		return true
	}
	ended := len(x.draft.piped) < len(c.saved.draft.piped) // the filters that the rest was to come through
	return c.unsent && !ended && b.untouched()
}

// endAttempt undoes what belongs to an attempt that failed: its answer, its plugins' part, its permit.
func (x *exchange) endAttempt(err error) {
	c := &x.course
	if c.failed = err; err == nil {
		x.keepAnswer()
	}
	x.closeAnswer()
	for i := c.visits; i < len(x.draft.visits); i++ {
		x.draft.visits[i].release()
	}
	x.draft.visits = x.draft.visits[:c.visits]
	x.unpace()
	x.leave()
	x.endBound()
	x.restore(c.saved) // and detaches the plugins' filters, but not the route's
	c.saved = x.mark()
	x.said, x.firstByte = hint{}, 0
	x.stage = stageQueued
}

// fallBack turns to the next destination that the request can be made one for. It returns false if there is none.
func (x *exchange) fallBack() bool {
	c := &x.course
	x.returnBudget()
	for len(c.ahead) > 0 {
		to := c.ahead[0]
		c.ahead, c.here = c.ahead[1:], 0
		if x.mayUse(to.end, cmp.Or(to.model, c.model)) == nil && x.address(to) == nil {
			x.end.stats.fallbacks.Add(1)
			return true
		}
	}
	return false
}

// errNobodyElse says that no fallback can take the request.
var errNobodyElse = errors.New("no fallback can take the request")

// conclude ends the attempts. Where no further one was admitted, the caller gets the provider's last answer.
func (x *exchange) conclude(err error) error {
	c := &x.course
	nobody := errors.Is(err, errNobodyElse)
	if nobody {
		err = c.failed
	}
	if c.kept != nil && (nobody || x.failure(err) == failureAdmit) {
		x.leave()
		x.giveKept()
		err = nil
	}
	c.forget()
	x.returnBudget() // also while the answer goes on for long
	if err == nil && len(x.draft.visits) == 0 {
		x.releaseContent() // no other attempt wants it
	}
	return err
}

// forget gives back what was kept for further attempts. It may be called again.
func (c *course) forget() {
	if c.kept != nil {
		c.kept.release()
		c.kept = nil
	}
	c.saved.drop()
	c.saved = nil
}

// bound sets the deadline of something that an attempt may fail by. While there is another provider to turn to, or an
// answer to give in its place, it ends the attempt alone, otherwise the exchange. What is done in the meantime has to use the context.
func (x *exchange) bound(what deadline, d time.Duration) (context.Context, error) {
	c := &x.course
	d = x.within(d)
	if len(c.ahead) == 0 && c.kept == nil {
		return x.ctx, x.watch(what, d)
	}
	x.endBound()
	ctx, cancel := context.WithCancelCause(x.ctx)
	c.cancel = cancel
	if d > 0 {
		c.timed = what
		c.timer = time.AfterFunc(d, func() { cancel(deadlineErrors[what]) })
	}
	return ctx, x.unwatch()
}

// unbound removes the deadline, and says which has passed at the last moment. The context goes on until endBound.
func (x *exchange) unbound() error {
	if c := &x.course; c.timer != nil {
		inTime := c.timer.Stop()
		if c.timer = nil; !inTime && c.timed != deadlineQueue { // the context has ended, or is about to
			return deadlineErrors[c.timed]
		}
	}
	return x.unwatch()
}

// endBound ends the context of bound.
func (x *exchange) endBound() {
	c := &x.course
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if c.cancel != nil {
		c.cancel(context.Canceled)
		c.cancel = nil
	}
}

// within is d, or what is left of the time for all attempts, if that is less; 0 means no bound.
func (x *exchange) within(d time.Duration) time.Duration {
	if x.course.until.IsZero() {
		return d
	}
	left := max(time.Until(x.course.until), time.Microsecond)
	if d == 0 || left < d {
		return left
	}
	return d
}

// unavailable says that all replicas of the provider are out of order for so long.
func (x *exchange) unavailable(wait time.Duration) error {
	x.retryIn = wait
	return worded(errUnavailable, "%s has failed again and again; it is tried anew in %v", x.end.name, wait.Round(time.Millisecond))
}

// holdLimit is how much of the content is held before the request is sent.
func (x *exchange) holdLimit() int64 {
	if x.course.several {
		return math.MaxInt64
	}
	return int64(len(bodyBlock{}))
}

// tellAttempts says how many attempts there were, where there may be several.
func (x *exchange) tellAttempts(h http.Header) {
	if x.course.several {
		h[attemptsField] = []string{strconv.Itoa(x.attempts)}
	}
}
