package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/edge-proxy/edge/proxy/socket"
)

// inlineBytes is the most content that is sent before anything is read: so much finds room in the two kernels'
// buffers, whatever the upstream does. More is sent by a goroutine, since the upstream may stop reading and answer.
const inlineBytes = 16 << 10

// minScratch is the least memory that a request's Scratch is used for; ownScratch is what replaces it.
const (
	minScratch = 256
	ownScratch = 4 << 10
)

// lastWriteWait is how long the end of an answer waits for the last Write of the request to return.
const lastWriteWait = 50 * time.Millisecond // as net/http

// call is one request on one connection, and the reader of its answer's content. It is never used again, so that
// whoever keeps a Body too long reads nobody else's answer.
type call struct {
	client *Direct
	conn   *conn
	ctx    context.Context
	query  *Request
	body   io.ReadCloser // of the request, which sending closes; nil: none
	fresh  bool          // a new connection is preferred

	sending sender

	filled   []byte // read but not used yet, with room behind
	received int    // bytes read in search of heads

	framing framing
	left    int64 // bytes of sized content to come
	chunks  chunked
	keeps   bool  // the connection may carry another request
	err     error // what Read says from now on
	stop    func() bool
	ended   bool // the connection is no longer ours
}

// framing is how an answer's content ends (RFC 9112, section 6.3).
type framing uint8

const (
	framingNone framing = iota
	framingSized
	framingChunked
	framingClose
)

// do sends the request and reads the head of the answer. On an error all has come to an end.
func (k *call) do(a *Response) error {
	k.watch()
	err := k.send()
	if err == nil {
		err = k.answer(a)
	}
	if err == nil {
		return nil
	}
	if own := k.sending.failure(); own != nil {
		err = own
	}
	k.abandon(err)
	return err
}

// repeatable reports whether a failed request may be sent on another connection, if its content can be had again.
func (k *call) repeatable() bool {
	if k.conn == nil || !k.conn.reused || k.received > 0 || k.sending.failure() != nil {
		return false
	}
	return k.sending.untouched() || safe(k.query.Method)
}

// watch makes the end of the context break the connection.
func (k *call) watch() {
	if e, ok := k.ctx.(Ender); ok {
		e.OnEnd(k.conn)
	} else if k.ctx.Done() != nil {
		k.stop = context.AfterFunc(k.ctx, k.conn.Break)
	}
}

// unwatch undoes watch. From then on the connection is not broken any more; conn.broken says whether it was, or is
// about to be.
func (k *call) unwatch() {
	if e, ok := k.ctx.(Ender); ok {
		e.OnEnd(nil)
	} else if k.stop != nil && !k.stop() {
		k.conn.broken.Store(true) // Break runs, or has run
	}
}

// send sends the request, or lets a goroutine do the rest of it. Of a connection that broke in the midst there may
// be an answer all the same: no error then.
func (k *call) send() error {
	q, body := k.query, k.body
	scratch := slices.Clip(q.Scratch) // what lies behind it is not lent
	if len(scratch) < minScratch {
		scratch = make([]byte, ownScratch)
	}
	k.filled = scratch[:0] // the head is sent before anything is read
	s := &k.sending
	s.begin(k.conn, q, k.client, scratch)
	waiting := -1
	if l, ok := body.(interface{ Len() int }); ok {
		waiting = l.Len()
	}
	expects := q.Length != 0 && strings.EqualFold(q.Fields.Get("Expect"), "100-continue")
	if e, ok := body.(interface{ Exact() bool }); ok {
		s.exact = e.Exact()
	}
	held := body == nil || s.exact && int64(waiting) == q.Length && q.Length <= inlineBytes && !expects
	if held && k.conn.asks() && waiting <= cap(s.head)-len(s.head) {
		return k.ask()
	}
	if err := k.quiet(); err != nil {
		closeBody(body)
		return err
	}
	switch {
	case body == nil:
		return k.sent(s.alone())
	case held:
		return k.whole(s.content(body))
	}
	if h, ok := body.(holder); ok && s.exact && waiting > inlineBytes && int64(waiting) <= q.Length && !expects && k.conn.bursts() {
		if all, err := s.burst(h); all || err != nil {
			body.Close()
			return k.whole(err)
		}
		s.start(body, false)
		return nil
	}
	if err := k.sent(s.first(body, waiting > 0 && !expects)); err != nil {
		body.Close()
		return err
	}
	s.start(body, expects)
	return nil
}

// sent returns an error of sending only if there cannot be an answer.
func (k *call) sent(err error) error {
	if err != nil && !k.sending.untouched() && k.sending.failure() == nil {
		return nil
	}
	return err
}

// whole is sent for content that was sent as a whole, or not at all.
func (k *call) whole(err error) error {
	if err == nil && k.query.Sent != nil && !safe(k.query.Method) { // what is safe may be sent anew; repeatable
		k.query.Sent()
	}
	return k.sent(err)
}

// answer reads heads until one is final, and fills in a.
func (k *call) answer(a *Response) error {
	for early := 0; ; early++ {
		head, err := k.head()
		if err != nil {
			return err
		}
		h, err := parseHead(head, a.Fields[:0])
		if err != nil {
			return err
		}
		a.Fields = h.fields
		switch {
		case h.status == http.StatusSwitchingProtocols:
			if !k.query.Fields.Has("Upgrade") {
				return fmt.Errorf("%w: 101 that nobody asked for", ErrAnswer)
			}
			return k.upgrade(a, h)
		case h.status < 200:
			if early == maxEarly {
				return fmt.Errorf("%w: more than %d answers of class 1xx", ErrAnswer, maxEarly)
			}
			if h.status == http.StatusContinue {
				k.sending.proceed()
			} else if k.query.Early != nil {
				k.query.Early(h.status, append(Fields(nil), h.fields...))
			}
			continue
		}
		k.settle(a, h)
		return nil
	}
}

// settle fills in a for a final answer.
func (k *call) settle(a *Response, h answerHead) {
	k.sending.decline()
	k.frame(h)
	k.keeps = h.keeps && k.framing != framingClose && !k.query.closes()
	k.conn.keep = idleConnTimeout
	if h.idle > 0 {
		k.conn.keep = min(h.idle, idleConnTimeout)
	}
	a.Status, a.Length, a.Upgraded = h.status, h.length, nil
	a.TrailerNames = append(a.TrailerNames[:0], h.trailers...)
	a.Trailer = noTrailer
	switch {
	case k.framing == framingChunked:
		a.Length = -1
		a.Trailer = k.trailer
	case k.framing == framingClose:
		a.Length = -1
	case k.query.Method != http.MethodHead:
		a.Length = k.left
	}
	if k.framing == framingNone || k.framing == framingSized && k.left == 0 {
		_ = k.finish() // the end, which NoBody says too
		a.Body = http.NoBody
		return
	}
	a.Body = k
}

// frame finds out where the content ends.
func (k *call) frame(h answerHead) {
	switch {
	case k.query.Method == http.MethodHead, h.status == http.StatusNoContent, h.status == http.StatusNotModified:
		k.framing = framingNone
	case h.chunked:
		k.framing = framingChunked
	case h.length >= 0:
		k.framing, k.left = framingSized, h.length
	default:
		k.framing = framingClose
	}
}

func noTrailer() Fields { return nil }

// Read gives the answer's content. Errors: io.EOF, io.ErrUnexpectedEOF, ErrAnswer, those of the network, or the
// cause of the context's end.
func (k *call) Read(p []byte) (n int, err error) {
	if k.err != nil || len(p) == 0 {
		return 0, k.err
	}
	switch k.framing {
	case framingSized:
		n, err = k.read(p[:min(int64(len(p)), k.left)])
		if k.left -= int64(n); k.left == 0 {
			return n, k.finish()
		}
	case framingChunked:
		return k.readChunks(p)
	default:
		if n, err = k.read(p); err == io.EOF && !k.conn.cut() { //nolint:errorlint // a connection's own, never wrapped
			return n, k.finish()
		}
	}
	if err != nil {
		err = k.fail(err)
	}
	return n, err
}

// readChunks reads raw bytes into p and leaves the content among them there, without a copy through another buffer.
func (k *call) readChunks(p []byte) (int, error) {
	for {
		raw, err := k.read(p)
		n, used, wrong := k.chunks.decode(p[:raw])
		switch {
		case wrong != nil:
			return 0, k.fail(wrong)
		case k.chunks.done():
			if used < raw {
				k.keeps = false // more than an answer
			}
			return n, k.finish()
		case err != nil:
			return n, k.fail(err)
		case n > 0:
			return n, nil
		}
	}
}

// Ready reports whether Read returns without waiting.
func (k *call) Ready() bool {
	switch {
	case k.err != nil:
		return true
	case k.framing == framingChunked:
		return k.chunks.ready(k.filled)
	}
	return len(k.filled) > 0
}

// Pipes reports whether Pipe can stand in for Read up to the content's end: its length is known, the connection is plain TCP,
// and what was read along with the head is used up.
func (k *call) Pipes() bool {
	return k.framing == framingSized && len(k.filled) == 0 && k.conn.records == nil && k.conn.tcp != nil
}

// Pipe is Read into a pipe, which is empty, of most bytes at most. It is called only once Pipes has said that it can be. With
// socket.ErrNoSplice it has read nothing, and Read goes on.
func (k *call) Pipe(into *socket.Pipe, most int) (int, error) {
	if k.err != nil {
		return 0, k.err
	}
	n, err := into.Fill(k.conn.tcp, int(min(int64(most), k.left)))
	if k.left -= int64(n); k.left == 0 {
		return n, k.finish()
	}
	if err != nil && !errors.Is(err, socket.ErrNoSplice) {
		err = k.fail(err)
	}
	return n, err
}

// read takes what was read with the head first, then what comes.
func (k *call) read(p []byte) (int, error) {
	if len(k.filled) > 0 {
		n := copy(p, k.filled)
		k.filled = k.filled[n:]
		return n, nil
	}
	return k.conn.Read(p)
}

// trailer is a.Trailer.
func (k *call) trailer() Fields { return k.chunks.fields }

var errClosedBody = errors.New("upstream: read of a closed body")

// Close ends the answer. Before its end it closes the connection.
func (k *call) Close() error {
	k.abandon(errClosedBody)
	return nil
}

// fail ends the answer because of err and returns why.
func (k *call) fail(err error) error {
	if err == io.EOF { //nolint:errorlint // as above
		err = io.ErrUnexpectedEOF
	}
	if cause := causeOf(k.ctx); cause != nil {
		err = cause
	} else if own := k.sending.failure(); own != nil {
		err = own
	}
	k.abandon(err)
	return k.err
}

// abandon closes the connection, if it is still ours.
func (k *call) abandon(err error) {
	if k.ended {
		return
	}
	k.ended, k.err, k.filled = true, err, nil
	k.unwatch()
	k.conn.Break()
	k.client.pool.gone()
	k.sending.decline()
}

// finish ends an answer that is whole, and returns io.EOF. The connection goes back to the pool if it can carry another
// request.
func (k *call) finish() error {
	if len(k.filled) > 0 {
		k.keeps = false // nobody has asked for that
	}
	k.ended, k.err, k.filled = true, io.EOF, nil
	k.unwatch()
	if k.keeps && k.sending.over() && k.conn.drained() && !k.conn.broken.Load() {
		k.conn.reused, k.conn.since = true, elapsed()
		k.client.pool.give(k.conn)
	} else {
		k.conn.Break()
		k.client.pool.gone()
	}
	return io.EOF
}
