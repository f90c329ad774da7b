package proxy

import (
	"errors"
	"time"
	"unsafe"
)

// Status is what goes on at one moment.
type Status struct {
	Version   string           `json:"version"`
	UptimeSec float64          `json:"uptime_seconds"`
	Draining  bool             `json:"draining"`
	Requests  int64            `json:"requests"` // inside right now
	Buffered  int64            `json:"buffered_bytes"`
	Upgraded  int64            `json:"upgraded_connections"`
	Providers []ProviderStatus `json:"providers"`
	Callers   []CallerStatus   `json:"callers"`
	Arena     []ClassStatus    `json:"arena"`
}

// ProviderStatus is one provider's part of Status.
type ProviderStatus struct {
	Name           string  `json:"name"`
	BaseURL        string  `json:"base_url"`
	InFlight       int     `json:"in_flight"`
	Concurrency    int     `json:"concurrency"`
	Waiting        int     `json:"waiting"`
	BufferSize     int     `json:"buffer_size"`
	Blocked        int     `json:"blocked"`
	MaxBlocked     int     `json:"max_blocked"`
	ExpectedWaitMS float64 `json:"expected_wait_ms"`
	Retries        uint64  `json:"retries"`
	Fallbacks      uint64  `json:"fallbacks"` // to this provider
	Answered       uint64  `json:"answered"`
	Refused        uint64  `json:"refused"`
	ClientGone     uint64  `json:"client_gone"`

	Replicas []ReplicaStatus `json:"replicas"`
	Quotas   []QuotaStatus   `json:"quotas"` // what the provider has announced; those used last, maxQuotaStatus at most
	Keys     []KeyStatus     `json:"keys"`   // those that stand in the configuration and are enabled
}

// ReplicaStatus is one base URL of a provider.
type ReplicaStatus struct {
	BaseURL  string  `json:"base_url"`
	InFlight int64   `json:"in_flight"`
	Failures uint32  `json:"failures"`     // in a row
	OpenSec  float64 `json:"open_seconds"` // until a request is let through again; 0 while the breaker is closed
}

// ClassStatus is one of the arena's classes.
type ClassStatus struct {
	Class     string `json:"class"`
	Slots     int    `json:"slots"`
	SlotBytes int    `json:"slot_bytes"`
	InUse     int    `json:"in_use"`
	Overflows uint64 `json:"overflows"`
}

// Status returns what goes on now. The numbers of one provider's gate belong together; those of different
// providers may be moments apart.
func (p *Proxy) Status() Status {
	s := p.snapshot()
	out := Status{
		Version: p.version, UptimeSec: time.Since(processStart).Seconds(), Draining: p.draining.Load(),
		Requests: p.inside.Load(), Buffered: p.buffered.Load(), Upgraded: p.upgraded.Load(), Providers: []ProviderStatus{},
	}
	out.Callers = p.callerStatus()
	endpoints := p.current.Load().endpoints
	for i, gate := range s.gates {
		of := s.providers[i]
		one := ProviderStatus{
			Name: of.name, InFlight: gate.InFlight, Concurrency: gate.Limit, Waiting: gate.Waiting, BufferSize: gate.Buffer,
			Blocked: gate.Blocked, MaxBlocked: gate.MaxBlocked, ExpectedWaitMS: of.gate.ExpectedWait().Seconds() * 1000,
		}
		one.Quotas = of.quota.status(time.Now())
		one.Keys = []KeyStatus{}
		if end := endpoints[of.name]; end != nil {
			one.BaseURL = end.manners.BaseURL
			for i := range end.replicas {
				one.Replicas = append(one.Replicas, end.replicas[i].status())
			}
			one.Keys = end.ring.status(time.Now())
		}
		one.Retries, one.Fallbacks = of.stats.retries.Load(), of.stats.fallbacks.Load()
		for class := range of.stats.classes {
			one.Answered += of.stats.classes[class].Load()
		}
		for r := range of.stats.rejected {
			one.Refused += of.stats.rejected[r].Load()
		}
		for stage := range of.stats.left {
			one.ClientGone += of.stats.left[stage].Load()
		}
		out.Providers = append(out.Providers, one)
	}
	for i, class := range s.arena {
		out.Arena = append(out.Arena, ClassStatus{arenaClasses[i], class.Slots, class.SlotBytes, class.InUse, class.Overflows})
	}
	return out
}

// Ready returns nil while new requests are served, and otherwise why not.
func (p *Proxy) Ready() error {
	if p.draining.Load() {
		return errors.New("draining")
	}
	return nil
}

// ArenaBytes is what an arena of initialPoolSize objects costs, in bytes: of each an exchange record, a header
// block and a body slot, and of every 32nd a long block, with the arena's own 8 bytes a slot.
func ArenaBytes(initialPoolSize int) int64 {
	object := unsafe.Sizeof(exchange{}) + unsafe.Sizeof(headBlock{}) + unsafe.Sizeof(bodyBlock{}) + 3*8
	return int64(initialPoolSize)*int64(object) + int64(longSlots(initialPoolSize))*int64(unsafe.Sizeof(longBlock{})+8)
}
