//go:build wasip1

package proxyguest

import (
	"math"
	"unsafe"
)

// Buffer is content that the host has at hand. A body is there in its callbacks only: the chunk that came, or, after
// callbacks that paused, all that is held.
type Buffer uint32

// The buffers. CallBody is there in the callback of a call, and can only be read.
const (
	RequestBody  Buffer = 0
	ResponseBody Buffer = 1
	CallBody     Buffer = 4

	pluginConfig Buffer = 7
)

// Bytes returns all of it.
func (b Buffer) Bytes() ([]byte, error) { return b.Slice(0, math.MaxUint32) }

// Slice returns at most limit bytes from start on.
func (b Buffer) Slice(start, limit uint32) ([]byte, error) {
	return take(proxyGetBufferBytes(uint32(b), start, limit, &address, &size))
}

// Len returns its length.
func (b Buffer) Len() (int, error) {
	var flags uint32
	s := proxyGetBufferStatus(uint32(b), &number, &flags)
	return int(number), s.err()
}

// Set replaces all of it. Nothing is fine: then the callback's part of the body is dropped.
func (b Buffer) Set(content []byte) error { return b.replace(0, math.MaxUint32, content) }

// Prepend puts content before it.
func (b Buffer) Prepend(content []byte) error { return b.replace(0, 0, content) }

// Append puts content after it.
func (b Buffer) Append(content []byte) error { return b.replace(math.MaxUint32, 0, content) }

func (b Buffer) replace(start, size uint32, content []byte) error {
	p, n := pointer(content)
	if n == 0 {
		p = unsafe.Pointer(&number) // a pointer into the guest, whatever the host does with it
	}
	return proxySetBufferBytes(uint32(b), start, size, p, n).err()
}
