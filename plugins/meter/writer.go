package meter

import (
	"encoding/binary"
	"strings"
)

// writer writes the new module. Everything new goes to the end of its index space, so that no index of the module
// changes.
type writer struct {
	m *module
	o options

	flag, fuel, units, room uint32 // indices of the added globals
	slow                    uint32 // index of the added function
	slowType                uint32
	blocks                  map[string]uint32 // types without parameters, by their results
	addedTypes              []byte
	added                   uint32 // count of them

	check     []byte // takes a unit
	loopCheck []byte // takes a unit, at the head of a loop without parameters

	scratch []byte // one body
}

func newWriter(m *module, o options) *writer {
	w := &writer{
		m: m, o: o,
		flag: m.globals, fuel: m.globals + 1, units: m.globals + 2, room: m.globals + 3,
		slow:   m.importedFuncs + uint32(len(m.funcTypes)),
		blocks: make(map[string]uint32),
	}
	for i, s := range m.types {
		if s.params == 0 {
			if _, ok := w.blocks[string(s.results)]; !ok {
				w.blocks[string(s.results)] = uint32(i)
			}
		}
	}
	w.slowType = w.typeFor(&signature{})
	for i := range m.functions {
		if f := &m.functions[i]; w.counts(f) && f.signature.n > 1 {
			w.typeFor(f.signature)
		}
	}
	w.check = w.appendRefill(w.appendTake(nil, 1), false)
	w.loopCheck = w.appendRefill(w.appendTake(nil, 1), true)
	return w
}

// counts reports whether a function takes room.
func (w *writer) counts(f *function) bool { return f.counted && w.o.room > 0 }

// typeFor returns a type without parameters and with the results of s.
func (w *writer) typeFor(s *signature) uint32 {
	index, ok := w.blocks[string(s.results)]
	if !ok {
		index = uint32(len(w.m.types)) + w.added
		w.blocks[string(s.results)] = index
		w.addedTypes = appendU32(append(w.addedTypes, typeFunc, 0), s.n)
		w.addedTypes = append(w.addedTypes, s.results...)
		w.added++
	}
	return index
}

// module writes all of it; size is that of the old one.
func (w *writer) module(size int) []byte {
	out := make([]byte, 0, size+size/8+256)
	out = append(out, "\x00asm\x01\x00\x00\x00"...)
	next := 0 // rank of the first section that was not passed yet
	for _, s := range w.m.sections {
		if s.id == secCustom {
			if keeps(s.body) {
				out = append(out, s.raw...)
			}
			continue
		}
		for ; next < rank(s.id); next++ {
			out = w.section(out, section{id: sectionOrder[next]})
		}
		out = w.section(out, s)
		next++
	}
	for ; next < len(sectionOrder); next++ {
		out = w.section(out, section{id: sectionOrder[next]})
	}
	return out
}

// keeps reports whether a custom section is copied. Those that refer to places in the code, which move, are not.
func keeps(body []byte) bool {
	name, contents, err := custom(body)
	switch {
	case err != nil, strings.HasPrefix(name, ".debug_"), name == "metadata.code.branch_hint":
		return false
	case name == "name":
		return namesAreSound(contents)
	}
	return true
}

// section writes one section; one without raw bytes is not in the old module, and appears if something is added to it.
func (w *writer) section(out []byte, s section) []byte {
	switch s.id {
	case secType:
		if w.added == 0 {
			break
		}
		return s.extended(out, w.added, w.addedTypes)
	case secFunction:
		return s.extended(out, 1, appendU32(nil, w.slowType))
	case secMemory:
		if w.m.memories > 0 {
			break
		}
		return s.extended(out, 1, []byte{0, 0}) // no pages at first, no limit
	case secGlobal:
		return s.extended(out, 4, w.globals())
	case secExport:
		n, entries := w.exports()
		return s.extended(out, n, entries)
	case secStart:
		return out
	case secCode:
		return w.code(out)
	}
	return append(out, s.raw...)
}

// extended writes a section that is a vector, with n more elements.
func (s *section) extended(out []byte, n uint32, elements []byte) []byte {
	count := appendU32(nil, s.n+n)
	out = append(out, s.id)
	out = appendU32(out, uint32(len(count)+len(s.body)+len(elements)))
	out = append(out, count...)
	out = append(out, s.body...)
	return append(out, elements...)
}

func (w *writer) globals() []byte {
	p := []byte{typeI32, 1, opI32Const, 0, opEnd} // flag
	p = appendS33(append(p, typeI32, 1, opI32Const), int64(w.o.refill))
	p = append(p, opEnd)
	p = append(p, typeI64, 1, opI64Const, 0, opEnd) // units
	p = appendS33(append(p, typeI32, 1, opI32Const), int64(w.o.room))
	return append(p, opEnd)
}

func (w *writer) exports() (n uint32, added []byte) {
	entry := func(name string, kind byte, index uint32) {
		added = append(added, byte(len(name)))
		added = append(added, name...)
		added = appendU32(append(added, kind), index)
		n++
	}
	entry(FlagExport, 3, w.flag)
	entry(FuelExport, 3, w.fuel)
	entry(UnitsExport, 3, w.units)
	entry(RoomExport, 3, w.room)
	if w.m.start != nil {
		entry(StartExport, 0, *w.m.start)
	}
	return n, added
}

// code writes the code section. Its length is known last, so it is moved up by the length of its length.
func (w *writer) code(out []byte) []byte {
	out = append(out, secCode)
	begin := len(out)
	out = appendU32(out, uint32(len(w.m.functions))+1)
	for i := range w.m.functions {
		w.scratch = w.body(w.scratch[:0], &w.m.functions[i])
		out = appendU32(out, uint32(len(w.scratch)))
		out = append(out, w.scratch...)
	}
	slow := w.slowBody()
	out = appendU32(out, uint32(len(slow)))
	out = append(out, slow...)

	size := appendU32(nil, uint32(len(out)-begin))
	out = append(out, size...)
	copy(out[begin+len(size):], out[begin:])
	copy(out[begin:], size)
	return out
}

func appendU32(p []byte, v uint32) []byte { return binary.AppendUvarint(p, uint64(v)) }

func appendS33(p []byte, v int64) []byte {
	for v < -64 || v > 63 {
		p = append(p, byte(v)|0x80)
		v >>= 7
	}
	return append(p, byte(v)&0x7f)
}
