package main

import (
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"
)

const (
	processorLook = 100 * time.Millisecond // how often the load is looked at
	processorIdle = 0.4                    // of one processor's time: less is little to do, more is not
	processorCalm = 5                      // looks with little to do, one after the other, before there is one processor
	processorNone = 0.05                   // as processorIdle: less is nothing to do
)

// processors decides whether Go needs more than one. When a goroutine is started, and net/http starts one for each request,
// Go wakes another thread if a processor is idle. With little to do that thread finds nothing, and takes its time from the
// provider's answer: at 2,500 requests a second on two cores it costs three tenths of the CPU time and 45 µs of
// 155; docs/bench.md.
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

// governor gives Go one processor while there is little to do, and its default else. While there is nothing to do it
// sleeps, until a connection becomes active.
type governor struct {
	asleep atomic.Bool
	wake   chan struct{} // has room for one
	done   chan struct{}
}

// governed returns nil where there is nothing to govern: when the environment has GOMAXPROCS, where that is one by
// default, where CPU time cannot be read, and when there are plugins, since compiled WASM does not give its processor away.
func governed(environ []string, plugins int) *governor {
	if _, known := cpuTime(); !known || plugins > 0 || inEnvironment(environ, "GOMAXPROCS") || runtime.GOMAXPROCS(0) == 1 {
		return nil
	}
	return &governor{wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// connState goes into http.Server.ConnState.
func (g *governor) connState(_ net.Conn, state http.ConnState) {
	if state == http.StateActive && g.asleep.Load() {
		select {
		case g.wake <- struct{}{}:
		default:
		}
	}
}

// govern runs until stop. With sleeps the connections' states are told to connState.
func (g *governor) govern(sleeps bool) {
	defer runtime.SetDefaultGOMAXPROCS()
	looks := time.NewTimer(processorLook)
	defer looks.Stop()
	var p processors
	one, last := false, time.Now()
	before, _ := cpuTime()
	for {
		select {
		case <-g.done:
			return
		case <-looks.C:
		}
		used, _ := cpuTime()
		now := time.Now()
		busy := float64(used-before) / float64(now.Sub(last))
		before, last = used, now
		if enough := p.look(busy); enough != one {
			if one = enough; one {
				runtime.GOMAXPROCS(1)
			} else {
				runtime.SetDefaultGOMAXPROCS()
			}
		}
		if sleeps && one && busy < processorNone {
			if !g.sleep() {
				return
			}
			before, _ = cpuTime()
			last = time.Now()
		}
		looks.Reset(processorLook)
	}
}

// sleep waits for a connection that becomes active; false: for stop.
func (g *governor) sleep() bool {
	g.asleep.Store(true)
	defer g.asleep.Store(false)
	select {
	case <-g.done:
		return false
	case <-g.wake:
		return true
	}
}

// stop ends govern, which gives Go its default again.
func (g *governor) stop() { close(g.done) }
