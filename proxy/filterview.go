package proxy

import (
	"net"
	"net/http"
	"time"

	"github.com/edge-proxy/edge/plugins/proxywasm"
	"github.com/edge-proxy/edge/proxy/upstream"
)

// filterView is an exchange as the guest of a Proxy-Wasm plugin sees it: inner for the provider's plugins, who see the
// request as the provider will get it, but for its key; outer for the route's, who see what the caller sent.
type filterView struct {
	x     *exchange
	inner bool
}

func (f *filterView) Method() string { return f.x.methodOf(f.inner) }

func (f *filterView) SetMethod(method string) { f.x.setMethodOf(f.inner, method) }

func (f *filterView) Path() string { return f.x.uriOf(f.inner) }

func (f *filterView) SetPath(path string) error { return f.x.setURIOf(f.inner, path) }

// Authority is Host: for the inner view that of the base URL, unless a plugin has set another.
func (f *filterView) Authority() string {
	switch {
	case !f.inner:
		return f.x.draft.fields.Get("Host")
	case !f.x.draft.keyed:
		return f.x.query.Fields.Get("Host")
	case f.x.query.Host != "":
		return f.x.query.Host
	}
	return f.x.use.host
}

func (f *filterView) SetAuthority(authority string) {
	if f.inner {
		f.x.query.Fields.Set("Host", authority)
		return
	}
	f.x.draft.fields.Set("Host", authority)
}

// Scheme is the caller's, and the provider's for the inner view.
func (f *filterView) Scheme() string {
	switch {
	case f.inner:
		return f.x.use.scheme
	case f.x.r.TLS != nil:
		return "https"
	}
	return "http"
}

func (f *filterView) Status() int { return f.x.answer.Status }

func (f *filterView) SetStatus(code int) {
	if code >= http.StatusOK && code <= 999 {
		f.x.answer.Status = code
	}
}

// hostless is a list of fields in which Host, which stands first, is not seen: Proxy-Wasm has it as :authority.
type hostless upstream.Fields

func (h *hostless) skip() int {
	if len(*h) > 0 && (*h)[0].Name == "Host" {
		return 1
	}
	return 0
}

func (h *hostless) Len() int { return len(*h) - h.skip() }

func (h *hostless) At(i int) (name, value string) { return (*upstream.Fields)(h).At(i + h.skip()) }

func (h *hostless) Set(name, value string) { (*upstream.Fields)(h).Set(name, value) }

func (h *hostless) Add(name, value string) { (*upstream.Fields)(h).Add(name, value) }

func (h *hostless) Del(name string) { (*upstream.Fields)(h).Del(name) }

// Fields is one of the exchange's lists.
func (f *filterView) Fields(k proxywasm.MapKind) proxywasm.Fields {
	d := &f.x.draft
	switch k {
	case proxywasm.RequestHeaders:
		switch {
		case !f.inner:
			return (*hostless)(&d.fields)
		case d.keyed:
			return &d.sent
		}
		return (*hostless)(&f.x.query.Fields)
	case proxywasm.RequestTrailers:
		return f.x.requestTrailer()
	case proxywasm.ResponseHeaders:
		if !d.answering {
			return &d.preset
		}
		return &f.x.answer.Fields
	default:
		return &d.trailing
	}
}

func (f *filterView) RequestID() string { return f.x.id }

// Attribute is what Envoy calls so, as far as Edge has it.
func (f *filterView) Attribute(name string) (any, bool) {
	x := f.x
	switch name {
	case "source.address":
		return x.r.RemoteAddr, true
	case "destination.address":
		address, ok := x.r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if !ok {
			return nil, false
		}
		return address.String(), true
	case "connection.mtls":
		return x.r.TLS != nil && len(x.r.TLS.PeerCertificates) > 0, true
	case "connection.requested_server_name":
		if x.r.TLS == nil {
			return nil, false
		}
		return x.r.TLS.ServerName, true
	case "request.protocol":
		return x.r.Proto, true
	case "request.time":
		return x.arrived, true
	case "request.duration":
		return time.Since(x.arrived), true
	case "request.size":
		return max(x.r.ContentLength, 0), true
	case "response.size":
		return x.sent, true
	case "route_name":
		return x.route.host + x.route.path, true
	case "cluster_name":
		if x.end == nil {
			return nil, false
		}
		return x.end.name, true
	}
	return nil, false
}

// Charge counts what a guest holds among the bodies held in memory.
func (f *filterView) Charge(n int64) error {
	if f.x.p.buffered.Add(n) > int64(f.x.gen.config.MaxBuffered) && n > 0 {
		f.x.p.buffered.Add(-n)
		return errMemory
	}
	return nil
}
