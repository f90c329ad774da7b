// Package httpwasm hosts plugins that speak http-wasm (https://http-wasm.io/http-handler-abi/), the ABI of Traefik's
// WASM plugins. It has the 19 host functions of the module http_handler, and runs a guest's handle_request and
// handle_response for an [Exchange] that its user implements.
//
//	p, err := httpwasm.Load(ctx, host, plugins.Config{Name: "redact", Module: wasm}, httpwasm.Options{
//		MaxInstances: 50, Request: true, Response: true,
//	})
//	if err != nil {
//		return err
//	}
//	defer p.Close()
//	var call httpwasm.Call // in the record of an exchange x
//	next, err := call.Request(ctx, p, x)
//	if err != nil || !next {
//		return err // nil: the guest made the answer
//	}
//	defer call.Release()
//	failed := forward(x) != nil // BuffersResponse says whether the answer is to be held back
//	return call.Response(ctx, x, failed)
//
// A guest that breaks the ABI's rules traps: an unknown kind, an empty name, memory out of bounds, a change that comes
// too late. An instance that trapped, exited or ran out of time serves nobody again. An instance serves one exchange
// from handle_request to handle_response, so a guest may keep what belongs to it in its memory.
//
// Not here: how bodies are held and joined, Content-Length, Host, and what is sent when; that is the exchange's.
// How guests are loaded and bounded is in package plugins.
//
// # Differences
//
// What is done otherwise than by the reference host, http-wasm-host-go:
//
//   - Request and response run on one instance, and an instance in use stays: what a guest keeps in its memory is there
//     when it is called again, unless nobody needed that instance for a minute. The one taken last is the next one taken.
//   - Each guest call has a deadline, and a failed instance is discarded instead of pooled.
//   - Names and values are checked: a method or a name that is no token, or a control character in a value or URI, traps.
//     A status is 200 to 999. A name that is no token is simply absent when it is looked up or removed.
//   - A pointer out of bounds traps in get functions too, if something is to be written there. A pointer to nothing is
//     not looked at.
//   - set_uri after next traps as set_method does.
//   - get_status_code works in handle_response without buffer_response.
//   - read_body of the response in handle_request tells the end: there is no answer yet.
//   - Trailers are there only with the feature trailers; the reference host confuses request trailers with the response's.
//   - enable_features changes nothing in handle_response, and may be called twice before.
//   - While a guest starts it may call enable_features, get_config, log_enabled and log. Others trap.
//   - ctx_next with next 0 and a reqCtx is a stop, and gives the instance back.
//   - A status set by a guest is not sent before handle_request returns: headers and status may be set in any order.
//   - One call may set up to 1 MiB of fields, methods and URIs.
//   - An error of the peer while a body is read is not a trap: the call fails with that error.
package httpwasm
