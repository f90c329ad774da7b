package proxy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edge-proxy/edge/plugins"
	"github.com/edge-proxy/edge/plugins/proxywasm"
)

// pluginStats are what the calls of one plugin count in. They outlive generations.
type pluginStats struct {
	duration [2]*metrics.PrometheusHistogram // of the request and of the response phase
	failures [len(pluginReasons)]atomic.Uint64
}

// pluginReasons are why a call of a plugin failed, as a metric label.
var pluginReasons = [...]string{"trap", "timeout", "exit", "recursion", "busy", "body_too_large", "other"}

func pluginReasonList() string {
	last := len(pluginReasons) - 1
	return strings.Join(pluginReasons[:last], ", ") + " or " + pluginReasons[last]
}

// pluginBounds are the bounds of the histogram, in seconds: a guest takes from a microsecond to its timeout.
var pluginBounds = []float64{.000001, .0000025, .000005, .00001, .000025, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1}

// statsOf returns the stats of the plugin called name, made at its first load.
func (p *Proxy) statsOf(name string) *pluginStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.plugins[name]; s != nil {
		return s
	}
	s := &pluginStats{}
	for i, phase := range []string{phaseRequest, phaseResponse} {
		s.duration[i] = p.sets.plugin.NewPrometheusHistogramExt(fmt.Sprintf("edge_plugin_duration_seconds{plugin=%q,phase=%q}", name, phase), pluginBounds)
	}
	if p.plugins != nil {
		p.plugins[name] = s
	}
	return s
}

// fail counts a failed call.
func (s *pluginStats) fail(reason string) {
	i := slices.Index(pluginReasons[:], reason)
	if i < 0 {
		i = len(pluginReasons) - 1
	}
	s.failures[i].Add(1)
}

// pluginSnapshot is one plugin in force, as a scrape sees it.
type pluginSnapshot struct {
	name  string
	limit int64
	stats *pluginStats
	pool  plugins.PoolStats

	filter proxywasm.Stats // of a Proxy-Wasm plugin
}

func (s *pluginSnapshot) label() string { return fmt.Sprintf("{plugin=%q}", s.name) }

func (p *Proxy) pluginSnapshots() []pluginSnapshot {
	gen := p.current.Load()
	if gen == nil || !gen.pin() {
		return nil
	}
	defer gen.unpin()
	out := make([]pluginSnapshot, 0, len(gen.plugins))
	for _, name := range slices.Sorted(maps.Keys(gen.plugins)) {
		l := gen.plugins[name]
		s := pluginSnapshot{name: name, limit: int64(l.config.MemoryLimit), stats: l.stats}
		if l.filter != nil {
			s.filter = l.filter.Stats()
			s.pool = plugins.PoolStats{
				Stats: s.filter.Stats, InUse: min(s.filter.Streams, s.filter.Instances),
				Max: s.filter.Instances, Replaced: s.filter.Replaced,
			}
		} else {
			s.pool = l.guest.Stats()
		}
		out = append(out, s)
	}
	return out
}

// perPlugin is a value of each plugin.
func perPlugin(write func(s *snapshot, of *pluginSnapshot)) func(*Proxy, *snapshot) {
	return func(_ *Proxy, s *snapshot) {
		for i := range s.plugins {
			write(s, &s.plugins[i])
		}
	}
}

// writeGuestMetrics writes what Proxy-Wasm guests have defined, as edge_guest_<name>. Guests of one name share a family;
// the first by name decides on its type.
func (s *snapshot) writeGuestMetrics() {
	families := map[string][]string{}
	kinds := map[string]proxywasm.MetricType{}
	for i := range s.plugins {
		of := &s.plugins[i]
		for _, m := range of.filter.Metrics {
			name := "edge_guest_" + m.Name
			if kind, known := kinds[name]; known && kind != m.Type {
				continue
			}
			kinds[name] = m.Type
			families[name] = append(families[name], guestSamples(name, of.name, m)...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(families)) {
		fmt.Fprintf(s.w, "# HELP %s Defined by a plugin.\n# TYPE %s %s\n", name, name, kinds[name])
		for _, sample := range families[name] {
			fmt.Fprintln(s.w, sample)
		}
	}
}

func guestSamples(name, plugin string, m proxywasm.Metric) (lines []string) {
	if m.Type != proxywasm.Histogram {
		return []string{fmt.Sprintf("%s{plugin=%q} %d", name, plugin, m.Value)}
	}
	for i, count := range m.Buckets {
		lines = append(lines, fmt.Sprintf("%s_bucket{plugin=%q,le=\"%d\"} %d", name, plugin, proxywasm.Bounds[i], count))
	}
	return append(lines,
		fmt.Sprintf("%s_bucket{plugin=%q,le=\"+Inf\"} %d", name, plugin, m.Count),
		fmt.Sprintf("%s_sum{plugin=%q} %d", name, plugin, m.Sum),
		fmt.Sprintf("%s_count{plugin=%q} %d", name, plugin, m.Count))
}
