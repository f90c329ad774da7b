package limiter

import "sync/atomic"

// state is all that a gate decides by. The queues behind it only bring n signals to n waiters, and choose to whom.
//
//	now      | gen 3 | closed 1 | place room 21 | aside 1 | permit room 21 | blocked 17 |
//	aside    | version 43 | frozen 1 | waiting 20 |
//	configs  [0][1][2][3][4][5][6][7]     by gen: a resize writes the next one, then makes it valid by its CAS on now
//
//	place room   Limit+Buffer - placed
//	permit room  aside 0: Limit - in flight - waiting, so below 0 it is who waits, and Limit are in flight
//	             aside 1: Limit - in flight; who waits counts in the word aside
//
// A visit that finds both free lowers both rooms by one CAS on now, and Done raises both by one. It is the same step when
// others wait: then a room below 0 rises, one waits less, and the signal goes to that one. Only who waits for a place has a
// field of its own, since a full line must be seen, and places can be fewer than are held.
//
// The word aside is there because 64 bits cannot hold in flight and waiting apart. It is used after a Resize to fewer
// permits than are in flight, until the permits that are too many have come back. Nobody gets a permit meanwhile. Then
// somebody settles: freezes aside, and takes what it counted back into now.
//
// placed and in flight count what is out, grants on their way to a waiter included. blocked and waiting count the live
// waiters for a place and for a permit that have no signal coming: a canceller takes itself out of the count first and
// leaves its cell in the queue second.
//
// Invariants:
//
//	S1   In every value of now: blocked > 0 implies place room <= 0. While somebody waits for a permit, permitFree is false.
//	     So a newcomer that finds one free overtakes nobody.
//	S2   In each line: live waiters in the queue - signals not yet delivered = blocked, or waiting.
//	S3   placed and in flight fall only in leave and release; a hand-over to a waiter leaves them.
//	S5   Each wait ends with exactly one of a signal or a cancelled cell, and the waiter's channel is empty at its end.
//	S12  In flight + waiting <= placed, in every value of now and aside.
//	S13  While the bit is set and the gate open, aside is open, and is frozen at the earliest when now is unsettled. Now
//	     stays unsettled then until it has taken the frozen count and lost the bit. A frozen count changes no more.
//	S14  While one settle runs, at most one Resize changes now.
//
// (S4 is the queue's, S6 to S8 are the segment's, S9 to S11 the turns'.)
//
// Hazards:
//   - Lost wake-up: Done sees no waiter while a waiter sees nothing free. All of it is in one word, so one of the two CASes
//     fails and looks again (S1). Aside, who waits cannot come too late: now is unsettled first, aside frozen after that,
//     and a count that meets the frozen word is taken to now.
//   - Waiters counted twice or not at all: aside is read before now, and the CAS on aside, or a second look at it, says that
//     it was current then. Its version never returns. A wait that counts aside is decided by the CAS on aside alone.
//   - A settler that slept puts an old count into now: its CAS compares the whole of now, so now would have to come back to
//     the same value, unsettled and of the same gen. That takes two Resizes, and the second cannot begin (S14): Resize ends
//     by waiting for who settles.
//   - Grant meets cancel: the canceller takes back its count, then its cell. If a releaser was faster at the cell, the
//     signal was meant for somebody who still counts, and is passed on (S2). The other way round, cell first, would
//     strand the signal of a releaser that had counted on the canceller.
//   - Full of ghosts: full is read from blocked, which counts the living only.
//   - A CAS lost to a neighbour says nothing about full: every loop loads again and decides anew.
//   - Given back twice: a room would rise above its bound. Done and Leave compare with the bounds before they swap.
//   - ABA of now: harmless, the value is the whole state; rooms need no bounds to be decided on. gen makes a resize visible
//     that changes MaxBlocked only; it wraps after 8 of them inside one load-to-CAS window, and one caller is then judged
//     by an older bound. Who needs the bounds, to count or to panic, reads both twice (look).
//
// Memory order: what a holder wrote before Done happens before what the next holder does after Acquire: through the CAS on
// now, or through the queue (cell, then channel) for a hand-over, and if that was settled, through aside and now before it.
// configs[gen] is stored before the CAS that publishes gen, and aside before the CAS that sets the bit. Every shared field
// is an atomic; Go's are sequentially consistent (go.dev/ref/mem).
//
// Progress and bounds: every step of a visit up to its wait, and cancelling, is lock-free, with one exception: a canceller
// whose signal is already on its way waits for the releaser that is between its CAS and its send; while it is not known yet
// whose signal that is (turns), it yields and looks again. Who finds now unsettled settles, whoever made it so. Resize
// waits for settlers, never the other way round. placed is at most the most places ever set, so rooms stay within 20 bits
// and a sign; blocked is at most 100000. Versions are 43 bits, one for each Resize that sets the bit, and do not wrap.
type state struct {
	now atomic.Uint64
	_   [56]byte // every visit writes now; the rest is mostly read

	aside    atomic.Uint64
	settling atomic.Int32 // who is in settle
	configs  [genCount]atomic.Pointer[Config]
}

func (g *state) init(c *Config) {
	g.configs[0].Store(c)
	g.aside.Store(uint64(frozenBit))
	g.now.Store(uint64(makeWord(0, c.places(), c.Limit, 0)))
}

func (g *state) load() word { return word(g.now.Load()) }

func (g *state) swap(from, to word) bool { return g.now.CompareAndSwap(uint64(from), uint64(to)) }

// look returns a word and its bounds. A Config that is the same before and after was that gen's all the time, since the
// next of the same slot is another pointer; and the word was in force in between.
func (g *state) look() (word, *Config) {
	for {
		s := g.load()
		c := g.configs[s.gen()].Load()
		pause()
		if g.load() == s && g.configs[s.gen()].Load() == c {
			return s, c
		}
	}
}
