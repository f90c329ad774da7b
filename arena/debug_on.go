//go:build edgedebug

package arena

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"sync"
)

// trace is the stack of a taker. Copies of a Slot share it, so it is the right one even when somebody else has the slot.
type trace = *stack

type stack [32]uintptr

// String returns one line per call, innermost first.
func (s *stack) String() string {
	var b strings.Builder
	b.WriteString("taken by")
	frames := runtime.CallersFrames(s[:])
	for {
		f, more := frames.Next()
		if f.PC != 0 {
			fmt.Fprintf(&b, "\n\t%s %s:%d", f.Function, f.File, f.Line)
		}
		if !more {
			return b.String()
		}
	}
}

// ledger knows who holds slots of a class.
type ledger struct {
	mu  sync.Mutex
	out map[trace]struct{}
}

// taken notes a loan; it is called by Class.Take and leaves out both.
func (l *ledger) taken() trace {
	s := new(stack)
	runtime.Callers(3, s[:])
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out == nil {
		l.out = make(map[trace]struct{})
	}
	l.out[s] = struct{}{}
	return s
}

func (l *ledger) given(s trace) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.out, s)
}

// Leaks returns the stack of the taker for every slot that is out, overflows included, in no order. It exists only with
// -tags edgedebug. Safe for concurrent use.
func (c *Class[T]) Leaks() []string {
	c.ledger.mu.Lock()
	defer c.ledger.mu.Unlock()
	var out []string
	for s := range c.ledger.out {
		out = append(out, s.String())
	}
	return out
}

// poison fills an array of bytes with 0xDB, so that a view kept beyond Give shows; other types it leaves alone.
func poison[T any](p *T) {
	v := reflect.ValueOf(p).Elem()
	if v.Kind() != reflect.Array || v.Type().Elem().Kind() != reflect.Uint8 {
		return
	}
	b := v.Bytes()
	for i := range b {
		b[i] = 0xDB
	}
}

// pause stands between a read and the swap that leans on it. It often lets others run there, so that the hammers meet
// the hazards of list and Class, which are too narrow to be met otherwise.
func pause() {
	if rand.Uint32N(4) == 0 {
		runtime.Gosched()
	}
}
