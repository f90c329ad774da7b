package httpwasm

import (
	"fmt"

	"github.com/tetratelabs/wazero/api"

	"github.com/edge-proxy/edge/plugins"
)

// Limits of what one guest may hand over in one call of its own. More traps it.
const (
	maxFieldBytes = 1 << 20 // names and values of fields, methods and URIs together
	fieldOverhead = 32      // what a field costs beside its bytes
)

// phase is what an instance is doing. A guest's rights follow from it.
type phase uint8

const (
	starting phase = iota // in _initialize or _start
	idle                  // no guest code runs
	request               // in handle_request
	response              // in handle_response
)

// features are the ABI's bit flags.
type features uint32

const (
	bufferRequest features = 1 << iota
	bufferResponse
	trailers
	allFeatures = bufferRequest | bufferResponse | trailers
)

// guest is the state of one instance: what its host functions work on. One goroutine at a time uses it.
type guest struct {
	plugin   *Plugin
	features features // enabled while starting

	handleRequest  *plugins.Function // both looked up when the instance is first used
	handleResponse *plugins.Function
	stack          [2]uint64 // of the guest call: here, so that it is not allocated each time

	// Of the visit, set by begin.
	phase    phase
	enabled  features // of this exchange
	wrote    [bodyKinds]bool
	in       *plugins.Instance
	exchange Exchange
	spent    int // of maxFieldBytes

	at    *hostFunction // which is running: a trap names it
	words words
	names []string // scratch of get_header_names
}

// begin readies the guest for a call of handle_request or handle_response.
func (g *guest) begin(p phase, in *plugins.Instance, x Exchange, enabled features) {
	if g.handleRequest == nil {
		g.handleRequest, g.handleResponse = in.Function("handle_request"), in.Function("handle_response")
	}
	g.phase, g.enabled, g.in, g.exchange = p, enabled, in, x
	g.wrote, g.spent = [bodyKinds]bool{}, 0
}

// end lets go of the exchange. An idle guest keeps none alive.
func (g *guest) end() { g.phase, g.exchange = idle, nil }

// trap ends the guest's call. The runtime makes a *plugins.TrapError of it.
func (g *guest) trap(format string, args ...any) {
	panic(fmt.Errorf("http_handler.%s: %w", g.at.name, fmt.Errorf(format, args...)))
}

// read returns a view of guest memory, valid until the host function returns. The pointer to nothing may be anything.
func (g *guest) read(mem api.Memory, what string, ptr, n uint64) []byte {
	if uint32(n) == 0 {
		return nil
	}
	b, ok := mem.Read(uint32(ptr), uint32(n))
	if !ok {
		g.outOfBounds(mem, what, ptr, n)
	}
	return b
}

func (g *guest) outOfBounds(mem api.Memory, what string, ptr, n uint64) {
	g.trap("%s at %d, %d bytes, is out of bounds: the memory has %d bytes", what, uint32(ptr), uint32(n), mem.Size())
}

// write answers as the ABI's (buf, limit) -> len does: all or nothing, and the full length in any case.
func (g *guest) write(mem api.Memory, s string, buf, limit uint64) uint64 {
	n := uint64(len(s))
	if n > 0 && n <= uint64(uint32(limit)) && !mem.WriteString(uint32(buf), s) {
		g.outOfBounds(mem, "buf", buf, n)
	}
	return n
}

// spend counts what a guest makes the host keep.
func (g *guest) spend(n int) {
	if g.spent += n; g.spent > maxFieldBytes {
		g.trap("more than %d bytes of fields, methods and URIs set in one call", maxFieldBytes)
	}
}

// mustChangeRequest traps a guest that comes too late.
func (g *guest) mustChangeRequest(what string) {
	if g.phase != request {
		g.trap("the %s may be changed in handle_request only", what)
	}
}

// mustChangeResponse traps a guest that would change an answer on its way to the client.
func (g *guest) mustChangeResponse(what string) {
	if g.phase != request && g.enabled&bufferResponse == 0 {
		g.trap("the %s may be changed in handle_response only with the feature buffer_response", what)
	}
}
