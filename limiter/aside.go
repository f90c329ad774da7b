package limiter

import "runtime"

// An asideWord counts who waits for a permit while the state's word cannot. See state.
type asideWord uint64

const (
	asideCountMask asideWord = 1<<20 - 1
	frozenBit      asideWord = 1 << 20
	asideVersion   asideWord = 1 << 21
)

func (a asideWord) waiting() int { return int(a & asideCountMask) }
func (a asideWord) frozen() bool { return a&frozenBit != 0 }

// next is the open word of the next version.
func (a asideWord) next(waiting int) asideWord {
	return a&^(asideVersion-1) + asideVersion | asideWord(waiting)
}

func (g *state) loadAside() asideWord { return asideWord(g.aside.Load()) }

func (g *state) swapAside(from, to asideWord) bool {
	return g.aside.CompareAndSwap(uint64(from), uint64(to))
}

// uncountWaiting takes one who waits for a permit out of the count. false: all who are left have a signal coming.
func (g *Gate) uncountWaiting() bool {
	for {
		a := g.loadAside() // before now
		s := g.load()
		pause()
		switch {
		case s.closed():
			return false
		case s.unsettled():
			g.settle()
		case s.aside():
			if a.waiting() == 0 && g.loadAside() == a {
				return false
			}
			if a.waiting() > 0 && g.swapAside(a, a-1) {
				return true
			}
		case s.permitRoom() >= 0:
			return false
		case g.swap(s, s+onePermit):
			return true
		}
	}
}

// settle takes those who count aside back into now, once no more are in flight than the limit allows, and hands on what is
// free. It does nothing when now is settled.
func (g *Gate) settle() {
	g.settling.Add(1)
	defer g.settling.Add(-1)
	for {
		a := g.loadAside() // before now
		s := g.load()
		pause()
		switch {
		case !s.unsettled():
			return
		case !a.frozen():
			g.swapAside(a, a|frozenBit)
		case g.loadAside() == a: // so it was in force when s was
			pause()
			grants := min(a.waiting(), s.permitRoom())
			if g.swap(s, s&^asideBit-word(a.waiting())*onePermit) {
				pause()
				g.permits.resume(grants, granted)
				return
			}
		}
	}
}

// freezeAside returns how many count aside, for good.
func (g *state) freezeAside() int {
	for {
		a := g.loadAside()
		pause()
		if a.frozen() || g.swapAside(a, a|frozenBit) {
			return a.waiting()
		}
	}
}

// awaitSettled returns when nobody is in settle that was there at the call.
func (g *state) awaitSettled() {
	for g.settling.Load() != 0 {
		runtime.Gosched()
	}
}
