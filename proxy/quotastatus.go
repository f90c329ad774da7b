package proxy

import (
	"fmt"
	"time"

	"github.com/edge-proxy/edge/limiter"
)

// maxQuotaStatus is how many lanes of a provider Status shows.
const maxQuotaStatus = 100

// QuotaStatus is what is known of one key's quota for one model.
type QuotaStatus struct {
	Key     string  `json:"key"`   // its name or place; caller: the callers' own
	Model   string  `json:"model"` // empty when it is not known
	Waiting int     `json:"waiting"`
	Refused uint64  `json:"refused"`         // answers 429
	RestSec float64 `json:"resting_seconds"` // what is left of the wait that a 429 has asked for

	Levels []LevelStatus `json:"levels"`
}

// LevelStatus is one dimension of a quota: requests, tokens, input_tokens or output_tokens.
type LevelStatus struct {
	Dimension string  `json:"dimension"`
	Limit     int64   `json:"limit"`
	Remaining int64   `json:"remaining"`
	ResetSec  float64 `json:"reset_seconds"` // until it is full again
}

// KeyStatus is what is known of one key.
type KeyStatus struct {
	Name     string  `json:"name"`
	RestSec  float64 `json:"resting_seconds"`   // the longest that one of its models rests after a 429
	AsideSec float64 `json:"set_aside_seconds"` // how long it is not used any more, after a 401 or 403
}

func (q *quota) status(at time.Time) []QuotaStatus {
	out := []QuotaStatus{}
	lanes := q.all()
	for _, l := range lanes[:min(len(lanes), maxQuotaStatus)] {
		l.mu.Lock()
		one := QuotaStatus{Key: l.name, Model: l.id.model, Waiting: l.waiting, Refused: l.refused.Load(), Levels: []LevelStatus{}}
		l.mu.Unlock()
		one.RestSec = l.ledger.Rest(at).Seconds()
		for d, level := range l.ledger.Stats(at) {
			if level.Known {
				one.Levels = append(one.Levels, LevelStatus{limiter.Dimension(d).String(), level.Limit, level.Remaining, level.Reset.Seconds()})
			}
		}
		out = append(out, one)
	}
	return out
}

func (r *keyRing) status(at time.Time) []KeyStatus {
	out := []KeyStatus{}
	rests := map[uint64]time.Duration{}
	for _, l := range r.quota.all() {
		rests[l.id.key] = max(rests[l.id.key], l.ledger.Rest(at))
	}
	for i := range r.keys {
		k := &r.keys[i]
		one := KeyStatus{Name: k.name, RestSec: rests[k.id].Seconds()}
		if until := k.aside.Load(); until > moment(at) {
			one.AsideSec = float64(until-moment(at)) / 1e6
		}
		out = append(out, one)
	}
	return out
}

// setAside is how many keys are.
func (q *quota) setAside(at time.Time) (count int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, k := range q.keys {
		if k.isAside(at) {
			count++
		}
	}
	return count
}

// tightest is what is left of each dimension where the least is, by its share.
func (q *quota) tightest(at time.Time) (out [limiter.Dimensions]limiter.LevelStats) {
	for _, l := range q.all() {
		for d, level := range l.ledger.Stats(at) {
			least := &out[d]
			if level.Known && (!least.Known || float64(level.Remaining)*float64(least.Limit) < float64(least.Remaining)*float64(level.Limit)) {
				*least = level
			}
		}
	}
	return out
}

// perQuota is a gauge of each provider's tightest quota, by dimension; nothing where nothing was announced.
func perQuota(value func(limiter.LevelStats) int64) func(*Proxy, *snapshot) {
	return perProvider(func(s *snapshot, of *provider) {
		for d, level := range of.quota.tightest(time.Now()) {
			if level.Known {
				s.gauge(fmt.Sprintf("{provider=%q,dimension=%q}", of.name, limiter.Dimension(d)), value(level))
			}
		}
	})
}
