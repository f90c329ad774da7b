package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/proxy"
)

// marker is in every secret of these tests. Nothing that is printed may have it.
const marker = "zq7#secret"

func wantHidden(t *testing.T, what string, src sources) {
	t.Helper()
	doc, prov, faults := load(src)
	var said strings.Builder
	for _, f := range faults {
		fmt.Fprintln(&said, f, f.got, f.want)
	}
	fmt.Fprint(&said, prov.warnings, prov.notes)
	said.Write(effectiveJSON(doc, prov))
	fmt.Fprintf(&said, "%v %+v %#v %v %#v", doc.Auth, doc.Admin, doc.Auth, doc.Plugins, doc.Plugins)
	if before, _, found := strings.Cut(said.String(), marker); found {
		t.Errorf("%s: a secret is shown behind %q", what, before[max(0, len(before)-200):])
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	for _, value := range []string{marker, marker + " ", "\x00" + marker, strings.Repeat("x", 100) + marker, marker + ",," + marker, "env." + marker} {
		for name, target := range fixedVariables {
			if name = variablePrefix + strings.Replace(name, "#", "0", 1); target.leaf.private() {
				wantHidden(t, name, sources{environ: environment{name: value}, secrets: map[string]string{name: value}})
			}
		}
		for suffix, target := range providerVariables {
			name := variablePrefix + "PROVIDERS_X_" + strings.Replace(suffix, "#", "0", 1)
			if target.leaf.private() {
				wantHidden(t, name, sources{environ: environment{name: value}, secrets: map[string]string{name: value}})
			}
		}
		wantHidden(t, "usual variable", sources{environ: environment{"OPENAI_API_KEY": value}})
		wantHidden(t, "misspelt variables", sources{environ: environment{"EDGE_PROVIDERS_OPENAI_APIKEY": value, "EDGE_TOKEN": value, "EDGE_PLUGINS_0_CONFIGG": value, "EDGE_PLUGINS_0_VM_CONFI": value, "EDGE_PLUGINS_0_REDIS_URI": value}})
	}
	for _, file := range []string{
		`{"auth":{"tokens":"%s"}}`, `{"auth":{"tokens":["%s\u0007"]}}`, `{"auth":{"tokens":[{"value":"%s"}]}}`, `{"auth":"%s"}`, `{"admin":{"token":["%s"]}}`,
		`{"providers":{"openai":{"keys":["%s"]}}}`, `{"providers":{"openai":{"keys":"%s"}}}`, `{"providers":{"openai":{"keys":[{"value":["%s"]}]}}}`,
		`{"providers":{"openai":{"keys":[{"value":"%s\n"}]}}}`, `{"providers":{"openai":{"key":"%s"}}}`, `{"providers":{"openai":"%s"}}`,
		`{"providers":{"openai":{"keys":[{"value":"%s" "name":1}]}}}`, `{"providers":{"openai":{"keys":[{"value":%s}]}}}`, `{"providers":{"openai":{"keys":[{"value":"%s}]}}}`,
		`{"providers":{"openai":{"network_config":{"base_url":"http://user:%s@host"}}}}`, `{"providers":{"openai":{"network_config":{"extra_headers":{"Authorization":"%s\n"}}}}}`,
		`{"providers":{"openai":{"network_config":{"extra_headers":{"Authorization":["%s"]}}}}}`, `{"plugins":[{"config":"%s"}],"governance":"%s"}`, `{"cluster":{"redis_url":"redis://:%s@host"}}`,
		`{"plugins":[{"path":"a.wasm","config":"%s"}]}`, `{"plugins":[{"path":"a.wasm","config":"%s\u0007","timeout_ms":"x"}]}`, `{"plugins":[{"path":"a.wasm","config":["%s",{"%s":1,"x":"%s"}]}]}`,
		`{"plugins":[{"path":"a.wasm","config":{"%s":1,"%s":2,"a":[{"%s":1,"%s":1}]}}]}`, `{"plugins":[{"path":"a.wasm","config":{"%s":%s}}]}`, `{"plugins":[{"path":"a.wasm","config":["%s\x"]}]}`,
		`{"plugins":[{"path":"a.wasm","config":{"a":"env.NOT_SET","b":"%s","%s":"env.NOT_SET"}}]}`, `{"plugins":[{"path":"a.wasm","config":{"%s":"env.HELD"}},{"path":"a.wasm","config":"env.HELD"}]}`,
		`{"plugins":[{"path":"a.wasm","config":{"a":"%s"},"config":"%s"}]}`, `{"plugins":[{"path":"a.wasm","config":{"a":"%s"},"vm_config":"%s","redis_url":"%s"}]}`,
		`{"plugins":[{"path":"a.wasm","vm_config":{"%s":1,"%s":2,"a":[{"%s":1,"%s":1}]},"vm_config":["%s"]}]}`, `{"plugins":[{"path":"a.wasm","vm_config":{"%s":"env.NOT_SET","a":"env.HELD"}},{"path":"a.wasm","vm_config":["env.HELD"]}]}`,
		`{"plugins":[{"path":"a.wasm","redis_url":"redis://:%s@host"},{"path":"b.wasm","redis_url":"redis://a:%s@host/%s"},{"path":"b.wasm","redis_url":["%s"]},{"path":"b.wasm","redis_url":{"%s":1}},{"path":"b.wasm","redis_url":"env.HELD"}]}`, `{"plugins":[{"enabled":true,"config":{"%s":"%s","%s":1}}]}`,
		`{"plugins":{"config":"%s"}}`, `{"plugins":["%s"]}`, `{"plugins":[{"path":"https://%s@host/a.wasm"}]}`, `{"plugins":[{"path":"a.wasm","phases":{"config":"%s"}}]}`,
		`{"listen":"env.HIDDEN","plugins":[{"name":"env.HIDDEN","path":"https://env.HIDDEN"},{"path":"env.HIDDEN","sha256":"env.HIDDEN","abi":"env.HIDDEN","phases":["env.HIDDEN"]}],"routes":[{"path":"env.HIDDEN","provider":"env.HIDDEN"}],"client":{"max_blocked":"env.HIDDEN"},"log":{"level":"env.HIDDEN"},"profile":"env.HIDDEN"}`,
	} {
		data := []byte(strings.ReplaceAll(file, "%s", marker))
		src := sources{file: &text{rank: fromFile, name: "f", data: data}, environ: environment{"HIDDEN": marker, "HELD": marker}}
		if strings.Contains(file, "HIDDEN") || strings.Contains(file, "base_url") || strings.Contains(file, "https://%s") { // what is no Secret is only kept out of faults
			wantHiddenFaults(t, file, src)
			continue
		}
		wantHidden(t, file, src)
	}
}

func wantHiddenFaults(t *testing.T, what string, src sources) {
	t.Helper()
	_, _, faults := load(src)
	if len(faults) == 0 {
		t.Errorf("%s: no fault", what)
	}
	for _, f := range faults {
		if strings.Contains(f.String(), marker) {
			t.Errorf("%s: %s", what, f)
		}
	}
}

// FuzzLoadJSON puts any bytes around a document's secrets: load must not panic, and must not show the secrets.
func FuzzLoadJSON(f *testing.F) {
	for _, seed := range []string{
		"", `,"listen":":1"`, `,"client":{"max_blocked":1e9},`, `}, {"a":`, `,"routes":[{"path":"/x"}],"providers":{}`, `,"a":"`, `,"config":{"queue_timeout_in_seconds":"1m"}`,
		`,"plugins":[{"path":"x.wasm","config":{"a":["env.X",1,null]}}],"log":{"level":"env.X"}`, `,"auth":{}`, `,"provider_defaults":{"keys":[{}],"scaling":{"mode":"x"}}`,
	} {
		f.Add([]byte(""), []byte(seed))
		f.Add([]byte(strings.TrimPrefix(seed, ",")+","), []byte(""))
	}
	f.Fuzz(func(t *testing.T, before, after []byte) {
		if strings.Contains(string(before)+string(after), marker) {
			return
		}
		file := fmt.Sprintf(`{%s"auth":{"tokens":[%q]},"admin":{"token":%[2]q},"providers":{"openai":{"keys":[{"value":%[2]q}],"network_config":{"extra_headers":{"A":%[2]q}}}},"plugins":[{"path":"a.wasm","config":{%[2]q:%[2]q}}]%s}`,
			before, marker, after)
		src := sources{file: &text{rank: fromFile, name: "f", data: []byte(file)}, environ: environment{"X": marker, "EDGE_PROVIDERS_OPENAI_TIMEOUT": "5"}}
		if _, _, faults := load(src); strings.Contains(fmt.Sprint(faults), marker) {
			t.Errorf("%q: a secret is shown: %v", file, faults)
		}
	})
}

// FuzzVariables reads any name and value: load must not panic, and must not show the value of what it does not know.
func FuzzVariables(f *testing.F) {
	for _, seed := range []string{"LISTEN", "PROVIDERS_A_B_CONCURRENCY", "PROVIDERS_A_MAX_CONCURRENCY", "ROUTES_0_PATH", "ROUTES_#_PATH", "PROVIDERS__API_KEY", "PROVIDERS_X_KEYS_0_VALUE", "PORT", "PLUGINS_1_X", "PLUGINS_0_CONFIG", "PLUGINS_0_PHASES", "PROVIDERS_A_PLUGINS", "PROVIDER_DEFAULTS_KEYS_1_NAME", "PROVIDERS_a_BASE_URL"} {
		f.Add(seed, "1")
		f.Add(seed, "http://x,y")
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		doc, prov, _ := load(sources{environ: environment{variablePrefix + name: value, "EDGE_PROVIDERS_A_CONCURRENCY": "5"}})
		effectiveJSON(doc, prov)
		if _, known := lookup(fixedVariables, name); known || strings.Contains(name, marker) {
			return
		}
		if _, _, known := newProvider(name); known {
			return
		}
		_, _, faults := load(sources{environ: environment{variablePrefix + name: marker}})
		if strings.Contains(fmt.Sprint(faults), marker) {
			t.Errorf("%s: its value is shown: %v", name, faults)
		}
	})
}

func TestSecretFileVariables(t *testing.T) {
	f := func(name string, want bool) {
		t.Helper()
		if got := secretFile(name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	f("EDGE_ADMIN_TOKEN_FILE", true)
	f("EDGE_AUTH_TOKENS_FILE", true)
	f("EDGE_PROVIDERS_MY_LLM_API_KEY_FILE", true)
	f("EDGE_PROVIDERS_X_KEYS_3_VALUE_FILE", true)
	f("EDGE_PROVIDER_DEFAULTS_API_KEY_FILE", true)
	f("EDGE_PLUGINS_12_REDIS_URL_FILE", true)
	f("EDGE_PLUGINS_0_VM_CONFIG_FILE", false)
	f("EDGE_TLS_CERT_FILE", false)
	f("EDGE_PROVIDERS_X_BASE_URL_FILE", false)
	f("EDGE_ADMIN_TOKEN", false)
	f("PROVIDERS_X_API_KEY_FILE", false)
	if proxy.Secret("x").String() != "***" {
		t.Error("a Secret prints itself")
	}
}
