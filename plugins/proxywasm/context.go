package proxywasm

import "time"

// stream is a stream's context in its instance, kept for the next stream when it is deleted. The instance's mutex guards it.
type stream struct {
	guest *guest
	id    uint32

	x        Exchange // nil when the proxy has closed the stream
	visitors int      // calls of the proxy's on it, one in Await included: only then may x be used
	bodies   [sides]body
	injected []byte // into the response, before what is in its body
	stopped  [sides]stop
	resumed  [sides]bool // during the callback under way
	answered bool        // there are response headers
	trailing [sides]bool // there are, or may be, trailers
	left     [4]bool     // by MapKind: what has gone on
	closed   bool

	reply      *LocalReply
	replyTaken bool
	direct     bool // the reply was made in a response callback and has no callbacks of its own

	lost    error // the instance died
	wake    [sides]chan struct{}
	answers []*answer // of its call-outs, which came while the proxy was elsewhere
	calls   int       // call-outs in flight
	spent   int       // of maxStreamBytes

	properties properties
	lingering  *time.Timer // after done said no: until proxy_done
	ending     bool        // on_done was called
	finished   bool        // proxy_done was, since then
}

// stop is how a side is paused.
type stop uint8

const (
	stopNone    stop = iota
	stopHeaders      // headers wait; a body callback may let them go
	stopBody         // body waits, or trailers, and with them whatever came before
	stopAll          // nothing until resumed
)

// maxStreamBytes bounds what a guest makes the host keep for a stream beside bodies: all fields it sets, and its properties.
const maxStreamBytes = 1 << 20

// spend counts n bytes and says whether that is not too much.
func (c *stream) spend(n int) bool {
	const overhead = 32 // of each piece
	c.spent += n + overhead
	return c.spent <= maxStreamBytes
}

// newStream takes a context for x.
func (g *guest) newStream(x Exchange) *stream {
	var c *stream
	if n := len(g.free); n > 0 {
		c = g.free[n-1]
		g.free = g.free[:n-1]
	} else {
		c = &stream{guest: g}
		for d := range c.wake {
			c.wake[d] = make(chan struct{}, 1)
		}
	}
	for {
		g.lastID++
		if _, taken := g.streams[g.lastID]; g.lastID > rootID && !taken {
			break
		}
	}
	c.id, c.x = g.lastID, x
	g.streams[c.id] = c
	return c
}

// maxFree is the most contexts that an instance keeps for later streams.
const maxFree = 1024

// drop takes a context out and readies it for another stream.
func (g *guest) drop(c *stream) {
	delete(g.streams, c.id)
	if len(g.free) == maxFree {
		return
	}
	for d := range c.bodies {
		c.bodies[d].reset()
		select {
		case <-c.wake[d]:
		default:
		}
	}
	c.properties.clear()
	clear(c.answers)
	*c = stream{guest: g, bodies: c.bodies, wake: c.wake, answers: c.answers[:0], properties: c.properties}
	g.free = append(g.free, c)
}

// here reports whether the proxy is in a call on the stream, so that its exchange may be used.
func (c *stream) here() bool { return c.visitors > 0 && c.x != nil }

// hasMap reports whether a list of the exchange is there already.
func (c *stream) hasMap(k MapKind) bool {
	switch k {
	case RequestTrailers:
		return c.trailing[request]
	case ResponseHeaders:
		return c.answered
	case ResponseTrailers:
		return c.trailing[response]
	default:
		return true
	}
}

// call calls one of the guest's callbacks for a side.
func (c *stream) call(f callback, d side, n uint64, end bool) (action uint64, err error) {
	c.resumed[d] = false
	last := uint64(0)
	if end {
		last = 1
	}
	return c.guest.run(f, c, uint64(c.id), n, last)
}

// bodyMayResume tells what a guest means that pauses in a headers callback with the action 1.
//
// Higress lets body callbacks come, and the first that continues releases the headers too. Envoy, unless told otherwise,
// stops all until continue_stream: a filter that asks an authorization service in headers and has a body callback that does
// nothing must not let the request pass with its first chunk. So it is Higress's way for Higress's ABI, and for a guest that
// has nothing under way that could resume the stream.
func (c *stream) bodyMayResume() bool {
	g := c.guest
	switch g.plugin.options.HeaderPause {
	case PauseHeaders:
		return true
	case PauseAll:
		return false
	}
	return g.plugin.version == v02100 || len(g.calls) == 0 && g.period.Load() == 0 && !g.listens
}

// verdict is what follows for a side.
func (c *stream) verdict(d side) Verdict {
	switch {
	case c.reply != nil && (!c.replyTaken || d == request):
		return Replied
	case c.closed:
		return Closed
	case c.stopped[d] == stopAll:
		return PausedAll
	case c.stopped[d] != stopNone:
		return Paused
	default:
		return Continue
	}
}

// settle notes that headers go on with a verdict.
func (c *stream) settle(d side, v Verdict) {
	if v == Continue {
		c.left[headersKind[d]] = true
	}
}

// rouse wakes who awaits the stream.
func (c *stream) rouse() {
	for d := range c.wake {
		select {
		case c.wake[d] <- struct{}{}:
		default:
		}
	}
}

// resume lets a side go on.
func (c *stream) resume(d side) {
	c.stopped[d], c.resumed[d] = stopNone, true
	c.rouse()
}

// deliverTo hands over the answers that came while the proxy was elsewhere.
func (g *guest) deliverTo(c *stream) {
	for len(c.answers) > 0 && c.lost == nil {
		a := c.answers[0]
		c.answers = append(c.answers[:0], c.answers[1:]...)
		g.deliver(a)
	}
}

// done runs the guest's done callback for a stream, and the last ones unless the guest wants them later.
func (g *guest) done(c *stream) {
	c.ending = true
	result, err := g.run(onDone, c, uint64(c.id))
	if err != nil {
		g.plugin.background(err)
		return
	}
	if result != 0 || c.finished {
		g.finish(c)
		return
	}
	c.visitors, c.x = 0, nil
	id := c.id
	c.lingering = time.AfterFunc(g.plugin.options.PauseTimeout, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.streams[id] == c {
			g.finish(c)
		}
	})
}

// finish runs the last callbacks for a stream and drops it.
func (g *guest) finish(c *stream) {
	if c.lingering != nil {
		c.lingering.Stop()
		c.lingering = nil
	}
	for _, f := range [...]callback{onLog, onDelete} {
		if _, err := g.run(f, c, uint64(c.id)); err != nil {
			g.plugin.background(err)
			return
		}
	}
	g.served.Store(true)
	g.drop(c)
	if g.retiring && len(g.streams) == 0 {
		g.retire()
	}
}
