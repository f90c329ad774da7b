package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/demo"
)

// What callers present to edge, and what edge presents to the providers.
const (
	edgeToken    = "edge-token-that-callers-present"
	openaiKey    = "sk-openai-key-that-callers-never-see"
	anthropicKey = "sk-ant-key-that-callers-never-see"
)

// patience bounds every wait for what should happen at once or, with edge's own numbers, within 100 ms.
const patience = 5 * time.Second

// edge is a running edge.
type edge struct {
	t          *testing.T
	url, admin string // http://127.0.0.1:port
	address    string // of the admin listener
	command    *exec.Cmd
	stdout     output
	stderr     output
	exited     chan struct{} // closed when the process has ended
}

// start runs edge with these variables and nothing else in its environment, and waits until it serves. Callers must
// present edgeToken, unless the variables set EDGE_AUTH_OPEN. At the end of the test it checks that everything was given back, ends the process and checks how it ended.
func start(t *testing.T, environ []string, args ...string) *edge {
	t.Helper()
	e := &edge{t: t, exited: make(chan struct{})}
	e.command = exec.CommandContext(context.Background(), binary, args...) // finish ends it
	if !slices.ContainsFunc(environ, func(entry string) bool { return strings.HasPrefix(entry, "EDGE_AUTH_OPEN=") }) {
		environ = append(environ, "EDGE_AUTH_TOKENS="+edgeToken)
	}
	e.command.Env = append([]string{
		"EDGE_LISTEN=127.0.0.1:0", "EDGE_ADMIN_LISTEN=127.0.0.1:0", "EDGE_LOG_LEVEL=debug",
		"EDGE_DRAIN_TIMEOUT=4s", // so that what a failed test leaves open does not hold up its end
	}, environ...)
	e.command.Stdout, e.command.Stderr = &e.stdout, &e.stderr
	if err := e.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(e.exited)
		_ = e.command.Wait() // ProcessState says it
	}()
	t.Cleanup(e.finish)
	until(patience, func() bool { return e.ended() || e.logged("serving") != nil })
	serving := e.logged("serving")
	if serving == nil {
		t.Fatal("edge does not serve")
	}
	e.address, _ = serving["admin"].(string)
	listen, _ := serving["listen"].(string)
	e.url, e.admin = "http://"+listen, "http://"+e.address
	return e
}

func (e *edge) ended() bool {
	select {
	case <-e.exited:
		return true
	default:
		return false
	}
}

// signal sends SIGTERM.
func (e *edge) signal() {
	e.t.Helper()
	if err := e.command.Process.Signal(syscall.SIGTERM); err != nil {
		e.t.Errorf("SIGTERM: %v", err)
	}
}

// wait waits until the process has ended by itself, and kills it when it does not.
func (e *edge) wait() {
	e.t.Helper()
	if !until(patience, e.ended) {
		e.t.Errorf("edge still runs after %v", patience)
		_ = e.command.Process.Kill() // an error means that it has ended after all
		<-e.exited
	}
}

// finish ends the process unless the test has, and checks what is left of it.
func (e *edge) finish() {
	e.t.Helper()
	defer e.end() // deferred, since a fatal failure here must not leave the process behind
	if e.url != "" && !e.ended() {
		e.balanced()
	}
}

// end ends the process unless it has ended, and checks how it did.
func (e *edge) end() {
	e.t.Helper()
	if !e.ended() {
		e.signal()
	}
	e.wait()
	if state := e.command.ProcessState; state.ExitCode() != 0 {
		e.t.Errorf("edge: %v, want exit code 0", state)
	}
	if got := e.stdout.String(); got != "" {
		e.t.Errorf("stdout: got %q, want nothing", got)
	}
	log := e.stderr.String()
	for _, secret := range []string{edgeToken, openaiKey, anthropicKey} {
		if strings.Contains(log, secret) {
			e.t.Errorf("stderr shows the secret %s", secret)
		}
	}
	if strings.Contains(log, `"level":"ERROR"`) {
		e.t.Error("edge has logged an error")
	}
	if e.t.Failed() {
		e.t.Logf("stderr of edge, process %d:\n%s", e.command.Process.Pid, log)
	}
}

// logged returns the first log line with this message, or nil.
func (e *edge) logged(message string) map[string]any {
	for line := range strings.Lines(e.stderr.String()) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == message {
			return fields
		}
	}
	return nil
}

// balanced checks that every request has given back what it took.
func (e *edge) balanced() {
	e.t.Helper()
	var left []string
	if !until(patience, func() bool {
		left = left[:0]
		for _, name := range []string{"edge_in_flight", "edge_waiting", "edge_blocked", "edge_arena_slots_in_use", "edge_buffered_bytes"} {
			if n := e.sum(name); n != 0 {
				left = append(left, fmt.Sprintf("%s %v", name, n))
			}
		}
		return len(left) == 0
	}) {
		e.t.Errorf("%v after the last request: %s, want 0", patience, strings.Join(left, ", "))
	}
}

// settles waits until the sum of a metric is want.
func (e *edge) settles(want float64, name string, labels ...string) {
	e.t.Helper()
	got := 0.0
	if !until(patience, func() bool { got = e.sum(name, labels...); return got == want }) {
		e.t.Errorf("%s%q: got %v after %v, want %v", name, labels, got, patience, want)
	}
}

// sum adds up the samples of one metric whose labels hold all the given texts.
func (e *edge) sum(name string, labels ...string) (total float64) {
	e.t.Helper()
	sample, samples := regexp.MustCompile(`^`+name+`(\{.*\})? (\S+)$`), 0
lines:
	for line := range strings.SplitSeq(e.metrics(), "\n") {
		match := sample.FindStringSubmatch(line)
		if match == nil {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(match[1], label) {
				continue lines
			}
		}
		value, err := strconv.ParseFloat(match[2], 64)
		if err != nil {
			e.t.Fatalf("sample %q: %v", line, err)
		}
		total += value
		samples++
	}
	if samples == 0 {
		e.t.Fatalf("/metrics has no %s%q", name, labels)
	}
	return total
}

func (e *edge) metrics() string {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience) // the test's own context ends before finish
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.admin+"/metrics", http.NoBody)
	if err != nil {
		e.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		e.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		e.t.Fatalf("/metrics: %s, %v", answer.Status, err)
	}
	return string(text)
}

// healthcheck asks the running edge as an image's health check does, and wants this exit code.
func (e *edge) healthcheck(want int) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, binary, "healthcheck")
	command.Env = []string{"EDGE_ADMIN_LISTEN=" + e.address}
	out, err := command.CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		e.t.Fatal(err)
	}
	if got := command.ProcessState.ExitCode(); got != want || (want == 0) != (len(out) == 0) {
		e.t.Errorf("healthcheck: got exit code %d, want %d, with a reason unless it is 0; output: %s", got, want, out)
	}
}

// provide starts a provider that ends with the test.
func provide(t *testing.T, c demo.Config) *demo.Server {
	t.Helper()
	s, err := demo.Start("", c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// openaiEnv is the environment of an edge whose provider openai is p.
func openaiEnv(p *demo.Server, more ...string) []string {
	return append([]string{"EDGE_PROVIDERS_OPENAI_BASE_URL=" + p.URL, "OPENAI_API_KEY=" + openaiKey}, more...)
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

// until polls until a condition holds, and reports whether it does.
func until(within time.Duration, holds func() bool) bool {
	deadline := time.Now().Add(within)
	for !holds() {
		if time.Now().After(deadline) {
			return false
		}
		<-time.After(2 * time.Millisecond)
	}
	return true
}

// bounded is the test's context with an end, so that an answer that never comes fails the test.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	return ctx
}
