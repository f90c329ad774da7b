package proxywasm

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/plugins"
)

// phases are the calls for one side, so that both sides get the same tests.
type phases struct {
	name                    string
	isResponse              bool
	headers                 func(*Stream, bool) (Verdict, error)
	body                    func(*Stream, []byte, bool) ([]byte, Verdict, error)
	trailers                func(*Stream) (Verdict, error)
	onHeaders, onBody, onTr string
	buffer, fields, tail    int
}

var bothSides = []phases{
	{
		"request", false, (*Stream).RequestHeaders, (*Stream).RequestBody, (*Stream).RequestTrailers,
		"proxy_on_request_headers", "proxy_on_request_body", "proxy_on_request_trailers", 0, 0, 1,
	},
	{
		"response", true, (*Stream).ResponseHeaders, (*Stream).ResponseBody, (*Stream).ResponseTrailers,
		"proxy_on_response_headers", "proxy_on_response_body", "proxy_on_response_trailers", 1, 2, 3,
	},
}

func onBothSides(t *testing.T, f func(t *testing.T, ph phases)) {
	for _, ph := range bothSides {
		t.Run(ph.name, func(t *testing.T) { f(t, ph) })
	}
}

func wantVerdict(t testing.TB, want Verdict, got Verdict, err error) {
	t.Helper()
	if got != want || err != nil {
		t.Fatalf("verdict %v, error %v; want %v", got, err, want)
	}
}

func wantBody(t testing.TB, want string, out []byte, v Verdict, err error) {
	t.Helper()
	wantVerdict(t, Continue, v, err)
	if string(out) != want {
		t.Fatalf("body %q, want %q", out, want)
	}
}

// TestBodyReleasesHeaders is the way of most filters that read bodies: pause in headers, pause until the body's end, change
// both, go on.
func TestBodyReleasesHeaders(t *testing.T) {
	onBothSides(t, func(t *testing.T, ph phases) {
		m := newModule("0_2_1").on(ph.onHeaders, 3, func(c *code) { c.ret(1) })
		m.on(ph.onBody, 3, func(c *code) {
			c.note(cellA, 1)
			c.when(2, 0, func() { c.ret(1) })
			c.call("proxy_get_buffer_bytes", ph.buffer, 0, param(1), outPtr, outSize)
			c.call("proxy_replace_header_map_value", ph.fields, "x-seen", "yes")
			c.call("proxy_set_buffer_bytes", ph.buffer, 0, -1, "changed")
		})
		p := load(t, m, plugins.Config{}, Options{})
		x := newExchange()
		s := open(t, p, x)
		v, err := ph.headers(s, false)
		wantVerdict(t, Paused, v, err)
		_, v, err = ph.body(s, []byte("one "), false)
		wantVerdict(t, Paused, v, err)
		_, v, err = ph.body(s, []byte("two "), false)
		wantVerdict(t, Paused, v, err)
		if got := cellOf(p, cellA); got != 8 || x.charged != 8 {
			t.Errorf("size %d, charged %d, want 8", got, x.charged)
		}
		out, v, err := ph.body(s, []byte("three"), true)
		wantBody(t, "changed", out, v, err)
		wantStatuses(t, p, statusOK, statusOK, statusOK)
		if got := cellOf(p, cellA); got != 13 {
			t.Errorf("size %d, want 13", got)
		}
		within(t, p, s, func(v *vm) {
			if got := v.out(); got != "one two three" {
				t.Errorf("the guest read %q", got)
			}
		})
		mustContain(t, x.lists[ph.fields].String(), "X-Seen: yes")
		if x.charged != 0 {
			t.Errorf("charged %d at the end", x.charged)
		}
	})
}

// TestChunksPassAtOnce wants the chunk itself back, without a copy, from a guest that looks at each.
func TestChunksPassAtOnce(t *testing.T) {
	onBothSides(t, func(t *testing.T, ph phases) {
		p := load(t, streamer("0_2_1").on("unused", 0, func(*code) {}), plugins.Config{}, Options{MaxBody: 4})
		s := open(t, p, newExchange())
		v, err := ph.headers(s, false)
		wantVerdict(t, Continue, v, err)
		chunk := []byte("longer than MaxBody, which is for what is held")
		out, v, err := ph.body(s, chunk, false)
		wantBody(t, string(chunk), out, v, err)
		if &out[0] != &chunk[0] {
			t.Error("the chunk was copied")
		}
		out, v, err = ph.body(s, nil, true)
		wantBody(t, "", out, v, err)
		v, err = ph.trailers(s)
		wantVerdict(t, Continue, v, err)
	})
}

// TestParametersTrimmed calls callbacks with fewer parameters, and without a result.
func TestParametersTrimmed(t *testing.T) {
	m := newModule("0_1_0").on("proxy_on_request_headers", 2, func(c *code) { c.note(cellA, 0); c.note(cellB, 1); c.ret(1) })
	c := &code{m: m}
	c.set(cellC, 1)
	m.funcs = append(m.funcs, function{"proxy_on_response_headers", "", 0, c.b}, function{"proxy_on_vm_start", "", 0, nil})
	m.on("proxy_on_response_body", 0, func(c *code) { c.ret(1) })
	p := load(t, m, plugins.Config{}, Options{})
	s := open(t, p, newExchange())
	v, err := s.RequestHeaders(true)
	wantVerdict(t, Paused, v, err)
	if id, n := cellOf(p, cellA), cellOf(p, cellB); id != s.c.id || n != 7 {
		t.Errorf("id %d, fields %d; want %d, 7", id, n, s.c.id)
	}
	v, err = s.ResponseHeaders(false)
	wantVerdict(t, Continue, v, err)
	_, v, err = s.ResponseBody([]byte("x"), true)
	wantVerdict(t, Paused, v, err)
	if cellOf(p, cellC) != 1 {
		t.Error("a callback without parameters was not called")
	}
}

// TestHeaderActions has what each action of a headers callback means.
func TestHeaderActions(t *testing.T) {
	onBothSides(t, func(t *testing.T, ph phases) {
		f := func(marker string, action int, pause HeaderPause, want Verdict) {
			t.Helper()
			m := newModule(marker).on(ph.onHeaders, 3, func(c *code) { c.ret(action) })
			p := load(t, m.on(ph.onBody, 3, func(*code) {}), plugins.Config{}, Options{HeaderPause: pause})
			s := open(t, p, newExchange())
			v, err := ph.headers(s, false)
			wantVerdict(t, want, v, err)
			if want != PausedAll {
				return
			}
			if _, v, err := ph.body(s, []byte("x"), true); v != PausedAll || !errors.Is(err, ErrPaused) {
				t.Errorf("body of a paused stream: %v, %v", v, err)
			}
			if v, err := ph.trailers(s); v != PausedAll || !errors.Is(err, ErrPaused) {
				t.Errorf("trailers of a paused stream: %v, %v", v, err)
			}
		}
		f("0_2_1", 0, 0, Continue)
		f("0_2_1", 1, 0, Paused)
		f("0_2_1", 2, 0, Continue)
		f("0_2_1", 3, 0, PausedAll)
		f("0_2_1", 4, 0, PausedAll)
		f("0_2_1", 77, 0, PausedAll)
		f("0_2_1", 1, PauseAll, PausedAll)
		f("0_2_100", 1, 0, Paused)
		f("0_2_100", 4, 0, PausedAll)
	})
}

// TestBodyContinueDoesNotBypassCallout is the filter that asks an authorization service in headers and has a body callback
// that does nothing: its first chunk must not release the request.
func TestBodyContinueDoesNotBypassCallout(t *testing.T) {
	f := func(marker string, o Options, want Verdict) {
		t.Helper()
		o.Services = newServices()
		m := newModule(marker).on("proxy_on_request_headers", 3, func(c *code) { c.ask(cellA); c.ret(1) })
		p := load(t, m.on("proxy_on_request_body", 3, func(*code) {}), plugins.Config{}, o)
		v, err := open(t, p, newExchange()).RequestHeaders(false)
		wantVerdict(t, want, v, err)
	}
	f("0_1_0", Options{}, PausedAll)
	f("0_2_0", Options{}, PausedAll)
	f("0_2_1", Options{}, PausedAll)
	f("0_2_100", Options{}, Paused) // Higress's filters return 4 for that
	f("0_2_1", Options{HeaderPause: PauseHeaders}, Paused)
	f("0_2_100", Options{HeaderPause: PauseAll}, PausedAll)

	ticking := newModule("0_2_1").on("proxy_on_configure", 2, func(c *code) {
		c.call("proxy_set_tick_period_milliseconds", 1_000_000)
		c.ret(1)
	}).on("proxy_on_request_headers", 3, func(c *code) { c.ret(1) })
	v, err := open(t, load(t, ticking, plugins.Config{}, Options{}), newExchange()).RequestHeaders(false)
	wantVerdict(t, PausedAll, v, err)
}

// TestResumeInCallback wants continue_stream within a callback to win over the action it returns.
func TestResumeInCallback(t *testing.T) {
	onBothSides(t, func(t *testing.T, ph phases) {
		pause := func(c *code) {
			c.call("proxy_continue_stream", ph.buffer)
			c.ret(1)
		}
		m := newModule("0_2_1").on(ph.onHeaders, 3, pause).on(ph.onBody, 3, pause).on(ph.onTr, 2, pause)
		s := open(t, load(t, m, plugins.Config{}, Options{}), newExchange())
		v, err := ph.headers(s, false)
		wantVerdict(t, Continue, v, err)
		out, v, err := ph.body(s, []byte("x"), false)
		wantBody(t, "x", out, v, err)
		v, err = ph.trailers(s)
		wantVerdict(t, Continue, v, err)
	})
}

// TestBodyLimits bounds what is held.
func TestBodyLimits(t *testing.T) {
	onBothSides(t, func(t *testing.T, ph phases) {
		m := newModule("0_2_1").on(ph.onBody, 3, func(c *code) { c.ret(1) })
		p := load(t, m, plugins.Config{}, Options{MaxBody: 8})
		x := newExchange()
		s := open(t, p, x)
		_, v, err := ph.body(s, []byte("12345678"), false)
		wantVerdict(t, Paused, v, err)
		if _, _, err = ph.body(s, []byte("9"), false); !errors.Is(err, ErrBodyTooLarge) {
			t.Errorf("more than 8 bytes: %v", err)
		}
		s.Close()
		s = open(t, p, x)
		if _, _, err = ph.body(s, []byte("123456789"), false); !errors.Is(err, ErrBodyTooLarge) {
			t.Errorf("9 bytes at once: %v", err)
		}
		s.Close()
		x.limit = 5
		s = open(t, p, x)
		_, v, err = ph.body(s, []byte("1234"), false)
		wantVerdict(t, Paused, v, err)
		if _, _, err = ph.body(s, []byte("56"), false); !errors.Is(err, errCharge) {
			t.Errorf("more than is charged: %v", err)
		}
		s.Close()
		if x.charged != 0 {
			t.Errorf("charged %d after Close", x.charged)
		}
	})
}

// TestNoBufferDrops: the guest has taken the bytes.
func TestNoBufferDrops(t *testing.T) {
	m := newModule("0_2_100").on("proxy_on_response_body", 3, func(c *code) {
		c.when(2, 0, func() { c.ret(actionStopNoBuffer) })
	})
	s := open(t, load(t, m, plugins.Config{}, Options{}), newExchange())
	_, v, err := s.ResponseBody([]byte("gone"), false)
	wantVerdict(t, Paused, v, err)
	out, v, err := s.ResponseBody([]byte("here"), true)
	wantBody(t, "here", out, v, err)
}

// TestInjectedData goes on while the guest keeps the chunks, and before what it lets go.
func TestInjectedData(t *testing.T) {
	const inject = "proxy_inject_encoded_data_to_filter_chain"
	m := newModule("0_2_100").on("proxy_on_response_body", 3, func(c *code) {
		c.bump(cellA)
		c.whenCell(cellA, 1, func() { c.ret(actionStopNoBuffer) }) // keeps the first
		c.whenCell(cellA, 2, func() {
			c.call(inject, "two ", 0)
			c.ret(actionStopNoBuffer)
		})
		c.whenCell(cellA, 3, func() { c.call(inject, "<", 0); c.ret(0) })
		c.ret(1)
	})
	p := load(t, m, plugins.Config{}, Options{MaxBody: 100})
	s := open(t, p, newExchange())
	v, err := s.ResponseHeaders(false)
	wantVerdict(t, Continue, v, err)
	_, v, err = s.ResponseBody([]byte("a"), false)
	wantVerdict(t, Paused, v, err)
	out, v, err := s.ResponseBody([]byte("b"), false)
	wantBody(t, "two ", out, v, err)
	out, v, err = s.ResponseBody([]byte("three"), false)
	wantBody(t, "<three", out, v, err)
	_, v, err = s.ResponseBody([]byte("end"), true)
	wantVerdict(t, Paused, v, err)
	within(t, p, s, func(v *vm) {
		v.want(statusOK, inject, "later ", 0)
		v.want(statusInternal, inject, strings.Repeat("x", 100), 0)
		v.want(statusOK, inject, "at last ", 1)
	})
	v, err = s.Await(t.Context(), true)
	wantVerdict(t, Continue, v, err)
	if got := string(s.TakeHeld(true)); got != "later at last end" {
		t.Errorf("held %q", got)
	}
}

// TestTrailers: those that are there, and those that a guest adds at the end of a body.
func TestTrailers(t *testing.T) {
	onBothSides(t, func(t *testing.T, ph phases) {
		m := newModule("0_2_1").on(ph.onBody, 3, func(c *code) {
			c.call("proxy_add_header_map_value", ph.tail, "x-end", "body")
			c.ret(1)
		}).on(ph.onTr, 2, func(c *code) {
			c.note(cellA, 1)
			c.call("proxy_replace_header_map_value", ph.tail, "x-tail", "seen")
		})
		p := load(t, m, plugins.Config{}, Options{})
		x := newExchange()
		s := open(t, p, x)
		_, v, err := ph.body(s, []byte("held"), false)
		wantVerdict(t, Paused, v, err)
		x.lists[ph.tail].Add("X-Tail", "up")
		v, err = ph.trailers(s)
		wantVerdict(t, Continue, v, err)
		if got := string(s.TakeHeld(ph.isResponse)); got != "held" {
			t.Errorf("held %q", got)
		}
		wantStatuses(t, p, statusNotFound, statusOK)
		if n := cellOf(p, cellA); n != 1 {
			t.Errorf("%d trailers, want 1", n)
		}
		s = open(t, p, x)
		_, v, err = ph.body(s, nil, true)
		wantVerdict(t, Paused, v, err)
		wantStatuses(t, p, statusOK)
		mustContain(t, x.lists[ph.tail].String(), "X-Tail: seen", "X-End: body")
	})
}

// TestPausedTrailers holds all back until resumed.
func TestPausedTrailers(t *testing.T) {
	onBothSides(t, func(t *testing.T, ph phases) {
		m := newModule("0_2_1").on(ph.onTr, 2, func(c *code) { c.ret(1) })
		p := load(t, m, plugins.Config{}, Options{})
		s := open(t, p, newExchange())
		v, err := ph.trailers(s)
		wantVerdict(t, Paused, v, err)
		within(t, p, s, func(v *vm) { v.want(statusOK, "proxy_continue_stream", ph.buffer) })
		v, err = s.Await(t.Context(), ph.isResponse)
		wantVerdict(t, Continue, v, err)
	})
}

func TestCloseStream(t *testing.T) {
	onBothSides(t, func(t *testing.T, ph phases) {
		m := newModule("0_2_1").on(ph.onBody, 3, func(c *code) { c.call("proxy_close_stream", ph.buffer); c.ret(1) })
		s := open(t, load(t, m, plugins.Config{}, Options{}), newExchange())
		_, v, err := ph.body(s, []byte("x"), false)
		wantVerdict(t, Closed, v, err)
		v, err = ph.trailers(s)
		wantVerdict(t, Closed, v, err)
	})
}

// TestEditsAfterHeadersWentOn have no effect and no error, as in Envoy.
func TestEditsAfterHeadersWentOn(t *testing.T) {
	onBothSides(t, func(t *testing.T, ph phases) {
		m := newModule("0_2_1").on(ph.onBody, 3, func(c *code) { c.call("proxy_remove_header_map_value", ph.fields, "content-length") })
		p := load(t, m, plugins.Config{}, Options{})
		x := newExchange()
		x.lists[ph.fields].Add("Content-Length", "5")
		s := open(t, p, x)
		v, err := ph.headers(s, false)
		wantVerdict(t, Continue, v, err)
		_, v, err = ph.body(s, []byte("x"), true)
		wantVerdict(t, Continue, v, err)
		wantStatuses(t, p, statusOK)
		mustContain(t, x.lists[ph.fields].String(), "Content-Length: 5")
	})
}

// TestStateFromRequestToResponse keeps a property for the stream.
func TestStateFromRequestToResponse(t *testing.T) {
	m := newModule("0_2_1").on("proxy_on_request_headers", 3, func(c *code) { c.call("proxy_set_property", "a\x00b", "state") })
	m.on("proxy_on_response_headers", 3, func(c *code) { c.call("proxy_get_property", "a\x00b", outPtr, outSize) })
	p := load(t, m, plugins.Config{}, Options{})
	s := open(t, p, newExchange())
	for range 2 { // the second stream must not see the first one's
		within(t, p, s, func(v *vm) { v.want(statusNotFound, "proxy_get_property", "a\x00b", outPtr, outSize) })
		_, err1 := s.RequestHeaders(true)
		_, err2 := s.ResponseHeaders(true)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		wantStatuses(t, p, statusOK, statusOK)
		within(t, p, s, func(v *vm) {
			if v.out() != "state" {
				t.Errorf("state %q", v.out())
			}
		})
		s.Close()
		s = open(t, p, newExchange())
	}
}

// TestAwaitEnds: by the context, by the pause's limit, by another goroutine.
func TestAwaitEnds(t *testing.T) {
	m := newModule("0_2_1").on("proxy_on_request_headers", 3, func(c *code) { c.ret(4) })
	p := load(t, m, plugins.Config{}, Options{PauseTimeout: 20 * time.Millisecond})
	s := open(t, p, newExchange())
	v, err := s.RequestHeaders(true)
	wantVerdict(t, PausedAll, v, err)
	cause := errors.New("client gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := s.Await(ctx, false); !errors.Is(err, cause) {
		t.Errorf("ended context: %v", err)
	}
	if _, err := s.Await(t.Context(), false); !errors.Is(err, ErrPauseTimeout) || !strings.Contains(err.Error(), "20ms") {
		t.Errorf("pause for ever: %v", err)
	}
	s.Close()
	if _, err := s.Await(t.Context(), false); !errors.Is(err, ErrClosed) {
		t.Errorf("closed stream: %v", err)
	}
	if s.TakeHeld(true) != nil || s.Reply() != nil {
		t.Error("a closed stream has something")
	}
	if _, ok := s.Property("x"); ok {
		t.Error("a closed stream has a property")
	}
}
