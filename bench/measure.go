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

// measuring is a turn under way, which may have several segments.
type measuring struct {
	peer     *peer
	workload workload
	load     *loading
	segment  time.Duration

	before heap          // the first segment
	cpu    time.Duration // of the proxy, in the segments
	held   heap
	done   loadResult
}

// startTurn opens the connections of a turn that takes so long, in so many segments, between which so many others may have
// theirs. The caller stops its load.
func (p *peer) startTurn(ctx context.Context, w workload, long time.Duration, segments, others int) (*measuring, error) {
	m := &measuring{peer: p, workload: w, segment: long / time.Duration(segments)}
	var err error
	if m.load, err = p.startLoad(ctx, w, m.segment, long*time.Duration(1+others)); err != nil {
		return nil, err
	}
	if m.before, err = p.heap(ctx); err != nil {
		m.load.stop()
		return nil, err
	}
	return m, nil
}

// turn loads the peer in one segment.
func (p *peer) turn(ctx context.Context, w workload, long time.Duration) (turn, error) {
	m, err := p.startTurn(ctx, w, long, 1, 0)
	if err != nil {
		return turn{}, err
	}
	defer m.load.stop()
	if err := m.next(ctx); err != nil {
		return turn{}, err
	}
	return m.tell(ctx)
}

// next is one segment. What the proxy uses is taken while the connections are open and nothing is in flight.
func (m *measuring) next(ctx context.Context) error {
	before, err := m.peer.cpuUsed()
	if err != nil {
		return err
	}
	if err := m.load.begin(); err != nil {
		return err
	}
	if m.peer.process != nil && m.workload.held {
		if err := pause(ctx, m.segment*9/10); err != nil {
			return m.load.failed(err)
		}
		if m.held, err = m.peer.heap(ctx); err != nil {
			return m.load.failed(err)
		}
	}
	if m.done, err = m.load.result(); err != nil {
		return err
	}
	after, err := m.peer.cpuUsed()
	m.cpu += after - before
	return err
}

// cpuUsed is the proxy's, since its start.
func (p *peer) cpuUsed() (time.Duration, error) {
	if p.process == nil {
		return 0, nil
	}
	return p.process.cpuUsed()
}

// tell makes a turn of what was read, while its connections are still open. The heap's counters are read around all segments,
// not around each: to read them allocates, more in a proxy with more metrics, and between the segments there is nothing.
func (m *measuring) tell(ctx context.Context) (turn, error) {
	p, w, done := m.peer, m.workload, m.done
	var t turn
	for i := range t {
		t[i] = math.NaN()
	}
	requests := float64(done.Requests)
	t[rate], t[p50], t[p99] = requests/done.Elapsed.Seconds(), milliseconds(done.P50), milliseconds(done.P99)
	if p.process == nil {
		return t, nil
	}
	counted, err := p.heap(ctx)
	most, err2 := p.process.resident(residentMost)
	if err := errors.Join(err, err2); err != nil {
		return t, err
	}
	t[cpu] = float64(m.cpu.Nanoseconds()) / 1e3 / requests
	t[idle], t[peak] = p.idleBytes/1e6, float64(most)/1e6
	if p.counters != "" {
		t[mallocs] = (counted.mallocs - m.before.mallocs) / requests
		t[heapBytes] = (counted.allocated - m.before.allocated) / requests
	}
	if w.held {
		t[each] = (float64(most) - p.idleBytes) / 1024 / float64(done.InFlight)
		if p.counters != "" {
			t[heapHeld], t[stackHeld] = m.held.inUse/1e6, m.held.stacks/1e6
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
