//go:build wasip1

package guest

// Verdict is what becomes of a request.
type Verdict uint64

const (
	// Stop ends the request here: the caller gets the answer that the handler made, 200 without content if none.
	Stop Verdict = 0

	// Next passes the request on.
	Next Verdict = 1
)

// NextWith passes the request on and gives context to the handler of its answer.
func NextWith(context uint32) Verdict { return Verdict(context)<<32 | Next }

var (
	onRequest  = func(Request, Response) Verdict { return Next }
	onResponse = func(uint32, Request, Response, bool) {}
)

// HandleRequest names the function for requests. It is called in an init function; without it, requests pass.
// The Response is the plugin's own: with Stop it is the answer, with Next its headers join the upstream's.
func HandleRequest(handler func(Request, Response) Verdict) { onRequest = handler }

// HandleResponse names the function for the answers to the requests that were passed on. It is called in an init
// function. failed says that there is no answer: the upstream was not reached, or broke off. The Response can be changed
// and its body read only with BufferResponse; the Request can be looked at.
func HandleResponse(handler func(context uint32, req Request, resp Response, failed bool)) {
	onResponse = handler
}

//go:wasmexport handle_request
func handleRequest() uint64 { return uint64(onRequest(Request{}, Response{})) }

//go:wasmexport handle_response
func handleResponse(context, failed uint32) { onResponse(context, Request{}, Response{}, failed != 0) }

// Features are what a plugin wants to do with bodies and trailers.
type Features uint32

const (
	BufferRequest  Features = 1 << iota // read the request's body and still pass it on
	BufferResponse                      // read and replace the whole answer, which the caller gets only then
	Trailers                            // read and change trailers
)

// Enable asks for features, for all requests in an init function and for this one in a handler of requests. It returns
// the features that are enabled now.
func Enable(f Features) Features { return Features(enableFeatures(uint32(f))) }

// Config returns the plugin's configuration as the operator wrote it, usually JSON; empty if there is none.
func Config() []byte { return []byte(text(getConfig)) }
