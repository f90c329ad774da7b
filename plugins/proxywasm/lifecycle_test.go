package proxywasm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/plugins"
)

// TestLoadRefuses names what is wrong with a guest.
func TestLoadRefuses(t *testing.T) {
	f := func(name string, m *module, o Options, parts ...string) {
		t.Helper()
		var out logs
		p, err := try(t, m.bytes(), plugins.Config{Logger: out.logger(), StartTimeout: 50 * time.Millisecond}, o)
		if err == nil {
			p.Close()
			t.Errorf("%s: loaded", name)
			return
		}
		mustContain(t, err.Error(), append(parts, "guest")...)
	}
	f("no marker", newModule(""), Options{}, "does not speak Proxy-Wasm", "proxy_abi_version_", "0.2.1")
	f("wrong marker", newModule("0_3_0"), Options{}, "speaks Proxy-Wasm 0.3.0", "0.2.100")
	f("vm_start", newModule("0_2_1").on("proxy_on_vm_start", 2, func(*code) {}), Options{}, "proxy_on_vm_start returned 0")
	f("configure", newModule("0_2_1").on("proxy_on_configure", 2, func(*code) {}), Options{}, "proxy_on_configure returned 0")
	f("trap", newModule("0_2_1").on("proxy_on_configure", 2, func(c *code) { c.trap() }), Options{}, "proxy_on_configure", "trap")
	f("endless", newModule("0_2_1").on("proxy_on_vm_start", 2, func(c *code) { c.spin() }), Options{}, "proxy_on_vm_start", "timeout")
	f("context", newModule("0_2_1").on("proxy_on_context_create", 2, func(c *code) { c.trap() }), Options{}, "proxy_on_context_create")
	f("parameters", newModule("0_2_1").on("proxy_on_tick", 2, func(*code) {}), Options{}, "proxy_on_tick with at most 1 i32")
	f("instances", newModule("0_2_1"), Options{Instances: 65}, "instances", "1 to 64")
	f("limits", newModule("0_2_1"), Options{MaxBody: -1}, "limits")
	start := newModule("0_2_1").on("proxy_on_vm_start", 2, func(c *code) { c.trap() })
	if _, err := try(t, start.bytes()[:40], plugins.Config{}, Options{}); err == nil {
		t.Error("half a module: loaded")
	}
}

// TestStart has the order of the first callbacks, what the guest reads in them, and main after _initialize.
func TestStart(t *testing.T) {
	m := newModule("0_2_1")
	step := func(n int) func(c *code) {
		return func(c *code) {
			c.call("proxy_get_buffer_bytes", 6, 0, 100, outPtr, outSize)
			c.i32(cellA) // a = 10 * a + n
			c.cell(cellA)
			c.i32(10)
			c.op(0x6c)
			c.i32(n)
			c.op(0x6a)
			c.store()
			c.ret(1)
		}
	}
	init := &code{m: m}
	init.set(cellA, 1)
	m.funcs = append(m.funcs, function{"_initialize", "", 0, init.b})
	m.on("main", 2, step(2)).on("proxy_on_context_create", 2, step(3)).on("proxy_on_vm_start", 2, step(4))
	m.on("proxy_on_configure", 2, func(c *code) { c.note(cellB, 1); step(5)(c) })
	p := load(t, m, plugins.Config{Settings: []byte("12345")}, Options{VMConfig: []byte("vm")})
	if order, size := cellOf(p, cellA), cellOf(p, cellB); order != 12345 || size != 5 {
		t.Errorf("order %d, settings of %d bytes", order, size)
	}
	if p.ABI() != "0.2.1" || p.Name() != "guest" || p.Streaming() {
		t.Errorf("abi %s, name %s, streaming %v", p.ABI(), p.Name(), p.Streaming())
	}
	within(t, p, nil, func(v *vm) {
		if v.out() != "vm" {
			t.Errorf("vm config %q", v.out())
		}
	})
}

func TestVersions(t *testing.T) {
	for _, name := range versionNames {
		p := load(t, streamer(strings.ReplaceAll(name, ".", "_")), plugins.Config{}, Options{})
		if p.ABI() != name {
			t.Errorf("abi %s, want %s", p.ABI(), name)
		}
		if w := p.Wants(); w != (Wants{true, true, true, true, true, true}) {
			t.Errorf("wants %+v", w)
		}
	}
}

// TestBackgroundPlugin has no callbacks for streams: it is not opened.
func TestBackgroundPlugin(t *testing.T) {
	p := load(t, newModule("0_2_1").on("proxy_on_tick", 1, func(*code) {}), plugins.Config{}, Options{})
	if s, err := p.Open(newExchange()); s != nil || err != nil {
		t.Errorf("open: %v, %v", s, err)
	}
}

// record is a guest that logs its callbacks for contexts.
func record(c *code, what string) { c.call("proxy_log", 2, what) }

// TestEndOfStream has done, log and delete in this order, with the exchange still there; and the plugin's own at its end.
func TestEndOfStream(t *testing.T) {
	var out logs
	m := newModule("0_2_1").on("proxy_on_done", 1, func(c *code) { record(c, "done"); c.ret(1) })
	m.on("proxy_on_log", 1, func(c *code) {
		record(c, "log")
		c.call("proxy_get_header_map_value", 2, ":status", outPtr, outSize)
	})
	m.on("proxy_on_delete", 1, func(c *code) { record(c, "delete") })
	p := load(t, m, plugins.Config{Logger: out.logger()}, Options{})
	s := open(t, p, newExchange())
	v, err := s.ResponseHeaders(true)
	wantVerdict(t, Continue, v, err)
	s.Close()
	s.Close()
	wantStatuses(t, p, statusOK, statusOK, statusOK, statusOK)
	wantOrder(t, out.String(), "text=done", "text=log", "text=delete")
	before := len(out.String())
	p.Close()
	p.Close()
	wantOrder(t, out.String()[before:], "text=done", "text=delete")
	if strings.Contains(out.String()[before:], "text=log") {
		t.Error("on_log of the plugin's context")
	}
	if _, err := p.Open(newExchange()); !errors.Is(err, ErrClosed) {
		t.Errorf("open after Close: %v", err)
	}
	mustContain(t, out.String(), "request_id=id-1")
}

func wantOrder(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		i := strings.Index(text, part)
		if i < 0 {
			t.Fatalf("no %q in what is left: %q", part, text)
		}
		text = text[i+len(part):]
	}
}

// TestCloseWaitsForStreams: an instance ends with its last stream.
func TestCloseWaitsForStreams(t *testing.T) {
	p := load(t, streamer("0_2_1"), plugins.Config{}, Options{})
	s := open(t, p, newExchange())
	p.Close()
	v, err := s.RequestHeaders(true)
	wantVerdict(t, Continue, v, err)
	if n := p.Stats().Instances; n != 1 {
		t.Errorf("%d instances while a stream is open", n)
	}
	s.Close()
	if n := p.Stats().Instances; n != 0 {
		t.Errorf("%d instances at the end", n)
	}
}

// TestDoneLater: on_done returns 0, proxy_done follows from a tick; or never.
func TestDoneLater(t *testing.T) {
	later := func() *module {
		m := newModule("0_2_1").on("proxy_on_done", 1, func(c *code) { c.note(cellA, 0); c.ret(0) })
		m.on("proxy_on_delete", 1, func(c *code) { c.bump(cellB) })
		return m.on("proxy_on_tick", 1, func(c *code) {
			c.call("proxy_set_effective_context", cell(cellA))
			c.call("proxy_done")
			c.call("proxy_done")
		})
	}
	gone := func(p *Plugin) bool {
		g := p.seats[0].Load()
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.streams) == 0
	}
	p := load(t, later(), plugins.Config{}, Options{PauseTimeout: time.Hour})
	s := open(t, p, newExchange())
	s.Close()
	if gone(p) || cellOf(p, cellB) != 0 {
		t.Fatal("deleted without proxy_done")
	}
	p.call(p.seats[0].Load(), onTick, rootID)
	if !gone(p) || cellOf(p, cellB) != 1 {
		t.Error("not deleted, or more than once")
	}
	p.Close()
	if n := p.Stats().Instances; n != 1 {
		t.Errorf("%d instances; the plugin's own context is not done", n)
	}
	g := p.seats[0].Load()
	g.mu.Lock()
	g.waiting.Reset(0) // its patience ends
	g.mu.Unlock()
	eventually(t, "the plugin ends", func() bool { return p.Stats().Instances == 0 })

	p = load(t, later(), plugins.Config{}, Options{PauseTimeout: 10 * time.Millisecond})
	s = open(t, p, newExchange())
	s.Close()
	eventually(t, "the stream ends without proxy_done", func() bool { return gone(p) })
	p.Close()
	eventually(t, "the plugin ends without proxy_done", func() bool { return p.Stats().Instances == 0 })
}

// TestDoneAtOnce: proxy_done within on_done.
func TestDoneAtOnce(t *testing.T) {
	m := newModule("0_2_1").on("proxy_on_done", 1, func(c *code) { c.call("proxy_done"); c.ret(0) })
	p := load(t, m, plugins.Config{}, Options{PauseTimeout: time.Hour})
	s := open(t, p, newExchange())
	s.Close()
	wantStatuses(t, p, statusOK)
	p.Close()
	if n := p.Stats().Instances; n != 0 {
		t.Errorf("%d instances at the end", n)
	}
}

// TestTrapLosesStreams: the others on the instance fail, a fresh one takes over.
func TestTrapLosesStreams(t *testing.T) {
	m := newModule("0_2_1").on("proxy_on_request_headers", 3, func(c *code) {
		c.when(2, 1, func() { c.trap() })
		c.ret(4)
	})
	p := load(t, m.on("proxy_on_response_headers", 3, func(*code) {}), plugins.Config{}, Options{PauseTimeout: time.Hour})
	x := newExchange()
	bad, waiting, idle := open(t, p, newExchange()), open(t, p, x), open(t, p, newExchange())
	v, err := waiting.RequestHeaders(false)
	wantVerdict(t, PausedAll, v, err)
	awaited := make(chan error)
	go func() {
		_, err := waiting.Await(context.Background(), false)
		awaited <- err
	}()
	_, err = bad.RequestHeaders(true)
	wantReason(t, err, plugins.ReasonTrap)
	wantReason(t, <-awaited, ReasonLost)
	_, err = idle.ResponseHeaders(true)
	wantReason(t, err, ReasonLost)
	_, err = bad.ResponseHeaders(true)
	wantReason(t, err, ReasonLost)
	for _, s := range []*Stream{bad, waiting, idle} {
		s.Close()
	}
	var fresh *Stream
	eventually(t, "a fresh instance", func() bool {
		fresh, err = p.Open(newExchange())
		if err != nil && !errors.Is(err, ErrNoInstance) {
			t.Fatal(err)
		}
		return err == nil
	})
	v, err = fresh.ResponseHeaders(true)
	wantVerdict(t, Continue, v, err)
	fresh.Close()
	if st := p.Stats(); st.Replaced != 1 || st.Streams != 0 || st.Traps[plugins.ReasonTrap] != 1 {
		t.Errorf("stats %+v", st)
	}
}

// TestOpenWaits for an instance that takes over, as long as its context lets it.
func TestOpenWaits(t *testing.T) {
	m := newModule("0_2_1").on("proxy_on_request_headers", 3, func(c *code) { c.trap() })
	p := load(t, m, plugins.Config{}, Options{})
	for range 3 { // the third instance comes late
		var s Stream
		opened, err := s.OpenWait(t.Context(), p, newExchange())
		if !opened || err != nil {
			t.Fatal(opened, err)
		}
		_, err = s.RequestHeaders(true)
		wantReason(t, err, plugins.ReasonTrap)
		s.Close()
	}
	cause := errors.New("client gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	p.failures.Store(20)
	var s Stream
	if _, err := s.OpenWait(ctx, p, newExchange()); err == nil {
		_, _ = s.RequestHeaders(true) // there was one in time
		s.Close()
		_, err = s.OpenWait(ctx, p, newExchange())
		if !errors.Is(err, cause) || !errors.Is(err, ErrNoInstance) {
			t.Errorf("ended context: %v", err)
		}
	} else if !errors.Is(err, cause) {
		t.Errorf("ended context: %v", err)
	}
	p.Close()
	if _, err := s.OpenWait(t.Context(), p, newExchange()); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func wantReason(t testing.TB, err error, reason plugins.TrapReason) {
	t.Helper()
	if trap, ok := errors.AsType[*plugins.TrapError](err); !ok || trap.Reason != reason || trap.Plugin != "guest" {
		t.Errorf("error %v, want a TrapError: %s", err, reason)
	}
}

// TestTrapsEverywhere kills the instance in each callback of a stream's.
func TestTrapsEverywhere(t *testing.T) {
	for f := range called {
		name := callbacks[f].Name
		m := streamer("0_2_1")
		switch f {
		case onVMStart, onConfigure, malloc: // at load; when there is no other
			continue
		case onContextCreate:
			m.on(name, 2, func(c *code) { c.when(1, rootID, func() { c.trap() }) })
		case onMemoryAllocate:
			m.noHeap = true
			m.on("proxy_on_request_headers", 3, func(c *code) { c.call("proxy_get_property", "plugin_name", outPtr, outSize) })
			m.on(name, 1, func(c *code) { c.trap() })
		default:
			m.on(name, callbacks[f].Params, func(c *code) { c.trap() })
		}
		t.Run(name, func(t *testing.T) { trapSomewhere(t, m, f) })
	}
}

func trapSomewhere(t *testing.T, m *module, f callback) {
	var out logs
	sv := newServices()
	sv.redis = &fakeRedis{}
	p := load(t, m, plugins.Config{Logger: out.logger()}, Options{Services: sv})
	g := p.seats[0].Load()
	s, err := p.Open(newExchange())
	if err == nil {
		defer s.Close()
		within(t, p, nil, func(v *vm) {
			v.want(statusOK, "proxy_http_call", "a", serial(":method", "GET", ":path", "/", ":authority", "a"), "", "", 0, outNum)
			if f == onRedisCallResponse {
				v.want(statusOK, "proxy_redis_call", "a", "q", outNum)
			}
		})
		_, _ = s.RequestHeaders(false)
		_, _, _ = s.RequestBody(nil, false)
		_, _ = s.RequestTrailers()
		_, _ = s.ResponseHeaders(false)
		_, _, _ = s.ResponseBody(nil, false)
		_, _ = s.ResponseTrailers()
		sv.take().done(CallResult{})
		p.call(g, onTick, rootID)
		p.call(g, onQueueReady, rootID, 1)
		s.Close()
	}
	eventually(t, "the instance dies", g.dead.Load)
	eventually(t, "another takes over", func() bool { g := p.seats[0].Load(); return g != nil && !g.dead.Load() })
	if n := p.Stats().InFlight; n != 0 {
		t.Errorf("%d call-outs in flight", n)
	}
}

// TestAllocators: malloc will do; one that fails, or none, is answered with a status.
func TestAllocators(t *testing.T) {
	f := func(name string, alloc func(c *code), want status) {
		t.Helper()
		m := streamer("0_2_1")
		if m.noHeap = true; name == "malloc" {
			m.funcs = append(m.funcs, m.allocator())
			m.funcs[len(m.funcs)-1].name = name
		} else if name != "" {
			m.on(name, 1, alloc)
		}
		p := load(t, m, plugins.Config{}, Options{})
		within(t, p, nil, func(v *vm) { v.want(want, "proxy_get_property", "plugin_name", outPtr, outSize) })
	}
	f("malloc", nil, statusOK)
	f("", nil, statusInternal)
	f("proxy_on_memory_allocate", func(c *code) { c.ret(0) }, statusInternal)
	f("proxy_on_memory_allocate", func(c *code) { c.ret(wild) }, statusInvalidMemory)
	f("malloc2", func(c *code) { c.ret(0) }, statusInternal)
}

// TestFloodOfLogs is cut by the runtime.
func TestFloodOfLogs(t *testing.T) {
	var out logs
	m := newModule("0_2_1").on("proxy_on_request_headers", 3, func(c *code) {
		for range 50 {
			c.call("proxy_log", 2, "flood")
		}
	})
	p := load(t, m, plugins.Config{Logger: out.logger(), LogLinesPerSecond: 5}, Options{})
	v, err := open(t, p, newExchange()).RequestHeaders(true)
	wantVerdict(t, Continue, v, err)
	if n := strings.Count(out.String(), "text=flood"); n > 10 || n == 0 {
		t.Errorf("%d lines, want 5", n)
	}
	if n := p.Stats().DroppedLines; n < 40 {
		t.Errorf("%d lines dropped", n)
	}
}

// TestStreamDeadline ends a callback that does not return; the rest of the timeout is for the start only.
func TestStreamDeadline(t *testing.T) {
	m := newModule("0_2_1").on("proxy_on_request_headers", 3, func(c *code) { c.spin() })
	p := load(t, m, plugins.Config{Timeout: 20 * time.Millisecond, StartTimeout: time.Minute}, Options{})
	_, err := open(t, p, newExchange()).RequestHeaders(true)
	wantReason(t, err, plugins.ReasonTimeout)
}

// TestCallbacksAreListed wants the table to have each name once.
func TestCallbacksAreListed(t *testing.T) {
	names := map[string]bool{}
	for _, c := range Callbacks() {
		if names[c.Name] || c.Name == "" {
			t.Errorf("callback %q twice", c.Name)
		}
		names[c.Name] = true
	}
	for _, h := range Hostcalls() {
		if names[h.Name] {
			t.Errorf("%s is both", h.Name)
		}
		names[h.Name] = true
	}
	if got := fmt.Sprint(Done, Limited, Unimplemented); got != "done limited unimplemented" {
		t.Error(got)
	}
}

// TestDeadlineModes serves a stream under each.
func TestDeadlineModes(t *testing.T) {
	for _, mode := range []plugins.Deadline{plugins.DeadlineRewrite, plugins.DeadlineContext, plugins.DeadlineNone} {
		p := load(t, oneHeader(), plugins.Config{Deadline: mode}, Options{})
		x := newExchange()
		var s Stream
		if err := visit(&s, p, x); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		mustContain(t, x.lists[RequestHeaders].String(), "X-Stamp: edge")
	}
}
