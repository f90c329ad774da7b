package limiter

// resize makes c the bounds and hands on what became free. One resize or close at a time.
func (g *Gate) resize(c *Config) {
	for {
		s := g.load()
		if s.closed() {
			return
		}
		if s.unsettled() {
			g.settle()
			continue
		}
		old := g.configs[s.gen()].Load()
		gen := (s.gen() + 1) % genCount
		g.configs[gen].Store(c)

		placeRoom := s.placeRoom() + c.places() - old.places()
		placeGrants := min(s.blocked(), max(0, placeRoom))
		permitRoom := s.permitRoom() + c.Limit - old.Limit
		permitGrants, aside := 0, s&asideBit
		if aside == 0 {
			waiting := max(0, -s.permitRoom())
			if _, inFlight := s.counts(old); inFlight > c.Limit {
				permitRoom, aside = c.Limit-inFlight, asideBit
				g.aside.Store(uint64(g.loadAside().next(waiting))) // nobody looks at it before the bit is set
			} else {
				permitGrants = waiting - max(0, -permitRoom)
			}
		}
		pause()
		to := makeWord(gen, placeRoom-placeGrants, permitRoom, s.blocked()-placeGrants) | aside
		if g.swap(s, to) {
			pause()
			g.permits.resume(permitGrants, granted)
			g.places.resume(placeGrants, granted)
			if to.unsettled() {
				g.settle()
			}
			g.awaitSettled()
			return
		}
	}
}

// close refuses everybody from now on and shuts the waiters out. One resize or close at a time.
func (g *Gate) close() {
	for {
		s := g.load()
		if s.closed() {
			return
		}
		if s.unsettled() {
			g.settle()
			continue
		}
		placed, inFlight := s.counts(g.configs[s.gen()].Load())
		pause()
		if g.swap(s, makeWord(s.gen(), -placed, -inFlight, 0)|asideBit|closedBit) {
			pause()
			waiting := max(0, -s.permitRoom())
			if s.aside() {
				waiting = g.freezeAside()
			}
			g.permits.resume(waiting, shut)
			g.places.resume(s.blocked(), shut)
			return
		}
	}
}
