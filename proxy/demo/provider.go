package demo

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// Provider answers like a provider of language models. It is an http.Handler, safe for concurrent use; the
// ResponseWriter must be able to flush.
//
// It ends a request whose caller has left by panicking with http.ErrAbortHandler, so that a cut stream never
// looks complete.
type Provider struct {
	config Config
	quotas *quotas // nil without limits

	script  script
	scripts map[string]script // by key; nil without Config.Keys
	places  places

	requests, cancelled, rateLimited atomic.Int64
	failures                         atomic.Int64
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
	if c.Window == 0 {
		c.Window = time.Second
	}
	if bounds := c.bounds(); len(bounds) > 0 {
		p.quotas = newQuotas(bounds)
	}
	p.script, _ = parseScript(c.Script) // Validate has said that it is good
	for _, key := range c.Keys {
		if p.scripts == nil {
			p.scripts = map[string]script{}
		}
		p.scripts[key.Value], _ = parseScript(key.Script)
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

	// RateLimited counts requests refused by one of Config's limits.
	RateLimited int64

	// Failures counts requests that failed, or were to fail in mid-body, by a script, ErrorRate or a header. One
	// whose caller left it, as in a silence, is among Cancelled too.
	Failures int64
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
		Failures:    p.failures.Load(),
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
	if err == nil || errors.Is(err, errCut) {
		return
	}
	if !errors.Is(err, errBroken) {
		p.cancelled.Add(1)
	}
	panic(http.ErrAbortHandler)
}

// serve finds the endpoint and lets it answer.
func (x *exchange) serve() error {
	endpoint, method := (*exchange).unknown, x.r.Method
	switch path := x.path(); {
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
	if err := x.addFields(); err != nil {
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

// path is the request's, with OpenAI's in place of Azure's, which name the model and ask for a version.
func (x *exchange) path() string {
	path := x.r.URL.Path
	if rest, ok := strings.CutPrefix(path, "/openai/deployments/"); ok && strings.Contains(x.r.URL.RawQuery, "api-version=") {
		if name, call, ok := strings.Cut(rest, "/"); ok {
			x.deployment = name
			return "/v1/" + call
		}
	}
	return path
}

func (x *exchange) unknown() error { return pathError(x.r) }

// raise lifts max to n.
func raise(max *atomic.Int64, n int64) {
	for m := max.Load(); n > m && !max.CompareAndSwap(m, n); m = max.Load() {
	}
}
