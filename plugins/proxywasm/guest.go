package proxywasm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/edge-proxy/edge/plugins"
)

// ReasonLost is the reason of a *plugins.TrapError that is not this stream's fault: its instance died in a call of another.
const ReasonLost plugins.TrapReason = "lost"

var errRefused = errors.New("the guest refuses to start")

// guest is one instance of the module with its contexts.
//
// Invariants:
//
//	G1  Guest code runs only under mu, which is held by no one who waits for anything but guest code.
//	G2  A stream's exchange is used only under mu, and only while the proxy is in a call on the stream.
//	G3  A dead guest has no streams and no call-outs; its streams know why (stream.lost).
type guest struct {
	plugin *Plugin
	ctx    context.Context // of its call-outs: ends with the instance
	cancel context.CancelFunc
	born   time.Time

	open   atomic.Int32 // streams, for the choice of an instance
	dead   atomic.Bool
	served atomic.Bool  // a stream, to its end
	period atomic.Int64 // between ticks, in nanoseconds; 0 is none

	// The goroutine that ticks:
	ticked time.Duration // the period that due was computed with
	due    time.Time

	mu        sync.Mutex // guards the rest
	in        *plugins.Instance
	fns       [called]*plugins.Function
	stack     [8]uint64 // of a callback
	placing   [1]uint64 // of an allocation within a hostcall
	lastID    uint32
	streams   map[uint32]*stream
	free      []*stream
	effective *stream // the context in effect; nil is the plugin's
	answer    *answer // in its callback
	calls     map[uint32]uint32
	lastCall  uint32
	listens   bool // has registered a queue
	retiring  bool // the plugin is closed: ends with the last stream
	ending    bool // on_done was called in the plugin's context
	rootDone  bool // proxy_done was, since then
	waiting   *time.Timer

	properties properties // of the plugin's context
	finished   []*stream  // proxy_done, to be dropped after the callback
	words      words
	scratch    []byte
}

// newGuest makes an instance and starts the plugin in it.
func (p *Plugin) newGuest(ctx context.Context) (*guest, error) {
	g := &guest{plugin: p, lastID: rootID, streams: map[uint32]*stream{}, calls: map[uint32]uint32{}, born: time.Now()}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.mu.Lock()
	defer g.mu.Unlock()
	in, err := p.module.Instantiate(ctx, g)
	if err != nil {
		g.cancel()
		return nil, err
	}
	g.in = in
	in.Within(p.startTimeout)
	for f := range g.fns {
		g.fns[f] = in.Function(callbacks[f].Name)
	}
	if err := g.start(); err != nil {
		g.die(err)
		return nil, err
	}
	in.Within(p.timeout)
	return g, nil
}

// start brings the plugin's context to life.
func (g *guest) start() error {
	p := g.plugin
	if p.hasMain {
		if err := g.in.Call(g.in.Function("main"), make([]uint64, 2)); err != nil {
			return err
		}
	}
	if _, err := g.run(onContextCreate, nil, rootID, 0); err != nil {
		return err
	}
	steps := []struct {
		f    callback
		size int
	}{{onVMStart, len(p.options.VMConfig)}, {onConfigure, len(p.module.Settings())}}
	for _, step := range steps {
		accepts, err := g.run(step.f, nil, rootID, uint64(step.size))
		if err != nil {
			return err
		}
		if accepts == 0 {
			return fmt.Errorf("proxywasm: %s: %w: %s returned 0; its log says why, look at the plugin's config",
				p.Name(), errRefused, callbacks[step.f].Name)
		}
	}
	return nil
}

// run calls a callback in a context, nil for the plugin's, and returns its result. The result of a callback that has none,
// or is not exported, is 1 for those that are asked for consent and 0 for the others. After an error the guest is dead.
func (g *guest) run(f callback, c *stream, args ...uint64) (uint64, error) {
	result := uint64(0)
	if f == onVMStart || f == onConfigure || f == onDone {
		result = 1
	}
	fn := g.fns[f]
	if fn == nil {
		return result, nil
	}
	request := ""
	if c != nil && c.x != nil {
		request = c.x.RequestID()
	}
	g.in.SetRequest(request)
	copy(g.stack[:], args)
	g.effective = c
	err := g.in.Call(fn, g.stack[:])
	g.effective = nil
	if err != nil {
		g.die(err)
		return 0, err
	}
	if fn.Results() > 0 {
		result = uint64(uint32(g.stack[0]))
	}
	g.settle()
	return result, nil
}

// settle drops the contexts that the callback has done with.
func (g *guest) settle() {
	for len(g.finished) > 0 {
		c := g.finished[len(g.finished)-1]
		g.finished = g.finished[:len(g.finished)-1]
		g.finish(c)
	}
	if g.rootDone && g.waiting != nil {
		g.deleteRoot()
	}
}

// die buries the instance after an error, and tells all its streams.
func (g *guest) die(err error) {
	if g.dead.Swap(true) {
		return
	}
	lost := g.lost(err)
	for _, c := range g.streams {
		c.lost = lost
		if c.lingering != nil {
			c.lingering.Stop()
		}
		g.plugin.inFlight.Add(-int64(len(c.answers)))
		c.rouse()
	}
	clear(g.streams)
	g.free, g.finished, g.answer = nil, nil, nil
	g.end()
}

// end frees what the guest holds.
func (g *guest) end() {
	g.dead.Store(true)
	g.period.Store(0)
	g.plugin.inFlight.Add(-int64(len(g.calls)))
	clear(g.calls) // their answers find nobody
	g.cancel()
	if g.waiting != nil {
		g.waiting.Stop()
	}
	g.in.Close()
	signal(g.plugin.broken)
}

// leave is for Plugin.Close: the guest ends with its last stream.
func (g *guest) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.retiring = true
	g.period.Store(0)
	if !g.dead.Load() && len(g.streams) == 0 {
		g.retire()
	}
}

// retire ends the plugin's context, and the instance with it.
func (g *guest) retire() {
	if g.dead.Load() || g.ending {
		return
	}
	g.ending = true
	done, err := g.run(onDone, nil, rootID)
	if err != nil {
		g.plugin.background(err)
		return
	}
	if done != 0 || g.rootDone {
		g.deleteRoot()
		return
	}
	g.waiting = time.AfterFunc(g.plugin.options.PauseTimeout, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.deleteRoot()
	})
}

// deleteRoot is the end of the plugin's context.
func (g *guest) deleteRoot() {
	if g.waiting != nil {
		g.waiting.Stop()
		g.waiting = nil
	}
	if g.dead.Load() {
		return
	}
	if _, err := g.run(onDelete, nil, rootID); err != nil {
		g.plugin.background(err)
		return
	}
	g.end()
}

// read returns a view of guest memory, good until the guest runs again. The pointer to nothing may be anything.
func read(mem api.Memory, at, n uint64) ([]byte, bool) {
	if uint32(n) == 0 {
		return nil, true
	}
	return mem.Read(uint32(at), uint32(n))
}

// place makes room for n bytes in the guest and writes where and how many to the guest's two variables. Nothing is at 0.
// Views of guest memory are stale after it.
func (g *guest) place(mem api.Memory, n int, at, size uint64) (uint32, status) {
	if !mem.WriteUint32Le(uint32(at), 0) || !mem.WriteUint32Le(uint32(size), 0) {
		return 0, statusInvalidMemory
	}
	if n == 0 {
		return 0, statusOK
	}
	f := g.fns[onMemoryAllocate]
	if f == nil {
		f = g.fns[malloc]
	}
	if f == nil || f.Results() == 0 { // or while the start functions run, before they were looked up
		return 0, statusInternal
	}
	g.placing[0] = uint64(n)
	if err := g.in.Call(f, g.placing[:]); err != nil {
		g.in.Abort(err) // ends the callback too
	}
	to := uint32(g.placing[0])
	if to == 0 {
		return 0, statusInternal
	}
	if uint64(to)+uint64(n) > uint64(mem.Size()) {
		return 0, statusInvalidMemory
	}
	mem.WriteUint32Le(uint32(at), to)
	mem.WriteUint32Le(uint32(size), uint32(n))
	return to, statusOK
}

// give hands bytes to the guest; they are not in its memory.
func (g *guest) give(mem api.Memory, p []byte, at, size uint64) status {
	to, st := g.place(mem, len(p), at, size)
	if st == statusOK && len(p) > 0 {
		mem.Write(to, p)
	}
	return st
}

// giveString hands a string to the guest.
func (g *guest) giveString(mem api.Memory, s string, at, size uint64) status {
	to, st := g.place(mem, len(s), at, size)
	if st == statusOK && len(s) > 0 {
		mem.WriteString(to, s)
	}
	return st
}

// keptScratch is the most memory that an instance keeps for the next hostcall.
const keptScratch = 64 << 10

// keep keeps scratch memory for the next hostcall, unless it is much.
func (g *guest) keep(scratch []byte) {
	if cap(scratch) <= keptScratch {
		g.scratch = scratch[:0]
	}
}
