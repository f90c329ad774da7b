package proxy

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

type breaks struct{ n atomic.Int32 }

func (b *breaks) Break() { b.n.Add(1) }

var errTest = errors.New("the test's")

func TestLifetimeEndsOnceWithItsFirstCause(t *testing.T) {
	type key struct{}
	l := &lifetime{parent: context.WithValue(t.Context(), key{}, 7)}
	if l.Err() != nil || l.Cause() != nil || l.Value(key{}) != 7 {
		t.Fatalf("before its end: Err %v, Cause %v, Value %v", l.Err(), l.Cause(), l.Value(key{}))
	}
	early := l.Done()
	select {
	case <-early:
		t.Fatal("Done is closed")
	default:
	}
	l.end(errTest)
	l.end(errClientGone)
	<-early
	<-l.Done()
	if l.Err() != context.Canceled || l.Cause() != errTest { //nolint:errorlint // exactly these
		t.Errorf("got Err %v, Cause %v", l.Err(), l.Cause())
	}
	late := &lifetime{parent: t.Context()}
	late.end(errTest)
	<-late.Done()
}

func TestLifetimeEndsWithItsParent(t *testing.T) {
	parent, end := context.WithCancelCause(t.Context())
	l := &lifetime{parent: parent}
	done := l.Done()
	end(errTest)
	if l.Err() == nil || l.Cause() != errTest { //nolint:errorlint // exactly this
		t.Errorf("got Err %v, Cause %v", l.Err(), l.Cause())
	}
	<-done
}

// Contexts of the standard library that are made from it end with it, and start no goroutine for that.
func TestLifetimeHasContextsOfTheStandardLibrary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lifetime{parent: t.Context()}
		child, cancel := context.WithTimeout(l, time.Hour)
		defer cancel()
		other, end := context.WithCancel(l)
		if got := len(l.after); got != 2 {
			t.Errorf("got %d calls to make at the end, want 2", got)
		}
		end()
		if got := len(l.after); got != 1 || other.Err() == nil {
			t.Errorf("after one has ended: got %d calls to make, want 1", got)
		}
		ran := false
		stop := context.AfterFunc(l, func() { ran = true })
		stopped := context.AfterFunc(l, func() { t.Error("a call that was stopped was made") })
		if !stopped() || stopped() {
			t.Error("want the first stop to succeed, and no other")
		}
		l.end(errTest)
		<-child.Done()
		synctest.Wait()
		if !ran || stop() {
			t.Errorf("AfterFunc ran: %v", ran)
		}
		context.AfterFunc(l, func() { ran = false })
		if synctest.Wait(); ran {
			t.Error("AfterFunc did not run after the end")
		}
	})
}

func TestLifetimeBreaksWhatIsThereAtItsEnd(t *testing.T) {
	l := &lifetime{parent: t.Context()}
	var first, second, late breaks
	l.OnEnd(&first)
	l.OnEnd(&second)
	l.end(errTest)
	l.OnEnd(nil)
	l.OnEnd(&late)
	if first.n.Load() != 0 || second.n.Load() != 1 || late.n.Load() != 1 {
		t.Errorf("got %d, %d and %d breaks, want 0, 1 and 1", first.n.Load(), second.n.Load(), late.n.Load())
	}
}

// A client takes its connection away with OnEnd(nil) and gives it to another request: it must not break any more.
func TestHammerLifetime(t *testing.T) {
	for range 2000 {
		l := &lifetime{parent: t.Context()}
		var b breaks
		var all sync.WaitGroup
		all.Go(func() { l.end(errTest) })
		all.Go(func() {
			l.OnEnd(&b)
			l.OnEnd(nil)
			before := b.n.Load()
			if <-l.Done(); b.n.Load() != before {
				t.Error("a break came after OnEnd(nil)")
			}
		})
		all.Go(func() {
			if l.Err() != nil && l.Cause() == nil {
				t.Error("it has ended without a cause")
			}
		})
		all.Wait()
	}
}
