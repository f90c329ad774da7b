package proxy

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// caller is a token as one generation configures it: who calls, and what it may use. A nil caller is one that needs no
// token, and may use all.
type caller struct {
	*standing
	token     Token
	providers []string // that it may use, sorted
}

func newCaller(q *standing, token Token, providers []string) caller {
	c := caller{standing: q, token: token, providers: providers}
	if len(token.Providers) > 0 {
		c.providers = slices.Compact(slices.Sorted(slices.Values(token.Providers)))
	}
	return c
}

// label is the caller's name for logs.
func (c *caller) label() string {
	if c == nil {
		return ""
	}
	return c.name
}

// limited reports whether the caller may ask for some models only.
func (c *caller) limited() bool { return c != nil && len(c.token.Models) > 0 }

// mayReach returns nil if the caller may use a provider, else errForbidden in words.
func (c *caller) mayReach(provider string) error {
	if c == nil || len(c.token.Providers) == 0 || slices.Contains(c.providers, provider) {
		return nil
	}
	return worded(errForbidden, "caller %s may not use the provider %s; it may use %s", c.name, provider, choice(c.providers))
}

// mayAsk returns nil if the caller may ask a provider for a model, else errForbidden in words.
func (c *caller) mayAsk(provider, model string) error {
	switch {
	case !c.limited():
		return nil
	case model == "":
		return c.unseen()
	case c.asks(provider, model):
		return nil
	}
	return worded(errForbidden, "caller %s may not ask %s for the model %s; it may ask for %s", c.name, provider, quoted(model), choice(c.token.Models))
}

// asks reports whether a model is one of the caller's.
func (c *caller) asks(provider, model string) bool {
	full := provider + "/" + model
	return slices.ContainsFunc(c.token.Models, func(pattern string) bool {
		if start, ok := strings.CutSuffix(pattern, "*"); ok {
			return strings.HasPrefix(model, start) || strings.HasPrefix(full, start)
		}
		return pattern == model || pattern == full
	})
}

func (c *caller) unseen() error {
	return worded(errForbidden, "caller %s may ask for some models only, and Edge cannot see which one the request is for; it may ask for %s", c.name, choice(c.token.Models))
}

// choice words what there is to choose from.
func choice(names []string) string {
	if len(names) > maxChoices {
		return strings.Join(names[:maxChoices], ", ") + ", ..."
	}
	return strings.Join(names, ", ")
}

// names are the providers that the caller may use, sorted.
func (a *arrival) names() []string {
	if a.caller != nil {
		return a.caller.providers
	}
	return a.gen.names
}

// mayUse returns nil if the request's caller may ask the provider for the model, which is empty when it is not known.
// Otherwise it returns errForbidden in words.
func (x *exchange) mayUse(end *endpoint, model string) error {
	if err := x.caller.mayReach(end.name); err != nil {
		return err
	}
	return x.caller.mayAsk(end.name, model)
}

// readsModel reports whether the content must be read to know what the request is for.
func (a *arrival) readsModel() bool { return a.route.byModel || a.caller.limited() }

// allow finds out whether the caller may have what it asks for. For a caller with models the content is read on every
// route as on /v1.
func (x *exchange) allow() error {
	if x.caller == nil {
		return nil
	}
	if err := x.caller.mayReach(x.end.name); err != nil {
		return err
	}
	if !x.caller.limited() {
		return nil
	}
	inPath, err := x.modelInPath()
	switch {
	case err != nil:
		return err
	case inPath != "" && x.asksFor(inPath) != nil:
		return x.asksFor(inPath)
	case x.route.byModel && x.model != "":
		return x.mayUse(x.end, x.model)
	case inPath != "":
		x.model = inPath
		return nil
	case upgradeOf(x.r.Header) != "":
		return x.asksFor(x.modelInQuery())
	}
	b := x.content()
	if b == nil {
		return nil
	}
	if !x.route.byModel { // else it was read already, and has none
		span, fault, err := x.scanModel(b)
		if err != nil {
			return err
		}
		if fault == nil && span.model != "" {
			x.model = span.model
			return x.mayUse(x.end, span.model)
		}
		if fault != nil && !errors.Is(fault, errBodyJSON) && !errors.Is(fault, errBodyObject) {
			return worded(errForbidden, "caller %s may ask for some models only, and Edge cannot see which one the request is for: %v", x.caller.name, fault)
		}
	}
	if b.size == 0 {
		return nil
	}
	return x.caller.unseen()
}

// asksFor is mayUse for a model that the target names, which may be a deployment of one of the caller's models.
func (x *exchange) asksFor(name string) error {
	for model, deployment := range x.end.config.Deployments {
		if deployment == name && x.caller.asks(x.end.name, model) {
			return nil
		}
	}
	return x.mayUse(x.end, name)
}

// modelInPath returns the model that the path names in the provider's dialect: /models/<model>:method with gemini,
// /deployments/<name>/ with azure. A path that the provider might read otherwise than Edge is refused.
func (x *exchange) modelInPath() (model string, err error) {
	folders := map[string][]string{dialectGemini: {"models", "tunedModels"}, dialectAzure: {"deployments"}}[x.end.manners.Dialect]
	if folders == nil {
		return "", nil
	}
	path, _, _ := strings.Cut(x.target, "?")
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, segment := range segments {
		if segment == "." || segment == ".." || segment == "" && i < len(segments)-1 || strings.ContainsAny(segment, `%;\`) {
			return "", x.caller.unseen()
		}
		if i == 0 || !slices.ContainsFunc(folders, func(folder string) bool { return strings.EqualFold(folder, segments[i-1]) }) {
			continue
		}
		name, _, isCall := strings.Cut(segment, ":")
		if x.end.manners.Dialect == dialectAzure {
			name, isCall = segment, i < len(segments)-1
		}
		switch {
		case !isCall || name == "":
		case model != "":
			return "", x.caller.unseen()
		default:
			model = name
		}
	}
	return model, nil
}

// modelInQuery returns the model that the query names, as OpenAI's and Azure's WebSockets want it, if it names one.
func (x *exchange) modelInQuery() string {
	_, query, _ := strings.Cut(x.target, "?")
	values, err := url.ParseQuery(query)
	if named := slices.Concat(values["model"], values["deployment"]); err == nil && len(named) == 1 {
		return named[0]
	}
	return ""
}

// wantsModelList reports whether the request is GET /v1/models and not one provider's own list answers it.
func (x *exchange) wantsModelList() bool {
	return x.route == &builtinModels && x.method() == http.MethodGet && (len(x.names()) > 1 || x.caller.limited()) &&
		strings.TrimSuffix(strings.Split(x.target, "?")[0], "/") == "/v1/models"
}
