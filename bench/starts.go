package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// settle is how long an edge that is ready is left alone before its memory is read.
const settle = 100 * time.Millisecond

// startPoll is finer than readyPoll: it bounds what a start is told too long.
const startPoll = time.Millisecond

// startKind is a way to start edge.
type startKind struct {
	name  string
	setup edgeSetup
	once  bool // its second start would be another
}

// The kinds that bars are about.
const (
	startBalanced    = "balanced"
	startConstrained = "resource-constrained"
	startCached      = "balanced, a Go plugin from the cache"
)

// started is what the starts of one kind took.
type started struct {
	name    string
	ready   []float64 // ms from exec to 200 on /readyz
	idle    []float64 // MB
	problem error
}

func startKinds(s *site) ([]startKind, error) {
	plugin, err := filepath.Abs(checkKey)
	if err != nil {
		return nil, err
	}
	cache, err := os.MkdirTemp(s.dir, "cache-")
	if err != nil {
		return nil, err
	}
	withPlugin := edgeSetup{profile: startBalanced, providers: 1, plugin: plugin, plugins: 1, config: checkKeyConfig, cacheDir: cache}
	return []startKind{
		{name: startBalanced, setup: edgeSetup{profile: startBalanced, providers: 1}},
		{name: startConstrained, setup: edgeSetup{profile: startConstrained, providers: 1}},
		{name: "balanced, a Go plugin for the first time", setup: withPlugin, once: true},
		{name: startCached, setup: withPlugin},
	}, nil
}

// startTurns is how many starts a run has.
func startTurns(rounds int) int { return 3*rounds + 1 }

// starts measures how long edge takes until it is ready, and what it then has resident.
func (b *bench) starts(ctx context.Context) ([]started, error) {
	kinds, err := startKinds(b.site)
	if err != nil {
		return nil, err
	}
	site := *b.site
	site.upstream = "127.0.0.1:1" // nobody asks for it
	results := make([]started, len(kinds))
	for round := range b.options.rounds {
		for i, k := range kinds {
			results[i].name = k.name
			if k.once && round > 0 || results[i].problem != nil {
				continue
			}
			b.shown.next(fmt.Sprintf("start %d of %d, %s", round+1, b.options.rounds, k.name))
			if err := results[i].measure(ctx, &site, k.setup); err != nil {
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				results[i].problem = err
			}
		}
	}
	return results, nil
}

func (r *started) measure(ctx context.Context, s *site, setup edgeSetup) error {
	p, url, err := setup.launch(ctx, s)
	if err != nil {
		return err
	}
	defer p.stop()
	if err := awaitReady(ctx, p.process, url, startPoll); err != nil {
		return err
	}
	r.ready = append(r.ready, milliseconds(time.Since(p.process.begun)))
	if err := pause(ctx, settle); err != nil {
		return err
	}
	resident, err := p.process.resident(residentNow)
	if err != nil {
		return err
	}
	r.idle = append(r.idle, float64(resident)/1e6)
	return nil
}

func startRows(all []started) [][]string {
	rows := [][]string{{"edge starts", "ready after, ms", "idle MB"}}
	for _, s := range all {
		row := []string{s.name, failsCell, failsCell}
		if s.problem == nil {
			row[1], row[2] = cell(s.ready, measure{decimals: 1}), cell(s.idle, measure{decimals: 1})
		}
		rows = append(rows, row)
	}
	return rows
}
