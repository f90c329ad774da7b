package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

func TestLoadPlugins(t *testing.T) {
	want := proxy.Plugin{
		Name: "redact", Path: "redact.wasm", SHA256: strings.Repeat("0a", 32), ABI: "http-wasm", Config: `{"fields":["ssn"]}`, Phases: []string{"request"},
		MemoryLimit: 8 << 20, Timeout: 20 * time.Millisecond, Deadline: "context", OnError: "skip", MaxInstances: 4, MaxBody: 1 << 19, LogLinesPerSecond: 7,
		PauseTimeout: 250 * time.Millisecond, MaxCallouts: 3, RootID: "my_root", VMID: "shared", VMConfig: `["a",null]`, RedisURL: "rediss://ada:secret@redis:6380/2",
	}
	file := `{"providers":{"openai":{"plugins":["redact"]}},"plugins":[{"name":"redact","path":"redact.wasm","sha256":"` + want.SHA256 + `","abi":"http-wasm",
"config":{"fields":["ssn"]},"phases":["request"],"memory_limit_mb":8,"timeout_ms":20,"deadline":"context","on_error":"skip","max_instances":4,"max_body_mb":0.5,"log_lines_per_second":7,
"pause_timeout_ms":250,"max_callouts":3,"root_id":"my_root","vm_id":"shared","vm_config":[ "a", null ],"redis_url":"rediss://ada:secret@redis:6380/2"}]}`
	doc, _, lines := loadText(file, nil)
	equal(t, "faults of JSON", lines, []string(nil))
	equal(t, "plugins of JSON", doc.Plugins, []proxy.Plugin{want})
	equal(t, "plugins of openai", doc.Providers["openai"].Plugins, []string{"redact"})

	doc, _, lines = loadText("", environment{
		"EDGE_PROVIDERS_OPENAI_PLUGINS": "redact", "EDGE_PLUGINS_0_NAME": "redact", "EDGE_PLUGINS_0_PATH": "redact.wasm", "EDGE_PLUGINS_0_SHA256": want.SHA256,
		"EDGE_PLUGINS_0_ABI": "http-wasm", "EDGE_PLUGINS_0_CONFIG": `{"fields":["ssn"]}`, "EDGE_PLUGINS_0_PHASES": "request", "EDGE_PLUGINS_0_MEMORY_LIMIT": "8",
		"EDGE_PLUGINS_0_TIMEOUT": "20", "EDGE_PLUGINS_0_DEADLINE": "context", "EDGE_PLUGINS_0_ON_ERROR": "skip", "EDGE_PLUGINS_0_MAX_INSTANCES": "4",
		"EDGE_PLUGINS_0_MAX_BODY": "512KiB", "EDGE_PLUGINS_0_LOG_LINES_PER_SECOND": "7",
		"EDGE_PLUGINS_0_PAUSE_TIMEOUT": "250ms", "EDGE_PLUGINS_0_MAX_CALLOUTS": "3", "EDGE_PLUGINS_0_ROOT_ID": "my_root", "EDGE_PLUGINS_0_VM_ID": "shared",
		"EDGE_PLUGINS_0_VM_CONFIG": `["a",null]`, "EDGE_PLUGINS_0_REDIS_URL": "rediss://ada:secret@redis:6380/2",
	})
	equal(t, "faults of variables", lines, []string(nil))
	equal(t, "plugins of variables", doc.Plugins, []proxy.Plugin{want})
	equal(t, "plugins of openai", doc.Providers["openai"].Plugins, []string{"redact"})

	// Elements start from their defaults, variables edit them, a higher array replaces.
	doc, prov, lines := loadText(`{"plugins":[{"name":"a","path":"a.wasm","timeout_ms":5},{"name":"b","path":"b.wasm","phases":["request"]}],
"provider_defaults":{"plugins":["b"]},"providers":{"openai":{},"groq":{"plugins":["a"]},"xai":{"plugins":[]}},"routes":[{"path":"/x/*","plugins":["b"]}]}`, environment{
		"EDGE_PLUGINS_0_MAX_INSTANCES": "2", "EDGE_PLUGINS_2_NAME": "c", "EDGE_PLUGINS_2_PATH": "c.wasm",
		"EDGE_ROUTES_0_PLUGINS": "a, b", "EDGE_PROVIDER_DEFAULTS_PLUGINS": "c,b",
	})
	a, b, c := proxy.DefaultPlugin(), proxy.DefaultPlugin(), proxy.DefaultPlugin()
	a.Name, a.Path, a.Timeout, a.MaxInstances = "a", "a.wasm", 5*time.Millisecond, 2
	b.Name, b.Path, b.Phases = "b", "b.wasm", []string{"request"}
	c.Name, c.Path = "c", "c.wasm"
	equal(t, "faults", lines, []string(nil))
	equal(t, "warnings", prov.warnings, []string{})
	equal(t, "plugins", doc.Plugins, []proxy.Plugin{a, b, c})
	equal(t, "routes", doc.Routes, []proxy.Route{{Path: "/x/*", Plugins: []string{"a", "b"}}})
	equal(t, "openai", doc.Providers["openai"].Plugins, []string{"c", "b"})
	equal(t, "groq", doc.Providers["groq"].Plugins, []string{"a"})
	equal(t, "xai", doc.Providers["xai"].Plugins, []string{})
	for path, want := range map[string]string{
		"plugins[0].timeout_ms": "edge.json:1:54", "plugins[0].max_instances": "env EDGE_PLUGINS_0_MAX_INSTANCES", "plugins[2].path": "env EDGE_PLUGINS_2_PATH",
		"plugins[1].phases[0]": "edge.json:1:95", "providers.openai.plugins[1]": "env EDGE_PROVIDER_DEFAULTS_PLUGINS",
		"providers.groq.plugins[0]": "edge.json:2:83", "routes[0].plugins": "env EDGE_ROUTES_0_PLUGINS",
	} {
		equal(t, "source of "+path, prov.of(path).String(), want)
	}
}

func TestLoadReportsFaultsOfPlugins(t *testing.T) {
	for _, c := range []struct {
		name, file string
		environ    environment
		want       []string
	}{
		{"values of a wrong kind", `{"plugins":[7,{"name":1,"path":"a.wasm","phases":"request","timeout_ms":"soon","memory_limit_mb":[],"max_instances":1.5,"configg":1}],"routes":[{"path":"/","plugins":"a"}]}`, nil, []string{
			`edge.json:1:13: plugins[0]: got a number, want an object`,
			`edge.json:1:23: plugins[1].name: got 1, want a string`,
			`edge.json:1:50: plugins[1].phases: got a string, want an array`,
			`edge.json:1:73: plugins[1].timeout_ms: got "soon", want a duration such as 30s or a number of milliseconds, 1ms to 10m`,
			`edge.json:1:98: plugins[1].memory_limit_mb: got an array, want a size such as 64MiB or a number of MiB, 64KiB to 4GiB`,
			`edge.json:1:117: plugins[1].max_instances: got 1.5, want a whole number, 0 to 65536`,
			`edge.json:1:121: plugins[1].configg: unknown key (did you mean config?)`,
			`edge.json:1:145: routes[0].provider: got "", want a configured provider, since the route has no plugins`,
			`edge.json:1:167: routes[0].plugins: got a string, want an array`,
		}},
		{"values out of range", `{"plugins":[{"name":"A","path":"a.wasm","sha256":"12","abi":"proxywasm","phases":["request","reply"],"memory_limit_mb":0,"timeout_ms":0,
"deadline":"never","on_error":"retry","max_instances":-1,"max_body_mb":0,"log_lines_per_second":0},{"name":"b","path":"b.wasm","phases":[]}]}`, nil, []string{
			`edge.json:1:21: plugins[0].name: got "A", want a name of lower-case letters, digits, '-', '_' and '.', at most 64`,
			`edge.json:1:50: plugins[0].sha256: got "12", want 64 hexadecimal digits`,
			`edge.json:1:61: plugins[0].abi: got "proxywasm", want auto, http-wasm, proxy-wasm`,
			`edge.json:1:93: plugins[0].phases[1]: got "reply", want request or response`,
			`edge.json:1:120: plugins[0].memory_limit_mb: got 0, want 64KiB to 4GiB`,
			`edge.json:1:135: plugins[0].timeout_ms: got 0s, want 1ms to 10m`,
			`edge.json:2:12: plugins[0].deadline: got "never", want rewrite, context, none`,
			`edge.json:2:31: plugins[0].on_error: got "retry", want fail, skip`,
			`edge.json:2:55: plugins[0].max_instances: got -1, want 0 to 65536`,
			`edge.json:2:72: plugins[0].max_body_mb: got 0, want 1 to 1TiB`,
			`edge.json:2:97: plugins[0].log_lines_per_second: got 0, want 1 to 1000000`,
			`edge.json:2:137: plugins[1].phases: got none, want request, response or both`,
		}},
		{"variables", "", environment{
			"EDGE_PLUGINS_0_NAME": "a", "EDGE_PLUGINS_0_PATH": "https://host/a.wasm", "EDGE_PLUGINS_0_TIMEOUT": "soon", "EDGE_PLUGINS_0_PHASES": "request,request", "EDGE_PLUGINS_0_SHA256": "x",
			"EDGE_PLUGINS_2_PATH": "c.wasm", "EDGE_PLUGINS_1_CONFIG": "x",
		}, []string{
			`plugins[0].path (EDGE_PLUGINS_0_PATH): a URL is not in this version of Edge; want a file (the value is not shown)`,
			`plugins[0].phases[1] (EDGE_PLUGINS_0_PHASES): got "request", want each phase once`,
			`plugins[0].sha256 (EDGE_PLUGINS_0_SHA256): got "x", want 64 hexadecimal digits`,
			`plugins[0].timeout_ms (EDGE_PLUGINS_0_TIMEOUT): got "soon", want a duration such as 30s or a number of milliseconds, 1ms to 10m`,
			`plugins[1].name (EDGE_PLUGINS_1_CONFIG): got "", want a name of lower-case letters, digits, '-', '_' and '.', at most 64`,
			`plugins[1].path (EDGE_PLUGINS_1_CONFIG): got "", want a .wasm file`,
			`plugins[2].name (EDGE_PLUGINS_2_PATH): got "", want a name of lower-case letters, digits, '-', '_' and '.', at most 64`,
		}},
		{"names", `{"plugins":[{"name":"redact","path":"a.wasm","abi":"http-wasm"},{"name":"redact","path":"b.wasm","phases":["request"]}],"provider_defaults":{"plugins":["readct"]},
"providers":{"openai":{},"groq":{"plugins":["redact","redact","env.NAME"]},"xai":{}},
"routes":[{"path":"/a","plugins":["redact"]},{"path":"/b","plugins":[]},{"path":"/c","provider":"xai","plugins":["x"]}]}`, environment{"NAME": "hidden"}, []string{
			`edge.json:1:13: plugins[0].max_instances: got 0, want at least 1, since routes[0] names the plugin and its phases hold response`,
			`edge.json:1:73: plugins[1].name: got "redact", want a name that no plugin before it has`,
			`edge.json:1:153: provider_defaults.plugins[0]: got "readct", want a configured plugin (did you mean redact?)`,
			`edge.json:2:54: providers.groq.plugins[1]: got "redact", want each plugin once`,
			`edge.json:2:63: providers.groq.plugins[2]: want a configured plugin: redact (the value of NAME is not shown)`,
			`edge.json:3:46: routes[1].provider: got "", want a configured provider, since the route has no plugins`,
			`edge.json:3:114: routes[2].plugins[0]: got "x", want a configured plugin: redact`,
		}},
		{
			"places among Bifrost's plugins", `{"plugins":[{"name":"otel","enabled":true,"config":{"a":"env.NOT_SET"}},{"name":"A","path":"a.wasm","timeout_ms":"x"},{"name":"mine","path":"mine.so"},
{"name":"b","path":"env.WASM","phases":["x"],"config":["env.MISSING"]},{"name":"c","path":"env.SO"},{"path":"env.NO_PATH","name":"d"}]}`,
			environment{"WASM": "b.wasm", "SO": "c.so", "EDGE_PLUGINS_1_ABI": "x"},
			[]string{
				`edge.json:1:81: plugins[1].name: got "A", want a name of lower-case letters, digits, '-', '_' and '.', at most 64`,
				`edge.json:1:114: plugins[1].timeout_ms: got "x", want a duration such as 30s or a number of milliseconds, 1ms to 10m`,
				`edge.json:2:41: plugins[3].phases[0]: got "x", want request or response`,
				`edge.json:2:56: plugins[3].config: wants the variable MISSING, which is not set or empty`,
				`edge.json:2:109: plugins[5].path: wants the variable NO_PATH, which is not set or empty`,
				`plugins[1].abi (EDGE_PLUGINS_1_ABI): got "x", want auto, http-wasm, proxy-wasm`,
			},
		},
		{
			"what Proxy-Wasm has", `{"plugins":[{"name":"a","path":"a.wasm","pause_timeout_ms":0,"max_callouts":0,"root_id":1,"vm_id":{},"redis_url":"http://redis"},
{"name":"b","path":"b.wasm","vm_config":{"a":"env.MISSING"},"redis_url":"env.MISSING"},{"name":"c","path":"c.wasm","abi":"proxy-wasm"}],"routes":[{"path":"/","plugins":["a","c"]}]}`,
			environment{"EDGE_PLUGINS_2_REDIS_URL": "redis://host/db", "EDGE_PLUGINS_2_MAX_CALLOUTS": "x", "EDGE_PLUGINS_1_ROOT_ID": ""},
			[]string{
				`edge.json:1:60: plugins[0].pause_timeout_ms: got 0s, want 1ms to 10m`,
				`edge.json:1:77: plugins[0].max_callouts: got 0, want 1 to 1000`,
				`edge.json:1:89: plugins[0].root_id: got 1, want a string`,
				`edge.json:1:99: plugins[0].vm_id: got an object, want a string`,
				`edge.json:1:114: plugins[0].redis_url: want redis://[user:password@]host[:port][/db], or rediss:// (the value is not shown)`,
				`edge.json:2:46: plugins[1].vm_config: wants the variable MISSING, which is not set or empty`,
				`edge.json:2:73: plugins[1].redis_url: wants the variable MISSING, which is not set or empty`,
				`plugins[2].max_callouts (EDGE_PLUGINS_2_MAX_CALLOUTS): got "x", want a whole number, 1 to 1000`,
				`plugins[2].redis_url (EDGE_PLUGINS_2_REDIS_URL): want redis://[user:password@]host[:port][/db], or rediss:// (the value is not shown)`,
			},
		},
		{"keys inside config are not shown", `{"plugins":[{"name":"a","path":"a.wasm","config":{"x":{"x":1,"x":2}},"config":{}}]}`, nil, []string{
			`edge.json:1:62: a key that is already at edge.json:1:56`,
			`edge.json:1:70: "config": a key that is already at edge.json:1:41`,
		}},
		{"keys inside vm_config are not shown", `{"plugins":[{"name":"a","path":"a.wasm","vm_config":{"x":{"x":1,"x":2}}}]}`, nil, []string{
			`edge.json:1:65: a key that is already at edge.json:1:59`,
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

func TestLoadPluginSettings(t *testing.T) {
	environ := environment{"TOKEN": "a\"b\n", "INSIDE": "i", "EMPTY": ""}
	f := func(config, want string, faults ...string) {
		t.Helper()
		doc, _, lines := loadText(`{"providers":{"openai":{"plugins":["a"]}},"plugins":[{"name":"a","path":"a.wasm","config":`+config+`}]}`, environ)
		if got := doc.Plugins[0].Config.Reveal(); got != want && len(faults) == 0 || !slices.Equal(lines, faults) {
			t.Errorf("%s: got %q, faults %q, want %q, %q", config, got, lines, want, faults)
		}
	}
	f(`null`, "")
	f(`""`, "")
	f(`"x-a: b\u00e9\n"`, "x-a: bé\n")
	f(`"{\"a\": 1}"`, `{"a": 1}`)
	f(`"env.TOKEN"`, "a\"b\n")
	f(`"env.TOKEN "`, "env.TOKEN ")
	f(`{}`, "{}")
	f(`[ ]`, "[]")
	f(`true`, "true")
	f(`-1.50e+07`, "-1.50e+07")
	f("{ \"b\\u0031\" : [ 1.0 , 12345678901234567890, null,\ttrue ] ,\n \"a\" : { \"t\" : \"env.TOKEN\", \"env.TOKEN\": \"\\u00e9\\/<é>\" , \"\" : \"env.INSIDE\" } }",
		`{"b\u0031":[1.0,12345678901234567890,null,true],"a":{"t":"a\"b\n","env.TOKEN":"\u00e9\/<é>","":"i"}}`)
	f(`"env.MISSING"`, "", `edge.json:1:91: plugins[0].config: wants the variable MISSING, which is not set or empty`)
	f(`{"a":["env.MISSING",{"b":"env.EMPTY"}]}`, "",
		`edge.json:1:97: plugins[0].config: wants the variable MISSING, which is not set or empty`,
		`edge.json:1:116: plugins[0].config: wants the variable EMPTY, which is not set or empty`)

	for _, text := range []string{`{"a": "env.TOKEN"}`, "env.TOKEN", " a,b\n", "${X}"} {
		doc, _, lines := loadText("", environment{"EDGE_PLUGINS_0_NAME": "a", "EDGE_PLUGINS_0_PATH": "a.wasm", "EDGE_PLUGINS_0_CONFIG": text})
		if got := doc.Plugins[0].Config.Reveal(); got != text || len(lines) > 0 {
			t.Errorf("%q: got %q, faults %q", text, got, lines)
		}
	}
}

// TestLoadVMConfig shows that vm_config has the forms of config.
func TestLoadVMConfig(t *testing.T) {
	for config, want := range map[string]string{`null`: "", `"a\n"`: "a\n", `"env.TOKEN"`: "x", `{ "a" : [ 1.0, "env.TOKEN" ] }`: `{"a":[1.0,"x"]}`, `false`: "false"} {
		doc, prov, lines := loadText(`{"providers":{"openai":{"plugins":["a"]}},"plugins":[{"name":"a","path":"a.wasm","vm_config":`+config+`}]}`, environment{"TOKEN": "x"})
		if got := doc.Plugins[0].VMConfig.Reveal(); got != want || len(lines) > 0 {
			t.Errorf("%s: got %q, faults %q, want %q", config, got, lines, want)
		}
		if shown := string(effectiveJSON(doc, prov)); want != "" && !strings.Contains(shown, `"vm_config": {"value": "***"`) {
			t.Errorf("%s is shown as\n%s", config, shown)
		}
	}
}

// FuzzPluginSettings compares what a plugin is configured with to what encoding/json makes of the same value.
func FuzzPluginSettings(f *testing.F) {
	for _, seed := range []string{`null`, `"a\n"`, ` [ 1e5 , -0.10 ] `, `{ "a" : [ true , "b c\u00e9\ud83d" , {} ] , "" : null }`, `"\ud800"`, `[]]`, `1 2`, `{"a":1,"a":2}`, `["\u0065nv.X"]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		doc, _, lines := loadText(`{"plugins":[{"name":"a","path":"a.wasm","config":`+string(value)+`}]}`, nil)
		if len(lines) > 0 || !json.Valid(value) {
			return
		}
		var want bytes.Buffer
		var text string
		if json.Unmarshal(value, &text) == nil { // null too
			want.WriteString(text)
		} else if err := json.Compact(&want, value); err != nil {
			t.Fatal(err)
		}
		if got := doc.Plugins[0].Config.Reveal(); got != want.String() {
			t.Errorf("%s: got %q, want %q", value, got, want.String())
		}
	})
}

func TestBifrostPluginsTakeNoPlace(t *testing.T) {
	doc, prov, lines := loadText(`{"plugins":[{"name":"otel","enabled":true,"path":"otel.wasm"},{"name":"a","path":"a.wasm","phases":["request","response"]},{"name":"mine","path":"mine.so"},{"name":"b","path":"b.wasm"},{"name":"c"}]}`,
		environment{"EDGE_PLUGINS_1_TIMEOUT": "7"})
	equal(t, "faults", lines, []string(nil))
	a, b := proxy.DefaultPlugin(), proxy.DefaultPlugin()
	a.Name, a.Path, b.Name, b.Path, b.Timeout = "a", "a.wasm", "b", "b.wasm", 7*time.Millisecond
	equal(t, "plugins", doc.Plugins, []proxy.Plugin{a, b})
	equal(t, "warnings", prov.warnings, []string{
		"ignored, since they are Bifrost's and not Edge's: plugins[0], plugins[2], plugins[4]",
		"plugins that no provider and no route names, so that they see no requests: a, b",
	})
	equal(t, "source", prov.of("plugins[1].path").String(), "edge.json:1:176")
}

func TestModulesAreRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name, data string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	absolute := write("far/c.wasm", "module c")
	write("conf/wasm/a.wasm", "module a")
	write("work/a.wasm", "another a")
	write("work/b.wasm", "module b")
	config := write("conf/edge.json", `{"providers":{"openai":{"plugins":["a","again","c","named"]}},"plugins":[{"name":"a","path":"wasm/a.wasm"},{"name":"again","path":"./wasm/a.wasm"},
{"name":"c","path":"`+absolute+`"},{"name":"named","path":"env.NAMED"}]}`)
	t.Chdir(filepath.Join(dir, "work"))
	f := func(want []string, environ ...string) document {
		t.Helper()
		doc, _, faults := configure(flags{}, environ)
		printFaults(testWriter{t}, faults)
		var got []string
		for _, p := range doc.Plugins {
			got = append(got, string(p.Module))
		}
		equal(t, "modules", got, want)
		return doc
	}
	doc := f([]string{"module a", "module a", "module c", "module b"}, "EDGE_CONFIG=../conf/edge.json", "NAMED=b.wasm")
	if &doc.Plugins[0].Module[0] != &doc.Plugins[1].Module[0] {
		t.Error("a file that two plugins name is read twice")
	}
	equal(t, "path", doc.Plugins[0].Path, "wasm/a.wasm")
	f([]string{"another a", "module a", "module c", "module b"}, "EDGE_CONFIG="+config, "NAMED=b.wasm", "EDGE_PLUGINS_0_PATH=a.wasm")
	f([]string{"another a"}, "EDGE_CONFIG="+config, `EDGE_CONFIG_JSON={"providers":{"openai":{"plugins":null}},"plugins":[{"name":"a","path":"a.wasm"}],"provider_defaults":{}}`, "NAMED=b.wasm",
		"EDGE_PROVIDERS_OPENAI_PLUGINS=a")

	write("conf/empty.wasm", "")
	big := write("conf/big.wasm", "")
	if err := os.Truncate(big, maxModuleBytes+1); err != nil {
		t.Fatal(err)
	}
	config = write("conf/edge.json", `{"providers":{"openai":{}},"plugins":[{"name":"otel","enabled":true},
{"name":"a","path":"none.wasm"},{"name":"b","path":"none.wasm"},{"name":"c","path":"empty.wasm"},{"name":"d","path":"big.wasm"},
{"name":"e","path":"."},{"name":"f","path":"/etc/.wasm"},{"name":"g","path":"env.NAMED"},{"name":"h","path":"https://host/h.wasm"}]}`)
	code, _, errs := call([]string{"EDGE_CONFIG=" + config, "NAMED=secret.wasm", "EDGE_PLUGINS_7_PATH=x.wasm"}, "validate")
	_, errs, _ = strings.Cut(errs, "see no requests: a, b, c, d, f, g, h\n")
	at := func(name string) string { return `"` + filepath.Join(dir, "conf", name) + `": ` }
	want := strings.Join([]string{
		config + `:2:20: plugins[1].path: want a readable .wasm file: ` + at("none.wasm") + `no such file or directory`,
		config + `:2:52: plugins[2].path: want a readable .wasm file: ` + at("none.wasm") + `no such file or directory`,
		config + `:2:84: plugins[3].path: want a readable .wasm file: ` + at("empty.wasm") + `the file is empty`,
		config + `:2:117: plugins[4].path: want a readable .wasm file: ` + at("big.wasm") + `larger than 256MiB`,
		config + `:3:44: plugins[6].path: want a readable .wasm file: "/etc/.wasm": no such file or directory`,
		config + `:3:77: plugins[7].path: want a readable .wasm file: no such file or directory (the value of NAMED is not shown)`,
		config + `:3:109: plugins[8].path: a URL is not in this version of Edge; want a file (the value is not shown)`,
		`plugins[7].name (EDGE_PLUGINS_7_PATH): got "", want a name of lower-case letters, digits, '-', '_' and '.', at most 64`,
		`plugins[7].path (EDGE_PLUGINS_7_PATH): want a readable .wasm file: "x.wasm": no such file or directory`,
		"",
	}, "\n")
	if code != exitFailed || errs != want {
		t.Errorf("got %d and\n%s\nwant\n%s", code, errs, want)
	}
}

// What the proxy says of plugins when it compiles them has the place of the configuration that it is about.
func TestFaultsOfTheProxyAreLocated(t *testing.T) {
	_, prov, lines := loadText(`{"plugins":[{"name":"x","enabled":true},{"name":"a","path":"a.wasm"},{"name":"b","path":"env.B"}]}`, environment{"B": "b.wasm", "EDGE_PLUGINS_2_PATH": "c.wasm", "EDGE_PLUGINS_2_NAME": "c"})
	equal(t, "faults", lines, []string(nil))
	var out bytes.Buffer
	printFaults(&out, prov.locate([]proxy.Fault{
		{Path: "plugins[0].path", Want: "a component"}, {Path: "plugins[1].path", Got: `"b.wasm"`, Want: "a module"}, {Path: "plugins[2].path", Want: "no module"}, {Path: "plugins[0].sha256", Got: `"x"`, Want: "y"},
	}))
	equal(t, "lines", out.String(), `edge.json:1:60: plugins[1].path: a component
edge.json:1:89: plugins[2].path: want a module (the value of B is not shown)
plugins[2].path (EDGE_PLUGINS_2_PATH): no module
edge.json:1:41: plugins[1].sha256: got "x", want y
`)
}

func TestDemoHasTheExamples(t *testing.T) {
	modules := map[string]string{"stamp-header": "stamps", "redact-json": "redacts"}
	f := func(file string, environ environment, want []proxy.Plugin, names []string, source string) {
		t.Helper()
		src := sources{environ: environ, flags: flags{demo: true}, example: func(name string) ([]byte, bool) {
			module, ok := modules[name]
			return []byte(module), ok
		}}
		if file != "" {
			src.file = &text{rank: fromFile, name: "edge.json", data: []byte(file)}
		}
		doc, prov, lines := loadLines(src)
		equal(t, "faults", lines, []string(nil))
		equal(t, "warnings", prov.warnings, []string{})
		equal(t, "plugins", doc.Plugins, want)
		equal(t, "the demo provider's", doc.Providers["demo"].Plugins, names)
		equal(t, "their source", prov.of("providers.demo.plugins").String(), source)
		for i := range doc.Plugins {
			equal(t, "the source of a module's name", strings.Contains(prov.of("plugins["+string('0'+rune(i))+"].name").String(), "flag -demo"), doc.Plugins[i].Module != nil)
		}
	}
	stamp, redact, own := proxy.DefaultPlugin(), proxy.DefaultPlugin(), proxy.DefaultPlugin()
	stamp.Name, stamp.Config, stamp.Module = "stamp-header", "x-edge-demo: stamped", []byte("stamps")
	redact.Name, redact.Phases, redact.Module = "redact-json", []string{"request"}, []byte("redacts")
	own.Name, own.Path = "redact-json", "own.wasm"
	both := []string{"stamp-header", "redact-json"}
	f("", nil, []proxy.Plugin{stamp, redact}, both, "flag -demo")
	f(`{"plugins":[{"name":"redact-json","path":"own.wasm"}]}`, nil, []proxy.Plugin{own, stamp}, both, "flag -demo")
	f(`{"providers":{"demo":{"plugins":[]}}}`, nil, nil, []string{}, "edge.json:1:33")
	f(`{"plugins":[{"name":"redact-json","path":"own.wasm"}]}`, environment{"EDGE_PROVIDER_DEFAULTS_PLUGINS": "redact-json"}, []proxy.Plugin{own}, []string{"redact-json"}, "env EDGE_PROVIDER_DEFAULTS_PLUGINS")
	f("", environment{"EDGE_PROVIDERS_DEMO_BASE_URL": "http://elsewhere"}, nil, nil, "env EDGE_PROVIDERS_DEMO_BASE_URL")
	delete(modules, "redact-json")
	f("", nil, nil, nil, "flag -demo")
}
