package proxywasm

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tetratelabs/wazero/api"
)

// MetricType is what a metric counts.
type MetricType uint8

// The types, in the ABI's numbers.
const (
	Counter MetricType = iota
	Gauge
	Histogram
	metricTypes
)

func (t MetricType) String() string { return [...]string{"counter", "gauge", "histogram"}[t] }

// Metric is a metric that a guest has defined, with the sum of what all instances did to it.
type Metric struct {
	Name  string // of letters, digits, _ and :
	Type  MetricType
	Value int64 // of a counter or gauge

	Count, Sum uint64   // of a histogram
	Buckets    []uint64 // of a histogram: how many values were at most the bound of the same index in Bounds
}

// Bounds are the upper bounds of a histogram's buckets, as Envoy has them.
var Bounds = [...]uint64{
	1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000, 3_600_000,
}

const (
	maxMetrics    = 1000 // of a plugin
	maxMetricName = 256
)

// metrics are a plugin's, for all its instances. Ids are places in the list, from 1; the list only grows.
type metrics struct {
	list atomic.Pointer[[]*metric]

	mu    sync.Mutex
	names map[string]uint32
}

type metric struct {
	name       string
	kind       MetricType
	value      atomic.Int64
	count, sum atomic.Uint64
	buckets    [len(Bounds)]atomic.Uint64 // not cumulative
}

// define returns the id of a metric, which may be there already.
func (m *metrics) define(kind MetricType, name string) (uint32, status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []*metric
	if l := m.list.Load(); l != nil {
		list = *l
	}
	if id, ok := m.names[name]; ok {
		if list[id-1].kind != kind {
			return 0, statusBadArgument
		}
		return id, statusOK
	}
	if len(list) == maxMetrics {
		return 0, statusInternal
	}
	list = append(slices.Clip(list), &metric{name: name, kind: kind})
	if m.names == nil {
		m.names = map[string]uint32{}
	}
	m.names[name] = uint32(len(list))
	m.list.Store(&list)
	return uint32(len(list)), statusOK
}

// find returns a metric, nil for an unknown id.
func (m *metrics) find(id uint64) *metric {
	l := m.list.Load()
	if n := uint32(id); l != nil && n > 0 && uint64(n) <= uint64(len(*l)) {
		return (*l)[n-1]
	}
	return nil
}

// observe adds a value to a histogram.
func (m *metric) observe(v uint64) {
	m.count.Add(1)
	m.sum.Add(v)
	if i, _ := slices.BinarySearch(Bounds[:], v); i < len(Bounds) {
		m.buckets[i].Add(1)
	}
}

// all returns what the metrics are now, by name.
func (m *metrics) all() []Metric {
	l := m.list.Load()
	if l == nil {
		return nil
	}
	all := make([]Metric, 0, len(*l))
	for _, m := range *l {
		out := Metric{Name: m.name, Type: m.kind, Value: m.value.Load()}
		if m.kind == Histogram {
			out.Count, out.Sum = m.count.Load(), m.sum.Load()
			out.Buckets = make([]uint64, len(Bounds))
			below := uint64(0)
			for i := range m.buckets {
				below += m.buckets[i].Load()
				out.Buckets[i] = below
			}
		}
		all = append(all, out)
	}
	slices.SortFunc(all, func(a, b Metric) int {
		switch {
		case a.Name < b.Name:
			return -1
		default:
			return 1
		}
	})
	return all
}

// metricName makes a name fit for /metrics; "" if there is nothing to make it of.
func metricName(b []byte) string {
	if len(b) == 0 || len(b) > maxMetricName {
		return ""
	}
	name := make([]byte, 0, len(b)+1)
	if b[0] >= '0' && b[0] <= '9' {
		name = append(name, '_')
	}
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == ':':
		default:
			c = '_'
		}
		name = append(name, c)
	}
	return string(name)
}

// defineMetric: (type, name, n, *id).
func defineMetric(g *guest, mem api.Memory, stack []uint64) status {
	b, ok := read(mem, stack[1], stack[2])
	if !ok || !mem.WriteUint32Le(uint32(stack[3]), 0) {
		return statusInvalidMemory
	}
	name := metricName(b)
	if uint32(stack[0]) >= uint32(metricTypes) || name == "" {
		return statusBadArgument
	}
	id, st := g.plugin.metrics.define(MetricType(stack[0]), name)
	if st == statusOK {
		mem.WriteUint32Le(uint32(stack[3]), id)
	}
	return st
}

// recordMetric: (id, value).
func recordMetric(g *guest, _ api.Memory, stack []uint64) status {
	m := g.plugin.metrics.find(stack[0])
	switch {
	case m == nil:
		return statusNotFound
	case m.kind == Counter:
		m.value.Add(int64(stack[1]))
	case m.kind == Gauge:
		m.value.Store(int64(stack[1]))
	default:
		m.observe(stack[1])
	}
	return statusOK
}

// incrementMetric: (id, offset).
func incrementMetric(g *guest, _ api.Memory, stack []uint64) status {
	m, offset := g.plugin.metrics.find(stack[0]), int64(stack[1])
	switch {
	case m == nil:
		return statusNotFound
	case m.kind == Histogram, m.kind == Counter && offset < 0:
		return statusBadArgument
	default:
		m.value.Add(offset)
		return statusOK
	}
}

// getMetric: (id, *value).
func getMetric(g *guest, mem api.Memory, stack []uint64) status {
	m := g.plugin.metrics.find(stack[0])
	switch {
	case m == nil:
		return statusNotFound
	case m.kind == Histogram:
		return statusBadArgument
	case !mem.WriteUint64Le(uint32(stack[1]), uint64(m.value.Load())):
		return statusInvalidMemory
	default:
		return statusOK
	}
}
