package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

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
		a.Body = http.NoBody
	}
	h := x.w.Header()
	x.copyFields(h, a.Fields)
	if len(a.TrailerNames) > 0 {
		h["Trailer"] = append(h["Trailer"], a.TrailerNames...)
	}
	x.status = a.Status
	control := http.NewResponseController(x.w)
	x.committed = true
	x.w.WriteHeader(a.Status)
	if a.Length < 0 || eventStream(h) { // what is unknown in length may be slow to come: the head goes now
		if err := control.Flush(); err != nil {
			return x.writing(err)
		}
	}
	if err := x.copyBody(a, control); err != nil {
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

// copyBody passes the content on, piece by piece, through one slot.
func (x *exchange) copyBody(a *upstream.Response, control *http.ResponseController) error {
	buffer, give := x.copyBuffer()
	defer give()
	for {
		if err := x.watchAnswer(deadlineIdle, x.idleTimeout()); err != nil {
			return err
		}
		n, readErr := a.Body.Read(buffer)
		if readErr != nil {
			if !errors.Is(readErr, io.EOF) {
				return x.brokeOff(readErr)
			}
			a.Body.Close()
			x.leave()
		}
		if n > 0 {
			if err := x.watchAnswer(deadlineWrite, x.gen.config.WriteTimeout); err != nil {
				return err
			}
			written, err := x.w.Write(buffer[:n])
			x.sent += int64(written)
			x.done = bytes.HasSuffix(bytes.TrimRight(buffer[:n], "\r\n"), []byte("data: [DONE]"))
			if err != nil {
				return x.writing(err)
			}
			if readErr == nil && x.sent != a.Length { // at the end net/http flushes by itself
				if err := control.Flush(); err != nil {
					return x.writing(err)
				}
			}
		}
		if readErr != nil {
			return nil
		}
	}
}

// copyBuffer returns a slot, or memory of the heap's under HTTP/2: there net/http's Write may return because
// the stream was reset while another goroutine still sends what it was given. In a slot that was given back
// this would be the content of another request.
func (x *exchange) copyBuffer() (buffer []byte, give func()) {
	if x.r.ProtoMajor != 1 {
		return make([]byte, len(bodyBlock{})), func() {}
	}
	slot := x.p.bodies.Take(x.hint)
	return slot.P()[:], slot.Give
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
	var named map[string]bool
	fields.Tokens("Connection", func(token string) {
		if named == nil {
			named = map[string]bool{}
		}
		named[http.CanonicalHeaderKey(token)] = true
	})
	for _, field := range fields {
		if !hopByHop[field.Name] && !named[field.Name] {
			h[field.Name] = append(h[field.Name], field.Value)
		}
	}
	if _, has := h["Content-Type"]; !has {
		h["Content-Type"] = nil // net/http guesses one otherwise
	}
	h["X-Edge-Request-Id"] = []string{x.id}
	x.closeAfter(h)
}

// eventStream reports whether an answer is server-sent events (HTML standard, section 9.2).
func eventStream(h http.Header) bool {
	for _, value := range h["Content-Type"] {
		if media, _, _ := strings.Cut(value, ";"); strings.EqualFold(strings.TrimSpace(media), "text/event-stream") {
			return true
		}
	}
	return false
}
