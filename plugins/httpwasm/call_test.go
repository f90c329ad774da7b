package httpwasm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/plugins"
)

// startProgram is settings that the interpreter runs while it starts. Its steps cannot point to data.
func startProgram(steps ...step) []byte { return program(compile(0, steps).words) }

func TestFeaturesOfTheInstance(t *testing.T) {
	f := func(want string, buffers, trailers bool, start, request, response []step) {
		t.Helper()
		p := mustLoad(t, newHost(t), plugins.Config{Module: interpreter(), Settings: startProgram(start...)}, both)
		defer p.Close()
		in, req, resp := prepare(t, p, request, response)
		mem, _ := in.Memory().Read(0, memorySize)
		for range 2 { // what one request asks for is not the next one's
			var c Call
			x := newFake()
			if _, err := c.Request(t.Context(), p, x); err != nil {
				t.Fatal(err)
			}
			if c.BuffersResponse() != buffers || c.ReadsTrailers() != trailers {
				t.Errorf("%v %v: buffers %v, trailers %v", start, request, c.BuffersResponse(), c.ReadsTrailers())
			}
			if err := c.Response(t.Context(), x, false); err != nil {
				t.Fatal(err)
			}
			got := compile(0, start).results(mem, startAt) + " | " + req.results(mem, requestAt) + " | " + resp.results(mem, responseAt)
			if got != want {
				t.Errorf("%v %v %v: got %s, want %s", start, request, response, got, want)
			}
		}
	}
	ask := func(features ...int) (steps []step) {
		for _, n := range features {
			steps = append(steps, do("enable_features", n))
		}
		return steps
	}
	f(" | 0 | 0", false, false, nil, ask(0), ask(0))
	f("1, 3, 3 | 3 | 3", true, false, ask(1, 2, 0), ask(0), ask(0))
	f("7 | 7 | 7", true, true, ask(-1), ask(0), ask(0))
	f("0 | 0 | 0", false, false, ask(0x78), ask(8), ask(0))
	f("1 | 3, 7, 7 | 7", true, true, ask(1), ask(2, 4, 4), ask(0))
	f(" | 0 | 0, 0", false, false, nil, ask(0), ask(7, 0)) // too late
}

func TestBufferRequestOfTheInstance(t *testing.T) {
	p := mustLoad(t, newHost(t), plugins.Config{Module: interpreter(), Settings: startProgram(do("enable_features", 1))}, both)
	x := newFake()
	if got := visit(t, p, x, []step{do("read_body", 0, space(5))}, nil); got != `0/5 "hello"` || x.body(RequestBody) != "hello world" {
		t.Errorf("got %s, the upstream gets %q", got, x.body(RequestBody))
	}
}

func TestStartMayAskButNotAct(t *testing.T) {
	h := newHost(t)
	load := func(s step) error {
		p, err := Load(t.Context(), h, plugins.Config{Name: "early", Module: interpreter(), Settings: startProgram(s), Logger: quiet()}, both)
		if err == nil {
			p.Close()
		}
		return err
	}
	for _, fn := range hostFunctions {
		s := do(fn.name, at{0, 1}, at{0, 1}, 0)
		err := load(s)
		if fn.early {
			if err != nil {
				t.Errorf("%s: %v", fn.name, err)
			}
			continue
		}
		want := "trap: http_handler." + fn.name + ": may be called in handle_request and handle_response only, not while the guest starts"
		if err == nil || errorText(err) != want {
			t.Errorf("%s: got %v, want %s", fn.name, err, want)
		}
	}
	if err := load(do("exit", 3)); err == nil || !strings.HasPrefix(errorText(err), "exit: ") {
		t.Errorf("exit: %v", err)
	}
	if err := load(do("log", 0, at{memorySize, 1})); err == nil || !strings.Contains(errorText(err), "out of bounds") {
		t.Errorf("log out of bounds: %v", err)
	}
	if err := load(do("get_config", at{memorySize, 1000})); err == nil || !strings.Contains(errorText(err), "out of bounds") {
		t.Errorf("get_config out of bounds: %v", err)
	}
	logger, lines := recorder("INFO")
	p := mustLoad(t, h, plugins.Config{Name: "early", Module: interpreter(), Settings: startProgram(do("log", 0, at{startAt, 1}), do("log_enabled", -1)), Logger: logger}, both)
	p.Close()
	if want := "\nINFO plugin log [plugin=early text=\x04]"; lines() != want {
		t.Errorf("got %q, want %q", lines(), want)
	}
}

// What one call was given does not count in the next, and an idle guest keeps no exchange alive.
func TestCallsBeginAnew(t *testing.T) {
	p := mustLoad(t, newHost(t), plugins.Config{Module: interpreter()}, both)
	in, _, _ := prepare(t, p, []step{do("set_header_value", 0, "x-a", strings.Repeat("v", 20000))}, nil)
	var c Call
	for range 100 { // 2 MB together
		if _, err := c.Request(t.Context(), p, newFake()); err != nil {
			t.Fatal(err)
		}
		if g := in.State().(*guest); g.exchange != nil || g.phase != idle {
			t.Fatal("the guest holds the exchange between the phases")
		}
		if err := c.Response(t.Context(), newFake(), false); err != nil {
			t.Fatal(err)
		}
	}
	if g := in.State().(*guest); g.exchange != nil || g.phase != idle {
		t.Error("the guest holds the exchange")
	}
	prepare(t, p, []step{do("enable_features", 7)}, nil)
	if _, err := c.Request(t.Context(), p, newFake()); err != nil || !c.ReadsTrailers() {
		t.Fatal(err)
	}
	c.Release()
	prepare(t, p, []step{do("unreachable")}, nil)
	if _, err := c.Request(t.Context(), p, newFake()); err == nil || c.ReadsTrailers() {
		t.Errorf("got %v, trailers %v", err, c.ReadsTrailers())
	}
}

// setNext makes the interpreter return a ctx_next.
func setNext(t *testing.T, p *Plugin, ctxNext uint64) *plugins.Instance {
	t.Helper()
	in, _, _ := prepare(t, p, nil, nil)
	in.Memory().WriteUint64Le(ctxNextAt, ctxNext)
	in.Memory().WriteUint64Le(reqCtxAt, 0xffffffffffffffff)
	return in
}

func TestCtxNext(t *testing.T) {
	p := mustLoad(t, newHost(t), plugins.Config{Module: interpreter()}, both)
	f := func(ctxNext uint64, failed, next bool, want string) {
		t.Helper()
		in := setNext(t, p, ctxNext)
		var c Call
		got, err := c.Request(t.Context(), p, newFake())
		if err != nil || got != next || c.WantsResponse() != next {
			t.Fatalf("%#x: next %v, wants response %v, %v", ctxNext, got, c.WantsResponse(), err)
		}
		if inUse := p.Stats().InUse; inUse == 1 != next {
			t.Errorf("%#x: %d instances in use", ctxNext, inUse)
		}
		for range 2 { // the second time it does nothing
			if err := c.Response(t.Context(), newFake(), failed); err != nil {
				t.Fatal(err)
			}
		}
		b, _ := in.Memory().Read(reqCtxAt, 8)
		if got := fmt.Sprintf("%x %x", binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])); got != want {
			t.Errorf("%#x: got %s, want %s", ctxNext, got, want)
		}
		if s := p.Stats(); s.InUse != 0 || s.Replaced != 0 {
			t.Errorf("%#x: %+v", ctxNext, s)
		}
	}
	f(0, false, false, "ffffffff ffffffff") // not called
	f(1, false, true, "0 0")
	f(0xfffffffe, false, true, "0 0")
	f(0x2a00000001, false, true, "2a 0")
	f(0xffffffff00000001, true, true, "ffffffff 1")
	f(0x2a00000000, false, false, "ffffffff ffffffff") // stop, though the guest left a number
}

func TestPhases(t *testing.T) {
	h, guest := newHost(t), interpreter()
	count := func(p *Plugin) int { return p.Stats().InUse }
	settings := startProgram(do("enable_features", 6))

	only := Options{MaxInstances: 1, Request: true}
	p := mustLoad(t, h, plugins.Config{Module: guest, Settings: settings}, only)
	var c Call
	if next, err := c.Request(t.Context(), p, newFake()); !next || err != nil {
		t.Fatal(next, err)
	}
	if count(p) != 0 || c.WantsResponse() || c.BuffersResponse() || !c.ReadsTrailers() {
		t.Errorf("request only: %d in use, wants response %v, buffers %v, trailers %v", count(p), c.WantsResponse(), c.BuffersResponse(), c.ReadsTrailers())
	}
	if err := c.Response(t.Context(), newFake(), false); err != nil {
		t.Error(err)
	}
	c.Release()

	p = mustLoad(t, h, plugins.Config{Module: guest, Settings: settings}, Options{MaxInstances: 1, Response: true})
	in := setNext(t, p, 0) // would stop, but is not asked
	in.Memory().Write(requestAt, program([][6]uint32{{uint32(opUnreachable)}}))
	c = Call{}
	if next, err := c.Request(t.Context(), p, newFake()); !next || err != nil {
		t.Fatal(next, err)
	}
	if count(p) != 0 || !c.WantsResponse() || !c.BuffersResponse() || !c.ReadsTrailers() {
		t.Errorf("response only: %d in use, wants response %v, buffers %v, trailers %v", count(p), c.WantsResponse(), c.BuffersResponse(), c.ReadsTrailers())
	}
	if err := c.Response(t.Context(), newFake(), true); err != nil {
		t.Fatal(err)
	}
	if v, _ := in.Memory().ReadUint64Le(reqCtxAt); v != 1<<32 || count(p) != 0 || c.WantsResponse() {
		t.Errorf("reqCtx and isError %#x, %d in use", v, count(p))
	}
	if _, err := c.Request(t.Context(), p, newFake()); err != nil {
		t.Fatal(err)
	}
	c.Release() // the caller is gone
	if c.WantsResponse() {
		t.Error("wants a response after Release")
	}
	// No instance in time for the response.
	hold, err := p.pool.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.pool.Give(hold)
	if _, err := c.Request(t.Context(), p, newFake()); err != nil {
		t.Fatal(err)
	}
	if err := c.Response(ended(errLate), newFake(), false); !errors.Is(err, ErrBusy) || !errors.Is(err, errLate) {
		t.Errorf("got %v, want ErrBusy and %v", err, errLate)
	}
	if _, err := c.Request(t.Context(), p, newFake()); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if err := c.Response(t.Context(), newFake(), false); !errors.Is(err, plugins.ErrClosed) || c.WantsResponse() {
		t.Errorf("got %v, want ErrClosed; wants response %v", err, c.WantsResponse())
	}
}

var errLate = errors.New("queue timeout")

// ended returns a context that is over, with cause.
func ended(cause error) context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	return ctx
}

func TestBusyAndClosed(t *testing.T) {
	p := mustLoad(t, newHost(t), plugins.Config{Name: "few", Module: interpreter()}, both)
	var a, b Call
	if _, err := a.Request(t.Context(), p, newFake()); err != nil {
		t.Fatal(err)
	}
	_, err := b.Request(ended(errLate), p, newFake())
	if !errors.Is(err, ErrBusy) || !errors.Is(err, errLate) {
		t.Errorf("got %v, want ErrBusy and %v", err, errLate)
	}
	if want := "httpwasm: few: no plugin instance free in time: queue timeout"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if b.WantsResponse() {
		t.Error("a call without instance wants a response")
	}
	b.Release()
	p.Resize(2)
	if _, err := b.Request(t.Context(), p, newFake()); err != nil {
		t.Errorf("after Resize: %v", err)
	}
	p.Close()
	if err := b.Response(t.Context(), newFake(), false); err != nil { // it is held: it may end
		t.Error(err)
	}
	a.Release()
	a.Release()
	if _, err := b.Request(t.Context(), p, newFake()); !errors.Is(err, plugins.ErrClosed) || errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	if s := p.Stats(); s.InUse != 0 || s.Instances != 0 {
		t.Errorf("%+v", s)
	}
}

func TestCallHoldsOneInstance(t *testing.T) {
	p := mustLoad(t, newHost(t), plugins.Config{Module: interpreter()}, both)
	var c Call
	if _, err := c.Request(t.Context(), p, newFake()); err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	defer func() {
		if r, _ := recover().(string); !strings.HasPrefix(r, "bug: httpwasm: ") {
			t.Errorf("recovered %q", r)
		}
	}()
	_, _ = c.Request(t.Context(), p, newFake())
}

// An instance that failed serves nobody again, and the next caller has a fresh one.
func TestDeadInstances(t *testing.T) {
	f := func(c plugins.Config, reason plugins.TrapReason, bad step) {
		t.Helper()
		c.Module, c.Name = interpreter(), "dying"
		p := mustLoad(t, newHost(t), c, both)
		defer p.Close()
		mark := step{"set_header_value", []any{0, "x-mark", "1"}}
		for _, inResponse := range []bool{false, true} {
			request, response := []step{mark, bad}, []step{}
			if inResponse {
				request, response = []step{mark}, []step{bad}
			}
			dead, _, _ := prepare(t, p, request, response)
			var call Call
			next, err := call.Request(t.Context(), p, newFake())
			function := "handle_request"
			if inResponse {
				if err != nil || !next {
					t.Fatal(next, err)
				}
				err, function = call.Response(t.Context(), newFake(), false), "handle_response"
			}
			trap, ok := errors.AsType[*plugins.TrapError](err)
			if !ok || trap.Reason != reason || trap.Plugin != "dying" || trap.Function != function {
				t.Fatalf("%v: got %v, want a trap of %s by %s", bad, err, function, reason)
			}
			if !dead.Dead() || call.WantsResponse() {
				t.Errorf("%v: dead %v, wants response %v", bad, dead.Dead(), call.WantsResponse())
			}
			if err := call.Response(t.Context(), newFake(), false); err != nil {
				t.Errorf("%v: response after a failure: %v", bad, err)
			}
			x := newFake() // the new one has no program
			if next, err := call.Request(t.Context(), p, x); !next || err != nil {
				t.Fatal(next, err)
			}
			if call.instance == dead || len(x.fields[RequestHeader]) != 5 {
				t.Errorf("%v: the dead instance served", bad)
			}
			call.Release()
		}
		if s := p.Stats(); s.Replaced != 2 || s.Traps[reason] != 2 || s.Instances != 1 || s.InUse != 0 {
			t.Errorf("%v: %+v", bad, s)
		}
	}
	f(plugins.Config{}, plugins.ReasonTrap, do("unreachable"))
	f(plugins.Config{}, plugins.ReasonTrap, do("set_method", ""))
	f(plugins.Config{}, plugins.ReasonExit, do("exit", 0))
	f(plugins.Config{}, plugins.ReasonExit, do("exit", 1))
	f(plugins.Config{Timeout: 100 * time.Millisecond}, plugins.ReasonTimeout, do("loop"))
}

// The time that a caller takes to send its body is not the guest's.
func TestWaitingIsNotTheGuestsTime(t *testing.T) {
	p := mustLoad(t, newHost(t), plugins.Config{Module: interpreter(), Timeout: 200 * time.Millisecond}, both)
	x := newFake()
	x.onRead = func() {
		timer := time.NewTimer(60 * time.Millisecond) // in real time, as the watchdog is
		<-timer.C
	}
	if got, want := visit(t, p, x, []step{do("read_body", 0, space(20))}, nil), `1/11 "hello world"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// After the wait the time is the guest's again.
func TestTimeRunsOnAfterTheWait(t *testing.T) {
	p := mustLoad(t, newHost(t), plugins.Config{Module: interpreter(), Timeout: 100 * time.Millisecond}, both)
	got := visit(t, p, newFake(), []step{do("read_body", 0, space(20)), do("loop")}, nil)
	if want := "timeout: "; !strings.HasPrefix(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestMemoryGrowsWithinALimit(t *testing.T) {
	p := mustLoad(t, newHost(t), plugins.Config{Module: interpreter(), MemoryLimit: 4 << 16}, both)
	// After the guest has grown, host functions see the whole memory and no more.
	if got, want := visit(t, p, newFake(), []step{do("grow", 1), do("grow", 2), do("get_method", at{3<<16 - 3, 3}), do("get_method", at{3<<16 - 2, 3})}, nil),
		"trap: http_handler.get_method: buf at 196606, 3 bytes, is out of bounds: the memory has 196608 bytes"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := visit(t, p, newFake(), []step{do("grow", 1), do("grow", 2)}, nil), "2, 4294967295"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestLoadRefuses(t *testing.T) {
	h := newHost(t)
	f := func(want string, c plugins.Config, o Options) {
		t.Helper()
		c.Name, c.Logger = "odd", quiet()
		p, err := Load(t.Context(), h, c, o)
		if err == nil {
			p.Close()
			t.Fatalf("loaded, want %s", want)
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	f("httpwasm: odd: max_instances: got 0, want 1 or more", plugins.Config{Module: interpreter()}, Options{Request: true})
	f("httpwasm: odd: phases: got none, want request, response or both", plugins.Config{Module: interpreter()}, Options{MaxInstances: 1})
	f("not WebAssembly", plugins.Config{Module: []byte("#!/bin/sh")}, both)
	f(`function "handle_request" () -> i64; function "handle_response" (i32, i32) -> ()`, plugins.Config{Module: []byte("\x00asm\x01\x00\x00\x00")}, both)
	f(`memory "memory"`, plugins.Config{Module: []byte("\x00asm\x01\x00\x00\x00")}, both)
	f("odd: _initialize: trap", plugins.Config{Module: interpreter(), Settings: startProgram(do("unreachable"))}, both)
	f("odd: _initialize: timeout", plugins.Config{Module: interpreter(), Settings: startProgram(do("loop")), StartTimeout: 100 * time.Millisecond}, both)
	wrong := strings.Replace(string(interpreter()), "get_method", "get_meteor", 1)
	f("get_meteor", plugins.Config{Module: []byte(wrong)}, both)
}
