package proxy

import (
	"container/list"
	"fmt"
	"hash/maphash"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edge-proxy/edge/limiter"
)

const (
	maxLanes = 1000 // of a provider

	// maxPaid is how many requests of a lane may have quota and wait for a permit. More would go all at once when a provider that
	// stood still goes on, and that is more than it takes.
	maxPaid = 4
)

// laneID is who a quota is for: a key and a model.
type laneID struct {
	key   uint64 // of the key's value, or of the caller's own credentials
	model string // "" when it is not known
}

var laneSeed = maphash.MakeSeed()

// laneKeyOf tells credentials apart. It says nothing of them outside of this process.
func laneKeyOf(value string) uint64 { return maphash.String(laneSeed, value) }

// quota is what is known of a provider's quotas. It outlives generations. Until the provider has announced or refused
// something for the first time, it is not engaged, and costs each request one look at that.
type quota struct {
	engaged atomic.Bool
	silent  atomic.Bool   // an answer was good and told of no quota: the next will hardly do
	rests   atomic.Uint64 // refusals that a key rests after

	mu    sync.Mutex
	lanes map[laneID]*lane
	order list.List              // of *lane, the one used last in front
	keys  map[[32]byte]*keyState // by the hash of their values
}

// lane is one queue for one quota: those who wait until the ledger lets them go. Callers take turns, and one caller's requests go
// oldest first. The head of the queue has the only timer; it wakes the next one when it goes.
//
// Invariants:
//
//	L1  waiting is the number of waiters linked in; each is in the line of its turn, and no line in turns is empty.
//	L2  Nobody takes from the ledger who is not the head, unless nobody waits.
//	L3  When a place among the paid, the head or the ledger changes, the head is woken. A wake is kept for who is not listening yet.
type lane struct {
	id      laneID
	name    string // of the key, for people
	at      *list.Element
	ledger  limiter.Ledger
	refused atomic.Uint64

	mu      sync.Mutex
	paid    int // have quota, and no permit yet
	waiting int
	turns   list.List // of *laneLine; the first one's turn is next
	lines   map[uint32]*laneLine
}

// laneLine is one caller's waiters.
type laneLine struct {
	turn        uint32
	at          *list.Element
	first, last *laneWaiter
}

type laneWaiter struct {
	line       *laneLine
	prev, next *laneWaiter
	wake       chan struct{} // holds one
}

// lane returns the lane of an id, and makes it when there is none. Of too many, the one goes that was not used for
// longest, among those that nobody is in.
func (q *quota) lane(id laneID, name string) *lane {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.lanes[id]; l != nil {
		q.order.MoveToFront(l.at)
		return l
	}
	if q.lanes == nil {
		q.lanes = map[laneID]*lane{}
	}
	for old := q.order.Back(); old != nil && len(q.lanes) >= maxLanes; {
		before := old.Prev()
		if l := old.Value.(*lane); l.idle() {
			q.order.Remove(old)
			delete(q.lanes, l.id)
		}
		old = before
	}
	l := &lane{id: id, name: name}
	if len(q.lanes) < maxLanes { // else it lives as long as its request
		l.at = q.order.PushFront(l)
		q.lanes[id] = l
	}
	return l
}

// wait is how long the lane of an id would let a request wait now; 0 if there is no such lane.
func (q *quota) wait(id laneID, at time.Time) time.Duration {
	if !q.engaged.Load() {
		return 0
	}
	q.mu.Lock()
	l := q.lanes[id]
	q.mu.Unlock()
	if l == nil {
		return 0
	}
	w := l.ledger.Peek(at, oneRequest).For
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting > 0 { // it has to queue, however short
		w = max(w, time.Duration(l.waiting))
	}
	return w
}

// all returns the lanes, the one used last first.
func (q *quota) all() (lanes []*lane) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for at := q.order.Front(); at != nil; at = at.Next() {
		lanes = append(lanes, at.Value.(*lane))
	}
	return lanes
}

func (l *lane) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting == 0 && l.paid == 0
}

// join puts a waiter at the end of its caller's line. l.mu is held.
func (l *lane) join(turn uint32) *laneWaiter {
	w := &laneWaiter{wake: make(chan struct{}, 1)}
	line := l.lines[turn]
	if line == nil {
		if l.lines == nil {
			l.lines = map[uint32]*laneLine{}
		}
		line = &laneLine{turn: turn}
		line.at = l.turns.PushBack(line)
		l.lines[turn] = line
	}
	w.line, w.prev = line, line.last
	if line.last != nil {
		line.last.next = w
	} else {
		line.first = w
	}
	line.last = w
	l.waiting++
	return w
}

// leave takes a waiter out, and the next one is woken. served says that it had its turn. l.mu is held.
func (l *lane) leave(w *laneWaiter, served bool) {
	line := w.line
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		line.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		line.last = w.prev
	}
	l.waiting--
	if line.first == nil {
		l.turns.Remove(line.at)
		delete(l.lines, line.turn)
	} else if served {
		l.turns.MoveToBack(line.at)
	}
	l.wakeHead()
}

// head is whose turn it is; nil when nobody waits. l.mu is held.
func (l *lane) head() *laneWaiter {
	if at := l.turns.Front(); at != nil {
		return at.Value.(*laneLine).first
	}
	return nil
}

// wakeHead makes the head look again. l.mu is held.
func (l *lane) wakeHead() {
	if w := l.head(); w != nil {
		w.poke()
	}
}

func (w *laneWaiter) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// changed makes those look again for whom a change of the ledger may matter: the head, or all after a refusal, since some of
// them may now wait in vain.
func (l *lane) changed(all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !all {
		l.wakeHead()
		return
	}
	for at := l.turns.Front(); at != nil; at = at.Next() {
		for w := at.Value.(*laneLine).first; w != nil; w = w.next {
			w.poke()
		}
	}
}

// take asks the ledger for w, nil for a newcomer. l.mu is held.
func (l *lane) take(w *laneWaiter, at time.Time) (t limiter.Ticket, wait limiter.Wait, ok bool) {
	if l.head() == w && l.paid < maxPaid {
		if t, wait, ok = l.ledger.Take(at, oneRequest); ok {
			l.paid++
		}
		return t, wait, ok
	}
	return t, l.ledger.Peek(at, oneRequest), false
}

// oneRequest is what a request takes of a quota. What it takes of tokens is known when it was answered, and what is left of
// them is announced then.
var oneRequest = limiter.Cost{limiter.Requests: 1}

// laneID says which quota x counts on, with its key taken.
func (x *exchange) laneID(model string) laneID {
	switch {
	case x.pacing.key != nil:
		return laneID{x.pacing.key.id, model}
	case x.key != "":
		return laneID{laneKeyOf(x.key.Reveal()), model}
	}
	var h maphash.Hash // the caller's own credentials
	h.SetSeed(laneSeed)
	for _, name := range credentialHeaders {
		if value := headerOf(x.r.Header, name); value != "" && x.callerBy(name, value) == nil {
			h.WriteString(value)
		}
	}
	if key, ok := queryKey(x.target); ok {
		h.WriteString(key)
	}
	return laneID{h.Sum64(), model}
}

func (x *exchange) laneName() string {
	switch {
	case x.pacing.key != nil:
		return x.pacing.key.name
	case x.key != "":
		return "key source"
	}
	return "caller"
}

// laneModel is the model as far as it can be known: from the route, from the target, or from what is held of the content.
func (x *exchange) laneModel() string {
	if x.model != "" {
		return x.model
	}
	if model := targetModel(x.target); model != "" {
		return model
	}
	b := x.content()
	if b == nil || x.apart && b == x.body.Load() || b.lying.to > 0 { // given back, or about to be: its memory may be another request's by now
		return ""
	}
	var scan modelScan
	for _, block := range b.blocks {
		if scan.write(block); scan.stop != 0 {
			break
		}
	}
	if scan.stop == 0 { // its value has not ended, or there is none
		return ""
	}
	return string(scan.value[:scan.size])
}

// targetModel is the model in a target of Gemini's or of Azure's deployments.
func targetModel(target string) string {
	path, _, _ := strings.Cut(target, "?")
	for _, before := range [...]string{"/models/", "/deployments/"} {
		if _, rest, ok := strings.Cut(path, before); ok {
			if end := strings.IndexAny(rest, ":/"); end > 0 && end <= modelMaxBytes {
				return rest[:end]
			}
		}
	}
	return ""
}

// quotaError is errQuota with the time until there is some again.
type quotaError struct {
	wait  time.Duration
	words *wordedError
}

func (e *quotaError) Error() string { return e.words.Error() }
func (e *quotaError) Unwrap() error { return e.words }

func (x *exchange) outOfQuota(wait time.Duration) error {
	return &quotaError{wait, &wordedError{errQuota, fmt.Sprintf("%s has no quota left for this request; there is some again in %s s", x.end.name, retryAfter(wait))}}
}

// refusedForQuota reports whether a status says that there is no quota. 529 says that the provider itself is overloaded.
func refusedForQuota(status int) bool { return status == http.StatusTooManyRequests }
