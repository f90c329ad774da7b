package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what should come at once.
const patience = 15 * time.Second

// built is the binary that the tests of this package run as a process: stripped and static like the one that is
// shipped, or with the race detector when the tests have it.
var built struct {
	once sync.Once
	dir  string
	path string
	race bool
	err  error
}

// TestMain removes the binary, and fails when goroutines of the process tests are left over.
func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
		if code == 0 && !settles(func() bool { return runtime.NumGoroutine() <= 3 }) {
			stacks := make([]byte, 1<<20)
			fmt.Fprintf(os.Stderr, "goroutines are left over:\n%s\n", stacks[:runtime.Stack(stacks, true)])
			code = 1
		}
	}
	os.Exit(code)
}

// binary returns the path of edge, built at the first call.
func binary(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "edge-test-"); built.err != nil { //nolint:usetesting // it serves all tests
			return
		}
		if info, ok := debug.ReadBuildInfo(); ok {
			for _, setting := range info.Settings {
				built.race = built.race || setting.Key == "-race" && setting.Value == "true"
			}
		}
		built.path = filepath.Join(built.dir, "edge.exe") // the suffix that one system wants harms no other
		build := exec.CommandContext(context.Background(), "go", "build", "-ldflags", "-s -w", "-o", built.path, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if built.race {
			build.Args = append(build.Args[:2], "-race", "-o", built.path, ".")
			build.Env = append(os.Environ(), "CGO_ENABLED=1")
		}
		if said, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%w\n%s", err, said)
		}
	})
	if built.err != nil {
		t.Fatalf("go build: %v", built.err)
	}
	return built.path
}

// settles waits until a condition holds, and reports whether it does.
func settles(holds func() bool) bool {
	deadline := time.After(patience)
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline:
			return false
		}
	}
	return true
}

// until fails the test when a condition does not come to hold.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	if !settles(holds) {
		t.Fatalf("not within %v: %s", patience, what)
	}
}

// output keeps what a process writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// process is an edge that was started.
type process struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr output
	ended          chan struct{} // closed when it has ended and all it wrote is there
	url            string        // of the data listener
	admin          string        // of the admin listener
	operator       *http.Client  // asks the admin listener
	told           bool          // what it wrote has been looked at
}

// launch starts edge with nothing in its environment but the variables. Both its listeners take any free port of
// loopback, unless the variables say otherwise. It ends with the test at the latest.
func launch(t *testing.T, variables []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, ended: make(chan struct{}), operator: client(t)}
	deadline, ok := t.Deadline()
	if !ok {
		deadline = time.Now().Add(10 * time.Minute)
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline.Add(-2*time.Second)) // a test that hangs leaves no process
	p.cmd = exec.CommandContext(ctx, binary(t), args...)
	p.cmd.Env = append([]string{"EDGE_LISTEN=127.0.0.1:0", "EDGE_ADMIN_LISTEN=127.0.0.1:0"}, variables...)
	p.cmd.Dir = t.TempDir()
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // the exit code tells
	}()
	t.Cleanup(func() {
		cancel()
		<-p.ended
		if t.Failed() && !p.told {
			t.Logf("edge %s wrote\n%s%s", strings.Join(args, " "), p.stdout.String(), p.stderr.String())
		}
	})
	return p
}

// serve starts edge and waits until it serves.
func serve(t *testing.T, variables []string, args ...string) *process {
	t.Helper()
	p := launch(t, variables, args...)
	var line map[string]any
	until(t, "serving", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("edge has ended with %d", p.cmd.ProcessState.ExitCode())
		default:
		}
		line = p.said("serving")
		return line != nil
	})
	for key, at := range map[string]*string{"listen": &p.url, "admin": &p.admin} {
		address, _ := line[key].(string)
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatalf("serving: %s: %v", key, err)
		}
		*at = "http://127.0.0.1:" + port
	}
	return p
}

// whole runs edge to its end.
func whole(t *testing.T, variables []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := launch(t, variables, args...)
	code = p.exit()
	p.told = true
	return code, p.stdout.String(), p.stderr.String()
}

// exit waits for the process and returns its exit code.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("edge has not ended within %v", patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("signal %v: %v", s, err)
	}
}

// said returns the log line with the message, or nil.
func (p *process) said(message string) map[string]any {
	for line := range strings.Lines(p.stderr.String()) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == message {
			return fields
		}
	}
	return nil
}

// stopped waits for the end after a drain, and checks the exit code and the counts of the last log line.
func (p *process) stopped(ended, aborted, upgraded float64) (seconds float64) {
	p.t.Helper()
	if code := p.exit(); code != 0 {
		p.t.Errorf("exit code: got %d, want 0", code)
	}
	line := p.said("stopped")
	for key, want := range map[string]float64{"requests_ended": ended, "requests_aborted": aborted, "upgraded_connections": upgraded} {
		if line[key] != want {
			p.t.Errorf("stopped: %s: got %v, want %v", key, line[key], want)
		}
	}
	if p.stdout.String() != "" {
		p.t.Errorf("stdout: got %q, want nothing", p.stdout.String())
	}
	seconds, _ = line["duration_seconds"].(float64)
	return seconds
}

// metric adds up the samples of a metric whose labels hold all the given texts.
func (p *process) metric(name string, labels ...string) (total float64) {
	p.t.Helper()
	page := ask(p.t, p.operator, http.MethodGet, p.admin+"/metrics", "")
	sample := regexp.MustCompile(`(?m)^` + name + `(\{[^\n]*\})? ([0-9.e+]+)$`)
samples:
	for _, found := range sample.FindAllStringSubmatch(page.body, -1) {
		for _, label := range labels {
			if !strings.Contains(found[1], label) {
				continue samples
			}
		}
		value, err := strconv.ParseFloat(found[2], 64)
		if err != nil {
			p.t.Fatalf("sample %q: %v", found[0], err)
		}
		total += value
	}
	return total
}

// idle waits until everything that was taken is given back.
func (p *process) idle() {
	p.t.Helper()
	for _, name := range []string{"edge_in_flight", "edge_waiting", "edge_blocked", "edge_arena_slots_in_use", "edge_buffered_bytes", "edge_pipes_in_use", "edge_upgraded_connections"} {
		until(p.t, name+" is 0", func() bool { return p.metric(name) == 0 })
	}
}

// unready waits until /readyz says that edge is draining.
func (p *process) unready() {
	p.t.Helper()
	until(p.t, "/readyz is 503 draining", func() bool {
		got := send(p.operator, http.MethodGet, p.admin+"/readyz", "")
		return got.status == http.StatusServiceUnavailable && got.body == "draining\n"
	})
}

// shut waits until the data listener is closed.
func (p *process) shut() {
	p.t.Helper()
	until(p.t, "the listener is closed", func() bool { return !listens(p.url) })
}

// listens reports whether something accepts connections at url.
func listens(url string) bool {
	dialer := net.Dialer{Timeout: patience}
	conn, err := dialer.DialContext(context.Background(), "tcp", strings.TrimPrefix(url, "http://"))
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// client has connections of its own, which end with the test.
func client(t *testing.T, change ...func(*http.Transport)) *http.Client {
	transport := &http.Transport{DisableCompression: true}
	for _, do := range change {
		do(transport)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 2 * patience}
}

// answer is what came back for a request, up to an error.
type answer struct {
	status, major int
	header        http.Header
	body          string
	err           error
}

// send makes a request and reads the whole answer.
func send(c *http.Client, method, url, body string, header ...string) (got answer) {
	request, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := c.Do(request)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.ProtoMajor, response.Header, string(text), err}
}

// ask sends a request that must be answered in full.
func ask(t *testing.T, c *http.Client, method, url, body string, header ...string) answer {
	t.Helper()
	got := send(c, method, url, body, header...)
	if got.err != nil {
		t.Fatalf("%s %s: %v", method, url, got.err)
	}
	return got
}

// served checks that an answer is the upstream's, from the first byte to the last.
func (a answer) served(t *testing.T) {
	t.Helper()
	if a.err != nil || a.status != http.StatusOK || a.body != wholeAnswer {
		t.Errorf("got %d with %d bytes (%.100s), error %v; want 200 with %d bytes", a.status, len(a.body), a.body, a.err, len(wholeAnswer))
	}
}

// refused checks that an answer is an error of Edge's own.
func (a answer) refused(t *testing.T, status int, code string) {
	t.Helper()
	if a.err != nil || a.status != status || a.header.Get("X-Edge-Reason") != code || !strings.Contains(a.body, `"code":"`+code+`"`) {
		t.Errorf("got %d %q %.200s, error %v; want %d with code %s", a.status, a.header.Get("X-Edge-Reason"), a.body, a.err, status, code)
	}
}

// wholeAnswer is longer than what any buffer on its way takes at once, so that a lost end shows.
var wholeAnswer = strings.Repeat("one line of the whole answer\n", 5000)

// upstream is a provider that goes on when the test says so.
type upstream struct {
	url    string
	seen   chan http.Header // of each request
	held   chan struct{}    // lets one answer of /held go, or when closed all
	stream chan struct{}    // lets one stream of /stream end, or when closed all
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	up := &upstream{seen: make(chan http.Header, 64), held: make(chan struct{}), stream: make(chan struct{})}
	server := httptest.NewServer(up)
	up.url = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return up
}

func (up *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	seen := r.Header.Clone()
	seen.Set("Target", r.RequestURI)
	up.seen <- seen
	wait := func(sign <-chan struct{}) {
		select {
		case <-sign:
		case <-r.Context().Done():
		}
	}
	switch r.URL.Path {
	case "/held":
		wait(up.held)
	case "/stream":
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: first\n\n")
		_ = http.NewResponseController(w).Flush()
		wait(up.stream)
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
		return
	case "/short":
		_, _ = io.WriteString(w, strings.Repeat("x", 1000))
		return
	case "/upgrade":
		echo(w, r.Header.Get("Upgrade"))
		return
	}
	_, _ = io.WriteString(w, wholeAnswer)
}

// echo takes the connection over and sends back what it gets, until it is closed.
func echo(w http.ResponseWriter, protocol string) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", protocol)
	_, _ = io.Copy(conn, buffered)
}

// require returns the path of a program. Without it the test is skipped, or fails where everything must be there.
func require(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	switch {
	case err == nil:
	case os.Getenv("EDGE_TEST_REQUIRE") == "all":
		t.Fatalf("%s is not here, and EDGE_TEST_REQUIRE is all", program)
	default:
		t.Skipf("%s is not here", program)
	}
	return path
}
