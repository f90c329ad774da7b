package meter

// The opcodes that the rewriter treats, and a few that it writes.
const (
	opUnreachable  = 0x00
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opThrow        = 0x08
	opThrowRef     = 0x0a
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opReturnCall   = 0x12
	opReturnCallI  = 0x13 // return_call_indirect
	opCallRef      = 0x14
	opReturnCallR  = 0x15 // return_call_ref
	opDrop         = 0x1a
	opSelect       = 0x1b
	opSelectTyped  = 0x1c
	opTryTable     = 0x1f
	opLocalGet     = 0x20
	opLocalSet     = 0x21
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opTableGet     = 0x25
	opTableSet     = 0x26
	opI32Load      = 0x28
	opI64Store32   = 0x3e
	opMemorySize   = 0x3f
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opI32Eqz       = 0x45
	opI32LtS       = 0x48
	opI32Add       = 0x6a
	opI32Sub       = 0x6b
	opI32Or        = 0x72
	opI32ShrU      = 0x76
	opI64Add       = 0x7c
	opI64ExtendS   = 0xac
	opI64Extend32  = 0xc4 // the last numeric one
	opRefNull      = 0xd0
	opRefIsNull    = 0xd1
	opRefFunc      = 0xd2
	opRefAsNonNull = 0xd4
	opBrOnNull     = 0xd5
	opBrOnNonNull  = 0xd6
	opMisc         = 0xfc
	opVector       = 0xfd
	opAtomic       = 0xfe

	blockEmpty = 0x40
	typeI32    = 0x7f
	typeI64    = 0x7e
	typeFunc   = 0x60
)

// instruction is one instruction as read.
type instruction struct {
	op    byte   // the opcode, or the prefix of two
	sub   byte   // the opcode after a prefix
	index uint32 // the first index that follows: of a function, local, global or type
	plain bool   // of a block: its type takes no parameters, and is one byte
}

// instruction reads the next one with all its immediates.
//
// Where wazero reads less than the specification allows, this reader refuses the rest: two readers that disagree on
// where an instruction ends would let a guest hide one from this package.
func (r *reader) instruction() (in instruction) {
	in.op = r.byte()
	switch op := in.op; {
	case op >= opI32Load && op <= opI64Store32:
		r.memarg()
	case op >= opI32Eqz && op <= opI64Extend32:
	case op >= opLocalGet && op <= opTableSet, op == opMemorySize, op == opMemoryGrow, op == opCall, op == opReturnCall,
		op == opRefFunc, op == opCallRef, op == opReturnCallR, op == opThrow,
		op == opBr, op == opBrIf, op == opBrOnNull, op == opBrOnNonNull:
		in.index = r.u32()
	case op == opI32Const, op == opRefNull:
		r.skipLEB(5)
	case op == opI64Const:
		r.skipLEB(10)
	case op == opF32Const:
		r.skip(4)
	case op == opF64Const:
		r.skip(8)
	case op == opBlock, op == opLoop, op == opIf:
		in.plain = r.blockType()
	case op == opTryTable:
		in.plain = r.blockType()
		r.catches()
	case op == opCallIndirect, op == opReturnCallI:
		in.index = r.u32()
		r.u32()
	case op == opBrTable:
		for n := r.count(); n > 0 && r.err == nil; n-- {
			r.u32()
		}
		r.u32()
	case op == opSelectTyped:
		r.selectType()
	case op == opMisc:
		in.sub = r.misc()
	case op == opVector:
		r.vector()
	case op == opAtomic:
		r.atomic()
	case op == opUnreachable, op == 0x01, op == opElse, op == opThrowRef, op == opEnd, op == opReturn, op == opDrop,
		op == opSelect, op == opRefIsNull, op == opRefAsNonNull:
	default:
		r.unsupported("opcode", uint32(op))
	}
	return in
}

// memarg reads alignment, memory if there are several, and offset.
func (r *reader) memarg() {
	if align := r.u32(); align&0x40 != 0 {
		r.u32()
	}
	r.skipLEB(10) // an offset of 64 bits is for wazero to refuse
}

// blockType reads the type of a block. It reports whether that is a single byte, which means no parameters.
func (r *reader) blockType() (plain bool) {
	v, size := r.s33()
	switch {
	case v >= 0: // a type of the type section
		return false
	case size != 1:
		r.unsupported("padded block type", uint32(v))
	case v == 0x63-0x80, v == 0x64-0x80: // a reference: the heap type follows
		r.skipLEB(5)
		return false
	}
	return true
}

// selectType reads the one type of a select. One of two parts is malformed here, since such a module must reach no engine,
// not even unchanged: wazero 1.12.0 validates the second part as a type, and compiles it as an instruction.
func (r *reader) selectType() {
	if n := r.byte(); n != 1 {
		r.unsupported("select of types", uint32(n))
	}
	if t := r.byte(); t&0x80 != 0 || t == 0x63 || t == 0x64 {
		r.malformed("a select whose type has two parts")
	}
}

// catches reads the clauses of a try_table.
func (r *reader) catches() {
	for n := r.count(); n > 0 && r.err == nil; n-- {
		switch kind := r.byte(); kind {
		case 0, 1:
			r.u32()
			r.u32()
		case 2, 3:
			r.u32()
		default:
			r.unsupported("catch clause", uint32(kind))
		}
	}
}

// misc reads what follows 0xfc.
func (r *reader) misc() byte {
	sub := r.u32()
	switch sub {
	case 0, 1, 2, 3, 4, 5, 6, 7:
	case 8, 10, 12, 14:
		r.u32()
		r.u32()
	case 9, 11, 13, 15, 16, 17:
		r.u32()
	default:
		r.unsupported("opcode 0xfc", sub)
	}
	return byte(sub)
}

// isBulk reports whether an opcode after 0xfc may move megabytes; the number it moves is its last operand.
func isBulk(sub byte) bool {
	switch sub {
	case 8, 10, 11, 12, 14, 15, 17: // memory.init, copy, fill, table.init, copy, grow, fill
		return true
	}
	return false
}

// vector reads what follows 0xfd. wazero takes one byte as the opcode, and the second byte of a longer one as a nop:
// so that must be 1, which excludes relaxed SIMD too.
func (r *reader) vector() {
	sub := r.byte()
	switch {
	case sub >= 0x80:
		if second := r.byte(); second != 1 {
			r.unsupported("opcode 0xfd", uint32(second&0x7f)<<7|uint32(sub&0x7f))
		}
	case sub <= 11, sub == 92, sub == 93:
		r.memarg()
	case sub == 12, sub == 13:
		r.skip(16)
	case sub >= 21 && sub <= 34:
		r.skip(1)
	case sub >= 84 && sub <= 91:
		r.memarg()
		r.skip(1)
	}
}

// atomic reads what follows 0xfe.
func (r *reader) atomic() {
	switch sub := r.byte(); {
	case sub == 3:
		r.skip(1)
	case sub <= 2, sub >= 0x10 && sub <= 0x4e:
		r.memarg()
	default:
		r.unsupported("opcode 0xfe", uint32(sub))
	}
}
