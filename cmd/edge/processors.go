package main

import (
	"runtime"
	"time"
)

const (
	processorLook = 100 * time.Millisecond // how often the load is looked at
	processorIdle = 0.4                    // of one processor's time: less is little to do, more is not
	processorCalm = 5                      // looks with little to do, one after the other, before there is one processor
)

// processors decides whether Go needs more than one. When a goroutine is started, and net/http starts one for each request,
// Go wakes another thread if a processor is idle. With little to do that thread finds nothing, and takes its time from the
// provider's answer: at 2,500 requests a second on two cores it costs a third of the CPU time and 40 µs of 100; docs/bench.md.
//
// There is one threshold for both ways. The same load uses more of several processors than of one, so what has gone above
// it stays there until there is less to do; two thresholds closer to each other would swing at loads between them. Where
// a quota gives less than it, one processor is what there is.
type processors struct {
	calm int // looks
	one  bool
}

// look takes the share of one processor's time that was used since the last look, and says whether one is enough.
func (p *processors) look(busy float64) bool {
	if busy > processorIdle {
		p.calm, p.one = 0, false
	} else if p.calm++; p.calm >= processorCalm {
		p.one = true
	}
	return p.one
}

// followLoad gives Go one processor while there is little to do, and its default else, until the returned function is
// called. It does nothing when the environment has GOMAXPROCS, where that default is one, where CPU time cannot be read,
// and when there are plugins: compiled WASM does not give its processor away.
func followLoad(environ []string, plugins int) (stop func()) {
	before, known := cpuTime()
	if !known || plugins > 0 || inEnvironment(environ, "GOMAXPROCS") || runtime.GOMAXPROCS(0) == 1 {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer runtime.SetDefaultGOMAXPROCS()
		ticks := time.NewTicker(processorLook)
		defer ticks.Stop()
		var p processors
		one, last := false, time.Now()
		for {
			select {
			case <-done:
				return
			case now := <-ticks.C:
				used, _ := cpuTime()
				enough := p.look(float64(used-before) / float64(now.Sub(last)))
				before, last = used, now
				if enough == one {
					continue
				}
				if one = enough; one {
					runtime.GOMAXPROCS(1)
				} else {
					runtime.SetDefaultGOMAXPROCS()
				}
			}
		}
	}()
	return func() { close(done) }
}
