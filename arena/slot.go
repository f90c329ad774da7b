package arena

import (
	"fmt"
	"sync/atomic"
)

// Slot is the loan of one T: whoever took it gives it back. The zero Slot holds nothing.
//
// It is a value of 16 bytes. It may be copied and handed to another goroutine, but of all copies exactly one is
// given. Not safe for concurrent use, like any variable.
type Slot[T any] struct {
	slab  *slab[T]
	trace trace // who took it, with -tags edgedebug; nothing otherwise
	slot  uint32
	turn  uint32
}

// P points to the content, nil for the zero Slot. The content is what the last holder left: the caller resets what it
// reads. A pointer kept beyond Give is valid memory that belongs to somebody else.
func (s Slot[T]) P() *T {
	if s.slab == nil {
		return nil
	}
	return &s.slab.mem[s.slot]
}

// Give gives the slot back and zeroes *s, which may lie inside the slot. It panics with "bug:" when *s holds nothing or
// when this loan was given before, through s or a copy, whoever has the slot now.
//
// It allocates nothing and takes no lock, except for the last slot that comes home to a slab retired by Resize.
func (s *Slot[T]) Give() {
	loan := *s
	if loan.slab == nil {
		panic("bug: arena: give of a slot that holds nothing")
	}
	head, ok := loan.slab.claim(loan.slot, loan.turn)
	if !ok {
		panic(fmt.Sprintf("bug: arena: slot %d given twice in turn %d; %s", loan.slot, loan.turn, loan.trace))
	}
	// All writes to the slot come before push: after it the next holder may have it, with *s if that lies inside.
	*s = Slot[T]{}
	poison(&loan.slab.mem[loan.slot])
	loan.slab.class.ledger.given(loan.trace)
	if loan.slab.push(loan.slot, loan.turn, head) {
		loan.slab.class.drop(loan.slab)
	}
}

// slab is one block of equal slots with the list of the free ones. A slot leads to its slab, never to an index in the
// class, so a slab lives exactly as long as the class or a slot needs it.
type slab[T any] struct {
	list
	class    *Class[T]
	mem      []T // one allocation, which the collector does not scan when T has no pointers
	overflow bool
}

func newSlab[T any](c *Class[T], slots int) *slab[T] {
	s := &slab[T]{class: c, mem: make([]T, slots)}
	s.fill(slots)
	return s
}

// newOverflow returns a slab whose only slot is lent. It is retired and in no layout: nobody else can take from it, and
// it is the collector's once the slot came home.
func newOverflow[T any](c *Class[T]) *slab[T] {
	s := new(struct {
		slab[T]
		link [1]atomic.Uint64
	})
	s.class, s.mem, s.overflow = c, make([]T, 1), true
	s.links = s.link[:]
	s.head.Store(retired)
	return &s.slab
}
