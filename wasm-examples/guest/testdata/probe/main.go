//go:build wasip1

// Probe uses all of package guest, for its test.
package main

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/edge-proxy/edge/wasm-examples/guest"
)

var served int // requests of this instance

func init() {
	on := guest.Enable(guest.BufferRequest)
	config := guest.Config()
	guest.Logf(guest.Info, "probe: on %d, config %d bytes, %q %s %d%% %v %!", uint32(on), len(config), "a\"b", fmt.Errorf("an error"), int64(5), true)
	guest.HandleRequest(request)
	guest.HandleResponse(response)
}

func main() {}

func request(req guest.Request, resp guest.Response) guest.Verdict {
	served++
	h := req.Header()
	if h.Get("x-stop") != "" {
		resp.SetStatus(418)
		resp.Header().Add("x-many", "1")
		resp.Header().Add("x-many", "2")
		fmt.Fprintf(resp.Body(), "status %d, ", resp.Status())
		_, _ = resp.Body().WriteString("stopped")
		return guest.Stop
	}
	guest.Enable(guest.BufferResponse)
	body := req.Body().ReadAll()
	h.Set("x-seen", fmt.Sprintf("%s %s %s %t", req.Method(), req.URI(), req.Protocol(), strings.HasPrefix(req.Source(), "192.0.2.1:")))
	h.Set("x-names", strings.Join(h.Names(), ","))
	h.Set("x-list", strings.Join(h.Values("X-List"), "+"))
	h.Set("x-length", fmt.Sprint(len(h.Get("x-long"))))
	h.Set("x-none", fmt.Sprintf("%q %d", h.Get("x-not-there"), len(h.Values("x-not-there"))))
	h.Remove("X-Long")
	req.SetMethod("PUT")
	req.SetURI("/changed?x=%20")
	if string(body) != "keep" {
		_, _ = req.Body().Write(bytes.ToUpper(body))
	}
	return guest.NextWith(uint32(len(body)))
}

func response(context uint32, req guest.Request, resp guest.Response, failed bool) {
	small := make([]byte, 3)
	n, err := resp.Body().Read(small)
	none, _ := resp.Body().Read(nil)
	rest := resp.Body().ReadAll()
	resp.Header().Set("x-served", fmt.Sprint(served > 0))
	resp.Header().Remove("x-gone")
	status := resp.Status()
	resp.SetStatus(status + 1)
	fmt.Fprintf(resp.Body(), "%d %t %d %s %d %v %d %d", context, failed, status, small[:n], none, err, len(rest), len(req.Header().Names()))
}
