package limiter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails the run when goroutines of this package are left behind: a waiter that sleeps for ever.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leaked(); left != "" && code == 0 {
		fmt.Fprintf(os.Stderr, "goroutines left behind:\n\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

// leaked returns the stacks of this package's goroutines other than its own, after giving them 2 s to end.
func leaked() string {
	var left []string
	for deadline := time.Now().Add(2 * time.Second); ; runtime.Gosched() {
		left = left[:0]
		buf := make([]byte, 1<<20)
		for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(stack, "edge/limiter.") && !strings.Contains(stack, "limiter.leaked") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			return strings.Join(left, "\n\n")
		}
	}
}

func mustEnter(t testing.TB, g *Gate) Place {
	t.Helper()
	pl, err := g.Enter(t.Context(), Request{})
	if err != nil {
		t.Fatalf("Enter: %v", err)
	}
	return pl
}

func mustAcquire(t testing.TB, g *Gate) Permit {
	t.Helper()
	p, err := g.Acquire(t.Context(), Request{})
	if err != nil {
		t.Fatalf("Acquire: %v", err)
	}
	return p
}

// start acquires in a goroutine of its own and calls then with the permit.
func start(t *testing.T, g *Gate, then func(Permit)) { startAs(t, g, 0, then) }

func startAs(t *testing.T, g *Gate, caller uint32, then func(Permit)) {
	go func() {
		p, err := g.Acquire(t.Context(), Request{Caller: caller})
		if err == nil {
			then(p)
		} else if t.Context().Err() == nil { // else the test has failed already
			t.Errorf("Acquire: %v", err)
		}
	}()
}

func mustPanic(t *testing.T, name string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if r := fmt.Sprint(recover()); !strings.HasPrefix(r, "bug: limiter: ") {
			t.Errorf("%s: recovered %q, want a panic that begins with bug: limiter:", name, r)
		}
	}()
	f()
}

// wantHeld compares what a gate holds now.
func wantHeld(t *testing.T, g *Gate, inFlight, waiting, blocked int) {
	t.Helper()
	if s := g.Stats(); s.InFlight != inFlight || s.Waiting != waiting || s.Blocked != blocked {
		t.Fatalf("in flight %d, waiting %d, blocked %d; want %d, %d, %d", s.InFlight, s.Waiting, s.Blocked, inFlight, waiting, blocked)
	}
}

// wantFull asks with a context that is over, so that a gate that would let the caller wait says so.
func wantFull(t *testing.T, g *Gate) {
	t.Helper()
	if _, err := g.Enter(ended(t, errors.New("may wait")), Request{}); !errors.Is(err, ErrFull) {
		t.Fatalf("Enter: %v, want ErrFull", err)
	}
}

// ended returns a context that is over, with cause.
func ended(t *testing.T, cause error) context.Context {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	return ctx
}

// checkAtRest checks a gate that nobody uses any more: nothing is held, nobody counts as waiting, in neither word, no waiter
// and no signal is left in a queue, the queues have shrunk, and no caller has a count or is owed anything (S2, S5, S6, S9,
// S10).
func checkAtRest(t *testing.T, g *Gate) {
	t.Helper()
	wantHeld(t, g, 0, 0, 0)
	s, c := g.look()
	room := [2]int{s.placeRoom(), s.permitRoom()}
	want := [2]int{c.places(), c.Limit}
	if s.closed() {
		want = [2]int{}
	}
	if room != want || s.blocked() != 0 || s.aside() != s.closed() {
		t.Errorf("at rest: room for %v of %v, blocked %d, aside %v", room, want, s.blocked(), s.aside())
	}
	if n := g.settling.Load(); n != 0 {
		t.Errorf("%d in settle at rest", n)
	}
	for name, l := range map[string]*line{"places": &g.places, "permits": &g.permits} {
		for i, q := range queuesOf(l) {
			live, left := q.survey()
			if live != 0 || left != 0 {
				t.Errorf("%s, caller %d: %d waiters and %d signals for nobody left in the queue", name, i, live, left)
			}
			if n := q.segments(); n > 3 {
				t.Errorf("%s, caller %d: %d segments at rest, want at most 3", name, i, n)
			}
		}
		if turns, ok := l.queue.(*turns); ok && (turns.owed.Load() != 0 || turns.anyWaiting()) {
			t.Errorf("%s: %#x owed, somebody waiting: %v at rest", name, turns.owed.Load(), turns.anyWaiting())
		}
	}
}

// queuesOf returns the queues of all callers.
func queuesOf(l *line) []*queue {
	turns, ok := l.queue.(*turns)
	if !ok {
		return []*queue{l.queue.(*queue)}
	}
	var qs []*queue
	for i := range turns.callers {
		if c := turns.callers[i].Load(); c != nil {
			qs = append(qs, &c.queue)
		}
	}
	return qs
}

// survey counts the waiters in a queue at rest, and the signals that lie in cells whose ticket nobody has taken yet.
func (q *queue) survey() (live, left int) {
	for s := q.head.Load(); s != nil; s = s.next.Load() {
		for i := range s.cells {
			switch w := s.cells[i].Load(); {
			case w == nil || w == cancelledMark:
			case w != grantedMark && w != shutMark:
				live++
			case s.id*segmentCells+uint64(i) >= q.enq.Load():
				left++
			}
		}
	}
	return live, left
}

// segments counts what the collector finds from the queue's ends, forward and backward.
func (q *queue) segments() int {
	seen := map[*segment]bool{}
	todo := []*segment{q.head.Load(), q.tail.Load()}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if s != nil && !seen[s] {
			seen[s] = true
			todo = append(todo, s.next.Load(), s.prev.Load())
		}
	}
	return len(seen)
}
