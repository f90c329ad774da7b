package demo

import (
	"crypto/sha256"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// maxKeys bounds the accounts. Further keys share one, until others have been idle for a minute.
const maxKeys = 10_000

// quotas holds an account for each key. An account starts full and refills evenly within a minute.
type quotas struct {
	requests, tokens int64 // a minute; 0 means no limit

	mu       sync.Mutex
	accounts map[[sha256.Size]byte]*account
	shared   account
	swept    time.Time
}

// account says what was spent and has not come back, in units times nanoseconds: whole numbers that a limit of
// maxPerMinute keeps below 2^63.
type account struct {
	requests, tokens int64
	at               time.Time
}

func newQuotas(requests, tokens int) *quotas {
	return &quotas{requests: int64(requests), tokens: int64(tokens), accounts: map[[sha256.Size]byte]*account{}}
}

// verdict is what became of one request.
type verdict struct {
	levels  [2]level // requests, tokens
	refused *level   // the one that lasts longest, or nil when the request may go on
	now     time.Time
}

// take spends one request and so many tokens from the account of key, or nothing of either.
func (q *quotas) take(key string, tokens int) *verdict {
	sum := sha256.Sum256([]byte(key))
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	a := q.account(sum, now)
	elapsed := int64(min(now.Sub(a.at), time.Minute))
	a.at = now
	v := &verdict{now: now, levels: [2]level{
		{name: "requests", limit: q.requests, cost: 1, spent: max(0, a.requests-elapsed*q.requests)},
		{name: "tokens", limit: q.tokens, cost: int64(tokens), spent: max(0, a.tokens-elapsed*q.tokens)},
	}}
	for i := range v.levels {
		if l := &v.levels[i]; l.wait() > 0 && (v.refused == nil || l.wait() > v.refused.wait()) {
			v.refused = l
		}
	}
	if v.refused == nil {
		v.levels[0].spend()
		v.levels[1].spend()
	}
	a.requests, a.tokens = v.levels[0].spent, v.levels[1].spent
	return v
}

func (q *quotas) account(sum [sha256.Size]byte, now time.Time) *account {
	if a := q.accounts[sum]; a != nil {
		return a
	}
	if len(q.accounts) >= maxKeys && now.Sub(q.swept) >= time.Second {
		q.swept = now
		for sum, a := range q.accounts {
			if now.Sub(a.at) >= time.Minute {
				delete(q.accounts, sum) // full again, as a new one is
			}
		}
	}
	if len(q.accounts) >= maxKeys {
		return &q.shared
	}
	a := new(account)
	q.accounts[sum] = a
	return a
}

// level is one limit, what was spent of it, and what the present request costs.
type level struct {
	name  string // requests or tokens
	limit int64  // a minute; 0 means none, and then nothing is spent
	cost  int64
	spent int64 // as in account
}

const minute = int64(time.Minute)

func (l *level) spend() {
	if l.limit > 0 {
		l.spent += l.cost * minute
	}
}

func (l *level) remaining() int64 { return (l.limit*minute - l.spent) / minute }

// reset is the time until nothing is spent.
func (l *level) reset() time.Duration { return time.Duration((l.spent + l.limit - 1) / l.limit) }

// wait is the time until the cost can be paid: 0 for now, forever when it is over the limit.
func (l *level) wait() time.Duration {
	if l.limit == 0 {
		return 0
	}
	if l.cost > l.limit {
		return forever
	}
	over := max(0, l.spent-(l.limit-l.cost)*minute)
	return time.Duration((over + l.limit - 1) / l.limit)
}

const forever = time.Duration(math.MaxInt64)

// announce says in h what is left of each limit.
func (v *verdict) announce(h http.Header, anthropic bool) {
	for i := range v.levels {
		l := &v.levels[i]
		if l.limit == 0 {
			continue
		}
		limit, remaining := strconv.FormatInt(l.limit, 10), strconv.FormatInt(l.remaining(), 10)
		if anthropic {
			prefix := "Anthropic-Ratelimit-" + l.name
			h.Set(prefix+"-Limit", limit)
			h.Set(prefix+"-Remaining", remaining)
			// Seconds are all that the format holds; up, so that the moment named is not too early.
			reset := v.now.Add(l.reset() + time.Second - 1).Truncate(time.Second)
			h.Set(prefix+"-Reset", reset.UTC().Format(time.RFC3339))
			continue
		}
		h.Set("X-Ratelimit-Limit-"+l.name, limit)
		h.Set("X-Ratelimit-Remaining-"+l.name, remaining)
		h.Set("X-Ratelimit-Reset-"+l.name, wholeMillis(l.reset()).String())
	}
}

// rateError is the answer to a request for which l has not enough left.
func rateError(l *level) *apiError {
	e := &apiError{status: http.StatusTooManyRequests, kind: l.name, code: "rate_limit_exceeded"}
	unit := "requests per min (RPM)"
	if l.name == "tokens" {
		unit = "tokens per min (TPM)"
	}
	wait := l.wait()
	if wait == forever {
		e.final = true
		e.message = fmt.Sprintf("Request too large for this key on %s: Limit %d, Requested %d.", unit, l.limit, l.cost)
		return e
	}
	e.retryAfter = wait
	e.message = fmt.Sprintf("Rate limit reached for this key on %s: Limit %d, Used %d, Requested %d. Please try again in %s.",
		unit, l.limit, l.limit-l.remaining(), l.cost, wholeMillis(wait))
	return e
}

// wholeMillis rounds up.
func wholeMillis(d time.Duration) time.Duration {
	return time.Duration(roundUp(d, time.Millisecond)) * time.Millisecond
}
