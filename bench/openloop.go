package main

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// openLoop sends a request each time the schedule says so, whether those before it were answered or not. A request's
// time runs from when it should have been sent: if the proxy keeps all connections busy, or the sender late, the wait
// counts (Tene's coordinated omission). The connection that is free for longest is next, so all take their turns.
func (l *load) openLoop(begin time.Time) (loadResult, error) {
	o := &openLoad{load: l, begin: begin, free: make(chan *client, len(l.clients)), broken: make(chan error, len(l.clients)+1)}
	for _, c := range l.clients {
		o.free <- c
		go o.read(c) // until its connection closes
	}
	type outcome struct {
		result loadResult
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		// Its own thread, which ends with it: what else waits for this thread's sleep would wait for the schedule.
		runtime.LockOSThread()
		sharpSleeps()
		result, err := o.send()
		done <- outcome{result, err}
	}()
	got := <-done
	if got.err != nil {
		return got.result, got.err
	}
	for range l.clients { // with the last, nothing is in flight
		select {
		case <-o.free:
		case err := <-o.broken:
			return got.result, err
		}
	}
	return got.result, nil
}

type openLoad struct {
	*load
	begin    time.Time
	free     chan *client // connections without a request, longest first
	broken   chan error
	answered atomic.Int64
}

// send ends when the schedule does.
func (o *openLoad) send() (loadResult, error) {
	var result loadResult
	gap := time.Second / time.Duration(o.plan.Rate)
	for sent := 0; ; sent++ {
		due := time.Duration(sent) * gap
		if due >= o.plan.For {
			return result, nil
		}
		for wait := due - time.Since(o.begin); wait > 0; wait = due - time.Since(o.begin) {
			sleep(wait)
		}
		select {
		case err := <-o.broken:
			return result, err
		case c := <-o.free:
			c.due.Store(int64(due))
			result.InFlight = max(result.InFlight, sent+1-int(o.answered.Load()))
			if _, err := c.conn.Write(o.requests[sent%len(o.requests)]); err != nil {
				return result, fmt.Errorf("request %d: %w", sent+1, err)
			}
		}
		result.Elapsed = time.Since(o.begin)
	}
}

// read takes the answers of one connection as they come.
func (o *openLoad) read(c *client) {
	for {
		if err := c.answer(); err != nil {
			o.broken <- err
			return
		}
		c.took = append(c.took, time.Since(o.begin)-time.Duration(c.due.Load()))
		o.answered.Add(1)
		o.free <- c
	}
}
