package proxy

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// lifetime is an exchange's context: it ends when the exchange does, or before that with a cause. It is one object of
// the heap's, never a part of a record, since plugins and net/http may hold it longer.
//
// It stands in for context.WithCancelCause, which allocates five times and enters its child into the request's
// context. Here nothing is entered there. So the end of the request's context, by which net/http tells of a caller that
// left, is seen by whoever asks for Err, and by the sweeper, which asks for all: Done is closed at most 25 ms late.
//
// context.Cause knows the cause of the standard library's contexts only, and gives context.Canceled for this one; use
// Cause. Contexts made from it start no goroutine: it has AfterFunc.
//
// Invariants:
//
//	L1  over is set once, after cause and under mu; neither changes after that.
//	L2  Err is not nil exactly when Done is closed, or would be if somebody had asked for it.
//	L3  The breaker is called under mu, so none is under way once OnEnd has returned.
//
// Memory order: cause is written before over is stored, and read by who has loaded over, or under mu.
type lifetime struct {
	parent context.Context // the request's

	over    atomic.Bool
	mu      sync.Mutex
	cause   error
	done    chan struct{} // made by the first Done
	breaker upstream.Breaker
	after   []*func() // what AfterFunc was given
}

var _ upstream.Ender = (*lifetime)(nil)

// remains is what of an exchange may outlive it.
type remains struct {
	lifetime

	length [1]string // the answer's Content-Length, for the head that net/http sends after the handler has returned
}

// remainsWithBody is that of a request with content.
type remainsWithBody struct {
	remains
	body body
}

// end ends it because of cause, unless it has ended before.
func (l *lifetime) end(cause error) {
	l.mu.Lock()
	if l.over.Load() {
		l.mu.Unlock()
		return
	}
	l.cause = cause
	l.over.Store(true)
	if l.done != nil {
		close(l.done)
	}
	if b := l.breaker; b != nil {
		l.breaker = nil
		b.Break()
	}
	after := l.after
	l.after = nil
	l.mu.Unlock()
	for _, call := range after {
		go (*call)() // as context.AfterFunc has it
	}
}

// Err is context.Canceled once it has ended. Cost: two atomic loads until then.
func (l *lifetime) Err() error {
	if !l.over.Load() {
		if l.parent.Err() == nil {
			return nil
		}
		l.end(context.Cause(l.parent))
	}
	return context.Canceled
}

// Cause is why it has ended; nil until then.
func (l *lifetime) Cause() error {
	if l.Err() == nil {
		return nil
	}
	return l.cause
}

// Done is closed when it ends.
func (l *lifetime) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done == nil {
		l.done = make(chan struct{})
		if l.over.Load() {
			close(l.done)
		}
	}
	return l.done
}

// Deadline is the request's.
func (l *lifetime) Deadline() (time.Time, bool) { return l.parent.Deadline() }

// Value is the request's.
func (l *lifetime) Value(key any) any { return l.parent.Value(key) }

// breakUp breaks the connection that is in use, and nothing else.
func (l *lifetime) breakUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.breaker; b != nil {
		l.breaker = nil
		b.Break()
	}
}

// OnEnd is as upstream.Ender says.
func (l *lifetime) OnEnd(b upstream.Breaker) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b != nil && l.over.Load() {
		b.Break()
		return
	}
	l.breaker = b
}

// AfterFunc calls f in a goroutine of its own when l ends, unless stop has been called before and returned true.
// Package context looks for this method in contexts that are not its own.
func (l *lifetime) AfterFunc(f func()) (stop func() bool) {
	call := &f
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over.Load() {
		go f()
		return func() bool { return false }
	}
	l.after = append(l.after, call)
	return func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		i := slices.Index(l.after, call)
		if i < 0 {
			return false
		}
		l.after = slices.Delete(l.after, i, i+1)
		return true
	}
}
