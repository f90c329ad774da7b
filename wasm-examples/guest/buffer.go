//go:build wasip1

package guest

import "unsafe"

const bufferSize = 2048

// buffer is what the host writes values into; it grows to the longest one. Whoever uses it takes it out, since making
// the result may run another goroutine of the guest.
var buffer []byte

// text returns a value as the host writes it.
func text(get func(buffer unsafe.Pointer, limit uint32) uint32) string {
	b := takeBuffer(bufferSize)
	n := get(unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b)))
	if n > uint32(len(b)) {
		b = takeBuffer(int(n))
		n = get(unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b)))
	}
	s := string(b[:n])
	buffer = b
	return s
}

// list returns values that the host writes each with a NUL after it: the result has their number in the upper half and
// their length in the lower.
func list(get func(buffer unsafe.Pointer, limit uint32) uint64) []string {
	b := takeBuffer(bufferSize)
	result := get(unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b)))
	if n := uint32(result); n > uint32(len(b)) {
		b = takeBuffer(int(n))
		result = get(unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b)))
	}
	count, rest := int(result>>32), string(b[:uint32(result)])
	buffer = b
	if count == 0 {
		return nil
	}
	values := make([]string, 0, count)
	for start, i := 0, 0; i < len(rest); i++ {
		if rest[i] == 0 {
			values = append(values, rest[start:i])
			start = i + 1
		}
	}
	return values
}

// takeBuffer returns a buffer of at least size bytes, which becomes the next one when it is put back into buffer.
func takeBuffer(size int) []byte {
	b := buffer
	buffer = nil
	if len(b) < size {
		b = make([]byte, size)
	}
	return b
}
