package limiter

// A word is a gate's counts in 64 bits, so that one compare-and-swap decides on all of them. Its fields are in the picture
// of state. A room is what a bound leaves: bound minus count. It is below 0 when there are more than the bound.
type word uint64

const (
	blockedBits = 17
	roomBits    = 21
	permitShift = blockedBits
	placeShift  = permitShift + roomBits + 1
	genShift    = placeShift + roomBits + 1
	genCount    = 8

	blockedMask word = 1<<blockedBits - 1
	roomMask    word = 1<<roomBits - 1
	roomZero         = 1 << (roomBits - 1) // is added to a room where it is stored, so that no field borrows from the next

	oneBlocked word = 1
	onePermit  word = 1 << permitShift
	asideBit   word = 1 << (permitShift + roomBits)
	onePlace   word = 1 << placeShift
	closedBit  word = 1 << (placeShift + roomBits)
)

func makeWord(gen, placeRoom, permitRoom, blocked int) word {
	return word(gen)<<genShift | word(placeRoom+roomZero)<<placeShift | word(permitRoom+roomZero)<<permitShift | word(blocked)
}

func (s word) gen() int        { return int(s >> genShift) }
func (s word) closed() bool    { return s&closedBit != 0 }
func (s word) placeRoom() int  { return int(s>>placeShift&roomMask) - roomZero }
func (s word) aside() bool     { return s&asideBit != 0 }
func (s word) permitRoom() int { return int(s>>permitShift&roomMask) - roomZero }
func (s word) blocked() int    { return int(s & blockedMask) }

// placeFree and permitFree say whether a newcomer may take one: it overtakes nobody (S1).
func (s word) placeFree() bool  { return s.placeRoom() > 0 }
func (s word) permitFree() bool { return s.permitRoom() > 0 && !s.aside() }

// unsettled says that as few are in flight as the limit allows, and those who wait for a permit still count aside.
func (s word) unsettled() bool { return s.aside() && s.permitRoom() >= 0 && !s.closed() }

// leave is the word without one place. handOn says that the place is not free but goes to who is blocked.
func (s word) leave() (to word, handOn bool) {
	if s.blocked() > 0 && s.placeRoom() >= 0 {
		return s - oneBlocked, true
	}
	return s + onePlace, false
}

// release is the word without one permit. handOn says that the permit goes to who waits for one: as many are in flight as
// before, and one waits less. While who waits counts aside, that is left to settle.
func (s word) release() (to word, handOn bool) {
	return s + onePermit, s.permitRoom() < 0 && !s.aside()
}

// counts says how many places and permits are held in s, of which c are the bounds.
func (s word) counts(c *Config) (placed, inFlight int) {
	switch {
	case s.closed(): // the bounds are 0
		return -s.placeRoom(), -s.permitRoom()
	case s.aside():
		return c.places() - s.placeRoom(), c.Limit - s.permitRoom()
	default:
		return c.places() - s.placeRoom(), c.Limit - max(0, s.permitRoom())
	}
}
