package proxy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// warnEvery is how often a provider's failures are logged; edge_rejected_total counts them all.
const warnEvery = time.Second

// upstreamClient is what Edge needs of a provider's connections.
type upstreamClient interface {
	Do(ctx context.Context, q *upstream.Request, a *upstream.Response) error
	Close()
}

// forward sends the request and waits for the head of the answer.
func (x *exchange) forward() error {
	q := &x.query
	x.compose(q)
	if err := x.credentials(q); err != nil {
		return err
	}
	if b := x.body.Load(); b != nil {
		q.Body = b.reader()
		if b.complete() {
			q.Again = func() (io.ReadCloser, error) { return b.reader(), nil }
		}
		if q.Length >= 0 {
			q.Length -= b.cutTo - b.cutFrom
		}
	}
	if err := x.watch(deadlineFirstByte, x.end.config.Timeout); err != nil {
		if q.Body != nil {
			q.Body.Close()
		}
		return err
	}
	err := x.end.client.Do(x.ctx, q, &x.answer)
	if late := x.unwatch(); err != nil || late != nil {
		if err == nil {
			x.answer.Body.Close()
			if x.answer.Upgraded != nil {
				x.answer.Upgraded.Close()
			}
			return late
		}
		return x.failed(err)
	}
	x.firstByte = time.Since(x.began)
	x.end.stats.firstByte.Update(x.firstByte.Seconds())
	return nil
}

// failed says what a client's error means for the caller.
func (x *exchange) failed(err error) error {
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

// compose writes the request that goes upstream, but for the credentials and the content.
func (x *exchange) compose(q *upstream.Request) {
	q.Method, q.Target = x.r.Method, x.target
	q.Length, q.Trailer = x.r.ContentLength, x.r.Trailer
	if x.body.Load() == nil {
		q.Length = 0
	}
	// HTTP/1.0 has no 1xx. Under HTTP/2 net/http may still read the header map after it has sent one. And where 100
	// is due, net/http writes that from the goroutine that reads the content, at the same time.
	if x.r.ProtoMajor == 1 && x.r.ProtoMinor > 0 && !expectsContinue(x.r) {
		q.Early = x.early
	}
	q.Fields = q.Fields[:0]
	named := connectionNamed(x.r.Header)
	via := ""
	for name, values := range x.r.Header {
		switch {
		case hopByHop[name] || forwarding(name) || name == "Content-Length" || named[name]:
			continue
		case name == "Via":
			via = strings.Join(values, ", ") + ", "
			continue
		}
		for _, value := range values {
			q.Fields = append(q.Fields, upstream.Field{Name: name, Value: value})
		}
	}
	q.Fields = append(q.Fields, upstream.Field{Name: "Via", Value: via + x.p.via})
	if acceptsTrailers(x.r.Header) {
		q.Fields = append(q.Fields, upstream.Field{Name: "Te", Value: "trailers"})
	}
	if protocol := x.upgradeAsked(); protocol != "" {
		q.Fields = append(q.Fields, upstream.Field{Name: "Connection", Value: "Upgrade"}, upstream.Field{Name: "Upgrade", Value: protocol})
	}
}

// upgradeAsked returns the protocol that the caller wants to change to, or "". A request with content cannot:
// its reader would be at the connection that the upgrade takes over. Nor can h2c: behind it there would be
// requests that no gate has seen.
func (x *exchange) upgradeAsked() string {
	protocol := upgradeOf(x.r.Header)
	if x.r.ProtoMajor != 1 || x.body.Load() != nil || strings.EqualFold(protocol, "h2c") {
		return ""
	}
	return protocol
}

// early passes a 1xx answer on. net/http sends whatever is in the header map with it.
func (x *exchange) early(status int, fields upstream.Fields) {
	h := x.w.Header()
	for _, field := range fields {
		if !hopByHop[field.Name] {
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
func connectionNamed(h http.Header) map[string]bool {
	var named map[string]bool
	for _, value := range h["Connection"] {
		for token := range strings.SplitSeq(value, ",") {
			name := http.CanonicalHeaderKey(strings.TrimSpace(token))
			if name == "" || name == "Close" || name == "Keep-Alive" || name == "Upgrade" {
				continue
			}
			if named == nil {
				named = map[string]bool{}
			}
			named[name] = true
		}
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
