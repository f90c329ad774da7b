package plugins

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero/sys"
)

var (
	// ErrClosed is returned by what was closed: a Pool, a Module.
	ErrClosed = errors.New("closed")
	// ErrDead is returned by a call on an instance that has failed before.
	ErrDead = errors.New("plugins: dead instance")
)

// TrapReason is why a guest call ended before it returned. It is a closed set, fit for a metric's label.
type TrapReason string

// The reasons.
const (
	ReasonTrap      TrapReason = "trap"      // a WebAssembly trap: unreachable, out of bounds, division by zero ...
	ReasonTimeout   TrapReason = "timeout"   // over its time
	ReasonExit      TrapReason = "exit"      // the guest called proc_exit, whatever its code
	ReasonRecursion TrapReason = "recursion" // out of stack
	ReasonAbort     TrapReason = "abort"     // a host function called Abort; only counted, never in a TrapError
)

// reasons numbers the reasons, for counters.
var reasons = [...]TrapReason{ReasonTrap, ReasonTimeout, ReasonExit, ReasonRecursion, ReasonAbort}

func (r TrapReason) index() int {
	for i, reason := range reasons {
		if r == reason {
			return i
		}
	}
	panic("bug: plugins: reason " + string(r))
}

// TrapError is a guest call that the guest did not finish. The instance is dead.
type TrapError struct {
	Plugin   string
	Function string
	Reason   TrapReason
	Err      error // with the guest's stack; for the log, not for clients
}

func (e *TrapError) Error() string {
	return fmt.Sprintf("plugins: %s: %s: %s: %v", e.Plugin, e.Function, e.Reason, e.Err)
}

func (e *TrapError) Unwrap() error { return e.Err }

// reasonOf tells why wazero gave up a call that was in time.
func reasonOf(err error) TrapReason {
	if _, ok := errors.AsType[*sys.ExitError](err); ok {
		return ReasonExit
	}
	// wazero's error value is in one of its internal packages.
	if strings.HasPrefix(err.Error(), "stack overflow") || strings.HasPrefix(err.Error(), "wasm error: stack overflow") {
		return ReasonRecursion
	}
	return ReasonTrap
}
