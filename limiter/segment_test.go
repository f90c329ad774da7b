package limiter

import (
	"sync/atomic"
	"testing"
)

// chain links segments 0 to n-1 whose cells, but for those in alive, are all cancelled.
func chain(n int, alive ...int) []*segment {
	ss := make([]*segment, n)
	for i := range ss {
		ss[i] = &segment{id: uint64(i)}
		ss[i].refs.Store(segmentCells)
		if i > 0 {
			ss[i].prev.Store(ss[i-1])
			ss[i-1].next.Store(ss[i])
		}
	}
	for _, i := range alive {
		ss[i].refs.Store(segmentCells - 1)
	}
	return ss
}

// S6, S8: what died while it was last is unlinked by who appends behind it.
func TestFindUnlinksSegmentThatDiedWhileLast(t *testing.T) {
	ss := chain(2, 0)
	var end atomic.Pointer[segment]
	end.Store(ss[0])
	ss[0].refs.Add(onePointer)
	s := find(&end, ss[0], 2)
	if s.id != 2 || end.Load() != s {
		t.Fatalf("found segment %d, end at %d, want 2, 2", s.id, end.Load().id)
	}
	if ss[0].next.Load() != s || s.prev.Load() != ss[0] {
		t.Error("the dead segment is still linked")
	}
}

// S7: a dead segment stays dead, so an end never comes to point to it.
func TestFindPassesTheDead(t *testing.T) {
	ss := chain(4, 0, 1, 3)
	var end atomic.Pointer[segment]
	end.Store(ss[0])
	ss[0].refs.Add(onePointer)
	if moveForward(&end, ss[2]) || end.Load() != ss[0] || !ss[2].dead() {
		t.Error("an end moved to a dead segment")
	}
	if s := find(&end, ss[0], 2); s != ss[3] || end.Load() != s {
		t.Errorf("found segment %d, want 3", s.id)
	}
	if s := find(&end, ss[0], 1); s != ss[1] || end.Load() != ss[3] {
		t.Errorf("found segment %d, end at %d, want 1 and an end that stays at 3", s.id, end.Load().id)
	}
}

func TestRemoveKeepsThePastCut(t *testing.T) {
	ss := chain(3, 0, 2)
	ss[2].prev.Store(nil) // head is here
	ss[1].remove()
	if ss[2].prev.Load() != nil {
		t.Error("what is behind head is reachable again")
	}
	if ss[0].next.Load() != ss[2] {
		t.Error("the dead segment is still linked")
	}
}

func TestRemoveLinksAcrossADeadRun(t *testing.T) {
	ss := chain(6, 0, 5)
	ss[2].remove()
	if ss[0].next.Load() != ss[5] || ss[5].prev.Load() != ss[0] {
		t.Error("the living at both sides are not neighbours")
	}
}
