//go:build edgedebug

package arena

import (
	"bytes"
	"strings"
	"sync"
	"testing"
)

// firstTaker is a function of its own so that the stacks name it.
//
//go:noinline
func firstTaker[T any](c *Class[T]) Slot[T] { return c.Take(1) }

func TestDebugPoisonsBytes(t *testing.T) {
	c := NewClass[[300]byte](1)
	for range 2 { // from a slab, then from the heap
		slot := firstTaker(c)
		p := slot.P()
		if slot.slab.overflow != (c.Stats().OverflowsInUse == 1) {
			t.Fatal("books do not balance")
		}
		slot.Give()
		for i, b := range p {
			if b != 0xDB {
				t.Fatalf("byte %d of a given slot is %#x", i, b)
			}
		}
		c.Take(1) // never given: the next comes from the heap
	}

	records := NewClass[nested](1)
	slot := records.Take(0)
	p := slot.P()
	p.n = 5
	slot.Give()
	if p.n != 5 {
		t.Error("a typed record was poisoned")
	}
}

// Poison must not reach the next holder.
func TestDebugHammerPoison(t *testing.T) {
	c := NewClass[block](2)
	var all sync.WaitGroup
	for g := range byte(4) {
		all.Go(func() {
			for range 5000 {
				slot := c.Take(uint32(g))
				p := slot.P()
				for i := range p {
					p[i] = g
				}
				if bytes.Count(p[:], []byte{g}) != len(p) {
					t.Errorf("holder %d finds %x", g, *p)
				}
				slot.Give()
			}
		})
	}
	all.Wait()
	if got := c.Stats(); got.InUse != 0 || got.OverflowsInUse != 0 || len(c.Leaks()) != 0 {
		t.Errorf("got %+v and %d leaks", got, len(c.Leaks()))
	}
}

func TestDebugDoubleGiveNamesTheFirstTaker(t *testing.T) {
	c := NewClass[block](1)
	slot := firstTaker(c)
	copied := slot
	slot.Give()
	f := func() {
		t.Helper()
		stale := copied
		text := wantPanic(t, stale.Give)
		if !strings.Contains(text, "given twice") || !strings.Contains(text, "arena.firstTaker") ||
			!strings.Contains(text, "debug_test.go:") {
			t.Errorf("the first taker is not in %s", text)
		}
	}
	f()
	other := c.Take(0)
	f()
	other.Give()
}

func TestDebugLeaks(t *testing.T) {
	c := NewClass[block](1)
	if got := c.Leaks(); len(got) != 0 {
		t.Fatalf("a new class leaks %q", got)
	}
	slot, overflow := firstTaker(c), firstTaker(c)
	got := c.Leaks()
	if len(got) != 2 {
		t.Fatalf("got %d leaks, want a slot and an overflow", len(got))
	}
	for _, text := range got {
		if lines := strings.Split(text, "\n"); !strings.Contains(lines[1], "arena.firstTaker") {
			t.Errorf("the innermost call is not the taker: %s", text)
		}
	}
	overflow.Give()
	slot.Give()
	if got := c.Leaks(); len(got) != 0 {
		t.Errorf("with everything home: %q", got)
	}
}
