package httpwasm

import (
	"io"

	"github.com/tetratelabs/wazero/api"
)

// maxEmptyReads is how often a body may give nothing, neither bytes nor an end, before the call ends.
const maxEmptyReads = 100

// getMethod: (buf, limit) -> len.
func getMethod(g *guest, mem api.Memory, stack []uint64) {
	stack[0] = g.write(mem, g.exchange.Method(), stack[0], stack[1])
}

// setMethod: (method, len).
func setMethod(g *guest, mem api.Memory, stack []uint64) {
	g.mustChangeRequest("method")
	method := g.read(mem, "method", stack[0], stack[1])
	if !token(method) {
		g.trap("%.40q is not a method", method)
	}
	g.spend(len(method))
	s, _ := g.words.value(method)
	g.exchange.SetMethod(s)
}

// getURI: (buf, limit) -> len.
func getURI(g *guest, mem api.Memory, stack []uint64) {
	uri := g.exchange.URI()
	if uri == "" {
		uri = "/"
	}
	stack[0] = g.write(mem, uri, stack[0], stack[1])
}

// setURI: (uri, len).
func setURI(g *guest, mem api.Memory, stack []uint64) {
	g.mustChangeRequest("URI")
	b := g.read(mem, "uri", stack[0], stack[1])
	if !validURI(b) {
		g.trap("%.200q is not a URI: it has a space or a control character", b)
	}
	g.spend(len(b))
	uri := "/"
	if len(b) > 0 {
		uri, _ = g.words.value(b)
	}
	if err := g.exchange.SetURI(uri); err != nil {
		g.trap("%.200q: %w", uri, err)
	}
}

// getProtocolVersion: (buf, limit) -> len.
func getProtocolVersion(g *guest, mem api.Memory, stack []uint64) {
	stack[0] = g.write(mem, g.exchange.Protocol(), stack[0], stack[1])
}

// getSourceAddr: (buf, limit) -> len.
func getSourceAddr(g *guest, mem api.Memory, stack []uint64) {
	stack[0] = g.write(mem, g.exchange.SourceAddr(), stack[0], stack[1])
}

// getStatusCode: () -> code.
func getStatusCode(g *guest, _ api.Memory, stack []uint64) {
	stack[0] = uint64(uint32(g.exchange.Status()))
}

// setStatusCode: (code).
func setStatusCode(g *guest, _ api.Memory, stack []uint64) {
	g.mustChangeResponse("status code")
	code := uint32(stack[0])
	if code < 200 || code > 999 {
		g.trap("%d is not the status of an answer: want 200 to 999", code)
	}
	g.exchange.SetStatus(int(code))
}

// bodyKind checks a guest's body kind.
func (g *guest) bodyKind(k uint64) BodyKind {
	kind := BodyKind(k)
	if kind >= bodyKinds {
		g.trap("unknown body kind %d: want 0 or 1", kind)
	}
	return kind
}

// readBody: (kind, buf, limit) -> eof<<32 | len.
func readBody(g *guest, mem api.Memory, stack []uint64) {
	kind := g.bodyKind(stack[0])
	if uint32(stack[2]) == 0 {
		g.trap("limit is 0")
	}
	into := g.read(mem, "buf", stack[1], stack[2])
	const eof = 1 << 32
	switch {
	case kind == RequestBody && g.phase != request && g.enabled&bufferRequest == 0:
		g.trap("the request body may be read in handle_response only with the feature buffer_request")
	case kind == ResponseBody && g.phase != request && g.enabled&bufferResponse == 0:
		g.trap("the response body may be read only with the feature buffer_response")
	case kind == ResponseBody && g.phase == request:
		stack[0] = eof // no answer yet
		return
	}
	n, end := g.fill(kind, into)
	stack[0] = uint64(n)
	if end {
		stack[0] |= eof
	}
}

// fill reads until into is full or the body ends. The wait for the peer is not the guest's time.
func (g *guest) fill(kind BodyKind, into []byte) (n int, eof bool) {
	if !g.in.Outside() {
		g.trap("out of time")
	}
	var err error
	for empty := 0; n < len(into) && !eof && err == nil; {
		var m int
		m, eof, err = g.exchange.ReadBody(kind, into[n:])
		n += m
		if m == 0 && !eof && err == nil {
			if empty++; empty == maxEmptyReads {
				err = io.ErrNoProgress
			}
		}
	}
	g.in.Inside()
	if err != nil {
		g.in.Abort(err)
	}
	return n, eof
}

// writeBody: (kind, body, len).
func writeBody(g *guest, mem api.Memory, stack []uint64) {
	kind := g.bodyKind(stack[0])
	if kind == RequestBody {
		g.mustChangeRequest("request body")
	} else {
		g.mustChangeResponse("response body")
	}
	body := g.read(mem, "body", stack[1], stack[2])
	first := !g.wrote[kind]
	g.wrote[kind] = true
	if err := g.exchange.WriteBody(kind, body, first); err != nil {
		g.in.Abort(err)
	}
}
