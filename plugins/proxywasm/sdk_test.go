package proxywasm

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/plugins"
)

// sdkGuest is a folder in testdata: the same guest, with one SDK or none.
type sdkGuest struct {
	name, abi string
	build     func(t *testing.T, dir, out string)
	noBodies  bool // the SDK cannot change them
}

var sdkGuests = []sdkGuest{
	{name: "c", abi: "0.2.1", build: buildC},
	{name: "go", abi: "0.2.0", build: buildGo},
	{name: "higress", abi: "0.2.100", build: buildGo},
	{name: "assemblyscript", abi: "0.2.0", build: buildAssemblyScript, noBodies: true},
	{name: "rust", abi: "0.2.1", build: buildRust},
}

// TestSDKs drives guests that are built with the SDKs that plugins' authors use. A test without its toolchain is skipped, or
// fails where everything must be there.
func TestSDKs(t *testing.T) {
	for _, guest := range sdkGuests {
		t.Run(guest.name, func(t *testing.T) {
			wasm := built{buildGuest(t, guest), t.TempDir()}
			t.Run("refuses", func(t *testing.T) { sdkRefuses(t, wasm) })
			t.Run("exchange", func(t *testing.T) { sdkExchange(t, guest, wasm) })
			t.Run("deny", func(t *testing.T) { sdkDeny(t, wasm) })
			t.Run("call", func(t *testing.T) { sdkCall(t, wasm) })
			t.Run("trap", func(t *testing.T) { sdkTrap(t, wasm) })
			t.Run("interleaved", func(t *testing.T) { sdkInterleaved(t, guest, wasm) })
		})
	}
}

// built is a guest, and a folder for what is compiled of it.
type built struct {
	module []byte
	cache  string
}

// missing ends a test for which something is not here.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("EDGE_TEST_REQUIRE") == "all" {
		t.Fatalf(format+", and EDGE_TEST_REQUIRE is all", args...)
	}
	t.Skipf(format, args...)
}

func require(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		missing(t, "%s is not here", program)
	}
}

// run runs a program in dir; env is added to its environment.
func run(t *testing.T, dir string, env []string, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return out, err
}

func buildGuest(t *testing.T, guest sdkGuest) []byte {
	t.Helper()
	dir := filepath.Join(t.TempDir(), guest.name)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", guest.name))); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "guest.wasm")
	_ = os.Remove(out)
	guest.build(t, dir, out)
	wasm, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

func buildC(t *testing.T, dir, out string) {
	require(t, "clang")
	require(t, "wasm-ld")
	if text, err := run(t, dir, nil, "clang", "--target=wasm32", "-nostdlib", "-fno-builtin", "-O2", "-Wl,--no-entry", "-o", out, "guest.c"); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

func buildGo(t *testing.T, dir, out string) {
	if text, err := run(t, dir, []string{"GOFLAGS=", "GOWORK=off"}, "go", "mod", "download"); err != nil {
		missing(t, "the module of the SDK is not here: %v: %s", err, text)
	}
	env := []string{"GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "GOWORK=off"}
	if text, err := run(t, dir, env, "go", "build", "-buildmode=c-shared", "-o", out, "."); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

func buildAssemblyScript(t *testing.T, dir, _ string) {
	require(t, "node")
	require(t, "npm")
	if text, err := run(t, dir, nil, "npm", "ci", "--no-audit", "--no-fund"); err != nil {
		missing(t, "the packages of the SDK are not here: %v: %s", err, text)
	}
	if text, err := run(t, dir, nil, "npm", "run", "build"); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

// buildRust takes the compiler of the path or Debian's, whichever has a standard library for WebAssembly.
func buildRust(t *testing.T, dir, out string) {
	require(t, "cargo")
	for _, rustc := range []string{"rustc", "/usr/bin/rustc"} {
		for _, target := range []string{"wasm32-wasip1", "wasm32-wasi"} {
			lib, err := run(t, dir, nil, rustc, "--print", "target-libdir", "--target", target)
			if err != nil {
				continue
			}
			if _, err := os.Stat(strings.TrimSpace(string(lib))); err != nil {
				continue
			}
			rust(t, dir, out, rustc, target)
			return
		}
	}
	missing(t, "no Rust compiler here has a standard library for WebAssembly")
}

// rust fetches with the cargo of the path, and builds with that of the compiler, which may be too old to fetch.
func rust(t *testing.T, dir, out, rustc, target string) {
	if text, err := run(t, dir, nil, "cargo", "vendor"); err != nil {
		missing(t, "the crates of the SDK are not here: %v: %s", err, text)
	}
	_ = os.Remove(filepath.Join(dir, "Cargo.lock")) // of a form that the other may not know
	config := "[source.crates-io]\nreplace-with = \"vendored\"\n[source.vendored]\ndirectory = \"vendor\"\n"
	if err := errors.Join(os.Mkdir(filepath.Join(dir, ".cargo"), 0o755),
		os.WriteFile(filepath.Join(dir, ".cargo", "config.toml"), []byte(config), 0o600)); err != nil {
		t.Fatal(err)
	}
	cargo := "cargo"
	if filepath.IsAbs(rustc) {
		cargo = filepath.Join(filepath.Dir(rustc), "cargo")
	}
	env := []string{"RUSTC=" + rustc, "CARGO_HOME=" + filepath.Join(dir, "home"), "CARGO_TARGET_DIR=" + filepath.Join(dir, "target")}
	if text, err := run(t, dir, env, cargo, "build", "--offline", "--release", "--target", target); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if err := os.Rename(filepath.Join(dir, "target", target, "release", "guest.wasm"), out); err != nil {
		t.Fatal(err)
	}
}

func loadSDK(t *testing.T, wasm built, out *logs, o Options) *Plugin {
	t.Helper()
	o.RootID = "edge"
	p, err := tryOn(t, newHost(t, wasm.cache), wasm.module, plugins.Config{Settings: []byte("hello"), Logger: out.logger(), Timeout: 5 * time.Second}, o)
	if err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	return p
}

func sdkRefuses(t *testing.T, wasm built) {
	var out logs
	_, err := tryOn(t, newHost(t, wasm.cache), wasm.module, plugins.Config{Logger: out.logger()}, Options{RootID: "edge"})
	if !errors.Is(err, errRefused) {
		t.Errorf("without config: %v", err)
	}
	mustContain(t, out.String(), "no config")
}

func sdkExchange(t *testing.T, guest sdkGuest, wasm built) {
	var out logs
	p := loadSDK(t, wasm, &out, Options{})
	if p.ABI() != guest.abi {
		t.Errorf("abi %s, want %s", p.ABI(), guest.abi)
	}
	x := newExchange()
	s := open(t, p, x)
	v, err := s.RequestHeaders(false)
	wantVerdict(t, Continue, v, err)
	mustContain(t, x.lists[RequestHeaders].String(), "X-Count: 7", "X-Greeting: hello")
	if !guest.noBodies {
		_, v, err = s.RequestBody([]byte("some "), false)
		wantVerdict(t, Paused, v, err)
		body, v, err := s.RequestBody([]byte("text"), true)
		wantBody(t, "SOME TEXT!", body, v, err)
	}
	v, err = s.ResponseHeaders(false)
	wantVerdict(t, Continue, v, err)
	if text := x.lists[ResponseHeaders].String(); text != "X-Method: POST\n" {
		t.Errorf("response fields %q", text)
	}
	for _, chunk := range []string{"one", "two"} {
		want := ">" + chunk
		if guest.noBodies {
			want = chunk
		}
		body, v, err := s.ResponseBody([]byte(chunk), false)
		wantBody(t, want, body, v, err)
	}
	x.lists[ResponseTrailers].Add("X-Up", "1")
	v, err = s.ResponseTrailers()
	wantVerdict(t, Continue, v, err)
	mustContain(t, x.lists[ResponseTrailers].String(), "X-Tail: seen")
	s.Close()
	mustContain(t, out.String(), "bye", "request_id=id-1")
	eventually(t, "three ticks", func() bool { return strings.Contains(out.String(), "ticked") })
	if m := p.Stats().Metrics; len(m) != 1 || m[0].Name != "sdk_requests" || m[0].Value != 1 {
		t.Errorf("metrics %+v", m)
	}
	if strings.Contains(out.String(), "panic") {
		t.Error(out.String())
	}
}

func sdkDeny(t *testing.T, wasm built) {
	p := loadSDK(t, wasm, &logs{}, Options{})
	x := newExchange()
	x.path = "/deny"
	s := open(t, p, x)
	v, err := s.RequestHeaders(true)
	wantVerdict(t, Replied, v, err)
	r := s.Reply()
	if r.Status != 403 || string(r.Body) != "denied" || len(r.Fields) != 1 || r.Fields[0] != (Field{"X-Why", "test"}) {
		t.Errorf("reply %+v", r)
	}
	x.status, x.lists[ResponseHeaders] = r.Status, fields{r.Fields}
	v, err = s.ResponseHeaders(false)
	wantVerdict(t, Continue, v, err)
	_, v, err = s.ResponseBody(r.Body, true)
	wantVerdict(t, Continue, v, err)
}

func sdkCall(t *testing.T, wasm built) {
	sv := newServices()
	var out logs
	p := loadSDK(t, wasm, &out, Options{Services: sv})
	x := newExchange()
	x.path = "/call"
	s := open(t, p, x)
	v, err := s.RequestHeaders(true)
	if err != nil || v != Paused && v != PausedAll {
		t.Fatalf("%v, %v", v, err)
	}
	go func() {
		c := sv.take()
		if c.Upstream != "auth" || c.Path != "/check" || string(c.Body) != "question" || c.Timeout != time.Second {
			t.Errorf("call %+v", c.Call)
		}
		c.done(CallResult{Status: 200, Fields: []Field{{"X-A", "1"}}, Body: []byte("granted")})
	}()
	v, err = s.Await(t.Context(), false)
	wantVerdict(t, Continue, v, err)
	mustContain(t, x.lists[RequestHeaders].String(), "X-Auth: granted")
	s.Close()

	gone := open(t, p, x) // leaves before the answer
	_, err = gone.RequestHeaders(true)
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	if p.seats[0].Load().dead.Load() {
		t.Error("the instance died")
	}
}

func sdkTrap(t *testing.T, wasm built) {
	p := loadSDK(t, wasm, &logs{}, Options{})
	x := newExchange()
	x.path = "/trap"
	s := open(t, p, x)
	if _, err := s.RequestHeaders(true); err == nil {
		t.Fatal("no trap")
	} else if _, ok := errors.AsType[*plugins.TrapError](err); !ok {
		t.Errorf("error %v", err)
	}
	s.Close()
	eventually(t, "another instance", func() bool {
		s, err := p.Open(newExchange())
		if err == nil {
			_, err = s.RequestHeaders(true)
			s.Close()
		}
		return err == nil
	})
}

// sdkInterleaved has many streams at once on one instance.
func sdkInterleaved(t *testing.T, guest sdkGuest, wasm built) {
	p := loadSDK(t, wasm, &logs{}, Options{})
	const streams = 50
	all := make([]*Stream, streams)
	for i := range all {
		all[i] = open(t, p, newExchange())
		v, err := all[i].RequestHeaders(false)
		wantVerdict(t, Continue, v, err)
	}
	chunk := bytes.Repeat([]byte("x"), 1000)
	for round := range 3 {
		for i, s := range all {
			_, err := s.ResponseHeaders(false)
			out, v, err2 := s.ResponseBody(chunk[:i], false)
			want := i
			if !guest.noBodies && i > 0 {
				want++
			}
			if err != nil || err2 != nil || v != Continue || len(out) != want {
				t.Fatalf("round %d, stream %d: %v %v %v, %d bytes", round, i, err, err2, v, len(out))
			}
		}
	}
	for _, s := range all {
		s.Close()
	}
	if n := p.Stats().Streams; n != 0 {
		t.Errorf("%d streams at the end", n)
	}
}
