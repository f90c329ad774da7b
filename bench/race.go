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
	under    []*measuring // turns under way; nil: none
}

// race returns an error for what ends all lanes.
func (b *bench) race(ctx context.Context, title string, entrants []entrant, rounds int) ([]lane, error) {
	count := len(entrants)
	r := &race{b, title, entrants, make([]lane, count), make([]*peer, count), make([]*measuring, count)}
	defer r.stop()
	for i, e := range entrants {
		r.lanes[i].name = e.name
		b.shown.say(fmt.Sprintf("%s warm-up, %s", title, e.name))
		if err := r.try(ctx, i, r.warmUp); err != nil {
			return nil, err
		}
	}
	for round := range rounds {
		if err := r.round(ctx, round, fmt.Sprintf("%s round %d of %d", title, round+1, rounds)); err != nil {
			return nil, err
		}
	}
	return r.lanes, nil
}

// round has each entrant take a turn. The first segments of all turns come first, then all second ones; while one runs the
// others' connections stay open and idle.
func (r *race) round(ctx context.Context, round int, title string) error {
	segments := 1
	for _, e := range r.entrants {
		segments = max(segments, e.workload.segments)
	}
	for segment := range segments {
		for i := range r.entrants {
			which := (round + segment + i) % len(r.entrants) // nobody always follows the same neighbour
			show := r.bench.shown.say
			if segment == segments-1 {
				show = r.bench.shown.next
			}
			show(title + ", " + r.entrants[which].name)
			err := r.try(ctx, which, func(ctx context.Context, i int) error { return r.segment(ctx, i, segments, segment == segments-1) })
			if err != nil {
				return err
			}
		}
	}
	return nil
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
	if r.lanes[i].err = err; err != nil {
		r.endTurn(i)
		if r.running[i] != nil {
			r.running[i].stop()
		}
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

// segment is the next of an entrant's turn, which the first opens and the last ends.
func (r *race) segment(ctx context.Context, i, segments int, last bool) (err error) {
	if r.under[i] == nil {
		w := r.entrants[i].workload
		r.under[i], err = r.running[i].startTurn(ctx, w, w.turnTime(r.bench.options.seconds), segments, len(r.entrants)-1)
		if err != nil {
			return err
		}
	}
	m := r.under[i]
	if err := m.next(ctx); err != nil || !last {
		return err
	}
	t, err := m.tell(ctx)
	r.endTurn(i)
	if err == nil {
		r.lanes[i].turns = append(r.lanes[i].turns, t)
	}
	return err
}

// endTurn closes the connections of a turn that is under way.
func (r *race) endTurn(i int) {
	if r.under[i] != nil {
		r.under[i].load.stop()
		r.under[i] = nil
	}
}

func (r *race) stop() {
	for i, p := range r.running {
		r.endTurn(i)
		if p != nil {
			p.stop()
		}
	}
}
