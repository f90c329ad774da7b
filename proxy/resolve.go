package proxy

import (
	"errors"
	"math"
	"slices"
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
	scan := modelScan{wishes: true}
	for _, block := range b.blocks { // what a plugin has read or written
		scan.write(block)
	}
	if err := x.receive(b, math.MaxInt64, scan.write); err != nil {
		return err
	}
	if err := x.heard(&scan); err != nil {
		declared := jsonType(x.header("Content-Type"))
		if !declared && (errors.Is(err, errBodyJSON) || errors.Is(err, errBodyObject)) { // some other content
			return x.bareModel("")
		}
		return worded(errBadRequest, "%v", err)
	}
	a := x.asking()
	if a.prefixed {
		name, _, _ := strings.Cut(a.model.model, "/")
		x.end, x.model = x.gen.endpoints[name], a.bare
	} else if err := x.bareModel(a.bare); err != nil {
		return err
	}
	if err := x.readWish(); err != nil {
		return err
	}
	return x.address(destination{x.end, a.bare})
}

// readWish reads the request's own fallbacks.
func (x *exchange) readWish() error {
	a := x.asking()
	if !a.wish.present {
		return nil
	}
	if a.wish.end-a.wish.value > maxFallbackText {
		return worded(errBadRequest, "%v: it is longer than %d KiB", errFallbacks, maxFallbackText>>10)
	}
	text := make([]byte, a.wish.end-a.wish.value)
	list, err := decodeFallbacks(text[:a.content.copyAt(text, a.wish.value)])
	if err != nil {
		return worded(errBadRequest, "%v", err)
	}
	first := destination{x.end, x.model}
	for _, text := range list {
		name, model, _ := strings.Cut(text, "/")
		to := destination{x.gen.endpoints[name], model}
		switch {
		case to.end == nil || model == "":
			return worded(errUnknownModel, "the fallback %s does not name a provider and a model; write <provider>/<model> with one of %s", quoted(text), x.choices())
		case !speakAlike(x.end.manners, to.end.manners) && len(to.end.plugins) == 0:
			return worded(errBadRequest, "the fallback %s cannot be asked what %s is asked: it speaks another API (dialect %s, not %s)",
				quoted(text), x.end.name, to.end.manners.Dialect, x.end.manners.Dialect)
		case x.mayUse(to.end, model) != nil:
			return x.mayUse(to.end, model)
		case to != first && !slices.Contains(a.fallbacks, to):
			a.fallbacks = append(a.fallbacks, to)
		}
	}
	return nil
}

// choices are the names of the providers, as far as a message takes them.
func (x *exchange) choices() string {
	names := x.names()
	return strings.Join(names[:min(len(names), maxChoices)], ", ")
}

// scanModel reads the whole content and returns the model that it names. fault says what is wrong with the content, err why
// it could not be read.
func (x *exchange) scanModel(b *body) (span modelSpan, fault, err error) {
	var scan modelScan
	for _, block := range b.blocks { // what a plugin has read or written
		scan.write(block)
	}
	if err := x.receive(b, math.MaxInt64, scan.write); err != nil {
		return modelSpan{}, nil, err
	}
	span, fault = scan.end()
	return span, fault, nil
}

// bareModel takes the route's provider, else the only one.
func (x *exchange) bareModel(model string) error {
	x.model = model
	if x.end != nil {
		return nil
	}
	names := x.names()
	if len(names) == 1 {
		x.end = x.gen.endpoints[names[0]]
		return nil
	}
	if len(x.gen.names) == 0 {
		return worded(errUnknownModel, "no provider is configured")
	}
	choices := x.choices()
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
