//go:build wasip1

package proxyguest

import (
	"strings"
	"time"
)

// Level is the importance of a line in the log.
type Level uint32

// The levels.
const (
	Trace Level = iota
	Debug
	Info
	Warn
	Error
	Critical
)

// Log writes a line to the host's log.
func Log(level Level, message string) {
	_ = proxyLog(uint32(level), message) // there is nowhere else to say it
}

// Now returns the host's time.
func Now() time.Time {
	if proxyGetCurrentTime(&number64) != 0 {
		return time.Now()
	}
	return time.Unix(0, int64(number64))
}

// SetTickPeriod has Plugin.Tick called every d, in milliseconds; 0 ends it. It is called in Configure or Tick.
func SetTickPeriod(d time.Duration) error {
	return proxySetTickPeriod(uint32(d / time.Millisecond)).err()
}

// Property returns what the host knows by a path, such as "source", "address". A number is 8 bytes, least first.
func Property(path ...string) ([]byte, bool) {
	value, err := take(proxyGetProperty(strings.Join(path, "\x00"), &address, &size))
	return value, err == nil
}

// SetProperty sets a value that later callbacks of the exchange, other plugins and logs may read.
func SetProperty(value []byte, path ...string) error {
	p, n := pointer(value)
	return proxySetProperty(strings.Join(path, "\x00"), p, n).err()
}

// SharedData returns what SetSharedData has put there in this or another instance, and its version.
func SharedData(key string) (value []byte, version uint32, err error) {
	value, err = take(proxyGetSharedData(key, &address, &size, &number))
	return value, number, err
}

// SetSharedData stores a value. The error is VersionMismatch if version is not 0 and no longer the value's.
func SetSharedData(key string, value []byte, version uint32) error {
	p, n := pointer(value)
	return proxySetSharedData(key, p, n, version).err()
}

// Metric is a number that the host publishes. All instances that define one of a name share it.
type Metric uint32

// NewCounter defines a number that only grows.
func NewCounter(name string) (Metric, error) { return newMetric(0, name) }

// NewGauge defines a number that is set.
func NewGauge(name string) (Metric, error) { return newMetric(1, name) }

// NewHistogram defines a distribution.
func NewHistogram(name string) (Metric, error) { return newMetric(2, name) }

func newMetric(kind uint32, name string) (Metric, error) {
	s := proxyDefineMetric(kind, name, &number)
	return Metric(number), s.err()
}

// Add adds to a counter or a gauge.
func (m Metric) Add(n int64) error { return proxyIncrementMetric(uint32(m), n).err() }

// Record sets a gauge, or adds a value to a histogram.
func (m Metric) Record(value uint64) error { return proxyRecordMetric(uint32(m), value).err() }

// Value returns the number of a counter or a gauge.
func (m Metric) Value() (uint64, error) {
	s := proxyGetMetric(uint32(m), &number64)
	return number64, s.err()
}
