//go:build wasip1

// Check-key answers 401 to callers without one of the configured keys, and hides the key from the upstream.
package main

import (
	"crypto/subtle"

	"github.com/edge-proxy/edge/wasm-examples/guest"
)

func init() {
	s, err := parseSettings(string(guest.Config()))
	if err != nil {
		guest.Logf(guest.Error, "check-key: configuration: %v", err)
		panic("check-key: configuration") // no instance: a door that cannot be locked stays shut
	}
	if len(s.keys) == 0 {
		guest.Log(guest.Error, "check-key: no keys are configured, so nobody is let in")
	}
	guest.HandleRequest(s.handle)
}

func main() {}

// handle decides about one request.
func (s settings) handle(req guest.Request, resp guest.Response) guest.Verdict {
	if keys := req.Header().Values(s.header); len(keys) == 1 && s.allows(keys[0]) {
		req.Header().Remove(s.header)
		return guest.Next
	}
	guest.Logf(guest.Debug, "check-key: refused %s", req.Source())
	resp.SetStatus(401)
	resp.Header().Set("content-type", "application/json")
	_, _ = resp.Body().WriteString(`{"error":{"message":"a valid key is required in the header ` + s.header +
		`","type":"invalid_request_error","code":"unauthorized","param":null}}`)
	return guest.Stop
}

// allows compares a key with all that are configured: the time it takes tells nothing of them but their lengths.
func (s settings) allows(key string) bool {
	equal := 0
	for _, k := range s.keys {
		equal |= subtle.ConstantTimeCompare([]byte(k), []byte(key))
	}
	return equal == 1
}
