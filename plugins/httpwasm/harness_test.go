package httpwasm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/plugins"
)

// TestMain fails the run when goroutines of the plugins are left behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leaked(); left != "" && code == 0 {
		fmt.Fprintf(os.Stderr, "goroutines left behind:\n\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

// leaked returns the stacks of the plugins' goroutines, after giving them 2 s to end.
func leaked() string {
	var left []string
	for deadline := time.Now().Add(2 * time.Second); ; runtime.Gosched() {
		left = left[:0]
		buf := make([]byte, 1<<20)
		for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(stack, "edge/plugins") && !strings.Contains(stack, "httpwasm.leaked") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			return strings.Join(left, "\n\n")
		}
	}
}

var both = Options{MaxInstances: 1, Request: true, Response: true}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newHost(t testing.TB) *plugins.Host {
	t.Helper()
	h, err := plugins.NewHost(plugins.HostConfig{Logger: quiet()})
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

func mustLoad(t testing.TB, h *plugins.Host, c plugins.Config, o Options) *Plugin {
	t.Helper()
	if c.Name == "" {
		c.Name = "test"
	}
	if c.Logger == nil {
		c.Logger = quiet()
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second // on a busy machine, too
	}
	p, err := Load(context.Background(), h, c, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// step is one thing that the interpreter does: a host function or one of its own operations.
type step struct {
	name string
	args []any
}

// do is a step. Integers are arguments; a string is two, the pointer to it and its length; a space is two as well.
func do(name string, args ...any) step { return step{name, args} }

// space is memory for a host function to write to: so many bytes are said to be there.
type space uint32

// at is any pointer and length.
type at [2]uint32

// script is a program for the interpreter, and what it needs in memory.
type script struct {
	steps []step
	words [][6]uint32
	data  []byte // from dataAt
	space []int  // by step: where its space is, 0 for none
}

const unwritten = 0xaa // fills spaces

var operationNames = map[string]int{"unreachable": opUnreachable, "loop": opLoop, "exit": opExit, "grow": opGrow}

// compile lays the steps out in memory; base is where data of other scripts ends.
func compile(base int, steps []step) *script {
	s := &script{steps: steps, data: make([]byte, base)}
	for _, st := range steps {
		op, ok := operationNames[st.name]
		if !ok {
			if op = hostCall(st.name) + 1; op == 0 {
				panic("no such step: " + st.name)
			}
		}
		args, where := []uint32{uint32(op)}, 0
		for _, arg := range st.args {
			address := uint32(dataAt + len(s.data))
			switch arg := arg.(type) {
			case int:
				args = append(args, uint32(arg))
			case string:
				args = append(args, address, uint32(len(arg)))
				s.data = append(s.data, arg...)
			case space:
				args = append(args, address, uint32(arg))
				where = int(address)
				s.data = append(s.data, bytes.Repeat([]byte{unwritten}, int(arg)+1)...)
			case at:
				args = append(args, arg[0], arg[1])
			default:
				panic(fmt.Sprintf("argument %T", arg))
			}
		}
		s.words = append(s.words, [6]uint32(append(args, 0, 0, 0, 0, 0)))
		s.space = append(s.space, where)
	}
	return s
}

// prepare writes programs into the only instance of p.
func prepare(t testing.TB, p *Plugin, request, response []step) (in *plugins.Instance, req, resp *script) {
	t.Helper()
	in, err := p.pool.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.pool.Give(in)
	req = compile(0, request)
	resp = compile(len(req.data), response)
	mem := in.Memory()
	if !mem.Write(requestAt, program(req.words)) || !mem.Write(responseAt, program(resp.words)) ||
		!mem.Write(dataAt, resp.data) || !mem.Write(dataAt, req.data) {
		t.Fatal("the test's programs do not fit")
	}
	return in, req, resp
}

// results reads what the steps of a program at base came to: one text each.
func (s *script) results(mem []byte, base int) string {
	var texts []string
	for i, st := range s.steps {
		result := binary.LittleEndian.Uint64(mem[base+i*stepBytes+24:])
		text := ""
		if op := hostCall(st.name); st.name == "grow" || op >= 0 && len(hostFunctions[op].results) > 0 {
			text = fmt.Sprint(uint32(result))
			if op >= 0 && hostFunctions[op].results[0] == 0x7e {
				text = fmt.Sprintf("%d/%d", result>>32, uint32(result))
			}
		}
		if where := s.space[i]; where > 0 {
			if written, _, _ := bytes.Cut(mem[where:], []byte{unwritten}); len(written) > 0 {
				text += fmt.Sprintf(" %q", written)
			}
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ", ")
}

// visit runs the steps in one plugin, as one exchange, and tells their results, request and response apart by a bar, or
// the error that ended them.
func visit(t testing.TB, p *Plugin, x Exchange, request, response []step) string {
	t.Helper()
	in, req, resp := prepare(t, p, request, response)
	snapshot := func() []byte {
		mem, _ := in.Memory().Read(0, memorySize)
		return mem
	}
	var c Call
	defer c.Release()
	if _, err := c.Request(t.Context(), p, x); err != nil {
		return errorText(err)
	}
	text := req.results(snapshot(), requestAt)
	if response == nil {
		return text
	}
	if err := c.Response(t.Context(), x, false); err != nil {
		return errorText(err)
	}
	return text + " | " + resp.results(snapshot(), responseAt)
}

// errorText is the reason of a trap, without the stack, or an error as it is.
func errorText(err error) string {
	trap, ok := errors.AsType[*plugins.TrapError](err)
	if !ok {
		return "error: " + err.Error()
	}
	text, _, _ := strings.Cut(trap.Err.Error(), "\n")
	text = strings.TrimSuffix(text, " (recovered by wazero)")
	return string(trap.Reason) + ": " + text
}

// recorder is a logger that keeps its lines: level, message and attributes.
func recorder(level string) (*slog.Logger, func() string) {
	r := &record{text: new(strings.Builder)}
	if err := r.level.UnmarshalText([]byte(level)); err != nil {
		panic(err)
	}
	return slog.New(r), r.text.String
}

type record struct {
	level slog.Level
	text  *strings.Builder
	attrs []slog.Attr
}

func (r *record) Enabled(_ context.Context, level slog.Level) bool { return level >= r.level }
func (r *record) WithGroup(string) slog.Handler                    { panic("not used") }

func (r *record) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &record{r.level, r.text, append(slices.Clone(r.attrs), attrs...)}
}

func (r *record) Handle(_ context.Context, line slog.Record) error {
	attrs := slices.Clone(r.attrs)
	line.Attrs(func(a slog.Attr) bool { attrs = append(attrs, a); return true })
	slices.SortFunc(attrs, func(a, b slog.Attr) int { return strings.Compare(a.Key, b.Key) })
	fmt.Fprintf(r.text, "\n%s %s %v", line.Level, line.Message, attrs)
	return nil
}
