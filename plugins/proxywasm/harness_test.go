package proxywasm

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edge-proxy/edge/plugins"
)

// logs collects log lines.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func newHost(t testing.TB, cacheDir string) *plugins.Host {
	t.Helper()
	h, err := plugins.NewHost(plugins.HostConfig{Logger: slog.New(slog.DiscardHandler), CacheDir: cacheDir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// try loads a guest on one instance, unless o says else.
func try(t testing.TB, wasm []byte, c plugins.Config, o Options) (*Plugin, error) {
	t.Helper()
	return tryOn(t, newHost(t, ""), wasm, c, o)
}

func tryOn(t testing.TB, h *plugins.Host, wasm []byte, c plugins.Config, o Options) (*Plugin, error) {
	t.Helper()
	c.Name, c.Module = "guest", wasm
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Instances == 0 {
		o.Instances = 1
	}
	p, err := Load(t.Context(), h, c, o)
	if err == nil {
		t.Cleanup(p.Close)
	}
	return p, err
}

func load(t testing.TB, m *module, c plugins.Config, o Options) *Plugin {
	t.Helper()
	p, err := try(t, m.bytes(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func open(t testing.TB, p *Plugin, x Exchange) *Stream {
	t.Helper()
	s, err := p.Open(x)
	if err != nil || s == nil {
		t.Fatalf("open: %v, %v", s, err)
	}
	t.Cleanup(s.Close)
	return s
}

// vm lets a test make hostcalls itself, in the context of a stream or, with none, of the plugin.
type vm struct {
	t  testing.TB
	g  *guest
	c  *stream
	at uint32 // the next argument
}

// within runs f as if it were a callback of the stream's, or of the plugin's when s is nil.
func within(t testing.TB, p *Plugin, s *Stream, f func(v *vm)) {
	t.Helper()
	v := &vm{t: t, g: p.seats[0].Load(), at: argsAt}
	if s != nil {
		v.g, v.c = s.c.guest, s.c
	}
	v.g.mu.Lock()
	defer v.g.mu.Unlock()
	if v.c != nil {
		v.c.visitors++
		defer func() { v.c.visitors-- }()
	}
	v.g.effective = v.c
	defer func() { v.g.effective = nil }()
	f(v)
}

// seen are the hostcalls that vectors have exercised.
var seen sync.Map

// do makes a hostcall. A string is written to the guest: pointer and length.
func (v *vm) do(name string, args ...any) status {
	v.t.Helper()
	seen.Store(name, true)
	var stack [16]uint64
	n := 0
	push := func(x uint64) { stack[n] = x; n++ }
	for _, a := range args {
		switch a := a.(type) {
		case int:
			push(uint64(uint32(a)))
		case int64:
			push(uint64(a))
		case string:
			if v.at+uint32(len(a)) > dataAt {
				v.at = argsAt
			}
			if !v.g.in.Memory().WriteString(v.at, a) {
				v.t.Fatal("argument outside memory")
			}
			push(uint64(v.at))
			push(uint64(len(a)))
			v.at += uint32(len(a))
		}
	}
	f := v.g.in.Function("do_" + name)
	if f == nil || n != f.Params() {
		v.t.Fatalf("%s takes other arguments than %v", name, args)
	}
	if err := v.g.in.Call(f, stack[:]); err != nil {
		v.t.Fatalf("%s: %v", name, err)
	}
	return status(stack[0])
}

// Where hostcalls write: a pointer and a size, a number of 4 bytes, one of 8.
const (
	outPtr  = outAt
	outSize = outAt + 4
	outNum  = outAt + 8
	outLong = outAt + 16
)

func (v *vm) word(at uint32) uint32 {
	n, _ := v.g.in.Memory().ReadUint32Le(at)
	return n
}

func (v *vm) long() uint64 {
	n, _ := v.g.in.Memory().ReadUint64Le(outLong)
	return n
}

// out is what a hostcall has returned by outPtr and outSize.
func (v *vm) out() string {
	b, ok := v.g.in.Memory().Read(v.word(outPtr), v.word(outSize))
	if !ok {
		v.t.Fatal("result outside memory")
	}
	return string(b)
}

// want checks the status of a hostcall.
func (v *vm) want(st status, name string, args ...any) {
	v.t.Helper()
	if got := v.do(name, args...); got != st {
		v.t.Errorf("%s%q: status %d, want %d", name, args, got, st)
	}
}

// wantOut checks what a hostcall returned with OK. The last two arguments, where to, are added.
func (v *vm) wantOut(out, name string, args ...any) {
	v.t.Helper()
	v.want(statusOK, name, append(slices.Clone(args), outPtr, outSize)...)
	if got := v.out(); got != out {
		v.t.Errorf("%s%q: %q, want %q", name, args, got, out)
	}
}

// statuses are those of the guest's own hostcalls since it was asked last.
func statuses(p *Plugin) (list []status) {
	g := p.seats[0].Load()
	g.mu.Lock()
	defer g.mu.Unlock()
	mem := g.in.Memory()
	n, _ := mem.ReadUint32Le(countAt)
	for i := range n {
		st, _ := mem.ReadUint32Le(statusAt + 4*i)
		list = append(list, status(st))
	}
	mem.WriteUint32Le(countAt, 0)
	return list
}

// wantStatuses checks the guest's own hostcalls since the last check.
func wantStatuses(t testing.TB, p *Plugin, want ...status) {
	t.Helper()
	if got := statuses(p); !slices.Equal(got, want) {
		t.Errorf("statuses %v, want %v", got, want)
	}
}

// cellOf reads a cell of the guest's memory.
func cellOf(p *Plugin, at uint32) uint32 {
	g := p.seats[0].Load()
	g.mu.Lock()
	defer g.mu.Unlock()
	n, _ := g.in.Memory().ReadUint32Le(at)
	return n
}

// eventually waits until f is true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(soon); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

func le64(n int64) string  { return string(binary.LittleEndian.AppendUint64(nil, uint64(n))) }
func le32(n uint32) string { return string(binary.LittleEndian.AppendUint32(nil, n)) }

func mustContain(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q lacks %q", text, part)
		}
	}
}
