package proxy

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// destination is where an attempt goes.
type destination struct {
	end   *endpoint
	model string // bare; "": what the request says
}

func (d destination) String() string {
	if d.model == "" {
		return d.end.name
	}
	return d.end.name + "/" + d.model
}

// destinations are fallbacks as they are configured, <provider> or <provider>/<model>.
func destinations(configured []string, endpoints map[string]*endpoint) (list []destination) {
	for _, text := range configured {
		name, model, _ := strings.Cut(text, "/")
		list = append(list, destination{endpoints[name], model})
	}
	return list
}

var errNotHeld = errors.New("the content is not held")

// asked is what a request's content says of where it is to go. The zero value: nobody has looked.
type asked struct {
	content   *body // that was looked at
	fault     error // why it cannot be told
	model     modelSpan
	prefixed  bool   // the model begins with a provider's name
	bare      string // the model without that
	wish      fallbacksSpan
	fallbacks []destination // of wish, those that may be tried
}

// asking is x.asked, made at its first use: most requests need none.
func (x *exchange) asking() *asked {
	if x.asked == nil {
		x.asked = new(asked)
	}
	return x.asked
}

// look scans what is held of the content for its model, if nobody has. On routes that go by the model it sees "fallbacks",
// too; on others that is the provider's.
func (x *exchange) look() *asked {
	a, b := x.asking(), x.content()
	if a.content == b {
		return a
	}
	*a = asked{fallbacks: a.fallbacks}
	if !b.kept() {
		a.fault = errNotHeld
		return a
	}
	scan := modelScan{wishes: x.route.byModel}
	for _, block := range b.blocks {
		scan.write(block)
	}
	_ = x.heard(&scan) // it is a.fault, too
	return a
}

// heard notes what a scan of the content has found. The error is the scan's.
func (x *exchange) heard(scan *modelScan) error {
	a := x.asking()
	a.content = x.content()
	if a.model, a.fault = scan.end(); a.fault != nil {
		return a.fault
	}
	a.wish, a.bare = scan.fallbacks(), a.model.model
	if name, rest, has := strings.Cut(a.bare, "/"); has && x.route.byModel && x.gen.endpoints[name] != nil {
		a.prefixed, a.bare = true, rest
	}
	return nil
}

// alternatives are where the request may go after its first destination has failed, in this order: what the request
// says, else what is configured for its first provider. They must be asked for before address has moved x on.
func (x *exchange) alternatives() []destination {
	if x.asked != nil && x.asked.wish.present {
		return x.asked.fallbacks
	}
	first := destination{x.end, x.model}
	if !slices.Contains(x.end.fallbacks, first) {
		return x.end.fallbacks
	}
	return slices.DeleteFunc(slices.Clone(x.end.fallbacks), func(to destination) bool { return to == first })
}

// address makes a destination the exchange's, and the content what is meant for it: as the caller sent it, but without
// "fallbacks" and a provider's name before the model on routes that go by that, and with the model that is wanted. The
// content must be the one that the first attempt had. An error means that the destination cannot be asked for this, and
// nothing has changed; its words are for the caller.
func (x *exchange) address(to destination) error {
	b, a, model := x.content(), x.asking(), to.model
	named := to.end.azure() && x.translates(to.end) // Azure has names of its own for models
	seen := b != nil && (x.route.byModel || model != "" || named)
	if seen {
		a = x.look()
	}
	if model == "" {
		model = a.bare
	}
	wanted := model
	if named && model != "" {
		wanted = to.end.deployment(model)
		if x.pathDeploys(to.end) { // so the content's model does not matter
			if wanted == "." || wanted == ".." {
				return worded(errUnknownModel, "the model %s cannot be the name of a deployment", quoted(model))
			}
			if wanted = model; !a.model.present {
				wanted = a.bare
			}
		}
	}
	if wanted != a.bare && !a.model.present {
		return worded(errBadRequest, "the fallback %s cannot be asked: %s", quoted(to.String()), a.missing(b))
	}
	if b != nil {
		var room [2]edit
		b.edit(a.edits(room[:0], wanted)...)
	}
	if !seen && !named { // content and path are as they were, and so is what they name
		model = cmp.Or(model, x.course.model)
	}
	x.end, x.model = to.end, model
	return nil
}

// missing says why there is no model that could be changed.
func (a *asked) missing(b *body) string {
	switch {
	case b == nil:
		return "the request has no content"
	case a.fault != nil:
		return a.fault.Error()
	}
	return "the content names no model"
}

// edits appends what makes the content ask for model to list.
func (a *asked) edits(list []edit, model string) []edit {
	if a.wish.present {
		list = append(list, edit{from: a.wish.from, to: a.wish.to})
	}
	switch {
	case !a.model.present:
	case model != a.bare:
		list = append(list, edit{a.model.start, a.model.end, jsonText(model)})
	case a.prefixed:
		list = append(list, edit{from: a.model.start, to: a.model.rest})
	}
	return list
}

// jsonText is s as it stands between the quotes of a JSON string.
func jsonText(s string) []byte {
	text, err := json.Marshal(s)
	if err != nil {
		panic("bug: " + err.Error())
	}
	return text[1 : len(text)-1]
}
