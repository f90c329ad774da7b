package plugins

import (
	"errors"
	"fmt"

	"github.com/tetratelabs/wazero/api"
)

// Section ids of a module, as in
// https://www.w3.org/TR/wasm-core-2/#sections.
const (
	sectionType     = 1
	sectionImport   = 2
	sectionFunction = 3
	sectionTable    = 4
	sectionMemory   = 5
	sectionGlobal   = 6
	sectionExport   = 7
	sectionStart    = 8
	sectionLast     = 13
)

var errTruncated = errors.New("the module is truncated")

// parser reads the sections that describe a module's outside.
type parser struct {
	reader
	types     []signature
	functions []uint32 // the type of every function, imported ones first
	info      Info
}

type signature struct{ params, results []api.ValueType }

// sections reads the whole module. Every count in it is checked against the bytes that are left.
func (p *parser) sections() error {
	for p.left() > 0 {
		id := p.byte()
		size := p.u32()
		body := p.take(size)
		if p.err != nil {
			return p.err
		}
		if id > sectionLast {
			return fmt.Errorf("section %d is not of WebAssembly 2.0; build for an older target", id)
		}
		rest := p.reader
		p.reader = reader{bytes: body}
		p.section(id)
		err := p.err
		if err == nil && p.known(id) && p.left() != 0 {
			err = fmt.Errorf("%d bytes too many", p.left())
		}
		p.reader = rest
		if err != nil {
			return fmt.Errorf("section %d: %w", id, err)
		}
	}
	return nil
}

// known reports whether section reads all of a section with this id.
func (p *parser) known(id byte) bool {
	switch id {
	case sectionType, sectionImport, sectionFunction, sectionMemory, sectionExport, sectionStart:
		return true
	}
	return false
}

func (p *parser) section(id byte) {
	switch id {
	case sectionType:
		p.each(p.functionType)
	case sectionImport:
		p.each(p.importEntry)
	case sectionFunction:
		p.each(func() { p.function(p.u32()) })
	case sectionTable:
		p.each(p.table)
	case sectionMemory:
		p.each(func() { p.info.Memories = append(p.info.Memories, p.limits()) })
	case sectionExport:
		p.each(p.export)
	case sectionStart:
		p.u32()
		p.info.Start = true
	}
}

// each reads a count and calls entry so often.
func (p *parser) each(entry func()) {
	for range p.count() {
		if p.err != nil {
			return
		}
		entry()
	}
}

func (p *parser) functionType() {
	if form := p.byte(); form != 0x60 && p.err == nil {
		p.err = fmt.Errorf("type of form %#x is not of WebAssembly 2.0; build without garbage collection", form)
		return
	}
	p.types = append(p.types, signature{params: p.valueTypes(), results: p.valueTypes()})
}

func (p *parser) valueTypes() []api.ValueType {
	n := p.count()
	if n == 0 {
		return nil
	}
	types := make([]api.ValueType, 0, n)
	for range n {
		types = append(types, p.valueType())
	}
	return types
}

// valueType reads a type, and for one that refers to another type only that it does.
func (p *parser) valueType() api.ValueType {
	t := p.byte()
	if t == 0x63 || t == 0x64 {
		p.u64() // a heap type; its value does not matter, only its length
	}
	return t
}

func (p *parser) importEntry() {
	im := Import{Module: p.name(), Name: p.name(), Kind: p.byte()}
	switch im.Kind {
	case api.ExternTypeFunc:
		t := p.u32()
		p.function(t)
		if p.err == nil {
			im.Params, im.Results = p.types[t].params, p.types[t].results
		}
	case api.ExternTypeTable:
		p.valueType()
		p.limits()
	case api.ExternTypeMemory:
		p.limits()
	case api.ExternTypeGlobal:
		p.valueType()
		p.byte()
	case 4: // tag
		p.byte()
		p.u32()
	default:
		p.fail(fmt.Errorf("import %q.%q is of the unknown kind %d", im.Module, im.Name, im.Kind))
	}
	p.info.Imports = append(p.info.Imports, im)
}

func (p *parser) function(t uint32) {
	if uint64(t) >= uint64(len(p.types)) {
		p.fail(fmt.Errorf("function of type %d, there are %d", t, len(p.types)))
		return
	}
	p.functions = append(p.functions, t)
}

func (p *parser) table() {
	if p.valueType() == 0x40 { // a table with an initial value; only its limits are read
		p.byte()
		p.valueType()
		p.info.Tables = append(p.info.Tables, p.limits())
		p.at = len(p.bytes)
		return
	}
	p.info.Tables = append(p.info.Tables, p.limits())
}

func (p *parser) limits() (l Limits) {
	flags := p.byte()
	if flags > 7 {
		p.fail(fmt.Errorf("limits of the unknown kind %#x", flags))
	}
	l.HasMax, l.Shared, l.Wide = flags&1 != 0, flags&2 != 0, flags&4 != 0
	l.Min = p.u64()
	if l.HasMax {
		l.Max = p.u64()
	}
	return l
}

func (p *parser) export() {
	e := Export{Name: p.name(), Kind: p.byte()}
	i := p.u32()
	if e.Kind == api.ExternTypeFunc && p.err == nil {
		if uint64(i) >= uint64(len(p.functions)) {
			p.fail(fmt.Errorf("export %q is function %d, there are %d", e.Name, i, len(p.functions)))
			return
		}
		t := p.types[p.functions[i]]
		e.Params, e.Results = t.params, t.results
	}
	p.info.Exports = append(p.info.Exports, e)
}

// reader reads bytes front to back. After an error it reads zeros.
type reader struct {
	bytes []byte
	at    int
	err   error
}

func (r *reader) left() int { return len(r.bytes) - r.at }

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) byte() byte {
	if r.err != nil || r.left() == 0 {
		r.fail(errTruncated)
		return 0
	}
	r.at++
	return r.bytes[r.at-1]
}

func (r *reader) take(n uint32) []byte {
	if r.err != nil || uint64(n) > uint64(r.left()) {
		r.fail(errTruncated)
		return nil
	}
	r.at += int(n)
	return r.bytes[r.at-int(n) : r.at]
}

func (r *reader) name() string { return string(r.take(r.u32())) }

// count reads the length of a vector. Every element has at least one byte, so a larger one is refused before memory is
// set aside for it.
func (r *reader) count() uint32 {
	n := r.u32()
	if uint64(n) > uint64(r.left()) {
		r.fail(errTruncated)
		return 0
	}
	return n
}

func (r *reader) u32() uint32 {
	v := r.u64()
	if v >= 1<<32 {
		r.fail(fmt.Errorf("number %d is over 32 bits", v))
		return 0
	}
	return uint32(v)
}

// u64 reads an unsigned LEB128 number.
func (r *reader) u64() (v uint64) {
	for shift := uint(0); shift < 64; shift += 7 {
		b := r.byte()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	r.fail(errors.New("number of more than 10 bytes"))
	return 0
}
