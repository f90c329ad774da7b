package proxy

import (
	"net/http"
	"runtime"
	"testing"
)

// BenchmarkGuard is what bench/guard counts the instructions and allocations of: one request after the other over one
// connection, with Edge's own client. The caller and the provider of this process are in the figures, and cost the same
// from one version of Edge to the next.
func BenchmarkGuard(b *testing.B) {
	plugin := func(module []byte) Plugin {
		p := DefaultPlugin()
		p.Name, p.Module, p.Phases = "stamp", module, []string{phaseRequest}
		return p
	}
	for _, c := range []struct {
		name, method string
		answer       int // bytes
		plugins      []Plugin
	}{
		{"GET", http.MethodGet, 11, nil},
		{"POST", http.MethodPost, lineContent, nil},
		{"download", http.MethodGet, 256 << 10, nil},
		{"http-wasm", http.MethodPost, lineContent, []Plugin{plugin(StampGuest())}},
		{"proxy-wasm", http.MethodPost, lineContent, []Plugin{plugin(FilterGuest())}},
	} {
		b.Run(c.name, func(b *testing.B) {
			address, _ := line(b, ownClient, c.answer, c.plugins...)
			caller := lineCall(b, address, c.method)
			caller.buffer = make([]byte, c.answer+8<<10)
			call := func() {
				if err := caller.call(); err != nil {
					b.Fatal(err)
				}
			}
			for range 50 { // records and connections are there after the first ones
				call()
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for b.Loop() {
				call()
			}
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(b.N), "mallocs/op")
		})
	}
}
