package proxy

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// The circuit breaker of a replica (M. Nygard, "Release It!"): how many failures in a row open it, how long it stays open
// at first and at most, and how much longer each time.
const (
	breakerFailures = 5
	breakerFirst    = 500 * time.Millisecond
	breakerMost     = 5 * time.Second
	breakerGrowth   = 1.6
)

// replica is one base URL of a provider, as one generation configures it.
type replica struct {
	*health
	base         string // URL
	host, scheme string // of it
	client       upstream.Client
}

// health is what is known of a base URL. It outlives generations.
type health struct {
	inFlight atomic.Int64
	failures atomic.Uint32 // in a row
	until    atomic.Uint64 // as now tells it: nobody is let through before; 0 while the breaker is closed

	mu      sync.Mutex
	wait    time.Duration // of the last opening
	probing bool          // the one request that is let through to see whether it is well again
}

// use is one request at a replica. The zero value is none.
type use struct {
	*replica
	probe bool
	told  bool // health has been told how it went
	over  bool // it has ended; the replica can still be looked at
}

// outcome is how a request at a replica went, as far as its health goes.
type outcome uint8

const (
	outcomeNone outcome = iota // it says nothing: the caller left
	outcomeWell
	outcomeIll
)

// statusOverloaded is Anthropic's: the provider has no room, whoever asks.
const statusOverloaded = 529

// outcomeOf says what a status means: 4xx and 429 are the caller's doing, or the quota's.
func outcomeOf(status int) outcome {
	switch status {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, statusOverloaded:
		return outcomeIll
	}
	return outcomeWell
}

// maxReplicas is how many base URLs a provider may have.
const maxReplicas = 16

// pick takes a replica for a request: the one with fewer requests of two that are chosen at random (M. Mitzenmacher, "The
// Power of Two Choices in Randomized Load Balancing", 1996), among those whose breaker is closed, and not the one to avoid
// if there is another. One that is due to be tried again comes first. If there is none, use is empty, and the wait is the
// time until the first is due. Whoever picks must call end.
func (e *endpoint) pick(avoid *replica) (u use, wait time.Duration) {
	if len(e.replicas) == 1 && e.replicas[0].until.Load() == 0 {
		return e.replicas[0].use(false), 0
	}
	var well [maxReplicas]*replica
	n, at := 0, now()
	for i := range e.replicas {
		r := &e.replicas[i]
		switch until := r.until.Load(); {
		case until == 0:
			well[n] = r
			n++
		case until <= at && r.tryProbe():
			return r.use(true), 0
		default: // open, or another request is trying it right now
			left := max(time.Duration(max(until, at)-at)*time.Microsecond, breakerFirst/10)
			if wait == 0 || left < wait {
				wait = left
			}
		}
	}
	if n == 0 {
		return use{}, wait
	}
	if i := slices.Index(well[:n], avoid); i >= 0 && n > 1 {
		n--
		well[i] = well[n]
	}
	one := rand.IntN(n)
	two := (one + rand.IntN(max(n-1, 1)) + 1) % n
	if well[two].inFlight.Load() < well[one].inFlight.Load() {
		one = two
	}
	return well[one].use(false), 0
}

// available returns 0 if some replica may be asked, else the wait until one may.
func (e *endpoint) available() (wait time.Duration) {
	for i := range e.replicas {
		left := e.replicas[i].openFor()
		if left == 0 {
			return 0
		}
		if wait == 0 || left < wait {
			wait = left
		}
	}
	return wait
}

func (r *replica) use(probe bool) use {
	r.inFlight.Add(1)
	return use{replica: r, probe: probe}
}

// tell notes how the request went, once.
func (u *use) tell(how outcome) {
	if u.replica == nil || u.told {
		return
	}
	u.told = true
	h := u.health
	switch {
	case how == outcomeIll:
		if n := h.failures.Add(1); n >= breakerFailures || u.probe {
			h.open(u.probe)
		}
	case how == outcomeWell && (u.probe || h.failures.Load() != 0):
		h.close()
	case u.probe:
		h.mu.Lock()
		h.probing = false
		h.mu.Unlock()
	}
}

// end ends the use.
func (u *use) end() {
	if u.replica == nil || u.over {
		return
	}
	u.tell(outcomeNone)
	u.inFlight.Add(-1)
	u.over = true
}

// tryProbe takes the right to see whether the replica is well again.
func (h *health) tryProbe() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.probing || h.until.Load() == 0 {
		return false
	}
	h.probing = true
	return true
}

// open lets nobody through for a while. What was under way when it opened does not make that longer.
func (h *health) open(probe bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.until.Load() != 0 && !probe {
		return
	}
	if h.probing = false; h.wait == 0 {
		h.wait = breakerFirst
	} else {
		h.wait = min(breakerMost, time.Duration(float64(h.wait)*breakerGrowth))
	}
	h.until.Store(now() + uint64(h.wait.Microseconds()))
}

// close lets everybody through.
func (h *health) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures.Store(0)
	h.until.Store(0)
	h.wait, h.probing = 0, false
}

// do sends a request of Edge's own, or a plugin's.
func (e *endpoint) do(ctx context.Context, q *upstream.Request, a *upstream.Response) error {
	u, wait := e.pick(nil)
	if u.replica == nil {
		if q.Body != nil {
			q.Body.Close()
		}
		return worded(errUnavailable, "%s is not answering; it is tried again in %v", e.name, wait.Round(time.Millisecond))
	}
	defer u.end() // before the content was read: what is read here is small
	err := u.client.Do(ctx, q, a)
	switch {
	case err == nil:
		u.tell(outcomeOf(a.Status))
	case ctx.Err() == nil:
		u.tell(outcomeIll)
	}
	return err
}

// openFor is how long nobody is let through yet; 0 while the breaker is closed.
func (h *health) openFor() time.Duration {
	until := h.until.Load()
	if until == 0 {
		return 0
	}
	at := now()
	return time.Duration(max(until, at)-at) * time.Microsecond
}

func (r *replica) status() ReplicaStatus {
	return ReplicaStatus{BaseURL: r.base, InFlight: r.inFlight.Load(), Failures: r.failures.Load(), OpenSec: r.openFor().Seconds()}
}
