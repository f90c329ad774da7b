package proxywasm

import (
	"log/slog"
	"time"
)

// backoffMax is the longest time between two instances.
const backoffMax = time.Second

// replace makes new instances for those that died, until Close.
func (p *Plugin) replace() {
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.broken:
		}
		for i := range p.seats {
			for g := p.seats[i].Load(); g == nil || g.dead.Load(); g = p.seats[i].Load() {
				if g != nil {
					p.replaced.Add(1)
					p.failed(g)
					p.seats[i].Store(nil)
				}
				if !p.pause() {
					return
				}
				fresh, err := p.newGuest(p.ctx)
				if p.ctx.Err() != nil {
					if err == nil {
						fresh.leave()
					}
					return
				}
				if err != nil {
					p.failures.Add(1)
					p.tell(slog.LevelError, "plugin instance not made", err)
					continue
				}
				p.seats[i].Store(fresh)
				p.arrived()
			}
		}
	}
}

// failed counts an instance that died: not one that lived long, and one that served some streams as little.
func (p *Plugin) failed(g *guest) {
	switch {
	case !g.served.Load():
		p.failures.Add(1)
	case time.Since(g.born) < backoffMax:
		p.failures.Store(2)
	default:
		p.failures.Store(0)
	}
}

// pause waits when instances die young: the first is replaced at once, the next ones 10 ms later and, when they serve no
// stream at all, ever later.
func (p *Plugin) pause() bool {
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

// minTick is the shortest period of ticks.
const minTick = time.Millisecond

// tend ticks and brings wake-ups of queues, until Close.
func (p *Plugin) tend() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for p.ctx.Err() == nil {
		next := p.tick()
		if p.wake() {
			continue // with ticks in between
		}
		wait := time.Hour
		if !next.IsZero() {
			wait = max(time.Until(next), 0)
		}
		timer.Reset(wait)
		select {
		case <-p.ctx.Done():
		case <-p.kick:
		case <-timer.C:
		}
	}
}

// tick calls on_tick where it is due, and returns when it is due next; the zero time is never.
func (p *Plugin) tick() (next time.Time) {
	for i := range p.seats {
		g := p.seats[i].Load()
		if g == nil || g.dead.Load() {
			continue
		}
		period, now := time.Duration(g.period.Load()), time.Now()
		if period != g.ticked {
			g.ticked, g.due = period, now.Add(period)
		}
		if period == 0 {
			continue
		}
		if !now.Before(g.due) {
			if g.due = g.due.Add(period); g.due.Before(now) { // late: ticks are dropped, not made up for
				g.due = now.Add(period)
			}
			p.call(g, onTick, rootID)
		}
		if next.IsZero() || g.due.Before(next) {
			next = g.due
		}
	}
	return next
}

// call calls a callback of the plugin's context, and reports whether there was one to call; what goes wrong in it is logged.
func (p *Plugin) call(g *guest, f callback, args ...uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dead.Load() || g.retiring {
		return false
	}
	if _, err := g.run(f, nil, args...); err != nil {
		p.background(err)
	}
	return true
}

// wakeUp is a queue that has items for a guest.
type wakeUp struct {
	queue uint32
	guest *guest // that registered it
	items int
}

const (
	maxWakeUps = 1 << 16 // of one queue at once: as many as a queue has items
	wakeUpRun  = 64      // wake-ups between two ticks
)

// queued is told by the store that an item came into a queue that g registered. It never blocks.
func (p *Plugin) queued(g *guest, queue uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer signal(p.kick)
	for i := range p.ready {
		if w := &p.ready[i]; w.queue == queue {
			w.guest, w.items = g, min(w.items+1, maxWakeUps)
			return
		}
	}
	p.ready = append(p.ready, wakeUp{queue, g, 1})
}

// wake calls on_queue_ready for some items, and reports whether there are more that can be told.
func (p *Plugin) wake() (more bool) {
	for range wakeUpRun {
		p.mu.Lock()
		if len(p.ready) == 0 {
			p.mu.Unlock()
			return false
		}
		w := p.ready[0]
		p.mu.Unlock()
		g := w.guest
		for i := 0; g.dead.Load() && i < len(p.seats); i++ { // any other will do
			if other := p.seats[i].Load(); other != nil {
				g = other
			}
		}
		if !p.call(g, onQueueReady, rootID, uint64(w.queue)) {
			return false // until there is a fresh instance
		}
		p.mu.Lock()
		if p.ready[0].items--; p.ready[0].items == 0 { // others only add to the list
			p.ready = append(p.ready[:0], p.ready[1:]...)
		}
		p.mu.Unlock()
	}
	return p.ctx.Err() == nil
}
