package demo

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
)

// Provider answers like a provider of language models. It is an http.Handler, safe for concurrent use; the
// ResponseWriter must be able to flush.
//
// It ends a request whose caller has left by panicking with http.ErrAbortHandler, so that a cut stream never
// looks complete.
type Provider struct {
	config Config
	quotas *quotas // nil without limits

	requests, cancelled, rateLimited atomic.Int64
	inFlight, maxInFlight            atomic.Int64
	streams, maxStreams              atomic.Int64
}

// New returns a provider that behaves as c says. It panics if c.Validate finds fault; Start returns that error
// instead.
func New(c Config) *Provider {
	if err := c.Validate(); err != nil {
		panic("bug: " + err.Error())
	}
	p := &Provider{config: c}
	if c.RequestsPerMinute > 0 || c.TokensPerMinute > 0 {
		p.quotas = newQuotas(c.RequestsPerMinute, c.TokensPerMinute)
	}
	return p
}

// Stats is what a Provider has counted. Each number is exact; together they are not one moment's.
type Stats struct {
	// Requests counts what arrived, whatever became of it.
	Requests int64

	// InFlight is the number of requests now being answered. A request leaves it just before the last byte of
	// its answer is written, so a caller that waits for the end before it sends again never counts twice.
	InFlight int64

	// MaxInFlight is the most that InFlight has been since New or ResetMax.
	MaxInFlight int64

	// Streams and MaxStreams are InFlight and MaxInFlight of streamed answers alone, from their first byte on.
	Streams, MaxStreams int64

	// Cancelled counts requests that ended early because their caller had left or their Server was closed.
	Cancelled int64

	// RateLimited counts requests refused by RequestsPerMinute or TokensPerMinute.
	RateLimited int64
}

// Stats returns the present counts.
func (p *Provider) Stats() Stats {
	return Stats{
		Requests:    p.requests.Load(),
		InFlight:    p.inFlight.Load(),
		MaxInFlight: p.maxInFlight.Load(),
		Streams:     p.streams.Load(),
		MaxStreams:  p.maxStreams.Load(),
		Cancelled:   p.cancelled.Load(),
		RateLimited: p.rateLimited.Load(),
	}
}

// ResetMax sets both high-water marks to what is in flight now.
func (p *Provider) ResetMax() {
	p.maxInFlight.Store(p.inFlight.Load())
	p.maxStreams.Store(p.streams.Load())
}

// ServeHTTP answers one request.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := p.begin(w, r)
	defer x.end()
	err := x.serve()
	if fault, ok := errors.AsType[*apiError](err); ok {
		err = x.refuse(fault)
	}
	if err != nil {
		p.cancelled.Add(1)
		panic(http.ErrAbortHandler)
	}
}

// serve finds the endpoint and lets it answer.
func (x *exchange) serve() error {
	endpoint, method := (*exchange).unknown, x.r.Method
	switch path := x.r.URL.Path; {
	case path == "/v1/chat/completions":
		endpoint, method = (*exchange).chat, http.MethodPost
	case path == "/v1/messages":
		endpoint, method = (*exchange).messages, http.MethodPost
		x.anthropic = true
	case path == "/v1/embeddings":
		endpoint, method = (*exchange).embeddings, http.MethodPost
	case path == "/v1/models", strings.HasPrefix(path, "/v1/models/"):
		endpoint, method = (*exchange).models, http.MethodGet
	}
	x.nameAnswer()
	if err := x.settings.override(x.r.Header); err != nil {
		return err
	}
	if x.r.Method != method && (x.r.Method != http.MethodHead || method != http.MethodGet) {
		x.w.Header().Set("Allow", method)
		return methodError(x.r)
	}
	if err := x.authorize(); err != nil {
		return err
	}
	return endpoint(x)
}

func (x *exchange) unknown() error { return pathError(x.r) }

// raise lifts max to n.
func raise(max *atomic.Int64, n int64) {
	for m := max.Load(); n > m && !max.CompareAndSwap(m, n); m = max.Load() {
	}
}
