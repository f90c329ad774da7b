package meter

import (
	"context"
	"testing"

	"github.com/tetratelabs/wazero"
)

// BenchmarkGuest runs guests plain, rewritten, rewritten without bound on recursion, and plain with wazero's own checks
// of the context, which are the alternative.
func BenchmarkGuest(b *testing.B) {
	c, golang := cGuest(b, false), goGuest(b)
	for _, call := range []struct {
		name   string
		module []byte
		export string
		args   []uint64
	}{
		{"c/quiet", c, "quiet", nil},
		{"c/loop", c, "loop", []uint64{1_000_000}},
		{"c/fnv", c, "fnv", []uint64{1}},
		{"c/upper", c, "upper", nil},
		{"c/json", c, "json", nil},
		{"c/fib", c, "fib", []uint64{25}},
		{"c/even", c, "even", []uint64{1000}},
		{"c/sort", c, "sort", []uint64{10}},
		{"c/matmul", c, "matmul", []uint64{1}},
		{"go/quiet", golang, "quiet", nil},
		{"go/fib", golang, "fib", []uint64{20}},
		{"go/json", golang, "json_walk", []uint64{10}},
		{"go/library", golang, "library", []uint64{2}},
		{"go/goroutines", golang, "goroutines", []uint64{20}},
	} {
		run := func(name string, config wazero.RuntimeConfig, o *options) {
			b.Run(call.name+"/"+name, func(b *testing.B) {
				g := start(b, config, call.module, o)
				if g.ExportedFunction("fill") != nil {
					g.call(b, "fill", 1)
				}
				ctx, cancel := context.WithCancel(b.Context())
				defer cancel()
				f := g.ExportedFunction(call.export)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := f.Call(ctx, call.args...); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		run("plain", wazero.NewRuntimeConfig(), nil)
		run("rewritten", wazero.NewRuntimeConfig(), &options{refill: Refill, room: Room})
		run("noroom", wazero.NewRuntimeConfig(), &options{refill: Refill})
		run("context", wazero.NewRuntimeConfig().WithCloseOnContextDone(true), nil)
	}
}

func BenchmarkRewrite(b *testing.B) {
	module := goGuest(b)
	b.SetBytes(int64(len(module)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Rewrite(module); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCompile is what a load costs beside Rewrite.
func BenchmarkCompile(b *testing.B) {
	module := goGuest(b)
	for name, module := range map[string][]byte{"plain": module, "rewritten": mustRewrite(b, module)} {
		b.Run(name, func(b *testing.B) {
			ctx := b.Context()
			b.SetBytes(int64(len(module)))
			for b.Loop() {
				rt := wazero.NewRuntime(ctx)
				if _, err := rt.CompileModule(ctx, module); err != nil {
					b.Fatal(err)
				}
				rt.Close(ctx)
			}
		})
	}
}
