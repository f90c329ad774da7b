package proxywasm

import (
	"testing"

	"github.com/edge-proxy/edge/plugins"
)

// TestLocalReply: it wins over the action, request callbacks end, response callbacks see it.
func TestLocalReply(t *testing.T) {
	for action := range 2 {
		m := newModule("0_2_1").on("proxy_on_request_headers", 3, func(c *code) { c.deny(); c.ret(action) })
		m.on("proxy_on_request_body", 3, func(c *code) { c.trap() })
		m.on("proxy_on_response_headers", 3, func(c *code) {
			c.call("proxy_replace_header_map_value", 2, "x-cors", "1")
			c.call("proxy_send_local_response", 500, "", "", "", -1) // too late to count
		})
		m.on("proxy_on_response_body", 3, func(c *code) { c.call("proxy_set_buffer_bytes", 1, 100, 0, "!") })
		p := load(t, m, plugins.Config{}, Options{})
		x := newExchange()
		s := open(t, p, x)
		v, err := s.RequestHeaders(false)
		wantVerdict(t, Replied, v, err)
		_, v, err = s.RequestBody([]byte("x"), true)
		wantVerdict(t, Replied, v, err)
		r := s.Reply()
		if r.Status != 403 || r.Details != "denied" || string(r.Body) != "no" || len(r.Fields) != 1 || r.GRPCStatus != -1 {
			t.Fatalf("reply %+v", r)
		}
		x.status, x.lists[ResponseHeaders] = r.Status, fields{r.Fields}
		v, err = s.ResponseHeaders(false)
		wantVerdict(t, Continue, v, err)
		out, v, err := s.ResponseBody(r.Body, true)
		wantBody(t, "no!", out, v, err)
		mustContain(t, x.lists[ResponseHeaders].String(), "X-Why: test", "X-Cors: 1")
		wantStatuses(t, p, statusOK, statusOK, statusOK, statusOK)
		if v, err = s.RequestHeaders(true); v != Replied || err != nil {
			t.Errorf("request callback after the reply: %v, %v", v, err)
		}
	}
}

// TestLocalReplyInResponse: the reply has no callbacks of its own, the guest has seen a response.
func TestLocalReplyInResponse(t *testing.T) {
	count := func(c *code) { c.bump(cellA) }
	m := newModule("0_2_1").on("proxy_on_response_headers", 3, func(c *code) { count(c); c.deny(); c.ret(1) })
	m.on("proxy_on_response_body", 3, func(c *code) { count(c) }).on("proxy_on_response_trailers", 2, func(c *code) { count(c) })
	p := load(t, m, plugins.Config{}, Options{})
	s := open(t, p, newExchange())
	v, err := s.ResponseHeaders(false)
	wantVerdict(t, Replied, v, err)
	r := s.Reply()
	v, err = s.ResponseHeaders(false)
	wantVerdict(t, Continue, v, err)
	out, v, err := s.ResponseBody(r.Body, true)
	wantBody(t, "no", out, v, err)
	v, err = s.ResponseTrailers()
	wantVerdict(t, Continue, v, err)
	if n := cellOf(p, cellA); n != 1 {
		t.Errorf("%d response callbacks, want 1", n)
	}
}

// TestLocalReplyTooLate: headers have gone on.
func TestLocalReplyTooLate(t *testing.T) {
	m := newModule("0_2_1").on("proxy_on_response_body", 3, func(c *code) { c.deny() })
	p := load(t, m, plugins.Config{}, Options{})
	s := open(t, p, newExchange())
	v, err := s.ResponseHeaders(false)
	wantVerdict(t, Continue, v, err)
	out, v, err := s.ResponseBody([]byte("up"), true)
	wantBody(t, "up", out, v, err)
	wantStatuses(t, p, statusBadArgument)
}

// TestLocalReplyInPausedBody replaces an answer whose headers wait for its body.
func TestLocalReplyInPausedBody(t *testing.T) {
	m := newModule("0_2_1").on("proxy_on_response_headers", 3, func(c *code) { c.ret(1) })
	m.on("proxy_on_response_body", 3, func(c *code) {
		c.when(2, 0, func() { c.ret(1) })
		c.deny()
	})
	x := newExchange()
	s := open(t, load(t, m, plugins.Config{}, Options{}), x)
	v, err := s.ResponseHeaders(false)
	wantVerdict(t, Paused, v, err)
	_, v, err = s.ResponseBody([]byte("bad "), false)
	wantVerdict(t, Paused, v, err)
	_, v, err = s.ResponseBody([]byte("words"), true)
	wantVerdict(t, Replied, v, err)
	if r := s.Reply(); r.Status != 403 || x.charged != 0 {
		t.Errorf("reply %+v, charged %d", r, x.charged)
	}
}
