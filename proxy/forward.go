package proxy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// warnEvery is how often a provider's failures are logged; edge_rejected_total counts them all.
const warnEvery = time.Second

// forward sends the request and waits for the head of the answer.
func (x *exchange) forward() error {
	q := &x.query
	if !passedOn(q.Method) {
		return worded(errBadRequest, "%s is not passed on", q.Method) // a plugin has set it
	}
	if err := x.gather(); err != nil {
		return err
	}
	x.finishHead(q)
	q.Scratch, q.Sent = x.head.P()[:], x.onSent
	if b := x.content(); b != nil {
		q.Body = b.reader()
		if b.complete() {
			q.Again = x.onAgain
		}
		q.Length = x.declaredLength()
	}
	if x.draft.trailed {
		x.trail(q)
	}
	ctx, err := x.bound(deadlineFirstByte, x.end.config.Timeout)
	if err != nil {
		if q.Body != nil {
			q.Body.Close()
		}
		return err
	}
	x.course.unsent = false
	x.pacing.dispatch()
	err = x.use.client.Do(ctx, q, &x.answer)
	defer x.detachAll() // an answer that comes before the content has ended ends that
	if late := x.unbound(); err != nil || late != nil {
		if err == nil {
			x.closeAnswer()
			return late
		}
		if x.course.unsent = errors.Is(err, upstream.ErrNotSent); x.course.unsent {
			x.pacing.recall()
		}
		err = x.failed(err)
		if errors.Is(err, errUpstream) || errors.Is(err, errFirstByte) {
			x.use.tell(outcomeIll)
		}
		return err
	}
	came := time.Now()
	x.firstByte = came.Sub(x.began)
	x.end.stats.firstByte.Update(x.firstByte.Seconds())
	x.use.tell(outcomeOf(x.answer.Status))
	if err := x.announced(came); err != nil {
		return err
	}
	x.contentSent()
	if a := &x.answer; q.Method == http.MethodHead && x.r.Method != http.MethodHead { // a plugin's wish
		a.Length = 0 // what Content-Length says is not coming
		a.Fields.Del("Content-Length")
	}
	return nil
}

// contentLeft gives the content back as soon as it was sent, unless the lane of the answer may have to be found by it.
func (x *exchange) contentLeft() {
	if x.contentGoes() {
		x.contentSent()
	}
}

func (x *exchange) contentGoes() bool {
	return x.pacing.lane != nil || x.end.quota.silent.Load() && len(x.end.ring.keys) <= 1
}

// contentSent gives the content back, unless a plugin, or another attempt, wants to see it again. What has left as a whole
// is not held while its answer is waited for.
func (x *exchange) contentSent() {
	if len(x.draft.visits) == 0 && !x.course.several {
		x.releaseContent()
	}
}

// again gives the content anew to the client, while that is in Do.
func (x *exchange) again() (io.ReadCloser, error) { return x.content().reader(), nil }

// failed says what a client's error means for the caller. Nil means that a plugin has answered.
func (x *exchange) failed(err error) error {
	for _, f := range x.draft.piped {
		f.detach() // else the sending goroutine may still be waiting for a guest
	}
	if own, failed := x.pipeFailed(); failed {
		return own
	}
	if x.ctx.Err() != nil {
		return x.endedBy()
	}
	if b := x.body.Load(); b != nil {
		if failure := b.failure(); failure != nil {
			return x.reading(failure)
		}
	}
	if _, r, _, _ := refusalOf(err); r != reasonInternal {
		return err
	}
	if last := x.end.warned.Load(); now()-last > uint64(warnEvery/time.Microsecond) && x.end.warned.CompareAndSwap(last, now()) {
		x.p.log.LogAttrs(context.Background(), slog.LevelWarn, "upstream failed",
			slog.String(keyProvider, x.end.name), slog.String(keyRequest, x.id), slog.String(keyError, err.Error()))
	}
	return errUpstream
}

// compose writes the request as the provider's plugins see it: without what is the caller's connection's, what was
// shown to Edge only, and the provider's key.
func (x *exchange) compose() error {
	if err := x.chooseKey(); err != nil {
		return err
	}
	wait := time.Duration(0)
	if x.use, wait = x.end.pick(x.use.replica); x.use.replica == nil {
		return x.unavailable(wait)
	}
	q := &x.query
	q.Method, q.Target = x.method(), x.targetFor()
	q.Length, q.Trailer = x.r.ContentLength, x.r.Trailer
	if x.body.Load() == nil {
		q.Length = 0
	}
	// HTTP/1.0 has no 1xx. Under HTTP/2 net/http may still read the header map after it has sent one. And where 100
	// is due, net/http writes that from the goroutine that reads the content, at the same time.
	if x.r.ProtoMajor == 1 && x.r.ProtoMinor > 0 && !expectsContinue(x.r) {
		q.Early = x.onEarly
	}
	q.Fields = q.Fields[:0]
	named := connectionNamed(x.r.Header)
	via := ""
	pass := func(name, value string) {
		switch {
		case hopByHop(name) || forwarding(name) || name == "Content-Length" || named[name]:
		case name == "Via":
			via += value + ", "
		default:
			q.Fields = append(q.Fields, upstream.Field{Name: name, Value: value})
		}
	}
	if edited := x.draft.fields; len(edited) > 0 {
		for _, field := range edited {
			if field.Name != "Host" { // the provider's own is used
				pass(field.Name, field.Value)
			}
		}
	} else {
		for name, values := range x.r.Header {
			for _, value := range values {
				pass(name, value)
			}
		}
	}
	q.Fields = append(q.Fields, upstream.Field{Name: "Via", Value: via + x.p.via})
	x.withoutTokens(q)
	return nil
}

// finishHead puts in what plugins do not see: what concerns the connection, the configured fields and the key.
func (x *exchange) finishHead(q *upstream.Request) {
	if b := x.content(); b != nil && b.complete() {
		q.Fields.Del("Expect") // nothing is left to wait for
	}
	if acceptsTrailers(x.r.Header) {
		q.Fields = append(q.Fields, upstream.Field{Name: "Te", Value: "trailers"})
	}
	if protocol := x.upgradeAsked(); protocol != "" {
		q.Fields = append(q.Fields, upstream.Field{Name: "Connection", Value: "Upgrade"}, upstream.Field{Name: "Upgrade", Value: protocol})
	}
	x.draft.keyed = true // before that is so: from here on plugins see what they have left in sent
	x.withKey(q)
}

// declaredLength is the length of the content in bytes; -1 means that it is not known.
func (x *exchange) declaredLength() int64 {
	b := x.content()
	switch {
	case b == nil:
		return 0
	case b.complete() && b != x.body.Load():
		return b.length()
	case b.declared < 0:
		return -1
	}
	return b.declared + b.growth()
}

// trail sends the trailer as plugins left it, which takes chunked content (RFC 9112, section 6.5).
func (x *exchange) trail(q *upstream.Request) {
	if b := x.body.Load(); len(x.draft.trailer) == 0 && b != nil && !b.complete() {
		return // a plugin has looked too early: the caller's is still to come
	}
	if len(x.draft.trailer) == 0 || q.Body == nil {
		q.Trailer = nil
		return
	}
	q.Trailer, q.Length = http.Header{}, -1
	for _, field := range x.draft.trailer {
		q.Trailer.Add(field.Name, field.Value)
	}
}

// method is the request's, as route plugins left it.
func (x *exchange) method() string {
	if x.draft.method != "" {
		return x.draft.method
	}
	return x.r.Method
}

// upgradeAsked returns the protocol that the caller wants to change to, or "". A request with content cannot:
// its reader would be at the connection that the upgrade takes over. Nor can h2c: behind it there would be
// requests that no gate has seen.
func (x *exchange) upgradeAsked() string {
	protocol := upgradeOf(x.r.Header)
	if x.r.ProtoMajor != 1 || x.content() != nil || strings.EqualFold(protocol, "h2c") {
		return ""
	}
	return protocol
}

// early passes a 1xx answer on. net/http sends whatever is in the header map with it.
func (x *exchange) early(status int, fields upstream.Fields) {
	h := x.w.Header()
	for _, field := range fields {
		if !hopByHop(field.Name) {
			h[field.Name] = append(h[field.Name], field.Value)
		}
	}
	control := http.NewResponseController(x.w)
	_ = control.SetWriteDeadline(time.Now().Add(x.gen.config.WriteTimeout)) // not every server can
	x.w.WriteHeader(status)
	_ = control.SetWriteDeadline(time.Time{})
	clear(h)
}

// connectionNamed returns the fields that Connection names: they concern this connection only.
func connectionNamed(h http.Header) (named map[string]bool) {
	for _, value := range h["Connection"] {
		named = nameFields(named, value)
	}
	return named
}

// nameFields adds to named, which it makes if it must, the fields that a value of Connection names. What else stands there
// is no field that passes.
func nameFields(named map[string]bool, value string) map[string]bool {
	for token := range strings.SplitSeq(value, ",") {
		name := http.CanonicalHeaderKey(strings.TrimSpace(token))
		if name == "" || name == "Close" || hopByHop(name) {
			continue
		}
		if named == nil {
			named = map[string]bool{}
		}
		named[name] = true
	}
	return named
}

// acceptsTrailers reports whether the caller wants trailers (RFC 9110, section 10.1.4).
func acceptsTrailers(h http.Header) bool {
	for _, value := range h["Te"] {
		for token := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(token), "trailers") {
				return true
			}
		}
	}
	return false
}

// processTag tells this process from others in Via and in request ids: 8 hexadecimal digits.
func processTag() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
