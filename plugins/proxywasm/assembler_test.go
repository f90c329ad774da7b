package proxywasm

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// module is a guest for tests, assembled here. It imports all hostcalls and exports, beside the callbacks that a test
// gives it, a forwarder "do_NAME" for each of them and an allocator.
//
// Its memory: 0-63 the guest's own, 64-127 results, 4096 the statuses of calls, 32768 arguments that tests write,
// 65536 constants, 131072-1179648 what is allocated.
type module struct {
	marker string // "0_2_1"
	funcs  []function
	data   []byte
	pages  int
	noHeap bool              // no allocator
	params map[string]string // of hostcalls, where they are not those of the table
}

// function is exported under its name; its parameters are as in Hostcall.Params, its results of type i32.
type function struct {
	name    string
	params  string
	results int
	code    []byte
}

const (
	heapAt    = 16 // the cell of the allocator
	countAt   = 20 // how many statuses there are
	outAt     = 64
	statusAt  = 4096
	argsAt    = 32768
	dataAt    = 65536
	heapStart = 131072
	heapEnd   = heapStart + 1<<20
)

// code writes instructions.
type code struct {
	m *module
	b []byte
}

// param is a parameter of the callback, as an argument of call.
type param int

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

func vec(entries ...[]byte) []byte { return append(uleb(len(entries)), slices.Concat(entries...)...) }
func str(s string) []byte          { return append(uleb(len(s)), s...) }

func (c *code) op(b ...byte)  { c.b = append(c.b, b...) }
func (c *code) i32(n int)     { c.b = append(append(c.b, 0x41), sleb(int(int32(uint32(n))))...) }
func (c *code) i64(n int)     { c.b = append(append(c.b, 0x42), sleb(n)...) }
func (c *code) get(n int)     { c.b = append(append(c.b, 0x20), uleb(n)...) }
func (c *code) load()         { c.op(0x28, 2, 0) }
func (c *code) store()        { c.op(0x36, 2, 0) }
func (c *code) ret(n int)     { c.i32(n); c.op(0x0f) }
func (c *code) trap()         { c.op(0x00) }
func (c *code) spin()         { c.op(0x03, 0x40, 0x0c, 0, 0x0b) }
func (c *code) cell(at int)   { c.i32(at); c.load() }
func (c *code) set(at, n int) { c.i32(at); c.i32(n); c.store() }
func (c *code) bump(at int)   { c.i32(at); c.cell(at); c.i32(1); c.op(0x6a); c.store() }

// when runs then if the value of a parameter is n.
func (c *code) when(p param, n int, then func()) {
	c.get(int(p))
	c.i32(n)
	c.op(0x46, 0x04, 0x40)
	then()
	c.op(0x0b)
}

// whenCell runs then if a cell holds n.
func (c *code) whenCell(at, n int, then func()) {
	c.cell(at)
	c.i32(n)
	c.op(0x46, 0x04, 0x40)
	then()
	c.op(0x0b)
}

// place puts a constant into the module and returns where it is.
func (m *module) place(s string) int {
	at := dataAt + len(m.data)
	m.data = append(m.data, s...)
	return at
}

// call calls a hostcall and notes its status. A string is pointer and length, an int itself, a param what came in.
func (c *code) call(name string, args ...any) {
	i := slices.IndexFunc(hostcalls, func(h hostcall) bool { return h.Name == name })
	if i < 0 {
		panic("no hostcall " + name)
	}
	c.cell(countAt) // the address of the status
	c.i32(4)
	c.op(0x6c)
	c.i32(statusAt)
	c.op(0x6a)
	n := 0
	for _, a := range args {
		switch a := a.(type) {
		case int:
			if hostcalls[i].Params[n] == 'I' {
				c.i64(a)
			} else {
				c.i32(a)
			}
		case string:
			c.i32(c.m.place(a))
			c.i32(len(a))
			n++
		case param:
			c.get(int(a))
		case cell:
			c.cell(int(a))
		}
		n++
	}
	if n != len(hostcalls[i].Params) {
		panic(fmt.Sprintf("%s takes %d, not %d", name, len(hostcalls[i].Params), n))
	}
	c.b = append(append(c.b, 0x10), uleb(i)...)
	c.store()
	c.bump(countAt)
}

// cell is what is in a cell of memory, as an argument of call.
type cell int

// on sets a callback of the guest's; it returns 0 unless write says else.
func (m *module) on(name string, params int, write func(c *code)) *module {
	c := &code{m: m}
	write(c)
	c.i32(0)
	m.funcs = slices.DeleteFunc(m.funcs, func(f function) bool { return f.name == name })
	m.funcs = append(m.funcs, function{name, string(slices.Repeat([]byte{'i'}, params)), 1, c.b})
	return m
}

// newModule returns a guest of a version of the ABI that only knows how to be made.
func newModule(marker string) *module {
	m := &module{marker: marker, pages: 20}
	if marker != "" {
		m.funcs = append(m.funcs, function{name: markerPrefix + marker})
	}
	return m
}

// allocator is proxy_on_memory_allocate: what it gives is used again after a megabyte.
func (m *module) allocator() function {
	c := &code{m: m}
	c.cell(heapAt)
	c.i32(heapEnd)
	c.op(0x4b, 0x04, 0x40) // i32.gt_u, if
	c.set(heapAt, heapStart)
	c.op(0x0b)
	c.whenCell(heapAt, 0, func() { c.set(heapAt, heapStart) })
	c.cell(heapAt) // the result
	c.i32(heapAt)
	c.cell(heapAt)
	c.get(0)
	c.op(0x6a)
	c.i32(8)
	c.op(0x6a)
	c.store()
	return function{"proxy_on_memory_allocate", "i", 1, c.b}
}

func functionType(params string, results int) []byte {
	types := uleb(len(params))
	for _, p := range params {
		types = append(types, map[rune]byte{'i': 0x7f, 'I': 0x7e}[p])
	}
	return slices.Concat([]byte{0x60}, types, uleb(results), slices.Repeat([]byte{0x7f}, results))
}

// bytes assembles the module.
func (m *module) bytes() []byte {
	var types, imports, funcs, exports, bodies [][]byte
	typeOf := func(params string, results int) []byte {
		t := functionType(params, results)
		i := slices.IndexFunc(types, func(o []byte) bool { return slices.Equal(o, t) })
		if i < 0 {
			i = len(types)
			types = append(types, t)
		}
		return uleb(i)
	}
	all := slices.Clone(m.funcs)
	if !m.noHeap {
		all = append(all, m.allocator())
	}
	for i, h := range hostcalls {
		results := 1
		if h.Name == memoryGrowth {
			results = 0
		}
		params := cmp.Or(m.params[h.Name], h.Params)
		imports = append(imports, slices.Concat(str(hostModule), str(h.Name), []byte{0}, typeOf(params, results)))
		forward := &code{m: m}
		for n := range params {
			forward.get(n)
		}
		forward.b = append(append(forward.b, 0x10), uleb(i)...)
		all = append(all, function{"do_" + h.Name, params, results, forward.b})
	}
	for i, f := range all {
		funcs = append(funcs, typeOf(f.params, f.results))
		exports = append(exports, slices.Concat(str(f.name), []byte{0}, uleb(len(hostcalls)+i)))
		body := slices.Concat(vec(), f.code, []byte{0x0b})
		bodies = append(bodies, append(uleb(len(body)), body...))
	}
	exports = append(exports, append(str("memory"), 2, 0))
	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, body []byte) { out = slices.Concat(out, []byte{id}, uleb(len(body)), body) }
	section(1, vec(types...))
	section(2, vec(imports...))
	section(3, vec(funcs...))
	section(5, vec(append([]byte{0}, uleb(m.pages)...)))
	section(7, vec(exports...))
	section(10, vec(bodies...))
	at := &code{}
	at.i32(dataAt)
	section(11, vec(slices.Concat([]byte{0}, at.b, []byte{0x0b}, str(string(m.data)))))
	return out
}

// serial is a map in the ABI's form.
func serial(pairs ...string) string {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(pairs)/2))
	for _, s := range pairs {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(s)))
	}
	for _, s := range pairs {
		b = append(append(b, s...), 0)
	}
	return string(b)
}

// note keeps a parameter in a cell.
func (c *code) note(at int, p param) { c.i32(at); c.get(int(p)); c.store() }

// Cells that guests of tests use.
const (
	cellA = 32
	cellB = 36
	cellC = 40
)

// deny is what a callback does to answer 403 itself.
func (c *code) deny() {
	c.call("proxy_send_local_response", 403, "denied", "no", serial("x-why", "test"), -1)
}

// ask is what a callback does to make a call-out; its id is in a cell.
func (c *code) ask(at int) {
	c.call("proxy_http_call", "auth", serial(":method", "GET", ":path", "/", ":authority", "a"), "", "", 1000, at)
}
