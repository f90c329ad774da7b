package main

import "slices"

// bar is a line that edge should keep, of the project's own choosing: what is measured, and how much of it holds.
type bar struct {
	name     string
	decimals int
	limit    float64
	least    bool // the limit is a least, not a most
	value    func(*results) []float64
}

// noAllocation is what counts as none: the process allocates beside requests, too, and the counters see it.
const noAllocation = 0.05

// bars are the project's hard ones, as far as this program measures them.
var bars = []bar{
	{name: "W1, CPU against rp", decimals: 2, limit: .45, value: ratio("W1", cpu, rpPeer)},
	{name: "W2, CPU against rp", decimals: 2, limit: .45, value: ratio("W2", cpu, rpPeer)},
	{name: "W2, requests/s against rp", decimals: 2, limit: 1.9, least: true, value: ratio("W2", rate, rpPeer)},
	{name: "W2, CPU against Caddy", decimals: 2, limit: .30, value: ratio("W2", cpu, caddyPeer)},
	{name: "W2, CPU against Traefik", decimals: 2, limit: .42, value: ratio("W2", cpu, traefikPeer)},
	{name: "W2, CPU against Traefik's fastProxy", decimals: 2, limit: .60, value: ratio("W2", cpu, traefikFastPeer)},
	{name: "W2, CPU against vmauth", decimals: 2, limit: .42, value: ratio("W2", cpu, vmauthPeer)},
	{name: "W2, allocations a request", decimals: 1, limit: 36, value: figure("W2", mallocs)},
	{name: "W2, bytes a request", limit: 4500, value: figure("W2", heapBytes)},
	{name: "W3, CPU against rp", decimals: 2, limit: .40, value: ratio("W3", cpu, rpPeer)},
	{name: "W3, CPU against nginx", decimals: 2, limit: 1.3, value: ratio("W3", cpu, nginxPeer)},
	{name: "W4a, CPU against rp", decimals: 2, limit: .70, value: ratio("W4a", cpu, rpPeer)},
	{name: "W4b, event p50 against nginx", decimals: 2, limit: 1.05, value: ratio("W4b", p50, nginxPeer)},
	{name: "W5, peak memory against rp", decimals: 2, limit: .70, value: ratio("W5", peak, rpPeer)},
	{name: "W5, p50 against rp", decimals: 2, limit: .65, value: ratio("W5", p50, rpPeer)},
	{name: "W5, KiB a request in flight", decimals: 1, limit: 42, value: figure("W5", each)},
	{name: "W6, p50 beyond direct against rp", decimals: 2, limit: .50, value: ratio("W6", addedP50, rpPeer)},
	{name: "W7, CPU against rp", decimals: 2, limit: .90, value: ratio("W7", cpu, rpPeer)},
	{name: "W8, errors", limit: 0, value: failed("W8")},
	{name: "W8, peak MB", decimals: 1, limit: 400, value: figure("W8", peak)},
	{name: "W9, CPU ns of an http-wasm plugin, alone", limit: 700, value: plugin(oneHTTPWasm, cpu)},
	{name: "W9, CPU ns of an http-wasm plugin, as one of five", limit: 700, value: plugin(fiveHTTPWasm, cpu)},
	{name: "W9, allocations that an http-wasm plugin adds", decimals: 2, limit: noAllocation, value: plugin(fiveHTTPWasm, mallocs)},
	{name: "W9, CPU ns of a Proxy-Wasm plugin, alone", limit: 2000, value: plugin(oneProxyWasm, cpu)},
	{name: "W9, CPU ns of a Proxy-Wasm plugin, as one of five", limit: 2000, value: plugin(fiveProxyWasm, cpu)},
	{name: "W9, allocations that a Proxy-Wasm plugin adds", decimals: 2, limit: noAllocation, value: plugin(fiveProxyWasm, mallocs)},
	{name: "idle MB, resource-constrained", decimals: 1, limit: 12, value: edgeStart(startConstrained, idleOf)},
	{name: "idle MB, balanced", decimals: 1, limit: 32, value: edgeStart(startBalanced, idleOf)},
	{name: "ready after, ms, no plugin", decimals: 1, limit: 50, value: edgeStart(startBalanced, readyOf)},
	{name: "ready after, ms, a Go plugin from the cache", decimals: 1, limit: 150, value: edgeStart(startCached, readyOf)},
}

// barRows say of each bar what was measured and whether it holds.
func barRows(r *results) [][]string {
	rows := [][]string{{"bar", "limit", "measured", ""}}
	for _, b := range bars {
		sign := "≤ "
		if b.least {
			sign = "≥ "
		}
		limit := sign + number(b.limit, b.decimals)
		list := b.value(r)
		if len(list) == 0 {
			if r.options.whole() { // otherwise it was not wanted
				rows = append(rows, []string{b.name, limit, none, "not measured"})
			}
			continue
		}
		verdict := "misses"
		if v := median(list); b.least && v >= b.limit || !b.least && v <= b.limit {
			verdict = "holds"
		}
		rows = append(rows, []string{b.name, limit, cell(list, measure{decimals: b.decimals}), verdict})
	}
	return rows
}

func (r *results) outcome(name string) *outcome {
	i := slices.IndexFunc(r.outcomes, func(o outcome) bool { return o.workload.name == name })
	if i < 0 {
		return nil
	}
	return &r.outcomes[i]
}

// ratio is of edge to another peer, by round.
func ratio(workload string, which int, base string) func(*results) []float64 {
	return func(r *results) []float64 {
		if o := r.outcome(workload); o != nil {
			return o.ratios(edgePeer, base, which)
		}
		return nil
	}
}

// figure is edge's own, by round.
func figure(workload string, which int) func(*results) []float64 {
	return func(r *results) []float64 {
		o := r.outcome(workload)
		if o == nil {
			return nil
		}
		list := o.series(edgePeer, which)
		if list != nil && measureRows[which].highest {
			return []float64{slices.Max(list)}
		}
		return list
	}
}

// failed is 1 if edge failed: it is out with its first wrong answer.
func failed(workload string) func(*results) []float64 {
	return func(r *results) []float64 {
		o := r.outcome(workload)
		if o == nil {
			return nil
		}
		if o.lane(edgePeer) == nil {
			return []float64{1}
		}
		return []float64{0}
	}
}

// plugin is what one plugin adds, by round.
func plugin(name string, which int) func(*results) []float64 {
	return func(r *results) []float64 {
		o := r.outcome(pluginWorkload)
		if o == nil {
			return nil
		}
		list := o.eachPlugin(name, which)
		if which == cpu {
			for i := range list {
				list[i] *= 1000 // ns
			}
		}
		return list
	}
}

// edgeStart is what the starts of one kind took.
func edgeStart(kind string, of func(started) []float64) func(*results) []float64 {
	return func(r *results) []float64 {
		for _, s := range r.starts {
			if s.name == kind && s.problem == nil {
				return of(s)
			}
		}
		return nil
	}
}

func idleOf(s started) []float64  { return s.idle }
func readyOf(s started) []float64 { return s.ready }
