package proxywasm

import "github.com/edge-proxy/edge/plugins"

// Stats is what a plugin holds and has done.
type Stats struct {
	plugins.Stats
	Streams  int    // open
	InFlight int    // call-outs, answers that wait for their stream included
	Callouts uint64 // that were sent
	Refused  uint64 // call-outs: too many, no permit
	Replaced uint64 // instances that died
	Metrics  []Metric
}

// Stats returns the numbers as they are now.
func (p *Plugin) Stats() Stats {
	s := Stats{
		Stats: p.module.Stats(), InFlight: int(p.inFlight.Load()),
		Callouts: p.callouts.Load(), Refused: p.refused.Load(), Replaced: p.replaced.Load(), Metrics: p.metrics.all(),
	}
	s.Streams = int(p.streams.Load())
	return s
}
