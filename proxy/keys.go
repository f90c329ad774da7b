package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// asideFor is how long a key is left alone that the provider does not take.
const asideFor = 10 * time.Minute

// keyRing is a provider's keys, as one generation has them.
type keyRing struct {
	keys   []ringKey // those that are enabled
	sticky bool
	quota  *quota
}

// ringKey is one of them.
type ringKey struct {
	Key
	*keyState
	name string // its own, or its place: never its value
}

// keyState is what is known of a key. It outlives generations as long as they have a key of that value.
type keyState struct {
	id    uint64        // tells keys apart in this process; not made of the value alone
	aside atomic.Uint64 // until when it is not used, as now tells it
}

// newKeyRing makes the ring of a provider's configuration, with what is known of keys that it had before.
func newKeyRing(c Provider, q *quota) *keyRing {
	ring := &keyRing{sticky: c.StickyKeys, quota: q}
	q.mu.Lock()
	defer q.mu.Unlock()
	states := map[[sha256.Size]byte]*keyState{}
	for i, key := range c.Keys {
		if !key.enabled() {
			continue
		}
		hash := sha256.Sum256([]byte(key.Value.Reveal()))
		state := states[hash]
		if state == nil {
			if state = q.keys[hash]; state == nil {
				state = &keyState{id: laneKeyOf(key.Value.Reveal())}
			}
			states[hash] = state
		}
		name := key.Name
		if name == "" {
			name = "keys[" + strconv.Itoa(i) + "]"
		}
		ring.keys = append(ring.keys, ringKey{key, state, name})
	}
	q.keys = states
	return ring
}

var errNoKeyFits = errors.New("proxy: no key fits the model")

// choose returns the key for a request for model, nil when there are none at all. Of those that fit, keys that can serve now
// are preferred to those that rest, of which the one with the shortest wait is taken, and both to those set aside: when nothing
// else is left, the provider's own answer explains best. caller is what a sticky ring goes by.
func (r *keyRing) choose(model string, caller uint64, at time.Time) (*ringKey, error) {
	if key, only := r.only(); only {
		return key, nil
	}
	total, fitting := 0.0, false
	for i := range r.keys {
		if k := &r.keys[i]; fits(&k.Key, model) {
			total, fitting = total+k.Weight, true
		}
	}
	if !fitting {
		return nil, errNoKeyFits
	}
	var best *ringKey
	rank, weights, score := time.Duration(math.MaxInt64), 0.0, 0.0
	for i := range r.keys {
		k := &r.keys[i]
		weight := k.Weight
		if total == 0 { // nobody gave weights
			weight = 1
		}
		if weight == 0 || !fits(&k.Key, model) {
			continue
		}
		own := r.rank(k, model, at)
		if own > rank {
			continue
		}
		if own < rank {
			best, rank, weights, score = nil, own, 0, 0
		}
		if r.sticky { // rendezvous hashing: a key that rests moves its own callers only
			if s := weight / -math.Log(unit(caller, k.id)); best == nil || s > score {
				best, score = k, s
			}
		} else if weights += weight; best == nil || rand.Float64()*weights < weight {
			best = k
		}
	}
	return best, nil
}

// only returns the key of a ring that leaves no choice, as most do: that of all models, or nil when there is none.
func (r *keyRing) only() (key *ringKey, only bool) {
	switch {
	case len(r.keys) == 0:
		return nil, true
	case len(r.keys) == 1 && len(r.keys[0].Models) == 0:
		return &r.keys[0], true
	}
	return nil, false
}

// rank is 0 for a key that can serve now, else its wait, or more than any for one that is set aside.
func (r *keyRing) rank(k *ringKey, model string, at time.Time) time.Duration {
	if k.isAside(at) {
		return 2 * maxAnnounced
	}
	return r.quota.wait(laneID{k.id, model}, at)
}

func (k *keyState) isAside(at time.Time) bool {
	until := k.aside.Load()
	return until != 0 && moment(at) < until
}

// unit is a number above 0 and below 1 made of two others.
func unit(a, b uint64) float64 {
	var text [16]byte
	binary.LittleEndian.PutUint64(text[:8], a)
	binary.LittleEndian.PutUint64(text[8:], b)
	return (float64(maphash.Bytes(laneSeed, text[:])>>12) + .5) / (1 << 52)
}

// fits reports whether a key may be used for model. An unknown model is the provider's to refuse.
func fits(k *Key, model string) bool {
	return len(k.Models) == 0 || model == "" || slices.Contains(k.Models, model)
}

// keyRings are the keys that stand in the configuration.
type keyRings map[string]*endpoint

// Key is as KeySource says.
func (k keyRings) Key(provider, model string) (Secret, error) {
	key, err := k[provider].ring.choose(model, 0, time.Now())
	if key == nil {
		return "", err
	}
	return key.Value, nil
}

// chooseKey takes the key for this attempt, unless pace has taken it already.
func (x *exchange) chooseKey() error {
	if x.pacing.keyed {
		return nil
	}
	return x.takeKey(x.model)
}

func (x *exchange) takeKey(model string) (err error) {
	x.pacing.key, x.pacing.keyed = nil, true
	if _, own := x.gen.keys.(keyRings); own {
		key, only := x.end.ring.only()
		if !only { // the clock is not read before
			key, err = x.end.ring.choose(model, x.callerNumber(), time.Now())
		}
		if err == nil {
			x.pacing.key, x.key = key, ""
			if key != nil {
				x.key = key.Value
			}
			return nil
		}
	} else if x.key, err = x.gen.keys.Key(x.end.name, x.model); err == nil {
		return nil
	}
	return worded(errKeySource, "there is no key for %s", x.end.name)
}

// callerNumber tells callers apart for sticky keys: by their token, else by their address.
func (x *exchange) callerNumber() uint64 {
	if x.turn != 0 || !x.end.ring.sticky {
		return uint64(x.turn)
	}
	host, _, err := net.SplitHostPort(x.r.RemoteAddr)
	if err != nil {
		host = x.r.RemoteAddr
	}
	return maphash.String(laneSeed, host)
}

// keyRest is how long it takes at least until some key of x's provider can serve a request for x's model: 0 when one can now,
// or when nothing is known.
func (x *exchange) keyRest() time.Duration {
	if !x.end.quota.engaged.Load() {
		return 0
	}
	at, model := time.Now(), x.laneModel()
	if _, own := x.gen.keys.(keyRings); !own || len(x.end.ring.keys) == 0 {
		return x.end.quota.wait(x.laneID(model), at)
	}
	least, known := time.Duration(math.MaxInt64), false
	for i := range x.end.ring.keys {
		k := &x.end.ring.keys[i]
		if !fits(&k.Key, model) || k.isAside(at) && len(x.end.ring.keys) > 1 {
			continue
		}
		least, known = min(least, x.end.ring.rank(k, model, at)), true
	}
	if !known { // all are set aside: waiting changes nothing
		return 0
	}
	return min(least, maxAnnounced)
}

// judgeKey takes from an answer's status whether the provider takes the key.
func (x *exchange) judgeKey(status int) {
	key := x.pacing.key
	if key == nil {
		return
	}
	if status != http.StatusUnauthorized && status != http.StatusForbidden {
		if status < 300 && key.aside.Load() != 0 { // it serves after all
			key.aside.Store(0)
		}
		return
	}
	before := key.aside.Swap(moment(time.Now().Add(asideFor)))
	if before == 0 || now() >= before {
		x.p.log.LogAttrs(context.Background(), slog.LevelWarn, "provider does not take a key; it is set aside for 10 minutes, or until it is changed",
			slog.String(keyProvider, x.end.name), slog.String(keyKey, key.name), slog.Int(keyStatus, status))
	}
}
