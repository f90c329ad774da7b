package main

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRace: everybody takes as many turns, each in segments, one that fails is out, and the others go on.
func TestRace(t *testing.T) {
	onLinux(t)
	b := &bench{site: &site{}, options: options{seconds: .06}, shown: &progress{}}
	w, _ := workloadNamed("W1")
	w.segments = 3
	missing := errors.New("not there")
	wrong, _ := workloadNamed("W1")
	wrong.name = "W99"
	entrants := []entrant{
		{directPeer, w, startDirect},
		{"missing", w, func(context.Context, *site, workload) (*peer, error) { return nil, missing }},
		{rpPeer, w, startRP},
		{"wrong", wrong, startRP},
	}
	lanes, err := b.race(t.Context(), "test", entrants, 2)
	if err != nil {
		t.Fatal(err)
	}
	f := func(i, turns int, wanted string) {
		t.Helper()
		l := lanes[i]
		if l.name != entrants[i].name || len(l.turns) != turns || (l.err == nil) != (wanted == "") || l.err != nil && !strings.Contains(l.err.Error(), wanted) {
			t.Errorf("%s: got %d turns and error %v, want %d and %q", l.name, len(l.turns), l.err, turns, wanted)
		}
	}
	f(0, 2, "")
	f(1, 0, "start: not there")
	f(2, 2, "")
	f(3, 0, `no workload "W99"`)
	if one := lanes[2].turns[0]; !(one[rate] > 0 && one[cpu] > 0 && one[mallocs] > 0 && one[mallocs] < 1000) {
		t.Errorf("got the turn %v", one)
	}
	if !errors.Is(lanes[1].err, missing) || b.shown.done != 8 {
		t.Errorf("got error %v and %d turns shown, want %v and 8", lanes[1].err, b.shown.done, missing)
	}
}

// TestRaceEndsWithContext is what an interrupt does, in the midst of a turn.
func TestRaceEndsWithContext(t *testing.T) {
	onLinux(t)
	ctx, cancel := context.WithCancel(t.Context())
	b := &bench{site: &site{}, options: options{seconds: maxSeconds}, shown: &progress{}}
	var running *peer
	start := func(ctx context.Context, s *site, w workload) (_ *peer, err error) {
		running, err = startRP(ctx, s, w)
		return running, err
	}
	w, _ := workloadNamed("W1")
	time.AfterFunc(warmUp+500*time.Millisecond, cancel)
	begin := time.Now()
	lanes, err := b.race(ctx, "test", []entrant{{rpPeer, w, start}}, 1)
	if !errors.Is(err, context.Canceled) || lanes != nil || time.Since(begin) > maxSeconds*time.Second/2 {
		t.Errorf("got %v, %v after %v", lanes, err, time.Since(begin))
	}
	if running != nil && (!running.process.ended() || !running.upstream.ended()) {
		t.Error("the proxy or the upstream has not ended")
	}
}

// TestBeyondDirect subtracts what the same round of direct had.
func TestBeyondDirect(t *testing.T) {
	at := func(middle, late float64) (one turn) {
		one[p50], one[p99] = middle, late
		return one
	}
	w, _ := workloadNamed("W6")
	o := outcome{w, []lane{
		{name: directPeer, turns: []turn{at(1, 10), at(2, 20)}},
		{name: rpPeer, turns: []turn{at(5, 15), at(10, 30)}},
		{name: edgePeer, turns: []turn{at(3, 11), at(4, 30)}},
		{name: caddyPeer, turns: []turn{at(3, 11)}, err: errors.New("one turn too few")},
	}}
	o.addBeyondDirect()
	f := func(peer string, which int, want ...float64) {
		t.Helper()
		if got := o.series(peer, which); !slices.Equal(got, want) {
			t.Errorf("%s, %s: got %v, want %v", peer, measureRows[which].name, got, want)
		}
	}
	f(rpPeer, addedP50, 4, 8)
	f(rpPeer, addedP99, 5, 10)
	f(edgePeer, addedP50, 2, 2)
	f(edgePeer, addedP99, 1, 10)
	f(directPeer, addedP50)
	f(caddyPeer, addedP50)
	if got := o.ratios(edgePeer, rpPeer, addedP50); !slices.Equal(got, []float64{.5, .25}) {
		t.Errorf("got ratios %v", got)
	}
	o.lanes[1].turns[0][p50] = 1 // nothing beyond direct: no ratio to that
	o.addBeyondDirect()
	if got := o.ratios(edgePeer, rpPeer, addedP50); !slices.Equal(got, []float64{.25}) {
		t.Errorf("got ratios %v, want the second round's only", got)
	}
	o.workload.added = false
	o.addBeyondDirect()
	if got := o.lanes[2].turns[0][addedP50]; !math.IsNaN(got) {
		t.Errorf("got %v where it is not told", got)
	}
}
