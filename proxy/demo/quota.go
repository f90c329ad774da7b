package demo

import (
	"crypto/sha256"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"
)

// maxKeys bounds the accounts. Further keys share one, until others have been idle for as long as the longest limit.
const maxKeys = 10_000

const day = 24 * time.Hour

// bound is one limit of every key.
type bound struct {
	name   string // requests, tokens, input-tokens or output-tokens
	limit  int64  // a window; at least 1
	window time.Duration
	fixed  bool // windows begin at whole multiples of their length, and all comes back at once; else it does so evenly
	hidden bool // enforced, but not announced
	lie    bool // announced, but not enforced
}

// bounds are the limits that c sets.
func (c *Config) bounds() (list []bound) {
	add := func(b bound) {
		if b.limit == 0 {
			return
		}
		list = append(list, b)
		if c.Announce == "azure" && b.name == "requests" && !b.lie {
			// https://learn.microsoft.com/azure/ai-foundry/openai/how-to/quota: a minute's requests are expected evenly.
			list = append(list, bound{name: b.name, limit: max(1, b.limit/10), window: b.window / 10, fixed: true, hidden: true})
		}
	}
	lying := c.AnnouncedPerMinute > 0
	add(bound{name: "requests", limit: int64(c.AnnouncedPerMinute), window: time.Minute, lie: true})
	add(bound{name: "requests", limit: int64(c.RequestsPerMinute), window: time.Minute, hidden: lying})
	add(bound{name: "requests", limit: int64(c.RequestsPerWindow), window: c.Window, fixed: c.FixedWindow, hidden: lying})
	add(bound{name: "tokens", limit: int64(c.TokensPerMinute), window: time.Minute})
	add(bound{name: "input-tokens", limit: int64(c.InputTokensPerMinute), window: time.Minute})
	add(bound{name: "output-tokens", limit: int64(c.OutputTokensPerMinute), window: time.Minute})
	return list
}

// quotas holds an account for each key. An account starts full.
type quotas struct {
	bounds  []bound
	longest time.Duration // of the windows

	mu       sync.Mutex
	accounts map[[sha256.Size]byte]*account
	shared   *account
	swept    time.Time
}

// account says what of each bound was spent and has not come back, in units times nanoseconds: whole numbers that
// Config.Validate keeps below 2^63.
type account struct {
	spent []int64
	at    time.Time
}

func newQuotas(bounds []bound) *quotas {
	q := &quotas{bounds: bounds, accounts: map[[sha256.Size]byte]*account{}, shared: &account{spent: make([]int64, len(bounds))}}
	for i := range bounds {
		q.longest = max(q.longest, bounds[i].window)
	}
	return q
}

// verdict is what became of one request.
type verdict struct {
	levels  []level // one for each bound
	refused *level  // the one that lasts longest, or nil when the request may go on
	now     time.Time
}

// take spends one request of a prompt and an answer of so many tokens from the account of key, or nothing of any.
func (q *quotas) take(key string, prompt, answer int) *verdict {
	sum := sha256.Sum256([]byte(key))
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	a := q.account(sum, now)
	v := &verdict{now: now, levels: make([]level, len(q.bounds))}
	for i := range v.levels {
		l := &v.levels[i]
		*l = level{bound: &q.bounds[i], spent: a.spent[i], cost: 1}
		switch l.name {
		case "tokens":
			l.cost = int64(prompt) + int64(answer)
		case "input-tokens":
			l.cost = int64(prompt)
		case "output-tokens":
			l.cost = int64(answer)
		}
		l.refill(a.at, now)
		if !l.lie && l.wait() > 0 && (v.refused == nil || l.wait() > v.refused.wait()) {
			v.refused = l
		}
	}
	a.at = now
	for i := range v.levels {
		l := &v.levels[i]
		if v.refused == nil {
			l.spent = min(l.spent+l.cost*int64(l.window), l.limit*int64(l.window))
		}
		a.spent[i] = l.spent
	}
	return v
}

func (q *quotas) account(sum [sha256.Size]byte, now time.Time) *account {
	if a := q.accounts[sum]; a != nil {
		return a
	}
	if len(q.accounts) >= maxKeys && now.Sub(q.swept) >= time.Second {
		q.swept = now
		for sum, a := range q.accounts {
			if now.Sub(a.at) >= q.longest {
				delete(q.accounts, sum) // full again, as a new one is
			}
		}
	}
	if len(q.accounts) >= maxKeys {
		return q.shared
	}
	a := &account{spent: make([]int64, len(q.bounds)), at: now}
	q.accounts[sum] = a
	return a
}

// level is one bound of one key, what was spent of it, and what the present request costs.
type level struct {
	*bound
	cost  int64
	spent int64         // as in account
	left  time.Duration // until the present window ends, if it is fixed
}

// refill takes from what was spent what has come back since then.
func (l *level) refill(then, now time.Time) {
	if !l.fixed {
		l.spent = max(0, l.spent-int64(min(now.Sub(then), l.window))*l.limit)
		return
	}
	window, at := int64(l.window), now.UnixNano()
	if at/window != then.UnixNano()/window {
		l.spent = 0
	}
	l.left = time.Duration(window - at%window)
}

func (l *level) remaining() int64 { return (l.limit*int64(l.window) - l.spent) / int64(l.window) }

// reset is the time until nothing is spent.
func (l *level) reset() time.Duration {
	switch {
	case l.spent == 0:
		return 0
	case l.fixed:
		return l.left
	}
	return time.Duration((l.spent + l.limit - 1) / l.limit)
}

// wait is the time until the cost can be paid: 0 for now, forever when it is over the limit.
func (l *level) wait() time.Duration {
	if l.cost > l.limit {
		return forever
	}
	over := max(0, l.spent-(l.limit-l.cost)*int64(l.window))
	if l.fixed && over > 0 {
		return l.left
	}
	return time.Duration((over + l.limit - 1) / l.limit)
}

const forever = time.Duration(math.MaxInt64)

// announced returns what is said of the named limit, nil when there is nothing to say. Of several, it is the one of
// which the smallest share remains.
func (v *verdict) announced(name string) (tightest *level) {
	for i := range v.levels {
		l := &v.levels[i]
		if l.hidden || l.name != name {
			continue
		}
		if tightest == nil || float64(l.remaining())/float64(l.limit) < float64(tightest.remaining())/float64(tightest.limit) {
			tightest = l
		}
	}
	return tightest
}

// rateError is the answer to a request that v refuses.
func rateError(v *verdict) *apiError {
	l := v.refused
	e := &apiError{status: http.StatusTooManyRequests, kind: "requests", code: "rate_limit_exceeded", verdict: v}
	if l.name != "requests" {
		e.kind = "tokens"
	}
	wait := l.wait()
	if wait == forever {
		e.final = true
		e.message = fmt.Sprintf("Request too large for this key on %s: Limit %d, Requested %d.", l.unit(), l.limit, l.cost)
		return e
	}
	e.retryAfter = wait
	e.message = fmt.Sprintf("Rate limit reached for this key on %s: Limit %d, Used %d, Requested %d. Please try again in %s.",
		l.unit(), l.limit, l.limit-l.remaining(), l.cost, wholeMillis(wait))
	return e
}

// unit names the limit as OpenAI's messages do.
func (b *bound) unit() string {
	per := "per " + b.window.String()
	switch b.window {
	case time.Minute:
		per = "per min"
	case day:
		per = "per day"
	}
	name := b.name
	short := map[string]string{
		"requests per min": " (RPM)", "requests per day": " (RPD)", "tokens per min": " (TPM)",
	}[name+" "+per]
	return name + " " + per + short
}

// wholeMillis rounds up.
func wholeMillis(d time.Duration) time.Duration {
	return time.Duration(roundUp(d, time.Millisecond)) * time.Millisecond
}
