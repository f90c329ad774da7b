package arena

import "testing"

// freeSlots returns the slots on the list, top first, and fails the test when the words contradict each other.
func (l *list) freeSlots(t *testing.T) []int {
	t.Helper()
	var slots []int
	seen := make([]bool, len(l.links))
	head := l.head.Load()
	for top := head & topMask; top != 0; top = l.links[top-1].Load() & topMask {
		if seen[top-1] {
			t.Fatalf("S1: slot %d is on the list twice", top-1)
		}
		seen[top-1] = true
		slots = append(slots, int(top-1))
	}
	if free := int(head / freeOne & topMask); free != len(slots) {
		t.Fatalf("S2: head counts %d free slots, the list has %d", free, len(slots))
	}
	return slots
}

func (l *list) give(slot, turn uint32) (last bool) {
	head, ok := l.claim(slot, turn)
	if !ok {
		panic("claim failed")
	}
	return l.push(slot, turn, head)
}

func TestListLendsEachSlotOnce(t *testing.T) { // S1, S2, S6
	for _, n := range []int{1, 2, 7, listMax} {
		var l list
		l.fill(n)
		if free := l.freeSlots(t); len(free) != n || free[0] != 0 {
			t.Fatalf("%d slots: a new list has %d", n, len(free))
		}
		lent := make([]bool, n)
		for range n {
			slot, turn, ok := l.pop()
			if !ok || turn != 0 || lent[slot] {
				t.Fatalf("%d slots: got slot %d, turn %d, %v", n, slot, turn, ok)
			}
			lent[slot] = true
		}
		if _, _, ok := l.pop(); ok || l.lent() != n || l.head.Load()&topMask != 0 {
			t.Fatalf("%d slots: not empty after %d pops", n, n)
		}
		for slot := range n {
			l.give(uint32(slot), 0)
		}
		if free := l.freeSlots(t); len(free) != n || free[0] != n-1 {
			t.Fatalf("%d slots: %d came back", n, len(free))
		}
	}
}

func TestListRefusesASwapAfterABA(t *testing.T) { // S3
	var l list
	l.fill(3)
	head := l.head.Load()
	link := l.links[head&topMask-1].Load()
	a, turnA, _ := l.pop()
	b, _, _ := l.pop()
	l.give(a, turnA)
	if now := l.head.Load(); now&topMask != head&topMask || l.links[a].Load()&topMask == uint64(b)+1 {
		t.Fatal("the list did not become the ABA case")
	}
	if l.head.CompareAndSwap(head, (head+generation-freeOne)&^topMask|link&topMask) {
		t.Fatal("a pop that slept through A-B-A lent a slot and lost another")
	}

	// The free count would tell the two heads above apart as well: here it is the same.
	l.fill(3)
	a, turnA, _ = l.pop()
	l.give(a, turnA)
	head = l.head.Load()
	a, turnA, _ = l.pop()
	b, turnB, _ := l.pop()
	c, turnC, _ := l.pop()
	l.give(b, turnB)
	l.give(c, turnC)
	l.give(a, turnA)
	now := l.head.Load()
	if now%generation != head%generation {
		t.Fatal("the list did not become the ABA case")
	}
	if now == head {
		t.Fatal("equal heads for different lists")
	}
}

func TestListEveryChangeCounts(t *testing.T) { // S3, S4
	var l list
	l.fill(2)
	want := l.changes()
	f := func(what string, change func()) {
		t.Helper()
		want++
		if change(); l.changes() != want {
			t.Errorf("%s: generation %d, want %d", what, l.changes(), want)
		}
	}
	var slot, turn uint32
	f("pop", func() { slot, turn, _ = l.pop() })
	f("give", func() { l.give(slot, turn) })
	f("retire", func() { l.retire() })
	f("revive", l.revive)
	want--
	f("revive again", l.revive)
	if _, now, _ := l.pop(); now != turn+1 {
		t.Errorf("turn %d after a give in turn %d", now, turn)
	}
}

func TestListClaimsATurnOnce(t *testing.T) { // S4
	var l list
	l.fill(2)
	slot, turn, _ := l.pop()
	if _, ok := l.claim(slot, turn+1); ok {
		t.Error("a turn that has not begun was claimed")
	}
	l.give(slot, turn)
	if _, ok := l.claim(slot, turn); ok {
		t.Error("claimed again while free")
	}
	again, _, _ := l.pop()
	if _, ok := l.claim(slot, turn); ok || again != slot {
		t.Error("an old turn was claimed while somebody else has the slot")
	}
}

func TestListRetiredLendsNothing(t *testing.T) { // S5
	var l list
	l.fill(3)
	a, turnA, _ := l.pop()
	b, turnB, _ := l.pop()
	if l.retire() {
		t.Fatal("retired and complete with two slots out")
	}
	if _, _, ok := l.pop(); ok {
		t.Fatal("a retired list lent a slot")
	}
	if l.give(b, turnB) || l.retire() {
		t.Fatal("complete with one slot out")
	}
	if !l.give(a, turnA) || !l.retire() {
		t.Fatal("not complete with all slots home")
	}
	if _, _, ok := l.pop(); ok {
		t.Fatal("a complete retired list lent a slot")
	}
	l.revive()
	if got := l.freeSlots(t); len(got) != 3 {
		t.Fatalf("revived with slots %v", got)
	}
	c, turnC, ok := l.pop()
	if !ok || l.give(c, turnC) {
		t.Fatal("a revived list does not lend, or calls itself complete")
	}
}

func TestListCountersWrap(t *testing.T) {
	var l list
	l.fill(2)
	l.head.Store(l.head.Load() | (1<<31-1)*generation)
	l.links[0].Store(l.links[0].Load() | (1<<32-1)<<32)
	slot, turn, ok := l.pop()
	if !ok || slot != 0 || turn != 1<<32-1 || l.changes() != 0 {
		t.Fatalf("got slot %d, turn %d, generation %d", slot, turn, l.changes())
	}
	l.give(slot, turn)
	if _, turn, _ = l.pop(); turn != 0 || len(l.freeSlots(t)) != 1 {
		t.Fatalf("turn %d after the last", turn)
	}
}
