package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"time"
)

// warmUp is how long each peer is loaded before the first round, uncounted: it opens connections, and the heap finds
// its size.
const warmUp = 500 * time.Millisecond

// The rows of the table, for each workload.
const (
	rate = iota
	p50
	p99
	cpu
	mallocs
	heapBytes
	peak
	measures
)

// measure is how a row is told.
type measure struct {
	name     string
	decimals int
	highest  bool // the highest of all turns instead of their median: each includes those before it
}

var measureRows = [measures]measure{
	rate:      {name: "requests/s"},
	p50:       {name: "p50, ms", decimals: 2},
	p99:       {name: "p99, ms", decimals: 2},
	cpu:       {name: "CPU µs a request", decimals: 1},
	mallocs:   {name: "allocations a request", decimals: 1},
	heapBytes: {name: "bytes a request"},
	peak:      {name: "peak MB", decimals: 1, highest: true},
}

// turn is what one peer did in one round; NaN where there is no proxy to measure.
type turn [measures]float64

// outcome is all of one workload.
type outcome struct {
	workload workload
	turns    [peers][]turn // by round
}

// measureAll builds and starts what is needed, measures, and ends all of it.
func measureAll(ctx context.Context, o options, shown *progress) ([]outcome, error) {
	defer shown.clear()
	shown.say("building edge")
	dir, err := os.MkdirTemp("", "edge-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	binary, err := buildEdge(ctx, dir)
	if err != nil {
		return nil, err
	}
	upstream, at, err := startSelf(ctx, upstreamCommand)
	if err != nil {
		return nil, err
	}
	defer upstream.stop()
	var outcomes []outcome
	for _, w := range o.only {
		one, err := measureWorkload(ctx, o, w, binary, at.Serving, shown)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		outcomes = append(outcomes, one)
	}
	return outcomes, nil
}

// measureWorkload has fresh proxies, so that their peak of memory is this workload's.
func measureWorkload(ctx context.Context, o options, w workload, binary, upstream string, shown *progress) (outcome, error) {
	result := outcome{workload: w}
	shown.say(w.name + " warm-up")
	all, err := startPeers(ctx, binary, upstream)
	if err != nil {
		return result, err
	}
	defer all[rpPeer].process.stop()
	defer all[edgePeer].process.stop()
	for i, p := range all {
		if _, err := p.load(ctx, w, warmUp); err != nil {
			return result, fmt.Errorf("%s: warm-up: %w", peerNames[i], err)
		}
	}
	long := time.Duration(o.seconds * float64(time.Second))
	for round := range o.rounds {
		for i := range all {
			which := (round + i) % peers // nobody always follows the same neighbour
			shown.next(fmt.Sprintf("%s round %d of %d, %s", w.name, round+1, o.rounds, peerNames[which]))
			t, err := all[which].turn(ctx, w, long)
			if err != nil {
				return result, fmt.Errorf("%s: %w", peerNames[which], err)
			}
			result.turns[which] = append(result.turns[which], t)
		}
	}
	return result, nil
}

// turn loads the peer. What its proxy used is taken before the first connection and after the last has ended, when
// nothing is in flight.
func (p *peer) turn(ctx context.Context, w workload, long time.Duration) (turn, error) {
	var before, after usage
	if p.process != nil {
		if err := errors.Join(p.heapUsage(ctx, &before), p.cpuUsage(&before)); err != nil {
			return turn{}, err
		}
	}
	done, err := p.load(ctx, w, long)
	if err != nil {
		return turn{}, err
	}
	requests := float64(done.Requests)
	t := turn{rate: requests / done.Elapsed.Seconds(), p50: milliseconds(done.P50), p99: milliseconds(done.P99)}
	if p.process == nil {
		t[cpu], t[mallocs], t[heapBytes], t[peak] = math.NaN(), math.NaN(), math.NaN(), math.NaN()
		return t, nil
	}
	most, err := peakBytesOf(p.process.pid)
	if err := errors.Join(err, p.cpuUsage(&after), p.heapUsage(ctx, &after)); err != nil {
		return turn{}, err
	}
	t[cpu] = float64((after.cpu - before.cpu).Microseconds()) / requests
	t[mallocs] = (after.mallocs - before.mallocs) / requests
	t[heapBytes] = (after.bytes - before.bytes) / requests
	t[peak] = float64(most) / 1e6
	return t, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// load runs the load as a process of its own, to its end.
func (p *peer) load(ctx context.Context, w workload, long time.Duration) (loadResult, error) {
	var result loadResult
	self, err := os.Executable()
	if err != nil {
		return result, err
	}
	plan, err := json.Marshal(loadPlan{Workload: w.name, Address: p.address, Prefix: p.prefix, For: long})
	if err != nil {
		return result, err
	}
	output, err := command(ctx, self, loadCommand, string(plan)).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && len(exit.Stderr) > 0 {
			err = fmt.Errorf("load: %s", exit.Stderr)
		}
		if p.process != nil && p.process.ended() {
			err = fmt.Errorf("%w; the proxy had ended (%s)", err, p.process.how)
		}
		return result, err
	}
	return result, json.Unmarshal(output, &result)
}
