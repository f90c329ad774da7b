package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/api"
)

// Instance is a module with a memory of its own. One goroutine at a time may use it; only Dead and what says so are for
// any.
type Instance struct {
	module *Module
	state  any
	ctx    context.Context // for all calls: a guestContext
	cancel context.CancelFunc
	guest  api.Module // nil when dead
	memory api.Memory // nil when dead
	meter  meters

	watch   stopwatch
	watched bool          // by the watchdog
	within  time.Duration // what calls may take; 0 means Config.Timeout

	functions      []*Function
	depth          int // of calls: host functions may call the guest
	calls          uint64
	fault          error // why it is dead
	aborted        error
	dead           atomic.Bool
	closed         bool
	memoryBytes    atomic.Int64
	request        string
	stdout, stderr lineWriter

	slot *slot // in a Pool
	lent bool  // by a Pool
}

// maxDepth is the most calls within each other: a guest must not grow the host's stack.
const maxDepth = 8

var (
	errNested  = errors.New("host functions called the guest too deep")
	errAborted = errors.New("aborted by a host function")
)

// Function is a function that a guest exports.
type Function struct {
	name            string
	fn              api.Function // nil when the instance is dead
	params, results int
	busy            bool
}

// Name returns the name of the export.
func (f *Function) Name() string { return f.name }

// Params returns how many values the function takes.
func (f *Function) Params() int { return f.params }

// Results returns how many values it returns.
func (f *Function) Results() int { return f.results }

// guestContext is the context that host functions get. It is made once for an instance.
type guestContext struct {
	context.Context
	instance *Instance
}

type instanceKey struct{}

// Value finds the instance, also through a context that wraps this one.
func (c *guestContext) Value(key any) any {
	if _, ok := key.(instanceKey); ok {
		return c.instance
	}
	return c.Context.Value(key)
}

// InstanceOf returns the instance that called a host function with ctx, nil for any other context. It does not allocate.
func InstanceOf(ctx context.Context) *Instance {
	if c, ok := ctx.(*guestContext); ok {
		return c.instance
	}
	i, _ := ctx.Value(instanceKey{}).(*Instance)
	return i
}

// StateOf returns what Instantiate was given for the instance that called a host function with ctx. It does not allocate.
func StateOf(ctx context.Context) any {
	if i := InstanceOf(ctx); i != nil {
		return i.state
	}
	return nil
}

// Instantiate makes an instance and runs its start functions under Config.StartTimeout, or until ctx ends. state is
// what StateOf tells host functions, from the first guest instruction on. The error of a guest that fails
// here is a *TrapError. The caller closes the Instance.
func (m *Module) Instantiate(ctx context.Context, state any) (*Instance, error) {
	i := &Instance{module: m, state: state}
	i.stdout = lineWriter{instance: i, level: slog.LevelInfo, stream: "stdout"}
	i.stderr = lineWriter{instance: i, level: slog.LevelError, stream: "stderr"}
	parent := context.Background()
	if m.config.Deadline == DeadlineContext {
		parent, i.cancel = context.WithCancel(parent)
	}
	i.ctx = &guestContext{Context: parent, instance: i}
	i.watch.alarm, i.watch.dog = make(chan struct{}, 1), m.host.watchdog
	if err := m.add(i); err != nil {
		return nil, err
	}
	err := i.begin(ctx)
	if ctx.Err() != nil { // the watchdog may have been told to end the next call
		err = fmt.Errorf("plugins: %s: start: %w", m.config.Name, context.Cause(ctx))
	}
	if err != nil {
		i.Close()
		return nil, err
	}
	i.calls = 0
	return i, nil
}

// begin makes the guest and runs its start functions, all as one call.
func (i *Instance) begin(ctx context.Context) error {
	m := i.module
	i.depth = 1
	if m.config.Deadline == DeadlineContext { // a start section runs in InstantiateModule
		i.watch.strike = i.cancel
		defer i.startWatch(ctx)()
	}
	guest, err := tried(func() (api.Module, error) { return m.runtime.InstantiateModule(i.ctx, m.compiled, i.wasiConfig()) })
	if err != nil {
		return i.end("instantiate", err)
	}
	i.guest, i.memory = guest, guest.ExportedMemory("memory")
	if m.config.Deadline == DeadlineRewrite {
		m.mu.Lock() // Stats reads the meter
		i.meter.find(guest)
		m.mu.Unlock()
		i.watch.strike = i.meter.strike
		defer i.startWatch(ctx)()
	}
	for _, name := range m.start {
		if err := i.Call(i.Function(name), nil); err != nil {
			return i.end(name, err)
		}
	}
	return i.end("", nil)
}

// startWatch puts the instance under the watchdog's eye for the rest of its life, and until stop under that of ctx.
func (i *Instance) startWatch(ctx context.Context) (stop func() bool) {
	i.watched = true
	i.module.host.watchdog.watch(&i.watch)
	i.watch.begin(i.module.config.StartTimeout)
	return context.AfterFunc(ctx, i.watch.condemn)
}

// State returns what Instantiate was given.
func (i *Instance) State() any { return i.state }

// Module returns the instance's module.
func (i *Instance) Module() *Module { return i.module }

// Function returns an exported function, nil when there is none of that name. Look it up once and keep it. It is of no
// use when the instance is dead.
func (i *Instance) Function(name string) *Function {
	for _, f := range i.functions {
		if f.name == name {
			return f
		}
	}
	if i.guest == nil {
		return nil
	}
	fn := i.guest.ExportedFunction(name)
	if fn == nil {
		return nil
	}
	def := fn.Definition()
	f := &Function{name: name, fn: fn, params: len(def.ParamTypes()), results: len(def.ResultTypes())}
	i.functions = append(i.functions, f)
	return f
}

// Call calls a guest function under Config.Timeout. stack holds the parameters and then the results; it must have room
// for the larger of the two numbers. It does not allocate, but under DeadlineContext.
//
// A host function may Call while the guest waits for it; the time is that of the outer call, the function must be
// another one, and there may be 8 calls within each other. The error is a *TrapError, or what a host function gave to
// Abort. After any error the instance is dead.
func (i *Instance) Call(f *Function, stack []uint64) error {
	if f.fn == nil {
		return ErrDead
	}
	if i.fault != nil { // a host function goes on after a call that failed
		return i.fault
	}
	if f.busy || i.depth == maxDepth {
		i.die(&TrapError{Plugin: i.module.config.Name, Function: f.name, Reason: ReasonRecursion, Err: errNested})
		return i.fault
	}
	if i.watched {
		if i.depth == 0 {
			i.watch.begin(i.budget())
		} else {
			i.watch.enter() // a host function that is Outside must not run the guest there
		}
	}
	f.busy = true
	i.depth++
	err := f.fn.CallWithStack(i.ctx, stack)
	f.busy = false
	return i.end(f.name, err)
}

// end ends a call that returned err, and decides what became of it.
func (i *Instance) end(function string, err error) error {
	i.depth--
	inTime := true
	if i.depth == 0 {
		if i.watched {
			inTime = i.watch.end()
		}
		i.flush()
	}
	if err == nil && inTime && i.fault == nil && i.aborted == nil {
		i.calls++
		return nil
	}
	if i.fault == nil { // else a call within this one has failed
		i.fail(function, err)
	}
	if i.depth == 0 {
		i.bury()
	}
	return i.fault
}

// flush brings what was kept during a call to where others see it.
func (i *Instance) flush() {
	if len(i.stdout.partial)+len(i.stderr.partial) > 0 {
		i.stdout.flush()
		i.stderr.flush()
	}
	if i.memory != nil {
		if size := int64(i.memory.Size()); size != i.memoryBytes.Load() {
			i.memoryBytes.Store(size)
		}
	}
}

// fail finds out why a call failed. The word, not the error, tells a guest that was stopped from one that crashed.
func (i *Instance) fail(function string, err error) {
	trap := &TrapError{Plugin: i.module.config.Name, Function: function, Err: err}
	switch {
	case i.aborted != nil:
		trap.Reason = ReasonAbort
	case i.watch.over():
		trap.Reason = ReasonTimeout
		trap.Err = fmt.Errorf("over its %v", time.Duration(i.watch.budget.Load()))
		if err != nil { // for where the guest was; what it says of the cause is the means by which it was stopped
			trap.Err = fmt.Errorf("%w; stopped at: %w", trap.Err, err)
		}
	case i.meter.full():
		trap.Reason = ReasonRecursion
		trap.Err = fmt.Errorf("calls within calls too deep: %w", err)
	default:
		trap.Reason = reasonOf(err)
	}
	i.die(trap)
}

// die notes why the instance is dead; the first reason is kept.
func (i *Instance) die(trap *TrapError) {
	if i.fault != nil {
		return
	}
	i.dead.Store(true)
	i.module.traps[trap.Reason.index()].Add(1)
	i.fault = trap
	if trap.Reason == ReasonAbort {
		i.fault = i.aborted
	}
}

// bury frees what a dead or closed instance holds: its memory, and the stacks of its functions, which may have grown to
// hundreds of megabytes.
func (i *Instance) bury() {
	if i.guest == nil {
		return
	}
	for _, f := range i.functions {
		f.fn = nil
	}
	i.functions = nil
	_ = i.guest.Close(context.Background())
	i.guest, i.memory = nil, nil
	i.memoryBytes.Store(0)
	i.module.mu.Lock()
	defer i.module.mu.Unlock()
	i.module.units += i.meter.read()
	i.meter = meters{}
}

func (i *Instance) budget() time.Duration {
	if t := i.module.config.Timeout; i.within == 0 || i.within > t {
		return t
	}
	return i.within
}

// Within bounds each following call by d, if that is less than Config.Timeout; 0 ends it.
func (i *Instance) Within(d time.Duration) { i.within = d }

// Outside is for host functions that wait for I/O: until Inside, time is not the guest's. It reports false when the
// guest is over its time already and the host function should return at once.
func (i *Instance) Outside() bool { return !i.watched || i.watch.leave() }

// Inside ends what Outside began.
func (i *Instance) Inside() {
	if i.watched {
		i.watch.enter()
	}
}

// Memory returns the guest's memory; nil when it is dead. A view of it holds until the guest runs again.
func (i *Instance) Memory() api.Memory { return i.memory }

// Log writes a line of the guest's to the log. It copies text. Lines over Config.LogLinesPerSecond are dropped.
func (i *Instance) Log(level slog.Level, text []byte, attrs ...slog.Attr) {
	i.log(level, text, attrs...)
}

// LogEnabled reports whether lines of this level reach the log.
func (i *Instance) LogEnabled(level slog.Level) bool {
	return i.module.lines.logger.Enabled(context.Background(), level)
}

// log reports false for a line that there was no room for.
func (i *Instance) log(level slog.Level, text []byte, attrs ...slog.Attr) (ok bool) {
	if !i.LogEnabled(level) {
		return true
	}
	if !i.module.lines.admit() {
		return false
	}
	if i.request != "" {
		attrs = append(slices.Clip(attrs), slog.String(keyRequest, i.request))
	}
	i.module.lines.write(level, text, attrs)
	return true
}

// SetRequest sets the request id of log lines; "" means none.
func (i *Instance) SetRequest(id string) { i.request = id }

// Abort is for host functions: it does not return, the guest call ends, and Call returns err as it is. The instance is
// dead then.
func (i *Instance) Abort(err error) {
	if i.aborted == nil {
		i.aborted = err
	}
	panic(errAborted)
}

// Dead reports whether the instance has failed. Any goroutine may ask.
func (i *Instance) Dead() bool { return i.dead.Load() }

// Close frees the instance. Idempotent.
func (i *Instance) Close() {
	if i.closed {
		return
	}
	i.closed = true
	i.dead.Store(true)
	if i.watched {
		i.module.host.watchdog.forget(&i.watch)
		i.watched = false
	}
	i.bury()
	if i.cancel != nil {
		i.cancel()
	}
	i.module.remove(i)
}
