package proxy

import (
	"net/url"
	"slices"
	"strings"
)

// Azure has OpenAI's API under paths of its own: /openai/v1, where "model" is a deployment's name, or with a version in
// the query, where the deployment is in the path of what deploymentPaths lists:
// https://learn.microsoft.com/azure/ai-foundry/openai/reference
// https://github.com/openai/openai-python/blob/main/src/openai/lib/azure.py
const (
	openAIPath      = "/v1/"
	azurePath       = "/openai/"
	azureOpenAIPath = "/openai/v1/"
	deploymentsPath = "/openai/deployments/"
	versionQuery    = "api-version"
)

var deploymentPaths = []string{
	"chat/completions", "completions", "embeddings", "audio/transcriptions", "audio/translations", "audio/speech",
	"images/generations", "images/edits",
}

// azure reports whether the provider is one.
func (e *endpoint) azure() bool { return e.manners.Dialect == dialectAzure }

// deployment is the name of the deployment that serves a model.
func (e *endpoint) deployment(model string) string {
	if name, ok := e.config.Deployments[model]; ok {
		return name
	}
	return model
}

// translates reports whether a destination's target is not the one that the caller wrote for it. Whoever names a provider
// by its path, or a route's, writes the provider's own targets.
func (x *exchange) translates(to *endpoint) bool { return x.route.byModel || to != x.route.end }

// pathDeploys reports whether the deployment is part of the request's path at a provider whose targets are translated.
func (x *exchange) pathDeploys(to *endpoint) bool {
	if !to.azure() || to.config.APIVersion == "" {
		return false
	}
	rest, _, ok := x.common()
	return ok && slices.Contains(deploymentPaths, rest)
}

// common is what follows /v1/ in the target, and the query with its question mark, if there is one. A target that was
// written for Azure has that, too.
func (x *exchange) common() (rest, query string, ok bool) {
	path := x.target
	if at := strings.IndexByte(path, '?'); at >= 0 {
		path, query = path[:at], path[at:]
	}
	if rest, ok = strings.CutPrefix(path, openAIPath); ok || x.route.end == nil || !x.route.end.azure() {
		return rest, query, ok
	}
	if rest, ok = strings.CutPrefix(path, azureOpenAIPath); !ok {
		if rest, ok = strings.CutPrefix(path, deploymentsPath); ok {
			_, rest, ok = strings.Cut(rest, "/")
		}
	}
	return rest, withoutVersion(query), ok
}

// targetFor is the request's target as the provider of the attempt has it.
func (x *exchange) targetFor() string {
	if !x.translates(x.end) || !x.end.azure() && (x.route.end == nil || !x.route.end.azure()) {
		return x.target
	}
	rest, query, ok := x.common()
	version := x.end.config.APIVersion
	switch {
	case !ok:
		return x.target
	case !x.end.azure():
		return openAIPath + rest + query
	case x.model == "" && !strings.HasPrefix(x.target, openAIPath): // one Azure for another, with the same deployments
		return x.target
	case version == "":
		return azureOpenAIPath + rest + query
	}
	target := azurePath + rest + query
	if x.model != "" && x.pathDeploys(x.end) {
		target = deploymentsPath + url.PathEscape(x.end.deployment(x.model)) + "/" + rest + query
	}
	if withoutVersion(query) != query { // the caller's own
		return target
	}
	return withQuery(target, versionQuery, version)
}

// withoutVersion is a query with its question mark, without the version of Azure's API.
func withoutVersion(query string) string {
	if query == "" {
		return ""
	}
	pairs := strings.Split(query[1:], "&")
	kept := slices.DeleteFunc(slices.Clone(pairs), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		decoded, err := url.QueryUnescape(name)
		return err == nil && strings.EqualFold(decoded, versionQuery)
	})
	switch len(kept) {
	case len(pairs):
		return query
	case 0:
		return ""
	}
	return "?" + strings.Join(kept, "&")
}
