package limiter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// The largest values a Config may hold. The sum of limit and buffer has to fit the 20 bits of a count.
const (
	maxLimit   = 65536
	maxBuffer  = 900000
	maxBlocked = 100000
)

var (
	// ErrFull says that every place was taken and, when callers may wait for one, that the line for places was full.
	ErrFull = errors.New("limiter: full")

	// ErrClosed says that the gate was closed before or during the wait.
	ErrClosed = errors.New("limiter: closed")
)

// Config bounds a gate. The zero Config lets nobody in.
type Config struct {
	// Limit is the number of permits: requests in flight at once, 0 to 65536. 0 pauses the gate: nobody gets a
	// permit, those who wait stay.
	Limit int

	// Buffer is the number of places beyond the permits, 0 to 900000: callers that hold a place and wait for a permit.
	Buffer int

	// MaxBlocked is the number of callers beyond Limit+Buffer that may wait for a place, 0 to 100000. 0 drops: they
	// get ErrFull at once.
	MaxBlocked int
}

func (c Config) mustBeInRange() {
	if c.Limit < 0 || c.Limit > maxLimit || c.Buffer < 0 || c.Buffer > maxBuffer || c.MaxBlocked < 0 || c.MaxBlocked > maxBlocked {
		panic(fmt.Sprintf("bug: limiter: %+v, want limit 0 to %d, buffer 0 to %d, max blocked 0 to %d",
			c, maxLimit, maxBuffer, maxBlocked))
	}
}

// Request says for whom a place is asked.
type Request struct {
	// Caller is a number of the gate's user for who asks. All callers stand in one line, oldest first, whoever asks.
	Caller uint32
}

// Sample is what was seen of a request that had a permit. Zero fields mean not known.
type Sample struct {
	Status    int           // HTTP status of the answer
	FirstByte time.Duration // from the permit to the first byte of the answer
	Held      time.Duration // from the permit to Done; the gate's ExpectedWait is made of it
	Bytes     int64         // bytes of the answer's body
}

// Gate admits callers to one provider: at most Limit hold a permit, at most Limit+Buffer hold a place, and at most
// MaxBlocked wait for a place.
//
// It is two lines in a row. A caller takes a place before it buffers its request (so a blocked one holds no memory) and
// turns it into a permit after that:
//
//	MaxBlocked wait ──► places: Limit+Buffer ──► permits: Limit ──► in flight
//
// The line for permits has no bound of its own. Only holders of a place stand in it, and one whose place outlived a
// Resize to fewer must not be refused.
//
// A Gate is made by New, must not be copied, and is safe for concurrent use. Nothing on the way of a request takes a
// lock.
type Gate struct {
	places  line
	permits line

	meanHeld atomic.Int64 // nanoseconds, moving average of Sample.Held; 0: none yet
	_        [56]byte     // every Done may write meanHeld; config is only read

	config   atomic.Pointer[Config]
	resizing sync.Mutex // Resize and Close, one at a time
}

// New makes a gate. It panics when a value of c is out of range. The gate holds no goroutine and no other resource, so
// it needs no Close to be collected.
func New(c Config) *Gate {
	c.mustBeInRange()
	g := &Gate{}
	g.config.Store(&c)
	g.places.init(c.Limit+c.Buffer, c.MaxBlocked)
	g.permits.init(c.Limit, countMax)
	return g
}

// Enter takes a place. When all are taken it waits for one, oldest first, or fails at once if MaxBlocked callers wait
// already. The place must be given back: by Place.Leave, or by Place.Acquire and then Permit.Done.
//
// It returns ErrFull, ErrClosed, or the cause of ctx when ctx ends before a place is free; then nothing is held. A
// place that is free is given without a look at ctx.
func (g *Gate) Enter(ctx context.Context, _ Request) (Place, error) {
	if err := g.places.acquire(ctx); err != nil {
		return Place{}, err
	}
	return Place{gate: g}, nil
}

// TryEnter takes a place if one is free and never waits. ok false means that Enter would wait, or say why it cannot. The
// place must be given back as one of Enter's.
func (g *Gate) TryEnter(_ Request) (place Place, ok bool) {
	if !g.places.try() {
		return Place{}, false
	}
	return Place{gate: g}, true
}

// Acquire is Enter and Place.Acquire in one, for callers that have nothing to do in between. The permit must be given
// back by Permit.Done. It returns the errors of both, and then holds nothing.
func (g *Gate) Acquire(ctx context.Context, r Request) (Permit, error) {
	place, err := g.Enter(ctx, r)
	if err != nil {
		return Permit{}, err
	}
	return place.Acquire(ctx)
}

// Place is the right to stand in the building: to buffer a request and to wait for a permit. It belongs to one
// goroutine at a time and must not be copied once it was used.
type Place struct {
	gate *Gate // nil: given back, or become a permit
}

// Acquire turns the place into a permit, waiting for one if need be: who called Acquire first is served first. The
// permit must be given back by Permit.Done.
//
// It returns ErrClosed, or the cause of ctx when ctx ends before a permit is free; then the place was given back too. A
// permit that is free is given without a look at ctx. Acquire panics when the place is not held any more.
func (pl *Place) Acquire(ctx context.Context) (Permit, error) {
	g := pl.gate
	if g == nil {
		panic("bug: limiter: Acquire on a place that is not held")
	}
	pl.gate = nil
	if err := g.permits.acquire(ctx); err != nil {
		g.places.release()
		return Permit{}, err
	}
	return Permit{gate: g}, nil
}

// Leave gives back a place that never became a permit. It does nothing after Acquire or another Leave, so it may be
// deferred.
func (pl *Place) Leave() {
	g := pl.gate
	if g == nil {
		return
	}
	pl.gate = nil
	g.places.release()
}

// Permit is the right to one request in flight. It belongs to one goroutine at a time and must not be copied once it
// was used.
type Permit struct {
	gate *Gate // nil: given back
}

// Done gives back permit and place and tells the gate what was seen. The permit goes to the caller that has waited
// longest for one. Done panics when the permit is not held any more: a second Done is a bug.
func (p *Permit) Done(s Sample) {
	g := p.gate
	if g == nil {
		panic("bug: limiter: Done on a permit that is not held")
	}
	p.gate = nil
	// The permit first: whoever gets the place then finds the permit that went with it.
	g.permits.release()
	g.places.release()
	if s.Held > 0 {
		g.learn(s.Held)
	}
}

// Resize sets new bounds at once, up or down, and returns after every permit and place that this freed was handed to
// who waited for it. It loses no waiter and evicts nobody: what is held beyond a lower bound is not replaced when it
// is given back, and callers beyond a lower MaxBlocked keep waiting. In flight never exceeds the larger of the old and
// the new Limit. It panics when a value of c is out of range, and does nothing to a closed gate.
func (g *Gate) Resize(c Config) {
	c.mustBeInRange()
	g.resizing.Lock()
	defer g.resizing.Unlock()
	g.config.Store(&c)
	// As in Done, the permit first.
	g.permits.resize(c.Limit, countMax)
	g.places.resize(c.Limit+c.Buffer, c.MaxBlocked)
}

// Close ends the gate for good: every waiter and every newcomer gets ErrClosed, also who holds a place and asks for a
// permit. Places and permits that are out are still given back with Leave and Done. Close does not wait for them; a
// second Close does nothing.
func (g *Gate) Close() {
	g.resizing.Lock()
	defer g.resizing.Unlock()
	g.places.close()
	g.permits.close()
}
