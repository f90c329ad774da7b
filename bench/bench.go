package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
)

// bench is a run.
type bench struct {
	site    *site
	options options
	shown   *progress

	peers   []entrant // of all workloads but W9, by column
	plugins []entrant // of W9
	scale   []growth
	result  results
}

// results are all that a run has found.
type results struct {
	machine  *machine
	options  options
	columns  []string // the peers of the first table
	found    []string // the programs of others, with their versions
	left     []string // what did not take part, and why
	outcomes []outcome
	starts   []started
	scale    []growth
}

// W9's peers beside edge, and how many plugins they have.
const (
	oneHTTPWasm   = "1 http-wasm"
	fiveHTTPWasm  = "5 http-wasm"
	oneProxyWasm  = "1 Proxy-Wasm"
	fiveProxyWasm = "5 Proxy-Wasm"
)

var pluginCounts = map[string]float64{oneHTTPWasm: 1, fiveHTTPWasm: 5, oneProxyWasm: 1, fiveProxyWasm: 5}

// prepare decides what takes part, where a process may have so many files open.
func prepare(ctx context.Context, o options, files int) *bench {
	b := &bench{site: &site{files: files}, options: o}
	b.peers = []entrant{{name: directPeer, start: startDirect}, {name: rpPeer, start: startRP}, {name: edgePeer, start: startEdge}, {name: takeoverPeer, start: startTakenOver}}
	b.plugins = []entrant{
		{name: edgePeer, start: startBusy},
		{name: oneHTTPWasm, start: edgeWith(1, httpWasmModule)},
		{name: fiveHTTPWasm, start: edgeWith(5, httpWasmModule)},
		{name: oneProxyWasm, start: edgeWith(1, proxyWasmModule)},
		{name: fiveProxyWasm, start: edgeWith(5, proxyWasmModule)},
	}
	var absent []string
	for _, p := range programs {
		if !slices.Contains(o.peers, p.name) {
			continue
		}
		path, err := p.find()
		if err != nil {
			absent = append(absent, p.name)
			continue
		}
		b.peers = append(b.peers, entrant{name: p.name, start: p.starter(path)})
		b.result.found = append(b.result.found, strings.TrimSpace(p.name+" "+p.versionOf(ctx, path)))
	}
	if len(absent) > 0 {
		b.leave("not installed: " + strings.Join(absent, ", "))
	}
	b.options.only = slices.DeleteFunc(slices.Clone(o.only), func(w workload) bool {
		if w.openFiles() > files {
			b.leave(needsFiles(w.name, w.openFiles(), files))
		}
		return w.openFiles() > files
	})
	if o.scale {
		b.scale = growths()
		for i := range b.scale {
			b.leave(b.scale[i].fit(files)...)
		}
	}
	for _, p := range b.peers {
		b.result.columns = append(b.result.columns, p.name)
	}
	b.result.options = o
	return b
}

func needsFiles(what string, need, limit int) string {
	return fmt.Sprintf("%s: a proxy needs %s open files, the limit is %s", what, number(float64(need), 0), number(float64(limit), 0))
}

func (b *bench) leave(what ...string) { b.result.left = append(b.result.left, what...) }

// peersOf are a workload's columns.
func (b *bench) peersOf(w workload) []entrant {
	if w.name == pluginWorkload {
		return b.plugins
	}
	return slices.DeleteFunc(slices.Clone(b.peers), func(e entrant) bool {
		return slices.ContainsFunc(programs, func(p program) bool { return p.name == e.name && p.only != "" && p.only != w.name })
	})
}

// turns is how many a run has.
func (b *bench) turns() int {
	count := 0
	for _, w := range b.options.only {
		count += w.rounds(b.options.rounds) * len(b.peersOf(w))
	}
	if b.options.starts {
		count += startTurns(b.options.rounds)
	}
	for _, g := range b.scale {
		count += g.turns(b.options.rounds)
	}
	return count
}

// measure builds and starts what is needed, measures, and ends all of it.
func (b *bench) measure(ctx context.Context) error {
	defer b.shown.clear()
	b.shown.say("building edge")
	var err error
	if b.site.dir, err = os.MkdirTemp("", "edge-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.site.dir)
	if b.site.edge, err = buildEdge(ctx, b.site.dir); err != nil {
		return err
	}
	for _, w := range b.options.only {
		one, err := b.workload(ctx, w)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		b.result.outcomes = append(b.result.outcomes, one)
	}
	if b.options.starts {
		if b.result.starts, err = b.starts(ctx); err != nil {
			return err
		}
	}
	for i := range b.scale {
		if err := b.grow(ctx, &b.scale[i]); err != nil {
			return err
		}
	}
	b.result.scale = b.scale
	return nil
}

// workload measures one, through the peers that are its.
func (b *bench) workload(ctx context.Context, w workload) (outcome, error) {
	entrants := slices.Clone(b.peersOf(w))
	for i := range entrants {
		entrants[i].workload = w
	}
	lanes, err := b.race(ctx, w.name, entrants, w.rounds(b.options.rounds))
	o := outcome{w, lanes}
	o.addBeyondDirect()
	return o, err
}

// failures are what went wrong, of all peers. Those of others are no failure of the run.
func (r *results) failures() (ours, others []string) {
	note := func(where, name string, err error) {
		text := fmt.Sprintf("%s, %s: %v", where, name, err)
		for _, p := range programs {
			if p.name == name {
				others = append(others, text)
				return
			}
		}
		ours = append(ours, text)
	}
	lanes := func(where string, list []lane) {
		for _, l := range list {
			if l.err != nil {
				note(where, l.name, l.err)
			}
		}
	}
	for _, o := range r.outcomes {
		lanes(o.workload.name, o.lanes)
	}
	for _, g := range r.scale {
		lanes("scale", g.lanes)
	}
	for _, s := range r.starts {
		if s.problem != nil {
			note("start", s.name, s.problem)
		}
	}
	return ours, others
}
