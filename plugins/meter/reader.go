package meter

import "fmt"

// reader walks over bytes of unknown origin. Its first fault sticks: what is read after it is zero, and nothing is left.
type reader struct {
	data []byte
	at   int
	err  error
}

// fail keeps the first fault.
func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.at = len(r.data)
}

// malformed fails with what is wrong at this place.
func (r *reader) malformed(what string) {
	r.fail(fmt.Errorf("offset %d: %s: %w", r.at, what, ErrMalformed))
}

// unsupported fails with a thing that this package does not know.
func (r *reader) unsupported(what string, value uint32) {
	r.fail(fmt.Errorf("offset %d: %s %#x: %w", r.at, what, value, ErrUnsupported))
}

func (r *reader) left() int { return len(r.data) - r.at }

// byte is small enough to be inlined.
func (r *reader) byte() (b byte) {
	if r.at >= len(r.data) {
		r.endsEarly()
		return
	}
	b = r.data[r.at]
	r.at++
	return
}

//go:noinline
func (r *reader) endsEarly() { r.malformed("ends early") }

// take returns the next n bytes, as part of data.
func (r *reader) take(n uint32) []byte {
	if uint64(n) > uint64(r.left()) {
		r.malformed("length beyond the end")
		return nil
	}
	p := r.data[r.at : r.at+int(n)]
	r.at += int(n)
	return p
}

func (r *reader) skip(n uint32) { r.take(n) }

// u32 reads an unsigned LEB128 of 32 bits, padded or not.
func (r *reader) u32() uint32 {
	if r.at < len(r.data) && r.data[r.at] < 0x80 {
		r.at++
		return uint32(r.data[r.at-1])
	}
	var v uint32
	for shift := 0; shift < 35; shift += 7 {
		b := r.byte()
		if shift == 28 && b > 0x0f {
			break
		}
		v |= uint32(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	r.malformed("number above 32 bits")
	return 0
}

// s33 reads a signed LEB128 of 33 bits and says how many bytes it had.
func (r *reader) s33() (v int64, size int) {
	for shift := 0; shift < 35; shift += 7 {
		b := r.byte()
		v |= int64(b&0x7f) << shift
		size++
		if b < 0x80 {
			v = v << (64 - 7 - shift) >> (64 - 7 - shift)
			return v, size
		}
	}
	r.malformed("number above 33 bits")
	return 0, 0
}

// skipLEB skips a LEB128 of at most size bytes; its value is for wazero to judge.
func (r *reader) skipLEB(size int) {
	for range size {
		if r.byte() < 0x80 {
			return
		}
	}
	r.malformed("number too long")
}

// count reads the length of a vector whose elements have a byte or more each, so that it never exceeds what is there.
func (r *reader) count() uint32 {
	n := r.u32()
	if uint64(n) > uint64(r.left()) {
		r.malformed("count beyond the end")
		return 0
	}
	return n
}

// done ends the reading of a piece: nothing may be left of it.
func (r *reader) done() error {
	if r.err == nil && r.left() > 0 {
		r.malformed("bytes left over")
	}
	return r.err
}

// valueType reads one value type; a reference to a heap type has two parts.
func (r *reader) valueType() {
	switch b := r.byte(); b {
	case 0x7f, 0x7e, 0x7d, 0x7c, 0x7b, 0x70, 0x6f, 0x69:
	case 0x63, 0x64:
		r.skipLEB(5)
	default:
		r.unsupported("value type", uint32(b))
	}
}

// limits reads the size of a memory or table. Those of 64 bits are not supported.
func (r *reader) limits() {
	flag := r.byte()
	if flag > 3 {
		r.unsupported("limits flag", uint32(flag))
	}
	r.u32()
	if flag&1 != 0 {
		r.u32()
	}
}
