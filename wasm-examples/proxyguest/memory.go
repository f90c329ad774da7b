//go:build wasip1

package proxyguest

import (
	"strconv"
	"unsafe"
)

// Status is the host's answer to a call, as an error. The call's function returns nil instead of 0, which is OK.
type Status uint32

// What the host refuses with.
const (
	NotFound        Status = 1
	BadArgument     Status = 2
	ParseFailure    Status = 4
	InvalidMemory   Status = 6
	Empty           Status = 7
	VersionMismatch Status = 8 // another has changed shared data since it was read
	InternalFailure Status = 10
	Unimplemented   Status = 12
)

var statusNames = map[Status]string{
	NotFound: "not found", BadArgument: "bad argument", ParseFailure: "parse failure", InvalidMemory: "invalid memory access",
	Empty: "empty", VersionMismatch: "version mismatch", InternalFailure: "internal failure", Unimplemented: "unimplemented",
}

func (s Status) Error() string {
	if name, ok := statusNames[s]; ok {
		return "proxyguest: " + name
	}
	return "proxyguest: status " + strconv.FormatUint(uint64(s), 10)
}

func (s Status) err() error {
	if s == 0 {
		return nil
	}
	return s
}

// lent is the memory that the host has allocated and nobody has taken yet, by its address: here the collector sees it.
var lent = map[uint32][]byte{}

//go:wasmexport proxy_on_memory_allocate
func memoryAllocate(size uint32) uint32 {
	b := make([]byte, max(size, 1))
	address := uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
	lent[address] = b[:size]
	return address
}

// The host writes results here: an address and a size, and a number. What it could reach on a stack might move, since the
// call may come back for memory; and a call into the host never returns to another one.
var (
	address, size, number uint32
	number64              uint64
)

// take returns the bytes that a call has left at address and size.
func take(s Status) ([]byte, error) {
	b := lent[address]
	clear(lent)
	n := size
	address, size = 0, 0
	if s != 0 {
		return nil, s
	}
	return b[:min(n, uint32(len(b)))], nil
}

func pointer(b []byte) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b))
}
