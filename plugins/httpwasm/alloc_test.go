package httpwasm

import (
	"context"
	"runtime"
	"testing"

	"github.com/edge-proxy/edge/plugins"
)

// constant is an exchange that costs nothing itself.
type constant struct {
	*fake
	header [kinds]single
}

// single is a list of one field.
type single struct{ name, value string }

func (s *single) Len() int                { return 1 }
func (s *single) At(int) (string, string) { return s.name, s.value }
func (s *single) Set(name, value string)  { s.name, s.value = name, value }
func (s *single) Add(name, value string)  { s.name, s.value = name, value }
func (s *single) Del(string)              {}
func (c *constant) Fields(k Kind) Fields  { return &c.header[k] }

// interpreted is n where wazero has no compiler for the machine, since its interpreter allocates, and 0 elsewhere.
func interpreted(n float64) float64 {
	if runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64" {
		return 0
	}
	return n
}

// stamp is one exchange through the plugin.
func stamp(p *Plugin, c *Call, x Exchange) error {
	if _, err := c.Request(context.Background(), p, x); err != nil {
		return err
	}
	return c.Response(context.Background(), x, false)
}

func TestConstantHeaderIsFree(t *testing.T) {
	p := mustLoad(t, newHost(t), plugins.Config{Module: stamper()}, both)
	x := &constant{fake: newFake()}
	var c Call
	if n := testing.AllocsPerRun(1000, func() {
		if err := stamp(p, &c, x); err != nil {
			t.Fatal(err)
		}
	}); n != interpreted(4) {
		t.Errorf("%v allocations, want %v", n, interpreted(4))
	}
	if x.header[RequestHeader] != (single{"X-Stamp", "edge"}) || x.header[ResponseHeader] != (single{"X-Stamp", "edge"}) {
		t.Errorf("got %v", x.header)
	}
}

// Reading, in all its forms, makes nothing either.
func TestReadingIsFree(t *testing.T) {
	p := mustLoad(t, newHost(t), plugins.Config{Module: interpreter()}, both)
	prepare(t, p, []step{
		do("get_method", space(9)), do("get_uri", space(99)), do("get_header_names", 0, space(99)), do("get_header_values", 0, "x-b", space(99)),
		do("get_config", space(99)), do("log_enabled", 0), do("get_status_code"), do("read_body", 0, space(9)), do("remove_header", 0, "x-none"),
		do("set_method", "GET"), do("set_status_code", 200),
	}, nil)
	x := newFake()
	x.sources[RequestBody] = nil
	var c Call
	if n := testing.AllocsPerRun(1000, func() {
		if err := stamp(p, &c, x); err != nil {
			t.Fatal(err)
		}
	}); n != interpreted(15) {
		t.Errorf("%v allocations, want %v", n, interpreted(15))
	}
}

func BenchmarkConstantHeader(b *testing.B) {
	b.Run("plugin", func(b *testing.B) {
		p := mustLoad(b, newHost(b), plugins.Config{Module: stamper()}, both)
		x := &constant{fake: newFake()}
		var c Call
		b.ReportAllocs()
		for b.Loop() {
			if err := stamp(p, &c, x); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("plugin/parallel", func(b *testing.B) {
		p := mustLoad(b, newHost(b), plugins.Config{Module: stamper()}, Options{MaxInstances: 64, Request: true, Response: true})
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			x := &constant{fake: newFake()}
			var c Call
			for pb.Next() {
				if err := stamp(p, &c, x); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("baseline", func(b *testing.B) { // the same calls on the exchange, in Go
		var x Exchange = &constant{fake: newFake()}
		b.ReportAllocs()
		for b.Loop() {
			x.KeepRequestBody(false)
			_ = x.RequestID()
			x.Fields(RequestHeader).Set("X-Stamp", "edge")
			_ = x.RequestID()
			x.Fields(ResponseHeader).Set("X-Stamp", "edge")
		}
	})
}
