package main

import (
	"context"
	"errors"
	"math"
	"time"
)

// The rows of the table, for each workload.
const (
	rate = iota
	p50
	p99
	addedP50
	addedP99
	cpu
	mallocs
	heapBytes
	idle
	peak
	each
	heapHeld
	stackHeld
	measures
)

// measure is how a row is told.
type measure struct {
	name     string
	decimals int
	highest  bool    // the highest of all turns instead of their median: each includes those before it
	factor   float64 // from the unit that turns have to the one that is told; 0: the same
}

var measureRows = [measures]measure{
	rate:      {name: "requests/s"},
	p50:       {name: "p50, ms", decimals: 2},
	p99:       {name: "p99, ms", decimals: 2},
	addedP50:  {name: "p50 beyond direct, ms", decimals: 2},
	addedP99:  {name: "p99 beyond direct, ms", decimals: 2},
	cpu:       {name: "CPU µs a request", decimals: 1},
	mallocs:   {name: "allocations a request", decimals: 1},
	heapBytes: {name: "bytes a request"},
	idle:      {name: "idle MB", decimals: 1, highest: true},
	peak:      {name: "peak MB", decimals: 1, highest: true},
	each:      {name: "KiB a request in flight", decimals: 1, highest: true},
	heapHeld:  {name: "heap MB, in flight", decimals: 1},
	stackHeld: {name: "stack MB, in flight", decimals: 1},
}

// turn is what one peer did in one round; NaN where there is nothing to measure.
type turn [measures]float64

// outcome is all of one workload.
type outcome struct {
	workload workload
	lanes    []lane
}

// lane returns nil if the peer did not take part, or failed.
func (o *outcome) lane(name string) *lane {
	for i := range o.lanes {
		if o.lanes[i].name == name && o.lanes[i].err == nil {
			return &o.lanes[i]
		}
	}
	return nil
}

// addBeyondDirect fills in the latency that is not direct's, round by round.
func (o *outcome) addBeyondDirect() {
	direct := o.lane(directPeer)
	for i := range o.lanes {
		for round := range o.lanes[i].turns {
			t := &o.lanes[i].turns[round]
			t[addedP50], t[addedP99] = math.NaN(), math.NaN()
			if direct != nil && o.workload.added && o.lanes[i].name != directPeer {
				t[addedP50], t[addedP99] = t[p50]-direct.turns[round][p50], t[p99]-direct.turns[round][p99]
			}
		}
	}
}

// usage is what a proxy has used since its start.
type usage struct {
	heap heap
	cpu  time.Duration
}

// turn loads the peer. What its proxy used is taken while the connections are open and nothing is in flight.
func (p *peer) turn(ctx context.Context, w workload, long time.Duration) (turn, error) {
	l, err := p.startLoad(ctx, w, long)
	if err != nil {
		return turn{}, err
	}
	defer l.stop()
	var before, after usage
	held := heap{}
	if p.process != nil { // the heap first: to read it costs CPU time, which is not the requests'
		if before.heap, err = p.heap(ctx); err != nil {
			return turn{}, err
		}
		if before.cpu, err = p.process.cpuUsed(); err != nil {
			return turn{}, err
		}
	}
	if err := l.begin(); err != nil {
		return turn{}, err
	}
	if p.process != nil && w.held {
		if err := pause(ctx, long*9/10); err != nil {
			return turn{}, l.failed(err)
		}
		if held, err = p.heap(ctx); err != nil {
			return turn{}, l.failed(err)
		}
	}
	done, err := l.result()
	if err != nil {
		return turn{}, err
	}
	if p.process != nil {
		used, err := p.process.cpuUsed()
		counted, err2 := p.heap(ctx)
		if err := errors.Join(err, err2); err != nil {
			return turn{}, err
		}
		after = usage{counted, used}
	}
	return p.tell(w, done, before, after, held)
}

// tell makes a turn of what was read.
func (p *peer) tell(w workload, done loadResult, before, after usage, held heap) (turn, error) {
	var t turn
	for i := range t {
		t[i] = math.NaN()
	}
	requests := float64(done.Requests)
	t[rate], t[p50], t[p99] = requests/done.Elapsed.Seconds(), milliseconds(done.P50), milliseconds(done.P99)
	if p.process == nil {
		return t, nil
	}
	most, err := p.process.resident(residentMost)
	if err != nil {
		return t, err
	}
	t[cpu] = float64((after.cpu - before.cpu).Nanoseconds()) / 1e3 / requests
	t[idle], t[peak] = p.idleBytes/1e6, float64(most)/1e6
	if p.counters != "" {
		t[mallocs] = (after.heap.mallocs - before.heap.mallocs) / requests
		t[heapBytes] = (after.heap.allocated - before.heap.allocated) / requests
	}
	if w.held {
		t[each] = (float64(most) - p.idleBytes) / 1024 / float64(done.InFlight)
		if p.counters != "" {
			t[heapHeld], t[stackHeld] = held.inUse/1e6, held.stacks/1e6
		}
	}
	return t, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// pause waits, or returns an error when ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
