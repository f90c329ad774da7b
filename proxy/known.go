package proxy

import (
	"maps"
	"net/url"
	"slices"
	"strings"
)

// KnownProvider is what Edge knows of a provider by its name, so that a key is all that must be configured.
type KnownProvider struct {
	BaseURL     string
	KeyHeader   string // the header that carries the key
	KeyPrefix   string // what stands before the key in that header
	KeyVariable string // the variable that usually holds the key
	ModelList   string // target of a list of models in OpenAI's shape; none means that it has no such list

	// VersionHeader is a header without which the provider refuses a request, and Version its value, for
	// requests of Edge's own.
	VersionHeader, Version string
}

// bearer is how OpenAI and everything like it takes the key.
func bearer(baseURL, variable string) KnownProvider {
	return KnownProvider{BaseURL: baseURL, KeyHeader: "Authorization", KeyPrefix: "Bearer ", KeyVariable: variable, ModelList: "/v1/models"}
}

// known: from each provider's API reference, 2026-11.
var known = map[string]KnownProvider{
	"openai": bearer("https://api.openai.com", "OPENAI_API_KEY"),
	"anthropic": {
		BaseURL: "https://api.anthropic.com", KeyHeader: "X-Api-Key", KeyVariable: "ANTHROPIC_API_KEY",
		ModelList: "/v1/models", VersionHeader: "Anthropic-Version", Version: "2023-06-01",
	},
	"gemini":      {BaseURL: "https://generativelanguage.googleapis.com", KeyHeader: "X-Goog-Api-Key", KeyVariable: "GEMINI_API_KEY"},
	"cohere":      {BaseURL: "https://api.cohere.com", KeyHeader: "Authorization", KeyPrefix: "Bearer ", KeyVariable: "COHERE_API_KEY"},
	"groq":        bearer("https://api.groq.com/openai", "GROQ_API_KEY"),
	"mistral":     bearer("https://api.mistral.ai", "MISTRAL_API_KEY"),
	"openrouter":  bearer("https://openrouter.ai/api", "OPENROUTER_API_KEY"),
	"deepseek":    bearer("https://api.deepseek.com", "DEEPSEEK_API_KEY"),
	"xai":         bearer("https://api.x.ai", "XAI_API_KEY"),
	"together":    bearer("https://api.together.xyz", "TOGETHER_API_KEY"),
	"fireworks":   bearer("https://api.fireworks.ai/inference", "FIREWORKS_API_KEY"),
	"cerebras":    bearer("https://api.cerebras.ai", "CEREBRAS_API_KEY"),
	"perplexity":  {BaseURL: "https://api.perplexity.ai", KeyHeader: "Authorization", KeyPrefix: "Bearer ", KeyVariable: "PERPLEXITY_API_KEY"},
	"nebius":      bearer("https://api.studio.nebius.ai", "NEBIUS_API_KEY"),
	"huggingface": bearer("https://router.huggingface.co", "HF_TOKEN"),
	"ollama":      bearer("http://127.0.0.1:11434", ""),
}

// Known returns what Edge knows of the provider called name.
func Known(name string) (KnownProvider, bool) {
	k, ok := known[name]
	return k, ok
}

// KnownNames returns the names of all known providers, sorted.
func KnownNames() []string { return slices.Sorted(maps.Keys(known)) }

// manners returns how a configured provider is spoken to: as the known one of its name, else as the one
// whose host its base URL has, else as OpenAI.
func manners(name string, p Provider) KnownProvider {
	k, ok := known[name]
	if !ok {
		k = bearer(p.BaseURL, "")
		for _, other := range known {
			if hostOf(other.BaseURL) == hostOf(p.BaseURL) {
				k = other
			}
		}
	}
	if p.BaseURL != "" {
		k.BaseURL = p.BaseURL
	}
	k.BaseURL = strings.TrimRight(k.BaseURL, "/")
	return k
}

func hostOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

// ProviderName reports whether name may name a provider: it is a path segment, a metric label and part of
// a variable's name.
func ProviderName(name string) bool {
	if name == "" || len(name) > maxNameBytes || name == "v1" || name == "." || name == ".." {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// nearest words a suggestion for a misspelt name, or the choices, or nothing.
func nearest(name string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	if best, ok := Nearest(name, names); ok {
		return " (did you mean " + best + "?)"
	}
	if len(names) <= 8 {
		return ": " + strings.Join(names, ", ")
	}
	return ""
}

// Nearest returns the choice closest to word by edit distance, when it is close enough to be meant.
func Nearest(word string, choices []string) (best string, ok bool) {
	least := len(word)/3 + 1
	for _, choice := range choices {
		if d := editDistance(strings.ToLower(word), strings.ToLower(choice)); d <= least && (!ok || d < least) {
			best, least, ok = choice, d, true
		}
	}
	return best, ok
}

// editDistance is Levenshtein's, over bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
