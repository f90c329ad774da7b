package proxy

import (
	"net/http"
	"time"
)

// This file is about what is left of a request when its answer is ready: content that nobody has read. HTTP/1.1
// has no way to refuse it. net/http by itself reads up to 256 KiB of it before it sends the head of an answer, and
// again after the handler, for as long as the caller likes.

const (
	readUpBytes = 64 << 10               // content read to keep a connection whose request is refused
	readUpTime  = 100 * time.Millisecond // how long that may take: what was sent with the head is there
)

// readUp reads the rest of a small content, so that the connection can go on after a refusal.
func (x *exchange) readUp() {
	b := x.body.Load()
	if b == nil || b.whole.Load() || x.r.ProtoMajor != 1 || x.r.ContentLength > readUpBytes || expectsContinue(x.r) {
		return
	}
	control := http.NewResponseController(x.w)
	if control.SetReadDeadline(time.Now().Add(readUpTime)) != nil {
		return // and the connection is not kept
	}
	slot := x.p.bodies.Take(x.hint)
	defer slot.Give()
	for read := 0; read < readUpBytes; {
		n, err := b.takeWhile(slot.P()[:], func() bool { return true }) // also after a timeout of ours
		if read += n; err != nil {
			break
		}
	}
	_ = control.SetReadDeadline(time.Time{}) // as above
}

// closeAfter ends the connection after this answer, when the proxy drains or content is left unread: then net/http
// sends the head without reading it first, and what is left cannot be taken for the next request.
func (x *exchange) closeAfter(h http.Header) {
	b := x.body.Load()
	// Under HTTP/2 Connection: close ends all streams of the connection, and unread content is no trouble.
	unread := x.r.ProtoMajor == 1 && b != nil && !b.complete()
	if unread || x.p.draining.Load() {
		h["Connection"] = []string{"close"}
	} else if b != nil && x.r.ProtoMajor == 1 {
		x.r.Body.Close() // it was read to its end; net/http looks for more of what is not closed
	}
}

// releaseConnection bounds what net/http does after the handler: it sends the end of the answer and, on an HTTP/1.1
// connection, reads some of what is left of the content.
func (x *exchange) releaseConnection() {
	if x.tunnel.Load() {
		return
	}
	control := http.NewResponseController(x.w)
	_ = control.SetWriteDeadline(x.ended.Add(x.gen.config.WriteTimeout)) // net/http removes it; not every server can
	if b := x.body.Load(); x.r.ProtoMajor == 1 && b != nil && !b.complete() {
		b.abandon(func() { x.interrupt(deadlineBody) })
		if !x.broken { // else the connection is to end now
			_ = control.SetReadDeadline(time.Now().Add(x.gen.config.BodyTimeout)) // as above
		}
	}
}
