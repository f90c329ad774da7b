// Package proxyguest is for Proxy-Wasm plugins in plain Go: the host's functions with Go's types, and the exports it calls.
//
//	//go:build wasip1
//
//	package main
//
//	import "github.com/edge-proxy/edge/wasm-examples/proxyguest"
//
//	func init() {
//		proxyguest.Configure(func(config []byte) (proxyguest.Plugin, error) {
//			greeting := string(config)
//			return proxyguest.Plugin{Stream: func() proxyguest.Stream {
//				return proxyguest.Stream{RequestHeaders: func(end bool) proxyguest.Action {
//					if proxyguest.RequestHeaders.Get("x-forbidden") != "" {
//						_ = proxyguest.Reply(403, nil, []byte("no"))
//						return proxyguest.Pause
//					}
//					_ = proxyguest.RequestHeaders.Set("x-greeting", greeting)
//					return proxyguest.Continue
//				}}
//			}}, nil
//		})
//	}
//
//	func main() {} // never called
//
// It is built as a library, which the host starts by running its init functions:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags="-s -w" -o greet.wasm .
//
// An instance serves many exchanges, interleaved, and one callback at a time: variables need no lock, and what belongs to
// one exchange lives in the closures of its Stream. The functions of this package act on the exchange whose callback is
// running; outside of one (in Configure, Tick) only logs, properties, metrics, shared data and calls are of use. Callbacks
// must not block: nothing else runs in the instance meanwhile, and a goroutine that waits for the next callback is a trap.
//
// The ABI is 0.2.1 (https://github.com/proxy-wasm/spec); the host may be Edge, Envoy or another. A refusal of the host's is
// an error, a Status, and no trap. The package needs only the standard library's encoding/binary, math, strconv, strings,
// time and unsafe. Not here: gRPC calls, shared queues, foreign functions, TCP streams, and a Done that is put off.
// Package guest, beside it, is for http-wasm.
package proxyguest
