package proxy_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/proxy"
)

// TestFaultsOfProvidersAndCallersAreNamed: each with its place, all at once, and never a secret.
func TestFaultsOfProvidersAndCallersAreNamed(t *testing.T) {
	f := func(change func(*proxy.Config, *proxy.Provider), want ...string) {
		t.Helper()
		c := one("http://up.example", change)
		c.Providers["other"] = proxy.Provider{BaseURL: "http://other.example", Fallbacks: []string{"up"}}
		c.Providers["claude"] = proxy.Provider{BaseURL: "http://claude.example", Dialect: "anthropic"}
		_, err := proxy.New(c)
		var got []string
		if wrong, ok := errors.AsType[*proxy.ConfigError](err); ok {
			for _, fault := range wrong.Faults {
				got = append(got, fault.String())
			}
		} else if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		for _, line := range got {
			if strings.Contains(line, "s3cret") {
				t.Errorf("a secret is shown: %s", line)
			}
		}
	}
	var narrow []string // an arena of 25 GB
	if strconv.IntSize == 32 {
		most := 1 << 30 / proxy.ArenaBytes(1000) * 1000
		narrow = []string{fmt.Sprintf("client.initial_pool_size: got 1000000, want 1 to %d on a system of 32 bits", most)}
	}
	f(func(c *proxy.Config, p *proxy.Provider) { c.InitialPoolSize, p.MaxRetries = 1_000_000, 11 },
		append([]string{"providers.up.network_config.max_retries: got 11, want 0 to 10"}, narrow...)...)
	const (
		hidden = "want visible ASCII characters, at least one (the value is not shown)"
		url    = "want http:// or https:// with a host and perhaps a path, without user, query or fragment (the value is not shown)"
	)
	f(func(_ *proxy.Config, p *proxy.Provider) {
		p.Keys = []proxy.Key{{Value: "s3cret\nX-Forged: yes"}, {Value: "s3cret\n"}, {Value: ""}, {Value: "fine", Weight: -1}}
	}, `providers.up.keys[3].weight: got -1, want 0 to 1000000`, "providers.up.keys[0].value: "+hidden, "providers.up.keys[1].value: "+hidden, "providers.up.keys[2].value: "+hidden)
	f(func(_ *proxy.Config, p *proxy.Provider) { p.Keys = []proxy.Key{{Value: "s3cret", Enabled: new(false)}} },
		"providers.up.keys: want at least one key that is enabled; without any, the caller's own would be passed on")
	f(func(_ *proxy.Config, p *proxy.Provider) { p.Fallbacks = []string{"other"} }) // which falls back to up: neither's own list is followed
	f(func(_ *proxy.Config, p *proxy.Provider) {
		p.Fallbacks = []string{"up", "up/larger", "other/", "othr", "claude", "other", "other"}
	}, `providers.up.fallbacks[0]: got "up", want another provider, or another model of this one`,
		`providers.up.fallbacks[2]: got "other/", want <provider> or <provider>/<model>`,
		`providers.up.fallbacks[3]: got "othr", want a configured provider (did you mean other?)`,
		`providers.up.fallbacks[4]: got "claude", want a provider that speaks like up (dialect openai, not anthropic), or one with a plugin that translates`,
		`providers.up.fallbacks[6]: got "other", want each fallback once`)
	f(func(_ *proxy.Config, p *proxy.Provider) {
		p.BaseURLs = []string{"ftp://x", "http://user:s3cret@x", "http://up.example/", "http://b", "http://b"}
	}, "providers.up.network_config.base_urls[0]: "+url, "providers.up.network_config.base_urls[1]: "+url,
		"providers.up.network_config.base_urls[2]: want another URL than those before it (the value is not shown)",
		"providers.up.network_config.base_urls[4]: want another URL than those before it (the value is not shown)")
	f(func(_ *proxy.Config, p *proxy.Provider) {
		p.APIVersion, p.Deployments, p.ModelFamilies = "2026&x=1", map[string]string{"m": "a/b"}, []string{"gpt", "other", "gpt", "a b"}
	}, `providers.up.api_version: got "2026&x=1", want none, since the provider's dialect is openai and not azure`,
		"providers.up.deployments: want none, since the provider's dialect is openai and not azure",
		`providers.up.api_version: got "2026&x=1", want letters, digits, '-', '_' and '.'`,
		`providers.up.deployments.m: got "a/b", want letters, digits, '-', '_' and '.'`,
		`providers.up.model_families[1]: got "other", want another word of visible ASCII characters, at most 64, not other`,
		`providers.up.model_families[2]: got "gpt", want another word of visible ASCII characters, at most 64, not other`,
		`providers.up.model_families[3]: got "a b", want another word of visible ASCII characters, at most 64, not other`)
	f(func(_ *proxy.Config, p *proxy.Provider) { p.Dialect, p.KeyForm, p.MaxRetries = "french", "cookie", 11 },
		`providers.up.network_config.max_retries: got 11, want 0 to 10`,
		`providers.up.dialect: got "french", want openai, anthropic, gemini, cohere, azure`,
		`providers.up.key_form: got "cookie", want bearer, x-api-key, api-key, x-goog-api-key, query`)
	f(func(c *proxy.Config, _ *proxy.Provider) {
		c.Auth.Tokens = []proxy.Token{
			{Name: "a", Value: "s3cret"},
			{Name: "a", Value: "s3cret"},
			{Value: "s3cret two"},
			{Value: "d", Providers: []string{"upp"}, Models: []string{"", "a*b", "fine*"}},
			{Value: "e", Concurrency: -1},
		}
	}, "auth.tokens[4].concurrency: got -1, want 0 to 65536",
		"auth.tokens[1].value: want a value that auth.tokens[0] does not have (the value is not shown)",
		`auth.tokens[1].name: got "a", want a name that auth.tokens[0] does not have`,
		"auth.tokens[2].value: "+hidden,
		`auth.tokens[3].providers[0]: got "upp", want a configured provider (did you mean up?)`,
		`auth.tokens[3].models[0]: got "", want a model, with * only at its end`,
		`auth.tokens[3].models[1]: got "a*b", want a model, with * only at its end`)
}
