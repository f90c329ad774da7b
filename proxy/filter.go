package proxy

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/edge-proxy/edge/plugins/proxywasm"
)

// This file takes an exchange through a Proxy-Wasm plugin: headers first, then content chunk by chunk as it comes. A guest
// may pause either way, and then holds what comes.

// open begins the stream of a visit. It reports false for a plugin that has no callbacks for streams.
func (x *exchange) open(v *visit) (opened bool, err error) {
	view := &x.views[0]
	if v.inner {
		view = &x.views[1]
	}
	*view = filterView{x, v.inner}
	if x.streamed < len(x.streams) {
		v.stream = &x.streams[x.streamed]
		x.streamed++
	} else {
		v.stream = new(proxywasm.Stream)
	}
	opened, err = v.stream.Open(v.plugin.filter, view)
	if !errors.Is(err, proxywasm.ErrNoInstance) {
		return opened, err
	}
	// All have died, and are being replaced: that is waited for as for a turn.
	if err := x.watch(deadlineQueue, x.gen.config.QueueTimeout); err != nil {
		return false, err
	}
	opened, err = v.stream.OpenWait(x.ctx, v.plugin.filter, view)
	if late := x.unwatch(); late != nil && !errors.Is(late, errQueueTimeout) {
		return opened, late
	}
	return opened, err
}

// meetFilter shows the request to a Proxy-Wasm plugin: its head, and as much of its content as the guest wants to see
// before the head goes on.
func (x *exchange) meetFilter(v *visit) error {
	opened, err := x.open(v)
	if err != nil || !opened {
		v.stream = nil
		if errors.Is(err, proxywasm.ErrNoInstance) || errors.Is(err, proxywasm.ErrClosed) || errors.Is(err, errQueueTimeout) {
			err = worded(errPluginBusy, "no instance of the plugin %s is there", v.plugin.config.Name)
		}
		return err
	}
	if !v.plugin.requests {
		return nil
	}
	wants := v.plugin.wants
	if !wants.RequestBody && !wants.RequestTrailers || x.content() == nil {
		verdict, err := v.requestHead(x.content() == nil)
		if err == nil && (verdict == proxywasm.Paused || verdict == proxywasm.PausedAll) {
			verdict, err = v.stream.Await(x.ctx, false)
		}
		return x.followed(v, verdict, err)
	}
	// What is at hand is shown at once, so that its length is known and an answer of the guest's needs no provider.
	if err := x.hold(); err != nil {
		return err
	}
	b := x.content()
	f := &requestFilter{x: x, ctx: x.ctx, stream: v.stream, source: b.reader(), trailers: wants.RequestTrailers}
	verdict, err := v.requestHead(false)
	if err == nil && verdict == proxywasm.PausedAll {
		verdict, err = v.stream.Await(x.ctx, false)
	}
	if err == nil && verdict == proxywasm.Paused {
		if err = x.watchBody(); err == nil {
			verdict, err = f.resume()
		}
		if late := x.unwatch(); late != nil {
			err = late
		}
	}
	if err == nil && verdict == proxywasm.Continue {
		return x.filterContent(f)
	}
	f.detach()
	v.begun = f.begun && !b.kept()
	return x.followed(v, verdict, err)
}

// requestHead shows the guest the head. What it waits for behind that is not counted as its time.
func (v *visit) requestHead(end bool) (proxywasm.Verdict, error) {
	began := time.Now()
	verdict, err := v.stream.RequestHeaders(end)
	v.took(0, began)
	return verdict, err
}

// followed acts on a verdict that lets nothing go on.
func (x *exchange) followed(v *visit, verdict proxywasm.Verdict, err error) error {
	switch {
	case err != nil:
		return err
	case verdict == proxywasm.Replied:
		return x.takeReply(v)
	case verdict == proxywasm.Closed:
		return errPluginReset
	}
	return nil
}

// takeReply makes a guest's own answer the exchange's.
func (x *exchange) takeReply(v *visit) error {
	d := &x.draft
	reply := v.stream.Reply()
	d.answered, d.status = true, reply.Status
	d.preset = d.preset[:0]
	for _, field := range reply.Fields {
		d.preset.Add(field.Name, field.Value)
	}
	if d.prefix != nil {
		d.prefix.release()
	}
	d.prefix = newHeldBody(x)
	return d.prefix.append(reply.Body)
}

// filterContent puts a filter between what is left of the content and whoever reads it next. Content that is at hand
// goes through at once.
func (x *exchange) filterContent(f *requestFilter) error {
	d := &x.draft
	var next *body
	if b := x.content(); b.complete() || f.ended {
		next = newHeldBody(x)
		for {
			_, err := next.receive(f)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				next.release()
				return x.filterFailed(f, err)
			}
		}
		f.detach()
	} else {
		f.awaiting, f.stop = context.WithCancel(f.ctx)
		next = newPipedBody(x, f)
		d.piped = append(d.piped, f)
	}
	if d.content != nil {
		d.content.release()
	}
	d.content = next
	return nil
}

// filterFailed says what became of a request whose content could not go through a filter.
func (x *exchange) filterFailed(f *requestFilter, err error) error {
	f.detach()
	if f.failed {
		return x.followed(x.visitOf(f.stream), f.verdict, f.cause)
	}
	return x.reading(err)
}

// pipeFailed looks for the filter that ended the content while it was sent. It reports false when none did; else err is
// why, and nil when the guest has answered.
func (x *exchange) pipeFailed() (err error, failed bool) {
	for _, f := range x.draft.piped {
		f.mu.Lock()
		failed = f.failed
		f.mu.Unlock()
		if !failed {
			continue
		}
		v := x.visitOf(f.stream)
		err = x.followed(v, f.verdict, f.cause)
		if err != nil {
			err, _ = x.pluginFailure(v.plugin, phaseRequest, err)
		}
		return err, true
	}
	return nil, false
}

// detachAll ends all use of the exchange by content that is still on its way.
func (x *exchange) detachAll() {
	for i, f := range x.draft.piped {
		f.detach()
		x.draft.piped[i] = nil
	}
	x.draft.piped = x.draft.piped[:0]
}

// visitOf returns the visit that a stream belongs to.
func (x *exchange) visitOf(s *proxywasm.Stream) *visit {
	for i := range x.draft.visits {
		if x.draft.visits[i].stream == s {
			return &x.draft.visits[i]
		}
	}
	panic("bug: a stream without visit")
}

// errFiltered ends content because of a plugin; the filter knows why. errReplied says that this was to answer the request.
var (
	errFiltered = errors.New("a plugin ended the content")
	errReplied  = errors.New("a plugin has answered")
)

// requestFilter is a request's content as a guest lets it go on. net/http may read it from another goroutine, also after
// the exchange has ended: so it is detached before that. Then it gives nothing more, and its exchange, its stream and what
// that has handed out are not touched, since all of them are going to be another request's.
type requestFilter struct {
	x      *exchange
	ctx    context.Context // the exchange's
	stream *proxywasm.Stream
	source io.ReadCloser // the content before the filter

	trailers bool // the guest has a callback for trailers
	begun    bool // it has seen content
	ended    bool // of the source

	awaiting context.Context    // of a wait for the guest in another goroutine, ended by stop; nil before content is piped
	stop     context.CancelFunc // so too

	buffer []byte // for the source

	mu       sync.Mutex // use of exchange, stream and out against detach
	detached bool
	out      []byte // what goes on next, valid until the next call of the guest
	failed   bool   // Read has returned errFiltered
	verdict  proxywasm.Verdict
	cause    error // of errFiltered, when it is none of the verdict
}

// resume reads content until the guest lets the head go on.
func (f *requestFilter) resume() (proxywasm.Verdict, error) {
	for {
		if f.ended {
			return f.await()
		}
		verdict, err := f.step()
		if err != nil || verdict != proxywasm.Paused {
			return verdict, err
		}
	}
}

// await waits until the guest lets go on what it holds.
func (f *requestFilter) await() (proxywasm.Verdict, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.detached {
		return proxywasm.Continue, errReaderClosed
	}
	ctx := f.ctx
	if f.awaiting != nil {
		ctx = f.awaiting
	}
	verdict, err := f.stream.Await(ctx, false)
	if err == nil && verdict == proxywasm.Continue {
		f.out = append(f.out, f.stream.TakeHeld(false)...)
	}
	if err != nil && ctx.Err() != nil && f.ctx.Err() == nil {
		err = errReaderClosed // by detach
	}
	return verdict, err
}

// step shows the guest the next chunk. What goes on is in out.
func (f *requestFilter) step() (proxywasm.Verdict, error) {
	if f.buffer == nil {
		f.buffer = make([]byte, len(bodyBlock{}))
	}
	n, err := f.source.Read(f.buffer)
	if err != nil && !errors.Is(err, io.EOF) {
		return proxywasm.Continue, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.detached {
		return proxywasm.Continue, errReaderClosed
	}
	f.ended, f.begun = err != nil, true
	last := f.ended && !f.hasTrailers()
	var verdict proxywasm.Verdict
	f.out, verdict, err = f.stream.RequestBody(f.buffer[:n], last)
	if err == nil && f.ended && f.hasTrailers() && verdict != proxywasm.Replied && verdict != proxywasm.Closed {
		out := append([]byte(nil), f.out...) // valid until the next call only
		if verdict, err = f.stream.RequestTrailers(); err == nil && verdict == proxywasm.Continue {
			out = append(out, f.stream.TakeHeld(false)...)
		}
		f.out = out
		if f.awaiting != nil { // names were announced with the head; values are sent after the content. Else trail does it
			for name := range f.x.query.Trailer {
				f.x.query.Trailer[name] = f.x.requestTrailer().Values(name)
			}
		}
	}
	return verdict, err
}

// hasTrailers reports whether there are trailers that the guest wants to see.
func (f *requestFilter) hasTrailers() bool { return f.trailers && len(f.x.r.Trailer) > 0 }

// Read gives what the guest lets go on. Its errors are io.EOF, errFiltered, and those of the source. Once it is detached it
// waits for the end of the exchange: an error would make net/http close the connection in the middle of an answer that
// came before all content was sent.
func (f *requestFilter) Read(into []byte) (int, error) {
	n, err := f.pass(into)
	if errors.Is(err, errReaderClosed) {
		<-f.ctx.Done()
	}
	return n, err
}

func (f *requestFilter) pass(into []byte) (int, error) {
	for {
		if n, err := f.give(into); n > 0 || err != nil {
			return n, err
		}
		verdict, err := f.step()
		if err == nil && verdict == proxywasm.Paused && f.ended {
			verdict, err = f.await()
		}
		switch {
		case err != nil && (errors.Is(err, errReaderClosed) || errors.Is(err, errBodyRead) || errors.Is(err, errBodyTimeout) || errors.Is(err, errBodyTooLarge)):
			return 0, err
		case err != nil, verdict == proxywasm.Replied, verdict == proxywasm.Closed:
			f.mu.Lock()
			f.failed, f.verdict, f.cause = true, verdict, err
			f.mu.Unlock()
			return 0, errFiltered
		}
	}
}

// give hands out what is there; 0 and nil mean that it is nothing yet.
func (f *requestFilter) give(into []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.detached:
		return 0, errReaderClosed
	case len(f.out) > 0:
		n := copy(into, f.out)
		f.out = f.out[n:]
		return n, nil
	case f.ended:
		return 0, io.EOF
	}
	return 0, nil
}

// detach ends the filter's use of the exchange and of its guest.
func (f *requestFilter) detach() {
	if f.stop != nil {
		f.stop()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.detached {
		f.source.Close()
	}
	f.detached = true
}

// Close does nothing: detach does.
func (f *requestFilter) Close() error { return nil }
