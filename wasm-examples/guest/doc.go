// Package guest is for http-wasm plugins in plain Go: the functions of the host with Go's types, and the exports it calls.
//
//	//go:build wasip1
//
//	package main
//
//	import "github.com/edge-proxy/edge/wasm-examples/guest"
//
//	func init() {
//		greeting := string(guest.Config())
//		guest.HandleRequest(func(req guest.Request, resp guest.Response) guest.Verdict {
//			if req.Header().Get("x-forbidden") != "" {
//				resp.SetStatus(403)
//				resp.Body().WriteString("no")
//				return guest.Stop
//			}
//			req.Header().Set("x-greeting", greeting)
//			return guest.Next
//		})
//	}
//
//	func main() {} // never called
//
// It is built as a library, which the host starts by running its init functions:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags="-s -w" -o greet.wasm .
//
// The package is meant to be imported or to be copied; it needs the standard library's io, strconv and unsafe alone. fmt
// and encoding/json work in a guest, and add 0.7 MB and more to it.
//
// The host runs one request at a time in an instance, from its request to the end of its answer, so what a plugin keeps
// in variables needs no lock, and is seen by later requests. Where the host refuses a call (a header with no name, a body
// read that was not enabled, a request changed after its time) the guest traps, the request fails, and the instance is
// thrown away: the comments say when.
//
// It does not speak Proxy-Wasm. The ABI is at https://http-wasm.io/http-handler-abi/.
package guest
