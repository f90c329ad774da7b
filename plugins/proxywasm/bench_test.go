package proxywasm

import (
	"runtime"
	"testing"

	"github.com/edge-proxy/edge/plugins"
)

// oneHeader is a guest that sets one header of the request.
func oneHeader() *module {
	m := newModule("0_2_1").on("proxy_on_request_headers", 3, func(c *code) {
		c.call("proxy_replace_header_map_value", 0, "x-stamp", "edge")
		c.set(countAt, 0)
	})
	m.on("proxy_on_context_create", 2, func(*code) {})
	m.on("proxy_on_done", 1, func(c *code) { c.ret(1) })
	m.on("proxy_on_log", 1, func(*code) {})
	return m.on("proxy_on_delete", 1, func(*code) {})
}

// visit is an exchange's whole visit.
func visit(s *Stream, p *Plugin, x Exchange) error {
	if _, err := s.Open(p, x); err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.RequestHeaders(true); err != nil {
		return err
	}
	_, err := s.ResponseHeaders(true)
	return err
}

// interpreted is n where wazero has no compiler for the machine, since its interpreter allocates, and 0 elsewhere.
func interpreted(n float64) float64 {
	if runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64" {
		return 0
	}
	return n
}

// TestVisitAllocatesNothing: a stream, one header set, all of its callbacks.
func TestVisitAllocatesNothing(t *testing.T) {
	p := load(t, oneHeader(), plugins.Config{}, Options{})
	x := newExchange()
	var s Stream
	if n := testing.AllocsPerRun(1000, func() {
		if err := visit(&s, p, x); err != nil {
			t.Fatal(err)
		}
	}); n != interpreted(6) {
		t.Errorf("%v allocations, want %v", n, interpreted(6))
	}
}

// TestReadingAllocatesNothing: reading fields, the whole map, a property; chunks of a body held and changed.
func TestReadingAllocatesNothing(t *testing.T) {
	m := newModule("0_2_1").on("proxy_on_request_headers", 3, func(c *code) {
		c.call("proxy_get_header_map_value", 0, "content-type", outPtr, outSize)
		c.call("proxy_get_header_map_value", 0, "x-two", outPtr, outSize)
		c.call("proxy_get_header_map_pairs", 0, outPtr, outSize)
		c.call("proxy_get_header_map_size", 0, outNum)
		c.set(countAt, 0)
		c.ret(1)
	})
	m.on("proxy_on_request_body", 3, func(c *code) {
		c.when(2, 0, func() { c.ret(1) })
		c.call("proxy_get_buffer_bytes", 0, 0, 100, outPtr, outSize)
		c.call("proxy_set_buffer_bytes", 0, 2, 3, "other")
		c.set(countAt, 0)
	})
	p := load(t, m, plugins.Config{}, Options{})
	x := newExchange()
	chunk := []byte("a chunk of a body")
	var s Stream
	if n := testing.AllocsPerRun(1000, func() {
		_, err1 := s.Open(p, x)
		_, err2 := s.RequestHeaders(false)
		_, _, err3 := s.RequestBody(chunk, false)
		out, v, err4 := s.RequestBody(chunk, true)
		if err1 != nil || err2 != nil || err3 != nil || err4 != nil || v != Continue || len(out) != 2*len(chunk)+2 {
			t.Fatal(err1, err2, err3, err4, v, len(out))
		}
		s.Close()
	}); n != interpreted(13) {
		t.Errorf("%v allocations, want %v", n, interpreted(13))
	}
}

// BenchmarkVisit is a stream of a guest that sets one header: six guest calls, one hostcall.
func BenchmarkVisit(b *testing.B) {
	p := load(b, oneHeader(), plugins.Config{}, Options{})
	x := newExchange()
	var s Stream
	b.ReportAllocs()
	for b.Loop() {
		if err := visit(&s, p, x); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVisitParallel is the same with an instance for each processor.
func BenchmarkVisitParallel(b *testing.B) {
	p := load(b, oneHeader(), plugins.Config{}, Options{Instances: 4})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		x := newExchange()
		var s Stream
		for pb.Next() {
			if err := visit(&s, p, x); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkCall is the plain cost of one guest call: the baseline.
func BenchmarkCall(b *testing.B) {
	p := load(b, oneHeader(), plugins.Config{}, Options{})
	g := p.seats[0].Load()
	f := g.in.Function("proxy_on_log")
	b.ReportAllocs()
	for b.Loop() {
		if err := g.in.Call(f, g.stack[:]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkChunk is one chunk of a streamed answer through a guest that looks at it.
func BenchmarkChunk(b *testing.B) {
	m := newModule("0_2_1").on("proxy_on_response_body", 3, func(c *code) {
		c.call("proxy_get_buffer_bytes", 1, 0, param(1), outPtr, outSize)
		c.set(countAt, 0)
	})
	p := load(b, m, plugins.Config{}, Options{})
	s := open(b, p, newExchange())
	chunk := make([]byte, 200)
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.ResponseBody(chunk, false); err != nil {
			b.Fatal(err)
		}
	}
}
