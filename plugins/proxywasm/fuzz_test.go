package proxywasm

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/plugins"
)

// FuzzMap parses maps as guests write them, and writes again what it got.
func FuzzMap(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte(serial()))
	f.Add([]byte(serial("a", "b", "", "")))
	f.Add([]byte(serial(":path", "/", "x-a", "\x00")))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00"))
	f.Add([]byte("\x01\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePairs(b)
		if err != nil {
			return
		}
		m := fieldMap{kind: callHeaders}
		for name, value := range p.all {
			m.list = append(m.list, Field{string(name), string(value)})
		}
		if len(m.list) != p.len() {
			t.Fatalf("%d pairs, want %d", len(m.list), p.len())
		}
		again := m.append(nil)
		if len(again) != m.size() || len(b) > 0 && len(again) > len(b) {
			t.Fatalf("%d bytes, size %d, were %d", len(again), m.size(), len(b))
		}
		q, err := parsePairs(again)
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		for name, value := range q.all {
			if lowered := bytes.Map(asciiLower, []byte(m.list[i].Name)); !sameName(m.list[i].Name, name) || string(value) != m.list[i].Value {
				t.Fatalf("pair %d: %q %q, was %q (%q)", i, name, value, m.list[i], lowered)
			}
			i++
		}
		var w words
		fields, st := fieldsOf(&w, p)
		for _, f := range fields {
			if f.Name == "" || strings.ContainsAny(f.Value, "\r\n\x00") || st != statusOK {
				t.Fatalf("field %q, status %d", f, st)
			}
		}
	})
}

func asciiLower(r rune) rune {
	if r >= 'A' && r <= 'Z' {
		r += 'a' - 'A'
	}
	return r
}

// FuzzHostcalls makes any hostcall with any arguments, in a stream's context or the plugin's: none may trap, none may answer
// with a status of its own invention.
func FuzzHostcalls(f *testing.F) {
	sv := newServices()
	sv.redis = &fakeRedis{}
	sv.err = ErrNoPermit
	p := load(f, streamer("0_2_100"), plugins.Config{Settings: []byte("settings")}, Options{
		Services: sv, Store: NewStore(1 << 16), MaxBody: 1 << 10,
	})
	for i := range hostcalls {
		f.Add(uint8(i), []byte{0, 17, 3, 13, 14, 13, 14, 15, 0, 15, 1, 15}, []byte("abc"), uint8(i))
		f.Add(uint8(i), []byte{0, 17, 3, 13, 14, 13, 14, 15, 0, 15, 1, 15}, []byte("abc"), uint8(0xf8))
		f.Add(uint8(i), []byte{17, 4, 17, 4, 17, 4, 17, 4, 11, 15, 1, 15}, []byte(serial("a", "b")), uint8(i))
		f.Add(uint8(i), []byte{24, 27, 24, 27, 24, 27, 24, 27, 24, 27, 24, 27}, []byte(serial("a", "b")), uint8(i))
	}
	f.Fuzz(func(t *testing.T, which uint8, choice, content []byte, mode uint8) {
		h := &hostcalls[int(which)%len(hostcalls)]
		s, err := p.Open(newExchange())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if mode&1 != 0 {
			_, _ = s.ResponseHeaders(false)
		}
		within(t, p, s, func(v *vm) {
			if mode&2 != 0 {
				v.g.effective = nil
			}
			v.c.bodies[request] = body{calling: true, chunk: []byte("a chunk")}
			v.g.answer = &answer{redis: mode&4 != 0, headers: []Field{{"a", "b"}}, body: []byte("answer")}
			defer func() {
				v.g.answer = nil
				v.c.bodies[request].take(v.c)
				v.c.bodies[request].calling = false
			}()
			v.g.in.Memory().Write(argsAt, content[:min(len(content), dataAt-argsAt)])
			fuzzCall(v, h, choice, len(content), mode&8 != 0)
			v.g.in.Memory().WriteUint32Le(heapAt, 0)
		})
	})
}

// fuzzCall makes a hostcall; each byte of choice chooses an argument. raw calls it without the guest, and with anything in the
// upper halves of an i32, as native code leaves them.
func fuzzCall(v *vm, h *hostcall, choice []byte, n int, raw bool) {
	size := uint64(v.g.in.Memory().Size())
	palette := [...]uint64{
		0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 200, 403, outPtr, outSize, outNum, outLong, argsAt, argsAt + 1, dataAt, size,
		size - 1, size - 4, size - 8, wild, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1<<32 - 4, 1<<63 - 1, 1 << 63, 1<<64 - 1,
	}
	var stack [16]uint64
	for i := range h.Params {
		stack[i] = uint64(i)
		if i < len(choice) {
			if stack[i] = palette[int(choice[i])%len(palette)]; choice[i] >= 128 {
				stack[i] = uint64(n)
			}
		}
		if h.Params[i] == 'i' {
			if stack[i] = uint64(uint32(stack[i])); raw {
				stack[i] |= 0xabcd << 32
			}
		}
	}
	args, st := slices.Clone(stack[:len(h.Params)]), status(0)
	if raw {
		st = h.do(v.g, v.g.in.Memory(), stack[:])
	} else if err := v.g.in.Call(v.g.in.Function("do_"+h.Name), stack[:]); err != nil {
		v.t.Fatalf("%s%v: %v", h.Name, args, err)
	} else if h.Name != memoryGrowth {
		st = status(stack[0])
	}
	switch st {
	case statusOK, statusNotFound, statusBadArgument, statusInvalidMemory, statusEmpty, statusCASMismatch, statusInternal, statusUnimplemented:
	default:
		v.t.Fatalf("%s%v: status %d", h.Name, args, st)
	}
}
