// Package proxywasm runs plugins that speak the Proxy-Wasm ABI, in its versions 0.1.0, 0.2.0 and 0.2.1 and Higress's
// 0.2.100 (https://github.com/proxy-wasm/spec): filters written for Envoy, Istio, Kong, APISIX or Higress.
//
//	plugin, err := proxywasm.Load(ctx, host, plugins.Config{Name: "auth", Module: wasm}, proxywasm.Options{})
//	if err != nil {
//		return err // says what is wrong with the module, its vm_start or its configuration
//	}
//	defer plugin.Close()
//
//	var stream proxywasm.Stream // in the record of the exchange
//	opened, err := stream.Open(plugin, exchange)
//	if err != nil || !opened {
//		return err
//	}
//	defer stream.Close()
//	verdict, err := stream.RequestHeaders(false)
//	if err == nil && verdict == proxywasm.PausedAll {
//		verdict, err = stream.Await(ctx, false)
//	}
//	if verdict == proxywasm.Replied {
//		answer(stream.Reply())
//	}
//
// An instance is long-lived and serves many streams, one callback at a time. Bodies pass in chunks; a guest that pauses
// makes the stream hold them. What a guest asks of the host and gets wrong is answered with a status, not a trap. When
// a guest traps, its instance is thrown away with all its streams, and another takes its place.
//
// What of the ABI is done, limited or missing stands in [Hostcalls] and [Callbacks]. Not here: gRPC call-outs, TCP
// filters, HTTP/2 METADATA frames; WASI, deadlines and memory limits, which are the runtime's (package plugins);
// sending requests, which is the business of whoever implements [Services].
package proxywasm
