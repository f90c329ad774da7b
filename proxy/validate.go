package proxy

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Fault is one thing wrong with a Config.
type Fault struct {
	Path string // the key, as providers.openai.concurrency_and_buffer_size.concurrency
	Got  string // the value, quoted where it is a string; never a secret
	Want string
}

func (f Fault) String() string {
	if f.Got == "" {
		return f.Path + ": " + f.Want
	}
	return f.Path + ": got " + f.Got + ", want " + f.Want
}

// ConfigError is all that is wrong with a Config.
type ConfigError struct{ Faults []Fault }

func (e *ConfigError) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.String()
	}
	return "proxy: config: " + strings.Join(lines, "; ")
}

// narrowPool is the largest initial_pool_size where addresses have 32 bits, for an arena of 1 GiB: a process has 2 to 4 GiB of
// them, and dies when it wants more. Elsewhere its range is enough.
func narrowPool() int {
	if strconv.IntSize > 32 {
		return math.MaxInt
	}
	return int(1<<30/ArenaBytes(1000)) * 1000
}

// Validate returns nil or a *ConfigError with every fault.
func (c Config) Validate() error {
	faults := rangeFaults("", reflect.ValueOf(c))
	for i, network := range c.TrustedProxies {
		if _, err := netip.ParsePrefix(network); err != nil {
			if _, err := netip.ParseAddr(network); err != nil {
				faults = append(faults, Fault{fmt.Sprintf("client.trusted_proxies[%d]", i), strconv.Quote(network), "a network such as 10.0.0.0/8 or an address"})
			}
		}
	}
	if most := narrowPool(); c.InitialPoolSize > most && c.InitialPoolSize <= 1_000_000 {
		faults = append(faults, Fault{"client.initial_pool_size", strconv.Itoa(c.InitialPoolSize), fmt.Sprintf("1 to %d on a system of 32 bits", most)})
	}
	if c.Takeover && !watchesUnread {
		faults = append(faults, Fault{"client.takeover", "true", "false: on this system Edge cannot see that a caller has left whose connection nobody reads"})
	}
	if c.AccessFormat != "" && c.AccessFormat != accessJSON && c.AccessFormat != accessCommon {
		faults = append(faults, Fault{"AccessFormat", strconv.Quote(c.AccessFormat), accessJSON + ", " + accessCommon})
	}
	faults = append(faults, tokenFaults(c)...)
	for _, name := range slices.Sorted(maps.Keys(c.Providers)) {
		faults = append(faults, providerFaults("providers."+name, name, c.Providers[name], c.Providers)...)
	}
	seen := map[string]int{}
	for i, r := range c.Routes {
		faults = append(faults, routeFaults(fmt.Sprintf("routes[%d]", i), r, c.Providers)...)
		id := strings.ToLower(r.Host) + " " + r.Path
		if first, ok := seen[id]; ok {
			faults = append(faults, Fault{fmt.Sprintf("routes[%d]", i), strconv.Quote(r.Host + r.Path), fmt.Sprintf("a host and path that routes[%d] does not have", first)})
		} else {
			seen[id] = i
		}
	}
	faults = append(faults, pluginFaults(c)...)
	if len(faults) == 0 {
		return nil
	}
	return &ConfigError{faults}
}

func providerFaults(path, name string, p Provider, all map[string]Provider) (faults []Fault) {
	add := func(key, got, want string) { faults = append(faults, Fault{path + key, got, want}) }
	if !ProviderName(name) {
		add("", strconv.Quote(name), "a name of lower-case letters, digits, '-', '_' and '.', at most 64, not v1 or none")
	}
	faults = append(faults, addressFaults(path, name, p)...)
	faults = append(faults, keyFaults(path, p)...)
	faults = append(faults, dialectFaults(path, name, p)...)
	faults = append(faults, fallbackFaults(path, name, p, all)...)
	set := map[string]string{}
	for _, header := range slices.Sorted(maps.Keys(p.ExtraHeaders)) {
		name := http.CanonicalHeaderKey(header)
		if first, twice := set[name]; twice {
			add(".network_config.extra_headers", strconv.Quote(header), "a header that "+strconv.Quote(first)+" does not set already")
		}
		set[name] = header
		if !headerName(header) {
			add(".network_config.extra_headers", strconv.Quote(header), "header names")
		} else if hopByHop(name) || strings.EqualFold(header, "Host") || strings.EqualFold(header, "Content-Length") {
			add(".network_config.extra_headers", strconv.Quote(header), "no header that Edge itself sets")
		} else if !headerValue(p.ExtraHeaders[header]) {
			add(".network_config.extra_headers."+header, "", "want no control characters (the value is not shown)")
		}
	}
	if p.CACertPEM != "" {
		if _, err := rootsOf(p.CACertPEM); err != nil {
			add(".network_config.ca_cert_pem", "", "want at least one PEM certificate")
		}
	}
	if p.MinConcurrency > p.MaxConcurrency {
		add(".scaling.min_concurrency", strconv.Itoa(p.MinConcurrency), fmt.Sprintf("at most max_concurrency, %d", p.MaxConcurrency))
	}
	return faults
}

// tokenFaults is what is wrong with the callers' tokens.
func tokenFaults(c Config) (faults []Fault) {
	names, values := map[string]int{}, map[Secret]int{}
	for i, token := range c.Auth.Tokens {
		at := fmt.Sprintf("auth.tokens[%d]", i)
		add := func(key, got, want string) { faults = append(faults, Fault{at + key, got, want}) }
		if !visibleASCII(token.Value.Reveal()) {
			add(".value", "", "want visible ASCII characters, at least one (the value is not shown)")
		} else if first, twice := values[token.Value]; twice {
			add(".value", "", fmt.Sprintf("want a value that auth.tokens[%d] does not have (the value is not shown)", first))
		}
		values[token.Value] = i
		if token.Name != "" && (!visibleASCII(token.Name) || len(token.Name) > maxNameBytes) {
			add(".name", strconv.Quote(token.Name), fmt.Sprintf("visible ASCII characters, at most %d", maxNameBytes))
		} else if first, twice := names[token.name(i)]; twice {
			add(".name", strconv.Quote(token.name(i)), fmt.Sprintf("a name that auth.tokens[%d] does not have", first))
		}
		names[token.name(i)] = i
		for j, name := range token.Providers {
			if _, ok := c.Providers[name]; !ok {
				add(fmt.Sprintf(".providers[%d]", j), strconv.Quote(name), "a configured provider"+nearest(name, slices.Sorted(maps.Keys(c.Providers))))
			}
		}
		for j, model := range token.Models {
			if model == "" || strings.Contains(strings.TrimSuffix(model, "*"), "*") {
				add(fmt.Sprintf(".models[%d]", j), strconv.Quote(model), "a model, with * only at its end")
			}
		}
	}
	return faults
}

// addressFaults is what is wrong with the provider's base URLs.
func addressFaults(path, name string, p Provider) (faults []Fault) {
	const wanted = "want http:// or https:// with a host and perhaps a path, without user, query or fragment (the value is not shown)"
	if p.BaseURL == "" {
		if known, ok := Known(name); known.BaseURL == "" {
			words := strconv.Quote(name) + " is not a known provider"
			if ok {
				words = "each customer of " + name + " has its own"
			}
			faults = append(faults, Fault{path + ".network_config.base_url", `""`, "the provider's URL, since " + words})
		}
	} else if !baseURL(p.BaseURL) {
		faults = append(faults, Fault{path + ".network_config.base_url", "", wanted})
	}
	if len(p.BaseURLs) >= maxReplicas {
		faults = append(faults, Fault{path + ".network_config.base_urls", strconv.Itoa(len(p.BaseURLs)) + " of them", fmt.Sprintf("at most %d", maxReplicas-1)})
	}
	seen := map[string]bool{strings.TrimRight(manners(name, p).BaseURL, "/"): true}
	for i, base := range p.BaseURLs {
		at := fmt.Sprintf("%s.network_config.base_urls[%d]", path, i)
		if short := strings.TrimRight(base, "/"); !baseURL(base) {
			faults = append(faults, Fault{at, "", wanted})
		} else if seen[short] {
			faults = append(faults, Fault{at, "", "want another URL than those before it (the value is not shown)"})
		} else {
			seen[short] = true
		}
	}
	return faults
}

func baseURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

// keyFaults is what is wrong with the provider's keys.
func keyFaults(path string, p Provider) (faults []Fault) {
	usable := len(p.Keys) == 0
	for i, k := range p.Keys {
		usable = usable || k.enabled()
		if !visibleASCII(k.Value.Reveal()) {
			faults = append(faults, Fault{fmt.Sprintf("%s.keys[%d].value", path, i), "", "want visible ASCII characters, at least one (the value is not shown)"})
		}
	}
	if !usable {
		faults = append(faults, Fault{path + ".keys", "", "want at least one key that is enabled; without any, the caller's own would be passed on"})
	}
	return faults
}

// dialectFaults is what does not go with the API that the provider speaks.
func dialectFaults(path, name string, p Provider) (faults []Fault) {
	add := func(key, got, want string) { faults = append(faults, Fault{path + key, got, want}) }
	if dialect := manners(name, p).Dialect; dialect != dialectAzure {
		if p.APIVersion != "" {
			add(".api_version", strconv.Quote(p.APIVersion), "none, since the provider's dialect is "+dialect+" and not azure")
		}
		if len(p.Deployments) > 0 {
			add(".deployments", "", "want none, since the provider's dialect is "+dialect+" and not azure")
		}
	}
	if p.APIVersion != "" && !queryWord(p.APIVersion) {
		add(".api_version", strconv.Quote(p.APIVersion), "letters, digits, '-', '_' and '.'")
	}
	for _, model := range slices.Sorted(maps.Keys(p.Deployments)) {
		if !queryWord(p.Deployments[model]) {
			add(".deployments."+model, strconv.Quote(p.Deployments[model]), "letters, digits, '-', '_' and '.'")
		}
	}
	seen := map[string]bool{familyOther: true}
	for i, family := range p.ModelFamilies {
		if !visibleASCII(family) || len(family) > maxNameBytes || seen[family] {
			add(fmt.Sprintf(".model_families[%d]", i), strconv.Quote(family), fmt.Sprintf("another word of visible ASCII characters, at most %d, not %s", maxNameBytes, familyOther))
		}
		seen[family] = true
	}
	return faults
}

// queryWord reports whether s may stand in a path segment or a query as it is.
func queryWord(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return s != "" && s != "." && s != ".."
}

// fallbackFaults is what is wrong with the provider's fallbacks. A fallback's own are not followed, so two providers may
// name each other.
func fallbackFaults(path, name string, p Provider, all map[string]Provider) (faults []Fault) {
	seen := map[string]bool{}
	for i, fallback := range p.Fallbacks {
		at := fmt.Sprintf("%s.fallbacks[%d]", path, i)
		other, model, has := strings.Cut(fallback, "/")
		to, ok := all[other]
		switch {
		case !ok:
			faults = append(faults, Fault{at, strconv.Quote(fallback), "a configured provider" + nearest(other, slices.Sorted(maps.Keys(all)))})
		case has && model == "":
			faults = append(faults, Fault{at, strconv.Quote(fallback), "<provider> or <provider>/<model>"})
		case other == name && !has:
			faults = append(faults, Fault{at, strconv.Quote(fallback), "another provider, or another model of this one"})
		case seen[fallback]:
			faults = append(faults, Fault{at, strconv.Quote(fallback), "each fallback once"})
		case !speakAlike(manners(name, p), manners(other, to)) && len(to.Plugins) == 0:
			faults = append(faults, Fault{at, strconv.Quote(fallback), fmt.Sprintf("a provider that speaks like %s (dialect %s, not %s), or one with a plugin that translates", name, manners(name, p).Dialect, manners(other, to).Dialect)})
		}
		seen[fallback] = true
	}
	return faults
}

func routeFaults(path string, r Route, providers map[string]Provider) (faults []Fault) {
	add := func(key, got, want string) { faults = append(faults, Fault{path + key, got, want}) }
	if !strings.HasPrefix(r.Path, "/") || strings.ContainsAny(r.Path, "?# ") || strings.Contains(strings.TrimSuffix(r.Path, "/*"), "*") {
		add(".path", strconv.Quote(r.Path), "a path that begins with /, without query, with * only as its last /*")
	}
	if strings.ContainsAny(r.Host, "/:* ") {
		add(".host", strconv.Quote(r.Host), "a host name without port")
	}
	if r.StripPrefix != "" && !strings.HasPrefix(strings.TrimSuffix(r.Path, "*"), r.StripPrefix) {
		add(".strip_prefix", strconv.Quote(r.StripPrefix), "the beginning of path, "+strconv.Quote(r.Path))
	}
	if _, ok := providers[r.Provider]; r.Provider == "" {
		if len(r.Plugins) == 0 {
			add(".provider", `""`, "a configured provider, since the route has no plugins")
		}
	} else if !ok {
		add(".provider", strconv.Quote(r.Provider), "a configured provider"+nearest(r.Provider, slices.Sorted(maps.Keys(providers))))
	}
	return faults
}
