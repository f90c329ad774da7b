package meter

import (
	"bytes"
	"fmt"
	"slices"
)

// Section ids.
const (
	secCustom    = 0
	secType      = 1
	secImport    = 2
	secFunction  = 3
	secTable     = 4
	secMemory    = 5
	secGlobal    = 6
	secExport    = 7
	secStart     = 8
	secElement   = 9
	secCode      = 10
	secData      = 11
	secDataCount = 12
	secTag       = 13
)

// sectionOrder is the order of sections in a file.
var sectionOrder = []byte{
	secType, secImport, secFunction, secTable, secMemory, secTag, secGlobal, secExport, secStart, secElement,
	secDataCount, secCode, secData,
}

// rank is the place of a section in a file, or -1.
func rank(id byte) int { return slices.Index(sectionOrder, id) }

// maxLocals bounds the locals of a function. Engines of browsers have the same bound
// (https://webassembly.github.io/spec/js-api/#limits); wazero has none, and makes a list of up to 2^32.
const maxLocals = 50_000

// checkSize is about the size of a check in bytes. Checks may add four times the size of the module, and 64 KiB; real
// modules grow by 1 to 5 %.
const checkSize = 40

// section is one section as it stands in the file.
type section struct {
	id   byte
	raw  []byte // all of it, id and length included
	body []byte // its contents; of a vector that is extended, the elements without their count
	n    uint32 // the count, for those
}

// signature is a function type.
type signature struct {
	params  uint32
	results []byte // as encoded, without the count
	n       uint32 // count of results
}

// module is what parse finds.
type module struct {
	sections []section

	types           []signature
	importedFuncs   uint32
	importedGlobals uint32
	globals         uint32 // imported and defined
	memories        uint32 // imported and defined
	funcTypes       []uint32
	importTypes     []uint32 // of the imported functions
	start           *uint32
	functions       []function // the defined ones
	growth          uint64     // bytes that will be added to bodies, roughly
	callees         []uint32   // of their direct calls, as indices of functions
	tailCalls       bool       // one of them has a tail call
}

// parse reads what the rewriter must know of a module, and surveys its functions.
func parse(binary []byte) (*module, error) {
	if !bytes.HasPrefix(binary, []byte("\x00asm\x01\x00\x00\x00")) {
		return nil, fmt.Errorf("not a core module: %w", ErrMalformed)
	}
	m := &module{}
	r := &reader{data: binary, at: 8}
	for last := -1; r.left() > 0; {
		begin := r.at
		s := section{id: r.byte()}
		s.body = r.take(r.u32())
		s.raw = binary[begin:r.at]
		if r.err != nil {
			return nil, fmt.Errorf("section at offset %d: %w", begin, r.err)
		}
		if s.id != secCustom {
			place := rank(s.id)
			if place < 0 {
				return nil, fmt.Errorf("section %d: %w", s.id, ErrUnsupported)
			}
			if place <= last {
				return nil, fmt.Errorf("section %d: out of order: %w", s.id, ErrMalformed)
			}
			last = place
		}
		if err := m.section(&s); err != nil {
			return nil, fmt.Errorf("section %d: %w", s.id, err)
		}
		m.sections = append(m.sections, s)
	}
	if len(m.functions) != len(m.funcTypes) {
		return nil, fmt.Errorf("%d functions, %d bodies: %w", len(m.funcTypes), len(m.functions), ErrMalformed)
	}
	if limit := 4*uint64(len(binary)) + 1<<16; m.growth > limit {
		return nil, fmt.Errorf("checks of %d bytes, more than %d: %w", m.growth, limit, ErrUnsupported)
	}
	m.markCounted()
	return m, m.checkStart()
}

// section reads one section, if its contents matter.
func (m *module) section(s *section) error {
	r := &reader{data: s.body}
	switch s.id {
	case secCustom:
		_, _, err := custom(s.body)
		return err
	case secStart:
		index := r.u32()
		m.start = &index
		return r.done()
	case secDataCount:
		r.u32()
		return r.done()
	}
	s.n = r.count()
	s.body = s.body[r.at:]
	for i := uint32(0); i < s.n && r.err == nil; i++ {
		switch s.id {
		case secType:
			m.typeEntry(r)
		case secImport:
			m.importEntry(r)
		case secFunction:
			m.funcTypes = append(m.funcTypes, m.typeIndex(r))
		case secTable:
			tableEntry(r)
		case secMemory:
			r.limits()
			m.memories++
		case secGlobal:
			r.globalType()
			r.constant()
			m.globals++
		case secExport:
			exportEntry(r)
		case secElement:
			r.elementEntry()
		case secCode:
			m.codeEntry(r, i)
		case secData:
			r.dataEntry()
		case secTag:
			r.byte()
			m.typeIndex(r)
		}
	}
	return r.done()
}

// tableEntry reads a table.
func tableEntry(r *reader) {
	if begin := r.at; r.byte() == 0x40 { // with a first value for its elements
		r.byte()
		r.valueType()
		r.limits()
		r.constant()
		return
	} else if r.err == nil {
		r.at = begin
	}
	r.valueType()
	r.limits()
}

// typeEntry reads a type or a group of types, which is one entry of the section and several indices.
func (m *module) typeEntry(r *reader) {
	n := uint32(1)
	form := r.byte()
	group := form == 0x4e
	if group {
		n = r.count()
	}
	for ; n > 0 && r.err == nil; n-- {
		if group {
			form = r.byte()
		}
		if form != typeFunc {
			r.unsupported("type form", uint32(form))
		}
		var s signature
		s.params = r.count()
		for i := s.params; i > 0 && r.err == nil; i-- {
			r.valueType()
		}
		s.n = r.count()
		begin := r.at
		for i := s.n; i > 0 && r.err == nil; i-- {
			r.valueType()
		}
		if r.err == nil {
			s.results = r.data[begin:r.at]
			m.types = append(m.types, s)
		}
	}
}

// typeIndex reads the index of a known type.
func (m *module) typeIndex(r *reader) uint32 {
	i := r.u32()
	if uint64(i) >= uint64(len(m.types)) {
		r.malformed("unknown type")
	}
	return i
}

// importEntry reads an import and counts it.
func (m *module) importEntry(r *reader) {
	r.take(r.u32())
	r.take(r.u32())
	switch kind := r.byte(); kind {
	case 0:
		m.importTypes = append(m.importTypes, m.typeIndex(r))
		m.importedFuncs++
	case 1:
		r.valueType()
		r.limits()
	case 2:
		r.limits()
		m.memories++
	case 3:
		r.globalType()
		m.importedGlobals++
		m.globals++
	case 4:
		r.byte()
		m.typeIndex(r)
	default:
		r.unsupported("import of kind", uint32(kind))
	}
}

// globalType reads the type of a global.
func (r *reader) globalType() {
	r.valueType()
	r.byte()
}

// constant reads a constant expression.
func (r *reader) constant() {
	for r.err == nil {
		switch in := r.instruction(); in.op {
		case opEnd:
			return
		case opBlock, opLoop, opIf, opTryTable:
			r.malformed("block in a constant")
		}
	}
}

// exportEntry reads an export.
func exportEntry(r *reader) {
	name := r.take(r.u32())
	if bytes.HasPrefix(name, []byte(reservedPrefix)) {
		r.fail(fmt.Errorf("export %q: names that begin with %q are reserved: %w", name, reservedPrefix, ErrUnsupported))
	}
	r.byte()
	r.u32()
}

// checkStart sees to it that the start function may be called as any other: an engine would have refused it otherwise.
func (m *module) checkStart() error {
	if m.start == nil {
		return nil
	}
	var index uint32
	switch i := *m.start; {
	case i < m.importedFuncs:
		index = m.importTypes[i]
	case uint64(i-m.importedFuncs) < uint64(len(m.funcTypes)):
		index = m.funcTypes[i-m.importedFuncs]
	default:
		return fmt.Errorf("start function %d: not there: %w", i, ErrMalformed)
	}
	if t := m.types[index]; t.params != 0 || t.n != 0 {
		return fmt.Errorf("start function %d: has parameters or results: %w", *m.start, ErrMalformed)
	}
	return nil
}
