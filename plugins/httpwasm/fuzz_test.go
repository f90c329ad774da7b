package httpwasm

import (
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/edge-proxy/edge/plugins"
)

// FuzzHostCalls runs random calls of host functions with random arguments, in both phases. Each must return or
// trap; what the host itself does wrong would be a runtime error within the trap.
func FuzzHostCalls(f *testing.F) {
	add := func(steps ...step) {
		s := compile(0, steps)
		f.Add(uint8(3), program(s.words), program(s.words))
	}
	for _, fn := range hostFunctions {
		add(do("enable_features", 7), do(fn.name, 0, at{dataAt, 4}, at{dataAt, 4}), do(fn.name, 1, at{dataAt, 4}, at{dataAt + 2, 4}))
		add(do("enable_features", 2), do(fn.name, at{0xffffffff, 0xffffffff}, at{memorySize, 0}, 7), do(fn.name, 3, at{dataAt, 40000}, at{0, memorySize}))
	}
	add(do("read_body", 0, at{0, memorySize}), do("write_body", 0, at{0, memorySize}), do("grow", 3))
	h := newHost(f)
	p := mustLoad(f, h, plugins.Config{Module: interpreter(), MemoryLimit: 1 << 20}, both)
	f.Fuzz(func(t *testing.T, bits uint8, request, response []byte) {
		request, response = request[:min(len(request), 32*stepBytes)], response[:min(len(response), 32*stepBytes)]
		x := newFake()
		x.early, x.endless = bits&1 != 0, bits&4 != 0
		if bits&8 != 0 {
			x.err = errLate
		}
		in, _, _ := prepare(t, p, nil, nil)
		var c Call
		defer c.Release()
		if err := stamp(p, &c, newFake()); err != nil { // the pool replaces those slowly that die before they serve
			t.Fatal(err)
		}
		mem := in.Memory()
		mem.Write(requestAt, harmless(request))
		mem.Write(responseAt, harmless(response))
		mem.Write(dataAt, []byte("x-b\x00x-a: v\r\nX-Sum"))
		mem.WriteUint64Le(ctxNextAt, uint64(bits>>1&1))
		_, err := c.Request(t.Context(), p, x)
		checkGuestsFault(t, err)
		if err == nil {
			checkGuestsFault(t, c.Response(t.Context(), x, bits&16 != 0))
		}
		for k := range x.fields {
			for _, n := range x.fields[k] {
				if !validValue([]byte(n.canonical)) || n.raw == "" || canonical([]byte(n.raw)) != n.raw {
					t.Errorf("the guest made a field %q: %q", n.raw, n.canonical)
				}
			}
		}
		if !token([]byte(x.method)) || !validURI([]byte(x.uri)) || x.Status() < 200 || x.Status() > 999 {
			t.Errorf("the guest made %q %q %d", x.method, x.uri, x.Status())
		}
	})
}

// harmless makes a program of random bytes: the operation is one of the host functions or memory.grow, most arguments are
// small, or near something that exists, and there is an end.
func harmless(b []byte) []byte {
	b = append(b[:len(b)/stepBytes*stepBytes:len(b)/stepBytes*stepBytes], make([]byte, stepBytes)...)
	for at := 0; at < len(b)-stepBytes; at += stepBytes {
		op := binary.LittleEndian.Uint32(b[at:]) % uint32(len(hostFunctions)+1)
		if op++; int(op) > len(hostFunctions) {
			op = uint32(opGrow)
		}
		binary.LittleEndian.PutUint32(b[at:], op)
		for arg := at + 4; arg < at+24; arg += 4 {
			n := binary.LittleEndian.Uint32(b[arg:])
			switch n >> 30 {
			case 0:
				n %= 8
			case 1:
				n = dataAt + n%32
			case 2:
				n %= memorySize + 8
			}
			binary.LittleEndian.PutUint32(b[arg:], n)
		}
	}
	return b
}

func checkGuestsFault(t *testing.T, err error) {
	t.Helper()
	if err == nil || errors.Is(err, errLate) || errors.Is(err, io.ErrNoProgress) {
		return
	}
	trap, ok := errors.AsType[*plugins.TrapError](err)
	if !ok || trap.Reason != plugins.ReasonTrap {
		t.Fatalf("got %v, want a trap", err)
	}
	if bug, ok := errors.AsType[runtime.Error](err); ok {
		t.Fatalf("the host's own fault: %v", bug)
	}
}
