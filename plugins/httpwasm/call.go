package httpwasm

import (
	"context"
	"errors"
	"fmt"

	"github.com/edge-proxy/edge/plugins"
)

// Call is one exchange's visit to one plugin: its request, and its response on the same instance.
//
// The zero value is ready, and ready again after Response, Release or an error. It is used by one goroutine at a time,
// and not copied between Request and Response.
type Call struct {
	plugin   *Plugin
	instance *plugins.Instance // held between the phases
	guest    *guest            // the instance's
	reqCtx   uint32            // the guest's own, for handle_response
	enabled  features
	wants    bool // handle_response is to be called
}

// TryTake takes an instance of p for the next phase if one is free, and reports whether the call holds one. Request,
// Response or Release must follow.
func (c *Call) TryTake(p *Plugin) bool {
	if c.instance == nil {
		if in := p.pool.TryTake(); in != nil {
			c.plugin, c.instance, c.guest = p, in, in.State().(*guest)
		}
	}
	return c.instance != nil
}

// Take takes an instance of p for the next phase. It is for those who bound this wait by less than the phase itself: it
// waits until ctx ends. The errors are [ErrBusy] and plugins.ErrClosed; without one, Request, Response or Release must
// follow.
func (c *Call) Take(ctx context.Context, p *Plugin) error {
	if c.instance != nil {
		return nil
	}
	c.plugin = p
	return c.take(ctx)
}

// Request runs the guest's handle_request for x. With next false the guest made the answer, and the upstream is not asked.
// A plugin without the phase request is not called: the answer is true.
//
// Unless one was taken before, it waits for an instance until ctx ends: then the error is [ErrBusy], which wraps the cause. Other errors are a
// *plugins.TrapError, which is the guest's fault, plugins.ErrClosed, or what a method of the exchange returned, as it is.
// After an error the call holds nothing.
//
// If WantsResponse is true afterwards, the instance is held: Response or Release must follow.
func (c *Call) Request(ctx context.Context, p *Plugin, x Exchange) (next bool, err error) {
	if c.instance != nil && (c.wants || c.plugin != p) {
		panic("bug: httpwasm: Request on a Call that holds an instance of " + c.plugin.Name())
	}
	*c = Call{plugin: p, instance: c.instance, guest: c.guest}
	if !p.options.Request {
		c.enabled, c.wants = p.features, true
		return true, nil
	}
	if c.instance == nil {
		if err := c.take(ctx); err != nil {
			return false, err
		}
	}
	g := c.guest
	x.KeepRequestBody(g.features&bufferRequest != 0)
	g.begin(request, c.instance, x, g.features)
	err = c.run(g.handleRequest, x)
	if err != nil {
		c.Release()
		return false, err
	}
	c.enabled = g.enabled
	// The low half alone decides: a guest that stops may leave its own number in the high one.
	next, c.reqCtx = uint32(g.stack[0]) != 0, uint32(g.stack[0]>>32)
	if !next || !p.options.Response {
		c.Release()
	} else {
		c.wants = true
	}
	return next, nil
}

// Response runs the guest's handle_response for x, on the instance that Request ran on, and gives the instance back.
// failed tells the guest that the upstream gave no answer. It does nothing unless WantsResponse is true.
//
// Without the phase request an instance is taken here, under ctx as in Request. The errors are those of Request.
func (c *Call) Response(ctx context.Context, x Exchange, failed bool) error {
	if !c.wants {
		return nil
	}
	if c.instance == nil {
		if err := c.take(ctx); err != nil {
			return err
		}
	}
	defer c.Release()
	g := c.guest
	g.begin(response, c.instance, x, c.enabled)
	g.stack[0], g.stack[1] = uint64(c.reqCtx), 0
	if failed {
		g.stack[1] = 1
	}
	return c.run(g.handleResponse, x)
}

// BuffersResponse says whether the guest wants the whole answer before its handle_response, to read and replace it.
func (c *Call) BuffersResponse() bool { return c.wants && c.enabled&bufferResponse != 0 }

// ReadsTrailers says whether the guest has the feature trailers for this exchange.
func (c *Call) ReadsTrailers() bool { return c.enabled&trailers != 0 }

// WantsResponse says whether Response or Release must follow.
func (c *Call) WantsResponse() bool { return c.wants }

// Release gives the instance back without a response phase. It does nothing on a call that holds none.
func (c *Call) Release() {
	c.wants = false
	if c.instance != nil {
		in := c.instance
		c.instance, c.guest = nil, nil
		c.plugin.pool.Give(in)
	}
}

func (c *Call) take(ctx context.Context) error {
	in, err := c.plugin.pool.Take(ctx)
	if err == nil {
		c.instance, c.guest = in, in.State().(*guest)
		return nil
	}
	c.wants = false
	if errors.Is(err, plugins.ErrClosed) {
		return err
	}
	return fmt.Errorf("httpwasm: %s: %w: %w", c.plugin.Name(), ErrBusy, err)
}

// run is the guest call.
func (c *Call) run(f *plugins.Function, x Exchange) error {
	c.instance.SetRequest(x.RequestID())
	err := c.instance.Call(f, c.guest.stack[:])
	c.guest.end()
	return err
}
