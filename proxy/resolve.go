package proxy

import (
	"errors"
	"math"
	"net/http"
	"strings"
)

// resolve reads the whole body of a request on a /v1 route and finds its provider by the model it names.
func (x *exchange) resolve() error {
	if !x.route.byModel {
		return nil
	}
	b := x.content()
	if b == nil {
		return x.bareModel("")
	}
	var scan modelScan
	for _, block := range b.blocks { // what a plugin has read or written
		scan.write(block)
	}
	if err := x.receive(b, math.MaxInt64, scan.write); err != nil {
		return err
	}
	span, err := scan.end()
	if err != nil {
		declared := jsonType(x.header("Content-Type"))
		if !declared && (errors.Is(err, errBodyJSON) || errors.Is(err, errBodyObject)) { // some other content
			return x.bareModel("")
		}
		return worded(errBadRequest, "%v", err)
	}
	name, rest, has := strings.Cut(span.model, "/")
	if end := x.gen.endpoints[name]; has && end != nil {
		x.end, x.model = end, rest
		b.cut(span.start, span.rest)
		return nil
	}
	return x.bareModel(span.model)
}

// bareModel takes the route's provider, else the only one.
func (x *exchange) bareModel(model string) error {
	x.model = model
	if x.end != nil {
		return nil
	}
	if len(x.gen.names) == 1 {
		x.end = x.gen.endpoints[x.gen.names[0]]
		return nil
	}
	if len(x.gen.names) == 0 {
		return worded(errUnknownModel, "no provider is configured")
	}
	choices := strings.Join(x.gen.names[:min(len(x.gen.names), maxChoices)], ", ")
	if model == "" {
		return worded(errUnknownModel, "the request names no model, so not which provider it is for; send \"model\": \"<provider>/<model>\" with one of %s", choices)
	}
	return worded(errUnknownModel, "the model %s names no provider; write <provider>/<model> with one of %s", quoted(model), choices)
}

// quoted is a caller's word as it may stand in a message: short and without control characters.
func quoted(word string) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, word)
	if len(clean) > 80 {
		clean = strings.ToValidUTF8(clean[:80], "") + "..."
	}
	return `"` + clean + `"`
}

// jsonType reports whether a Content-Type is JSON (RFC 8259, RFC 6839).
func jsonType(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	return media == "application/json" || strings.HasSuffix(media, "+json")
}

// wantsModelList reports whether the request is GET /v1/models and several providers could answer it.
func (x *exchange) wantsModelList() bool {
	return x.route == &builtinModels && x.method() == http.MethodGet && len(x.gen.names) > 1 &&
		strings.TrimSuffix(strings.Split(x.target, "?")[0], "/") == "/v1/models"
}
