package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/plugins/proxywasm"
)

// faultsOf returns what is wrong with a configuration as New sees it, one fault a line.
func faultsOf(c Config) string {
	_, err := complete(c)
	var lines []string
	if wrong, ok := errors.AsType[*ConfigError](err); ok {
		for _, f := range wrong.Faults {
			lines = append(lines, f.String())
		}
	}
	return strings.Join(lines, "\n")
}

func TestPluginFaults(t *testing.T) {
	f := func(c Config, want ...string) {
		t.Helper()
		if got := faultsOf(c); got != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
		}
	}
	module := []byte("\x00asm")
	redact := Plugin{Name: "redact", Module: module}
	openai := func(plugins ...string) map[string]Provider { return map[string]Provider{"openai": {Plugins: plugins}} }

	f(Config{})
	f(Config{Plugins: []Plugin{redact, {Name: "other", Path: "other.wasm"}}, Providers: openai("redact", "other")})
	f(Config{Plugins: []Plugin{{Name: "v1", Path: "https://of/the/module", Module: module, SHA256: strings.Repeat("aF", 32)}}})
	f(Config{Plugins: []Plugin{{}, {}}},
		`plugins[0].name: got "", want a name of lower-case letters, digits, '-', '_' and '.', at most 64`,
		`plugins[0].path: got "", want a .wasm file`,
		`plugins[1].name: got "", want a name of lower-case letters, digits, '-', '_' and '.', at most 64`,
		`plugins[1].path: got "", want a .wasm file`)
	long := strings.Repeat("x", 65)
	f(Config{Plugins: []Plugin{redact, {Name: "Redact", Module: module}, {Name: long, Module: module}, redact}},
		`plugins[1].name: got "Redact", want a name of lower-case letters, digits, '-', '_' and '.', at most 64`,
		`plugins[2].name: got "`+long+`", want a name of lower-case letters, digits, '-', '_' and '.', at most 64`,
		`plugins[3].name: got "redact", want a name that no plugin before it has`)
	f(Config{Plugins: []Plugin{{Name: "a", Path: "https://u:secret@host/a.wasm"}, {Name: "b", Path: "oci://host/b"}}},
		`plugins[0].path: a URL is not in this version of Edge; want a file (the value is not shown)`,
		`plugins[1].path: a URL is not in this version of Edge; want a file (the value is not shown)`)
	f(Config{Plugins: []Plugin{{Name: "a", Module: module, SHA256: "abc"}, {Name: "b", Module: module, SHA256: strings.Repeat("g", 64)}}},
		`plugins[0].sha256: got "abc", want 64 hexadecimal digits`,
		`plugins[1].sha256: got "`+strings.Repeat("g", 64)+`", want 64 hexadecimal digits`)
	f(Config{Plugins: []Plugin{{Name: "a", Module: module, Phases: []string{}}, {Name: "b", Module: module, Phases: []string{"request", "Response", "request"}}}},
		`plugins[0].phases: got none, want request, response or both`,
		`plugins[1].phases[1]: got "Response", want request or response`,
		`plugins[1].phases[2]: got "request", want each phase once`)
	f(Config{Plugins: []Plugin{{Name: "a", Module: module, ABI: "wasi", MemoryLimit: 1, Timeout: -1, Deadline: "x", OnError: "x", MaxInstances: -1, MaxBody: -1, LogLinesPerSecond: -1, PauseTimeout: -1, MaxCallouts: 1001, RedisURL: "redis://zq7@host"}}},
		`plugins[0].abi: got "wasi", want auto, http-wasm, proxy-wasm`,
		`plugins[0].memory_limit_mb: got 1, want 64KiB to 4GiB`,
		`plugins[0].timeout_ms: got -1ns, want 1ms to 10m`,
		`plugins[0].deadline: got "x", want rewrite, context, none`,
		`plugins[0].on_error: got "x", want fail, skip`,
		`plugins[0].max_instances: got -1, want 0 to 65536`,
		`plugins[0].max_body_mb: got -1, want 1 to 1TiB`,
		`plugins[0].pause_timeout_ms: got -1ns, want 1ms to 10m`,
		`plugins[0].max_callouts: got 1001, want 1 to 1000`,
		`plugins[0].log_lines_per_second: got -1, want 1 to 1000000`,
		`plugins[0].redis_url: want redis://[user:password@]host[:port][/db], or rediss:// (the value is not shown)`)
	f(Config{Plugins: []Plugin{redact}, Providers: openai("redcat", "redact", "redact")},
		`providers.openai.plugins[0]: got "redcat", want a configured plugin (did you mean redact?)`,
		`providers.openai.plugins[2]: got "redact", want each plugin once`)
	f(Config{Providers: openai("", "x")},
		`providers.openai.plugins[0]: got "", want a configured plugin`,
		`providers.openai.plugins[1]: got "x", want a configured plugin`)
}

// filterModule has nothing but the marker of Proxy-Wasm 0.2.1.
var filterModule = []byte("\x00asm\x01\x00\x00\x00" + "\x01\x04\x01\x60\x00\x00" + "\x03\x02\x01\x00" +
	"\x07\x1b\x01\x17proxy_abi_version_0_2_1\x00\x00" + "\x0a\x04\x01\x02\x00\x0b")

func TestRoutePluginFaults(t *testing.T) {
	f := func(p Plugin, routes []Route, want ...string) {
		t.Helper()
		p.Name, p.Path = "redact", "redact.wasm"
		c := Config{Plugins: []Plugin{p}, Providers: map[string]Provider{"openai": {Plugins: []string{"redact"}}}, Routes: routes}
		if got := faultsOf(c); got != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
		}
	}
	// The ABI may be known only when the module is.
	httpWasm, filter := Plugin{ABI: "http-wasm"}, Plugin{ABI: "proxy-wasm"}
	both := []Route{{Path: "/x", Provider: "openai"}, {Path: "/a", Plugins: []string{"redact"}}, {Path: "/b", Provider: "openai", Plugins: []string{"redact"}}}
	demand := `plugins[0].max_instances: got 0, want at least 1, since routes[1] names the plugin and its phases hold response`
	f(httpWasm, nil)
	f(httpWasm, both, demand)
	f(Plugin{Module: SmallGuest()}, both, demand)
	f(Plugin{ABI: "http-wasm", Phases: []string{phaseResponse}}, both, demand)
	f(Plugin{}, both)
	f(Plugin{Module: []byte("not a module")}, both)
	f(Plugin{Module: filterModule}, both)
	f(filter, both)
	f(Plugin{ABI: "http-wasm", MaxInstances: 1}, both)
	f(Plugin{ABI: "http-wasm", Phases: []string{phaseRequest}}, both)
	f(Plugin{}, []Route{{Path: "/a"}, {Path: "/b", Plugins: []string{}}, {Path: "/c", Plugins: []string{"redacted"}}},
		`routes[0].provider: got "", want a configured provider, since the route has no plugins`,
		`routes[1].provider: got "", want a configured provider, since the route has no plugins`,
		`routes[2].plugins[0]: got "redacted", want a configured plugin (did you mean redact?)`)
}

// TestPluginThatChangedIsLoadedAnew changes one setting after the other; a new one must be in sameGuest, or here.
func TestPluginThatChangedIsLoadedAnew(t *testing.T) {
	before := reflect.ValueOf(DefaultPlugin())
	for i := range before.NumField() {
		c := DefaultPlugin()
		name, v := before.Type().Field(i).Name, reflect.ValueOf(&c).Elem().Field(i)
		switch v.Kind() {
		case reflect.String:
			v.SetString("changed")
		case reflect.Int, reflect.Int64:
			v.SetInt(v.Int() + 1)
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		}
		guest, filter := &loadedPlugin{config: DefaultPlugin()}, &loadedPlugin{config: DefaultPlugin(), filter: new(proxywasm.Plugin)}
		same := name == "Name" || name == "Path" // the one finds it, the other was read into Module
		if got := filter.sameGuest(c); got != same {
			t.Errorf("Proxy-Wasm, %s: got %v, want %v", name, got, same)
		}
		switch name {
		case "MaxInstances", "PauseTimeout", "MaxCallouts", "RootID", "VMID", "VMConfig", "RedisURL":
			same = true
		}
		if got := guest.sameGuest(c); got != same {
			t.Errorf("http-wasm, %s: got %v, want %v", name, got, same)
		}
	}
}

func TestPluginsAreCompleted(t *testing.T) {
	given := []Plugin{{Name: "a", Module: []byte("\x00asm"), MaxInstances: 3}, {Name: "b", Path: "b.wasm", Phases: []string{phaseRequest}, OnError: onErrorSkip}}
	c, err := complete(Config{Plugins: given})
	if err != nil {
		t.Fatal(err)
	}
	a, b := DefaultPlugin(), DefaultPlugin()
	a.Name, a.Module, a.MaxInstances = "a", given[0].Module, 3
	b.Name, b.Path, b.Phases, b.OnError = "b", "b.wasm", []string{phaseRequest}, onErrorSkip
	if want := []Plugin{a, b}; !reflect.DeepEqual(c.Plugins, want) {
		t.Errorf("got %+v, want %+v", c.Plugins, want)
	}
	if given[0].ABI != "" || given[0].Phases != nil {
		t.Errorf("the caller's own plugin became %+v", given[0])
	}
}

func TestSettingsAreNeverShown(t *testing.T) {
	p := Plugin{Name: "a", Config: "zq7#secret"}
	encoded, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	const key = "config"
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", key, p.Config, key, p)
	said := fmt.Sprintf("%v %+v %#v %s %q", p, p, p, p.Config, p.Config) + string(encoded) + log.String()
	if strings.Contains(said, "zq7") || strings.Count(said, "***") < 7 {
		t.Errorf("got %s", said)
	}
	if Settings("").String() != "" || p.Config.Reveal() != "zq7#secret" {
		t.Errorf("got %q and %q", Settings(""), p.Config.Reveal())
	}
}
