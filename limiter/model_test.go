package limiter

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
)

// errGone is the cause that a replay's callers are cancelled with.
var errGone = errors.New("gone")

// A stage is where a caller is. The model and the gate are compared by it after every step.
type stage uint8

const (
	blocked  stage = iota // in Enter
	placed                // holds a place, is not in Acquire
	waiting               // in Acquire
	inFlight              // holds a permit
	out                   // has ended, with an error or without
)

// caller is a goroutine that goes through the gate step by step, on command.
type caller struct {
	number  uint32
	ctx     context.Context
	cancel  context.CancelCauseFunc
	command chan string // acquire, leave, done

	at  stage // what the gate did
	err error

	wantAt  stage // what the model says
	wantErr error
}

func (c *caller) run(g *Gate) {
	c.at = blocked
	place, err := g.Enter(c.ctx, Request{Caller: c.number})
	if err != nil {
		c.at, c.err = out, err
		return
	}
	c.at = placed
	if <-c.command == "leave" {
		place.Leave()
		c.at = out
		return
	}
	c.at = waiting
	permit, err := place.Acquire(c.ctx)
	if err != nil {
		c.at, c.err = out, err
		return
	}
	c.at = inFlight
	<-c.command
	permit.Done(Sample{})
	c.at = out
}

// model is the gate in plain code: two counts and two lines, one step at a time.
type model struct {
	config           Config
	closed           bool
	places, permits  int
	blocked, waiting modelLine
	stats            Stats // the counters only
}

// modelLine is who waits, in order of arrival, and which of the callers has the next turn.
type modelLine struct {
	in            []*caller
	callers, turn uint32
}

func (l *modelLine) remove(c *caller) {
	l.in = slices.DeleteFunc(l.in, func(o *caller) bool { return o == c })
}

// next takes out who is served next.
func (l *modelLine) next() *caller {
	for {
		turn := l.turn
		l.turn = (turn + 1) % l.callers
		for _, c := range l.in {
			if c.number%l.callers == turn {
				l.remove(c)
				return c
			}
		}
	}
}

func newModel(c Config) *model {
	line := modelLine{callers: uint32(max(1, c.Callers))}
	return &model{config: c, blocked: line, waiting: line}
}

func (m *model) placeLimit() int  { return m.config.Limit + m.config.Buffer }
func (m *model) permitLimit() int { return m.config.Limit }

func (m *model) end(c *caller, err error) {
	c.wantAt, c.wantErr = out, err
	switch {
	case errors.Is(err, ErrFull):
		m.stats.Full++
	case errors.Is(err, ErrClosed):
		m.stats.Closed++
	case errors.Is(err, errGone):
		m.stats.Gone++
	}
}

func (m *model) enter(c *caller) {
	switch {
	case m.closed:
		m.end(c, ErrClosed)
	case m.places < m.placeLimit():
		m.places++
		c.wantAt = placed
	case len(m.blocked.in) >= m.config.MaxBlocked:
		m.end(c, ErrFull)
	case c.ctx.Err() != nil:
		m.end(c, errGone)
	default:
		m.blocked.in = append(m.blocked.in, c)
		m.stats.Waited++
		c.wantAt = blocked
	}
}

func (m *model) acquire(c *caller) {
	switch {
	case m.closed:
		m.end(c, ErrClosed)
		m.leave()
	case m.permits < m.permitLimit():
		m.permits++
		c.wantAt = inFlight
	case c.ctx.Err() != nil:
		m.end(c, errGone)
		m.leave()
	default:
		m.waiting.in = append(m.waiting.in, c)
		m.stats.Waited++
		c.wantAt = waiting
	}
}

// leave gives a place back, done a permit and its place.
func (m *model) leave() {
	m.places--
	m.admit()
}

func (m *model) done() {
	m.permits--
	m.admit()
	m.leave()
}

// admit lets in who can be let in, in turns.
func (m *model) admit() {
	for !m.closed && m.permits < m.permitLimit() && len(m.waiting.in) > 0 {
		m.waiting.next().wantAt = inFlight
		m.permits++
	}
	for !m.closed && m.places < m.placeLimit() && len(m.blocked.in) > 0 {
		m.blocked.next().wantAt = placed
		m.places++
	}
}

func (m *model) cancel(c *caller) {
	switch c.wantAt {
	case blocked:
		m.blocked.remove(c)
		m.end(c, errGone)
	case waiting:
		m.waiting.remove(c)
		m.end(c, errGone)
		m.leave()
	}
}

func (m *model) resize(c Config) {
	m.config = c
	m.admit()
}

func (m *model) close() {
	m.closed = true
	for _, c := range slices.Concat(m.blocked.in, m.waiting.in) {
		m.end(c, ErrClosed)
	}
	m.places -= len(m.waiting.in)
	m.blocked.in, m.waiting.in = nil, nil
}

// replayer runs steps on a gate and on the model and compares them after each: every caller's stage and error, so the
// order of service exactly, and every number of Stats.
type replayer struct {
	g       *Gate
	m       *model
	callers []*caller // those that are not out
}

// replay takes the number of callers from the first byte, and a step from each of the others.
func replay(t *testing.T, data []byte) {
	config := Config{Limit: 2, Buffer: 2, MaxBlocked: 3}
	if len(data) > 0 {
		config.Callers = []int{0, 2, 5, 130}[data[0]%4]
		data = data[1:]
	}
	r := &replayer{g: New(config), m: newModel(config)}
	for _, q := range slices.Concat(queuesOf(&r.g.places), queuesOf(&r.g.permits)) {
		// Near the end of a segment, so that short histories meet the next one too.
		q.enq.Store(segmentCells - 4)
		q.deq.Store(segmentCells - 4)
	}
	for i, b := range data {
		r.check(t, i, r.step(t, b%8, b/8))
	}

	// Everybody goes home.
	for _, c := range slices.Clone(r.callers) {
		r.m.cancel(c)
		c.cancel(errGone)
		r.check(t, len(data), "cancel all")
	}
	for r.pick(0, at(placed)) != nil {
		r.check(t, len(data), r.step(t, 5, 0))
	}
	for r.pick(0, at(inFlight)) != nil {
		r.check(t, len(data), r.step(t, 3, 0))
	}
	checkAtRest(t, r.g)
}

func (r *replayer) check(t *testing.T, step int, op string) {
	t.Helper()
	synctest.Wait()
	for i, c := range r.callers {
		if c.at != c.wantAt || !errors.Is(c.err, c.wantErr) {
			t.Fatalf("step %d, %s: caller %d at %d (%v), want %d (%v)", step, op, i, c.at, c.err, c.wantAt, c.wantErr)
		}
	}
	want := r.m.stats
	want.Limit, want.Buffer, want.MaxBlocked = r.m.config.Limit, r.m.config.Buffer, r.m.config.MaxBlocked
	want.InFlight, want.Waiting, want.Blocked = r.m.permits, r.m.places-r.m.permits, len(r.m.blocked.in)
	if got := r.g.Stats(); got != want {
		t.Fatalf("step %d, %s: stats\n%+v, want\n%+v", step, op, got, want)
	}
	r.callers = slices.DeleteFunc(r.callers, func(c *caller) bool { return c.at == out })
}

func at(s stage) func(*caller) bool { return func(c *caller) bool { return c.wantAt == s } }

func anywhere(*caller) bool { return true }

// pick returns the n-th caller for whom ok holds, or nil.
func (r *replayer) pick(n byte, ok func(*caller) bool) *caller {
	var of []*caller
	for _, c := range r.callers {
		if ok(c) {
			of = append(of, c)
		}
	}
	if len(of) == 0 {
		return nil
	}
	return of[int(n)%len(of)]
}

// come starts a new caller. Its number is spread over all that there may be.
func (r *replayer) come(ctx context.Context, arg byte, gone bool) {
	ctx, cancel := context.WithCancelCause(ctx)
	if gone {
		cancel(errGone)
	}
	c := &caller{number: uint32(arg) * 37, ctx: ctx, cancel: cancel, command: make(chan string)}
	r.callers = append(r.callers, c)
	r.m.enter(c)
	go c.run(r.g)
}

// step does one thing to both and returns its name.
func (r *replayer) step(t *testing.T, op, arg byte) string {
	switch op {
	case 0, 1:
		r.come(t.Context(), arg, false)
		return "enter"
	case 2:
		if c := r.pick(arg, at(placed)); c != nil {
			r.m.acquire(c)
			c.command <- "acquire"
		}
		return "acquire"
	case 3:
		if c := r.pick(arg, at(inFlight)); c != nil {
			c.wantAt = out
			r.m.done()
			c.command <- "done"
		}
		return "done"
	case 4:
		if c := r.pick(arg, anywhere); c != nil {
			r.m.cancel(c)
			c.cancel(errGone)
		}
		return "cancel"
	case 5:
		if c := r.pick(arg, at(placed)); c != nil {
			c.wantAt = out
			r.m.leave()
			c.command <- "leave"
		}
		return "leave"
	case 6:
		c := Config{Limit: int(arg) % 4, Buffer: int(arg) / 4 % 3, MaxBlocked: int(arg) / 12 % 3, Callers: int(arg)}
		r.g.Resize(c)
		r.m.resize(c)
		return "resize"
	default:
		if arg == 31 {
			r.g.Close()
			r.m.close()
			return "close"
		}
		r.come(t.Context(), arg, true)
		return "enter, gone"
	}
}

func TestGateFollowsModel(t *testing.T) {
	histories, steps := 100, 1000
	if testing.Short() {
		histories = 20
	}
	for seed := range histories {
		r := rand.New(rand.NewPCG(1, uint64(seed)))
		data := make([]byte, steps)
		for i := range data {
			data[i] = byte(r.Uint32())
			if data[i] == 31*8+7 && i < steps-100 {
				data[i] = 0 // a gate closed early is a dull one
			}
		}
		synctest.Test(t, func(t *testing.T) { replay(t, data) })
		if t.Failed() {
			t.Fatalf("seed %d: %q", seed, data)
		}
	}
}

func FuzzGate(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 3, 3, 4, 12, 20})
	f.Add([]byte{1, 0, 0, 8, 8, 8, 16, 2, 2, 2, 2, 3, 3, 4, 12, 20, 3, 5, 5})
	f.Add([]byte{2, 0, 8, 16, 0, 0, 2, 2, 2, 6, 3, 3, 6 + 8*5, 5, 7, 4})
	f.Add([]byte{3, 0, 0, 80, 248, 120, 0, 2, 2, 2, 2, 255, 0, 3, 3, 5})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 300 {
			return
		}
		synctest.Test(t, func(t *testing.T) { replay(t, data) })
	})
}
