package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edge-proxy/edge/arena"
	"github.com/edge-proxy/edge/plugins"
	"github.com/edge-proxy/edge/plugins/proxywasm"
)

// Proxy is the data plane: an http.Handler that takes requests to providers within their limits. It is safe
// for concurrent use. Make one with New; Close gives back what it holds.
type Proxy struct {
	current atomic.Pointer[generation]

	// Fixed after New.
	log      *slog.Logger
	access   *accessLog // nil: off
	tag      string     // of this process, in request ids
	via      string     // of this process, in Via
	sweeper  *sweeper
	sets     histogramSets
	version  string
	checking bool // CheckPlugins: no guest reaches anything
	records  *arena.Class[exchange]
	heads    *arena.Class[headBlock]
	bodies   *arena.Class[bodyBlock]
	longs    *arena.Class[longBlock]

	// Changed under mu, by Reload and Close.
	mu        sync.Mutex
	config    Config
	providers map[string]*provider
	plugins   map[string]*pluginStats // by name; they outlive generations
	standings map[string]*standing    // by the token's name; so too

	// Changed by Reload, one at a time, and Close.
	reloading sync.Mutex
	host      *plugins.Host // nil until there is a plugin
	store     *proxywasm.Store
	callouts  sync.WaitGroup // requests that plugins make

	// Written by every request.
	sequence atomic.Uint64
	inside   atomic.Int64 // requests in ServeHTTP
	buffered atomic.Int64 // bytes of request bodies held in memory
	upgraded atomic.Int64 // upgraded connections

	closing      sync.Once
	draining     atomic.Bool
	aborted      atomic.Bool
	reloadFailed atomic.Bool    // the last one
	unmatched    *providerStats // of requests that found no provider
}

// New makes a proxy from c. The error is a *ConfigError, or says which provider's settings do not work.
func New(c Config) (*Proxy, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	tag := processTag()
	p := &Proxy{log: c.Logger, tag: tag, via: "1.1 edge-" + tag, sets: newHistogramSets(), version: versionOf(c), providers: map[string]*provider{}, plugins: map[string]*pluginStats{}, standings: map[string]*standing{}}
	c, err := complete(c)
	if err != nil {
		return nil, err
	}
	p.initArena(c.InitialPoolSize)
	p.unmatched = newProviderStats(p.sets, "none")
	if err := p.Reload(c); err != nil {
		p.closeHost()
		return nil, err
	}
	p.sweeper = newSweeper()
	if c.AccessLog != nil {
		p.access = newAccessLog(c.AccessLog, c.AccessFormat)
	}
	return p, nil
}

// initArena makes the arena.
func (p *Proxy) initArena(objects int) {
	p.records = arena.NewClass[exchange](objects)
	p.heads = arena.NewClass[headBlock](objects)
	p.bodies = arena.NewClass[bodyBlock](objects)
	p.longs = arena.NewClass[longBlock](longSlots(objects))
}

// longShare is how many objects have one long block: few requests at a time move more than a slot holds.
const longShare = 32

func longSlots(objects int) int { return max(1, objects/longShare) }

// complete fills in the defaults of c and checks it.
func complete(c Config) (Config, error) {
	fillDefaults(reflect.ValueOf(&c).Elem(), reflect.ValueOf(DefaultConfig()))
	providers := make(map[string]Provider, len(c.Providers))
	for name, provider := range c.Providers {
		fillDefaults(reflect.ValueOf(&provider).Elem(), reflect.ValueOf(DefaultProvider()))
		providers[name] = provider
	}
	c.Providers = providers
	c.Plugins = slices.Clone(c.Plugins)
	for i := range c.Plugins {
		plugin := &c.Plugins[i]
		fillDefaults(reflect.ValueOf(plugin).Elem(), reflect.ValueOf(DefaultPlugin()))
		if plugin.Phases == nil {
			plugin.Phases = DefaultPlugin().Phases
		}
	}
	return c, c.Validate()
}

// Reload puts c in force for requests to come; those under way end as they began. Limits, counters and
// unchanged connections go on, and nobody who waits is lost. On an error nothing has changed. The Logger
// stays the one of New.
func (p *Proxy) Reload(c Config) error {
	c, err := complete(c)
	p.reloadFailed.Store(err != nil)
	if err != nil {
		return err
	}
	p.reloading.Lock()
	defer p.reloading.Unlock()
	old := p.current.Load()
	var inForce map[string]*loadedPlugin
	if old != nil {
		inForce = old.plugins
	}
	loaded, err := p.loadPlugins(context.Background(), c, inForce) // compiling takes its time; nothing waits for it
	if err != nil {
		p.reloadFailed.Store(true)
		return fmt.Errorf("proxy: reload: %w", err)
	}
	if err := p.swap(c, loaded); err != nil {
		for _, plugin := range loaded {
			plugin.release()
		}
		p.reloadFailed.Store(true)
		return fmt.Errorf("proxy: reload: %w", err)
	}
	if old != nil {
		old.unpin() // guests may have a last word; nobody waits for it
	}
	return nil
}

// swap puts a new generation in force, with plugins that are loaded.
func (p *Proxy) swap(c Config, loaded map[string]*loadedPlugin) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, old := p.config, p.current.Load()
	p.config = c
	next, err := p.newGeneration(c, loaded)
	if err != nil {
		p.config = before
		return err
	}
	p.records.Resize(c.InitialPoolSize)
	p.heads.Resize(c.InitialPoolSize)
	p.bodies.Resize(c.InitialPoolSize)
	p.longs.Resize(longSlots(c.InitialPoolSize))
	for name, end := range next.endpoints {
		p.providers[name] = end.provider
		end.gate.Resize(limits(c, end.config))
	}
	p.current.Store(next)
	if old != nil {
		for name, end := range old.endpoints {
			end.closeExcept(next.endpoints[name])
		}
	}
	return nil
}

// Drain makes the proxy refuse new requests with 503 draining. Requests that wait are still served.
func (p *Proxy) Drain() { p.draining.Store(true) }

// Abort ends every request, stream and upgraded connection still going on, and those that still come. Callers
// that had part of an answer see their connections break.
func (p *Proxy) Abort() {
	p.aborted.Store(true)
	p.sweeper.each(func(x *exchange) { x.abort(errDrainDeadline) })
}

// Close waits for the requests under way, then gives back connections and the sweeper. Call it after the
// server that uses the proxy has shut down, or after Abort; no request may come later.
func (p *Proxy) Close() error {
	p.closing.Do(p.close)
	return nil
}

func (p *Proxy) close() {
	p.Drain()
	for p.inside.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
	p.reloading.Lock()
	defer p.reloading.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current.Load().unpin()
	p.callouts.Wait()
	p.closeHost()
	for _, end := range p.current.Load().endpoints {
		end.closeExcept(nil)
	}
	for _, provider := range p.providers {
		provider.gate.Close()
	}
	p.sweeper.close()
	p.access.close()
}

// ServeHTTP takes one request through the line and accounts for it.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.inside.Add(1)
	defer p.inside.Add(-1)
	gen := p.pinned()
	defer gen.unpin()
	conn := connectionOf(r)
	conn.enter(r)
	defer conn.exit()
	a := arrival{p: p, gen: gen, r: r}
	err := a.look()
	x := p.begin(w, &a, conn, err == nil)
	defer p.finish(x)
	defer p.recovered(x)
	if err == nil {
		err = p.serve(x)
	}
	switch {
	case err == nil:
	case errors.Is(err, errGreeting):
		x.greet()
	case x.committed || gone(err) || errors.Is(err, errPluginReset):
		p.account(x, err)
		x.breakOff(err)
		// The caller must see that its answer is not whole: HTTP/1.1 without a last chunk, HTTP/2 a reset.
		panic(http.ErrAbortHandler)
	default:
		x.leave() // no permit is held while a caller takes its error
		x.discharge()
		x.refuse(err)
	}
	p.account(x, err)
}

// pinned returns the generation in force, with its plugins kept for one exchange.
func (p *Proxy) pinned() *generation {
	for {
		if gen := p.current.Load(); gen.pin() {
			return gen
		}
	}
}

// serve is the line that each request walks once. arrival.look has said where it goes.
func (p *Proxy) serve(x *exchange) error {
	err := x.ask()
	if err != nil && !errors.Is(err, errReplied) {
		if len(x.draft.visits) == 0 || gone(err) || errors.Is(err, errPluginReset) {
			return err
		}
		x.failedWith(err) // plugins that have seen the request see what Edge answers, too
	}
	x.pluginsBack()
	if x.draft.broken != nil {
		return x.draft.broken
	}
	err = x.reply() // and the content; the permit goes back at its last byte
	x.pluginsAfter(err)
	return err
}

// ask takes the request from its arrival to the head of its answer.
func (x *exchange) ask() error {
	if err := x.routePlugins(); err != nil || x.draft.answered { // as the caller sent it
		return err
	}
	if x.wantsModelList() {
		return x.listModels()
	}
	if err := x.resolve(); err != nil { // /v1: the provider that the body's model names
		return err
	}
	if err := x.allow(); err != nil { // what the caller may use
		return err
	}
	return x.attemptAll()
}

// errGreeting ends a GET / without an error.
var errGreeting = errors.New("greeting")

func (x *exchange) greet() {
	x.status = http.StatusOK
	h := x.w.Header()
	h["Content-Type"] = []string{"text/plain; charset=utf-8"}
	h[requestIDField] = []string{x.id}
	x.readUp()
	x.closeAfter(h)
	written, _ := io.WriteString(x.w, greeting) // a caller that has left is told nothing
	x.sent += int64(written)
}

// breakOff sends the head that the answer has, if that was to go with the content: a client that got nothing sends its
// request again by itself (RFC 9112, section 9.3.1). And it makes sure that an HTTP/1.0 caller, to whom the end of the
// connection is the end of the answer, sees a reset instead.
func (x *exchange) breakOff(err error) {
	x.broken = true
	if x.committed && x.sent == 0 && !gone(err) {
		control := http.NewResponseController(x.w)
		_ = control.SetWriteDeadline(time.Now().Add(x.gen.config.WriteTimeout)) // not every server can
		_ = control.Flush()                                                     // an error means that the connection has ended
	}
	if x.r.ProtoMajor == 1 && x.r.ProtoMinor == 0 && x.conn != nil && x.conn.tcp != nil {
		_ = x.conn.tcp.SetLinger(0) // it is going to be closed; an error means that it is
	}
}

// recovered turns a panic of ours into a 500 and a log line. http.ErrAbortHandler goes on its way.
func (p *Proxy) recovered(x *exchange) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler { //nolint:errorlint // panic values are compared as net/http compares them
		panic(v)
	}
	p.log.LogAttrs(context.Background(), slog.LevelError, "panic", slog.String(keyRequest, x.id),
		slog.Any(keyError, v), slog.String(keyStack, string(debug.Stack())))
	err := fmt.Errorf("bug: %v", v)
	x.leave()
	if !x.committed {
		x.refuse(err)
	}
	p.account(x, err)
	if x.committed {
		panic(http.ErrAbortHandler)
	}
}
