package proxywasm

import (
	"encoding/binary"
	"errors"
)

// pairOverhead is what a pair takes beside its bytes: two lengths and two NULs.
const pairOverhead = 10

var errPairs = errors.New("malformed map")

// pairs is a map in the ABI's serial form, checked. The form is little-endian:
//
//	count u32 | count x (name length u32, value length u32) | count x (name NUL value NUL)
//
// What follows is not looked at. No bytes at all are a map without pairs.
type pairs []byte

// parsePairs checks b.
func parsePairs(b []byte) (pairs, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) < 4 {
		return nil, errPairs
	}
	count := uint64(binary.LittleEndian.Uint32(b))
	if count > uint64(len(b)-4)/pairOverhead {
		return nil, errPairs
	}
	at := 4 + 8*count
	for i := range 2 * count {
		at += uint64(binary.LittleEndian.Uint32(b[4+4*i:])) // at most 2^32 additions of 32 bits do not overflow
		if at >= uint64(len(b)) || b[at] != 0 {
			return nil, errPairs
		}
		at++
	}
	return b, nil
}

// len returns how many pairs there are.
func (p pairs) len() int {
	if len(p) == 0 {
		return 0
	}
	return int(binary.LittleEndian.Uint32(p))
}

// all visits the pairs in their order. The names and values are views of p.
func (p pairs) all(yield func(name, value []byte) bool) {
	count := p.len()
	at := 4 + 8*count
	for i := range count {
		n, v := int(binary.LittleEndian.Uint32(p[4+8*i:])), int(binary.LittleEndian.Uint32(p[8+8*i:]))
		if !yield(p[at:at+n], p[at+n+1:at+n+1+v]) {
			return
		}
		at += n + v + 2
	}
}

// size returns the bytes that append appends.
func (m *fieldMap) size() int {
	size := 4
	for name, value := range m.all {
		size += len(name) + len(value) + pairOverhead
	}
	return size
}

// append appends the map in its serial form, names in lower case.
func (m *fieldMap) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(m.count()))
	for name, value := range m.all {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(name)))
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(value)))
	}
	for name, value := range m.all {
		for i := range len(name) {
			dst = append(dst, lower(name[i]))
		}
		dst = append(append(append(dst, 0), value...), 0)
	}
	return dst
}
