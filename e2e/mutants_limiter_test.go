//go:build mutants

package e2e

// Mutants of the gate.
var limiterMutants = []mutant{
	{
		name: "a lost CAS answers full", file: "line.go", test: "TestHammerExactFull", tags: "gatehammer", times: 100,
		from: "if l.swap(s, s+heldOne) {\n\t\t\t\treturn nil\n\t\t\t}\n\t\tcase",
		to:   "if l.swap(s, s+heldOne) {\n\t\t\t\treturn nil\n\t\t\t}\n\t\t\treturn ErrFull\n\t\tcase",
	},
	{
		name: "a CAS lost on the way to the queue answers full", file: "line.go", test: "TestHammerExactFull", tags: "gatehammer", times: 100,
		from: "return l.wait(ctx, caller)\n\t\t\t}",
		to:   "return l.wait(ctx, caller)\n\t\t\t}\n\t\t\treturn ErrFull",
	},
	{
		name: "a lost CAS lets TryEnter say no", file: "line.go", test: "TestHammerExactFull", tags: "gatehammer", times: 100,
		from: "pause()\n\t\tif l.swap(s, s+heldOne) {\n\t\t\treturn true\n\t\t}",
		to:   "pause()\n\t\treturn l.swap(s, s+heldOne)",
	},
	{
		name: "a permit is freed although somebody waits", file: "line.go", test: "TestGateHandsPermitToOldestWaiter",
		from: "if s.waiting() == 0 && s.held() != 0 && l.swap(s, s-heldOne) {",
		to:   "if s.held() != 0 && l.swap(s, s-heldOne) {",
	},
	{
		name: "what is not held can be given back", file: "line.go", test: "TestDoneTwicePanics",
		from: "if s.waiting() == 0 && s.held() != 0 && l.swap(s, s-heldOne) {",
		to:   "if s.waiting() == 0 && l.swap(s, s-heldOne) {",
	},
	{
		name: "a permit is handed on although more than limit are held", file: "line.go",
		test: "TestGateResizeDownHandsOnOnlyBelowTheNewLimit",
		from: "case s.waiting() > 0 && s.held() <= s.limit():", to: "case s.waiting() > 0:",
	},
	{
		name: "a resize up wakes nobody", file: "line.go", test: "TestGateResizeUpWakesAsManyAsItFrees",
		from: "grants := min(s.waiting(), max(0, limit-s.held()))", to: "grants := 0",
	},
	{
		name: "a resize drops one wake-up", file: "line.go", test: "TestGateOutOfQuotaIsWokenByATimer",
		from: "for range grants {", to: "for range grants - 1 {",
	},
	{
		name: "a resize forgets how many may wait", file: "line.go", test: "TestGateFollowsModel",
		from: "l.maxWaiting[gen].Store(uint32(maxWaiting))", to: "",
	},
	{
		name: "close forgets a waiter", file: "line.go", test: "TestGateCloseEndsAllWaits",
		from: "for range s.waiting() {", to: "for range s.waiting() - 1 {",
	},
	{
		name: "a cancelled waiter keeps its place: it stays counted", file: "line.go",
		test: "TestGateCancelledWaitersFreeTheirPlacesAtOnce",
		from: "if l.swap(s, s-waitOne) {\n\t\t\tbreak", to: "if l.swap(s, s) {\n\t\t\tbreak",
	},
	{
		name: "a cancelled waiter keeps its place: it does not leave", file: "gate.go",
		test: "TestGateCancelledWaitersFreeTheirPlacesAtOnce",
		from: "g.places.release()\n\t\treturn Permit{}, err", to: "return Permit{}, err",
	},
	{
		name: "a canceller drops the signal of somebody else", file: "line.go", test: "TestHammerGate", tags: "gatehammer", times: 5,
		from: "l.queue.resume(<-w.ch)", to: "<-w.ch",
	},
	{
		name: "a canceller keeps what it was granted", file: "line.go", test: "TestHammerGate", tags: "gatehammer", times: 5,
		from: "if <-w.ch == granted {\n\t\t\t\tl.release()\n\t\t\t}", to: "<-w.ch",
	},
	{
		name: "a cell is cancelled before the count is taken back", file: "line.go", test: "TestHammerGate", tags: "gatehammer", times: 5,
		from: "func (l *line) giveUp(w *waiter) {\n",
		to: "func (l *line) giveUp(w *waiter) {\n" +
			"if !l.queue.cancel(w) { if <-w.ch == granted { l.release() }; return }\n" +
			"pause()\n" +
			"for { s := l.load(); if s.waiting() == 0 || l.swap(s, s-waitOne) { return } }\n",
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
		from: "uint32((i+1)%len(t.callers))", to: "from",
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
		name: "a bit is cleared and the count not looked at again", file: "turns.go", test: "TestHammerTurns", tags: "gatehammer", times: 5,
		from: "pause()\n\t\t\tif t.callers[i].waiting.Load() > 0 {", to: "if false {",
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
		from: "return len(w.ch) > 0 || t.callers[t.index(w)].waiting.Load() == 0", to: "return true",
	},
}
