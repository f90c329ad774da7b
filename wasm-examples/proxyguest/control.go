//go:build wasip1

package proxyguest

import "unsafe"

// Side is a half of an exchange.
type Side uint32

// The sides.
const (
	Request  Side = 0
	Response Side = 1
)

// Resume lets go on what was paused, after the callback that is running.
func Resume(s Side) error { return proxyContinueStream(uint32(s)).err() }

// Reset breaks the exchange off.
func Reset(s Side) error { return proxyCloseStream(uint32(s)).err() }

// Reply answers the request instead of the upstream. It works until the upstream's headers went on; the callback that calls
// it returns Pause. The answer passes the plugin's own callbacks for answers.
func Reply(status int, fields []Field, body []byte) error {
	p, n := pointer(body)
	pairs, pairsLength := pointer(appendFields(nil, fields))
	return proxySendLocalResponse(uint32(status), "", p, n, pairs, pairsLength, -1).err()
}

// calls are those under way, by their number, and whose they are.
var calls = map[uint32]call{}

type call struct {
	context uint32
	then    func(ok bool)
}

// Call sends a request to an upstream that the operator has configured, by its name. then runs when the answer is here, with
// CallHeaders, CallBody and CallTrailers to be read, on the exchange that has called; ok is false if there is no answer.
// It does not run when that exchange is over. The fields need :method, :path and :authority.
func Call(upstream string, fields []Field, body []byte, milliseconds uint32, then func(ok bool)) error {
	pairs, pairsLength := pointer(appendFields(nil, fields))
	p, n := pointer(body)
	none, noneLength := unsafe.Pointer(&size), uint32(0)
	s := proxyHTTPCall(upstream, pairs, pairsLength, p, n, none, noneLength, milliseconds, &number)
	if s == 0 {
		calls[number] = call{current, then}
	}
	return s.err()
}

//go:wasmexport proxy_on_http_call_response
func onHTTPCallResponse(_, id, headers, _, _ uint32) {
	c, ok := calls[id]
	delete(calls, id)
	if !ok {
		return
	}
	if s := proxySetEffectiveContext(c.context); s != 0 {
		return // the exchange is over
	}
	current = c.context
	if c.then != nil {
		c.then(headers != 0)
	}
}
