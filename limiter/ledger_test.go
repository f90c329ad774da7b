package limiter

import (
	"container/heap"
	"math/rand/v2"
	"testing"
	"time"
)

type quotaWorldConfig struct {
	window   bool
	limit    int
	period   time.Duration
	latency  time.Duration
	callers  int
	rounding time.Duration // of Reset, upwards
	wholes   bool          // a refusal's wait is rounded up to seconds, too
	late     bool          // the head is written with the answer, not with the decision
	length   time.Duration
}

// quotaWorld is a provider that enforces a quota, for callers that go by a Ledger.
type quotaWorld struct {
	quotaWorldConfig

	now    time.Time
	events quotaEvents
	rng    *rand.Rand

	// The provider's.
	tokens float64
	at     time.Time
	end    time.Time

	sent, refused, accepted int // after the first second
	began                   time.Time
	ledger                  Ledger
	engaged                 bool
}

type quotaEvent struct {
	at time.Time
	n  int
	do func()
}

type quotaEvents []quotaEvent

func (q quotaEvents) Len() int { return len(q) }
func (q quotaEvents) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].n < q[j].n
}
func (q quotaEvents) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *quotaEvents) Push(x any)   { *q = append(*q, x.(quotaEvent)) }
func (q *quotaEvents) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

func (w *quotaWorld) after(d time.Duration, do func()) {
	w.events.Push(quotaEvent{w.now.Add(d), w.rng.Int(), do})
	heap.Fix(&w.events, len(w.events)-1)
}

// head is what the provider says now.
func (w *quotaWorld) head() (levels Levels) {
	w.advance()
	reset := time.Duration((float64(w.limit) - w.tokens) / float64(w.limit) * float64(w.period))
	if w.window {
		reset = w.end.Sub(w.now)
	}
	if w.rounding > 0 {
		reset = (reset + w.rounding - 1) / w.rounding * w.rounding
	}
	levels[Requests] = Level{Said: SaidLimit | SaidRemaining | SaidReset, Limit: int64(w.limit), Remaining: int64(w.tokens), Reset: reset}
	return levels
}

func (w *quotaWorld) advance() {
	if w.window {
		for !w.now.Before(w.end) {
			w.end, w.tokens = w.end.Add(w.period), float64(w.limit)
		}
		return
	}
	w.tokens = min(float64(w.limit), w.tokens+w.now.Sub(w.at).Seconds()*float64(w.limit)/w.period.Seconds())
	w.at = w.now
}

// run lets the callers ask one request after the other for a while.
func (w *quotaWorld) run(seed uint64) {
	w.rng = rand.New(rand.NewPCG(seed, 1))
	w.now = time.Date(2030, 1, 1, 0, 0, 0, int(w.rng.Int64N(1e9)), time.UTC)
	w.began, w.at, w.tokens = w.now, w.now, float64(w.limit)
	w.end = w.now.Add(time.Duration(w.rng.Int64N(int64(w.period)) + 1))
	l := &w.ledger
	var next func()
	next = func() {
		t, wait, ok := l.Sent(w.now), Wait{}, !w.engaged // before anybody knows of the ledger
		if !ok {
			t, wait, ok = l.Take(w.now, Cost{Requests: 1})
		}
		if !ok {
			w.after(wait.For+time.Duration(w.rng.Int64N(1e6)), next)
			return
		}
		counted := w.now.Sub(w.began) >= time.Second
		w.after(time.Millisecond+time.Duration(w.rng.Int64N(int64(4*time.Millisecond))), func() { // arrives
			w.advance()
			ok := w.tokens >= 1
			if ok {
				w.tokens--
			}
			levels := w.head()
			if counted {
				w.sent++
				if !ok {
					w.refused++
				}
			}
			if ok {
				w.accepted++
			}
			if !ok {
				wait := levels[Requests].Reset
				if !w.window {
					wait = time.Duration((1 - w.tokens) * float64(w.period) / float64(w.limit))
				}
				if w.wholes {
					wait = (wait + time.Second - 1) / time.Second * time.Second
				}
				w.after(time.Millisecond, func() { w.engaged = true; l.Refused(t, w.now, wait, &levels); next() })
				return
			}
			w.after(time.Duration(float64(w.latency)*(.8+.4*w.rng.Float64())), func() {
				if w.late {
					levels = w.head()
				}
				w.engaged = true
				l.Observe(t, w.now, &levels)
				next()
			})
		})
	}
	for range w.callers {
		w.after(time.Duration(w.rng.Int64N(1e7)), next)
	}
	heap.Init(&w.events)
	for w.now.Sub(w.began) < w.length {
		e := heap.Pop(&w.events).(quotaEvent)
		w.now = e.at
		e.do()
	}
}

// measured is the worst share of requests refused after the first second, and the least used of what can be, of some runs.
func (w quotaWorldConfig) measured(seeds uint64) (refused, used float64) {
	used = 1
	for seed := range seeds {
		one := quotaWorld{quotaWorldConfig: w}
		one.run(seed)
		seconds := w.length.Seconds()
		possible := min(float64(w.limit)/w.period.Seconds()*seconds, float64(w.callers)/(w.latency.Seconds()+.003)*seconds)
		used = min(used, float64(one.accepted)/possible)
		if one.refused > 2 { // of few, two are many percent
			refused = max(refused, float64(one.refused)/float64(one.sent))
		}
	}
	return refused, used
}

func TestLedgerKeepsToTheQuotaAndUsesIt(t *testing.T) {
	seeds := uint64(3)
	if testing.Short() {
		seeds = 1
	}
	f := func(w quotaWorldConfig, mostRefused, leastUsed float64) {
		t.Helper()
		w.length = max(60*time.Second, 6*w.period)
		seeds := seeds
		if mostRefused > .02 {
			seeds = 1
		}
		if refused, used := w.measured(seeds); refused > mostRefused || used < leastUsed {
			t.Errorf("%+v: %.1f %% refused, %.1f %% used, want %.1f at most and %.1f", w, 100*refused, 100*used, 100*mostRefused, 100*leastUsed)
		}
	}
	for _, window := range []bool{false, true} {
		for _, latency := range []time.Duration{5 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second} {
			for _, callers := range []int{1, 5, 50} {
				w := quotaWorldConfig{window: window, latency: latency, callers: callers}
				for _, q := range []quotaWorldConfig{{limit: 10, period: time.Second}, {limit: 500, period: time.Minute}} {
					w.limit, w.period = q.limit, q.period
					f(w, .01, .9)
					w.wholes = true
					f(w, .02, .9)
					w.wholes = false
				}
				// Not what providers usually have, and announcements that say less.
				for _, q := range []quotaWorldConfig{
					{limit: 3, period: time.Second},
					{limit: 60, period: time.Minute},
					{limit: 25, period: 2500 * time.Millisecond},
					{limit: 10, period: time.Second, rounding: time.Second},
					{limit: 500, period: time.Minute, rounding: time.Second},
					{limit: 10, period: time.Second, late: true},
					{limit: 500, period: time.Minute, late: true},
				} {
					w.limit, w.period, w.rounding, w.late = q.limit, q.period, q.rounding, q.late
					least := .8
					if w.rounding == w.period { // a Reset that is always 1
						least = .4
					}
					f(w, .08, least)
				}
			}
		}
	}
}
