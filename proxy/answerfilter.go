package proxy

import (
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/edge-proxy/edge/arena"
	"github.com/edge-proxy/edge/plugins/proxywasm"
	"github.com/edge-proxy/edge/proxy/upstream"
)

// answerFilter shows the answer to a Proxy-Wasm plugin: its head now, its content as it passes.
func (x *exchange) answerFilter(v *visit) error {
	a, wants := &x.answer, v.plugin.wants
	end := a.Length == 0 || bodyless(x.method(), a.Status) || a.Upgraded != nil
	began := time.Now()
	verdict, err := v.stream.ResponseHeaders(end)
	v.took(1, began)
	passes := err == nil && verdict == proxywasm.Continue
	if passes && (end || !wants.ResponseBody && !wants.ResponseTrailers) {
		return nil
	}
	var f *responseFilter
	if passes || verdict == proxywasm.Paused || verdict == proxywasm.PausedAll {
		f = &responseFilter{x: x, stream: v.stream, wants: wants, source: a.Body, before: a.Trailer, ended: end}
		verdict, err = f.begin(verdict)
	}
	switch {
	case err == nil && verdict == proxywasm.Closed:
		err = errPluginReset
	case err == nil && verdict == proxywasm.Replied:
		f.giveBuffer()
		x.replaceAnswer(v.stream.Reply())
		return nil
	}
	if err != nil {
		f.giveBuffer()
		return err
	}
	if a.Upgraded == nil && (!end || len(f.out) > 0) {
		a.Body, a.Trailer = f, func() upstream.Fields { return f.trailer }
		if !a.Fields.Has("Content-Length") { // a guest that changes the length takes it out
			a.Length = -1
		}
	}
	return nil
}

// begin waits until the guest lets the head go on, and shows it content meanwhile if it wants that.
func (f *responseFilter) begin(verdict proxywasm.Verdict) (proxywasm.Verdict, error) {
	var err error
	if verdict == proxywasm.PausedAll {
		if verdict, err = f.stream.Await(f.x.ctx, true); err == nil && verdict == proxywasm.Continue {
			f.out = append(f.out, f.stream.TakeHeld(true)...)
		}
	}
	for err == nil && verdict == proxywasm.Paused {
		if !f.ended {
			err = f.x.watchAnswer(deadlineIdle, f.x.idleTimeout())
		}
		if err == nil {
			verdict, err = f.step()
		}
		if late := f.x.unwatchAnswer(); err == nil {
			err = late
		}
	}
	return verdict, err
}

// replaceAnswer makes a reply that a guest made when it saw the answer's head the answer.
func (x *exchange) replaceAnswer(reply *proxywasm.LocalReply) {
	fields := make(upstream.Fields, 0, len(reply.Fields)+1)
	for _, field := range reply.Fields {
		if field.Name != "Content-Length" {
			fields.Add(field.Name, field.Value)
		}
	}
	fields.Add("Content-Length", strconv.Itoa(len(reply.Body)))
	x.localAnswer(reply.Status, fields, reply.Body)
}

// responseFilter is an answer's content as a guest lets it go on. It is the handler's alone.
type responseFilter struct {
	x      *exchange
	stream *proxywasm.Stream
	wants  proxywasm.Wants
	source io.ReadCloser          // the content before the filter
	before func() upstream.Fields // and its trailer

	begun   bool // the guest has seen content
	ended   bool // of the source
	waiting bool // for the guest, that holds content
	slot    arena.Slot[bodyBlock]
	out     []byte // what goes on next, valid until the next call of the guest
	trailer upstream.Fields
}

// step shows the guest the next chunk or, when there is none, waits for it. What goes on is in out.
func (f *responseFilter) step() (proxywasm.Verdict, error) {
	if f.ended {
		verdict, err := f.stream.Await(f.x.ctx, true)
		if err == nil && verdict == proxywasm.Continue {
			f.out = append([]byte(nil), f.stream.TakeHeld(true)...)
		}
		return verdict, err
	}
	if f.slot.P() == nil {
		f.slot = f.x.p.bodies.Take(f.x.hint)
	}
	n, err := f.source.Read(f.slot.P()[:])
	if err != nil && !errors.Is(err, io.EOF) {
		return proxywasm.Continue, f.x.brokeOff(err)
	}
	if f.ended = err != nil; f.ended {
		f.trailer = append(f.trailer, f.before()...)
	} else if n == 0 {
		return proxywasm.Continue, nil
	}
	f.begun = true
	f.x.visitOf(f.stream).begun = true
	trailers := f.ended && f.wants.ResponseTrailers && len(f.trailer) > 0
	list := &f.x.draft.trailing // what the guest sees as the answer's trailer
	*list = append((*list)[:0], f.trailer...)
	var verdict proxywasm.Verdict
	f.out, verdict, err = f.stream.ResponseBody(f.slot.P()[:n], f.ended && !trailers)
	if err == nil && trailers && (verdict == proxywasm.Continue || verdict == proxywasm.Paused) {
		f.out = append([]byte(nil), f.out...) // it is valid until the next call only
		if verdict, err = f.stream.ResponseTrailers(); err == nil && verdict == proxywasm.Continue {
			f.out = append(f.out, f.stream.TakeHeld(true)...)
		}
	}
	if f.ended && err == nil {
		f.trailer = append(f.trailer[:0], *list...) // a guest may add to it at the end of the content
	}
	return verdict, err
}

// Read gives what the guest lets go on.
func (f *responseFilter) Read(into []byte) (int, error) {
	for len(f.out) == 0 {
		if f.ended && !f.waiting {
			return 0, io.EOF
		}
		verdict, err := f.step()
		f.waiting = err == nil && verdict == proxywasm.Paused
		if err == nil && (verdict == proxywasm.Closed || verdict == proxywasm.Replied) {
			err = errPluginReset
		}
		if err != nil {
			return 0, f.failed(err)
		}
	}
	n := copy(into, f.out)
	f.out = f.out[n:]
	return n, nil
}

// failed notes a guest's failure in mid-answer; what the source says stays as it is.
func (f *responseFilter) failed(err error) error {
	told, _ := f.x.pluginFailure(f.x.visitOf(f.stream).plugin, phaseResponse, err)
	return told
}

func (f *responseFilter) giveBuffer() {
	if f != nil && f.slot.P() != nil {
		f.slot.Give()
		f.slot = arena.Slot[bodyBlock]{}
	}
}

// Close closes the source.
func (f *responseFilter) Close() error {
	err := f.source.Close()
	f.giveBuffer()
	return err
}
