package plugins

import (
	"container/list"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// PoolConfig is what a pool holds.
type PoolConfig struct {
	// Max is the most instances at once, 1 to 65535.
	Max int
	// Warm is how many instances wait ready for the next callers, as long as Max allows. At least 1, the default; so
	// many are made before NewPool returns.
	Warm int
	// New makes the state of one instance. Called by one goroutine at a time.
	New func() any
	// Logger gets the pool's own lines. Default is the module's.
	Logger *slog.Logger
}

// Pool holds instances of a module, each for one user at a time. Safe for concurrent use.
//
// Take and Give are lock-free as long as nobody has to wait. One goroutine makes instances, so that a caller never pays
// for it.
//
// Invariants:
//
//	P1  made is the number of slots that are not vacant. After Resize it falls to max as instances come back.
//	P2  A caller that waits is on waiters and counted in attention before it looks at the free list for the last time.
//	P3  Who pushes a slot looks at attention after it.
//	P4  A dead instance is never pushed.
//
// Hazard (lost wake-up): a caller finds the list empty and goes to sleep while another gives. P2 and P3: one of
// the two sees the other, and then serves under the mutex. The same holds for Close and Resize, which count in
// attention too.
//
// Memory order: that of freeList; attention and the head of the list are the two sides of P2 and P3, both
// sequentially consistent. Everything else is under the mutex.
//
// Progress: Take and Give are lock-free while attention is 0 and an instance is free. Who waits is served in the order of
// arrival. At most Max instances are made; waiters are as many as there are callers.
type Pool struct {
	module *Module
	config PoolConfig
	logger *slog.Logger
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	refill chan struct{} // one token: there may be something to make
	done   chan struct{} // the goroutine that makes instances has ended
	ended  error         // what Take returns after Close

	free freeList

	attention atomic.Int64 // waiters, plus 1<<32 when slots must not stay on the list
	made      atomic.Int64 // instances
	max       atomic.Int64
	failures  atomic.Int64  // instances in a row that died before they served
	replaced  atomic.Uint64 // dead instances

	mu      sync.Mutex
	waiters list.List // of chan *Instance
	vacant  []*slot
	closed  bool
}

// mustLook is the part of attention that is not waiters.
const mustLook = 1 << 32

// NewPool makes the first Warm instances and returns their pool, or the error of the one that failed. The pool owns the
// module and closes it; on an error it is still the caller's.
func NewPool(m *Module, c PoolConfig) (*Pool, error) {
	if c.Max < 1 || c.Max > listMax {
		return nil, fmt.Errorf("plugins: %s: max instances: got %d, want 1 to %d", m.config.Name, c.Max, listMax)
	}
	c.Warm = min(max(c.Warm, 1), c.Max)
	if c.New == nil {
		c.New = func() any { return nil }
	}
	p := &Pool{module: m, config: c, logger: c.Logger, refill: make(chan struct{}, 1), done: make(chan struct{})}
	p.ended = fmt.Errorf("plugins: %s: pool: %w", m.config.Name, ErrClosed)
	if p.logger == nil {
		p.logger = m.config.Logger
	}
	p.max.Store(int64(c.Max))
	p.ctx, p.cancel = context.WithCancel(context.Background())
	for range c.Warm {
		i, err := m.Instantiate(p.ctx, c.New())
		if err != nil {
			p.cancel()
			p.shut()
			return nil, err
		}
		p.put(i)
	}
	go p.fill()
	return p, nil
}

// Module returns the pool's module.
func (p *Pool) Module() *Module { return p.module }

// TryTake lends an instance if one is free and nobody waits, else nil. It does not allocate.
func (p *Pool) TryTake() *Instance {
	if p.attention.Load() != 0 {
		return nil
	}
	return p.pop()
}

// Take lends an instance. With none free it waits until there is one, and returns context.Cause(ctx) when ctx ends
// before, ErrClosed when the pool does. It does not allocate when one is free.
func (p *Pool) Take(ctx context.Context) (*Instance, error) {
	if p.attention.Load() == 0 { // else others were here before
		if i := p.pop(); i != nil {
			return i, nil
		}
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, p.ended
	}
	ready := make(chan *Instance, 1)
	place := p.waiters.PushBack(ready)
	p.serve() // P2
	p.mu.Unlock()
	p.wantMore()
	select {
	case i := <-ready:
		if i == nil {
			return nil, p.ended
		}
		return i, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	select {
	case i := <-ready: // served meanwhile
		p.mu.Unlock()
		if i == nil {
			return nil, p.ended
		}
		p.Give(i)
	default:
		p.waiters.Remove(place)
		p.serve()
		p.mu.Unlock()
	}
	return nil, context.Cause(ctx)
}

// pop lends a free instance, nil if there is none.
func (p *Pool) pop() *Instance {
	s, free := p.free.pop()
	if s == nil {
		return nil
	}
	if free < p.config.Warm && p.made.Load() < p.max.Load() {
		p.wantMore()
	}
	s.used = true
	s.instance.lent = true
	return s.instance
}

// Give takes an instance back. A dead one is closed and replaced.
func (p *Pool) Give(i *Instance) {
	if !i.lent {
		panic("bug: plugins: give of an instance of " + p.module.config.Name + " that is not lent")
	}
	i.lent = false
	i.within, i.request = 0, ""
	if i.Dead() {
		p.bury(i)
		return
	}
	if p.failures.Load() != 0 && i.calls > 0 {
		p.failures.Store(0)
	}
	p.free.push(i.slot)
	if p.attention.Load() != 0 { // P3
		p.mu.Lock()
		p.serve()
		p.mu.Unlock()
	}
}

// bury closes a dead instance.
func (p *Pool) bury(i *Instance) {
	if i.calls == 0 {
		p.failures.Add(1)
	}
	p.replaced.Add(1)
	p.mu.Lock()
	p.vacate(i)
	p.mu.Unlock()
	p.wantMore()
}

// vacate closes the instance of a slot that is not on the list.
func (p *Pool) vacate(i *Instance) {
	i.Close()
	i.slot.instance = nil
	p.vacant = append(p.vacant, i.slot)
	p.made.Add(-1)
}

// serve hands free instances to those who wait, and closes those that are too many. Called under the mutex.
func (p *Pool) serve() {
	for {
		surplus := p.made.Load() > p.max.Load() || p.closed
		attention := int64(p.waiters.Len())
		if surplus {
			attention += mustLook
		}
		p.attention.Store(attention)
		if attention == 0 {
			return
		}
		s, _ := p.free.pop()
		if s == nil {
			return
		}
		if surplus {
			p.vacate(s.instance)
			continue
		}
		s.used = true
		s.instance.lent = true
		p.waiters.Remove(p.waiters.Front()).(chan *Instance) <- s.instance
	}
}

// put adds a new instance.
func (p *Pool) put(i *Instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var s *slot
	if n := len(p.vacant); n > 0 {
		s = p.vacant[n-1]
		p.vacant = p.vacant[:n-1]
	} else {
		s = p.free.grow()
	}
	s.instance, i.slot = i, s
	p.made.Add(1)
	p.free.push(s)
	p.serve()
}

// wantMore wakes the goroutine that makes instances.
func (p *Pool) wantMore() {
	select {
	case p.refill <- struct{}{}:
	default:
	}
}

// fill makes instances as they are wanted, until Close.
func (p *Pool) fill() {
	defer close(p.done)
	trim := time.NewTicker(trimEvery)
	defer trim.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-trim.C:
			p.trim()
		case <-p.refill:
			for p.wanted() && p.pause() {
				p.makeOne()
			}
		}
	}
}

// makeOne adds an instance, or logs why there is none.
func (p *Pool) makeOne() {
	i, err := p.module.Instantiate(p.ctx, p.config.New())
	switch {
	case err == nil:
		p.put(i)
	case p.ctx.Err() == nil:
		p.failures.Add(1)
		p.logger.LogAttrs(p.ctx, slog.LevelError, "plugin instance not made",
			slog.String(keyPlugin, p.module.config.Name), slog.Any(keyError, err))
	}
}

// trimEvery is how long an instance may be idle, once to twice so long.
const trimEvery = time.Minute

// trim closes the instances, but for Warm, that nobody took since the last trim: what a burst left behind.
func (p *Pool) trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	var kept []*slot
	for s, _ := p.free.pop(); s != nil; s, _ = p.free.pop() {
		if s.used || len(kept) < p.config.Warm {
			kept = append(kept, s)
		} else {
			p.vacate(s.instance)
		}
	}
	for _, s := range slices.Backward(kept) {
		s.used = false
		p.free.push(s)
	}
	p.serve()
}

// wanted reports whether an instance is to be made.
func (p *Pool) wanted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.closed && p.made.Load() < p.max.Load() && (p.waiters.Len() > 0 || p.free.free() < p.config.Warm)
}

// backoffMax is the longest time between two instances.
const backoffMax = time.Second

// pause waits when instances die before they serve: the first is replaced at once, the following ones ever later.
func (p *Pool) pause() bool {
	failures := p.failures.Load()
	if failures < 2 {
		return true
	}
	timer := time.NewTimer(min(10*time.Millisecond<<min(failures-2, 10), backoffMax))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// Resize changes Max, 1 to 65535; what is outside is moved inside. Instances beyond it are closed as they come back.
func (p *Pool) Resize(instances int) {
	p.mu.Lock()
	p.max.Store(int64(min(max(instances, 1), listMax)))
	p.serve()
	p.mu.Unlock()
	p.wantMore()
}

// Close ends the pool: who waits gets ErrClosed, what is free is closed, and what is out is closed when it comes back.
// With the last instance the module is closed. Idempotent.
func (p *Pool) Close() {
	p.cancel()
	p.shut()
	<-p.done
	_ = p.module.Close(context.Background())
}

// shut closes what is free, and refuses what is to come.
func (p *Pool) shut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for e := p.waiters.Front(); e != nil; e = p.waiters.Front() {
		p.waiters.Remove(e).(chan *Instance) <- nil
	}
	p.serve()
}

// PoolStats is what a pool holds and has done.
type PoolStats struct {
	Stats
	InUse    int
	Waiting  int
	Max      int
	Replaced uint64 // instances that died
}

// Stats returns the numbers as they are now.
func (p *Pool) Stats() PoolStats {
	s := PoolStats{Stats: p.module.Stats(), Max: int(p.max.Load()), Replaced: p.replaced.Load()}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Waiting = p.waiters.Len()
	s.InUse = max(int(p.made.Load())-p.free.free(), 0)
	return s
}
