package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestRunFromTheEnvironmentAlone(t *testing.T) {
	t.Parallel()
	const key = "sk-key-of-the-provider"
	up := newUpstream(t)
	p := serve(t, []string{"OPENAI_API_KEY=" + key, "EDGE_PROVIDERS_OPENAI_BASE_URL=" + up.url + "/base", "EDGE_LOG_LEVEL=debug"})
	c := client(t)
	f := func(target, upstreamTarget string, header ...string) {
		t.Helper()
		got := ask(t, c, http.MethodPost, p.url+target, `{"model":"openai/m"}`, header...)
		got.served(t)
		seen := <-up.seen
		if seen.Get("Authorization") != "Bearer "+key || seen.Get("X-Api-Key")+seen.Get("Api-Key") != "" || seen.Get("Target") != upstreamTarget {
			t.Errorf("%s: the provider got %v, want its own key, nothing of the caller's and target %s", target, seen, upstreamTarget)
		}
	}
	f("/openai/v1/x", "/base/v1/x", "Authorization", "Bearer sk-of-the-caller")
	f("/openai/v1/x?a=%20b&key=sk-of-the-caller", "/base/v1/x?a=%20b", "X-Api-Key", "sk-of-the-caller", "Api-Key", "sk-of-the-caller")
	f("/v1/chat/completions", "/base/v1/chat/completions")

	// An unreachable provider is what is logged most; no log line may have a key in it.
	q := serve(t, []string{"OPENAI_API_KEY=" + key, "EDGE_PROVIDERS_OPENAI_BASE_URL=http://127.0.0.1:1", "EDGE_LOG_LEVEL=debug"})
	ask(t, c, http.MethodGet, q.url+"/openai/x?key=sk-of-the-caller", "", "Authorization", "Bearer sk-of-the-caller").refused(t, http.StatusBadGateway, "upstream_error")
	for _, edge := range []*process{p, q} {
		edge.idle()
		edge.signal(syscall.SIGINT)
		edge.stopped(0, 0, 0)
		if said := edge.stderr.String(); strings.Contains(said, "sk-") || !strings.Contains(said, `"msg":"request"`) {
			t.Errorf("want a log of the requests without any key in it, got\n%s", said)
		}
	}
}

func TestAdminListenerShowsTheProcess(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	p := serve(t, []string{"OPENAI_API_KEY=sk-hidden", "EDGE_PROVIDERS_OPENAI_BASE_URL=" + up.url})
	answers := make(chan answer, 1)
	go func() { answers <- send(http.DefaultClient, http.MethodPost, p.url+"/openai/held", "content") }()
	<-up.seen
	for _, class := range []string{"exchange", "header", "body"} {
		if got := p.metric("edge_arena_slots_in_use", class); got < 1 {
			t.Errorf("slots of class %s in use during a request: got %v", class, got)
		}
	}
	if got := p.metric("edge_in_flight", `provider="openai"`); got != 1 {
		t.Errorf("edge_in_flight: got %v, want 1", got)
	}
	var status struct {
		Requests  int
		Providers []struct {
			Name     string
			InFlight int `json:"in_flight"`
		}
	}
	page := ask(t, p.operator, http.MethodGet, p.admin+"/api/status", "")
	if err := json.Unmarshal([]byte(page.body), &status); err != nil || status.Requests != 1 || len(status.Providers) != 1 || status.Providers[0].InFlight != 1 {
		t.Errorf("/api/status: got %s, error %v; want one request, in flight", page.body, err)
	}
	page = ask(t, p.operator, http.MethodGet, p.admin+"/api/config", "")
	if strings.Contains(page.body, "sk-hidden") || !strings.Contains(page.body, `{"value": "***", "source": "env OPENAI_API_KEY"}`) || !json.Valid([]byte(page.body)) {
		t.Errorf("/api/config: got %s, want JSON with the key masked", page.body)
	}
	close(up.held)
	(<-answers).served(t)
	p.idle()
	if got := p.metric("edge_requests_total", `provider="openai"`, `code="2xx"`); got != 1 {
		t.Errorf("edge_requests_total: got %v, want 1", got)
	}
	if got := p.metric("go_goroutines") + p.metric("edge_build_info"); got < 2 {
		t.Errorf("go_goroutines and edge_build_info: got %v together", got)
	}
}

// TestProcessorsFollowLoad is not parallel: edge must get some of the machine's time to be busy.
func TestProcessorsFollowLoad(t *testing.T) {
	if runtime.NumCPU() == 1 {
		return // nothing to follow
	}
	up := newUpstream(t)
	provider := "EDGE_PROVIDERS_OPENAI_BASE_URL=" + up.url
	fixed := serve(t, []string{provider, "GOMAXPROCS=2"})
	p := serve(t, []string{provider})
	look := time.NewTicker(100 * time.Millisecond) // each look is work for edge
	defer look.Stop()
	has := func(holds func(count float64) bool) func() bool {
		return func() bool { <-look.C; return holds(p.metric("go_gomaxprocs")) }
	}
	one := has(func(count float64) bool { return count == 1 })
	until(t, "one processor while edge is idle", one)
	if got := fixed.metric("go_gomaxprocs"); got != 2 {
		t.Errorf("GOMAXPROCS of the environment: got %v, want 2", got)
	}
	done := make(chan struct{})
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() {
			c := client(t)
			for {
				select {
				case <-done:
					return
				default:
					send(c, http.MethodGet, p.url+"/unknown", "").refused(t, http.StatusNotFound, "not_found")
				}
			}
		})
	}
	until(t, "more than one processor under load", has(func(count float64) bool { return count > 1 }))
	close(done)
	senders.Wait()
	until(t, "one processor again", one)
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	f := func(how string, args ...string) {
		t.Helper()
		code, out, errs := whole(t, nil, args...)
		if code != 1 || out != "" {
			t.Errorf("%q: got exit code %d and stdout %q, want 1 and nothing", args, code, out)
		}
		sentence := regexp.MustCompile(`^edge[a-z ]*: listen on ` + regexp.QuoteMeta(taken.Addr().String()) + `: .*address already in use; choose another address with ` + how + `\n$`)
		if !sentence.MatchString(errs) {
			t.Errorf("%q: got %q, want the one line %s", args, errs, sentence)
		}
	}
	f("-listen or EDGE_LISTEN", "-demo", "-listen", taken.Addr().String()) // the other listener is open by then, and ends with the process
	f("-admin or EDGE_ADMIN_LISTEN", "-demo", "-admin", taken.Addr().String())
	f("-listen", "demo", "-listen", taken.Addr().String())
}

func TestRunExplainsHowToBegin(t *testing.T) {
	t.Parallel()
	code, out, errs := whole(t, nil)
	if code != 1 || out != "" {
		t.Errorf("got exit code %d and stdout %q, want 1 and nothing", code, out)
	}
	for _, way := range []string{"1. ", "OPENAI_API_KEY=... edge\n", "2. ", "EDGE_PROVIDERS_LOCAL_BASE_URL=http://127.0.0.1:8000 edge\n", "3. ", "edge -config edge.json\n", "4. ", "edge run -demo\n"} {
		if !strings.Contains(errs, way) {
			t.Errorf("got no %q in\n%s", way, errs)
		}
	}
}

func TestWrongUseExitsWith2(t *testing.T) {
	t.Parallel()
	f := func(said string, args ...string) {
		t.Helper()
		code, out, errs := whole(t, nil, args...)
		if code != 2 || out != "" || !strings.HasPrefix(errs, said) || !strings.Contains(errs, "usage: edge") {
			t.Errorf("%q: got %d, %q, %q; want 2 and stderr with %q and the usage", args, code, out, errs, said)
		}
	}
	f(`edge: unknown command "serve"`, "serve")
	f("edge run: flag provided but not defined: -nope", "-nope")
	f("edge run: flag provided but not defined: -nope", "run", "-demo", "-nope")
	f(`edge run: unexpected argument "more"`, "run", "-demo", "more")
	f("edge demo: invalid value", "demo", "-delay", "soon")
}

func TestRunReportsAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "edge.json")
	if err := os.WriteFile(file, []byte("{\"log\": {\"level\": \"loud\"},\n \"lisen\": \":1\"}"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := whole(t, []string{
		"EDGE_CONFIG=" + file, `EDGE_CONFIG_JSON={"client": {"max_blocked": -1}}`, "EDGE_CONCURRENCY=0", "EDGE_QUEUE_TIMEOUT=soon", "EDGE_NOPE=1",
	}, "-listen", "nowhere")
	lines := strings.Split(strings.TrimSuffix(errs, "\n"), "\n")
	for _, place := range []string{
		file + ":1:19: log.level: got \"loud\", ", file + ":2:2: ", "EDGE_CONFIG_JSON:1:28: client.max_blocked: got -1, ",
		"(EDGE_CONCURRENCY): got ", "(EDGE_QUEUE_TIMEOUT): got \"soon\", ", "EDGE_NOPE: ", "listen (-listen): got \"nowhere\", ",
	} {
		if strings.Count(errs, place) != 1 {
			t.Errorf("got %d lines with %q, want 1", strings.Count(errs, place), place)
		}
	}
	if code != 1 || out != "" || len(lines) != 7 {
		t.Errorf("got exit code %d, stdout %q and %d lines, want 1, nothing and 7:\n%s", code, out, len(lines), errs)
	}
}

func TestSecretsStayOutOfFaults(t *testing.T) {
	t.Parallel()
	const secret = "sk-never-shown"
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	f := func(variable string, args ...string) {
		t.Helper()
		code, out, errs := whole(t, []string{"S=" + secret, "OPENAI_API_KEY=x", variable}, args...)
		if code == 0 || out != "" || errs == "" || strings.Contains(errs, "never-shown") {
			t.Errorf("%q %q: got %d, %q and %q, want a fault without the secret", variable, args, code, out, errs)
		}
	}
	f("EDGE_AUTH_TOKENS=" + secret + "\x01")
	f("EDGE_ADMIN_TOKEN=" + secret + " ")
	f("EDGE_ADMIN_TOKEN_FILE=" + secret)
	f("EDGE_ADMIN_TOKEN_FILE=" + write("token", secret+"\n\n"))
	f("OPENAI_API_KEY=" + secret + "\n")
	f("EDGE_OPENAI_API_KEY=" + secret)
	f("EDGE_PROVIDERS_OPENAI_APIKEY=" + secret)
	f("EDGE_PROVIDERS_OPENAI_BASE_URL=ftp://user:" + secret + "@host")
	f("EDGE_PROVIDERS_OPENAI_EXTRA_HEADERS=X-Key:" + secret + "\x01")
	for i, document := range []string{
		secret, `{"auth": {"tokens": ["` + secret + `"}`, `{"auth": {"tokens": "` + secret + `"}}`, `{"providers": {"openai": {"keys": ["` + secret + `"]}}}`,
		`{"providers": {"openai": {"keys": [{"value": "` + secret + `", "wieght": 1}]}}}`, `{"log": {"level": "env.S"}}`, `{"admin": {"token": "` + secret + ` x"}}`,
	} {
		f("EDGE_CONFIG_JSON=" + document)
		f("EDGE_CONFIG=" + write(strconv.Itoa(i)+".json", document))
		f("", "-config", write(strconv.Itoa(i)+".json", document))
	}
	// Content where a path belongs.
	f(`EDGE_CONFIG={"auth": {"tokens": ["` + secret + `"]}}`)
	f("", "-config", `{"auth": {"tokens": ["`+secret+`"]}}`)
	cert, _ := selfSigned(t)
	f("EDGE_CONFIG_JSON={\"tls\": {\"cert_file\": \"" + cert + "\", \"key_file\": \"-----BEGIN PRIVATE KEY-----\\n" + secret + "\"}}")
	f("", "-nope="+secret)
}

func TestTokenIsMadeForTheNetwork(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	c := client(t)
	open := func(more ...string) *process {
		t.Helper()
		return serve(t, append([]string{"OPENAI_API_KEY=sk-provider", "EDGE_PROVIDERS_OPENAI_BASE_URL=" + up.url}, more...))
	}
	made := regexp.MustCompile(`edge-[a-z2-7]{26}`)

	for _, listen := range []string{":0", "0.0.0.0:0"} {
		p := open("EDGE_LISTEN=" + listen)
		tokens := made.FindAllString(p.stderr.String(), -1)
		if len(tokens) != 1 || !strings.Contains(p.stderr.String(), "EDGE_AUTH_TOKENS") || !strings.Contains(p.stderr.String(), "EDGE_AUTH_OPEN=true") {
			t.Fatalf("%s: got %q, want one token and how to do without", listen, p.stderr.String())
		}
		ask(t, c, http.MethodGet, p.url+"/openai/x", "").refused(t, http.StatusUnauthorized, "unauthorized")
		ask(t, c, http.MethodGet, p.url+"/openai/x", "", "Authorization", "Bearer "+tokens[0]+"x").refused(t, http.StatusUnauthorized, "unauthorized")
		for _, header := range [][]string{{"Authorization", "Bearer " + tokens[0]}, {"X-Api-Key", tokens[0]}} {
			ask(t, c, http.MethodGet, p.url+"/openai/x", "", header...).served(t)
			if seen := <-up.seen; seen.Get("Authorization") != "Bearer sk-provider" || seen.Get("X-Api-Key") != "" {
				t.Errorf("the provider got %v", seen)
			}
		}
		if shown := ask(t, c, http.MethodGet, p.admin+"/api/config", "").body; strings.Contains(shown, tokens[0]) {
			t.Errorf("/api/config shows the token: %s", shown)
		}
		if strings.Count(p.stderr.String(), tokens[0]) != 1 || p.stdout.String() != "" {
			t.Errorf("want the token once, got\n%s%s", p.stdout.String(), p.stderr.String())
		}
	}
	none := func(p *process) {
		t.Helper()
		ask(t, c, http.MethodGet, p.url+"/openai/x", "").served(t)
		if made.MatchString(p.stderr.String()) {
			t.Errorf("a token was made:\n%s", p.stderr.String())
		}
	}
	p := open("EDGE_LISTEN=0.0.0.0:0", "EDGE_AUTH_OPEN=true")
	none(p)
	ask(t, c, http.MethodGet, p.url+"/openai/x", "", "Sec-Fetch-Site", "cross-site").served(t)
	p = open()
	none(p)
	ask(t, c, http.MethodGet, p.url+"/openai/x", "", "Sec-Fetch-Site", "cross-site").refused(t, http.StatusForbidden, "forbidden")
	p = open("EDGE_LISTEN=:0", "EDGE_AUTH_TOKENS=own")
	ask(t, c, http.MethodGet, p.url+"/openai/x", "", "Authorization", "Bearer own").served(t)
	if made.MatchString(p.stderr.String()) {
		t.Errorf("a token was made beside the configured one:\n%s", p.stderr.String())
	}
}

func TestDemoCommandsWork(t *testing.T) {
	t.Parallel()
	shell := require(t, "sh")
	for _, program := range []string{"curl", "seq", "xargs", "grep", "sleep"} {
		require(t, program)
	}
	p := serve(t, nil, "run", "-demo")
	last := "; wait\n"
	until(t, "the commands are printed", func() bool { return strings.Contains(p.stderr.String(), last) })
	// Each is indented by four, under a title that is indented by two.
	var commands []string
	for part := range strings.SplitSeq(p.stderr.String(), "\n\n") {
		title, command, _ := strings.Cut(part, "\n    ")
		if strings.HasPrefix(title, "  ") && command != "" {
			commands = append(commands, strings.ReplaceAll(command, "\n    ", "\n"))
		}
	}
	if len(commands) != 4 {
		t.Fatalf("got %d commands: %q, want 4", len(commands), commands)
	}
	run := func(command string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), shell, "-c", command)
		cmd.Env, cmd.Dir = []string{"PATH=" + os.Getenv("PATH")}, t.TempDir()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return string(out)
	}
	var plain struct {
		Choices []struct{ Message struct{ Content string } }
	}
	if out := run(commands[0]); json.Unmarshal([]byte(out), &plain) != nil || len(plain.Choices) != 1 || plain.Choices[0].Message.Content == "" {
		t.Errorf("%s\nanswers %s", commands[0], out)
	}
	if out := run(commands[1]); strings.Count(out, "data: {") < 10 || !strings.HasSuffix(out, "data: [DONE]\n\n") {
		t.Errorf("%s\nanswers %s", commands[1], out)
	}
	if len(commands) == 4 {
		if out := run(commands[2]); !strings.Contains(out, "x-edge-demo: stamped") && !strings.Contains(out, "X-Edge-Demo: stamped") || !strings.Contains(out, "write to") || strings.Contains(out, "ada@example.com") {
			t.Errorf("%s\nanswers %s", commands[2], out)
		}
	}
	queue := commands[len(commands)-1]
	out := run(queue)
	if served := regexp.MustCompile(`(?m)^200 after [0-9.]+ s$`).FindAllString(out, -1); len(served) != 30 {
		t.Errorf("%d of 30 are answered with 200", len(served))
	}
	shown := regexp.MustCompile(`(?m)^edge_(in_flight|waiting|concurrency_limit)\{provider="demo"\} (\d+)$`).FindAllStringSubmatch(out, -1)
	got := map[string]string{}
	for _, line := range shown {
		got[line[1]] = line[2]
	}
	if waiting, err := strconv.Atoi(got["waiting"]); len(shown) != 3 || got["in_flight"] != "2" || got["concurrency_limit"] != "2" || err != nil || waiting < 1 || waiting > 28 {
		t.Errorf("%s\nshows %q, want 2 in flight of 2 and some waiting:\n%s", queue, got, out)
	}
	p.idle()
	p.signal(syscall.SIGTERM)
	p.stopped(0, 0, 0)
}

// unencryptedHTTP2 makes a client speak HTTP/2 without TLS, which the server must know.
func unencryptedHTTP2(transport *http.Transport) {
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetUnencryptedHTTP2(true)
}

// selfSigned writes a certificate for 127.0.0.1 and its key, and returns their files.
func selfSigned(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", cert), write("key.pem", "PRIVATE KEY", private)
}

func TestTLSListener(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	certFile, keyFile := selfSigned(t)
	p := serve(t, []string{"EDGE_PROVIDERS_UP_BASE_URL=" + up.url, "EDGE_TLS_CERT_FILE=" + certFile, "EDGE_TLS_KEY_FILE=" + keyFile})
	pool := x509.NewCertPool()
	text, err := os.ReadFile(certFile)
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatalf("%s: %v", certFile, err)
	}
	url := "https" + strings.TrimPrefix(p.url, "http") + "/up/now"
	f := func(major int, choose func(*http.Protocols)) {
		t.Helper()
		c := client(t, func(transport *http.Transport) {
			transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
			transport.Protocols = new(http.Protocols)
			choose(transport.Protocols)
		})
		got := ask(t, c, http.MethodPost, url, "content")
		got.served(t)
		if got.major != major {
			t.Errorf("got HTTP/%d, want HTTP/%d", got.major, major)
		}
	}
	f(1, func(of *http.Protocols) { of.SetHTTP1(true) })
	f(2, func(of *http.Protocols) { of.SetHTTP2(true) })
	f(2, func(of *http.Protocols) { of.SetHTTP1(true); of.SetHTTP2(true) })
	if got := ask(t, client(t), http.MethodGet, p.url+"/up/now", ""); got.status != http.StatusBadRequest {
		t.Errorf("without TLS: got %d, want 400", got.status)
	}
}

func TestHTTP2WithoutTLS(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	c := client(t, unencryptedHTTP2)
	for _, on := range []bool{true, false} {
		p := serve(t, []string{"EDGE_PROVIDERS_UP_BASE_URL=" + up.url, "EDGE_H2C=" + strconv.FormatBool(on)})
		ask(t, client(t), http.MethodPost, p.url+"/up/now", "content").served(t)
		got := send(c, http.MethodPost, p.url+"/up/now", "content")
		if !on {
			if got.err == nil {
				t.Errorf("without h2c: got HTTP/%d %d", got.major, got.status)
			}
			continue
		}
		got.served(t)
		if got.major != 2 {
			t.Errorf("with h2c: got HTTP/%d", got.major)
		}
	}
}

func TestIdleMemory(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	const most = 64 << 10 // KiB; what is wanted is far below
	for _, profile := range []string{"resource-constrained", "balanced"} {
		p := serve(t, []string{"EDGE_PROFILE=" + profile, "OPENAI_API_KEY=x"})
		text, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`(?m)^VmRSS:\s*(\d+) kB$`).FindSubmatch(text)
		if found == nil {
			t.Fatalf("no VmRSS in %s", text)
		}
		resident, err := strconv.Atoi(string(found[1]))
		t.Logf("%s, idle: VmRSS %d KiB", profile, resident)
		if err != nil || resident > most && !built.race { // the race detector takes several times as much
			t.Errorf("%s, idle: got VmRSS %s KiB, want at most %d", profile, found[1], most)
		}
	}
}
