package demo

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxScript = 4096 // bytes
	maxRepeat = 1_000_000
	maxCalls  = 10_000      // callers whose place in a script is known; further ones share one
	forgetful = time.Minute // how long a caller is idle before its place may be forgotten
)

// failure is what becomes of a request in place of its answer. The zero value is the answer.
type failure struct {
	status int   // to refuse it with, or 0
	fault  fault // to end it in, or none
}

// parseFailure reads a status or the name of a fault.
func parseFailure(s string) (f failure, ok bool) {
	if f.fault, ok = faults[s]; ok {
		return f, true
	}
	n, err := strconv.Atoi(s)
	return failure{status: n}, err == nil && n >= 400 && n <= 599
}

// script is what becomes of a caller's requests, one after another.
type script []step

type step struct {
	failure
	times int
}

// parseScript reads "503*2,reset,ok".
func parseScript(s string) (script, error) {
	if s == "" {
		return nil, nil
	}
	if len(s) > maxScript {
		return nil, fmt.Errorf("got %d bytes, want at most %d", len(s), maxScript)
	}
	var list script
	for text := range strings.SplitSeq(s, ",") {
		what, times, repeated := strings.Cut(strings.TrimSpace(text), "*")
		next, ok := step{times: 1}, false
		if repeated {
			n, err := strconv.Atoi(times)
			if err != nil || n < 1 || n > maxRepeat {
				return nil, fmt.Errorf("step %.64q: want 1 to %d after *", text, maxRepeat)
			}
			next.times = n
		}
		if next.failure, ok = parseFailure(what); !ok && what != "ok" {
			return nil, fmt.Errorf("step %.64q: want ok, a status of 400 to 599 or one of %s", text, faultNames)
		} else if !ok {
			next.failure = failure{}
		}
		list = append(list, next)
	}
	return list, nil
}

// at returns what the n-th step says, from 0.
func (s script) at(n int) failure {
	for _, step := range s {
		if n < step.times {
			return step.failure
		}
		n -= step.times
	}
	return failure{}
}

// places counts the calls of each caller that has a script.
type places struct {
	mu     sync.Mutex
	calls  map[[sha256.Size]byte]*place
	shared place
	swept  time.Time
}

type place struct {
	next int
	used time.Time
}

// take returns the number of the caller's next step.
func (p *places) take(caller string) int {
	sum := sha256.Sum256([]byte(caller))
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	at := p.calls[sum]
	if at == nil {
		if len(p.calls) >= maxCalls && now.Sub(p.swept) >= time.Second {
			p.swept = now
			maps.DeleteFunc(p.calls, func(_ [sha256.Size]byte, at *place) bool { return now.Sub(at.used) >= forgetful })
		}
		if at = &p.shared; len(p.calls) < maxCalls {
			at = new(place)
			if p.calls == nil {
				p.calls = map[[sha256.Size]byte]*place{}
			}
			p.calls[sum] = at
		}
	}
	n := at.next
	at.next++
	at.used = now
	return n
}

// fate decides what becomes of x: what its own headers say, else its script's next step, else a throw of the dice.
func (x *exchange) fate() failure {
	if x.settings.failure != (failure{}) {
		return x.settings.failure
	}
	steps := x.settings.script
	if steps == nil && x.p.scripts != nil {
		own, ok := x.p.scripts[x.key()]
		if steps = own; !ok {
			steps = x.p.script
		}
	} else if steps == nil {
		steps = x.p.script
	}
	if steps != nil {
		caller := "id " + x.settings.id
		if x.settings.id == "" {
			caller = "key " + x.key()
		}
		if f := steps.at(x.p.places.take(caller)); f != (failure{}) {
			return f
		}
	}
	c := &x.p.config
	if c.ErrorRate > 0 && float64(mix(c.Seed^^x.seq)>>11)/(1<<53) < c.ErrorRate {
		if f, ok := parseFailure(c.Fault); ok {
			return f
		}
		return failure{status: cmp.Or(c.ErrorStatus, defaultStatus)}
	}
	return failure{}
}
