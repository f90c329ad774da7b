package limiter

import "context"

// The steps of a visit that the short ways in gate.go leave over: somebody waits, something is full, or a CAS was lost.

// enter takes a place, waiting for it if need be. It returns ErrFull, ErrClosed or the cause of ctx.
func (g *Gate) enter(ctx context.Context, caller uint32) error {
	for {
		s := g.load()
		pause()
		switch {
		case s.placeFree():
			if g.swap(s, s-onePlace) {
				return nil
			}
		case s.closed():
			return g.places.errClosed()
		case s.blocked() >= g.configs[s.gen()].Load().MaxBlocked:
			return g.places.errFull()
		case ctx.Err() != nil:
			return g.places.errGone(ctx)
		default:
			if g.swap(s, s+oneBlocked) {
				return g.places.wait(ctx, caller)
			}
		}
	}
}

// acquire takes a permit for who has a place, waiting for it if need be. It returns ErrClosed or the cause of ctx, and
// then has given the place back.
func (g *Gate) acquire(ctx context.Context, caller uint32) error {
	for {
		a := g.loadAside() // before now
		s := g.load()
		pause()
		switch {
		case s.unsettled():
			g.settle()
		case s.permitFree():
			if g.swap(s, s-onePermit) {
				return nil
			}
		case s.closed():
			g.leave()
			return g.permits.errClosed()
		case ctx.Err() != nil:
			g.leave()
			return g.permits.errGone(ctx)
		case s.aside() && g.swapAside(a, a+1), !s.aside() && g.swap(s, s-onePermit):
			return g.waitForPermit(ctx, caller) // counted in one of them
		}
	}
}

// enterAndAcquire is both, and one step when a place is free, whether the permit is or not.
func (g *Gate) enterAndAcquire(ctx context.Context, caller uint32) error {
	for {
		s := g.load()
		pause()
		switch {
		case !s.placeFree() || s.aside() || !s.permitFree() && ctx.Err() != nil:
			if err := g.enter(ctx, caller); err != nil {
				return err
			}
			return g.acquire(ctx, caller)
		case g.swap(s, s-onePlace-onePermit):
			if s.permitFree() {
				return nil
			}
			return g.waitForPermit(ctx, caller)
		}
	}
}

func (g *Gate) waitForPermit(ctx context.Context, caller uint32) error {
	err := g.permits.wait(ctx, caller)
	if err != nil {
		g.leave()
	}
	return err
}

// uncountBlocked takes one who waits for a place out of the count. false: all who are left have a signal coming.
func (g *Gate) uncountBlocked() bool {
	for {
		s := g.load()
		pause()
		if s.blocked() == 0 {
			return false
		}
		if g.swap(s, s-oneBlocked) {
			return true
		}
	}
}

// leave gives a place back, or hands it on. It panics when none is held.
func (g *Gate) leave() {
	for {
		s, c := g.look()
		if placed, _ := s.counts(c); placed == 0 {
			panic("bug: limiter: a place is given back and none is held")
		}
		to, handOn := s.leave()
		if g.swap(s, to) {
			pause()
			if handOn {
				g.places.queue.resume(granted)
			}
			return
		}
	}
}

// release gives a permit back, or hands it on, and keeps the place.
func (g *Gate) release() {
	for {
		s := g.load()
		pause()
		to, handOn := s.release()
		if g.swap(s, to) {
			g.released(to, handOn, false)
			return
		}
	}
}

// quiet says that a permit and a place can be given back to s in one step that concerns nobody else, and that they are
// held. The bounds may be too old; they do not matter to the step, and to what is held only if the caller has a bug.
func (g *Gate) quiet(s word) bool {
	c := g.configs[s.gen()].Load()
	room := s.permitRoom()
	return s&(asideBit|blockedMask) == 0 && room >= 0 && room < c.Limit && s.placeRoom() < c.places()
}

// done gives back a permit and its place, or hands them on. It panics when none are held.
func (g *Gate) done() {
	for {
		s, c := g.look()
		if placed, inFlight := s.counts(c); placed == 0 || inFlight == 0 {
			panic("bug: limiter: a permit is given back and none is held")
		}
		to, permitOn := s.release()
		to, placeOn := to.leave()
		if g.swap(s, to) {
			g.released(to, permitOn, placeOn)
			return
		}
	}
}

// released does what has to follow a permit's return that made the word to.
func (g *Gate) released(to word, permitOn, placeOn bool) {
	pause()
	// The permit first: whoever gets the place then stands behind the one that waited longer.
	if permitOn {
		g.permits.queue.resume(granted)
	}
	if placeOn {
		g.places.queue.resume(granted)
	}
	if to.unsettled() {
		g.settle()
	}
}
