package main

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// call does a command as the process would.
func call(environ []string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = dispatch(invocation{args, environ, &out, &errs})
	return code, out.String(), errs.String()
}

func TestDispatch(t *testing.T) {
	f := func(code int, stdout, stderr string, args ...string) {
		t.Helper()
		gotCode, out, errs := call(nil, args...)
		if gotCode != code || !strings.HasPrefix(out, stdout) || !strings.HasPrefix(errs, stderr) || stdout == "" && out != "" || stderr == "" && errs != "" {
			t.Errorf("%q: got %d\nstdout %q\nstderr %q\nwant %d, %q, %q", args, gotCode, out, errs, code, stdout, stderr)
		}
	}
	f(exitOK, "usage: edge [command]", "", "-h")
	f(exitOK, "usage: edge [command]", "", "help")
	f(exitUsage, "", "edge: unknown command \"serve\"\n\nusage: edge [command]", "serve")
	f(exitUsage, "", "edge validate: flag provided but not defined: -nope\nusage: edge validate", "validate", "-nope")
	f(exitUsage, "", "edge config: unexpected argument \"more\"\n", "config", "-demo", "more")
	f(exitOK, "usage: edge healthcheck [flags]\n", "", "healthcheck", "-h")
	f(exitUsage, "", "edge version: unexpected argument", "version", "x")
	f(exitOK, "edge ", "", "version")
	f(exitFailed, "", "no provider is configured. Four ways to begin:", "validate")
	f(exitOK, "valid: 1 provider (demo), 0 routes, ", "", "validate", "-demo")
	f(exitFailed, "", "listen (-listen): got \"\", want host:port", "validate", "-demo", "-listen", "")
	f(exitFailed, "", "-config: want a readable JSON file: \"/does/not/exist.json\": no such file or directory\n", "validate", "-config", "/does/not/exist.json")
}

func TestValidateReadsFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, data string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := write("edge.json", `{"providers":{"openai":{}}, "mcp": {}}`)
	key, admin, tokens := write("key", "sk-1\n"), write("admin", "adm\r\n"), write("tokens", "a,b")
	environ := []string{"EDGE_CONFIG=" + config, "EDGE_PROVIDERS_OPENAI_API_KEY_FILE=" + key, "EDGE_ADMIN_TOKEN_FILE=" + admin, "EDGE_AUTH_TOKENS_FILE=" + tokens}
	code, out, errs := call(environ, "validate")
	if code != exitOK || out != "valid: 1 provider (openai), 0 routes, 0 plugins, 1 warning\n" || !strings.HasPrefix(errs, "warning: ignored") {
		t.Errorf("got %d, %q, %q", code, out, errs)
	}
	doc, prov, _ := configure(flags{}, environ)
	if got := doc.Providers["openai"].Keys[0].Value.Reveal() + doc.Admin.Token.Reveal() + doc.Auth.Tokens[1].Value.Reveal(); got != "sk-1admb" {
		t.Errorf("got %q from the files", got)
	}
	if got := prov.of("admin.token").String(); got != "env EDGE_ADMIN_TOKEN_FILE" {
		t.Errorf("source of the token: got %s", got)
	}

	f := func(want []string, environ ...string) {
		t.Helper()
		code, _, errs := call(append(environ, "EDGE_CONFIG="+config), "validate")
		if got := strings.Split(strings.TrimSpace(errs), "\n")[1:]; code != exitFailed || !slices.Equal(got, want) {
			t.Errorf("got %d and\n%s\nwant\n%s", code, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	f([]string{"EDGE_ADMIN_TOKEN_FILE: want a readable file: \"/none/here\": no such file or directory"}, "EDGE_ADMIN_TOKEN_FILE=/none/here", "EDGE_ADMIN_LISTEN=:9")
	f([]string{"EDGE_ADMIN_TOKEN_FILE: want a readable file: no such file or directory"}, "EDGE_ADMIN_TOKEN_FILE=sk-pasted")
	f([]string{"admin.token (EDGE_ADMIN_TOKEN_FILE): the file is empty"}, "EDGE_ADMIN_TOKEN_FILE="+write("empty", "\n"))
	big := write("big", strings.Repeat("x", maxSecretBytes+1))
	f([]string{"EDGE_AUTH_TOKENS_FILE: want a readable file: " + quoted(big) + ": larger than 64KiB"}, "EDGE_AUTH_TOKENS_FILE="+big)
	f([]string{`tls (EDGE_TLS_CERT_FILE): want a certificate and its key: "/no/cert": no such file or directory`}, "EDGE_TLS_CERT_FILE=/no/cert", "EDGE_TLS_KEY_FILE=/no/key")
}

func TestSamplesAgree(t *testing.T) {
	const dir = "../../configs/"
	data, err := os.ReadFile(dir + "edge.env")
	if err != nil {
		t.Fatal(err)
	}
	var environ []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			environ = append(environ, line)
		}
	}
	named := []string{"EDGE_ADMIN_TOKEN=change-me-admin", "EDGE_CLIENT_TOKEN=change-me-client", "OPENAI_API_KEY=change-me-openai"}
	fromJSON, _, faults := configure(flags{config: dir + "edge.json"}, named)
	printFaults(testWriter{t}, faults)
	fromEnv, _, faults := configure(flags{}, environ)
	printFaults(testWriter{t}, faults)
	equal(t, "edge.env", string(effectiveJSON(fromEnv, provenance{})), string(effectiveJSON(fromJSON, provenance{})))
	equal(t, "the keys of edge.env", fromEnv.Providers["openai"].Keys[0].Value, fromJSON.Providers["openai"].Keys[0].Value)
}

// testWriter fails the test with what is written.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Errorf("%s", b)
	return len(b), nil
}

func TestConfigShowsValuesAndSources(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"a.wasm", "b.wasm"} {
		if err := os.WriteFile(name, []byte("a module"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, out, errs := call([]string{
		"OPENAI_API_KEY=sk-secret-1", "EDGE_AUTH_TOKENS=sk-secret-2,sk-secret-3", "EDGE_PROVIDERS_OPENAI_EXTRA_HEADERS=X-Key:sk-secret-4",
		"EDGE_QUEUE_TIMEOUT=1500ms", "EDGE_MAX_HEADER=512KiB", "EDGE_PROVIDERS_OPENAI_PLUGINS=a",
		"EDGE_PLUGINS_0_CONFIG=sk-secret-5", "EDGE_PLUGINS_1_PATH=b.wasm",
		`EDGE_CONFIG_JSON={"plugins":[{"enabled":true},{"name":"a","path":"a.wasm","timeout_ms":"1.5s"},{"name":"b","path":"x.wasm","config":{"key":"env.OPENAI_API_KEY"}}]}`,
	}, "config", "-listen", ":7")
	if strings.Contains(out+errs, "sk-secret") {
		t.Errorf("a secret is shown:\n%s%s", out, errs)
	}
	// openai is configured by a variable only, so its usual variable is taken too.
	var tree map[string]any
	if err := json.Unmarshal([]byte(out), &tree); code != exitOK || err != nil {
		t.Fatalf("got %d, %v, %s", code, err, errs)
	}
	f := func(path string, value any, source string) {
		t.Helper()
		var at any = tree
		for key := range strings.SplitSeq(path, "/") {
			if list, ok := at.([]any); ok {
				at = list[key[0]-'0']
			} else {
				at = at.(map[string]any)[key]
			}
		}
		leaf, _ := at.(map[string]any)
		equal(t, path, leaf["value"], value)
		equal(t, "source of "+path, leaf["source"], source)
	}
	f("listen", ":7", "flag -listen")
	f("admin/listen", "127.0.0.1:9090", "default")
	f("client/queue_timeout_in_seconds", 1.5, "env EDGE_QUEUE_TIMEOUT")
	f("client/max_header_kb", 512.0, "env EDGE_MAX_HEADER")
	f("client/initial_pool_size", 1000.0, "profile balanced")
	f("auth/tokens/1/value", "***", "env EDGE_AUTH_TOKENS")
	f("auth/tokens/1/concurrency", 0.0, "default")
	f("providers/openai/keys/0/value", "***", "env OPENAI_API_KEY")
	f("providers/openai/keys/0/weight", 1.0, "default")
	f("providers/openai/network_config/base_url", "https://api.openai.com", "default")
	f("providers/openai/network_config/extra_headers/X-Key", "***", "env EDGE_PROVIDERS_OPENAI_EXTRA_HEADERS")
	f("providers/openai/scaling/mode", "static", "default")
	f("providers/openai/plugins", []any{"a"}, "env EDGE_PROVIDERS_OPENAI_PLUGINS")
	f("plugins/0/path", "a.wasm", "EDGE_CONFIG_JSON:1:49")
	f("plugins/0/config", "***", "env EDGE_PLUGINS_0_CONFIG")
	f("plugins/0/timeout_ms", 1500.0, "EDGE_CONFIG_JSON:1:71")
	f("plugins/0/memory_limit_mb", 64.0, "default")
	f("plugins/0/phases", []any{"request", "response"}, "default")
	f("plugins/1/path", "b.wasm", "env EDGE_PLUGINS_1_PATH")
	f("plugins/1/config", "***", "EDGE_CONFIG_JSON:1:116")
	f("plugins/1/sha256", "", "default")
	if cost := tree["arena"].(map[string]any)["cost_mib"].(float64); cost < 20 || cost > 30 {
		t.Errorf("the arena of 1000 costs %v MiB", cost)
	}
}

func TestHealthcheck(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(status)
	}))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	f := func(code int, stderr string, environ ...string) {
		t.Helper()
		gotCode, out, errs := call(environ, "healthcheck")
		if gotCode != code || out != "" || !strings.Contains(errs, stderr) || stderr == "" && errs != "" {
			t.Errorf("%q: got %d, %q, %q, want %d, %q", environ, gotCode, out, errs, code, stderr)
		}
	}
	f(exitOK, "", "EDGE_ADMIN_LISTEN=127.0.0.1:"+port)
	f(exitOK, "", "EDGE_ADMIN_LISTEN=:"+port)
	f(exitOK, "", "EDGE_ADMIN_LISTEN=0.0.0.0:"+port, "EDGE_MISSPELT=1")
	status = http.StatusServiceUnavailable
	f(exitFailed, "not ready: 503", "EDGE_ADMIN_LISTEN=127.0.0.1:"+port)
	f(exitFailed, "edge healthcheck: address nowhere: missing port in address\n", "EDGE_ADMIN_LISTEN=nowhere")
	server.Close()
	f(exitFailed, "connection refused", "EDGE_ADMIN_LISTEN=127.0.0.1:"+port)
}

func TestVersionOfBuild(t *testing.T) {
	info := &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}}}
	equal(t, "version", edgeVersion(info), "v1.2.3")
	equal(t, "commit", commitOf(info), "abc-dirty")
	equal(t, "version of no build", edgeVersion(&debug.BuildInfo{}), "(devel)")
	equal(t, "commit of no build", commitOf(&debug.BuildInfo{}), "")
}
