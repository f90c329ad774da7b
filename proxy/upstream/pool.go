package upstream

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// reapEvery is how often connections that carry no request are looked at, while there are any.
const reapEvery = 10 * time.Second

// pool keeps connections between requests, the last used on top, and bounds how many there are.
//
// Invariants:
//
//	P1  open counts every connection that exists, those being made and those in use included; it never exceeds max.
//	P2  A connection is in idle, or on its way to one waiter, or in use by exactly one call.
//	P3  While anybody waits, idle is empty and open is max.
type pool struct {
	max int // 0: no bound. Fixed after New

	mu      sync.Mutex
	idle    []*conn
	open    int
	waiting list.List // of chan *conn with room for one: what a waiter gets; nil means that it may make its own
	closed  bool
	reaper  *time.Timer
}

// take returns a connection that was not idle for too long, or nil for the right to make one, which ends with gone. While
// there are max, it waits for one of them, oldest waiter first. With fresh it prefers a new one. One that has been idle may
// have been closed by the other side: the taker looks, at best while it sends.
func (p *pool) take(ctx context.Context, fresh bool) (*conn, error) {
	for {
		c, wait := p.next(fresh)
		if wait != nil {
			var err error
			if c, err = p.await(ctx, wait); err != nil {
				return nil, err
			}
		}
		if c == nil || c.young() && (wait == nil || c.quiet()) { // who has waited must not have to wait again
			return c, nil
		}
		c.end()
		if wait != nil {
			return nil, nil // its right goes on to us: nothing is idle
		}
		p.gone()
	}
}

// next returns a connection, or nil and nil for the right to make one, or what to wait on.
func (p *pool) next(fresh bool) (c *conn, wait *list.Element) {
	p.mu.Lock()
	defer p.mu.Unlock()
	room := p.max == 0 || p.open < p.max
	if n := len(p.idle); n > 0 && (!fresh || !room) {
		c = p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		return c, nil
	}
	if room {
		p.open++
		return nil, nil
	}
	return nil, p.waiting.PushBack(make(chan *conn, 1))
}

func (p *pool) await(ctx context.Context, wait *list.Element) (*conn, error) {
	got := wait.Value.(chan *conn)
	select {
	case c := <-got:
		return c, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	select {
	case c := <-got: // given meanwhile: it is somebody else's now
		p.mu.Unlock()
		if c == nil {
			p.gone()
		} else {
			p.give(c)
		}
	default:
		p.waiting.Remove(wait)
		p.mu.Unlock()
	}
	return nil, causeOf(ctx)
}

// give takes back a connection on which the next request may be sent.
func (p *pool) give(c *conn) {
	p.mu.Lock()
	if first := p.waiting.Front(); first != nil {
		p.waiting.Remove(first).(chan *conn) <- c
		p.mu.Unlock()
		return
	}
	if p.closed {
		p.open--
		p.mu.Unlock()
		c.end()
		return
	}
	p.idle = append(p.idle, c)
	if p.reaper == nil {
		p.reaper = time.AfterFunc(reapEvery, p.reap)
	}
	p.mu.Unlock()
}

// gone says that a connection, or the right to make one, has ended.
func (p *pool) gone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if first := p.waiting.Front(); first != nil {
		p.waiting.Remove(first).(chan *conn) <- nil // open stays: the waiter has the right now
		return
	}
	p.open--
}

// close ends the connections in idle, and those that come back later.
func (p *pool) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.open -= len(idle)
	if p.reaper != nil {
		p.reaper.Stop()
	}
	p.mu.Unlock()
	for _, c := range idle {
		c.end()
	}
}

// reap ends the connections that have been idle for too long or that the other side has closed.
func (p *pool) reap() {
	var ended []*conn
	p.mu.Lock()
	kept := p.idle[:0]
	for _, c := range p.idle {
		if c.young() && c.quiet() {
			kept = append(kept, c)
		} else {
			ended = append(ended, c)
		}
	}
	clear(p.idle[len(kept):])
	p.idle = kept
	p.open -= len(ended)
	if p.reaper = nil; len(kept) > 0 && !p.closed {
		p.reaper = time.AfterFunc(reapEvery, p.reap)
	}
	p.mu.Unlock()
	for _, c := range ended {
		c.end()
	}
}
