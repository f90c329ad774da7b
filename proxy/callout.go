package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/edge-proxy/edge/limiter"
	"github.com/edge-proxy/edge/plugins/proxywasm"
	"github.com/edge-proxy/edge/proxy/upstream"
)

const (
	calloutTimeout  = 10 * time.Second // of a request that a plugin makes, unless the plugin says less
	maxCalloutBytes = 10 << 20         // of its answer
)

var errCalloutTooLarge = fmt.Errorf("proxy: the answer to a plugin's request is larger than %d MiB", maxCalloutBytes>>20)

// services is what a Proxy-Wasm guest may use beyond its exchange.
type services struct {
	p     *Proxy
	redis *redis // nil without redis_url
}

// Call sends a guest's own request to a configured provider. It takes a permit that is free and waits for none: a plugin
// that waited for a permit, with one in hand, could wait for itself. The provider's key is put in, as in any request.
func (s *services) Call(ctx context.Context, c proxywasm.Call, done func(proxywasm.CallResult)) error {
	gen := s.p.current.Load()
	if gen == nil || gen.endpoints[c.Upstream] == nil {
		return proxywasm.ErrUnknownUpstream
	}
	end := gen.endpoints[c.Upstream]
	if view, ok := c.From.(*filterView); ok && view.x.flying && view.x.end == end {
		return proxywasm.ErrNoPermit // it holds one of that provider's
	}
	key, err := gen.keys.Key(end.name, "")
	if err != nil {
		return proxywasm.ErrNoPermit
	}
	place, ok := end.gate.TryEnter(edgeItself)
	if !ok {
		return proxywasm.ErrNoPermit
	}
	permit, err := place.Acquire(never)
	if err != nil {
		return proxywasm.ErrNoPermit
	}
	q := s.request(c, end, key)
	timeout := calloutTimeout
	if c.Timeout > 0 {
		timeout = min(timeout, c.Timeout)
	}
	s.p.callouts.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		began := time.Now()
		result := fetch(ctx, end, q, c.Body)
		sample := limiter.Sample{Status: result.Status, Bytes: int64(len(result.Body))}
		if result.Status != 0 {
			sample.Held = time.Since(began)
		}
		permit.Done(sample)
		done(result)
	})
	return nil
}

// request is what goes to the provider.
func (s *services) request(c proxywasm.Call, end *endpoint, key Secret) *upstream.Request {
	q := &upstream.Request{Method: c.Method, Target: c.Path, Host: c.Authority, Length: int64(len(c.Body))}
	for _, field := range c.Fields {
		if !hopByHop(field.Name) && field.Name != "Content-Length" && field.Name != "Host" {
			q.Fields = append(q.Fields, upstream.Field(field))
		}
	}
	q.Fields.Add("Via", s.p.via)
	if key != "" {
		for _, name := range credentialHeaders {
			q.Fields.Del(name)
		}
	}
	for _, field := range end.extra {
		q.Fields.Set(field.Name, field.Value)
	}
	end.putKey(q, key)
	return q
}

// fetch sends a request and reads the whole answer.
func fetch(ctx context.Context, end *endpoint, q *upstream.Request, content []byte) (r proxywasm.CallResult) {
	if !passedOn(q.Method) || !printable(q.Target) || q.Target == "" || q.Target[0] != '/' {
		r.Err = fmt.Errorf("%w: a plugin's request for %s %s", errBadRequest, q.Method, quoted(q.Target))
		return r
	}
	if len(content) > 0 {
		q.Body = io.NopCloser(bytes.NewReader(content))
	}
	var a upstream.Response
	if r.Err = end.do(ctx, q, &a); r.Err != nil {
		return r
	}
	defer a.Body.Close()
	if a.Upgraded != nil {
		a.Upgraded.Close()
	}
	body, err := io.ReadAll(io.LimitReader(a.Body, maxCalloutBytes+1))
	switch {
	case err != nil && ctx.Err() != nil:
		r.Err = context.Cause(ctx)
	case err != nil:
		r.Err = err
	case len(body) > maxCalloutBytes:
		r.Err = errCalloutTooLarge
	default:
		r.Status, r.Body = a.Status, body
		r.Fields, r.Trailers = calloutFields(a.Fields), calloutFields(a.Trailer())
	}
	return r
}

func calloutFields(fields upstream.Fields) []proxywasm.Field {
	out := make([]proxywasm.Field, 0, len(fields))
	for _, field := range fields {
		out = append(out, proxywasm.Field(field))
	}
	return out
}

// Redis returns the Redis of the plugin's redis_url.
func (s *services) Redis() proxywasm.Redis {
	if s.redis == nil {
		return nil
	}
	return s.redis
}
