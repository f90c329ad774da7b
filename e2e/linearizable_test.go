package e2e

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/edge-proxy/edge/limiter"
)

// These tests ask porcupine whether what goroutines saw of a limiter.Gate can be explained by one step at a time. A gate
// is three objects to its users, so each has a history of its own (linearizability is local): its line of places, its line
// of permits, and the Config that Stats repeats. That the first two are one word is not used.
//
// A call that may wait is two operations over the same time: enter joins the line, and granted, shut or gone (the caller
// gives up) ends the wait. Place.Acquire is these two on the permits, and a release of the place when it fails; Done is
// a release on each line. Gate.Acquire is called as its two halves, whose errors say which line they come from.
//
// Who of those that wait is served first is no part of it: limiter's own tests compare that with a model, step by step.

var (
	operations = flag.Int("operations", 1_000_000, "operations that TestLinearizable checks; with -short 50,000 at most")
	schedule   = flag.Uint64("schedule", 0, "the first seed of TestLinearizable; 0 chooses one")
)

const (
	historyMost  = 200              // operations of one history, over its three objects
	directorMost = 8 * 3            // of these the director's: six in the middle, two at the end
	clientsMost  = 8                // more make a check slow, and a wait shows with two
	stuckAfter   = 10 * time.Second // a history takes a millisecond, and a check mostly less
)

// errHungUp is the cause that contexts are cancelled with.
var errHungUp = errors.New("hung up")

// theater is a gate, and all that plays one history on it.
type theater struct {
	gate    *limiter.Gate
	clock   atomic.Int64 // orders calls and returns
	hangUps []atomic.Pointer[context.CancelCauseFunc]
}

// actor is one goroutine on a theater and what it did and saw.
type actor struct {
	*theater
	number                  int
	rand                    *rand.Rand
	called                  int64
	places, permits, config []porcupine.Operation
	errors                  map[error]uint64
}

func (t *theater) actor(number int, seed uint64) *actor {
	r := rand.New(rand.NewPCG(seed, uint64(number)))
	return &actor{theater: t, number: number, rand: r, errors: map[error]uint64{}}
}

func (a *actor) call() { a.called = a.clock.Add(1) }

// record appends operations that all took from the last call until now.
func (a *actor) record(to *[]porcupine.Operation, ops ...op) {
	now := a.clock.Add(1)
	for _, o := range ops {
		o.client = a.number
		*to = append(*to, porcupine.Operation{ClientId: a.number, Input: o, Call: a.called, Return: now})
	}
}

// recordWait records an Enter or an Acquire by its error, and reports whether something is held now.
func (a *actor) recordWait(to *[]porcupine.Operation, err error) bool {
	ends := granted
	switch {
	case err == nil:
	case errors.Is(err, limiter.ErrClosed):
		ends = shut
	case errors.Is(err, limiter.ErrFull):
		a.errors[limiter.ErrFull]++
		a.record(to, op{kind: full})
		return false
	case errors.Is(err, errHungUp):
		ends = gone
	default:
		panic(err)
	}
	a.errors[err]++
	a.record(to, op{kind: enter, ends: ends}, op{kind: ends})
	return err == nil
}

func (a *actor) recorded() int { return len(a.places) + len(a.permits) + len(a.config) }

// yield lets others run, or not.
func (a *actor) yield() {
	for range max(0, a.rand.IntN(6)-2) {
		runtime.Gosched()
	}
}

// visit plays client for one visit, of six operations at most.
func (a *actor) visit() {
	a.yield()
	ctx := context.Background()
	if a.rand.IntN(4) > 0 {
		cancelable, hangUp := context.WithCancelCause(ctx)
		defer hangUp(nil)
		a.hangUps[a.number].Store(&hangUp)
		if a.rand.IntN(16) == 0 {
			hangUp(errHungUp)
		}
		ctx = cancelable
	}
	var place limiter.Place
	var err error
	request := limiter.Request{Caller: a.rand.Uint32()}
	if a.rand.IntN(5) == 0 {
		var ok bool
		a.call()
		if place, ok = a.gate.TryEnter(request); !ok {
			a.record(&a.places, op{kind: tryFailed})
			return
		}
		a.record(&a.places, op{kind: try})
	} else {
		a.call()
		place, err = a.gate.Enter(ctx, request)
		if !a.recordWait(&a.places, err) {
			return
		}
	}
	a.yield()
	if a.rand.IntN(6) == 0 {
		a.call()
		place.Leave()
		a.record(&a.places, op{kind: release})
		return
	}
	a.call()
	permit, err := place.Acquire(ctx)
	if !a.recordWait(&a.permits, err) {
		a.record(&a.places, op{kind: release})
		return
	}
	a.yield()
	a.call()
	permit.Done(limiter.Sample{})
	a.record(&a.permits, op{kind: release})
	a.record(&a.places, op{kind: release})
}

func (a *actor) look() {
	a.call()
	s := a.gate.Stats()
	a.record(&a.places, op{kind: look, held: s.InFlight + s.Waiting, waiting: s.Blocked})
	a.record(&a.permits, op{kind: look, held: s.InFlight, waiting: unseen})
	a.record(&a.config, op{kind: read, configured: limiter.Config{Limit: s.Limit, Buffer: s.Buffer, MaxBlocked: s.MaxBlocked}})
}

func (a *actor) resize(c limiter.Config) {
	a.call()
	a.gate.Resize(c)
	a.record(&a.permits, op{kind: resize, limit: c.Limit, maxWaiting: clientsMost})
	a.record(&a.places, op{kind: resize, limit: c.Limit + c.Buffer, maxWaiting: c.MaxBlocked})
	a.record(&a.config, op{kind: write, configured: c})
}

func (a *actor) close() {
	a.call()
	a.gate.Close()
	a.record(&a.places, op{kind: closeLine})
	a.record(&a.permits, op{kind: closeLine})
}

// hangUp cancels the visit of somebody.
func (a *actor) hangUp() {
	if hangUp := a.hangUps[a.rand.IntN(len(a.hangUps))].Load(); hangUp != nil {
		(*hangUp)(errHungUp)
	}
}

// direct plays what a gate's owner does, while the clients play, and leaves the gate so that nobody waits for ever.
// closed says that the gate has had its day.
func (a *actor) direct(c limiter.Config, mode mode) (closed bool) {
	for range 6 {
		for range a.rand.IntN(30) {
			runtime.Gosched()
		}
		switch n := a.rand.IntN(96); {
		case n == 0 && !closed:
			closed = true
			a.close()
		case n < 40:
			c = mode.config(a.rand)
			a.resize(c)
		case n < 64:
			a.hangUp()
		default:
			a.look()
		}
	}
	if c.Limit == 0 && !closed {
		c.Limit = 1
		a.resize(c)
	}
	return closed
}

// A mode is a kind of gate.
type mode struct {
	name    string
	blocked int // the most that MaxBlocked may be
	callers int
}

// config chooses one with few of everything, so that much is refused and waited for.
func (m mode) config(r *rand.Rand) limiter.Config {
	return limiter.Config{Limit: max(0, r.IntN(5)-1), Buffer: r.IntN(3), MaxBlocked: r.IntN(m.blocked + 1)}
}

// played is a history of each object of a gate, and the counters of the gate's Stats that went with it.
type played struct {
	histories                []history
	waited, full, gone, shut uint64
	closed                   bool
}

// play lets goroutines loose on a gate at rest. An error says what was wrong with the gate already.
func play(gate *limiter.Gate, mode mode, seed uint64) (played, error) {
	r := rand.New(rand.NewPCG(seed, seed))
	first := mode.config(r)
	gate.Resize(first)
	before := gate.Stats()
	clients := 2 + r.IntN(clientsMost-1)
	t := &theater{gate: gate, hangUps: make([]atomic.Pointer[context.CancelCauseFunc], clients)}
	actors := []*actor{t.actor(clients, seed)}
	director := actors[0]

	var playing sync.WaitGroup
	for i := range clients {
		a := t.actor(i, seed)
		actors = append(actors, a)
		playing.Go(func() {
			const visitMost = 6
			for a.recorded()+visitMost <= (historyMost-directorMost)/clients {
				switch a.rand.IntN(10) {
				case 0:
					a.hangUp()
				case 1:
					a.look()
				default:
					a.visit()
				}
			}
		})
	}
	ended := make(chan bool)
	go func() {
		closed := director.direct(first, mode)
		playing.Wait()
		ended <- closed
	}()
	var p played
	select {
	case p.closed = <-ended:
	case <-time.After(stuckAfter):
		return p, fmt.Errorf("somebody waits for ever: %+v", gate.Stats())
	}
	director.look()
	last := gate.Stats()
	p.waited, p.full = last.Waited-before.Waited, last.Full-before.Full
	p.gone, p.shut = last.Gone-before.Gone, last.Closed-before.Closed
	var places, permits, config []porcupine.Operation
	seen := map[error]uint64{}
	for _, a := range actors {
		places = append(places, a.places...)
		permits = append(permits, a.permits...)
		config = append(config, a.config...)
		for err, n := range a.errors {
			seen[err] += n
		}
	}
	if last.InFlight != 0 || last.Waiting != 0 || last.Blocked != 0 {
		return p, fmt.Errorf("all have left: %+v", last)
	}
	if p.full != seen[limiter.ErrFull] || p.shut != seen[limiter.ErrClosed] || p.gone != seen[errHungUp] {
		return p, fmt.Errorf("from %+v to %+v, but the callers got %v", before, last, seen)
	}
	p.histories = []history{
		{"places", lineModel(first.Limit+first.Buffer, first.MaxBlocked), places},
		{"permits", lineModel(first.Limit, clientsMost), permits},
		{"config", configModel(first), config},
	}
	return p, nil
}

func TestLinearizable(t *testing.T) {
	total := *operations
	if testing.Short() {
		total = min(total, 50_000)
	}
	modes := []mode{
		{name: "drop"},
		{name: "block", blocked: 3},
		{name: "turns", blocked: 3, callers: 3},
	}
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) { checkMany(t, m, int64(total/len(modes)+1)) })
	}
}

// checkMany plays and checks histories, as many at a time as there are processors, until total operations are checked.
func checkMany(t *testing.T, m mode, total int64) {
	var histories, checked atomic.Int64
	var waited, full, gone, shut atomic.Uint64
	var seeds atomic.Uint64
	seeds.Store(cmp.Or(*schedule, rand.Uint64()) - 1)
	start := time.Now()
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			// A gate serves until it is closed, so that its lines go on to further segments of their queues.
			gate := limiter.New(limiter.Config{Callers: m.callers})
			for checked.Load() < total && !t.Failed() {
				seed := seeds.Add(1)
				p, err := play(gate, m, seed)
				for _, h := range p.histories {
					err = cmp.Or(err, h.check())
					checked.Add(int64(len(h.ops)))
				}
				if err != nil {
					t.Errorf("-schedule %d, %s: %v", seed, m.name, err)
				}
				if p.closed {
					gate = limiter.New(limiter.Config{Callers: m.callers})
				}
				histories.Add(1)
				waited.Add(p.waited)
				full.Add(p.full)
				gone.Add(p.gone)
				shut.Add(p.shut)
			}
		})
	}
	workers.Wait()
	t.Logf("%d operations in %d histories, %v; waited %d, full %d, gone %d, closed %d", checked.Load(), histories.Load(),
		time.Since(start).Round(time.Millisecond), waited.Load(), full.Load(), gone.Load(), shut.Load())
	if waited.Load() == 0 || full.Load() == 0 || gone.Load() == 0 || shut.Load() == 0 {
		t.Error("the histories miss a way for a call to end")
	}
}
