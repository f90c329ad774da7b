package httpwasm

import (
	"encoding/binary"
	"slices"
)

// code assembles WebAssembly by hand, as far as the guests of these tests need it.
type code []byte

func leb(n uint64) (b code) {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func sleb(n int64) (b code) {
	for {
		c := byte(n & 0x7f)
		n >>= 7
		if n == 0 && c&0x40 == 0 || n == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func i32(n uint32) code     { return append(code{0x41}, sleb(int64(int32(n)))...) }
func i64(n uint64) code     { return append(code{0x42}, sleb(int64(n))...) }
func get(local uint64) code { return append(code{0x20}, leb(local)...) }

func call(f int) code          { return append(code{0x10}, leb(uint64(f))...) }
func branch(depth int) code    { return append(code{0x0c}, leb(uint64(depth))...) }
func load32(offset int) code   { return append(code{0x28, 2}, leb(uint64(offset))...) }
func store32(offset int) code  { return append(code{0x36, 2}, leb(uint64(offset))...) }
func load64(offset int) code   { return append(code{0x29, 3}, leb(uint64(offset))...) }
func store64(offset int) code  { return append(code{0x37, 3}, leb(uint64(offset))...) }
func vector(items []code) code { return append(leb(uint64(len(items))), slices.Concat(items...)...) }
func named(s string) code      { return append(leb(uint64(len(s))), s...) }

var (
	setFirst    = code{0x21, 0} // local 0
	unreachable = code{0x00}
	block       = code{0x02, 0x40}
	loop        = code{0x03, 0x40}
	end         = code{0x0b}
	ret         = code{0x0f}
	add         = code{0x6a}
	extend      = code{0xad} // i32 to i64
	growMemory  = code{0x40, 0}
)

// The types of a module made here: the first are those of exported functions.
var (
	typeHandleRequest  = code{0x60, 0, 1, 0x7e}
	typeHandleResponse = code{0x60, 2, 0x7f, 0x7f, 0}
	typeNone           = code{0x60, 0, 0}
	typeOne            = code{0x60, 1, 0x7f, 0}
)

// module is a guest to be: it imports all host functions in the order of hostFunctions, and proc_exit after them.
type module struct {
	request, response, start code            // bodies of the exports, without locals but one i32; a nil start is not exported
	step                     code            // the body of a function (i32) -> () that is not exported: stepFunction
	data                     map[uint32]code // by address
	pages                    byte
}

// Function indices behind the imports.
var (
	procExit        = len(hostFunctions)
	requestFunction = procExit + 1
	stepFunction    = requestFunction + 3
)

func (m module) bytes() []byte {
	types := []code{typeHandleRequest, typeHandleResponse, typeNone, typeOne}
	var imports []code
	for _, h := range hostFunctions {
		t := slices.Concat(code{0x60}, named(string(h.params)), named(string(h.results)))
		imports = append(imports, slices.Concat(named(hostModule), named(h.name), code{0}, leb(uint64(len(types)))))
		types = append(types, t)
	}
	imports = append(imports, slices.Concat(named("wasi_snapshot_preview1"), named("proc_exit"), code{0, 3}))
	exports := []code{
		append(named("memory"), 2, 0),
		slices.Concat(named("handle_request"), code{0}, leb(uint64(requestFunction))),
		slices.Concat(named("handle_response"), code{0}, leb(uint64(requestFunction+1))),
	}
	if m.start != nil {
		exports = append(exports, slices.Concat(named("_initialize"), code{0}, leb(uint64(requestFunction+2))))
	}
	body := func(c code) code {
		c = slices.Concat(code{1, 1, 0x7f}, c, end)
		return append(leb(uint64(len(c))), c...)
	}
	var data []code
	for at, bytes := range m.data {
		data = append(data, slices.Concat(code{0}, i32(at), end, named(string(bytes))))
	}
	out := code("\x00asm\x01\x00\x00\x00")
	section := func(id byte, c code) { out = slices.Concat(out, code{id}, leb(uint64(len(c))), c) }
	section(1, vector(types))
	section(2, vector(imports))
	section(3, code{4, 0, 1, 2, 3})
	section(5, code{1, 0, m.pages})
	section(7, vector(exports))
	section(10, vector([]code{body(m.request), body(m.response), body(m.start), body(m.step)}))
	section(11, vector(data))
	return out
}

// Where the interpreter has its things.
const (
	reqCtxAt   = 0x0fe0 // what handle_response was given
	isErrorAt  = 0x0fe4
	ctxNextAt  = 0x0ff8 // what handle_request returns
	requestAt  = 0x1000 // the programs
	responseAt = 0x3000
	startAt    = 0x5000 // read as the configuration
	dataAt     = 0x8000
	memorySize = 2 << 16

	stepBytes = 32 // operation, five arguments, result
)

// Operations of the interpreter that are no host function. Host function i is operation i+1, and 0 is the end.
var (
	opUnreachable = len(hostFunctions) + 1
	opLoop        = len(hostFunctions) + 2
	opExit        = len(hostFunctions) + 3
	opGrow        = len(hostFunctions) + 4
	operations    = len(hostFunctions) + 5
)

// interpreter is a guest that runs programs which it finds in its memory: a list of steps for each export. So one module
// serves nearly all tests, and a fuzzer.
func interpreter() []byte {
	run := func(at uint32) code { return append(i32(at), call(stepFunction)...) }
	start := slices.Concat(i32(startAt), i32(dataAt-startAt), call(hostCall("get_config")), setFirst, run(startAt))
	return module{
		pages:   memorySize >> 16,
		data:    map[uint32]code{ctxNextAt: {1, 0, 0, 0, 0, 0, 0, 0}},
		request: slices.Concat(run(requestAt), i32(0), load64(ctxNextAt)),
		response: slices.Concat(i32(0), get(0), store32(reqCtxAt), i32(0), get(1), store32(isErrorAt),
			run(responseAt)),
		start: start,
		step:  interpret(),
	}.bytes()
}

// hostCall returns the index of a host function, in hostFunctions as in a module.
func hostCall(name string) int {
	return slices.IndexFunc(hostFunctions, func(h hostFunction) bool { return h.name == name })
}

// interpret is the body of the interpreter: local 0 is the address of the step.
func interpret() code {
	// loop { block(next) { block(n) ... block(1) { block(0) { br_table } return } operation 1; br next } ... } step++; again }
	c := slices.Concat(loop, block)
	for range operations {
		c = append(c, block...)
	}
	c = slices.Concat(c, get(0), load32(0), code{0x0e}, leb(uint64(operations-1)))
	for i := range operations - 1 {
		c = append(c, leb(uint64(i))...)
	}
	c = append(c, leb(uint64(operations-1))...) // anything else: the last
	c = slices.Concat(c, end, ret)
	for op := 1; op < operations; op++ {
		c = slices.Concat(c, end, operation(op), branch(operations-1-op))
	}
	return slices.Concat(c, end, get(0), i32(stepBytes), add, setFirst, branch(0), end)
}

// operation is the code of one operation: it takes arguments from the step and leaves its result there.
func operation(op int) code {
	args := func(n int) (c code) {
		for i := range n {
			c = slices.Concat(c, get(0), load32(4+4*i))
		}
		return c
	}
	switch op {
	case opUnreachable:
		return unreachable
	case opLoop:
		return slices.Concat(loop, branch(0), end)
	case opExit:
		return append(args(1), call(procExit)...)
	case opGrow:
		return slices.Concat(get(0), args(1), growMemory, extend, store64(24))
	}
	h := hostFunctions[op-1]
	invoke := append(args(len(h.params)), call(op-1)...)
	switch {
	case len(h.results) == 0:
		return invoke
	case h.results[0] == 0x7f:
		return slices.Concat(get(0), invoke, extend, store64(24))
	default:
		return slices.Concat(get(0), invoke, store64(24))
	}
}

// program writes steps as the interpreter reads them.
func program(steps [][6]uint32) []byte {
	var b []byte
	for _, s := range steps {
		for _, n := range s {
			b = binary.LittleEndian.AppendUint32(b, n)
		}
		b = binary.LittleEndian.AppendUint64(b, 0)
	}
	return append(b, make([]byte, stepBytes)...)
}

// stamper is a guest that sets one constant header in each phase; it buffers the response.
func stamper() []byte {
	setHeader := func(kind uint32) code {
		return slices.Concat(i32(kind), i32(0), i32(7), i32(16), i32(4), call(hostCall("set_header_value")))
	}
	return module{
		pages:    1,
		data:     map[uint32]code{0: code("x-stamp"), 16: code("edge")},
		start:    slices.Concat(i32(2), call(hostCall("enable_features")), setFirst),
		request:  append(setHeader(0), i64(1)...),
		response: setHeader(1),
	}.bytes()
}
