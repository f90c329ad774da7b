package main

import (
	"context"
	"fmt"
	"time"
)

// Cost does not grow with connections, providers, plugins or what is in flight, but for what each must cost: these
// races show by how much it does.

const (
	connectionsRate = 5000 // requests a second, whatever the connections, which all take their turns
	connectionsTime = 2 * time.Second
)

// growth is one race: what grows, at which sizes, and what is told of each.
type growth struct {
	name   string
	points []point
	rounds int // 0: as the flags say
	tells  []int
	lanes  []lane // of the points' entrants, in order
}

// point is one size: rp is left out where it has no such thing.
type point struct {
	name     string
	entrants []entrant
}

// growths are the races of a run.
func growths() []growth {
	w2, _ := workloadNamed("W2")
	both := func(w workload) []entrant { return []entrant{{rpPeer, w, startRP}, {edgePeer, w, startEdge}} }
	connections := growth{name: "connections", tells: []int{cpu}}
	for _, n := range []int{10, 100, 1000, 10000} {
		w := w2
		w.connections, w.rate, w.least = n, connectionsRate, connectionsTime
		connections.points = append(connections.points, point{number(float64(n), 0), both(w)})
	}
	providers := growth{name: "providers", tells: []int{cpu}}
	for _, n := range []int{1, 10, 200} {
		start := func(ctx context.Context, s *site, w workload) (*peer, error) {
			setup := measured(w)
			setup.providers = n
			return setup.start(ctx, s)
		}
		providers.points = append(providers.points, point{fmt.Sprint(n), []entrant{{edgePeer, w2, start}}})
	}
	plugins := growth{name: "plugins", tells: []int{cpu, mallocs}}
	plugins.points = append(plugins.points, point{"0", []entrant{{edgePeer, w2, startEdge}}})
	for _, n := range []int{1, 2, 5, 10} {
		plugins.points = append(plugins.points, point{fmt.Sprintf("%d http-wasm", n), []entrant{{edgePeer, w2, edgeWith(n, httpWasmModule)}}})
	}
	for _, n := range []int{1, 2, 5, 10} {
		plugins.points = append(plugins.points, point{fmt.Sprintf("%d Proxy-Wasm", n), []entrant{{edgePeer, w2, edgeWith(n, proxyWasmModule)}}})
	}
	inFlight := growth{name: "requests in flight", tells: []int{peak, each}, rounds: 1}
	for _, n := range []int{100, 1000, 5000} {
		w := heldWorkload
		w.connections, w.least = n, w.delay
		inFlight.points = append(inFlight.points, point{number(float64(n), 0), both(w)})
	}
	return []growth{connections, providers, plugins, inFlight}
}

// fit leaves out what does not fit the limit of open files, and says so.
func (g *growth) fit(files int) (left []string) {
	var points []point
	for _, p := range g.points {
		if need := p.entrants[0].workload.openFiles(); need > files {
			left = append(left, needsFiles(p.name+" "+g.name, need, files))
		} else {
			points = append(points, p)
		}
	}
	g.points = points
	return left
}

func (g *growth) turns(rounds int) int {
	count := 0
	for _, p := range g.points {
		count += len(p.entrants)
	}
	return count * g.roundsOf(rounds)
}

func (g *growth) roundsOf(rounds int) int {
	if g.rounds > 0 {
		return g.rounds
	}
	return rounds
}

func (b *bench) grow(ctx context.Context, g *growth) error {
	var entrants []entrant
	for _, p := range g.points {
		for _, e := range p.entrants {
			entrants = append(entrants, entrant{e.name + ", " + p.name + " " + g.name, e.workload, e.start})
		}
	}
	var err error
	g.lanes, err = b.race(ctx, "scale", entrants, g.roundsOf(b.options.rounds))
	return err
}

// scaleRows are the table of cost by size.
func scaleRows(all []growth) [][]string {
	rows := [][]string{{"what grows", "", rpPeer, edgePeer}}
	for _, g := range all {
		next := 0
		for _, p := range g.points {
			lanes := g.lanes[next : next+len(p.entrants)]
			next += len(p.entrants)
			label := g.name + ": " + p.name
			for _, which := range g.tells {
				row := []string{label, measureRows[which].name, none, none}
				for i, e := range p.entrants {
					column := 3
					if e.name == rpPeer {
						column = 2
					}
					row[column] = laneCell(&lanes[i], which, measureRows[which])
				}
				rows = append(rows, row)
				label = ""
			}
		}
	}
	return rows
}
