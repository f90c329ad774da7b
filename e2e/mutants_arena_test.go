//go:build mutants

package e2e

// Mutants of the arena.
var arenaMutants = []mutant{
	{
		name: "no generation: pop takes back what push adds", file: "list.go", test: "TestListRefusesASwapAfterABA",
		from: "(head+generation-freeOne)&^topMask", to: "(head-generation-freeOne)&^topMask",
	},
	{
		name: "no generation, and the hammer meets it", file: "list.go", test: "TestHammerResize", tags: "edgedebug", times: 20,
		from: "(head+generation-freeOne)&^topMask", to: "(head-generation-freeOne)&^topMask",
	},
	{
		name: "push leaves the generation alone", file: "list.go", test: "TestListEveryChangeCounts",
		from: "(head+generation+freeOne)&^topMask", to: "(head+freeOne)&^topMask",
	},
	{
		name: "retire leaves the generation alone", file: "list.go", test: "TestListEveryChangeCounts",
		from: "head + generation | retired", to: "head | retired",
	},
	{
		name: "claim does not look at the turn", file: "list.go", test: "TestSlotIsGivenOnce",
		from: "if uint32(link>>32) != turn {", to: "if false {",
	},
	{
		name: "claim does not end the turn", file: "list.go", test: "TestSlotIsGivenOnce",
		from: "CompareAndSwap(link, uint64(turn+1)<<32|", to: "CompareAndSwap(link, uint64(turn)<<32|",
	},
	{
		name: "claim does not swap the turn but stores it", file: "list.go", test: "TestHammerGiveOfCopies", tags: "edgedebug",
		from: "return head, l.links[slot].CompareAndSwap(link, uint64(turn+1)<<32|head&topMask)",
		to:   "l.links[slot].Store(uint64(turn+1)<<32|head&topMask)\n\treturn head, true",
	},
	{
		name: "after a lost swap the link is not written anew", file: "list.go", test: "TestHammerResize", tags: "edgedebug", times: 20,
		from: "l.links[slot].Store(uint64(turn+1)<<32 | head&topMask)\n", to: "",
	},
	{
		name: "the link is written after the head is swapped", file: "list.go", test: "TestHammerResize", tags: "edgedebug", times: 20,
		from: "if l.head.CompareAndSwap(head, next) {\n\t\t\treturn l.complete(next)\n\t\t}\n\t\thead = l.head.Load()\n" +
			"\t\tl.links[slot].Store(uint64(turn+1)<<32 | head&topMask)\n",
		to: "if l.head.CompareAndSwap(head, next) {\n\t\t\tpause()\n" +
			"\t\t\tl.links[slot].Store(uint64(turn+1)<<32 | head&topMask)\n\t\t\treturn l.complete(next)\n\t\t}\n" +
			"\t\thead = l.head.Load()\n",
	},
	{
		name: "push does not count the free", file: "list.go", test: "TestListLendsEachSlotOnce",
		from: "(head+generation+freeOne)&^topMask", to: "(head+generation)&^topMask",
	},
	{
		name: "a retired slab still lends", file: "list.go", test: "TestListRetiredLendsNothing",
		from: "if top == 0 || head&retired != 0 {", to: "if top == 0 {",
	},
	{
		name: "a list that is complete but serves counts as done with", file: "list.go", test: "TestListRetiredLendsNothing",
		from: "return head&retired != 0 && int", to: "return int",
	},
	{
		name: "a slot of a retired slab is not the last", file: "list.go", test: "TestRetiredSlabGoesWithItsLastSlot",
		from: "return l.complete(next)\n\t\t}\n\t\thead = ", to: "return false\n\t\t}\n\t\thead = ",
	},
	{
		name: "steal answers overflow without looking again", file: "class.go",
		test: "TestHammerNeverOverflowsWhileASlotIsFree", tags: "edgedebug", times: 20,
		from: "if changes(l.serving) == before &&", to: "if changes(l.serving) >= before &&",
	},
	{
		name: "steal does not look for a newer layout", file: "class.go",
		test: "TestHammerTakersSeeTheLatestLayout", tags: "edgedebug", times: 50,
		from: "== before && c.layout.Load() == l {", to: "== before {",
	},
	{
		name: "steal looks at one slab only", file: "class.go", test: "TestTakeStealsBeforeItOverflows",
		from: "for i := range l.serving {", to: "for i := range l.serving[:1] {",
	},
	{
		name: "an overflow is not counted", file: "class.go", test: "TestClassCountsOverflows",
		from: "c.overflows.Add(1)", to: "c.overflows.Add(0)",
	},
	{
		name: "an overflow is not counted back", file: "class.go", test: "TestClassCountsOverflows",
		from: "c.returned.Add(1)", to: "c.returned.Add(0)",
	},
	{
		name: "resize never drops", file: "class.go", test: "TestRepeatedResizeRetainsNoMoreThanTheLargest",
		from: "} else if !s.retire() {", to: "} else if s.retire(); true {",
	},
	{
		name: "resize drops what is out", file: "class.go", test: "TestRetiredSlabGoesWithItsLastSlot",
		from: "} else if !s.retire() {", to: "} else if s.retire(); false {",
	},
	{
		name: "resize takes back no retired slab", file: "class.go", test: "TestRepeatedResizeRetainsNoMoreThanTheLargest",
		from: "if have < slots {\n\t\t\ts.revive()", to: "if have < slots && s.head.Load()&retired == 0 {\n\t\t\ts.revive()",
	},
	{
		name: "resize serves a slab and leaves it retired", file: "class.go", test: "TestHammerResize", tags: "edgedebug", times: 5,
		from: "s.revive()\n\t\t\tnext", to: "next",
	},
	{
		name: "resize adds what is missing, however little", file: "class.go", test: "TestGrowingByOneKeepsSlabsFew",
		from: "least := max(1, slots/slabsAtFirst)", to: "least := 1",
	},
	{
		name: "the last slot of a retired slab drops nothing", file: "class.go", test: "TestRetiredSlabGoesWithItsLastSlot",
		from: "slices.Index(old.retired, s); i >= 0 {", to: "slices.Index(old.retired, s); i > len(old.retired) {",
	},
	{
		name: "drop does not ask whether the slab is still complete", file: "class.go",
		test: "TestLateDropKeepsASlabThatIsOut",
		from: "if !s.complete(s.head.Load()) {", to: "if false {",
	},
	{
		name: "every hint begins at the first slab", file: "class.go", test: "TestHomeReachesEverySlab",
		from: "hint*0x9E3779B9", to: "hint*0",
	},
	{
		name: "a slot is zeroed after it was given", file: "slot.go", test: "TestHammerClass", tags: "edgedebug", times: 20,
		from: "*s = Slot[T]{}\n\tpoison(&loan.slab.mem[loan.slot])\n\tloan.slab.class.ledger.given(loan.trace)\n" +
			"\tif loan.slab.push(loan.slot, loan.turn, head) {",
		to: "loan.slab.class.ledger.given(loan.trace)\n\tlast := loan.slab.push(loan.slot, loan.turn, head)\n\tpause()\n" +
			"\t*s = Slot[T]{}\n\tif last {",
	},
	{
		name: "a slot is poisoned after it was given", file: "slot.go", test: "TestDebugHammerPoison", tags: "edgedebug", times: 5,
		from: "poison(&loan.slab.mem[loan.slot])\n\tloan.slab.class.ledger.given(loan.trace)\n" +
			"\tif loan.slab.push(loan.slot, loan.turn, head) {",
		to: "loan.slab.class.ledger.given(loan.trace)\n\tlast := loan.slab.push(loan.slot, loan.turn, head)\n\tpause()\n" +
			"\tpoison(&loan.slab.mem[loan.slot])\n\tif last {",
	},
	{
		name: "an overflow can be lent again", file: "slot.go", test: "TestClassCountsOverflows",
		from: "s.class, s.mem, s.overflow = c, make([]T, 1), true", to: "s.class, s.mem = c, make([]T, 1)",
	},
}
