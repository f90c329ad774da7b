package main

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/configs"
	"github.com/edge-proxy/edge/proxy"
)

// environment is a test's variables.
type environment map[string]string

// loadText loads a file called edge.json (none when it is empty) with variables and nothing else.
func loadText(file string, environ environment) (document, provenance, []string) {
	src := sources{environ: environ, secrets: map[string]string{}}
	if file != "" {
		src.file = &text{rank: fromFile, name: "edge.json", data: []byte(file)}
	}
	return loadLines(src)
}

func loadLines(src sources) (document, provenance, []string) {
	doc, prov, faults := load(src)
	var lines []string
	for _, f := range faults {
		lines = append(lines, f.String())
	}
	return doc, prov, lines
}

func TestLoadReportsFaults(t *testing.T) {
	const base = `"providers":{"openai":{}}`
	tooLarge := `got 9999999999, want 1 to 1000000`
	if strconv.IntSize == 32 { // which is no int there
		tooLarge = `got "9999999999", want a whole number, 1 to 1000000`
	}
	for _, c := range []struct {
		name, file string
		environ    environment
		want       []string
	}{
		{"nothing", "", nil, nil},
		{"all is well", `{` + base + `}`, nil, nil},
		{"null is not set", `{` + base + `,"listen":null,"client":null,"routes":null,"auth":{"tokens":null}}`, nil, nil},
		{"values of a wrong kind", `{` + base + `,
"listen":5,"h2c":"yes","client":{"initial_pool_size":1.5,"queue_timeout_in_seconds":"soon","max_buffered_mb":"many","max_blocked":true,"trusted_proxies":"10.0.0.0/8"},
"log":[]}`, nil, []string{
			`edge.json:2:10: listen: got 5, want a string`,
			`edge.json:2:18: h2c: got "yes", want true or false`,
			`edge.json:2:54: client.initial_pool_size: got 1.5, want a whole number, 1 to 1000000`,
			`edge.json:2:85: client.queue_timeout_in_seconds: got "soon", want a duration such as 30s or a number of seconds, 1ms to 24h`,
			`edge.json:2:110: client.max_buffered_mb: got "many", want a size such as 64MiB or a number of MiB, 1 to 1TiB`,
			`edge.json:2:131: client.max_blocked: got true, want a whole number, 0 to 100000`,
			`edge.json:2:154: client.trusted_proxies: got a string, want an array`,
			`edge.json:3:7: log: got an array, want an object`,
		}},
		{"values out of range", `{"providers":{"openai":{"concurrency_and_buffer_size":{"concurrency":0}}},"client":{"queue_timeout_in_seconds":0},"log":{"level":"inof"},"scaling":{}}`, nil, []string{
			`edge.json:1:70: providers.openai.concurrency_and_buffer_size.concurrency: got 0, want 1 to 65536`,
			`edge.json:1:112: client.queue_timeout_in_seconds: got 0s, want 1ms to 24h`,
			`edge.json:1:130: log.level: got "inof", want debug, info, warn, error (did you mean info?)`,
			`edge.json:1:138: scaling: unknown key`,
		}},
		{"unknown and misspelt keys, wrong case", `{` + base + `,"Listen":":1","lisen":":1","initial_pool_size":5,"client":{"max_bloked":1},"x.y":1}`, nil, []string{
			`edge.json:1:28: Listen: unknown key (did you mean listen?)`,
			`edge.json:1:42: lisen: unknown key (did you mean listen?)`,
			`edge.json:1:55: initial_pool_size: unknown key (did you mean client.initial_pool_size?)`,
			`edge.json:1:87: client.max_bloked: unknown key (did you mean max_blocked?)`,
			`edge.json:1:103: "x.y": unknown key`,
		}},
		{"keys of a provider in a wrong place", `{"providers":{"openai":{"concurrency":5,"keys":["sk-1"],"network_config":{"base_url":"openai.com"}},"x":{"keys":{}},"Up":7},"routes":[{"path":"v1","provider":"x"},3]}`, nil, []string{
			`edge.json:1:25: providers.openai.concurrency: unknown key (did you mean concurrency_and_buffer_size.concurrency?)`,
			`edge.json:1:49: providers.openai.keys[0]: got a string, want an object`,
			`edge.json:1:86: providers.openai.network_config.base_url: want http:// or https:// with a host and perhaps a path, without user, query or fragment (the value is not shown)`,
			`edge.json:1:101: providers.x.network_config.base_url: got "", want the provider's URL, since "x" is not a known provider`,
			`edge.json:1:113: providers.x.keys: got an object, want an array`,
			`edge.json:1:122: providers.Up: got a number, want an object`,
			`edge.json:1:143: routes[0].path: got "v1", want a path that begins with /, without query, with * only as its last /*`,
			`edge.json:1:164: routes[1]: got a number, want an object`,
		}},
		{"duplicates and aliases", `{` + base + `,"listen":":1","listen":":2","client":{},"config":{},"provider_defaults":{"network_config":{"retry_backoff_max":1,"retry_backoff_max_ms":2}}}`, nil, []string{
			`edge.json:1:42: "listen": a key that is already at edge.json:1:28`,
			`edge.json:1:68: config: is another name of client, which is set too; want one of them`,
			`edge.json:1:141: provider_defaults.network_config.retry_backoff_max_ms: is another name of retry_backoff_max, which is set too; want one of them`,
		}},
		{"trailing bytes in both documents", "{}\n{}", environment{"EDGE_CONFIG_JSON": "{} x", "EDGE_UNKNOWN": "1", "EDGE_MAX_BLOCKED": "x"}, []string{
			`edge.json:2:1: want nothing after the document's end`,
			`EDGE_CONFIG_JSON:1:4: want nothing after the document's end`,
			`client.max_blocked (EDGE_MAX_BLOCKED): got "x", want a whole number, 0 to 100000`,
		}},
		{
			"env.NAME that is missing, empty or unfit", `{"providers":{"openai":{"keys":[{"value":"env.MISSING"}]}},"auth":{"tokens":["a","env.EMPTY"]},"client":{"max_blocked":"env.WORD","queue_timeout_in_seconds":"env.ZERO"}}`,
			environment{"EMPTY": "", "WORD": "plenty", "ZERO": "0"},
			[]string{
				`edge.json:1:42: providers.openai.keys[0].value: wants the variable MISSING, which is not set or empty`,
				`edge.json:1:82: auth.tokens[1].value: wants the variable EMPTY, which is not set or empty`,
				`edge.json:1:120: client.max_blocked: want a whole number, 0 to 100000 (the value of WORD is not shown)`,
				`edge.json:1:158: client.queue_timeout_in_seconds: want 1ms to 24h (the value of ZERO is not shown)`,
			},
		},
		{"variables of a wrong kind", "", environment{
			"EDGE_INITIAL_POOL_SIZE": "9999999999", "EDGE_QUEUE_TIMEOUT": "30 s", "EDGE_MAX_HEADER": "NaN", "EDGE_H2C": "maybe",
			"EDGE_TRUSTED_PROXIES": "10.0.0.0/8,,x", "EDGE_PROVIDERS_OPENAI_EXTRA_HEADERS": "secret", "EDGE_PROVIDERS_OPENAI_API_KEY": "sp ace",
			"EDGE_DRAIN_DELAY": "-1s", "EDGE_PROVIDERS_OPENAI_KEYS_0_WEIGHT": "NaN",
		}, []string{
			`client.drain_delay_in_seconds (EDGE_DRAIN_DELAY): got -1s, want 0s to 1h`,
			`h2c (EDGE_H2C): got "maybe", want true or false`,
			`client.initial_pool_size (EDGE_INITIAL_POOL_SIZE): ` + tooLarge,
			`client.max_header_kb (EDGE_MAX_HEADER): got "NaN", want a size such as 64MiB or a number of KiB, 1KiB to 16MiB`,
			`providers.openai.keys[0].value (EDGE_PROVIDERS_OPENAI_API_KEY): want visible ASCII characters, at least one (the value is not shown)`,
			`providers.openai.network_config.extra_headers (EDGE_PROVIDERS_OPENAI_EXTRA_HEADERS): want strings by name: an object in JSON, name:value separated by commas in a variable (the value is not shown)`,
			`providers.openai.keys[0].weight (EDGE_PROVIDERS_OPENAI_KEYS_0_WEIGHT): got NaN, want 0 to 1000000`,
			`client.queue_timeout_in_seconds (EDGE_QUEUE_TIMEOUT): got "30 s", want a duration such as 30s or a number of seconds, 1ms to 24h`,
			`client.trusted_proxies (EDGE_TRUSTED_PROXIES): got "10.0.0.0/8,,x", want strings: an array in JSON, separated by commas in a variable`,
		}},
		{"unknown variables", `{` + base + `}`, environment{
			"EDGE_LISEN": ":1", "EDGE_PROVIDERS_OPENAI_CONCURENCY": "5", "EDGE_PORT": "8080", "EDGE_API_KEY": "sk-1", "EDGE_providers_x_BASE_URL": "x",
			"EDGE_ROUTES_#_PATH": "/", "EDGE_ROUTES_01_PATH": "/", "EDGE_PROVIDERS_openai_CONCURRENCY": "5", "EDGE_PLUGINS_0_PAHT": "x.wasm",
			"EDGE_PLUGINS_0_REDIS_ULR": "x", "EDGE_PLUGINS_#_ROOT_ID": "x", "EDGE_CLUSTER_REDIS_URL": "x",
		}, []string{
			`EDGE_API_KEY: unknown variable`,
			`EDGE_CLUSTER_REDIS_URL: not in this version of Edge`,
			`EDGE_LISEN: unknown variable (did you mean EDGE_LISTEN?)`,
			`EDGE_PLUGINS_#_ROOT_ID: unknown variable (did you mean EDGE_PLUGINS_0_ROOT_ID?)`,
			`EDGE_PLUGINS_0_PAHT: unknown variable (did you mean EDGE_PLUGINS_0_PATH?)`,
			`EDGE_PLUGINS_0_REDIS_ULR: unknown variable (did you mean EDGE_PLUGINS_0_REDIS_URL?)`,
			`EDGE_PORT: unknown variable (did you mean EDGE_LISTEN?)`,
			`EDGE_PROVIDERS_OPENAI_CONCURENCY: unknown variable (did you mean EDGE_PROVIDERS_OPENAI_CONCURRENCY?)`,
			`EDGE_PROVIDERS_openai_CONCURRENCY: unknown variable (did you mean EDGE_PROVIDERS_OPENAI_CONCURRENCY?)`,
			`EDGE_ROUTES_#_PATH: unknown variable (did you mean EDGE_ROUTES_0_PATH?)`,
			`EDGE_ROUTES_01_PATH: unknown variable (did you mean EDGE_ROUTES_0_PATH?)`,
			`EDGE_providers_x_BASE_URL: unknown variable`,
		}},
		{"known variables that set nothing", `{` + base + `,"log":{"level":"env.EDGE_MY_LEVEL"},"mcp":{"x":["env.EDGE_INSIDE"]}}`, environment{
			"EDGE_MY_LEVEL": "debug", "EDGE_INSIDE": "x", "EDGE_TEST_X": "1", "EDGE_LOG_FORMAT": "", "EDGE_CLUSTER_REDIS_URL": "", "EDGE_PLUGINS_0_ROOT_ID": "", "EDGE_PLUGINS_0_CONFIG": "", "EDGE_CONFIG": "", "EDGE_CONFIG_JSON": "",
			"EDGE_SERVICE_HOST": "10.0.0.1", "EDGE_SERVICE_PORT": "80", "EDGE_SERVICE_PORT_HTTP": "80", "EDGE_PORT": "tcp://10.0.0.1:80",
			"EDGE_PORT_80_TCP": "tcp://10.0.0.1:80", "EDGE_PORT_80_TCP_ADDR": "10.0.0.1", "EDGE_PORT_53_UDP": "udp://10.0.0.1:53",
			"EDGE_ADMIN_SERVICE_HOST": "10.0.0.2", "EDGE_ADMIN_PORT": "tcp://10.0.0.2:9090", "EDGE_ADMIN_PORT_9090_TCP_PROTO": "tcp",
		}, nil},
		{"empty secrets", `{` + base + `}`, environment{"EDGE_ADMIN_TOKEN": "", "EDGE_AUTH_TOKENS_FILE": "", "EDGE_PROVIDERS_OPENAI_API_KEY": "", "EDGE_PROVIDERS_OPENAI_TIMEOUT": "", "OPENAI_API_KEY": ""}, []string{
			`admin.token (EDGE_ADMIN_TOKEN): is empty; unset it, or give it a value`,
			`auth.tokens (EDGE_AUTH_TOKENS_FILE): is empty; unset it, or give it a value`,
			`providers.openai.keys[0].value (EDGE_PROVIDERS_OPENAI_API_KEY): is empty; unset it, or give it a value`,
			`providers.openai.keys[0].value (OPENAI_API_KEY): is empty; unset it, or give it a value`,
		}},
		{"two variables for one value", `{` + base + `}`, environment{
			"EDGE_PROVIDERS_OPENAI_API_KEY": "a", "EDGE_PROVIDERS_OPENAI_KEYS_0_VALUE": "b", "EDGE_ADMIN_TOKEN": "a", "EDGE_ADMIN_TOKEN_FILE": "/b",
			"EDGE_CONCURRENCY": "1", "EDGE_PROVIDER_DEFAULTS_CONCURRENCY": "2",
		}, []string{
			`admin.token (EDGE_ADMIN_TOKEN_FILE): is set by EDGE_ADMIN_TOKEN too; want one of them`,
			`providers.openai.keys[0].value (EDGE_PROVIDERS_OPENAI_KEYS_0_VALUE): is set by EDGE_PROVIDERS_OPENAI_API_KEY too; want one of them`,
			`provider_defaults.concurrency_and_buffer_size.concurrency (EDGE_PROVIDER_DEFAULTS_CONCURRENCY): is set by EDGE_CONCURRENCY too; want one of them`,
		}},
		{
			"two readings of a variable", `{"providers":{"a":{"network_config":{"base_url":"http://a"}},"a-max":{"network_config":{"base_url":"http://b"}}}}`,
			environment{"EDGE_PROVIDERS_A_MAX_CONCURRENCY": "5", "EDGE_PROVIDERS_A_MAX_TIMEOUT": "5"},
			[]string{
				`EDGE_PROVIDERS_A_MAX_CONCURRENCY: can be read as providers.a-max.concurrency_and_buffer_size.concurrency and as providers.a.scaling.max_concurrency; set it in JSON`,
			},
		},
		{"two readings, one of them only by variables", "", environment{"EDGE_PROVIDERS_A_BASE_URL": "http://a", "EDGE_PROVIDERS_A_MAX_BASE_URL": "http://b", "EDGE_PROVIDERS_A_MAX_CONCURRENCY": "5"}, []string{
			`EDGE_PROVIDERS_A_MAX_CONCURRENCY: can be read as providers.a_max.concurrency_and_buffer_size.concurrency and as providers.a.scaling.max_concurrency; set it in JSON`,
		}},
		{"two names of one form", `{"providers":{"a-b":{"network_config":{"base_url":"http://a"}},"a_b":{"network_config":{"base_url":"http://b"}}}}`, nil, []string{
			`edge.json:1:64: providers.a_b: got "a_b", want a name whose variables differ from those of "a-b"; both are EDGE_PROVIDERS_A_B_...`,
		}},
		{"gaps", `{` + base + `,"routes":[{"path":"/a","provider":"openai"}]}`, environment{
			"EDGE_ROUTES_1_PATH": "/b", "EDGE_ROUTES_1_PROVIDER": "openai", "EDGE_ROUTES_3_PATH": "/d", "EDGE_PROVIDERS_OPENAI_KEYS_1_VALUE": "x",
		}, []string{
			`providers.openai.keys[1].value (EDGE_PROVIDERS_OPENAI_KEYS_1_VALUE): leaves a gap; the elements before it are not set`,
			`routes[3].path (EDGE_ROUTES_3_PATH): leaves a gap; the elements before it are not set`,
		}},
		{"keys of later versions", `{"cluster":{"redis_url":"redis://x","y":1},"providers":{"openai":{"scaling":{"mode":"adaptive"}}},"plugins":[{"name":"a","path":"a.wasm",
"vm_idd":""},{"name":"b","path":"oci://b"}]}`, nil, []string{
			`edge.json:1:25: cluster.redis_url: not in this version of Edge`,
			`edge.json:1:37: cluster.y: unknown key`,
			`edge.json:1:85: providers.openai.scaling.mode: got "adaptive", want static`,
			`edge.json:2:1: plugins[0].vm_idd: unknown key (did you mean vm_id?)`,
			`edge.json:2:33: plugins[1].path: a URL is not in this version of Edge; want a file (the value is not shown)`,
		}},
		{"empty keys of later versions", `{"cluster":{"redis_url":""},"providers":{"openai":{"plugins":[]}},"routes":[{"path":"/a","provider":"openai","plugins":null}],
"plugins":[{"name":"a","path":"a.wasm","pause_timeout_ms":null,"max_callouts":null,"root_id":"","vm_id":"","vm_config":null,"redis_url":""}]}`, nil, nil},
		{"what only the process has", `{` + base + `,"listen":"8080","admin":{"listen":"0.0.0.0:9090"},"tls":{"cert_file":"c.pem"},"profile":"balance"}`, nil, []string{
			`admin.token: got none, want a token (EDGE_ADMIN_TOKEN), since admin.listen, "0.0.0.0:9090", is beyond loopback`,
			`tls.key_file: got "", want a file, since tls.cert_file is set`,
			`edge.json:1:37: listen: got "8080", want host:port or :port, with a port of 0 to 65535`,
			`edge.json:1:116: profile: got "balance", want high-throughput, balanced, burst-resistant, resource-constrained (did you mean balanced?)`,
		}},
		{"provider_defaults are judged once", `{"provider_defaults":{"concurrency_and_buffer_size":{"concurrency":0},"keys":[{"value":"a b"}]},"providers":{"openai":{},"groq":{}}}`, nil, []string{
			`edge.json:1:68: provider_defaults.concurrency_and_buffer_size.concurrency: got 0, want 1 to 65536`,
			`edge.json:1:88: provider_defaults.keys[0].value: want visible ASCII characters, at least one (the value is not shown)`,
		}},
		{"a long value is cut", `{` + base + `,"log":{"format":"` + strings.Repeat("é", 80) + `"}}`, nil, []string{
			`edge.json:1:44: log.format: got "` + strings.Repeat("é", 32) + `"..., want json, text`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, got := loadText(c.file, c.environ)
			if !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func TestLoadPrecedence(t *testing.T) {
	f := func(file string, environ environment, flags flags, want int, source, listen string) {
		t.Helper()
		src := sources{environ: environ, flags: flags, file: &text{rank: fromFile, name: "edge.json", data: []byte(file)}}
		doc, prov, lines := loadLines(src)
		if len(lines) > 0 {
			t.Errorf("faults: %q", lines)
		}
		if got, from := doc.InitialPoolSize, prov.of("client.initial_pool_size").String(); got != want || from != source || doc.Listen != listen {
			t.Errorf("got %d from %s, listening on %s, want %d from %s, %s", got, from, doc.Listen, want, source, listen)
		}
	}
	file := `{"listen":":1","client":{"initial_pool_size":11}}`
	environ := environment{"EDGE_PROFILE": "high-throughput"}
	given := flags{listen: ":4", given: map[string]bool{"listen": true}}
	f(`{}`, nil, flags{}, 1000, "profile balanced", ":8080")
	f(`{}`, environ, flags{}, 5000, "profile high-throughput", ":8080")
	f(`{"profile":"burst-resistant"}`, environ, flags{}, 5000, "profile high-throughput", ":8080")
	f(file, environ, flags{}, 11, "edge.json:1:46", ":1")
	environ["EDGE_CONFIG_JSON"] = `{"client":{"initial_pool_size":12},"listen":":2"}`
	f(file, environ, flags{}, 12, "EDGE_CONFIG_JSON:1:32", ":2")
	environ["EDGE_INITIAL_POOL_SIZE"], environ["EDGE_LISTEN"] = "13", ":3"
	f(file, environ, flags{}, 13, "env EDGE_INITIAL_POOL_SIZE", ":3")
	f(file, environ, given, 13, "env EDGE_INITIAL_POOL_SIZE", ":4")
	environ["EDGE_INITIAL_POOL_SIZE"] = ""
	f(file, environ, given, 12, "EDGE_CONFIG_JSON:1:32", ":4")
}

func TestLoadMerges(t *testing.T) {
	file := `{"auth":{"tokens":["a","b"]},
"provider_defaults":{"network_config":{"extra_headers":{"X-All":"1"}},"concurrency_and_buffer_size":{"buffer_size":7}},
"providers":{"my-llm":{"network_config":{"base_url":"http://llm","extra_headers":{"X-A":"1","X-B":"1"}},"concurrency_and_buffer_size":{"concurrency":3},
  "keys":[{"name":"one","value":"k1"},{"value":"k2","models":["*"]}]},"openai":{}},
"routes":[{"path":"/a","provider":"openai"},{"path":"/b","provider":"my-llm"}]}`
	doc, prov, lines := loadText(file, environment{
		"EDGE_CONFIG_JSON":                   `{"auth":{"tokens":["c"]},"providers":{"my-llm":{"network_config":{"extra_headers":{"X-B":"2"}}}}}`,
		"EDGE_CONCURRENCY":                   "9",
		"EDGE_PROVIDERS_MY_LLM_KEYS_1_VALUE": "k3", "EDGE_PROVIDERS_MY_LLM_KEYS_2_VALUE": "k4",
		"EDGE_PROVIDERS_MY_LLM_EXTRA_HEADERS": "X-C: 3, X-D:x:y",
		"EDGE_PROVIDERS_NEW_ONE_BASE_URL":     "http://new",
		"EDGE_PROVIDERS_NEW_ONE_API_KEY":      "k5",
		"EDGE_ROUTES_1_PATH":                  "/c", "EDGE_ROUTES_2_PATH": "/d", "EDGE_ROUTES_2_PROVIDER": "new_one",
		"OPENAI_API_KEY": "usual", "GROQ_API_KEY": "not asked for",
	})
	if len(lines) > 0 {
		t.Fatalf("faults: %q", lines)
	}
	equal(t, "tokens", doc.Auth.Tokens, []proxy.Token{{Value: "c"}})
	llm := doc.Providers["my-llm"]
	equal(t, "keys", llm.Keys, []proxy.Key{{Name: "one", Value: "k1", Weight: 1}, {Value: "k3", Weight: 1}, {Value: "k4", Weight: 1}})
	equal(t, "headers", llm.ExtraHeaders, map[string]string{"X-All": "1", "X-A": "1", "X-B": "2", "X-C": "3", "X-D": "x:y"})
	equal(t, "limits", [2]int{llm.Concurrency, llm.BufferSize}, [2]int{3, 7})
	openai := doc.Providers["openai"]
	equal(t, "limits of openai", [2]int{openai.Concurrency, openai.BufferSize}, [2]int{9, 7})
	equal(t, "keys of openai", openai.Keys, []proxy.Key{{Value: "usual", Weight: 1}})
	equal(t, "base URL of openai", openai.BaseURL, "https://api.openai.com")
	equal(t, "keys of new_one", doc.Providers["new_one"].Keys, []proxy.Key{{Value: "k5", Weight: 1}})
	equal(t, "routes", doc.Routes, []proxy.Route{{Path: "/a", Provider: "openai"}, {Path: "/c", Provider: "my-llm"}, {Path: "/d", Provider: "new_one"}})
	equal(t, "providers", len(doc.Providers), 3)

	for path, want := range map[string]string{
		"auth.tokens": "EDGE_CONFIG_JSON:1:19", "auth.tokens[0]": "EDGE_CONFIG_JSON:1:20",
		"providers.my-llm.network_config.extra_headers.X-A":        "edge.json:3:89",
		"providers.my-llm.network_config.extra_headers.X-B":        "EDGE_CONFIG_JSON:1:90",
		"providers.my-llm.network_config.extra_headers.X-C":        "env EDGE_PROVIDERS_MY_LLM_EXTRA_HEADERS",
		"providers.my-llm.network_config.extra_headers.X-All":      "edge.json:2:65",
		"providers.openai.concurrency_and_buffer_size.concurrency": "env EDGE_CONCURRENCY",
		"providers.my-llm.concurrency_and_buffer_size.concurrency": "edge.json:3:150",
		"providers.openai.concurrency_and_buffer_size.buffer_size": "edge.json:2:116",
		"providers.openai.keys[0].value":                           "env OPENAI_API_KEY",
		"providers.my-llm.keys[1].value":                           "env EDGE_PROVIDERS_MY_LLM_KEYS_1_VALUE",
		"providers.my-llm.keys[0].value":                           "edge.json:4:33",
		"providers.new_one.network_config.base_url":                "env EDGE_PROVIDERS_NEW_ONE_BASE_URL",
		"routes[1].path":              "env EDGE_ROUTES_1_PATH",
		"routes[1].provider":          "edge.json:5:69",
		"client.initial_pool_size":    "profile balanced",
		"client.drop_excess_requests": "default",
	} {
		if got := prov.of(path).String(); got != want {
			t.Errorf("source of %s: got %s, want %s", path, got, want)
		}
	}
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %s, want %s", what, show(got), show(want))
	}
}

// show prints secrets too: those of tests are none.
func show(v any) string {
	switch v := v.(type) {
	case []proxy.Key:
		var b strings.Builder
		for _, k := range v {
			fmt.Fprintf(&b, "{%s %s %v %q}", k.Name, k.Value.Reveal(), k.Weight, k.Models)
		}
		return b.String()
	case []proxy.Secret:
		var b strings.Builder
		for _, s := range v {
			b.WriteString(s.Reveal() + " ")
		}
		return b.String()
	}
	return fmt.Sprintf("%+v", v)
}

func TestLoadUnits(t *testing.T) {
	f := func(environ environment, file string, wait time.Duration, buffered, header proxy.Size, backoff time.Duration) {
		t.Helper()
		doc, _, lines := loadText(file, environ)
		p := doc.Providers["openai"]
		got := fmt.Sprint(lines, doc.QueueTimeout, doc.MaxBuffered, doc.MaxHeader, p.RetryBackoffInitial)
		if want := fmt.Sprint([]string{}, wait, buffered, header, backoff); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	const ms = time.Millisecond
	f(environment{"EDGE_QUEUE_TIMEOUT": "2", "EDGE_MAX_BUFFERED": "3", "EDGE_MAX_HEADER": "4", "EDGE_PROVIDERS_OPENAI_RETRY_BACKOFF_INITIAL": "5"}, "", 2*time.Second, 3<<20, 4<<10, 5*ms)
	f(environment{"EDGE_QUEUE_TIMEOUT": "0.5", "EDGE_MAX_BUFFERED": "0.5", "EDGE_MAX_HEADER": "8KiB", "EDGE_PROVIDERS_OPENAI_RETRY_BACKOFF_INITIAL": "2s"}, "", 500*ms, 1<<19, 8<<10, 2*time.Second)
	f(nil, `{"client":{"queue_timeout_in_seconds":1.5,"max_buffered_mb":2.5,"max_header_kb":1e1},"providers":{"openai":{"network_config":{"retry_backoff_initial":7}}}}`, 1500*ms, 5<<19, 10<<10, 7*ms)
	f(nil, `{"config":{"queue_timeout_in_seconds":"1m30s","max_buffered_mb":"64MiB","max_header_kb":"12"},"providers":{"openai":{"network_config":{"retry_backoff_initial_ms":"3s"}}}}`, 90*time.Second, 64<<20, 12<<10, 3*time.Second)

	for _, word := range []string{"true", "1", "yes", "on", "TRUE", "false", "0", "no", "off"} {
		doc, _, lines := loadText("", environment{"EDGE_DROP_EXCESS_REQUESTS": word})
		if want := slices.Contains([]string{"true", "1", "yes", "on", "TRUE"}, word); len(lines) > 0 || doc.DropExcessRequests != want {
			t.Errorf("%s: got %v, faults %q", word, doc.DropExcessRequests, lines)
		}
	}
}

func TestLoadUsualVariables(t *testing.T) {
	f := func(file string, environ environment, demo bool, want string) {
		t.Helper()
		src := sources{environ: environ, flags: flags{demo: demo}}
		if file != "" {
			src.file = &text{rank: fromFile, name: "edge.json", data: []byte(file)}
		}
		doc, _, lines := loadLines(src)
		var got []string
		for name, p := range doc.Providers {
			for _, k := range p.Keys {
				name += "=" + k.Value.Reveal()
			}
			got = append(got, name)
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want || len(lines) > 0 {
			t.Errorf("got %q, faults %q, want %q", got, lines, want)
		}
	}
	f("", nil, false, "")
	f("", environment{"OPENAI_API_KEY": "a", "HF_TOKEN": "b", "GROQ_API_KEY": "", "EDGE_LISTEN": ":1"}, false, "huggingface=b openai=a")
	f("", environment{"OPENAI_API_KEY": "a", "EDGE_PROVIDERS_GROQ_CONCURRENCY": "5"}, false, "groq")
	f(`{"providers":{"groq":{"keys":[{"value":"x"}]},"openai":{"keys":[]}}}`, environment{"OPENAI_API_KEY": "a", "GROQ_API_KEY": "b"}, false, "groq=x openai=a")
	f("", environment{"OPENAI_API_KEY": "a"}, true, "demo")
	f(`{"providers":{"openai":{}},"routes":[{"path":"/x","provider":"demo"}]}`, nil, true, "demo openai")
}

func TestLoadBifrostConfig(t *testing.T) {
	file := `{
  "$schema": "https://www.getbifrost.ai/schema",
  "encryption_key": "env.BIFROST_ENCRYPTION_KEY",
  "client": { "drop_excess_requests": true, "initial_pool_size": 300, "enable_logging": true, "prometheus_labels": ["team"], "max_request_body_size_mb": 50 },
  "providers": {
    "openai": {
      "keys": [
        { "name": "primary", "value": "env.OPENAI_API_KEY", "models": ["*"], "weight": 0.7, "use_for_batch_api": true },
        { "name": "second", "value": "sk-2", "models": ["gpt-4o"], "weight": 0.3, "enabled": true }
      ],
      "network_config": { "default_request_timeout_in_seconds": 30, "max_retries": 2, "retry_backoff_initial": 100, "retry_backoff_max": 2000, "insecure_skip_verify": false },
      "concurrency_and_buffer_size": { "concurrency": 3, "buffer_size": 10 },
      "send_back_raw_response": false,
      "custom_provider_config": { "base_provider_type": "env.NOT_SET" }
    },
    "ollama": { "network_config": { "base_url": "http://127.0.0.1:11434" } }
  },
  "plugins": [{ "name": "otel", "enabled": true, "config": {} }, { "name": "mine", "path": "mine.so" }],
  "governance": { "virtual_keys": [{ "value": "env.ALSO_NOT_SET" }] },
  "config_store": { "enabled": false }
}`
	doc, prov, lines := loadText(file, environment{"OPENAI_API_KEY": "sk-1"})
	if len(lines) > 0 {
		t.Fatalf("faults: %q", lines)
	}
	want := []string{
		"ignored, since they are Bifrost's and not Edge's: $schema, client.enable_logging, client.prometheus_labels, config_store, encryption_key, governance, plugins[0], plugins[1], providers.openai.custom_provider_config, providers.openai.keys[0].use_for_batch_api, providers.openai.network_config.insecure_skip_verify, providers.openai.send_back_raw_response",
	}
	if !slices.Equal(prov.warnings, want) {
		t.Errorf("warnings:\n%s\nwant\n%s", strings.Join(prov.warnings, "\n"), strings.Join(want, "\n"))
	}
	p := doc.Providers["openai"]
	equal(t, "keys", p.Keys, []proxy.Key{{Name: "primary", Value: "sk-1", Weight: 0.7}, {Name: "second", Value: "sk-2", Weight: 0.3, Models: []string{"gpt-4o"}, Enabled: new(true)}})
	equal(t, "the rest", fmt.Sprint(doc.DropExcessRequests, doc.InitialPoolSize, doc.MaxRequestBody, p.Timeout, p.MaxRetries, p.RetryBackoffInitial, p.RetryBackoffMax, p.Concurrency, p.BufferSize),
		"true 300 50MiB 30s 2 100ms 2s 3 10")
}

func TestForeignKeysAreNotOurs(t *testing.T) {
	var check func(sh *shape, seen map[string]bool)
	check = func(sh *shape, seen map[string]bool) {
		seen[sh.name] = true
		for _, key := range slices.Concat(foreignKeys[sh.name], laterKeys[sh.name]) {
			if sh.member(key) != nil {
				t.Errorf("%s: %s is a key of Edge", sh.name, key)
			}
		}
		for _, m := range sh.members {
			check(m.shape, seen)
		}
		if sh.elem != nil {
			check(sh.elem, seen)
		}
	}
	seen := map[string]bool{}
	check(rootShape, seen)
	for name := range foreignKeys {
		if !seen[name] {
			t.Errorf("foreignKeys has %q, which is no object of the configuration", name)
		}
	}
	for name := range laterKeys {
		if !seen[name] {
			t.Errorf("laterKeys has %q, which is no object of the configuration", name)
		}
	}
}

func TestServiceLinksAreOneNote(t *testing.T) {
	_, prov, lines := loadText("", environment{"EDGE_SERVICE_HOST": "10.0.0.1", "EDGE_PORT": "tcp://10.0.0.1:80"})
	if len(lines) > 0 || len(prov.notes) != 1 || !strings.HasSuffix(prov.notes[0], ": EDGE_PORT, EDGE_SERVICE_HOST") {
		t.Errorf("notes %q, faults %q", prov.notes, lines)
	}
}

func TestProfiles(t *testing.T) {
	numbers := map[string][3]int{
		"high-throughput": {200, 1000, 5000}, "balanced": {50, 500, 1000}, "burst-resistant": {20, 5000, 1000}, "resource-constrained": {5, 50, 100},
	}
	for _, name := range configs.Profiles() {
		data, ok := configs.Profile(name)
		if !ok {
			t.Fatalf("no profile %s", name)
		}
		if r, whole := read(&text{rank: fromFile, name: name, data: data}, nil); !whole || len(r.faults) > 0 || len(r.ignored) > 0 {
			t.Errorf("%s: %v, ignored %q", name, r.faults, r.ignored)
		}
		doc, _, lines := loadText(`{"providers":{"openai":{}}}`, environment{"EDGE_PROFILE": name})
		p := doc.Providers["openai"]
		if got := [3]int{p.Concurrency, p.BufferSize, doc.InitialPoolSize}; got != numbers[name] || len(lines) > 0 {
			t.Errorf("%s: got %v, faults %q, want %v", name, got, lines, numbers[name])
		}
		if p.BufferSize > p.MaxBufferSize || p.Concurrency > p.MaxConcurrency || doc.MaxBuffered < doc.MaxRequestBody {
			t.Errorf("%s: a value is beyond the bound that is meant for it: %+v %+v", name, p, doc.Config)
		}
	}
	doc, _, _ := loadText("", nil)
	want := defaultDocument()
	equal(t, "the balanced profile", doc, want)
	if _, ok := configs.Profile("edge"); ok {
		t.Error("edge.json is taken for a profile")
	}
}
