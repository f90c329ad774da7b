// Package meter makes a WebAssembly module interruptible: Rewrite adds to its code a count of the work done and, every
// so often, a look at a flag that the host may set.
//
//	rewritten, err := meter.Rewrite(module)
//	if err != nil { ... } // errors.Is(err, meter.ErrUnsupported)
//	compiled, err := runtime.CompileModule(ctx, rewritten.Module)
//	instance, err := runtime.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithStartFunctions())
//	flag := instance.ExportedGlobal(meter.FlagExport).(api.MutableGlobal)
//	if rewritten.HasStart { ... } // call meter.StartExport first: the module's start function no longer runs by itself
//	timer := time.AfterFunc(timeout, func() { flag.Set(1) })
//	_, err = instance.ExportedFunction("handle").Call(ctx) // ends with a trap soon after the flag is set
//
// Every loop and every function that calls takes one from a private global, the fuel; large copies and fills take more.
// When the fuel is used up, an added function fills it up again, grows the memory by nothing, and traps if the flag is
// not zero. Growing by nothing is what makes the guest preemptible: wazero leaves native code for it, so that the
// garbage collector, which stops everything and waits for the guest, need not wait longer than one filling. A flag
// alone would hang the process: the goroutine that sets it would be among the stopped.
//
// A second counter, the room, bounds recursion: functions that take part in it take room while they run, and a trap
// comes when none is left. wazero alone would let the stack of a guest without end take 161 MiB.
//
// # What may be relied on
//
// The same module gives the same bytes. Nothing of the module is renumbered, and it behaves as before but for this: the
// start function is exported instead of run; custom sections that hold code offsets, and names that are unsound, are
// gone; a module without memory has an empty one; recursion may end sooner. Units of work (UnitsExport) are the same
// for the same input.
//
// The guest cannot reach what is added: an index beyond its own globals, locals and functions is refused, and an
// instruction that wazero would read in another way than this package does is refused too. A host must not link other
// modules to a rewritten one, as they could import the flag.
//
// # Limits
//
// After an error of ErrMalformed, better not give the module to wazero: it makes lists of the lengths it finds before it
// looks for their elements, so that a dozen bytes may take all memory. A function may have 50,000 locals, and checks may
// add four times the size of a module (real ones grow by 1 to 5 %). Memory used is of the same order, and recursion has
// no part in reading, however deep the blocks of a function lie in one another.
//
// A function takes its room in bytes of its frame, as estimated from its locals; functions that are in no cycle of
// calls take none. So the stack may be some times as large as Room, and if a frame is much larger than its locals tell,
// wazero's own bound comes first. After a trap the room is not given back: the instance is to be discarded.
//
// # What it does not do
//
// It does not validate: wazero does. It does not bound the time of host functions, nor of memory.atomic.wait, nor of
// compilation, nor the size of memory and tables, nor the recursion of host functions that call the guest again. A unit
// of work is not a unit of time: from half a nanosecond to over a hundred. Package plugins has the clock, and the rules
// for what is left of an instance after a trap.
package meter

import (
	"errors"
	"fmt"
)

// The names that a rewritten module exports beside its own.
const (
	// FlagExport is a mutable i32. Once it is not zero, the guest traps (unreachable) at the end of its fuel.
	FlagExport = "edge:flag"
	// FuelExport is a mutable i32: what is left of Refill units.
	FuelExport = "edge:fuel"
	// UnitsExport is a mutable i64. Units + Refill - fuel is the work done since the instance was made, in units.
	UnitsExport = "edge:units"
	// RoomExport is a mutable i32: what is left of Room. It is all there between calls, and below zero after a trap for
	// want of room.
	RoomExport = "edge:room"
	// StartExport is the start function of the module, if it has one, without parameters and results.
	StartExport = "edge:start"
)

// reservedPrefix begins the names that a module may not export itself.
const reservedPrefix = "edge:"

// Refill is the fuel of one filling, in units.
//
// Between 2^12 and 2^16 the guest's speed does not change; at 2^20 pauses of the garbage collector reach 42 ms.
const Refill = 16384

// Room is how deep calls may lie within calls, in bytes of the frames of functions that take part in recursion, as
// estimated from their locals: a small function may call itself 60,000 times. Endless recursion of one ends after 3 ms
// and 10 MiB of stack, all copies counted.
const Room = 4 << 20

var (
	// ErrUnsupported is wrapped by every error of Rewrite: the module cannot be rewritten.
	ErrUnsupported = errors.New("cannot be metered")

	// ErrMalformed is wrapped, beside ErrUnsupported, when the module is at fault, by its encoding or by its measures,
	// rather than new to this package.
	ErrMalformed = fmt.Errorf("malformed module: %w", ErrUnsupported)
)

// Rewritten is a module with checks.
type Rewritten struct {
	// Module is the new binary. It shares no memory with the old one.
	Module []byte
	// HasStart says that StartExport is there: call it before any other function, as an engine would have.
	HasStart bool
}

// Rewrite returns module with checks of the fuel in its loops and functions. It does not keep or change module.
//
// An error wraps ErrUnsupported: an opcode, a type or a section that is not known, an export name that begins with
// "edge:", or a malformed module (ErrMalformed too). It takes about 6 ms for each MB.
func Rewrite(module []byte) (Rewritten, error) {
	return rewrite(module, options{refill: Refill, room: Room})
}

// options are what tests vary.
type options struct {
	refill int32 // from 1
	room   int32 // 0: recursion is not bounded
}

func rewrite(binary []byte, o options) (Rewritten, error) {
	m, err := parse(binary)
	if err != nil {
		return Rewritten{}, fmt.Errorf("meter: %w", err)
	}
	return Rewritten{Module: newWriter(m, o).module(len(binary)), HasStart: m.start != nil}, nil
}
