//go:build !edgedebug

package arena

import "testing"

// With -tags edgedebug a loan keeps its taker's stack, which allocates.
func TestTakeGiveAllocatesNothing(t *testing.T) {
	c := NewClass[[16384]byte](20)
	hint := uint32(0)
	if n := testing.AllocsPerRun(1000, func() {
		a, b := c.Take(hint), c.Take(hint)
		a.P()[0], b.P()[1] = 1, 1
		a.Give()
		b.Give()
		hint++
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	slots := takeAll(t, c, 19)
	if n := testing.AllocsPerRun(1000, func() {
		s := c.Take(hint)
		s.Give()
		hint++
	}); n != 0 {
		t.Errorf("%v allocations when stealing", n)
	}
	giveAll(slots)
	if got := c.Stats().Overflows; got != 0 {
		t.Errorf("%d overflows", got)
	}
}
