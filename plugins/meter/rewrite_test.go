package meter

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// What the writer adds to a module with one function and no globals: fuel is global 1, room global 3, slow function 1.
const (
	take     = "\x23\x01\x41\x01\x6b\x24\x01"            // fuel -= 1
	slow     = "\x41\x00\x48\x04\x40\x10\x01"            // if < 0 { slow
	check    = take + "\x23\x01" + slow + "\x0b"         // ... }
	loop     = take + "\x23\x01" + slow + "\x0c\x01\x0b" // ... continue }
	takeRoom = "\x23\x03\x41\x30\x6b\x24\x03"            // room -= 48, the price without locals
	giveRoom = "\x23\x03\x41\x30\x6a\x24\x03"
)

// bodies returns the bodies in a module, without their lengths.
func bodies(t *testing.T, binary []byte) (bodies [][]byte) {
	t.Helper()
	m, err := parseReserved(binary)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range m.functions {
		bodies = append(bodies, f.body)
	}
	return bodies
}

// parseReserved parses a module that may have been rewritten.
func parseReserved(binary []byte) (*module, error) {
	return parse(bytes.ReplaceAll(binary, []byte(reservedPrefix), []byte("edge_")))
}

func mustRewrite(t testing.TB, binary []byte) []byte {
	t.Helper()
	rewritten, err := Rewrite(binary)
	if err != nil {
		t.Fatal(err)
	}
	return rewritten.Module
}

func TestChecks(t *testing.T) {
	f := func(name string, code, want []byte) {
		t.Helper()
		got := bodies(t, mustRewrite(t, one("", "", code)))[0]
		if want = cat(want, opEnd); !bytes.Equal(got, want) {
			t.Errorf("%s:\ngot  %x\nwant %x", name, got, want)
		}
	}
	f("nothing", fn(), cat(0))
	f("loop", fn(opLoop, 0x40, opEnd), cat(0, opLoop, 0x40, loop, opEnd))
	f("loop with a result", fn(opLoop, i32, opI32Const, 5, opEnd, opDrop),
		cat(0, opLoop, i32, loop, opI32Const, 5, opEnd, opDrop))
	f("loop with a type index", fn(opLoop, 0, opEnd), cat(0, opLoop, 0, check, opEnd))
	f("loop with a padded type index", fn(opLoop, 0x80, 0x80, 0x80, 0x80, 0, opEnd),
		cat(0, opLoop, 0x80, 0x80, 0x80, 0x80, 0, check, opEnd))
	f("loops in a block and an if", fn(opBlock, 0x40, opLoop, 0x40, opEnd, opEnd, opI32Const, 0, opIf, 0x40, opLoop, 0x40, opEnd, opEnd),
		cat(0, opBlock, 0x40, opLoop, 0x40, loop, opEnd, opEnd, opI32Const, 0, opIf, 0x40, opLoop, 0x40, loop, opEnd, opEnd))

	// A call of itself takes room: the body becomes a block.
	f("call", fn(opCall, 0), cat(0, take, takeRoom, "\x23\x01\x23\x03\x72", slow, opEnd, opBlock, 0x40, opCall, 0, opEnd, giveRoom))
	f("call after a loop begins", fn(opLoop, 0x40, opCall, 0, opEnd),
		cat(0, takeRoom, "\x23\x03", slow, opEnd, opBlock, 0x40, opLoop, 0x40, loop, opCall, 0, opEnd, opEnd, giveRoom))
	f("call, and a loop that may be left out", fn(opBlock, 0x40, opBr, 0, opLoop, 0x40, opCall, 0, opEnd, opEnd),
		cat(0, take, takeRoom, "\x23\x01\x23\x03\x72", slow, opEnd, opBlock, 0x40,
			opBlock, 0x40, opBr, 0, opLoop, 0x40, loop, opCall, 0, opEnd, opEnd, opEnd, giveRoom))
	f("return", fn(opBlock, 0x40, opReturn, opEnd, opCall, 0, opReturn),
		cat(0, take, takeRoom, "\x23\x01\x23\x03\x72", slow, opEnd, opBlock, 0x40,
			opBlock, 0x40, opBr, 1, opEnd, opCall, 0, opBr, 0, opEnd, giveRoom))
	f("tail call", fn(opReturnCall, 0), cat(0, check, opReturnCall, 0))
	f("tail call and call", fn(opCall, 0, opReturnCall, 0),
		cat(0, take, takeRoom, "\x23\x01\x23\x03\x72", slow, opEnd, opBlock, 0x40, opCall, 0, giveRoom, opReturnCall, 0, opEnd, giveRoom))
	f("return without a call", fn(opReturn), cat(0, opReturn))

	three := cat(opI32Const, 1, opI32Const, 2, opI32Const, 3)
	moved := cat("\x22\x00\x23\x01\x20\x00\x41\x06\x76\x6b\x24\x01\x23\x01", slow, opEnd)
	f("memory.copy", fn(three, opMisc, 10, 0, 0), cat(1, 1, i32, three, moved, opMisc, 10, 0, 0))
	f("memory.fill, padded opcode", fn(three, opMisc, 0x8b, 0x80, 0, 0), cat(1, 1, i32, three, moved, opMisc, 0x8b, 0x80, 0, 0))
	f("memory.copy after locals", sized(cat(2, 0x83, 0, i64, 1, i32), three, opMisc, 10, 0, 0, opEnd),
		cat(3, 0x83, 0, i64, 1, i32, 1, i32, three, bytes.ReplaceAll(bytes.ReplaceAll(moved, []byte("\x22\x00"), []byte("\x22\x04")),
			[]byte("\x20\x00"), []byte("\x20\x04")), opMisc, 10, 0, 0))
	f("memory.grow", fn(opI32Const, 1, opMemoryGrow, 0, opDrop),
		cat(0, opI32Const, 1, "\x23\x01\x41\x80\x08\x6b\x24\x01\x23\x01", slow, opEnd, opMemoryGrow, 0, opDrop))
}

// TestVerbatim has code that nothing is added to, with every kind of immediate.
func TestVerbatim(t *testing.T) {
	f := func(name string, code ...any) {
		t.Helper()
		body := fn(code...)
		if got := bodies(t, mustRewrite(t, one("\x7f\x7f", "", body)))[0]; !bytes.Equal(got, body[1:]) {
			t.Errorf("%s:\ngot  %x\nwant %x", name, got, body[1:])
		}
	}
	f("padded indices", opLocalGet, 0x81, 0x80, 0x80, 0x80, 0, opDrop)
	f("constants", opI32Const, 0xff, 0xff, 0xff, 0xff, 7, opI64Const, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00",
		opF32Const, "\x03\x40\x10\x0b", opF64Const, "\x03\x40\x10\x0b\x03\x40\x10\x0b")
	f("memory", opI32Load, 2, 0x80, 0x80, 0x80, 0x80, 0, opI64Store32, 0x82, 0, 0, opMemorySize, 0)
	f("memory of several", opI32Load, 0x42, 1, 0x10, 0x36, 0x40, 0x81, 0, 0x10, opMemorySize, 1)
	f("branches", opBlock, 0x40, opBrTable, 3, 0, 0, 0x80, 0x80, 0, 0, opBrIf, 0, opEnd, opBr, 0)
	f("select", opSelectTyped, 1, i32, opSelect)
	f("references", opRefNull, 0x70, opRefIsNull, opRefFunc, 0, opRefAsNonNull, opBrOnNull, 0, opBrOnNonNull, 0, opTableGet, 0, opTableSet, 0)
	f("misc", opMisc, 0, opMisc, 7, opMisc, 9, 0, opMisc, 13, 0, opMisc, 16, 0)
	f("vectors", opVector, 0, 4, 0x10, opVector, 11, 0x44, 1, 0, opVector, 12, "\x03\x40\x03\x40\x03\x40\x03\x40\x03\x40\x03\x40\x03\x40\x03\x40",
		opVector, 13, "\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10", opVector, 21, 3, opVector, 34, 3, opVector, 35,
		opVector, 84, 0, 0, 3, opVector, 91, 3, 0x80, 1, 3, opVector, 92, 2, 0, opVector, 93, 3, 0, opVector, 0x80, 1, opVector, 0xff, 1)
	f("atomics", opAtomic, 0, 2, 0, opAtomic, 2, 3, 0x80, 0, opAtomic, 3, 0, opAtomic, 0x10, 2, 0, opAtomic, 0x4e, 2, 0x10)
	f("exceptions", opThrow, 0x80, 0, opThrowRef)
}

func TestExceptionsRestoreRoom(t *testing.T) {
	code := fn(opBlock, 0x40, opTryTable, 0x40, 4, 0, 0, 0, 1, 0, 0, 2, 0, 3, 0, opLoop, 0x40, opCall, 0, opEnd, opEnd, opEnd)
	restore := "\x20\x00\x24\x03"
	want := cat(1, 1, i32, take, takeRoom, "\x23\x01\x23\x03\x72", slow, opEnd, "\x23\x03\x21\x00", opBlock, 0x40,
		opBlock, 0x40, opTryTable, 0x40, 4, 0, 0, 0, 1, 0, 0, 2, 0, 3, 0, opLoop, 0x40, restore, loop, opCall, 0, opEnd, restore,
		opEnd, restore, opEnd, restore, opEnd, restore, giveRoom, opEnd)
	if got := bodies(t, mustRewrite(t, one("", "", code)))[0]; !bytes.Equal(got, want) {
		t.Errorf("\ngot  %x\nwant %x", got, want)
	}
}

func TestSections(t *testing.T) {
	f := func(name string, in, want []byte) {
		t.Helper()
		o := options{refill: 3, room: 5}
		got, err := rewrite(in, o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if !bytes.Equal(got.Module, want) {
			t.Errorf("%s:\ngot  %q\nwant %q", name, got.Module, want)
		}
	}
	globals := func(before ...[]byte) []byte {
		return sec(secGlobal, vec(append(before, cat(i32, 1, 0x41, 0, 0xb), cat(i32, 1, 0x41, 3, 0xb), cat(i64, 1, 0x42, 0, 0xb), cat(i32, 1, 0x41, 5, 0xb))...))
	}
	exports := func(first int, more ...[]byte) []byte {
		added := [][]byte{
			cat(sized(FlagExport), 3, first), cat(sized(FuelExport), 3, first+1), cat(sized(UnitsExport), 3, first+2), cat(sized(RoomExport), 3, first+3),
		}
		return sec(secExport, vec(append(added, more...)...))
	}
	slowBody := func(first int) []byte {
		return sized(0, 0x23, first+3, "\x41\x00\x48\x04\x40\x00\x0b", 0x23, first+2, "\x41\x03", 0x23, first+1, "\x6b\xac\x7c\x24", first+2,
			"\x41\x03\x24", first+1, "\x41\x00\x40\x00\x1a", 0x23, first, "\x04\x40\x00\x0b\x0b")
	}
	empty := sec(secType, vec(typ("", "")))
	function := sec(secFunction, vec([]byte{0}))
	memory := sec(secMemory, vec([]byte{0, 0}))
	code := func(body []byte) []byte { return sec(secCode, vec(body, slowBody(0))) }

	f("empty module", mod(), mod(empty, function, memory, globals(), exports(0), sec(secCode, vec(slowBody(0)))))
	f("type in place", mod(sec(secType, vec(typ(i32, ""), typ("", "")))),
		mod(sec(secType, vec(typ(i32, ""), typ("", ""))), sec(secFunction, vec([]byte{1})), memory, globals(), exports(0), sec(secCode, vec(slowBody(0)))))
	f("start, data count, tag, custom", mod(
		sec(secCustom, sized("a"), "x"), empty, function, sec(secMemory, vec([]byte{0, 7})), sec(13, vec([]byte{0, 0})), sec(secStart, 0),
		sec(secCustom, sized("name"), 0, sized(sized("y"))), sec(9, vec()), sec(12, 0), sec(secCode, vec(fn())), sec(11, vec()),
		sec(secCustom, sized(".debug_info"), "z"), sec(secCustom, sized("metadata.code.branch_hint"))),
		mod(sec(secCustom, sized("a"), "x"), empty, sec(secFunction, vec([]byte{0}, []byte{0})), sec(secMemory, vec([]byte{0, 7})), sec(13, vec([]byte{0, 0})),
			globals(), exports(0, exp(StartExport, 0)), sec(secCustom, sized("name"), 0, sized(sized("y"))), sec(9, vec()), sec(12, 0), code(fn()), sec(11, vec())))
	imports := sec(secImport, vec(cat(sized("m"), sized("f"), 0, 0), cat(sized("m"), sized("g"), 3, i32, 0), cat(sized("m"), sized("m"), 2, 0, 0)))
	f("imports", mod(empty, imports, sec(secGlobal, 0x81, 0, cat(i32, 0, opI32Const, 0x80, 0, opEnd))),
		mod(empty, imports, function, globals(cat(i32, 0, opI32Const, 0x80, 0, opEnd)), exports(2), sec(secCode, vec(slowBody(2)))))
	f("unsound names", mod(sec(secCustom, sized("name"), 1, sized(0xff, 0xff, 0xff, 0xff, 0xf))), mod(empty, function, memory, globals(), exports(0), sec(secCode, vec(slowBody(0)))))
	tables := sec(secTable, vec(cat(0x70, 0, 5), cat(0x6f, 1, 5, 0x80, 0x80, 0x80, 1), cat(0x40, 0, 0x70, 0, 5, opRefNull, 0x70, opEnd)))
	f("tables", mod(tables), mod(empty, function, tables, memory, globals(), exports(0), sec(secCode, vec(slowBody(0)))))
	several := sec(secType, vec(typ("", i32+i64)))
	body := fn(opCall, 0, opReturn)
	f("type for a block", mod(several, function, sec(secCode, vec(body))),
		mod(sec(secType, vec(typ("", i32+i64), typ("", ""))), sec(secFunction, vec([]byte{0}, []byte{1})), memory, globals(), exports(0),
			code(sized(0, take, takeRoom, "\x23\x01\x23\x03\x72", slow, opEnd, opBlock, 0, opCall, 0, opBr, 0, opEnd, giveRoom, opEnd))))
}

func TestRefusals(t *testing.T) {
	f := func(want string, malformed bool, module []byte) {
		t.Helper()
		_, err := Rewrite(module)
		if !errors.Is(err, ErrUnsupported) || errors.Is(err, ErrMalformed) != malformed || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	code := func(code ...any) []byte { return one(i32, "", fn(code...)) }
	f("not a core module", true, nil)
	f("not a core module", true, []byte("\x00asm\x0d\x00\x01\x00"))
	f("offset 8", true, mod([]byte{1, 5}))
	f("section 14", false, mod(sec(14)))
	f("out of order", true, mod(sec(secFunction, vec()), sec(secType, vec())))
	f("out of order", true, mod(sec(secType, vec()), sec(secType, vec())))
	f("bytes left over", true, mod(sec(secType, vec(), 0)))
	f("count beyond the end", true, mod(sec(secType, 0xff, 0xff, 0xff, 0xff, 0xf)))
	f("above 32 bits", true, mod(sec(secType, 0xff, 0xff, 0xff, 0xff, 0x1f)))
	f("type form 0x5f", false, mod(sec(secType, vec(cat(0x5f, 0)))))
	f("unknown type", true, mod(sec(secFunction, vec([]byte{0}))))
	f("limits flag 0x4", false, mod(sec(secMemory, vec([]byte{4, 1}))))
	f("1 functions, 0 bodies", true, mod(sec(secType, vec(typ("", ""))), sec(secFunction, vec([]byte{0}))))
	f("more bodies than functions", true, mod(sec(secCode, vec(fn()))))
	f(`export "edge:fuel"`, false, mod(sec(secExport, vec(exp("edge:fuel", 0)))))
	f("start function 0: not there", true, mod(sec(secStart, 0)))
	f("has parameters", true, mod(sec(secType, vec(typ(i32, ""))), sec(secFunction, vec([]byte{0})), sec(secStart, 0), sec(secCode, vec(fn()))))
	f("block in a constant", true, mod(sec(secGlobal, vec(cat(i32, 0, opBlock, 0x40, opEnd, opEnd)))))

	f("count beyond", true, mod(sec(secElement, vec(cat(1, 0, 0xff, 0xff, 0xff, 0xff, 0xf)))))
	f("length beyond", true, mod(sec(secData, vec(cat(1, 0xff, 0xff, 0xff, 0xff, 0xf)))))

	f("unknown global", true, code(opGlobalGet, 0, opDrop))
	f("unknown global", true, code(opI32Const, 0, opGlobalSet, 0x80, 0x80, 0))
	f("unknown local", true, code(opLocalGet, 1, opDrop))
	f("unknown function", true, code(opCall, 1))
	f("bytes left over", true, code(opEnd))
	f("ends early", true, one("", "", sized(0, opBlock, 0x40, opEnd)))
	f("too many locals", true, one("", "", sized(1, 0xd1, 0x86, 3, i32, opEnd)))
	f("opcode 0x6", false, code(6, 0x40, opEnd))
	f("opcode 0xfb", false, code(0xfb, 0, 0))
	f("opcode 0xfc 0x12", false, code(opMisc, 18))
	f("opcode 0xfd 0x100", false, code(opVector, 0x80, 2))
	f("opcode 0xfd", false, code(opVector, 0x8c, 0, "0123456789abcdef"))
	f("opcode 0xfe 0x4f", false, code(opAtomic, 0x4f, 0, 0))
	f("padded block type", false, code(opBlock, 0xc0, 0x7f, opEnd))
	f("a select whose type has two parts", true, code(opSelectTyped, 1, 0x63, 3))
	f("catch clause 0x4", false, code(opTryTable, 0x40, 1, 4, 0, opEnd))
	f("checks of 4000000 bytes", false, code(bytes.Repeat([]byte{opLoop, 0x40, opEnd}, 100_000)))
}

// TestDeterminism needs no more than twice: nothing but the bytes goes in.
func TestDeterminism(t *testing.T) {
	module := goGuest(t)
	before := bytes.Clone(module)
	first := mustRewrite(t, module)
	if !bytes.Equal(first, mustRewrite(t, module)) {
		t.Error("the same module gave other bytes")
	}
	if !bytes.Equal(before, module) {
		t.Error("the old module changed")
	}
	if grown := 100 * len(first) / len(module); grown > 105 {
		t.Errorf("the module grew to %d %%", grown)
	}
}
