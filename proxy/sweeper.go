package proxy

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	sweepEvery  = 25 * time.Millisecond // a lost caller is to be noticed within 100 ms
	sweepShards = 16
	wholeRound  = 2 // sweeps in which every connection is looked at once
)

// sweeper looks at every exchange 40 times a second: it fires deadlines and finds callers that have left
// while net/http does not watch their connection. It stands in for a timer and a context per request, and
// for a goroutine per connection. It sleeps while there are no exchanges.
type sweeper struct {
	shards [sweepShards]sweepShard
	at     atomic.Uint64 // when the last sweep began, as now tells it
	asleep atomic.Bool   // nobody was there at the last sweep; who comes then sends to wake
	wake   chan struct{} // holds one
	quit   chan struct{}
	done   chan struct{}
	watch  *watcher
	round  int // the sweeping goroutine's own
}

// sweepShard is a list of exchanges. An exchange is taken off it before its record goes back to the arena,
// so under mu each of them is alive.
type sweepShard struct {
	mu    sync.Mutex
	first *exchange
	_     [48]byte // shards are written by different cores
}

func newSweeper() *sweeper {
	s := &sweeper{wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}), watch: newWatcher()}
	s.at.Store(now())
	go s.run()
	return s
}

// close ends the sweeper and waits for it.
func (s *sweeper) close() {
	close(s.quit)
	<-s.done
	s.watch.close()
}

func (s *sweeper) add(x *exchange, hint uint32) {
	shard := &s.shards[hint%sweepShards]
	shard.mu.Lock()
	x.shard, x.next = shard, shard.first
	if x.next != nil {
		x.next.prev = x
	}
	shard.first = x
	shard.mu.Unlock()
	if s.asleep.Load() && s.asleep.CompareAndSwap(true, false) {
		s.at.Store(now())
		s.wake <- struct{}{}
	}
}

func (s *sweeper) remove(x *exchange) {
	x.shard.mu.Lock()
	if x.prev != nil {
		x.prev.next = x.next
	} else {
		x.shard.first = x.next
	}
	if x.next != nil {
		x.next.prev = x.prev
	}
	x.shard.mu.Unlock()
}

// after is the time at which d from now has passed, as now tells it, and up to 25 ms more: reading the clock costs more than
// all else that setting a deadline does.
func (s *sweeper) after(d time.Duration) uint64 {
	return s.at.Load() + uint64((d + sweepEvery).Microseconds())
}

// each calls do for every exchange, under its shard's lock.
func (s *sweeper) each(do func(*exchange)) {
	for i := range s.shards {
		shard := &s.shards[i]
		shard.mu.Lock()
		for x := shard.first; x != nil; x = x.next {
			do(x)
		}
		shard.mu.Unlock()
	}
}

func (s *sweeper) run() {
	defer close(s.done)
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-ticker.C:
		}
		if s.sweep() > 0 {
			continue
		}
		ticker.Stop()
		s.asleep.Store(true)
		// Who was added after the sweep and before the store has not seen it; everybody else has.
		if s.sweep() == 0 || !s.asleep.CompareAndSwap(true, false) {
			select {
			case <-s.quit:
				return
			case <-s.wake:
			}
		}
		ticker.Reset(sweepEvery)
	}
}

// sweep looks at every exchange once and returns how many there were.
func (s *sweeper) sweep() (count int) {
	s.round++
	s.at.Store(now())
	s.watch.collect()
	for i := range s.shards {
		count += s.sweepShard(&s.shards[i], now(), (s.round+i)%wholeRound == 0)
	}
	return count
}

// sweepShard looks at the connections that net/http does not watch or, with everybody, at all but those of Listener's:
// net/http stops watching when a caller sends more before its answer has ended.
func (s *sweeper) sweepShard(shard *sweepShard, at uint64, everybody bool) (count int) {
	shard.mu.Lock()
	defer shard.mu.Unlock()
	for x := shard.first; x != nil; x = x.next {
		count++
		x.putOff(at)
		if what, ok := x.clock.fire(at); ok {
			x.expire(what)
			continue
		}
		if what, ok := x.comment.fire(at); ok {
			x.expire(what)
			continue
		}
		if x.ctx.Err() != nil { // its caller has left, or did so just now, as net/http has seen
			continue
		}
		if x.conn != nil && x.conn.own.gone() && !x.tunnel.Load() {
			x.cancel(errClientGone)
			continue
		}
		b := x.body.Load()
		if b != nil && b.stalled(at) {
			x.cancel(errBodyTimeout)
			x.interrupt(deadlineBody) // stalled has taken the read's deadline
			continue
		}
		unread := b != nil && !b.whole.Load()
		if (unread || everybody) && x.conn != nil && !x.conn.own.watched() && x.r.ProtoMajor == 1 && !x.tunnel.Load() {
			s.watch.add(x)
		}
	}
	s.watch.look()
	return count
}
