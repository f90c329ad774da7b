package proxywasm

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edge-proxy/edge/plugins"
)

var hammerFor = flag.Duration("hammer", time.Second, "how long TestHammerStreams runs")

// patient is the timeout of hammered guests: with more goroutines than processors, under the race detector, a call may wait
// long for its turn in the middle.
const patient = 10 * time.Second

// busy is a guest with many streams at once: it asks for each in headers, remembers which call is whose, holds the body
// until its end, and traps when a request has none.
func busy() *module {
	m := newModule("0_2_1")
	whose := func(c *code, id func()) { // the address of the stream of a call
		c.i32(24576)
		id()
		c.i32(1023)
		c.op(0x71)
		c.i32(4)
		c.op(0x6c, 0x6a)
	}
	m.on("proxy_on_request_headers", 3, func(c *code) {
		c.set(countAt, 0)
		c.when(2, 1, func() { c.trap() })
		c.ask(cellB)
		whose(c, func() { c.cell(cellB) })
		c.get(0)
		c.store()
		c.ret(1)
	})
	m.on("proxy_on_http_call_response", 5, func(c *code) {
		c.i32(cellC)
		whose(c, func() { c.get(1) })
		c.load()
		c.store()
		c.call("proxy_set_effective_context", cell(cellC))
		c.call("proxy_add_header_map_value", 0, "x-auth", "ok")
		c.call("proxy_continue_stream", 0)
		c.set(countAt, 0)
	})
	hold := func(buffer int) func(c *code) {
		return func(c *code) {
			c.when(2, 0, func() { c.ret(1) })
			c.call("proxy_get_buffer_bytes", buffer, 0, param(1), outPtr, outSize)
			c.call("proxy_set_buffer_bytes", buffer, -1, 0, "!")
			c.set(countAt, 0)
		}
	}
	m.on("proxy_on_request_body", 3, hold(0)).on("proxy_on_response_body", 3, hold(1))
	m.on("proxy_on_tick", 1, func(c *code) {
		c.call("proxy_set_effective_context", cell(cellC))
		c.call("proxy_get_header_map_pairs", 0, outPtr, outSize)
		c.set(countAt, 0)
	})
	return m.on("proxy_on_configure", 2, func(c *code) {
		c.call("proxy_set_tick_period_milliseconds", 1)
		c.ret(1)
	})
}

// echoes answers call-outs from goroutines of its own.
type echoes struct{ group sync.WaitGroup }

func (e *echoes) Redis() Redis { return nil }
func (e *echoes) Call(_ context.Context, _ Call, done func(CallResult)) error {
	e.group.Go(func() {
		if rand.IntN(3) == 0 {
			time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
		}
		done(CallResult{Status: 200, Body: []byte("ok")})
	})
	return nil
}

// TestHammerStreams interleaves many streams on two instances that trap now and then. Exchanges are not guarded, so that the
// race detector sees any use outside of the stream's calls.
func TestHammerStreams(t *testing.T) {
	sv := &echoes{}
	p := load(t, busy(), plugins.Config{Timeout: patient}, Options{Instances: 2, Services: sv, MaxCallouts: 1 << 20})
	length := *hammerFor
	if testing.Short() {
		length /= 5
	}
	var whole, lost, gone atomic.Int64
	var group sync.WaitGroup
	for end := time.Now().Add(length); time.Now().Before(end); {
		for range 32 {
			group.Go(func() {
				for range 20 {
					switch err := oneOfMany(t, p, rand.IntN(500) == 0, rand.IntN(10) == 0); {
					case err == nil:
						whole.Add(1)
					case errors.Is(err, context.Canceled):
						gone.Add(1)
					default:
						_, trap := errors.AsType[*plugins.TrapError](err)
						if errors.Is(err, ErrNoInstance) {
							time.Sleep(time.Millisecond)
						} else if !trap {
							t.Errorf("stream: %v", err)
						}
						lost.Add(1)
					}
				}
			})
		}
		group.Wait()
	}
	sv.group.Wait()
	st := p.Stats()
	t.Logf("%d whole, %d lost, %d gone, %d instances replaced", whole.Load(), lost.Load(), gone.Load(), st.Replaced)
	if st.Streams != 0 || st.InFlight != 0 || whole.Load() == 0 || gone.Load() == 0 {
		t.Errorf("at the end: %+v", st)
	}
	eventually(t, "both instances are there and idle", func() bool {
		for i := range p.seats {
			g := p.seats[i].Load()
			if g == nil || g.dead.Load() || g.open.Load() != 0 {
				return false
			}
		}
		return true
	})
}

// oneOfMany is an exchange that may make the guest trap, or leave while it is paused.
func oneOfMany(t *testing.T, p *Plugin, trap, leave bool) error {
	x := newExchange()
	defer func() {
		if x.charged != 0 {
			t.Errorf("charged %d after Close", x.charged)
		}
	}()
	var s Stream
	if _, err := s.Open(p, x); err != nil {
		return err
	}
	defer s.Close()
	v, err := s.RequestHeaders(trap)
	if err != nil {
		return err
	}
	if v != PausedAll {
		t.Errorf("headers: %v", v)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if leave {
		cancel()
	}
	if v, err = s.Await(ctx, false); err != nil {
		return err
	}
	if v != Continue || x.lists[RequestHeaders].list[3] != (Field{"X-Auth", "ok"}) {
		t.Errorf("awaited: %v, %s", v, &x.lists[RequestHeaders])
	}
	if err := heldBody(t, &s, s.RequestBody); err != nil {
		return err
	}
	if _, err := s.ResponseHeaders(false); err != nil {
		return err
	}
	return heldBody(t, &s, s.ResponseBody)
}

func heldBody(t *testing.T, s *Stream, body func([]byte, bool) ([]byte, Verdict, error)) error {
	id := le32(s.c.id)
	for _, part := range []string{"a", id, ""} {
		out, v, err := body([]byte(part), part == "")
		if err != nil {
			return err
		}
		want := Paused
		if part == "" {
			want = Continue
		}
		if v != want || v == Continue && string(out) != "a"+id+"!" {
			t.Errorf("body: %v %q", v, out)
		}
	}
	return nil
}

// TestHammerReload closes plugins while streams are open and begin: those that are open end well, and nothing is left.
func TestHammerReload(t *testing.T) {
	h := newHost(t, "")
	wasm := oneHeader().bytes()
	var current atomic.Pointer[Plugin]
	generation := func() *Plugin {
		c := plugins.Config{Name: "guest", Module: wasm, Logger: slog.New(slog.DiscardHandler), Timeout: patient}
		p, err := Load(t.Context(), h, c, Options{Instances: 2})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	current.Store(generation())
	var stop atomic.Bool
	var served atomic.Int64
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			var s Stream
			for x := newExchange(); !stop.Load(); {
				switch err := visit(&s, current.Load(), x); {
				case err == nil:
					served.Add(1)
				case !errors.Is(err, ErrClosed):
					t.Errorf("stream: %v", err)
				}
			}
		})
	}
	var old []*Plugin
	for range 20 {
		p := current.Swap(generation())
		p.Close()
		old = append(old, p)
	}
	stop.Store(true)
	group.Wait()
	current.Load().Close()
	for _, p := range append(old, current.Load()) {
		if st := p.Stats(); st.Instances != 0 || st.Streams != 0 {
			t.Errorf("after Close: %+v", st)
		}
	}
	if served.Load() == 0 {
		t.Error("no stream was served")
	}
}

// TestManyStreams passes 10,000 answers of 20 chunks, 64 at a time, through a guest that reads each chunk: every byte at
// once, and no more memory at the end.
func TestManyStreams(t *testing.T) {
	m := newModule("0_2_1").on("proxy_on_response_body", 3, func(c *code) {
		c.call("proxy_get_buffer_bytes", 1, 0, param(1), outPtr, outSize)
		c.set(countAt, 0)
	})
	p := load(t, m, plugins.Config{Timeout: patient}, Options{Instances: 2})
	chunk := []byte("data: {\"choices\":[{\"delta\":{\"content\":\"word \"}}]}\n\n")
	answer := func() {
		var s Stream
		x := newExchange()
		_, err := s.Open(p, x)
		defer s.Close()
		if err != nil {
			t.Error(err)
			return
		}
		if v, err := s.ResponseHeaders(false); v != Continue || err != nil {
			t.Errorf("headers: %v, %v", v, err)
		}
		for range 20 {
			if out, v, err := s.ResponseBody(chunk, false); v != Continue || err != nil || !bytes.Equal(out, chunk) {
				t.Errorf("chunk: %v, %v, %q", v, err, out)
				return
			}
		}
	}
	batch := func(n int) (heap uint64) {
		var group sync.WaitGroup
		for range 64 {
			group.Go(func() {
				for range n / 64 {
					answer()
				}
			})
		}
		group.Wait()
		var ms runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&ms)
		return ms.HeapAlloc
	}
	before := batch(640)
	guests := p.Stats().MemoryBytes
	after := batch(10_000)
	if after > before+1<<20 || p.Stats().MemoryBytes != guests {
		t.Errorf("heap %d, was %d; guests %d, were %d", after, before, p.Stats().MemoryBytes, guests)
	}
}
