package proxywasm

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/plugins"
)

// caller is a guest that pauses a side's headers for a call-out, and acts on its answer as an SDK does: in the context of
// the stream, whose id is in cell A.
func caller(ph phases, then func(c *code)) *module {
	m := newModule("0_2_1").on(ph.onHeaders, 3, func(c *code) {
		c.note(cellA, 0)
		c.ask(cellB)
		c.ret(1)
	})
	return m.on("proxy_on_http_call_response", 5, func(c *code) {
		c.note(cellC, 2)
		c.call("proxy_get_header_map_value", 6, ":status", outPtr, outSize)
		c.call("proxy_get_buffer_bytes", 4, 0, 100, outPtr, outSize)
		c.call("proxy_get_header_map_value", 7, "t", outPtr, outSize)
		c.call("proxy_get_status", outNum, outPtr, outSize)
		c.call("proxy_set_effective_context", cell(cellA))
		then(c)
	})
}

// TestCalloutResumes pauses each side until an answer comes.
func TestCalloutResumes(t *testing.T) {
	onBothSides(t, func(t *testing.T, ph phases) {
		sv := newServices()
		p := load(t, caller(ph, func(c *code) {
			c.call("proxy_add_header_map_value", ph.fields, "x-auth", "ok")
			c.call("proxy_continue_stream", ph.buffer)
		}), plugins.Config{}, Options{Services: sv})
		x := newExchange()
		s := open(t, p, x)
		v, err := ph.headers(s, false)
		wantVerdict(t, PausedAll, v, err)
		wantStatuses(t, p, statusOK)
		go func() {
			c := sv.take()
			c.done(CallResult{Status: 204, Fields: []Field{{"X-A", "1"}}, Body: []byte("body"), Trailers: []Field{{"T", "1"}}})
		}()
		v, err = s.Await(t.Context(), ph.isResponse)
		wantVerdict(t, Continue, v, err)
		wantStatuses(t, p, statusOK, statusOK, statusOK, statusOK, statusOK, statusOK, statusOK)
		if n := cellOf(p, cellC); n != 2 {
			t.Errorf("%d headers of the answer, want 2", n)
		}
		mustContain(t, x.lists[ph.fields].String(), "X-Auth: ok")
		if s.TakeHeld(ph.isResponse) != nil {
			t.Error("something was held")
		}
		out, v, err := ph.body(s, []byte("x"), true)
		wantBody(t, "x", out, v, err)
	})
}

// TestCalloutFails: no headers, and a status for the reason.
func TestCalloutFails(t *testing.T) {
	f := func(err error, code uint32, message string) {
		t.Helper()
		sv := newServices()
		p := load(t, caller(bothSides[0], func(c *code2) { c.deny() }), plugins.Config{}, Options{Services: sv})
		s := open(t, p, newExchange())
		v, e := s.RequestHeaders(true)
		wantVerdict(t, PausedAll, v, e)
		go sv.take().done(CallResult{Err: err, Body: []byte("half an answer")})
		v, e = s.Await(t.Context(), false)
		wantVerdict(t, Replied, v, e)
		wantStatuses(t, p, statusOK, statusNotFound, statusOK, statusNotFound, statusOK, statusOK, statusOK)
		within(t, p, s, func(v *vm) {
			if v.out() != message || v.word(outNum) != code || v.word(cellC) != 0 {
				t.Errorf("%v: status %d %q, %d headers", err, v.word(outNum), v.out(), v.word(cellC))
			}
		})
	}
	f(fmt.Errorf("timeout: %w", context.DeadlineExceeded), 4, "timeout")
	f(errors.New("refused"), 14, "failed")
}

// code2 is code, where that name is taken.
type code2 = code

// TestAnswerWaitsForStream: while the proxy is elsewhere the exchange is not touched; the answer comes with its next call.
func TestAnswerWaitsForStream(t *testing.T) {
	m := newModule("0_2_1").on("proxy_on_request_headers", 3, func(c *code) { c.note(cellA, 0); c.ask(cellB) })
	m.on("proxy_on_http_call_response", 5, func(c *code) {
		c.bump(cellC)
		c.call("proxy_set_effective_context", cell(cellA))
		c.call("proxy_add_header_map_value", 2, "x-auth", "ok")
	})
	m.on("proxy_on_response_headers", 3, func(*code) {})
	sv := newServices()
	p := load(t, m, plugins.Config{}, Options{Services: sv})
	x := newExchange()
	s := open(t, p, x)
	v, err := s.RequestHeaders(true)
	wantVerdict(t, Continue, v, err)
	sv.take().done(CallResult{Status: 200})
	if n := cellOf(p, cellC); n != 0 || p.Stats().InFlight != 1 {
		t.Fatalf("%d callbacks while the proxy was elsewhere, %d in flight", n, p.Stats().InFlight)
	}
	v, err = s.ResponseHeaders(true)
	wantVerdict(t, Continue, v, err)
	wantStatuses(t, p, statusOK, statusOK, statusNotFound) // the answer came before the response
	if n := cellOf(p, cellC); n != 1 || p.Stats().InFlight != 0 {
		t.Errorf("%d callbacks, %d in flight", n, p.Stats().InFlight)
	}
	s.Close()

	s = open(t, p, x)
	v, err = s.RequestHeaders(true)
	wantVerdict(t, Continue, v, err)
	sv.take().done(CallResult{Status: 200})
	s.Close() // brings it too
	s = open(t, p, x)
	v, err = s.RequestHeaders(true)
	wantVerdict(t, Continue, v, err)
	s.Close()
	sv.take().done(CallResult{Status: 200}) // the stream is gone: at once
	if n := cellOf(p, cellC); n != 3 || p.Stats().InFlight != 0 {
		t.Errorf("%d callbacks, %d in flight at the end", n, p.Stats().InFlight)
	}
}

// TestCalloutOutlivesInstance: its answer finds nobody.
func TestCalloutOutlivesInstance(t *testing.T) {
	sv := newServices()
	m := caller(bothSides[0], func(*code) {}).on("proxy_on_response_headers", 3, func(c *code) { c.trap() })
	p := load(t, m, plugins.Config{}, Options{Services: sv})
	s := open(t, p, newExchange())
	v, err := s.RequestHeaders(true)
	wantVerdict(t, PausedAll, v, err)
	_, err = s.ResponseHeaders(true)
	wantReason(t, err, plugins.ReasonTrap)
	c := sv.take()
	if c.ctx.Err() == nil {
		t.Error("the call's context has not ended")
	}
	c.done(CallResult{Status: 200})
	if n := p.Stats().InFlight; n != 0 {
		t.Errorf("%d in flight", n)
	}
}

// TestCloseDropsCallouts of a plugin without streams.
func TestCloseDropsCallouts(t *testing.T) {
	sv := newServices()
	p := load(t, streamer("0_2_1"), plugins.Config{}, Options{Services: sv})
	within(t, p, nil, func(v *vm) {
		v.want(statusOK, "proxy_http_call", "a", serial(":method", "GET", ":path", "/", ":authority", "a"), "", "", 0, outNum)
	})
	p.Close()
	c := sv.take()
	if c.ctx.Err() == nil || p.Stats().InFlight != 0 {
		t.Errorf("context: %v, %d in flight", c.ctx.Err(), p.Stats().InFlight)
	}
	c.done(CallResult{Status: 200})
}

// TestFloodOfCallouts is cut at the limits.
func TestFloodOfCallouts(t *testing.T) {
	m := newModule("0_2_1").on("proxy_on_request_headers", 3, func(c *code) {
		for range 10 {
			c.ask(cellB)
		}
	})
	p := load(t, m, plugins.Config{}, Options{Services: newServices(), MaxCallouts: 6, MaxCalloutsPerStream: 4})
	for range 2 {
		_, err := open(t, p, newExchange()).RequestHeaders(true)
		if err != nil {
			t.Fatal(err)
		}
	}
	refused := 0
	for _, st := range statuses(p) {
		if st == statusInternal {
			refused++
		}
	}
	if st := p.Stats(); refused != 14 || st.InFlight != 6 || st.Refused != 14 {
		t.Errorf("%d refused, stats %+v", refused, st)
	}
}

// TestRedisAnswers brings replies to the plugin's context.
func TestRedisAnswers(t *testing.T) {
	m := newModule("0_2_100").on("proxy_on_redis_call_response", 4, func(c *code) {
		c.note(cellA, 2)
		c.note(cellB, 3)
		c.call("proxy_get_buffer_bytes", 9, 0, 100, outPtr, outSize)
		c.call("proxy_get_buffer_bytes", 4, 0, 100, outNum, outNum)
		c.call("proxy_get_header_map_pairs", 6, outNum, outNum)
		c.bump(cellC)
	})
	sv := newServices()
	sv.redis = &fakeRedis{}
	p := load(t, m, plugins.Config{}, Options{Services: sv})
	within(t, p, nil, func(v *vm) { v.want(statusOK, "proxy_redis_call", "r", "PING", outNum) })
	eventually(t, "a reply", func() bool { return cellOf(p, cellC) == 1 })
	within(t, p, nil, func(v *vm) {
		if v.out() != "+PING" || v.word(cellA) != 0 || v.word(cellB) != 5 {
			t.Errorf("reply %q, status %d, size %d", v.out(), v.word(cellA), v.word(cellB))
		}
	})
	wantStatuses(t, p, statusOK, statusNotFound, statusNotFound)
	within(t, p, nil, func(v *vm) { v.want(statusOK, "proxy_redis_call", "late", "PING", outNum) })
	eventually(t, "a failure", func() bool { return cellOf(p, cellC) == 2 })
	if status, size := cellOf(p, cellA), cellOf(p, cellB); status != 4 || size != 0 {
		t.Errorf("failed: status %d, size %d", status, size)
	}
}

// TestTicks: each instance ticks, in its plugin's context, until it stops.
func TestTicks(t *testing.T) {
	m := newModule("0_2_1").on("proxy_on_configure", 2, func(c *code) {
		c.call("proxy_set_tick_period_milliseconds", 1)
		c.ret(1)
	})
	m.on("proxy_on_tick", 1, func(c *code) {
		c.note(cellB, 0)
		c.bump(cellA)
		c.whenCell(cellA, 3, func() { c.call("proxy_set_tick_period_milliseconds", 0) })
	})
	p := load(t, m, plugins.Config{}, Options{Instances: 2})
	for i := range p.seats {
		eventually(t, "three ticks", func() bool {
			g := p.seats[i].Load()
			g.mu.Lock()
			defer g.mu.Unlock()
			n, _ := g.in.Memory().ReadUint32Le(cellA)
			return n == 3
		})
	}
	if id := cellOf(p, cellB); id != rootID || p.seats[0].Load().period.Load() != 0 {
		t.Errorf("ticked for context %d", id)
	}
	time.Sleep(5 * time.Millisecond)
	if n := cellOf(p, cellA); n != 3 {
		t.Errorf("%d ticks after the end", n)
	}
}

// TestTickResumesStream changes headers of a stream that is awaited, from a tick.
func TestTickResumesStream(t *testing.T) {
	m := newModule("0_2_1").on("proxy_on_request_headers", 3, func(c *code) {
		c.note(cellA, 0)
		c.call("proxy_set_tick_period_milliseconds", 1)
		c.ret(1)
	})
	m.on("proxy_on_tick", 1, func(c *code) {
		c.call("proxy_set_effective_context", cell(cellA))
		c.call("proxy_replace_header_map_value", 0, "x-tick", "1")
		c.call("proxy_continue_stream", 0)
		c.call("proxy_set_tick_period_milliseconds", 0)
	})
	p := load(t, m, plugins.Config{}, Options{HeaderPause: PauseAll})
	x := newExchange()
	s := open(t, p, x)
	v, err := s.RequestHeaders(true)
	wantVerdict(t, PausedAll, v, err)
	v, err = s.Await(t.Context(), false)
	wantVerdict(t, Continue, v, err)
	if err == nil && strings.Contains(x.lists[RequestHeaders].String(), "X-Tick: 1") == (statuses(p)[3] != statusOK) {
		t.Errorf("fields %s", &x.lists[RequestHeaders]) // when the tick came before Await, NOT_FOUND
	}
}

// TestTickWhileProxyElsewhere must not touch the exchange.
func TestTickWhileProxyElsewhere(t *testing.T) {
	m := newModule("0_2_1").on("proxy_on_request_headers", 3, func(c *code) { c.note(cellA, 0); c.ret(4) })
	m.on("proxy_on_tick", 1, func(c *code) {
		c.call("proxy_set_effective_context", cell(cellA))
		c.call("proxy_replace_header_map_value", 0, "x-tick", "1")
		c.call("proxy_get_property", "request.path", outPtr, outSize)
		c.call("proxy_send_local_response", 403, "", "", "", -1)
	})
	p := load(t, m, plugins.Config{}, Options{})
	x := newExchange()
	s := open(t, p, x)
	v, err := s.RequestHeaders(true)
	wantVerdict(t, PausedAll, v, err)
	before := x.touched
	p.call(p.seats[0].Load(), onTick, rootID)
	wantStatuses(t, p, statusOK, statusNotFound, statusNotFound, statusOK)
	if x.touched != before {
		t.Error("the exchange was used")
	}
	v, err = s.Await(t.Context(), false)
	wantVerdict(t, Replied, v, err)
}

// TestQueueWakesUp brings each item to one instance, also from another plugin, also after the one that registered died.
func TestQueueWakesUp(t *testing.T) {
	m := newModule("0_2_1").on("proxy_on_vm_start", 2, func(c *code) {
		c.call("proxy_register_shared_queue", "q", cellA)
		c.ret(1)
	})
	m.on("proxy_on_queue_ready", 2, func(c *code) {
		c.call("proxy_dequeue_shared_queue", param(1), outPtr, outSize)
		c.i32(0) // 1 when there was an item
		c.op(0x1a)
		c.call("proxy_increment_metric", 1, 1)
	})
	m.on("proxy_on_configure", 2, func(c *code) {
		c.call("proxy_define_metric", 0, "items", cellB)
		c.ret(1)
	})
	m.on("proxy_on_request_headers", 3, func(c *code) { c.trap() })
	store := NewStore(0)
	p := load(t, m, plugins.Config{}, Options{Instances: 2, Store: store, VMID: "shared"})
	other := load(t, streamer("0_2_1"), plugins.Config{}, Options{Store: store, VMID: "other"})
	items := func() int64 { return p.Stats().Metrics[0].Value }
	send := func(n int) {
		t.Helper()
		within(t, other, nil, func(v *vm) {
			v.want(statusOK, "proxy_resolve_shared_queue", "shared", "q", outNum)
			q := int(v.word(outNum))
			for range n {
				v.want(statusOK, "proxy_enqueue_shared_queue", q, "item")
			}
		})
	}
	send(200)
	eventually(t, "200 wake-ups", func() bool { return items() == 200 })
	store.mu.Lock()
	g := store.queues[0].guest
	store.mu.Unlock()
	for !g.dead.Load() {
		s, err := p.Open(newExchange())
		if err != nil {
			runtime.Gosched()
			continue
		}
		_, _ = s.RequestHeaders(true)
		s.Close()
	}
	send(3)
	eventually(t, "wake-ups after a death", func() bool { return items() == 203 })
	empty := func() bool { store.mu.Lock(); defer store.mu.Unlock(); return len(store.queues[0].items) == 0 }
	if !empty() {
		t.Error("items are left")
	}
	p.Close()
	send(1) // nobody is told
	if empty() || store.Bytes() == 0 {
		t.Error("the item is gone")
	}
}
