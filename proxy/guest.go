package proxy

import (
	"errors"
	"net/http"

	"github.com/edge-proxy/edge/plugins/httpwasm"
	"github.com/edge-proxy/edge/proxy/upstream"
)

// guest is an exchange as the guest of the current visit sees it. Route plugins see the request as the caller sent it,
// provider plugins as the provider will get it, but for the provider's key.
type guest exchange

var errTarget = errors.New("a URI that begins with / or ? and holds no space or control character")

func (g *guest) visit() *visit { return &g.draft.visits[g.draft.visiting] }

// Method is the request's.
func (g *guest) Method() string { return (*exchange)(g).methodOf(g.visit().inner) }

// SetMethod changes it.
func (g *guest) SetMethod(method string) { (*exchange)(g).setMethodOf(g.visit().inner, method) }

// URI is path and query as they stand on the wire.
func (g *guest) URI() string { return (*exchange)(g).uriOf(g.visit().inner) }

// SetURI changes it.
func (g *guest) SetURI(uri string) error { return (*exchange)(g).setURIOf(g.visit().inner, uri) }

// Protocol is the caller's.
func (g *guest) Protocol() string { return g.r.Proto }

// SourceAddr is the caller's, with its port.
func (g *guest) SourceAddr() string { return g.r.RemoteAddr }

// RequestID is for log lines.
func (g *guest) RequestID() string { return g.id }

// Fields is a list that the guest may change as the ABI lets it.
func (g *guest) Fields(k httpwasm.Kind) httpwasm.Fields {
	d := &g.draft
	switch k {
	case httpwasm.RequestHeader:
		switch {
		case !g.visit().inner:
			return &d.fields
		case d.keyed:
			return &d.sent
		}
		return &g.query.Fields
	case httpwasm.ResponseHeader:
		if d.phase == phaseRequest {
			return &d.preset
		}
		return &g.answer.Fields
	case httpwasm.RequestTrailer:
		return (*exchange)(g).requestTrailer()
	default:
		return &d.trailing
	}
}

// KeepRequestBody says whether the guest wants the content again when it sees the answer. What a guest reads goes
// upstream in any case, unless it writes something else.
func (g *guest) KeepRequestBody(keep bool) { g.visit().keep = keep }

// ReadBody gives the content from where the guest's last read ended.
func (g *guest) ReadBody(k httpwasm.BodyKind, into []byte) (n int, eof bool, err error) {
	x, v := (*exchange)(g), g.visit()
	b := x.draft.result
	if k == httpwasm.RequestBody {
		b = x.content()
	}
	if b == nil {
		return 0, true, nil
	}
	if k == httpwasm.RequestBody && b.src != nil && x.draft.phase == phaseRequest { // else it is held
		most := int64(v.plugin.config.MaxBody)
		if err := x.receive(b, min(v.read[k]+int64(len(into)), most+1)-b.growth(), nil); err != nil {
			return 0, false, err
		}
	}
	n = b.copyAt(into, v.read[k])
	if k == httpwasm.RequestBody && v.read[k]+int64(n) > int64(v.plugin.config.MaxBody) {
		return 0, false, x.tooLargeFor(v)
	}
	v.read[k] += int64(n)
	return n, b.whole.Load() && v.read[k] >= b.length(), nil
}

// WriteBody replaces the content, and appends to what the guest has written so far.
func (g *guest) WriteBody(k httpwasm.BodyKind, p []byte, first bool) error {
	x, v, d := (*exchange)(g), g.visit(), &g.draft
	into, tooLarge := &d.content, errPluginBody
	switch {
	case k == httpwasm.ResponseBody && d.phase == phaseRequest:
		into, tooLarge = &d.prefix, errPluginAnswer
	case k == httpwasm.ResponseBody:
		into, tooLarge = &d.result, errPluginAnswer
		d.wrote = true
	}
	if first {
		fresh := newHeldBody(x)
		if old := *into; old != nil {
			if into == &d.prefix { // what a plugin before this one wrote comes first
				for _, block := range old.blocks {
					if err := fresh.append(block); err != nil {
						fresh.release()
						return err
					}
				}
			}
			old.release()
		}
		*into = fresh
	}
	b := *into
	if b.size+int64(len(p)) > int64(v.plugin.config.MaxBody) {
		return worded(tooLarge, "the plugin %s wrote more than max_body_mb", v.plugin.config.Name)
	}
	return b.append(p)
}

// Status is the answer's.
func (g *guest) Status() int {
	switch {
	case g.draft.phase == phaseResponse:
		return g.answer.Status
	case g.draft.status != 0:
		return g.draft.status
	}
	return http.StatusOK
}

// SetStatus changes it.
func (g *guest) SetStatus(code int) {
	if g.draft.phase == phaseResponse {
		g.answer.Status = code
		return
	}
	g.draft.status = code
}

// methodOf is the request's method as a plugin sees it: inner for one of the provider's.
func (x *exchange) methodOf(inner bool) string {
	if inner {
		return x.query.Method
	}
	return x.method()
}

func (x *exchange) setMethodOf(inner bool, method string) {
	if inner {
		x.query.Method = method
		return
	}
	x.draft.method = method
}

func (x *exchange) uriOf(inner bool) string {
	uri := x.query.Target
	if !inner {
		if uri = x.draft.uri; uri == "" {
			uri = rawTarget(x.r)
		}
	}
	if uri == "" {
		return "/"
	}
	return uri
}

func (x *exchange) setURIOf(inner bool, uri string) error {
	switch {
	case uri == "" || uri[0] == '?':
		uri = "/" + uri
	case uri[0] != '/':
		return errTarget
	}
	if !printable(uri) {
		return errTarget
	}
	if inner {
		x.query.Target = uri
		return nil
	}
	x.draft.uri = uri
	return nil
}

// requestTrailer is the request's trailer as plugins left it. Its values are there once the content was read.
func (x *exchange) requestTrailer() *upstream.Fields {
	d := &x.draft
	if !d.trailed {
		d.trailed = true
		d.trailer = d.trailer[:0].AppendHeader(x.r.Trailer)
	}
	return &d.trailer
}
