package proxy

import (
	"sync"
	"time"
)

const (
	sweepEvery  = 25 * time.Millisecond // a lost caller is to be noticed within 100 ms
	sweepShards = 16
	wholeRound  = 3 // sweeps in which every connection is looked at once
)

// sweeper looks at every exchange 40 times a second: it fires deadlines and finds callers that have left
// while net/http does not watch their connection. It stands in for a timer and a context per request, and
// for a goroutine per connection. It sleeps while there are no exchanges.
type sweeper struct {
	shards [sweepShards]sweepShard
	wake   chan struct{} // holds one
	quit   chan struct{}
	done   chan struct{}
	unread watcher // the sweeping goroutine's own
	round  int     // so too
}

// sweepShard is a list of exchanges. An exchange is taken off it before its record goes back to the arena,
// so under mu each of them is alive.
type sweepShard struct {
	mu    sync.Mutex
	first *exchange
	_     [48]byte // shards are written by different cores
}

func newSweeper() *sweeper {
	s := &sweeper{wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	go s.run()
	return s
}

// close ends the sweeper and waits for it.
func (s *sweeper) close() {
	close(s.quit)
	<-s.done
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
	select {
	case s.wake <- struct{}{}:
	default:
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
		select {
		case <-s.quit:
			return
		case <-s.wake:
		}
		ticker.Reset(sweepEvery)
	}
}

// sweep looks at every exchange once and returns how many there were.
func (s *sweeper) sweep() (count int) {
	s.round++
	for i := range s.shards {
		count += s.sweepShard(&s.shards[i], now(), (s.round+i)%wholeRound == 0)
	}
	return count
}

// sweepShard looks at the connections that net/http does not watch or, with everybody, at all: net/http stops
// watching when a caller sends more before its answer has ended.
func (s *sweeper) sweepShard(shard *sweepShard, at uint64, everybody bool) (count int) {
	shard.mu.Lock()
	defer shard.mu.Unlock()
	for x := shard.first; x != nil; x = x.next {
		count++
		if what, ok := x.clock.fire(at); ok {
			x.expire(what)
			continue
		}
		b := x.body.Load()
		if b != nil && b.stalled(at) {
			x.cancel(errBodyTimeout)
			x.interrupt(deadlineBody) // stalled has taken the read's deadline
			continue
		}
		unread := b != nil && !b.whole.Load()
		if (unread || everybody) && x.conn != nil && x.r.ProtoMajor == 1 && !x.tunnel.Load() {
			s.unread.add(x)
		}
	}
	s.unread.look()
	return count
}
