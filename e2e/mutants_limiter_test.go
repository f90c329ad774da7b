//go:build mutants

package e2e

// Mutants of the gate.
var limiterMutants = []mutant{
	{
		name: "a lost CAS answers full", file: "step.go", test: "TestHammerExactFull", tags: "gatehammer", times: 100,
		from: "if g.swap(s, s-onePlace) {\n\t\t\t\treturn nil\n\t\t\t}\n",
		to:   "if g.swap(s, s-onePlace) {\n\t\t\t\treturn nil\n\t\t\t}\n\t\t\treturn ErrFull\n",
	},
	{
		name: "a CAS lost on the way to the queue answers full", file: "step.go", test: "TestHammerExactFull", tags: "gatehammer", times: 100,
		from: "return g.places.wait(ctx, caller)\n\t\t\t}",
		to:   "return g.places.wait(ctx, caller)\n\t\t\t}\n\t\t\treturn ErrFull",
	},
	{
		name: "a lost CAS lets TryEnter say no", file: "gate.go", test: "TestHammerExactFull", tags: "gatehammer", times: 100,
		from: "pause()\n\t\tif g.swap(s, s-onePlace) {\n\t\t\treturn Place{gate: g, caller: r.Caller}, true\n\t\t}",
		to:   "pause()\n\t\treturn Place{gate: g, caller: r.Caller}, g.swap(s, s-onePlace)",
	},
	{
		name: "a permit is freed although somebody waits", file: "step.go", test: "TestGateHandsPermitToOldestWaiter",
		from: "s&(asideBit|blockedMask) == 0 && room >= 0 && room < c.Limit", to: "s&(asideBit|blockedMask) == 0 && room < c.Limit",
	},
	{
		name: "a place is freed although somebody is blocked", file: "step.go", test: "TestGateTakesTurnsBetweenCallers",
		from: "s&(asideBit|blockedMask) == 0 && room >= 0", to: "s&asideBit == 0 && room >= 0",
	},
	{
		name: "what is not held can be given back: Done", file: "step.go", test: "TestDoneTwicePanics",
		from: "room >= 0 && room < c.Limit && s.placeRoom() < c.places()", to: "room >= 0 && c != nil",
	},
	{
		name: "what is not held can be given back: Leave", file: "step.go", test: "TestPlaceUsedTwicePanics",
		from: "placed == 0 {", to: "placed == -1 {",
	},
	{
		name: "a permit is handed on although more than limit are held", file: "word.go",
		test: "TestGateResizeDownHandsOnOnlyBelowTheNewLimit",
		from: "s.permitRoom() < 0 && !s.aside()", to: "s.permitRoom() < 0",
	},
	{
		name: "a place is handed on although more than places are held", file: "word.go",
		test: "TestGateResizedToDropServesTheBlocked",
		from: "s.blocked() > 0 && s.placeRoom() >= 0", to: "s.blocked() > 0",
	},
	{
		name: "a resize down looks over what is in flight", file: "resize.go", test: "TestGateCountsAsideWhileTooManyAreInFlight",
		from: "inFlight > c.Limit {", to: "false && inFlight > 0 {",
	},
	{
		name: "a resize up wakes nobody", file: "resize.go", test: "TestGateResizeUpWakesAsManyAsItFrees",
		from: "permitGrants = waiting - max(0, -permitRoom)", to: "permitGrants = 0",
	},
	{
		name: "a resize up lets no blocked caller in", file: "resize.go", test: "TestGateResizeUpWakesAsManyAsItFrees",
		from: "placeGrants := min(s.blocked(), max(0, placeRoom))", to: "placeGrants := 0",
	},
	{
		name: "a resize drops one wake-up", file: "line.go", test: "TestGateOutOfQuotaIsWokenByATimer",
		from: "for range n {", to: "for range n - 1 {",
	},
	{
		name: "a resize forgets how many may wait", file: "resize.go", test: "TestGateFollowsModel",
		from: "g.configs[gen].Store(c)", to: "o := *old; o.Limit, o.Buffer = c.Limit, c.Buffer; g.configs[gen].Store(&o)",
	},
	{
		name: "a resize does not wait for who settles", file: "resize.go", test: "TestResizeWaitsForSettlers",
		from: "g.awaitSettled()", to: "",
	},
	{
		name: "a resize up does not settle", file: "resize.go", test: "TestGateResizedDuringAPauseStaysPaused",
		from: "if to.unsettled() {\n\t\t\t\tg.settle()\n\t\t\t}\n\t\t\tg.awaitSettled()", to: "g.awaitSettled()",
	},
	{
		name: "the last permit too many does not settle", file: "step.go", test: "TestGateCountsAsideWhileTooManyAreInFlight",
		from: "if to.unsettled() {\n\t\tg.settle()\n\t}", to: "",
	},
	{
		name: "who gives up while unsettled does not settle", file: "aside.go", test: "TestUnsettledGateIsSettledByWhoeverComes",
		from: "case s.unsettled():\n\t\t\tg.settle()\n\t\tcase s.aside():", to: "case s.aside():",
	},
	{
		name: "a newcomer while unsettled does not settle", file: "step.go", test: "TestUnsettledGateIsSettledByWhoeverComes",
		from: "case s.unsettled():\n\t\t\tg.settle()\n\t\tcase s.permitFree():", to: "case s.permitFree():",
	},
	{
		name: "a settler drops one wake-up", file: "aside.go", test: "TestHammerAside", tags: "gatehammer", times: 5,
		from: "g.permits.resume(grants, granted)", to: "g.permits.resume(grants-1, granted)",
	},
	{
		name: "versions of the word aside return", file: "aside.go", test: "TestStaleAsideCountsNobody",
		from: "a&^(asideVersion-1) + asideVersion | asideWord(waiting)", to: "asideWord(waiting)",
	},
	{
		name: "a settler does not freeze the word aside", file: "aside.go", test: "TestHammerAside", tags: "gatehammer", times: 5,
		from: "case !a.frozen():\n\t\t\tg.swapAside(a, a|frozenBit)\n", to: "",
	},
	{
		name: "close forgets a waiter", file: "resize.go", test: "TestGateCloseEndsAllWaits",
		from: "g.permits.resume(waiting, shut)", to: "g.permits.resume(waiting-1, shut)",
	},
	{
		name: "close forgets a blocked caller", file: "resize.go", test: "TestGateCloseEndsAllWaits",
		from: "g.places.resume(s.blocked(), shut)", to: "g.places.resume(s.blocked()-1, shut)",
	},
	{
		name: "close forgets who counts aside", file: "resize.go", test: "TestGateClosedWhileTooManyAreInFlight",
		from: "waiting = g.freezeAside()", to: "waiting = 0",
	},
	{
		name: "a cancelled waiter keeps its place: it stays counted", file: "aside.go",
		test: "TestGateCancelledWaitersFreeTheirPlacesAtOnce",
		from: "case g.swap(s, s+onePermit):", to: "case g.swap(s, s):",
	},
	{
		name: "a cancelled waiter keeps its place: it does not leave", file: "step.go",
		test: "TestGateCancelledWaitersFreeTheirPlacesAtOnce",
		from: "if err != nil {\n\t\tg.leave()\n\t}", to: "",
	},
	{
		name: "a cancelled caller stays blocked", file: "step.go", test: "TestGateCancelledWaitersFreeTheirPlacesAtOnce",
		from: "if g.swap(s, s-oneBlocked) {", to: "if g.swap(s, s) {",
	},
	{
		name: "a canceller drops the signal of somebody else", file: "line.go", test: "TestHammerGate", tags: "gatehammer", times: 5,
		from: "l.queue.resume(<-w.ch)", to: "<-w.ch",
	},
	{
		name: "a canceller keeps what it was granted", file: "line.go", test: "TestHammerGate", tags: "gatehammer", times: 5,
		from: "if <-w.ch == granted {\n\t\t\t\tl.giveBack()\n\t\t\t}", to: "<-w.ch",
	},
	{
		name: "a cell is cancelled before the count is taken back", file: "line.go", test: "TestHammerGate", tags: "gatehammer", times: 5,
		from: "func (l *line) giveUp(w *waiter) {\n",
		to: "func (l *line) giveUp(w *waiter) {\n" +
			"if !l.queue.cancel(w) { if <-w.ch == granted { l.giveBack() }; return }\n" +
			"pause()\n" +
			"l.uncount(); return\n}\n\nfunc (l *line) giveUpOriginal(w *waiter) {\n",
	},
	{
		name: "tail is read after the ticket", file: "queue.go", test: "TestHammerGate", tags: "gatehammer", times: 5,
		from: "s := q.tail.Load() // before the ticket\n\tpause()\n\tticket := q.enq.Add(1) - 1",
		to:   "ticket := q.enq.Add(1) - 1\n\tpause()\n\ts := q.tail.Load()",
	},
	{
		name: "head is read after the ticket", file: "queue.go", test: "TestHammerGate", tags: "gatehammer", times: 5,
		from: "s := q.head.Load() // before the ticket\n\t\tpause()\n\t\tticket := q.deq.Add(1) - 1",
		to:   "ticket := q.deq.Add(1) - 1\n\t\tpause()\n\t\ts := q.head.Load()",
	},
	{
		name: "dead segments are not removed", file: "queue.go", test: "TestQueueCollectsDeadSegments",
		from: "if s.refs.Add(1) == segmentCells {", to: "if s.refs.Add(1) > segmentCells {",
	},
	{
		name: "an end of the queue moves to a dead segment", file: "segment.go", test: "TestFindPassesTheDead",
		from: "if refs == segmentCells && s.next.Load() != nil {\n\t\t\treturn false\n\t\t}", to: "",
	},
	{
		name: "who appends does not look behind", file: "segment.go", test: "TestFindUnlinksSegmentThatDiedWhileLast",
		from: "if s.dead() {\n\t\t\t\t\ts.remove()", to: "if false {\n\t\t\t\t\ts.remove()",
	},
	{
		name: "a waiter at rest holds its segment", file: "line.go", test: "TestWaiterForgetsItsSegment",
		from: "w.segment = nil // ", to: "// ",
	},
	{
		name: "turns are not taken", file: "turns.go", test: "TestGateTakesTurnsBetweenCallers",
		from: "uint32((i + 1) % len(t.callers))", to: "from",
	},
	{
		name: "an owed signal is dropped", file: "turns.go", test: "TestTurnsOweSignalUntilItsWaiterComes",
		from: "t.owe(k)\n\tpause()", to: "pause()",
	},
	{
		name: "who comes does not look at what is owed", file: "turns.go", test: "TestTurnsOweSignalUntilItsWaiterComes",
		from: "pause()\n\tt.settle()\n\treturn", to: "pause()\n\treturn",
	},
	{
		name: "who owes does not look at the counts again", file: "turns.go", test: "TestTurnsFindWaiterWhoseBitIsMissing",
		from: "pause()\n\tt.settle()\n}", to: "pause()\n}",
	},
	{
		name: "what is owed is settled by the bits, not the counts", file: "turns.go", test: "TestTurnsFindWaiterWhoseBitIsMissing",
		from: "owed == 0 || !t.anyWaiting()", to: "owed == 0 || t.active[0].Load() == 0",
	},
	{
		name: "a bit is cleared and the count not looked at again", file: "turns.go", test: "TestHammerTurns", tags: "gatehammer", times: 40,
		from: "pause()\n\t\t\tif c.waiting.Load() > 0 {", to: "if false {",
	},
	{
		name: "the second of two first waits has a queue of its own", file: "turns.go", test: "TestHammerFirstWaits", tags: "gatehammer", times: 20,
		from: "return t.callers[i].Load() // another", to: "return c // another",
	},
	{
		name: "turns do not go as far as a new caller", file: "turns.go", test: "TestTurnsOweSignalUntilItsWaiterComes",
		from: "n <= uint32(i) &&", to: "n < uint32(i) &&",
	},
	{
		name: "a cancelled waiter stays counted for its caller", file: "turns.go", test: "TestTurnsCancel",
		from: "if !c.take() {\n\t\treturn false\n\t}", to: "",
	},
	{
		name: "a canceller drops the signal of its caller's other waiter", file: "turns.go", test: "TestHammerGate", tags: "gatehammer", times: 5,
		from: "c.queue.resume(<-w.ch)", to: "<-w.ch",
	},
	{
		name: "a canceller waits for a signal that a newcomer may get", file: "turns.go",
		test: "TestCancelledWaiterDoesNotWaitForANewcomersSignal",
		from: "return len(w.ch) > 0 || t.callers[t.index(w)].Load().waiting.Load() == 0", to: "return true",
	},
	{
		name: "shares are always in force", file: "shares.go", test: "TestSharesHoldWhileSomebodyIsRefused",
		from: "int64(now) < s.pressed.Load() && ", to: "",
	},
	{
		name: "shares are never in force", file: "shares.go", test: "TestSharesHoldWhileSomebodyIsRefused",
		from: "held >= s.share(room, now)", to: "false",
	},
	{
		name: "who was refused is forgotten before it is to come again", file: "shares.go", test: "TestRefusedCallerCountsUntilItIsToComeAgain",
		from: " + min(max(wait, 0), shareWaitMost)", to: "",
	},
	{
		name: "two takes of one caller get the last of its share", file: "shares.go", test: "TestHammerShares", tags: "gatehammer", times: 20,
		from: "if mine.held.CompareAndSwap(held, held+1) {", to: "if mine.held.Add(1) > 0 {",
	},
}
