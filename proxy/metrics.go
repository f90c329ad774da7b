package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edge-proxy/edge/arena"
	"github.com/edge-proxy/edge/limiter"
	"github.com/edge-proxy/edge/proxy/socket"
)

// providerStats are what the requests of one provider count in. They outlive generations.
type providerStats struct {
	classes  [6]atomic.Uint64 // answers by status class; 0 is unused
	rejected [reasons]atomic.Uint64
	left     [clientStages]atomic.Uint64
	tokens   tokenStats

	retries, fallbacks atomic.Uint64

	duration  *metrics.PrometheusHistogram
	firstByte *metrics.PrometheusHistogram
	queueWait *metrics.PrometheusHistogram
}

// Bounds of the histograms, in seconds: an LLM's answer takes from milliseconds to minutes.
var (
	durationBounds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500}
	waitBounds     = []float64{.00001, .0001, .001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
)

// histogramSets holds each histogram family in a set of its own, so that its type can be written before it.
// The plain histograms of the library write vmrange buckets, which stock Prometheus cannot read; these have
// le buckets.
type histogramSets struct{ duration, firstByte, queueWait, plugin *metrics.Set }

func newHistogramSets() histogramSets {
	return histogramSets{metrics.NewSet(), metrics.NewSet(), metrics.NewSet(), metrics.NewSet()}
}

func newProviderStats(sets histogramSets, name string) *providerStats {
	label := fmt.Sprintf("{provider=%q}", name)
	return &providerStats{
		duration:  sets.duration.NewPrometheusHistogramExt("edge_request_duration_seconds"+label, durationBounds),
		firstByte: sets.firstByte.NewPrometheusHistogramExt("edge_first_byte_seconds"+label, durationBounds),
		queueWait: sets.queueWait.NewPrometheusHistogramExt("edge_queue_wait_seconds"+label, waitBounds),
	}
}

// account counts x as ended, by err unless that is nil. Every request is counted once: as answered, or as
// one whose caller left.
func (p *Proxy) account(x *exchange, err error) {
	stats := p.unmatched
	name := "none"
	if x.end != nil {
		stats, name = x.end.stats, x.end.name
	}
	// OpenAI's own clients leave at the end mark of a stream, before the end of its encoding has come.
	left := gone(err) && !x.done
	if left {
		stats.left[x.stage].Add(1)
		x.status = statusClientGone
	} else {
		if err != nil && x.committed && !x.done { // the answer's head had gone out
			_, x.reason, _, _ = refusalOf(err)
		} else if errors.Is(err, errPluginReset) {
			_, x.reason, x.status, _ = refusalOf(err)
		}
		stats.classes[min(max(x.status/100, 1), 5)].Add(1)
	}
	if x.reason != reasonNone {
		stats.rejected[x.reason].Add(1)
		if x.caller != nil {
			x.caller.refused.Add(1)
		}
	}
	x.ended = time.Now()
	took := x.ended.Sub(x.arrived)
	stats.duration.Update(took.Seconds())
	x.countUsage(&stats.tokens)
	if p.access != nil {
		p.access.write(x, left)
	}
	if !p.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	p.log.LogAttrs(context.Background(), slog.LevelDebug, "request", slog.String(keyRequest, x.id),
		slog.String(keyProvider, name), slog.String(keyMethod, x.r.Method), slog.String(keyCaller, callerAddress(x.r, x.gen.trusted)),
		slog.String(keyToken, x.caller.label()), slog.Int(keyStatus, x.status), slog.Int(keyAttempts, x.attempts),
		slog.String(keyReason, x.reason.String()), slog.Float64(keyDuration, took.Seconds()))
}

// family is one metric of Edge's own: what it is, and how its samples are written. families is the whole
// list, and docs/metrics.md is generated from it.
type family struct {
	name, kind, labels, help string

	write func(p *Proxy, s *snapshot)
}

// snapshot is what one scrape sees.
type snapshot struct {
	w         io.Writer
	name      string
	config    Config
	providers []*provider // sorted; the last is none, which has no gate
	gates     []limiter.Stats
	arena     [len(arenaClasses)]arena.Stats
	plugins   []pluginSnapshot // sorted
	callers   []*standing      // sorted
}

var arenaClasses = [...]string{"exchange", "header", "body", "long"}

func (s *snapshot) counter(labels string, value uint64) {
	metrics.WriteCounterUint64(s.w, s.name+labels, value)
}

func (s *snapshot) gauge(labels string, value int64) {
	metrics.WriteGaugeUint64(s.w, s.name+labels, uint64(max(value, 0)))
}

// perGate is a gauge of each provider's gate.
func perGate(value func(limiter.Stats) int) func(*Proxy, *snapshot) {
	return func(_ *Proxy, s *snapshot) {
		for i := range s.gates {
			s.gauge(fmt.Sprintf("{provider=%q}", s.providers[i].name), int64(value(s.gates[i])))
		}
	}
}

// perClass is a value of each of the arena's classes.
func perClass(write func(s *snapshot, labels string, of arena.Stats)) func(*Proxy, *snapshot) {
	return func(_ *Proxy, s *snapshot) {
		for i, name := range arenaClasses {
			write(s, fmt.Sprintf("{class=%q}", name), s.arena[i])
		}
	}
}

// perProvider is a counter with a second label, of each provider.
func perProvider(write func(s *snapshot, of *provider)) func(*Proxy, *snapshot) {
	return func(_ *Proxy, s *snapshot) {
		for _, of := range s.providers {
			write(s, of)
		}
	}
}

// perEndpoint is a value of each provider that is configured now.
func perEndpoint(write func(s *snapshot, of *endpoint)) func(*Proxy, *snapshot) {
	return func(p *Proxy, s *snapshot) {
		gen := p.current.Load()
		for _, name := range gen.names {
			write(s, gen.endpoints[name])
		}
	}
}

var families = []family{
	{
		"edge_requests_total", "counter", "provider, code", "Requests answered, by the answer's class (code: 1xx to 5xx). Provider none: those that were not for one provider.",
		perProvider(func(s *snapshot, of *provider) {
			for class := 1; class < len(of.stats.classes); class++ {
				s.counter(fmt.Sprintf("{provider=%q,code=\"%dxx\"}", of.name, class), of.stats.classes[class].Load())
			}
		}),
	},
	{
		"edge_rejected_total", "counter", "provider, reason", "Requests that Edge itself refused or could not complete; reason is the code of the error that the caller sees.",
		perProvider(func(s *snapshot, of *provider) {
			for r := reasonNone + 1; r < reasons; r++ {
				s.counter(fmt.Sprintf("{provider=%q,reason=%q}", of.name, r), of.stats.rejected[r].Load())
			}
		}),
	},
	{
		"edge_caller_refused_total", "counter", "caller", "Requests of a caller that Edge itself refused or could not complete; caller is the name of its token.",
		perCaller(func(q *standing) uint64 { return q.refused.Load() }),
	},
	{
		"edge_client_gone_total", "counter", "provider, stage", "Requests whose caller left before the answer was complete; stage is arriving, queued, waiting (for the first byte) or streaming.",
		perProvider(func(s *snapshot, of *provider) {
			for stage, name := range clientStageNames {
				s.counter(fmt.Sprintf("{provider=%q,stage=%q}", of.name, name), of.stats.left[stage].Load())
			}
		}),
	},
	{
		"edge_breakers_open", "gauge", "provider", "Base URLs of the provider that are left alone for a while, after failures in a row.",
		perEndpoint(func(s *snapshot, of *endpoint) {
			open := int64(0)
			for i := range of.replicas {
				if of.replicas[i].openFor() > 0 {
					open++
				}
			}
			s.gauge(fmt.Sprintf("{provider=%q}", of.name), open)
		}),
	},
	{
		"edge_retries_total", "counter", "provider", "Attempts that were made again at the same provider.",
		perProvider(func(s *snapshot, of *provider) {
			s.counter(fmt.Sprintf("{provider=%q}", of.name), of.stats.retries.Load())
		}),
	},
	{
		"edge_fallbacks_total", "counter", "provider", "Requests that turned to this provider because another had failed.",
		perProvider(func(s *snapshot, of *provider) {
			s.counter(fmt.Sprintf("{provider=%q}", of.name), of.stats.fallbacks.Load())
		}),
	},
	{
		"edge_request_duration_seconds", "histogram", "provider", "From a request's arrival to the end of its answer.",
		func(p *Proxy, s *snapshot) { p.sets.duration.WritePrometheus(s.w) },
	},
	{
		"edge_first_byte_seconds", "histogram", "provider", "From the permit to the head of the provider's answer.",
		func(p *Proxy, s *snapshot) { p.sets.firstByte.WritePrometheus(s.w) },
	},
	{
		"edge_queue_wait_seconds", "histogram", "provider", "What an admitted request waited for its place and its permit together.",
		func(p *Proxy, s *snapshot) { p.sets.queueWait.WritePrometheus(s.w) },
	},
	{
		"edge_tokens_total", "counter", "provider, family, kind", "Tokens that answers say they took, by the model's family (one of the provider's model_families, or other); kind is input, cached_input (what of it the provider had in its cache) or output (reasoning included). The kinds do not overlap.",
		perProvider(func(s *snapshot, of *provider) {
			of.stats.tokens.each(func(family string, counts *tokenCounts) {
				for kind, name := range tokenKindNames {
					s.counter(fmt.Sprintf("{provider=%q,family=%q,kind=%q}", of.name, family, name), counts[kind].Load())
				}
			})
		}),
	},
	{
		"edge_usage_missing_total", "counter", "provider", "Answers to POST requests, of class 2xx, in JSON or server-sent events, that did not say how many tokens they took, or not so that Edge could read it: compressed, or broken off before.",
		perProvider(func(s *snapshot, of *provider) {
			s.counter(fmt.Sprintf("{provider=%q}", of.name), of.stats.tokens.missing.Load())
		}),
	},
	{
		"edge_access_log_dropped_total", "counter", "", "Lines of the access log that were lost because it was not read fast enough, or could not be written.",
		func(p *Proxy, s *snapshot) { s.counter("", p.access.lost()) },
	},
	{
		"edge_in_flight", "gauge", "provider", "Requests that hold a permit, streams and upgraded connections included.",
		perGate(func(g limiter.Stats) int { return g.InFlight }),
	},
	{
		"edge_concurrency_limit", "gauge", "provider", "The most that edge_in_flight may be: concurrency.",
		perGate(func(g limiter.Stats) int { return g.Limit }),
	},
	{
		"edge_waiting", "gauge", "provider", "Requests in the provider's queue.",
		perGate(func(g limiter.Stats) int { return g.Waiting }),
	},
	{
		"edge_waiting_limit", "gauge", "provider", "The most that edge_waiting may be: buffer_size.",
		perGate(func(g limiter.Stats) int { return g.Buffer }),
	},
	{
		"edge_blocked", "gauge", "provider", "Callers that wait, unread, for a place in the queue.",
		perGate(func(g limiter.Stats) int { return g.Blocked }),
	},
	{
		"edge_blocked_limit", "gauge", "provider", "The most that edge_blocked may be: max_blocked, or 0 with drop_excess_requests.",
		perGate(func(g limiter.Stats) int { return g.MaxBlocked }),
	},
	{
		"edge_quota_remaining", "gauge", "provider, dimension", "What may be spent at once of the quota that the provider has announced; of several keys and models, the least by share. dimension is requests, tokens, input_tokens or output_tokens.",
		perQuota(func(of limiter.LevelStats) int64 { return of.Remaining }),
	},
	{
		"edge_quota_limit", "gauge", "provider, dimension", "The most that edge_quota_remaining may be, as the provider has announced it.",
		perQuota(func(of limiter.LevelStats) int64 { return of.Limit }),
	},
	{
		"edge_key_rests_total", "counter", "provider", "Answers 429 after which a key rests.",
		perProvider(func(s *snapshot, of *provider) {
			s.counter(fmt.Sprintf("{provider=%q}", of.name), of.quota.rests.Load())
		}),
	},
	{
		"edge_keys_set_aside", "gauge", "provider", "Keys that the provider has answered 401 or 403 to, and that are not used for 10 minutes.",
		perProvider(func(s *snapshot, of *provider) {
			s.gauge(fmt.Sprintf("{provider=%q}", of.name), of.quota.setAside(time.Now()))
		}),
	},
	{
		"edge_arena_slots", "gauge", "class", "Slots of the arena: initial_pool_size of exchange, header and body, a 32nd of that of long.",
		perClass(func(s *snapshot, labels string, of arena.Stats) { s.gauge(labels, int64(of.Slots)) }),
	},
	{
		"edge_arena_slots_in_use", "gauge", "class", "Slots of the arena in use.",
		perClass(func(s *snapshot, labels string, of arena.Stats) { s.gauge(labels, int64(of.InUse)) }),
	},
	{
		"edge_arena_overflows_total", "counter", "class", "Slots that came from the heap because the arena was empty. If it grows, raise initial_pool_size.",
		perClass(func(s *snapshot, labels string, of arena.Stats) { s.counter(labels, of.Overflows) }),
	},
	{
		"edge_buffered_bytes", "gauge", "", "Bytes of request bodies held in memory.",
		func(p *Proxy, s *snapshot) { s.gauge("", p.buffered.Load()) },
	},
	{
		"edge_buffered_limit_bytes", "gauge", "", "The most that edge_buffered_bytes may be: max_buffered_mb.",
		func(_ *Proxy, s *snapshot) { s.gauge("", int64(s.config.MaxBuffered)) },
	},
	{
		"edge_pipes_in_use", "gauge", "", "Pipes in the kernel that long content is passing through, 256 KiB each at most, of the whole process: 0 but on Linux.",
		func(_ *Proxy, s *snapshot) { s.gauge("", int64(socket.PipesInUse())) },
	},
	{
		"edge_pipes_limit", "gauge", "", "The most that edge_pipes_in_use may be: 64. Content that finds none goes through memory.",
		func(_ *Proxy, s *snapshot) { s.gauge("", socket.MostPipes) },
	},
	{
		"edge_upgraded_connections", "gauge", "", "Upgraded connections (WebSocket) that are open.",
		func(p *Proxy, s *snapshot) { s.gauge("", p.upgraded.Load()) },
	},
	{
		"edge_plugin_duration_seconds", "histogram", "plugin, phase", "What a plugin took of a request: guest and host functions, without the wait for an instance; of a Proxy-Wasm plugin, its callback for the head. phase is request or response.",
		func(p *Proxy, s *snapshot) { p.sets.plugin.WritePrometheus(s.w) },
	},
	{
		"edge_plugin_errors_total", "counter", "plugin, reason", "Calls of a plugin that failed; reason is " + pluginReasonList() + ".",
		perPlugin(func(s *snapshot, of *pluginSnapshot) {
			for i, reason := range pluginReasons {
				s.counter(fmt.Sprintf("{plugin=%q,reason=%q}", of.name, reason), of.stats.failures[i].Load())
			}
		}),
	},
	{
		"edge_plugin_instances", "gauge", "plugin", "Instances of a plugin that exist.",
		perPlugin(func(s *snapshot, of *pluginSnapshot) { s.gauge(of.label(), int64(of.pool.Instances)) }),
	},
	{
		"edge_plugin_instances_in_use", "gauge", "plugin", "Instances of a plugin that serve a request.",
		perPlugin(func(s *snapshot, of *pluginSnapshot) { s.gauge(of.label(), int64(of.pool.InUse)) }),
	},
	{
		"edge_plugin_instances_limit", "gauge", "plugin", "The most that edge_plugin_instances may be: max_instances.",
		perPlugin(func(s *snapshot, of *pluginSnapshot) { s.gauge(of.label(), int64(of.pool.Max)) }),
	},
	{
		"edge_plugin_replacements_total", "counter", "plugin", "Instances that were made in place of one whose guest trapped, exited or took too long.",
		perPlugin(func(s *snapshot, of *pluginSnapshot) { s.counter(of.label(), of.pool.Replaced) }),
	},
	{
		"edge_plugin_memory_bytes", "gauge", "plugin", "Memory of a plugin's guests, all instances together.",
		perPlugin(func(s *snapshot, of *pluginSnapshot) { s.gauge(of.label(), of.pool.MemoryBytes) }),
	},
	{
		"edge_plugin_memory_limit_bytes", "gauge", "plugin", "The most that edge_plugin_memory_bytes may be for one instance: memory_limit_mb.",
		perPlugin(func(s *snapshot, of *pluginSnapshot) { s.gauge(of.label(), of.limit) }),
	},
	{
		"edge_plugin_cpu_units_total", "counter", "plugin", "Checks that a plugin's guests have executed, with deadline rewrite: a measure of work that does not depend on the machine.",
		perPlugin(func(s *snapshot, of *pluginSnapshot) { s.counter(of.label(), of.pool.CPUUnits) }),
	},
	{
		"edge_plugin_streams", "gauge", "plugin", "Requests that a Proxy-Wasm plugin has in hand; several share an instance.",
		perPlugin(func(s *snapshot, of *pluginSnapshot) { s.gauge(of.label(), int64(of.filter.Streams)) }),
	},
	{
		"edge_plugin_callouts_total", "counter", "plugin", "Requests that a Proxy-Wasm plugin has made itself.",
		perPlugin(func(s *snapshot, of *pluginSnapshot) { s.counter(of.label(), of.filter.Callouts) }),
	},
	{
		"edge_plugin_callouts_refused_total", "counter", "plugin", "Requests of a Proxy-Wasm plugin's own that were not sent: too many at once, or no permit was free.",
		perPlugin(func(s *snapshot, of *pluginSnapshot) { s.counter(of.label(), of.filter.Refused) }),
	},
	{
		"edge_plugin_log_lines_dropped_total", "counter", "plugin", "Log lines of a plugin beyond log_lines_per_second.",
		perPlugin(func(s *snapshot, of *pluginSnapshot) { s.counter(of.label(), of.pool.DroppedLines) }),
	},
	{
		"edge_config_last_reload_successful", "gauge", "", "1 while the configuration last given is in force, 0 after one that was refused.",
		func(p *Proxy, s *snapshot) { s.gauge("", map[bool]int64{false: 1}[p.reloadFailed.Load()]) },
	},
	{
		"edge_build_info", "gauge", "version, go", "1, with Edge's and Go's versions as labels.",
		func(p *Proxy, s *snapshot) {
			s.gauge(fmt.Sprintf("{version=%q,go=%q}", p.version, runtime.Version()), 1)
		},
	},
}

// WriteMetrics writes all metrics in the Prometheus text format (version 0.0.4), those of the Go runtime and
// the process included.
func (p *Proxy) WriteMetrics(w io.Writer) {
	s := p.snapshot()
	s.w = w
	for i := range families {
		f := &families[i]
		s.name = f.name
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", f.name, f.help, f.name, f.kind)
		f.write(p, &s)
	}
	s.writeGuestMetrics()
	metrics.WriteProcessMetrics(w)
}

func (p *Proxy) snapshot() snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := snapshot{config: p.config, arena: [...]arena.Stats{p.records.Stats(), p.heads.Stats(), p.bodies.Stats(), p.longs.Stats()}}
	for _, name := range slices.Sorted(maps.Keys(p.providers)) {
		s.providers = append(s.providers, p.providers[name])
		s.gates = append(s.gates, p.providers[name].gate.Stats())
	}
	s.providers = append(s.providers, &provider{name: "none", stats: p.unmatched})
	s.plugins = p.pluginSnapshots()
	for _, name := range p.callerNames() {
		s.callers = append(s.callers, p.standings[name])
	}
	return s
}

// versionOf is the configured version, else the module's as the build knows it.
func versionOf(c Config) string {
	if c.Version != "" {
		return c.Version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
