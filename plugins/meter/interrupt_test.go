package meter

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// call runs an export on a goroutine and returns its error through a channel.
func (g guest) background(name string, args ...uint64) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := g.ExportedFunction(name).Call(context.Background(), args...)
		done <- err
	}()
	return done
}

// runaways are modules whose "f" does not end.
func runaways() map[string][]byte {
	three := cat(opI32Const, 0, opI32Const, 0, opI32Const, 0x80, 0x80, 4)
	return map[string][]byte{
		"loop":             one(i32, "", fn(opLoop, 0x40, opBr, 0, opEnd)),
		"loop with result": one(i32, "", fn(opLoop, i32, opBr, 0, opEnd, opDrop)),
		"loop with parameters": mod(sec(secType, vec(typ(i32, ""), typ(i32, i32))), sec(secFunction, vec([]byte{0})),
			sec(secExport, vec(exp("f", 0))),
			sec(secCode, vec(fn(opI32Const, 0, opLoop, 1, opI32Const, 1, opI32Add, opBr, 0, opEnd, opDrop)))),
		"fill": one(i32, "", fn(opLoop, 0x40, three, opMisc, 11, 0, opBr, 0, opEnd)),
		"copy": one(i32, "", fn(opLoop, 0x40, three, opMisc, 10, 0, 0, opBr, 0, opEnd)),
		"grow": one(i32, "", fn(opLoop, 0x40, opI32Const, 0, opMemoryGrow, 0, opDrop, opBr, 0, opEnd)),
		// f(n) { if (n < 60) { f(n+1); f(n+1) } } has no loop, and 2^60 calls.
		"calls": one(i32, "", fn(opLocalGet, 0, opI32Const, 60, opI32LtS, opIf, 0x40,
			opLocalGet, 0, opI32Const, 1, opI32Add, opCall, 0, opLocalGet, 0, opI32Const, 1, opI32Add, opCall, 0, opEnd)),
		"tail calls": one(i32, "", fn(opLocalGet, 0, opReturnCall, 0)),
	}
}

// trapsSoon sets the flag of a running guest and waits for its end.
func trapsSoon(t *testing.T, g guest, done <-chan error) {
	t.Helper()
	time.Sleep(5 * time.Millisecond) // no event tells that the guest is in its loop
	select {
	case err := <-done:
		t.Fatal("ended by itself: ", err)
	default:
	}
	begin := time.Now()
	g.ExportedGlobal(FlagExport).(api.MutableGlobal).Set(1)
	err := <-done
	if late := time.Since(begin); late > 2*time.Second {
		t.Errorf("ended %v after its flag was set", late)
	} else {
		t.Logf("ended %v after its flag was set", late)
	}
	if err == nil || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("got %v", err)
	}
}

func TestInterrupt(t *testing.T) {
	for name, module := range runaways() {
		t.Run(name, func(t *testing.T) {
			g := start(t, wazero.NewRuntimeConfig(), module, &options{refill: Refill, room: Room})
			trapsSoon(t, g, g.background("f", 1))
		})
		// The interpreter reads globals in Go, where a flag set from aside is a race: it is set before.
		t.Run("interpreter/"+name, func(t *testing.T) {
			g := start(t, wazero.NewRuntimeConfigInterpreter(), module, &options{refill: Refill, room: Room})
			g.ExportedGlobal(FlagExport).(api.MutableGlobal).Set(1)
			if err := <-g.background("f", 1); err == nil || !strings.Contains(err.Error(), "unreachable") {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("go", func(t *testing.T) {
		g := start(t, wazero.NewRuntimeConfig(), goGuest(t), &options{refill: Refill, room: Room})
		trapsSoon(t, g, g.background("spin"))
	})
}

// TestCollectorProceeds: a collection that begins while a guest loops stops all others and waits for the guest. If a
// new wazero no longer enters Go to grow the memory by nothing, this test hangs, and no -timeout ends it: then the slow
// function needs another way into Go.
func TestCollectorProceeds(t *testing.T) {
	for name, module := range runaways() {
		t.Run(name, func(t *testing.T) {
			g := start(t, wazero.NewRuntimeConfig(), module, &options{refill: Refill, room: Room})
			done := g.background("f", 1)
			time.Sleep(time.Millisecond)
			for range 3 {
				runtime.GC()
			}
			trapsSoon(t, g, done)
		})
	}
}

// TestRecursion: without the room, endless recursion takes 161 MiB and 100 to 400 ms.
func TestRecursion(t *testing.T) {
	plusOne := cat(opLocalGet, 0, opI32Const, 1, opI32Add)
	types := sec(secType, vec(typ(i32, i32)))
	table := sec(4, vec(cat(0x70, 0, 1)))
	elements := sec(9, vec(cat(0, opI32Const, 0, opEnd, vec([]byte{0}))))
	for name, module := range map[string][]byte{
		"itself": one(i32, i32, fn(plusOne, opCall, 0, opI32Const, 1, opI32Add)),
		"each other": mod(types, sec(secFunction, vec([]byte{0}, []byte{0}, []byte{0})), sec(secExport, vec(exp("f", 0))),
			sec(secCode, vec(fn(plusOne, opCall, 1, opI32Const, 1, opI32Add), fn(plusOne, opCall, 2, opI32Const, 1, opI32Add),
				fn(plusOne, opCall, 0, opI32Const, 1, opI32Add)))),
		"through a table": mod(types, sec(secFunction, vec([]byte{0})), table, sec(secExport, vec(exp("f", 0))), elements,
			sec(secCode, vec(fn(plusOne, opI32Const, 0, opCallIndirect, 0, 0, opI32Const, 1, opI32Add)))),
		"by a tail call": mod(types, sec(secFunction, vec([]byte{0}, []byte{0})), sec(secExport, vec(exp("f", 0))),
			sec(secCode, vec(fn(plusOne, opReturnCall, 1), fn(plusOne, opCall, 0, opI32Const, 1, opI32Add)))),
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, wazero.NewRuntimeConfig(), module, &options{refill: Refill, room: Room})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := g.ExportedFunction("f").Call(t.Context(), 1)
			runtime.ReadMemStats(&after)
			overflown := err != nil && !compiles && strings.Contains(err.Error(), "stack overflow")
			if !overflown && (err == nil || !strings.Contains(err.Error(), "unreachable")) {
				t.Fatalf("got %v", err)
			}
			if room := int32(g.ExportedGlobal(RoomExport).Get()); room >= 0 && !overflown {
				t.Errorf("%d of the room is left", room)
			}
			if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 48 {
				t.Errorf("took %d MiB", took)
			}
		})
	}
}
