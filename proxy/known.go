package proxy

import (
	"maps"
	"net/url"
	"slices"
	"strings"
)

// KnownProvider is what Edge knows of a provider by its name, so that a key is all that must be configured.
type KnownProvider struct {
	Dialect     string // which API it speaks: openai, anthropic, gemini, cohere or azure
	BaseURL     string // none for one whose address is each customer's own
	KeyHeader   string // the header that carries the key
	KeyQuery    string // or the query parameter
	KeyPrefix   string // what stands before the key in that header
	KeyVariable string // the variable that usually holds the key
	ModelList   string // target of a list of models in OpenAI's shape; none means that it has no such list

	// VersionHeader is a header without which the provider refuses a request, and Version its value, for
	// requests of Edge's own.
	VersionHeader, Version string
}

// The APIs that providers speak.
const (
	dialectOpenAI    = "openai"
	dialectAnthropic = "anthropic"
	dialectGemini    = "gemini"
	dialectCohere    = "cohere"
	dialectAzure     = "azure"
)

// dialects: from each provider's API reference, 2026-11.
var dialects = map[string]KnownProvider{
	dialectOpenAI: {KeyHeader: "Authorization", KeyPrefix: "Bearer ", ModelList: "/v1/models"},
	dialectAnthropic: {
		KeyHeader: "X-Api-Key", ModelList: "/v1/models", VersionHeader: "Anthropic-Version", Version: "2023-06-01",
	},
	dialectGemini: {KeyHeader: "X-Goog-Api-Key"},
	dialectCohere: {KeyHeader: "Authorization", KeyPrefix: "Bearer "},
	dialectAzure:  {KeyHeader: "Api-Key", ModelList: "/openai/v1/models"},
}

// keyForms are the ways in which a provider may take its key.
var keyForms = map[string]KnownProvider{
	"bearer":         {KeyHeader: "Authorization", KeyPrefix: "Bearer "},
	"x-api-key":      {KeyHeader: "X-Api-Key"},
	"api-key":        {KeyHeader: "Api-Key"},
	"x-goog-api-key": {KeyHeader: "X-Goog-Api-Key"},
	"query":          {KeyQuery: "key"},
}

// speaking is a provider that speaks a dialect.
func speaking(dialect, baseURL, variable string) KnownProvider {
	k := dialects[dialect]
	k.Dialect, k.BaseURL, k.KeyVariable = dialect, baseURL, variable
	return k
}

// known: from each provider's API reference, 2026-11.
var known = map[string]KnownProvider{
	"openai":      speaking(dialectOpenAI, "https://api.openai.com", "OPENAI_API_KEY"),
	"anthropic":   speaking(dialectAnthropic, "https://api.anthropic.com", "ANTHROPIC_API_KEY"),
	"gemini":      speaking(dialectGemini, "https://generativelanguage.googleapis.com", "GEMINI_API_KEY"),
	"cohere":      speaking(dialectCohere, "https://api.cohere.com", "COHERE_API_KEY"),
	"azure":       speaking(dialectAzure, "", "AZURE_OPENAI_API_KEY"),
	"groq":        speaking(dialectOpenAI, "https://api.groq.com/openai", "GROQ_API_KEY"),
	"mistral":     speaking(dialectOpenAI, "https://api.mistral.ai", "MISTRAL_API_KEY"),
	"openrouter":  speaking(dialectOpenAI, "https://openrouter.ai/api", "OPENROUTER_API_KEY"),
	"deepseek":    speaking(dialectOpenAI, "https://api.deepseek.com", "DEEPSEEK_API_KEY"),
	"xai":         speaking(dialectOpenAI, "https://api.x.ai", "XAI_API_KEY"),
	"together":    speaking(dialectOpenAI, "https://api.together.xyz", "TOGETHER_API_KEY"),
	"fireworks":   speaking(dialectOpenAI, "https://api.fireworks.ai/inference", "FIREWORKS_API_KEY"),
	"cerebras":    speaking(dialectOpenAI, "https://api.cerebras.ai", "CEREBRAS_API_KEY"),
	"perplexity":  withoutList(speaking(dialectOpenAI, "https://api.perplexity.ai", "PERPLEXITY_API_KEY")),
	"nebius":      speaking(dialectOpenAI, "https://api.studio.nebius.ai", "NEBIUS_API_KEY"),
	"huggingface": speaking(dialectOpenAI, "https://router.huggingface.co", "HF_TOKEN"),
	"ollama":      speaking(dialectOpenAI, "http://127.0.0.1:11434", ""),
}

func withoutList(k KnownProvider) KnownProvider {
	k.ModelList = ""
	return k
}

// Known returns what Edge knows of the provider called name.
func Known(name string) (KnownProvider, bool) {
	k, ok := known[name]
	return k, ok
}

// KnownNames returns the names of all known providers, sorted.
func KnownNames() []string { return slices.Sorted(maps.Keys(known)) }

// manners returns how a configured provider is spoken to: as the known one of its name, else as the one whose host its
// base URL has, else as OpenAI, but for what dialect and key_form say.
func manners(name string, p Provider) KnownProvider {
	k, ok := known[name]
	if !ok {
		k = speaking(dialectOf(p.BaseURL), p.BaseURL, "")
		for _, other := range known {
			if host := hostOf(other.BaseURL); host != "" && host == hostOf(p.BaseURL) {
				k = other
			}
		}
	}
	if p.Dialect != "" && p.Dialect != k.Dialect {
		k = speaking(p.Dialect, k.BaseURL, k.KeyVariable)
	}
	if form, ok := keyForms[p.KeyForm]; ok {
		k.KeyHeader, k.KeyPrefix, k.KeyQuery = form.KeyHeader, form.KeyPrefix, form.KeyQuery
	}
	if p.BaseURL != "" {
		k.BaseURL = p.BaseURL
	}
	k.BaseURL = strings.TrimRight(k.BaseURL, "/")
	return k
}

// dialectOf tells Azure, whose hosts are each customer's own.
func dialectOf(base string) string {
	host, _, _ := strings.Cut(hostOf(base), ":")
	for _, suffix := range []string{".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com"} {
		if strings.HasSuffix(host, suffix) {
			return dialectAzure
		}
	}
	return dialectOpenAI
}

// speakAlike reports whether one provider understands what is meant for the other. A dialect that is none is a fault by
// itself.
func speakAlike(a, b KnownProvider) bool {
	for _, k := range []KnownProvider{a, b} {
		if _, is := dialects[k.Dialect]; !is {
			return true
		}
	}
	alike := func(k KnownProvider) string {
		if k.Dialect == dialectAzure {
			return dialectOpenAI
		}
		return k.Dialect
	}
	return alike(a) == alike(b)
}

func hostOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

// ProviderName reports whether name may name a provider: it is a path segment, a metric label and part of
// a variable's name. In metrics none is the provider of requests that went to none.
func ProviderName(name string) bool {
	if name == "" || len(name) > maxNameBytes || name == "v1" || name == "none" || name == "." || name == ".." {
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
