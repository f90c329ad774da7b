package limiter

import (
	"math"
	"time"
)

// meanWeight is one over the share of a new Sample in the mean: the last 16 requests make two thirds of it.
const meanWeight = 16

// Stats is a look at a gate. The first group is its configuration, the second what is held now, the third counts since
// New. The second group is exact, all of it at one moment; of the others each is exact at the moment it was read.
type Stats struct {
	Limit      int // permits, as last configured; stays after Close
	Buffer     int // places beyond the permits, as last configured
	MaxBlocked int // callers that may wait for a place, as last configured

	InFlight int // permits held, one on its way to a waiter included; above Limit for a while after a Resize to less
	Waiting  int // callers that hold a place and no permit: they buffer, or wait for a permit
	Blocked  int // callers that wait for a place

	Waited uint64 // waits that parked; a request that waited for its place and for its permit counts twice
	Full   uint64 // calls that got ErrFull
	Gone   uint64 // calls that got the cause of their context
	Closed uint64 // calls that got ErrClosed
}

// Stats returns the gate's counts. It takes no lock and costs a dozen loads.
func (g *Gate) Stats() Stats {
	s, bounds := g.look()
	placed, inFlight := s.counts(bounds)
	c := g.config.Load()
	return Stats{
		Limit:      c.Limit,
		Buffer:     c.Buffer,
		MaxBlocked: c.MaxBlocked,

		InFlight: inFlight,
		Waiting:  placed - inFlight,
		Blocked:  s.blocked(),

		Waited: g.places.waited.Load() + g.permits.waited.Load(),
		Full:   g.places.full.Load(), // the line for permits is never full
		Gone:   g.places.gone.Load() + g.permits.gone.Load(),
		Closed: g.places.shut.Load() + g.permits.shut.Load(),
	}
}

// ExpectedWait estimates how long a request that came now would wait for its permit:
//
//	(callers before it + 1) × mean of Sample.Held ÷ Limit
//
// as if all stood in one line: with turns, a caller with few requests waits less, and one with many more. It is 0 while
// a place and a permit are free, and while no Sample told how long permits are held. A paused gate counts as one with
// Limit 1, for lack of anything better.
func (g *Gate) ExpectedWait() time.Duration {
	s, bounds := g.look()
	if s.permitFree() && s.placeFree() {
		return 0
	}
	placed, inFlight := s.counts(bounds)
	before := placed - inFlight + s.blocked()
	limit := max(1, g.config.Load().Limit)
	wait := float64(before+1) * float64(g.meanHeld.Load()) / float64(limit)
	return time.Duration(min(wait, math.MaxInt64/2)) // beyond an int64 the conversion is not defined
}

// learn moves the mean towards held, which is above 0. A sample that meets another one at the same moment is dropped:
// under such load there are enough.
func (g *Gate) learn(held time.Duration) {
	mean := g.meanHeld.Load()
	next := int64(held)
	if mean != 0 {
		next = mean + (next-mean)/meanWeight // above 0 again, since both are
	}
	g.meanHeld.CompareAndSwap(mean, next)
}
