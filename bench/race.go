package main

import (
	"context"
	"fmt"
	"time"
)

// warmUp is how long each peer is loaded before the first round, uncounted: it opens connections, and the heap finds
// its size.
const warmUp = 500 * time.Millisecond

// entrant is a peer that takes part in a race.
type entrant struct {
	name     string
	workload workload
	start    starter
}

// lane is what an entrant did.
type lane struct {
	name  string
	turns []turn // by round
	err   error  // it failed, and took no turn from then on
}

// race has entrants take turns, each with a fresh proxy, so that its peak of memory is this race's. One that fails is
// out, and the others go on.
type race struct {
	bench    *bench
	title    string
	entrants []entrant
	lanes    []lane
	running  []*peer
}

// race returns an error for what ends all lanes.
func (b *bench) race(ctx context.Context, title string, entrants []entrant, rounds int) ([]lane, error) {
	r := &race{b, title, entrants, make([]lane, len(entrants)), make([]*peer, len(entrants))}
	defer r.stop()
	for i, e := range entrants {
		r.lanes[i].name = e.name
		b.shown.say(fmt.Sprintf("%s warm-up, %s", title, e.name))
		if err := r.try(ctx, i, r.warmUp); err != nil {
			return nil, err
		}
	}
	for round := range rounds {
		for i := range entrants {
			which := (round + i) % len(entrants) // nobody always follows the same neighbour
			b.shown.next(fmt.Sprintf("%s round %d of %d, %s", title, round+1, rounds, entrants[which].name))
			if err := r.try(ctx, which, r.turn); err != nil {
				return nil, err
			}
		}
	}
	return r.lanes, nil
}

// try does something with an entrant that has not failed, and returns an error only if ctx has ended.
func (r *race) try(ctx context.Context, i int, do func(context.Context, int) error) error {
	if r.lanes[i].err != nil {
		return nil
	}
	err := do(ctx, i)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if r.lanes[i].err = err; err != nil && r.running[i] != nil {
		r.running[i].stop()
	}
	return nil
}

// warmUp starts the entrant, and an upstream for it alone: the connections that idle peers keep to theirs would be too
// many for one.
func (r *race) warmUp(ctx context.Context, i int) (err error) {
	e := r.entrants[i]
	upstream, at, err := startSelf(ctx, upstreamCommand)
	if err != nil {
		return err
	}
	site := *r.bench.site
	site.upstream = at.Serving
	if r.running[i], err = e.start(ctx, &site, e.workload); err != nil {
		upstream.stop()
		return fmt.Errorf("start: %w", err)
	}
	r.running[i].upstream = upstream
	if _, err = r.running[i].turn(ctx, e.workload, warmUp); err != nil {
		return fmt.Errorf("warm-up: %w", err)
	}
	return nil
}

func (r *race) turn(ctx context.Context, i int) error {
	e := r.entrants[i]
	t, err := r.running[i].turn(ctx, e.workload, e.workload.turnTime(r.bench.options.seconds))
	if err == nil {
		r.lanes[i].turns = append(r.lanes[i].turns, t)
	}
	return err
}

func (r *race) stop() {
	for _, p := range r.running {
		if p != nil {
			p.stop()
		}
	}
}
