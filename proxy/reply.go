package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/edge-proxy/edge/arena"
	"github.com/edge-proxy/edge/proxy/upstream"
)

// reply passes the answer on as it arrives. It gives the permit back when the last byte was read from the
// provider, before the caller has taken it.
func (x *exchange) reply() error {
	a := &x.answer
	x.stage = stageStreaming
	if a.Upgraded != nil {
		return x.upgrade()
	}
	defer a.Body.Close() // before its end this closes the connection; leave gives the permit back after that
	if err := x.watchAnswer(deadlineWrite, x.gen.config.WriteTimeout); err != nil {
		return err
	}
	if x.draft.answered || x.draft.failure != nil {
		x.readUp()
	}
	if bodyless(x.r.Method, a.Status) { // Edge and plugins may have made content all the same
		a.Body.Close()
		x.leave()
		x.discharge()
		a.Body = http.NoBody
	}
	h := x.w.Header()
	lines := x.headAsLines(h)
	if lines == nil {
		x.copyFields(h, a.Fields)
	}
	if len(a.TrailerNames) > 0 {
		h["Trailer"] = append(h["Trailer"], a.TrailerNames...)
	}
	x.status = a.Status
	control := http.NewResponseController(x.w)
	x.committed = true
	x.w.WriteHeader(a.Status)
	lines.follow()
	content := contentOf(a.Fields)
	if (a.Length < 0 || content.events) && !ready(a.Body) { // what is unknown in length may be slow to come: the head goes now
		if err := control.Flush(); err != nil {
			return x.writing(err)
		}
	}
	x.beginUsage(content)
	x.keepStreamAlive(content)
	err := x.copyBody(a, content, control)
	x.alive.end(x, err != nil)
	if err != nil {
		return err
	}
	for _, name := range a.TrailerNames {
		delete(h, name) // what was a field of the head is none of the trailer
	}
	for _, field := range a.Trailer() {
		name := field.Name
		if !slices.Contains(a.TrailerNames, name) {
			name = http.TrailerPrefix + name
		}
		h[name] = append(h[name], field.Value)
	}
	return x.unwatchAnswer()
}

// ready reports whether content is there, which the head goes with.
func ready(body io.Reader) bool {
	r, ok := body.(interface{ Ready() bool })
	return ok && r.Ready()
}

// longAfter is how many slots filled in a row make an answer of unknown length a long one. Fewer, larger system
// calls: W7 cost .95 to 1.1 of rp with long blocks of 32 KiB, .81 to .89 with 128 KiB; docs/bench.md.
const longAfter = 8

// copyBody passes the content on, piece by piece, through one slot; what may, goes through the kernel after the first.
func (x *exchange) copyBody(a *upstream.Response, of content, control *http.ResponseController) error {
	through, first := x.passable(a, of)
	buffer := x.buffer(first)
	defer buffer.give()
	for filled := 0; ; {
		if err := x.watchAnswer(deadlineIdle, x.idleTimeout()); err != nil {
			return err
		}
		n, readErr := a.Body.Read(buffer.bytes)
		if filled++; n < len(buffer.bytes) {
			filled = 0
		}
		if readErr != nil {
			if !errors.Is(readErr, io.EOF) {
				return x.brokeOff(readErr)
			}
			a.Body.Close()
			x.leave()
			x.discharge()
		}
		if n > 0 {
			piece := buffer.bytes[:n]
			if err := x.watchAnswer(deadlineWrite, x.gen.config.WriteTimeout); err != nil {
				return err
			}
			if err := x.send(piece, of, readErr == nil, control); err != nil {
				return x.writing(err)
			}
			if x.usage.state == usageReading {
				x.usage.see(x, piece)
			}
		}
		if readErr != nil {
			return nil
		}
		if through != nil {
			if passed, err := x.pass(through, &buffer); passed {
				return err
			}
			through = nil
		}
		if filled == longAfter {
			buffer.lengthen(x)
		}
	}
}

// send writes a piece to the caller. If more is to come it is flushed; at the end net/http does that by itself.
func (x *exchange) send(piece []byte, of content, more bool, control *http.ResponseController) error {
	if x.alive != nil {
		x.alive.mu.Lock()
		defer x.alive.mu.Unlock()
		x.alive.note(piece)
	}
	written, err := x.w.Write(piece)
	x.sent += int64(written)
	x.done = of.events && bytes.HasSuffix(bytes.TrimRight(piece, "\r\n"), []byte("data: [DONE]"))
	if err == nil && more && x.sent != x.answer.Length {
		err = control.Flush()
	}
	return err
}

// copyBuffer is what an answer passes through: a slot, a long block, or memory of the heap's under HTTP/2: there
// net/http's Write may return because the stream was reset while another goroutine still sends what it was given. In a
// slot that was given back this would be the content of another request.
type copyBuffer struct {
	bytes []byte
	slot  arena.Slot[bodyBlock]
	long  arena.Slot[longBlock]
}

// buffer returns one for an answer of so many bytes; -1 means unknown. The caller gives it back.
func (x *exchange) buffer(length int64) (b copyBuffer) {
	switch {
	case x.r.ProtoMajor != 1:
		b.bytes = make([]byte, len(bodyBlock{}))
	case length > 2*int64(len(bodyBlock{})):
		b.lengthen(x)
	default:
		b.slot = x.p.bodies.Take(x.hint)
		b.bytes = b.slot.P()[:]
	}
	return b
}

// lengthen takes a long block, in place of the slot if there was one.
func (b *copyBuffer) lengthen(x *exchange) {
	if len(b.bytes) == len(longBlock{}) {
		return
	}
	if x.r.ProtoMajor != 1 {
		b.bytes = make([]byte, len(longBlock{}))
		return
	}
	b.give()
	b.long = x.p.longs.Take(x.hint)
	b.bytes = b.long.P()[:]
}

func (b *copyBuffer) give() {
	if b.slot.P() != nil {
		b.slot.Give()
	}
	if b.long.P() != nil {
		b.long.Give()
	}
}

// brokeOff says why the provider's answer ended before its end.
func (x *exchange) brokeOff(err error) error {
	if x.ctx.Err() != nil {
		return x.endedBy()
	}
	if _, r, _, _ := refusalOf(err); r != reasonInternal { // a plugin has ended it
		return err
	}
	return worded(errUpstream, "the answer broke off: %v", err)
}

// writing says why the caller could not be written to: it is too slow, or gone.
func (x *exchange) writing(error) error {
	if x.ctx.Err() != nil {
		return x.endedBy()
	}
	return errClientGone
}

// copyFields puts the answer's fields into h, but for those of the upstream connection, and adds our own.
func (x *exchange) copyFields(h http.Header, fields upstream.Fields) {
	named := namedByConnection(fields)
	values := make([]string, 0, len(fields)+1) // one array for all single values
	for _, field := range fields {
		switch have := h[field.Name]; {
		case hopByHop(field.Name) || named[field.Name]:
		case have != nil:
			h[field.Name] = append(have, field.Value)
		default:
			values = append(values, field.Value)
			h[field.Name] = last(values)
		}
	}
	if _, has := h["Content-Type"]; !has {
		h["Content-Type"] = nil // net/http guesses one otherwise
	}
	h[requestIDField] = last(append(values, x.id))
	x.tellAttempts(h)
	x.closeAfter(h)
}

// last is the last of values, by itself: what is appended to it goes elsewhere.
func last(values []string) []string { return values[len(values)-1 : len(values) : len(values)] }

// namedByConnection returns the fields that an answer's Connection names; nil when there are none.
func namedByConnection(fields upstream.Fields) (named map[string]bool) {
	for i := range fields {
		if fields[i].Name == "Connection" {
			named = nameFields(named, fields[i].Value)
		}
	}
	return named
}

// content is what the head of an answer says of its content.
type content struct {
	events  bool // server-sent events (HTML standard, section 9.2)
	json    bool
	encoded bool // compressed or otherwise encoded (RFC 9110, section 8.4)
}

func contentOf(fields upstream.Fields) (c content) {
	types := 0
	for i := range fields {
		value := fields[i].Value
		switch fields[i].Name {
		case "Content-Type":
			media, _, _ := strings.Cut(value, ";")
			c.events = c.events || strings.EqualFold(strings.TrimSpace(media), "text/event-stream")
			types++
			c.json = types == 1 && (value == "application/json" || jsonType(value))
		case "Content-Encoding":
			c.encoded = c.encoded || value != "" && value != "identity"
		}
	}
	return c
}
