package proxywasm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/edge-proxy/edge/plugins"
)

// ErrClosed is returned by what was closed.
var ErrClosed = plugins.ErrClosed

// Options are what this ABI adds to plugins.Config. Zero values mean the defaults.
type Options struct {
	// Instances is how many instances share the streams, 1 to 64. Default: as many as GOMAXPROCS, at most 4.
	Instances int
	// RootID is what a guest reads as plugin_root_id. Modules that hold several plugins choose by it.
	RootID string
	// VMID names what plugins share data and queues by. Default: the plugin's name.
	VMID string
	// VMConfig is what a guest reads in proxy_on_vm_start. What it reads in proxy_on_configure is plugins.Config.Settings.
	VMConfig []byte
	// HeaderPause says what the action 1 of a headers callback means. Default PauseByABI.
	HeaderPause HeaderPause
	// MaxBody is the most bytes of a body that a stream holds, on each side. Default 1 MiB.
	MaxBody int64
	// MaxCallouts is the most call-outs of the plugin in flight, and MaxCalloutsPerStream those of one stream. More get
	// INTERNAL_FAILURE. Default 256 and 16.
	MaxCallouts, MaxCalloutsPerStream int
	// PauseTimeout is how long Stream.Await waits, and how long a guest may put off done. Default 30 s.
	PauseTimeout time.Duration
	// Store holds shared data and queues; plugins that are to share them get the same one. Default: one of its own.
	Store *Store
	// Services is what a guest may use beyond its stream. Without it call-outs get BAD_ARGUMENT, Redis is not there.
	Services Services
}

// HeaderPause is what a guest means that returns 1, StopIteration, from a headers callback. Any higher number stops all.
type HeaderPause uint8

const (
	// PauseByABI is PauseHeaders for ABI 0.2.100 and for guests without call-out, tick or queue, which nothing else could
	// resume; PauseAll for the others.
	PauseByABI HeaderPause = iota
	// PauseHeaders lets body callbacks come; the first one that continues releases the headers too. Higress.
	PauseHeaders
	// PauseAll lets nothing come until continue_stream. Envoy.
	PauseAll
)

const maxInstances = 64

func (o Options) withDefaults(name string) (Options, error) {
	o.Instances = cmp.Or(o.Instances, min(runtime.GOMAXPROCS(0), 4))
	o.VMID = cmp.Or(o.VMID, name)
	o.MaxBody = cmp.Or(o.MaxBody, 1<<20)
	o.MaxCallouts = cmp.Or(o.MaxCallouts, 256)
	o.MaxCalloutsPerStream = cmp.Or(o.MaxCalloutsPerStream, 16)
	o.PauseTimeout = cmp.Or(o.PauseTimeout, 30*time.Second)
	if o.Store == nil {
		o.Store = NewStore(0)
	}
	switch {
	case o.Instances < 1 || o.Instances > maxInstances:
		return o, fmt.Errorf("proxywasm: %s: instances: got %d, want 1 to %d", name, o.Instances, maxInstances)
	case o.MaxBody < 0 || o.MaxCallouts < 0 || o.MaxCalloutsPerStream < 0 || o.PauseTimeout < 0:
		return o, fmt.Errorf("proxywasm: %s: limits: got %d bytes, %d and %d call-outs, %v; want none below 0", name,
			o.MaxBody, o.MaxCallouts, o.MaxCalloutsPerStream, o.PauseTimeout)
	}
	return o, nil
}

// Plugin is a module that speaks Proxy-Wasm, with its settings and its instances. Safe for concurrent use.
type Plugin struct {
	module                *plugins.Module
	options               Options
	version               version
	logger                *slog.Logger
	timeout, startTimeout time.Duration
	hasMain               bool
	streaming             bool // has callbacks for streams
	metrics               metrics
	noGRPC                sync.Once

	ctx     context.Context // of the goroutines
	cancel  context.CancelFunc
	working sync.WaitGroup
	broken  chan struct{} // one token: an instance is to be replaced
	kick    chan struct{} // one token: ticks or wake-ups have changed

	seats    []atomic.Pointer[guest]
	streams  atomic.Int64
	inFlight atomic.Int64 // call-outs
	callouts atomic.Uint64
	refused  atomic.Uint64
	replaced atomic.Uint64
	failures atomic.Int64 // instances in a row that died before they served

	mu     sync.Mutex
	closed bool
	ready  []wakeUp
	fresh  chan struct{} // closed and made anew when an instance arrives
}

// Load compiles c.Module and makes its instances: in each of them proxy_on_vm_start and proxy_on_configure must succeed. What
// is wrong is the error; nothing is left behind then. A plugin that was loaded is closed by Close.
func Load(ctx context.Context, h *plugins.Host, c plugins.Config, o Options) (*Plugin, error) {
	o, err := o.withDefaults(c.Name)
	if err != nil {
		return nil, err
	}
	info, err := plugins.Inspect(c.Module)
	if err != nil {
		return nil, fmt.Errorf("proxywasm: %s: %w", c.Name, err)
	}
	v, err := versionOf(info)
	if err := errors.Join(err, checkCallbacks(info)); err != nil {
		return nil, fmt.Errorf("proxywasm: %s: %w", c.Name, err)
	}
	p := &Plugin{
		options: o, version: v, logger: c.Logger,
		timeout:      cmp.Or(c.Timeout, 100*time.Millisecond),
		startTimeout: cmp.Or(c.StartTimeout, 5*time.Second),
		streaming: exportsAny(info, onRequestHeaders, onRequestBody, onRequestTrailers,
			onResponseHeaders, onResponseBody, onResponseTrailers, onDone, onLog),
		broken: make(chan struct{}, 1), kick: make(chan struct{}, 1), fresh: make(chan struct{}),
		seats: make([]atomic.Pointer[guest], o.Instances),
	}
	if p.logger == nil {
		p.logger = slog.Default()
	}
	p.hasMain = hasMain(info)
	// The runtime's bound is the one that vm_start and configure may take; later calls are bounded by less.
	c.Timeout = max(p.timeout, p.startTimeout)
	if p.module, err = h.Load(ctx, c, plugins.Binding{
		HostModules: hostModules(info),
		Start:       []string{"_initialize", "_start"},
	}); err != nil {
		return nil, err
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	for i := range p.seats {
		g, err := p.newGuest(ctx)
		if err != nil {
			p.Close()
			return nil, err
		}
		p.seats[i].Store(g)
	}
	p.working.Go(p.replace)
	p.working.Go(p.tend)
	return p, nil
}

// hasMain reports whether main(0, 0) follows _initialize, as in modules of TinyGo and emscripten.
func hasMain(in plugins.Info) bool {
	_, reactor := in.Export("_initialize")
	e, ok := in.Export("main")
	return reactor && ok && e.Kind == api.ExternTypeFunc && len(e.Params) == 2 && len(e.Results) <= 2 &&
		!slices.ContainsFunc(e.Params, func(t api.ValueType) bool { return t != api.ValueTypeI32 })
}

// Name returns plugins.Config.Name.
func (p *Plugin) Name() string { return p.module.Name() }

// ABI returns the version of the ABI that the module speaks, such as "0.2.1".
func (p *Plugin) ABI() string { return p.version.String() }

// Streaming reports whether the plugin has callbacks for streams. One without works in the background alone.
func (p *Plugin) Streaming() bool { return p.streaming }

// Wants says which callbacks of streams a plugin has. What is false may pass it by: a body, trailers.
type Wants struct{ RequestHeaders, RequestBody, RequestTrailers, ResponseHeaders, ResponseBody, ResponseTrailers bool }

// Wants returns which callbacks of streams the plugin has.
func (p *Plugin) Wants() Wants {
	info := p.module.Info()
	return Wants{
		RequestHeaders: exportsAny(info, onRequestHeaders), RequestBody: exportsAny(info, onRequestBody),
		RequestTrailers: exportsAny(info, onRequestTrailers), ResponseHeaders: exportsAny(info, onResponseHeaders),
		ResponseBody: exportsAny(info, onResponseBody), ResponseTrailers: exportsAny(info, onResponseTrailers),
	}
}

// Open is Stream.Open for those who do not mind an allocation. The stream is nil for a plugin without callbacks for streams.
func (p *Plugin) Open(x Exchange) (*Stream, error) {
	s := new(Stream)
	opened, err := s.Open(p, x)
	if !opened {
		return nil, err
	}
	return s, nil
}

// pick returns the instance with the fewest streams, locked, and counts one more.
func (p *Plugin) pick() (*guest, error) {
	for range len(p.seats) + 1 {
		var best *guest
		for i := range p.seats {
			g := p.seats[i].Load()
			if g != nil && !g.dead.Load() && (best == nil || g.open.Load() < best.open.Load()) {
				best = g
			}
		}
		if best == nil {
			break
		}
		best.open.Add(1)
		best.mu.Lock()
		if !best.dead.Load() && !best.retiring {
			return best, nil
		}
		best.mu.Unlock()
		best.open.Add(-1)
	}
	if p.ctx.Err() != nil {
		return nil, fmt.Errorf("proxywasm: %s: %w", p.Name(), ErrClosed)
	}
	return nil, fmt.Errorf("proxywasm: %s: %w", p.Name(), ErrNoInstance)
}

// The keys of log lines.
const (
	keyPlugin = "plugin"
	keyError  = "error"
)

// tell logs something about the plugin.
func (p *Plugin) tell(level slog.Level, text string, err error) {
	attrs := []slog.Attr{slog.String(keyPlugin, p.Name())}
	if err != nil {
		attrs = append(attrs, slog.Any(keyError, err))
	}
	p.logger.LogAttrs(context.Background(), level, text, attrs...) //nolint:sloglint // constant where tell is called
}

// arrival returns a channel that is closed when the next instance arrives.
func (p *Plugin) arrival() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fresh
}

// arrived tells those who wait for an instance.
func (p *Plugin) arrived() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.fresh)
	p.fresh = make(chan struct{})
	signal(p.kick)
}

// background logs what went wrong where nobody waits for it.
func (p *Plugin) background(err error) {
	p.tell(slog.LevelError, "plugin failed in the background", err)
}

// signal leaves a token in a channel that holds one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Close lets streams that are open end, and frees the module with the last one. It does not wait for them. Idempotent.
func (p *Plugin) Close() {
	p.mu.Lock()
	closed := p.closed
	p.closed = true
	p.mu.Unlock()
	if closed {
		return
	}
	p.cancel()
	p.options.Store.forget(p)
	p.working.Wait()
	for i := range p.seats {
		if g := p.seats[i].Load(); g != nil {
			g.leave()
		}
	}
	_ = p.module.Close(context.Background())
}
