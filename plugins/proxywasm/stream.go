package proxywasm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edge-proxy/edge/plugins"
)

var (
	// ErrPauseTimeout says that a guest did not resume a stream within Options.PauseTimeout.
	ErrPauseTimeout = errors.New("stream paused by a plugin for too long")
	// ErrNoInstance says that all instances of a plugin are being replaced.
	ErrNoInstance = errors.New("no plugin instance")
	// ErrPaused says that a callback was wanted while the guest had paused all.
	ErrPaused = errors.New("stream is paused")
)

// Stream is one exchange's visit to one plugin, all along on the same instance. The proxy keeps it by value in its
// record; the zero value is ready for Open, and ready again after Close.
//
// Calls come one at a time, from any goroutine; an Await alone may be under way while another call is made. It is not
// copied while it is open. Errors are a *plugins.TrapError, which is the guest's fault: with ReasonLost it was another
// stream's that died with the instance; ErrBodyTooLarge, ErrPauseTimeout, ErrPaused, ErrClosed for a stream that is not
// open, or what Exchange.Charge returned. After any of them only Close is of use.
type Stream struct{ c *stream }

// Open begins the visit: it picks the instance with the fewest streams and creates a context there. It reports false for
// a plugin without callbacks for streams; such a stream needs no Close.
//
// With no instance left the error is ErrNoInstance, after Plugin.Close it is ErrClosed. Open does not allocate in the
// steady state.
func (s *Stream) Open(p *Plugin, x Exchange) (opened bool, err error) {
	if s.c != nil {
		panic("bug: proxywasm: Open of a Stream that is open on " + s.c.guest.plugin.Name())
	}
	if !p.streaming {
		return false, nil
	}
	g, err := p.pick()
	if err != nil {
		return false, err
	}
	defer g.mu.Unlock()
	c := g.newStream(x)
	c.visitors++
	_, err = g.run(onContextCreate, c, uint64(c.id), rootID)
	c.visitors--
	if err != nil {
		g.open.Add(-1)
		return false, err
	}
	s.c = c
	p.streams.Add(1)
	return true, nil
}

// OpenWait is Open for who would rather wait for an instance that is being replaced than get ErrNoInstance: it waits until
// ctx ends, and the error then wraps both ErrNoInstance and context.Cause(ctx).
func (s *Stream) OpenWait(ctx context.Context, p *Plugin, x Exchange) (opened bool, err error) {
	for {
		fresh := p.arrival()
		opened, err = s.Open(p, x)
		if !errors.Is(err, ErrNoInstance) {
			return opened, err
		}
		select {
		case <-fresh:
		case <-p.ctx.Done():
		case <-ctx.Done():
			return false, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}
}

// RequestHeaders calls the guest with the request's headers. end says that nothing follows them.
func (s *Stream) RequestHeaders(end bool) (Verdict, error) { return s.headers(request, end) }

// ResponseHeaders calls the guest with the answer's headers, which may be a local reply's.
func (s *Stream) ResponseHeaders(end bool) (Verdict, error) { return s.headers(response, end) }

// RequestBody calls the guest with the next chunk of the request's body, which may be empty with end set.
//
// With Continue, out is what goes on now: all that was held and the chunk, as the guest left them. It is valid
// until the next call on s and may be chunk itself. With Paused the stream has copied the chunk. (A guest may put bytes of its
// own into an answer whose chunks it keeps: then out is these alone, with Continue.)
func (s *Stream) RequestBody(chunk []byte, end bool) (out []byte, v Verdict, err error) {
	return s.body(request, chunk, end)
}

// ResponseBody is RequestBody for the answer.
func (s *Stream) ResponseBody(chunk []byte, end bool) (out []byte, v Verdict, err error) {
	return s.body(response, chunk, end)
}

// RequestTrailers calls the guest with the request's trailers. With Continue, TakeHeld has what is left of the body.
func (s *Stream) RequestTrailers() (Verdict, error) { return s.trailers(request) }

// ResponseTrailers is RequestTrailers for the answer.
func (s *Stream) ResponseTrailers() (Verdict, error) { return s.trailers(response) }

// Await waits until a paused side goes on: then the verdict is Continue and TakeHeld has what was held. Replied and
// Closed end it too. The error is that of the stream, context.Cause(ctx), or ErrPauseTimeout.
func (s *Stream) Await(ctx context.Context, isResponse bool) (Verdict, error) {
	d := sideOf(isResponse)
	c, err := s.enter()
	if err != nil {
		return 0, err
	}
	defer c.leave()
	patience := time.NewTimer(c.guest.plugin.options.PauseTimeout)
	defer patience.Stop()
	for {
		if c.lost != nil {
			return 0, c.lost
		}
		if v := c.verdict(d); v != Paused && v != PausedAll {
			c.settle(d, v)
			return v, nil
		}
		c.guest.mu.Unlock()
		select {
		case <-c.wake[d]:
			c.guest.mu.Lock()
			continue
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-patience.C:
			err = fmt.Errorf("proxywasm: %s: %w: over %v; raise pause_timeout_ms", c.guest.plugin.Name(), ErrPauseTimeout,
				c.guest.plugin.options.PauseTimeout)
		}
		c.guest.mu.Lock()
		return 0, err
	}
}

// TakeHeld returns what a side held and goes on after Await or trailers. It is valid until the next call on s.
func (s *Stream) TakeHeld(isResponse bool) []byte {
	c := s.c
	if c == nil {
		return nil
	}
	c.guest.mu.Lock()
	defer c.guest.mu.Unlock()
	return c.take(sideOf(isResponse), true)
}

// WantsRequestBody reports whether the guest has a callback for the request's body. Without it the body may pass it by, unless
// headers are paused.
func (s *Stream) WantsRequestBody() bool { return s.wants(onRequestBody) }

// WantsResponseBody is WantsRequestBody for the answer.
func (s *Stream) WantsResponseBody() bool { return s.wants(onResponseBody) }

// WantsRequestTrailers reports whether the guest has a callback for the request's trailers.
func (s *Stream) WantsRequestTrailers() bool { return s.wants(onRequestTrailers) }

// WantsResponseTrailers is WantsRequestTrailers for the answer.
func (s *Stream) WantsResponseTrailers() bool { return s.wants(onResponseTrailers) }

// wants reads what does not change while an instance lives.
func (s *Stream) wants(f callback) bool { return s.c != nil && s.c.guest.fns[f] != nil }

// Reply returns the answer that the guest made, nil if it made none. The proxy then calls no more request
// callbacks, puts the reply into the exchange and calls ResponseHeaders and ResponseBody for it. (For a reply that was made
// in a response callback these do nothing: the guest has seen a response.)
func (s *Stream) Reply() *LocalReply {
	c := s.c
	if c == nil {
		return nil
	}
	c.guest.mu.Lock()
	defer c.guest.mu.Unlock()
	if c.reply != nil && !c.replyTaken {
		c.replyTaken = true
		c.stopped = [sides]stop{}
		for d := range c.bodies {
			c.bodies[d].take(c)
		}
		c.injected = nil
	}
	return c.reply
}

// Property returns what the guest has set for this stream with proxy_set_property. The path's segments are joined with dots.
func (s *Stream) Property(path string) ([]byte, bool) {
	c := s.c
	if c == nil {
		return nil, false
	}
	c.guest.mu.Lock()
	defer c.guest.mu.Unlock()
	return c.properties.get([]byte(path))
}

// Close ends the visit: the guest's done, log and delete callbacks. Idempotent. What goes wrong in them is logged.
func (s *Stream) Close() {
	c := s.c
	if c == nil {
		return
	}
	s.c = nil
	g := c.guest
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open.Add(-1)
	g.plugin.streams.Add(-1)
	for d := range c.bodies {
		c.bodies[d].take(c) // the charge goes back
	}
	if c.lost != nil {
		return
	}
	c.visitors++
	g.deliverTo(c)
	if c.lost == nil {
		g.done(c)
	}
}

func sideOf(isResponse bool) side {
	if isResponse {
		return response
	}
	return request
}

// enter begins a call of the proxy's on a stream: it locks the instance and hands over what has waited for this moment.
// leave ends it.
func (s *Stream) enter() (*stream, error) {
	c := s.c
	if c == nil {
		return nil, ErrClosed
	}
	c.guest.mu.Lock()
	if c.lost == nil {
		c.visitors++
		c.guest.deliverTo(c)
		if c.lost == nil {
			return c, nil
		}
		c.visitors--
	}
	err := c.lost
	c.guest.mu.Unlock()
	return nil, err
}

func (c *stream) leave() {
	c.visitors--
	c.guest.mu.Unlock()
}

var (
	headersCallback  = [sides]callback{onRequestHeaders, onResponseHeaders}
	bodyCallback     = [sides]callback{onRequestBody, onResponseBody}
	trailersCallback = [sides]callback{onRequestTrailers, onResponseTrailers}
	headersKind      = [sides]MapKind{RequestHeaders, ResponseHeaders}
	trailersKind     = [sides]MapKind{RequestTrailers, ResponseTrailers}
)

func (s *Stream) headers(d side, end bool) (Verdict, error) {
	c, err := s.enter()
	if err != nil {
		return 0, err
	}
	defer c.leave()
	if v := c.verdict(d); v == Replied || v == Closed {
		return v, nil
	}
	if d == response {
		c.answered = true
	}
	if c.guest.fns[headersCallback[d]] == nil || c.direct {
		c.settle(d, Continue)
		return Continue, nil
	}
	m := fieldMap{kind: headersKind[d], x: c.x, fields: c.x.Fields(headersKind[d])}
	action, err := c.call(headersCallback[d], d, uint64(m.count()), end)
	if err != nil {
		return 0, err
	}
	switch {
	case c.resumed[d] || action == actionContinue || action == actionContinueAndNo:
		c.stopped[d] = stopNone
	case action == actionStop && c.bodyMayResume():
		c.stopped[d] = stopHeaders
	default:
		c.stopped[d] = stopAll
	}
	v := c.verdict(d)
	c.settle(d, v)
	return v, nil
}

func (s *Stream) body(d side, chunk []byte, end bool) ([]byte, Verdict, error) {
	c, err := s.enter()
	if err != nil {
		return nil, 0, err
	}
	defer c.leave()
	b := &c.bodies[d]
	switch v := c.verdict(d); {
	case v == Replied || v == Closed:
		return nil, v, nil
	case v == PausedAll:
		return nil, v, fmt.Errorf("proxywasm: %s: %w", c.guest.plugin.Name(), ErrPaused)
	case c.direct:
		return chunk, Continue, nil
	}
	b.chunk = chunk
	if b.owned {
		if err := b.keep(c); err != nil {
			return nil, 0, err
		}
	}
	action := uint64(actionContinue)
	if c.guest.fns[bodyCallback[d]] != nil {
		c.trailing[d] = c.trailing[d] || end // a guest may add trailers at the end of a body
		b.calling = true
		action, err = c.call(bodyCallback[d], d, uint64(len(b.bytes())), end)
		b.calling = false
		if err != nil {
			return nil, 0, err
		}
	} else if c.stopped[d] != stopNone {
		action = actionStop
	}
	switch {
	case c.resumed[d] || action == actionContinue:
		c.stopped[d] = stopNone
	case action == actionStopNoBuffer:
		b.drop(c)
		c.stopped[d] = stopBody
	default:
		c.stopped[d] = stopBody
		if err := b.keep(c); err != nil {
			return nil, 0, err
		}
	}
	v := c.verdict(d)
	if v == Paused && d == response && len(c.injected) > 0 && !end {
		c.settle(d, Continue)
		return c.take(d, false), Continue, nil
	}
	c.settle(d, v)
	if v != Continue {
		b.chunk = nil
		return nil, v, nil
	}
	return c.take(d, true), v, nil
}

func (s *Stream) trailers(d side) (Verdict, error) {
	c, err := s.enter()
	if err != nil {
		return 0, err
	}
	defer c.leave()
	switch v := c.verdict(d); v {
	case Replied, Closed:
		return v, nil
	case PausedAll:
		return v, fmt.Errorf("proxywasm: %s: %w", c.guest.plugin.Name(), ErrPaused)
	}
	c.trailing[d] = true
	if c.guest.fns[trailersCallback[d]] != nil && !c.direct {
		m := fieldMap{kind: trailersKind[d], x: c.x, fields: c.x.Fields(trailersKind[d])}
		action, err := c.call(trailersCallback[d], d, uint64(m.count()), false)
		if err != nil {
			return 0, err
		}
		c.stopped[d] = stopNone
		if action != actionContinue && !c.resumed[d] {
			c.stopped[d] = stopBody
		}
	}
	v := c.verdict(d)
	c.settle(d, v)
	if v == Continue {
		c.left[trailersKind[d]] = true
	}
	return v, nil
}

// lost is what the streams of an instance get that died in a call of another one.
func (g *guest) lost(err error) error {
	function := ""
	if trap, ok := errors.AsType[*plugins.TrapError](err); ok {
		function = trap.Function
	}
	return &plugins.TrapError{Plugin: g.plugin.Name(), Function: function, Reason: ReasonLost, Err: err}
}
