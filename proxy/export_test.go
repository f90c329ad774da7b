package proxy

import (
	"fmt"
	"net/http"

	"github.com/edge-proxy/edge/limiter"
)

// Claimed is what callers hold of the shares of all providers.
func (p *Proxy) Claimed() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, of := range p.providers {
		for number := range uint32(callerLines) {
			if of.shares != nil {
				n += of.shares.Held(limiter.Request{Caller: number})
			}
		}
	}
	return n
}

// Unsettled says what of attempts was not given back: retries, requests at replicas, callers' requests, shares, waiters and
// tickets of lanes. It is empty when nothing is left.
func (p *Proxy) Unsettled() (left []string) {
	note := func(what, of string, n int64) {
		if n != 0 {
			left = append(left, fmt.Sprintf("%s of %s: %d", what, of, n))
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, of := range p.providers {
		note("retrying", name, of.retrying.Load())
		for base, h := range of.health {
			note("in flight", base, h.inFlight.Load())
			h.mu.Lock()
			if h.probing {
				note("probes", base, 1)
			}
			h.mu.Unlock()
		}
		for _, l := range of.quota.all() {
			l.mu.Lock()
			note("waiting", name, int64(l.waiting))
			note("paid", name, int64(l.paid))
			l.mu.Unlock()
		}
		for number := range uint32(callerLines) {
			if of.shares != nil {
				note("shares", name, int64(of.shares.Held(limiter.Request{Caller: number})))
			}
		}
	}
	for name, q := range p.standings {
		note("inside", name, q.inside.Load())
	}
	return left
}

// Unread is how much of r's connection the kernel holds; 0 where it does not tell.
func Unread(r *http.Request) int64 {
	c := connectionOf(r)
	return c.in.holds(c.raw)
}

// SmallGuest is a module of a few bytes that lets every request go on.
func SmallGuest() []byte { return guestModule("") }

// StampGuest is a module that sets the request's field x-stamp to edge.
func StampGuest() []byte {
	return guestModule("\x41\x00\x41\x00\x41\x07\x41\x07\x41\x04\x10\x00") // set_header_value(0, 0, 7, 7, 4)
}

// guestModule is a module whose handle_request does what body says and lets the request go on.
func guestModule(body string) []byte {
	return []byte("\x00asm\x01\x00\x00\x00" +
		section(1, "\x03"+"\x60\x00\x01\x7e"+"\x60\x02\x7f\x7f\x00"+"\x60\x05\x7f\x7f\x7f\x7f\x7f\x00") + // types
		section(2, "\x01"+sized("http_handler")+sized("set_header_value")+"\x00\x02") +
		section(3, "\x02\x00\x01") + // functions: () -> i64 and (i32, i32) -> ()
		section(5, "\x01\x00\x01") + // a memory of one page
		section(7, "\x03"+sized("memory")+"\x02\x00"+sized("handle_request")+"\x00\x01"+sized("handle_response")+"\x00\x02") +
		section(10, "\x02"+sized("\x00"+body+"\x42\x01\x0b")+sized("\x00\x0b")) + // i64.const 1
		section(11, "\x01\x00\x41\x00\x0b"+sized("x-stampedge")))
}

// sized and section build modules; nothing here is longer than 127 bytes.
func sized(s string) string { return string(rune(len(s))) + s }

func section(id byte, content string) string { return string(rune(id)) + sized(content) }

// FilterGuest is a Proxy-Wasm module that sets the request's field x-stamp to edge.
func FilterGuest() []byte {
	return []byte("\x00asm\x01\x00\x00\x00" +
		section(1, "\x03"+"\x60\x00\x00"+"\x60\x03\x7f\x7f\x7f\x01\x7f"+"\x60\x05\x7f\x7f\x7f\x7f\x7f\x01\x7f") + // types
		section(2, "\x01"+sized("env")+sized("proxy_replace_header_map_value")+"\x00\x02") +
		section(3, "\x02\x00\x01") + // functions: () -> () and (i32, i32, i32) -> i32
		section(5, "\x01\x00\x01") + // a memory of one page
		section(7, "\x03"+sized("memory")+"\x02\x00"+sized("proxy_abi_version_0_2_1")+"\x00\x01"+sized("proxy_on_request_headers")+"\x00\x02") +
		section(10, "\x02"+sized("\x00\x0b")+sized("\x00\x41\x00\x41\x00\x41\x07\x41\x07\x41\x04\x10\x00\x1a\x41\x00\x0b")) +
		section(11, "\x01\x00\x41\x00\x0b"+sized("x-stampedge")))
}
