package proxy

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/edge-proxy/edge/limiter"
)

// callerLines is how many lines a gate has for those who wait: each caller its own, the last is Edge's. With more callers
// than that, some share a line.
const callerLines = 256

// edgeItself is who asks a gate for requests that Edge or a plugin makes.
var edgeItself = limiter.Request{Caller: callerLines - 1}

// standing is what of a caller outlives generations, by the token's name. Its limits are not in it: each request is judged by
// those of the generation that it arrived in, so a reload changes them at once for whoever comes.
//
// Every field is an atomic but the first two, which are fixed. Counting in and spending are one CAS each, so nobody is
// refused who was within the limits; a CAS that was lost is a look at the new value.
type standing struct {
	name   string
	number uint32 // of the caller's line

	inside  atomic.Int64  // requests of the caller's inside Edge
	full    atomic.Int64  // when all requests of a minute may be made at once again, as nanoseconds since the process began
	refused atomic.Uint64 // requests that Edge refused or could not complete
}

// spentError says that a caller's own quota is spent, and when to come again.
type spentError struct {
	error
	wait time.Duration
}

func (e *spentError) Unwrap() error { return e.error }

// enter counts one more request inside, unless that is more than limit. 0 is no limit.
func (q *standing) enter(limit int) bool {
	for {
		n := q.inside.Load()
		if limit > 0 && n >= int64(limit) {
			return false
		}
		if q.inside.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// spend takes one of perMinute requests at a time that is given as nanoseconds since the process began. It returns 0, or
// how long until there is one, and then has taken none.
//
// It is the generic cell rate algorithm (ITU-T I.371) in one word: each request moves full a minute's share further, and
// may not move it further than a minute from now. So perMinute requests may come at once, and then one whenever its share
// of a minute has passed. After a change of the limit the same part of the minute is spent as before.
func (q *standing) spend(perMinute int, now int64) (wait time.Duration) {
	each := int64(time.Minute) / int64(perMinute)
	for {
		full := q.full.Load()
		next := max(full, now) + each
		if early := next - now - each*int64(perMinute); early > 0 {
			return time.Duration(early)
		}
		if q.full.CompareAndSwap(full, next) {
			return 0
		}
	}
}

// charge counts the request as one of its caller's, until discharge.
func (a *arrival) charge() error {
	c := a.caller
	if c == nil {
		return nil
	}
	if !c.enter(c.token.Concurrency) {
		wait := time.Duration(0)
		if a.end != nil {
			wait = a.end.gate.ExpectedWait()
		}
		return &spentError{worded(errCallerQuota, "caller %s has %d requests inside already, its concurrency", c.name, c.token.Concurrency), wait}
	}
	if c.token.RequestsPerMinute > 0 {
		if wait := c.spend(c.token.RequestsPerMinute, int64(time.Since(processStart))); wait > 0 {
			c.inside.Add(-1)
			return &spentError{worded(errCallerQuota, "caller %s has made its %d requests a minute", c.name, c.token.RequestsPerMinute), wait}
		}
	}
	a.charged = true
	return nil
}

// discharge ends what charge began.
func (a *arrival) discharge() {
	if a.charged {
		a.charged = false
		a.caller.inside.Add(-1)
	}
}

// newCallers returns the callers that c configures. Who is new gets the lowest number that is free; who is configured no
// more is forgotten once nothing of it is inside. It is called under p.mu.
func (p *Proxy) newCallers(c Config, providers []string) []caller {
	configured := map[string]bool{}
	for i := range c.Auth.Tokens {
		configured[c.Auth.Tokens[i].name(i)] = true
	}
	var taken []uint32
	for name, q := range p.standings {
		if !configured[name] && q.inside.Load() == 0 {
			delete(p.standings, name)
		} else {
			taken = append(taken, q.number)
		}
	}
	callers := make([]caller, 0, len(c.Auth.Tokens))
	for i, token := range c.Auth.Tokens {
		name := token.name(i)
		if p.standings[name] == nil {
			number := uint32(0)
			for slices.Contains(taken, number) {
				number++
			}
			taken = append(taken, number)
			p.standings[name] = &standing{name: name, number: number}
		}
		callers = append(callers, newCaller(p.standings[name], token, providers))
	}
	return callers
}

// request says to a gate who asks. Without tokens there is one caller.
func (c *caller) request() limiter.Request {
	if c == nil {
		return limiter.Request{}
	}
	return limiter.Request{Caller: c.number % edgeItself.Caller}
}

// claim takes one of the caller's share of what the provider has room for. ok false means that the caller has its share
// already, and others have been refused. Who calls without a token, or has the only one, needs no share.
func (a *arrival) claim() (claimed *limiter.Shares, ok bool) {
	shares := a.end.shares
	if shares == nil {
		return nil, true
	}
	if !shares.Take(a.caller.request(), room(&a.gen.config, &a.end.config), time.Since(processStart)) {
		return nil, false
	}
	return shares, true
}

// claimOnce is claim for an exchange that may have one. It returns limiter.ErrFull in words.
func (x *exchange) claimOnce() (err error) {
	if x.claimed != nil {
		return nil
	}
	var ok bool
	if x.claimed, ok = x.claim(); !ok {
		x.turnedAway()
		return worded(limiter.ErrFull, "caller %s has its share of the queue of %s, and others are refused", x.caller.name, x.end.name)
	}
	return nil
}

// unclaim gives back what claim took. It may be called again.
func (x *exchange) unclaim() {
	if x.claimed != nil {
		x.claimed.Give(x.caller.request())
		x.claimed = nil
	}
}

// turnedAway notes that the caller found no room at the provider, and for how long it is told to stay away.
func (x *exchange) turnedAway() {
	if shares := x.end.shares; shares != nil {
		shares.Refused(x.caller.request(), time.Since(processStart), x.end.gate.ExpectedWait())
	}
}

// room is how many requests may be at a provider, those that are blocked included.
func room(c *Config, p *Provider) int {
	if c.DropExcessRequests {
		return p.Concurrency + p.BufferSize
	}
	return p.Concurrency + p.BufferSize + c.MaxBlocked
}

// CallerStatus is one caller's part of Status: a token's.
type CallerStatus struct {
	Name              string `json:"name"`
	Inside            int64  `json:"inside"`              // requests inside right now
	Concurrency       int    `json:"concurrency"`         // the most that Inside may be; 0 means no limit
	RequestsPerMinute int    `json:"requests_per_minute"` // 0 means no limit
	Refused           uint64 `json:"refused"`             // requests that Edge refused or could not complete
}

// callerStatus is what goes on now, in the order of the configuration; then who is configured no more and still inside.
func (p *Proxy) callerStatus() []CallerStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := []CallerStatus{}
	for _, name := range p.callerNames() {
		q := p.standings[name]
		one := CallerStatus{Name: name, Inside: q.inside.Load(), Refused: q.refused.Load()}
		for i := range p.config.Auth.Tokens {
			if token := &p.config.Auth.Tokens[i]; token.name(i) == name {
				one.Concurrency, one.RequestsPerMinute = token.Concurrency, token.RequestsPerMinute
			}
		}
		out = append(out, one)
	}
	return out
}

// callerNames is who is counted, sorted. It is called under p.mu.
func (p *Proxy) callerNames() []string {
	names := make([]string, 0, len(p.standings))
	for name := range p.standings {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// perCaller writes a counter of each caller.
func perCaller(value func(*standing) uint64) func(*Proxy, *snapshot) {
	return func(_ *Proxy, s *snapshot) {
		for _, q := range s.callers {
			s.counter(fmt.Sprintf("{caller=%q}", q.name), value(q))
		}
	}
}
