package proxy

import (
	"net/http/httptest"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/edge-proxy/edge/limiter"
)

func TestLaneTakesTurnsBetweenCallers(t *testing.T) {
	l := &lane{}
	names := map[*laneWaiter]string{}
	join := func(turn uint32, name string) *laneWaiter {
		w := l.join(turn)
		names[w] = name
		return w
	}
	join(1, "a1")
	join(1, "a2")
	gone := join(1, "a3")
	join(1, "a4")
	join(2, "b1")
	join(3, "c1")
	join(2, "b2")
	l.leave(gone, false)
	last := join(3, "c2")
	l.leave(last, false)
	var order []string
	for l.head() != nil {
		w := l.head()
		if len(order) > 0 && len(w.wake) != 1 { // the very first is nobody's to wake
			t.Errorf("%s was not woken", names[w])
		}
		order = append(order, names[w])
		l.leave(w, true)
	}
	if want := []string{"a1", "b1", "c1", "a2", "b2", "a4"}; !slices.Equal(order, want) {
		t.Errorf("got %v, want %v", order, want)
	}
	if l.waiting != 0 || l.turns.Len() != 0 || len(l.lines) != 0 {
		t.Errorf("%d waiting, %d and %d lines are left", l.waiting, l.turns.Len(), len(l.lines))
	}
}

func TestLanesAreBounded(t *testing.T) {
	var q quota
	busy := q.lane(laneID{1, "busy"}, "k")
	busy.join(0)
	for i := range 3 * maxLanes {
		q.lane(laneID{1, strconv.Itoa(i)}, "k")
	}
	if len(q.lanes) != maxLanes || q.order.Len() != maxLanes {
		t.Errorf("got %d lanes, %d in order, want %d", len(q.lanes), q.order.Len(), maxLanes)
	}
	if q.lane(laneID{1, "busy"}, "k") != busy {
		t.Error("a lane that somebody waits in is gone")
	}
	if q.lanes[laneID{1, strconv.Itoa(3*maxLanes - 1)}] == nil {
		t.Error("the lane used last is gone")
	}
}

func TestKeyRestIsTheShortest(t *testing.T) {
	q := &quota{}
	config := DefaultProvider()
	config.Keys = []Key{{Value: "a", Weight: 1}, {Value: "b", Weight: 1}, {Value: "c", Weight: 1, Models: []string{"other"}}}
	ring := newKeyRing(config, q)
	end := &endpoint{provider: &provider{}, ring: ring}
	end.quota.engaged.Store(true)
	ring.quota = &end.quota
	x := &exchange{model: "m"}
	x.end, x.r = end, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
	x.gen = &generation{keys: keyRings{}}
	f := func(least, most time.Duration) {
		t.Helper()
		if got := x.keyRest(); got < least || got > most {
			t.Errorf("got %v, want %v to %v", got, least, most)
		}
	}
	rest := func(key int, wait time.Duration) {
		l := end.quota.lane(laneID{ring.keys[key].id, "m"}, "")
		l.ledger.Refused(limiter.Ticket{}, time.Now(), wait, &limiter.Levels{})
	}
	f(0, 0)
	rest(0, time.Hour)
	f(0, 0) // b is free
	rest(1, 2*time.Hour)
	f(time.Hour-time.Minute, time.Hour)
	ring.keys[0].aside.Store(moment(time.Now().Add(time.Minute)))
	f(2*time.Hour-time.Minute, 2*time.Hour)
	ring.keys[1].aside.Store(moment(time.Now().Add(time.Minute)))
	f(0, 0) // waiting changes nothing
}
