package arena

import (
	"slices"
	"strconv"
	"sync"
	"testing"
)

// model is a class as one would write it with a mutex: which slots are lent, and which slabs lend.
type model struct {
	mu                 sync.Mutex
	lent               map[*int]*modelSlab // nil for an overflow
	slabs              []*modelSlab        // in order of creation
	overflows, largest int
}

type modelSlab struct {
	slots, lent int
	retired     bool
}

func (m *model) resize(slots int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	have := 0
	for _, s := range m.slabs {
		s.retired = have >= slots
		if !s.retired {
			have += s.slots
		}
	}
	m.slabs = slices.DeleteFunc(m.slabs, func(s *modelSlab) bool { return s.retired && s.lent == 0 })
	m.largest = max(m.largest, slots+max(1, slots/16))
}

func (m *model) free() (n int) {
	for _, s := range m.slabs {
		if !s.retired {
			n += s.slots - s.lent
		}
	}
	return n
}

// take notes a loan from s, nil for an overflow, and returns what is wrong with it.
func (m *model) take(p *int, s *modelSlab) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, twice := m.lent[p]
	switch {
	case twice:
		return "S1: lent to two"
	case s == nil && m.free() > 0:
		return "C3: overflow while a slot is free"
	case s != nil && s.retired:
		return "S5: from a retired slab"
	case s != nil && s.lent == s.slots:
		return "S2: more slots than the slab has"
	}
	m.lent[p] = s
	if s == nil {
		m.overflows++
	} else {
		s.lent++
	}
	return ""
}

func (m *model) give(p *int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.lent[p]
	delete(m.lent, p)
	if s == nil {
		return
	}
	if s.lent--; s.lent == 0 && s.retired {
		m.slabs = slices.DeleteFunc(m.slabs, func(o *modelSlab) bool { return o == s })
	}
}

func (m *model) stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := Stats{Overflows: uint64(m.overflows), OverflowsInUse: len(m.lent), SlotBytes: strconv.IntSize / 8}
	for _, s := range m.slabs {
		st.InUse += s.lent
		if !s.retired {
			st.Slots += s.slots
		}
	}
	st.OverflowsInUse -= st.InUse
	return st
}

// FuzzClass replays takes, gives, second gives and resizes, two bytes each, on a class and on the model.
func FuzzClass(f *testing.F) {
	f.Add([]byte{2, 0, 1, 0, 2, 1, 3, 2, 0, 0, 0, 1, 4, 0, 1, 0})
	f.Add([]byte{40, 3, 20, 0, 0, 0, 1, 0, 2, 0, 3, 3, 1, 1, 0, 3, 60, 2, 0, 0, 9})
	f.Add([]byte{1, 0, 0, 0, 0, 3, 200, 0, 5, 3, 1, 1, 0, 3, 90, 1, 0, 1, 0, 2, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) == 0 || len(ops) > 2000 {
			return
		}
		slots := 1 + int(ops[0])
		c := NewClass[int](slots)
		m := &model{lent: make(map[*int]*modelSlab)}
		known := make(map[*slab[int]]*modelSlab)
		resized := func(slots int) {
			m.resize(slots)
			have, total := 0, 0
			l := c.layout.Load()
			for _, s := range slices.Concat(l.serving, l.retired) {
				total += len(s.mem)
				if known[s] == nil { // made by this call, after all others
					if len(s.mem) < slots/16 {
						t.Fatalf("C4: a slab of %d for %d slots", len(s.mem), slots)
					}
					known[s] = &modelSlab{slots: len(s.mem)}
					m.slabs = append(m.slabs, known[s])
				}
			}
			for _, s := range l.serving {
				have += len(s.mem)
			}
			last := len(l.serving[len(l.serving)-1].mem)
			if have < slots || have-last >= slots || total > m.largest {
				t.Fatalf("C4: %d slots wanted, %d serving, %d in all of at most %d", slots, have, total, m.largest)
			}
		}
		resized(slots)
		var lent, given []Slot[int]
		for ; len(ops) >= 2; ops = ops[2:] {
			arg := int(ops[1])
			switch ops[0] % 4 {
			case 0:
				s := c.Take(uint32(arg))
				if wrong := m.take(s.P(), known[s.slab]); wrong != "" {
					t.Fatal(wrong)
				}
				*s.P() = len(lent)
				lent = append(lent, s)
			case 1:
				if len(lent) == 0 {
					continue
				}
				i := arg % len(lent)
				s := lent[i]
				given = append(given, s)
				lent = slices.Delete(lent, i, i+1)
				m.give(s.P())
				s.Give()
			case 2:
				if len(given) > 0 {
					s := given[arg%len(given)]
					wantPanic(t, s.Give) // S4
				}
			case 3:
				c.Resize(1 + arg)
				resized(1 + arg)
			}
			wantStats(t, c.Stats(), m.stats())
			if l := c.layout.Load(); len(l.serving)+len(l.retired) != len(m.slabs) {
				t.Fatalf("C2: %d serving and %d retired slabs, want %d in all", len(l.serving), len(l.retired), len(m.slabs))
			}
		}
		for _, s := range c.layout.Load().serving {
			s.freeSlots(t)
		}
	})
}
