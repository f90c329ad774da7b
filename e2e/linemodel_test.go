package e2e

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/anishathalye/porcupine"

	"github.com/edge-proxy/edge/limiter"
)

// An opKind is what was done to an object, and what was answered.
type opKind uint8

const (
	enter opKind = iota // the first half of a wait
	granted
	shut
	gone
	full
	try
	tryFailed
	release
	resize
	closeLine
	look
	write // of the Config
	read
)

// op is the input of an operation, its answer included.
type op struct {
	kind   opKind
	client int
	ends   opKind // of enter: granted, shut or gone, as the wait ends

	limit, maxWaiting int // of resize
	held              int // of look
	waiting           int // of look, or unseen
	configured        limiter.Config
}

const unseen = -1

// lineState is a line as its users know it. waiting counts those that no signal is on its way to.
type lineState struct {
	limit, maxWaiting int
	held, waiting     int
	granted, shut     int    // signals that did not end a wait yet
	settled           uint32 // bits of clients in the line's door that need no signal: enter decided for them
	queued            uint32 // bits of clients that need one
	closed            bool
}

// lineModel is a line of limiter in plain steps, beginning empty.
func lineModel(limit, maxWaiting int) porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{lineState{limit: limit, maxWaiting: maxWaiting}} },
		Step: func(state, input, _ any) []any {
			o := input.(op)
			s := state.(lineState)
			if o.kind == gone {
				return s.giveUp(uint32(1) << o.client)
			}
			if !s.step(o) {
				return nil
			}
			return []any{s}
		},
		DescribeOperation: func(input, _ any) string { return fmt.Sprintf("%+v", input) },
		DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
	}
	return m.ToModel()
}

// step does o, or reports that o cannot happen in this state.
func (s *lineState) step(o op) bool {
	client := uint32(1) << o.client
	switch o.kind {
	case enter:
		return s.enter(client, o.ends)
	case granted:
		return s.end(client, &s.granted)
	case shut:
		return s.end(client, &s.shut)
	case full:
		return s.held >= s.limit && !s.closed && s.waiting >= s.maxWaiting
	case try:
		s.held++
		return s.held <= s.limit
	case tryFailed:
		return s.held >= s.limit
	case release:
		return s.release()
	case resize:
		if !s.closed {
			grants := min(s.waiting, max(0, o.limit-s.held))
			s.limit, s.maxWaiting = o.limit, o.maxWaiting
			s.held += grants
			s.waiting -= grants
			s.granted += grants
		}
		return true
	case closeLine:
		s.closed, s.limit = true, 0
		s.shut += s.waiting
		s.waiting = 0
		return true
	case look:
		return o.held == s.held && (o.waiting == unseen || o.waiting == s.waiting)
	default:
		panic(fmt.Sprintf("bug: operation %d on a line", o.kind))
	}
}

// enter needs to know how the wait ends only to say no sooner.
func (s *lineState) enter(client uint32, ends opKind) bool {
	switch {
	case s.held < s.limit:
		s.held++
		s.settled |= client
		return ends == granted
	case s.closed:
		s.settled |= client
		return ends == shut
	case s.waiting < s.maxWaiting:
		// Also who is gone before it waits: it enters and gives up in one go.
		s.waiting++
		s.queued |= client
		return true
	default:
		return false
	}
}

func (s *lineState) end(client uint32, signals *int) bool {
	switch {
	case s.settled&client != 0:
		s.settled &^= client
		return true
	case s.queued&client != 0 && *signals > 0:
		s.queued &^= client
		*signals--
		return true
	default:
		return false
	}
}

func (s *lineState) release() bool {
	switch {
	case s.waiting > 0 && s.held <= s.limit:
		s.waiting--
		s.granted++
	case s.held > 0:
		s.held--
	default:
		return false
	}
	return true
}

// giveUp returns the states that a waiter may leave behind: it takes back its count, or takes a signal that is on its way
// and passes that on.
func (s lineState) giveUp(client uint32) (next []any) {
	if s.queued&client == 0 {
		return nil
	}
	s.queued &^= client
	if s.waiting > 0 {
		to := s
		to.waiting--
		next = append(next, to)
	}
	if s.granted > 0 {
		to := s
		to.granted--
		to.release() // held is above 0: what was granted is
		next = append(next, to)
	}
	if s.shut > 0 {
		to := s
		to.shut--
		next = append(next, to)
	}
	return next
}

// configModel is a register.
func configModel(c limiter.Config) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return c },
		Step: func(state, input, _ any) (bool, any) {
			if o := input.(op); o.kind == write {
				return true, o.configured
			} else {
				return o.configured == state, state
			}
		},
		DescribeOperation: func(input, _ any) string { return fmt.Sprintf("%+v", input) },
		DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
	}
}

// errIllegal says that no order of the operations explains a history.
var errIllegal = errors.New("not linearizable")

// history is what was seen of one object.
type history struct {
	object string
	model  porcupine.Model
	ops    []porcupine.Operation
}

// check returns an error unless the history is linearizable; it says where the picture of one that is not lies.
func (h history) check() error {
	switch porcupine.CheckOperationsTimeout(h.model, h.ops, stuckAfter) {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return fmt.Errorf("%s: undecided after %v", h.object, stuckAfter)
	}
	f, err := os.CreateTemp("", "linearizable-*.html")
	if err != nil {
		return fmt.Errorf("%s: %w, and no picture of it: %w", h.object, errIllegal, err)
	}
	defer f.Close()
	_, info := porcupine.CheckOperationsVerbose(h.model, h.ops, stuckAfter)
	if err := porcupine.Visualize(h.model, info, f); err != nil {
		return fmt.Errorf("%s: %w, and no picture of it: %w", h.object, errIllegal, err)
	}
	return fmt.Errorf("%s: %w, see %s", h.object, errIllegal, f.Name())
}

// timed is an operation and when it was called and returned.
type timed struct {
	from, to int64
	op       op
}

// waited is both halves of a wait.
func waited(client int, from, to int64, ends opKind) []timed {
	return []timed{{from, to, op{kind: enter, client: client, ends: ends}}, {from, to, op{kind: ends, client: client}}}
}

func did(client int, from, to int64, kind opKind) []timed {
	return []timed{{from, to, op{kind: kind, client: client}}}
}

func resized(from, to int64, limit, maxWaiting int) []timed {
	return []timed{{from, to, op{kind: resize, limit: limit, maxWaiting: maxWaiting}}}
}

func saw(from, to int64, held, waiting int) []timed {
	return []timed{{from, to, op{kind: look, held: held, waiting: waiting}}}
}

// TestLineModel shows that the model refuses what a line must not do: each history is legal with one ending and illegal
// with another.
func TestLineModel(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // for the pictures
	cases := []struct {
		name              string
		limit, maxWaiting int
		begin             [][]timed
		legal, illegal    []timed
	}{
		{
			name: "full while one is free", limit: 2,
			begin: [][]timed{waited(0, 1, 2, granted), waited(1, 3, 6, granted)},
			legal: did(2, 4, 5, full), illegal: did(2, 1, 2, full),
		},
		{
			name: "full because of a ghost", limit: 1, maxWaiting: 1,
			begin: [][]timed{waited(0, 1, 2, granted), waited(1, 3, 6, gone)},
			legal: did(2, 4, 7, full), illegal: did(2, 7, 8, full),
		},
		{
			name: "two hold the only one", limit: 1, maxWaiting: 1,
			begin: [][]timed{waited(0, 1, 2, granted), waited(1, 3, 6, granted)},
			legal: did(0, 4, 5, release), illegal: saw(4, 5, 1, 0),
		},
		{
			name: "more held than the limit", limit: 1,
			begin: [][]timed{waited(0, 1, 2, granted)},
			legal: did(2, 3, 4, tryFailed), illegal: did(2, 3, 4, try),
		},
		{
			name: "somebody passes a waiter", limit: 1, maxWaiting: 1,
			begin: [][]timed{
				waited(0, 1, 2, granted), waited(1, 3, 20, granted), saw(4, 5, 1, 1), did(0, 6, 7, release),
			},
			legal: did(2, 8, 9, tryFailed), illegal: did(2, 8, 9, try),
		},
		{
			name: "one release ends two waits", limit: 1, maxWaiting: 2,
			begin: [][]timed{
				waited(0, 1, 2, granted), waited(1, 3, 10, granted), waited(2, 4, 20, granted), saw(5, 6, 1, 2),
				did(0, 7, 8, release),
			},
			legal: did(1, 11, 12, release), illegal: saw(11, 12, 1, 0),
		},
		{
			name: "a release wakes nobody", limit: 1, maxWaiting: 1,
			begin: [][]timed{
				waited(0, 1, 2, granted), waited(1, 3, 20, granted), saw(4, 5, 1, 1), did(0, 6, 7, release),
			},
			legal: saw(8, 9, 1, 0), illegal: saw(8, 9, 0, 1),
		},
		{
			name: "who gave up left a permit out", limit: 1, maxWaiting: 1,
			begin: [][]timed{waited(0, 1, 2, granted), waited(1, 3, 6, gone), did(0, 4, 5, release)},
			legal: saw(7, 8, 0, 0), illegal: saw(7, 8, 1, 0),
		},
		{
			name: "who gave up still counts", limit: 1, maxWaiting: 2,
			begin: [][]timed{waited(0, 1, 2, granted), waited(1, 3, 4, gone)},
			legal: saw(5, 6, 1, 0), illegal: saw(5, 6, 1, 1),
		},
		{
			name: "given up without a wait", limit: 1, maxWaiting: 1,
			begin: [][]timed{waited(0, 1, 4, granted)},
			legal: waited(1, 2, 3, gone), illegal: waited(1, 5, 6, shut),
		},
		{
			name: "a resize wakes nobody", limit: 1, maxWaiting: 1,
			begin: [][]timed{
				waited(0, 1, 2, granted), waited(1, 3, 20, granted), saw(4, 5, 1, 1), resized(6, 7, 2, 1),
			},
			legal: saw(8, 9, 2, 0), illegal: saw(8, 9, 1, 1),
		},
		{
			name: "handed over above a lower limit", limit: 2, maxWaiting: 1,
			begin: [][]timed{
				waited(0, 1, 2, granted), waited(1, 3, 4, granted), resized(5, 6, 1, 1), waited(2, 7, 20, gone),
				saw(8, 9, 2, 1), did(0, 10, 11, release),
			},
			legal: saw(12, 13, 1, 1), illegal: saw(12, 13, 2, 0),
		},
		{
			name: "admitted after close", limit: 1,
			begin: [][]timed{did(0, 1, 2, closeLine)},
			legal: waited(1, 3, 4, shut), illegal: waited(1, 3, 4, granted),
		},
		{
			name: "full after close", limit: 1,
			begin: [][]timed{waited(0, 1, 2, granted), did(1, 3, 6, closeLine)},
			legal: did(2, 4, 5, full), illegal: did(2, 7, 8, full),
		},
		{
			name: "given back twice", limit: 1,
			begin: [][]timed{waited(0, 1, 2, granted), did(0, 3, 4, release)},
			legal: saw(5, 6, 0, 0), illegal: did(0, 5, 6, release),
		},
	}
	for _, c := range cases {
		check := func(end []timed) error {
			h := history{object: c.name, model: lineModel(c.limit, c.maxWaiting)}
			for _, o := range slices.Concat(slices.Concat(c.begin...), end) {
				h.ops = append(h.ops, porcupine.Operation{ClientId: o.op.client, Input: o.op, Call: o.from, Return: o.to})
			}
			return h.check()
		}
		if err := check(c.legal); err != nil {
			t.Errorf("%s, with the legal ending: %v", c.name, err)
		}
		if err := check(c.illegal); !errors.Is(err, errIllegal) {
			t.Errorf("%s: %v, want %v", c.name, err, errIllegal)
		}
	}
	pictures, err := os.ReadDir(os.TempDir())
	if err != nil || len(pictures) != len(cases) {
		t.Errorf("%d pictures, want %d (%v)", len(pictures), len(cases), err)
	}
}
