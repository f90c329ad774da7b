package limiter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// The largest values a Config may hold. Places have to fit the 20 bits of a count.
const (
	maxLimit   = 65536
	maxPlaces  = maxLimit + 900000
	maxBlocked = 100000
	maxCallers = 1024
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

	// Buffer is the number of places beyond the permits: callers that hold a place and wait for a permit. Limit+Buffer is
	// 0 to 965536.
	Buffer int

	// MaxBlocked is the number of callers beyond Limit+Buffer that may wait for a place, 0 to 100000. 0 drops: they
	// get ErrFull at once.
	MaxBlocked int

	// Callers is how many callers take turns, 0 to 1024; 0 and 1 mean one line for all, oldest first. New fixes it, and
	// Resize does not look at it. A caller costs 16 bytes, and from its first wait on about 430 more in each line.
	Callers int
}

func (c Config) mustBeInRange() {
	out := func(n, most int) bool { return n < 0 || n > most }
	if out(c.Limit, maxLimit) || out(c.Buffer, maxPlaces-c.Limit) || out(c.MaxBlocked, maxBlocked) || out(c.Callers, maxCallers) {
		panic(fmt.Sprintf("bug: limiter: %+v, want limit 0 to %d, limit + buffer to %d, max blocked to %d, callers to %d",
			c, maxLimit, maxPlaces, maxBlocked, maxCallers))
	}
}

func (c *Config) places() int { return c.Limit + c.Buffer }

// Request says for whom a place is asked.
type Request struct {
	// Caller says who asks: a number, or a hash, of the gate's user. Numbers that are equal modulo Config.Callers are
	// one caller. Among those who wait for a place, and again among those who wait for a permit, callers take turns, and
	// one caller's requests are served oldest first. Turns reserve nothing: one caller may fill all places.
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
// A caller takes a place before it buffers its request (so a blocked one holds no memory) and turns it into a permit after
// that:
//
//	MaxBlocked wait ──► places: Limit+Buffer ──► permits: Limit ──► in flight
//
// The line for permits has no bound of its own. Only holders of a place stand in it, and one whose place outlived a
// Resize to fewer must not be refused.
//
// With Config.Callers above 1, each line is served in turns: one request of each caller that waits, then around again.
//
// A Gate is made by New, must not be copied, and is safe for concurrent use. Nothing on the way of a request takes a
// lock. A visit that waits for nothing is two compare-and-swaps on one word: Acquire and Done; with Enter, three.
type Gate struct {
	state

	places, permits line // who waits for one

	meanHeld atomic.Int64 // nanoseconds, moving average of Sample.Held; 0: none yet
	_        [56]byte     // every Done may write meanHeld; config is only read

	config   atomic.Pointer[Config] // as last set, also after Close
	resizing sync.Mutex             // Resize and Close, one at a time
}

// New makes a gate. It panics when a value of c is out of range. The gate holds no goroutine and no other resource, so
// it needs no Close to be collected.
func New(c Config) *Gate {
	c.mustBeInRange()
	g := &Gate{}
	g.config.Store(&c)
	g.init(&c)
	g.places.init(c.Callers, g.uncountBlocked, g.leave)
	g.permits.init(c.Callers, g.uncountWaiting, g.release)
	return g
}

// Enter takes a place. When all are taken it waits for its turn, or fails at once if MaxBlocked callers wait already.
// The place must be given back: by Place.Leave, or by Place.Acquire and then Permit.Done.
//
// It returns ErrFull, ErrClosed, or the cause of ctx when ctx ends before a place is free; then nothing is held. A
// place that is free is given without a look at ctx.
func (g *Gate) Enter(ctx context.Context, r Request) (Place, error) {
	s := g.load()
	if s.placeFree() && g.swap(s, s-onePlace) {
		return Place{gate: g, caller: r.Caller}, nil
	}
	if err := g.enter(ctx, r.Caller); err != nil {
		return Place{}, err
	}
	return Place{gate: g, caller: r.Caller}, nil
}

// TryEnter takes a place if one is free and never waits. ok false means that Enter would wait, or say why it cannot. The
// place must be given back as one of Enter's.
func (g *Gate) TryEnter(r Request) (place Place, ok bool) {
	for {
		s := g.load()
		if !s.placeFree() {
			return Place{}, false
		}
		pause()
		if g.swap(s, s-onePlace) {
			return Place{gate: g, caller: r.Caller}, true
		}
	}
}

// Acquire is Enter and Place.Acquire in one, for callers that have nothing to do in between. The permit must be given
// back by Permit.Done. It returns the errors of both, and then holds nothing.
func (g *Gate) Acquire(ctx context.Context, r Request) (Permit, error) {
	s := g.load()
	if s.placeFree() && s.permitFree() && g.swap(s, s-onePlace-onePermit) {
		return Permit{gate: g}, nil
	}
	if err := g.enterAndAcquire(ctx, r.Caller); err != nil {
		return Permit{}, err
	}
	return Permit{gate: g}, nil
}

// Place is the right to stand in the building: to buffer a request and to wait for a permit. It belongs to one
// goroutine at a time and must not be copied once it was used.
type Place struct {
	gate   *Gate // nil: given back, or become a permit
	caller uint32
}

// Acquire turns the place into a permit, waiting for its turn if need be: of one caller's requests, the one that called
// Acquire first is served first. The permit must be given back by Permit.Done.
//
// It returns ErrClosed, or the cause of ctx when ctx ends before a permit is free; then the place was given back too. A
// permit that is free is given without a look at ctx. Acquire panics when the place is not held any more.
func (pl *Place) Acquire(ctx context.Context) (Permit, error) {
	g := pl.gate
	if g == nil {
		panic("bug: limiter: Acquire on a place that is not held")
	}
	pl.gate = nil
	s := g.load()
	if s.permitFree() && g.swap(s, s-onePermit) {
		return Permit{gate: g}, nil
	}
	if err := g.acquire(ctx, pl.caller); err != nil {
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
	g.leave()
}

// Permit is the right to one request in flight. It belongs to one goroutine at a time and must not be copied once it
// was used.
type Permit struct {
	gate *Gate // nil: given back
}

// Done gives back permit and place and tells the gate what was seen. The permit goes to the waiter
// whose turn it is. Done panics when the permit is not held any more: a second Done is a bug.
func (p *Permit) Done(s Sample) {
	g := p.gate
	if g == nil {
		panic("bug: limiter: Done on a permit that is not held")
	}
	p.gate = nil
	now := g.load()
	if !g.quiet(now) || !g.swap(now, now+onePlace+onePermit) {
		g.done()
	}
	if s.Held > 0 {
		g.learn(s.Held)
	}
}

// Resize sets new bounds at once, up or down, and returns after every permit and place that this freed was handed to
// who waited for it. It loses no waiter and evicts nobody: what is held beyond a lower bound is not replaced when it
// is given back, and callers beyond a lower MaxBlocked keep waiting. In flight never exceeds the larger of the old and
// the new Limit. It panics when a value of c is out of range. A closed gate stays closed; only Stats says the new bounds.
func (g *Gate) Resize(c Config) {
	c.mustBeInRange()
	g.resizing.Lock()
	defer g.resizing.Unlock()
	g.config.Store(&c)
	g.resize(&c)
}

// Close ends the gate for good: every waiter and every newcomer gets ErrClosed, also who holds a place and asks for a
// permit. Places and permits that are out are still given back with Leave and Done. Close does not wait for them; a
// second Close does nothing.
func (g *Gate) Close() {
	g.resizing.Lock()
	defer g.resizing.Unlock()
	g.close()
}
