package plugins

import (
	"maps"
	"slices"
	"strings"
)

// source is a module for tests, in the words of the binary format.
type source struct {
	imports []imported
	funcs   []function
	memory  []int // min, or min and max, in pages; nil means 1, empty means none
	table   []int // the same in elements; nil means none
	data    map[int]string
	start   string // the name of a function that runs when an instance is made
	exports map[string]byte
}

// imported is a function of the host. A signature is written as "iI:i": i32, i64 -> i32.
type imported struct{ module, name, signature string }

// function is one of the module's own; it is exported when its name is not empty. Its locals are of type i32.
type function struct {
	name, signature string
	locals          int
	code            []byte
}

// Opcodes, as far as the tests need them.
const (
	opUnreachable = 0x00
	opBlock       = 0x02
	opLoop        = 0x03
	opIf          = 0x04
	opEnd         = 0x0b
	opBr          = 0x0c
	opBrIf        = 0x0d
	opReturn      = 0x0f
	opCall        = 0x10
	opDrop        = 0x1a
	opGet         = 0x20
	opSet         = 0x21
	opTee         = 0x22
	opLoad        = 0x28
	opStore       = 0x36
	opStore64     = 0x37
	opGrow        = 0x40
	opI32         = 0x41
	opAdd         = 0x6a
	empty         = 0x40
)

// asm joins opcodes and their immediates: an int is a byte, a []byte is itself.
func asm(parts ...any) (code []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			code = append(code, byte(p))
		case []byte:
			code = append(code, p...)
		}
	}
	return code
}

// i32 is i32.const n.
func i32(n int) []byte { return append([]byte{opI32}, sleb(n)...) }

// call calls a function by its index, imported ones first.
func call(n int) []byte { return append([]byte{opCall}, uleb(n)...) }

// memarg are the immediates of a load or store.
var memarg = []byte{2, 0}

func uleb(n int) (b []byte) {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func sleb(n int) (b []byte) {
	for ; n < -64 || n > 63; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n)&0x7f)
}

func vec(entries ...[]byte) []byte {
	return append(uleb(len(entries)), slices.Concat(entries...)...)
}

func str(s string) []byte { return append(uleb(len(s)), s...) }

func limits(l []int) []byte {
	if len(l) == 1 {
		return append([]byte{0}, uleb(l[0])...)
	}
	return slices.Concat([]byte{1}, uleb(l[0]), uleb(l[1]))
}

// bytes assembles the module.
func (s source) bytes() []byte {
	if s.memory == nil {
		s.memory = []int{1}
	}
	var types, imports, funcs, exports, bodies, data [][]byte
	typeOf := func(signature string) []byte {
		i := slices.IndexFunc(types, func(t []byte) bool { return slices.Equal(t, functionType(signature)) })
		if i < 0 {
			i = len(types)
			types = append(types, functionType(signature))
		}
		return uleb(i)
	}
	for _, im := range s.imports {
		imports = append(imports, slices.Concat(str(im.module), str(im.name), []byte{0}, typeOf(im.signature)))
	}
	var start []byte
	for i, f := range s.funcs {
		index := uleb(len(s.imports) + i)
		funcs = append(funcs, typeOf(f.signature))
		if f.name != "" {
			exports = append(exports, slices.Concat(str(f.name), []byte{0}, index))
		}
		if f.name == s.start && s.start != "" {
			start = index
		}
		locals := vec()
		if f.locals > 0 {
			locals = vec(append(uleb(f.locals), 0x7f))
		}
		body := slices.Concat(locals, f.code, []byte{opEnd})
		bodies = append(bodies, append(uleb(len(body)), body...))
	}
	if len(s.memory) > 0 {
		exports = append(exports, append(str("memory"), 2, 0))
	}
	for _, name := range slices.Sorted(maps.Keys(s.exports)) {
		exports = append(exports, append(str(name), s.exports[name], 0))
	}
	for _, at := range slices.Sorted(maps.Keys(s.data)) {
		data = append(data, slices.Concat([]byte{0}, i32(at), []byte{opEnd}, str(s.data[at])))
	}
	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, body []byte) { out = slices.Concat(out, []byte{id}, uleb(len(body)), body) }
	section(1, vec(types...))
	section(2, vec(imports...))
	section(3, vec(funcs...))
	if s.table != nil {
		section(4, vec(append([]byte{0x70}, limits(s.table)...)))
	}
	if len(s.memory) > 0 {
		section(5, vec(limits(s.memory)))
	}
	section(7, vec(exports...))
	if start != nil {
		section(8, start)
	}
	section(10, vec(bodies...))
	section(11, vec(data...))
	return out
}

func functionType(signature string) []byte {
	params, results, _ := strings.Cut(signature, ":")
	list := func(names string) []byte {
		types := uleb(len(names))
		for _, c := range names {
			types = append(types, map[rune]byte{'i': 0x7f, 'I': 0x7e}[c])
		}
		return types
	}
	return slices.Concat([]byte{0x60}, list(params), list(results))
}
