package httpwasm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edge-proxy/edge/plugins"
)

// goGuest builds testdata/goguest with the go command that runs the tests.
func goGuest(t *testing.T) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "guest.wasm")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", out, "./testdata/goguest")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	wasm, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

// TestGoGuest runs a guest with a runtime of its own: garbage collector, stacks and heap.
func TestGoGuest(t *testing.T) {
	h, wasm := newHost(t), goGuest(t)
	t.Run("serves", func(t *testing.T) { goGuestServes(t, h, wasm) })
	t.Run("fails", func(t *testing.T) { goGuestFails(t, h, wasm) })
}

func goGuestServes(t *testing.T, h *plugins.Host, wasm []byte) {
	logger, lines := recorder("INFO")
	p := mustLoad(t, h, plugins.Config{
		Name: "go", Module: wasm, Settings: []byte(`{"a":1}`), Logger: logger, Timeout: 2 * time.Second,
	}, Options{MaxInstances: 1, Request: true, Response: true})

	var c Call
	for visit := 1; visit <= 3; visit++ { // it keeps its state, on the one instance
		x := newFake()
		if next, err := c.Request(t.Context(), p, x); !next || err != nil {
			t.Fatal(next, err)
		}
		if !c.BuffersResponse() {
			t.Error("the response is not buffered")
		}
		if got := x.body(RequestBody); got != "HELLO WORLD" || x.uri != "/upper/v1/chat?x=%26" {
			t.Errorf("upstream gets %s %q", x.uri, got)
		}
		failed := visit == 3
		if err := c.Response(t.Context(), x, failed); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("[X-Visit: %d GET 1] 200 <answer>", visit)
		if failed {
			want = "[X-Visit: 3 GET 1] 502 no answer"
		}
		if got := fmt.Sprintf("[%v] %d %s", &x.fields[ResponseHeader], x.Status(), x.body(ResponseBody)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if want := "\nINFO plugin log [plugin=go request_id=req-1 text=GET 1]"; !strings.HasPrefix(lines(), want) {
		t.Errorf("log %q, want %q first", lines(), want)
	}

	x := newFake()
	x.fields[RequestHeader].Add("X-Test", "stop")
	if next, err := c.Request(t.Context(), p, x); next || err != nil || p.Stats().InUse != 0 {
		t.Fatal(next, err, p.Stats().InUse)
	}
	if got, want := fmt.Sprintf("[%v] %d %s", &x.fields[ResponseHeader], x.Status(), x.body(ResponseBody)), `[X-Config: {"a":1}] 403 stopped /v1/chat?x=%26`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func goGuestFails(t *testing.T, h *plugins.Host, wasm []byte) {
	p := mustLoad(t, h, plugins.Config{Name: "go", Module: wasm, Timeout: time.Second},
		Options{MaxInstances: 4, Request: true, Response: true})
	f := func(test, reason string) {
		t.Helper()
		var c Call
		x := newFake()
		x.fields[RequestHeader].Add("X-Test", test)
		_, err := c.Request(t.Context(), p, x)
		if err == nil || !strings.HasPrefix(errorText(err), reason) {
			t.Errorf("%s: got %v, want %s", test, err, reason)
		}
		if err := stamp(p, &c, newFake()); err != nil { // the next one is served
			t.Error(err)
		}
	}
	f("panic", "trap: ")
	f("exit", "exit: ")
	f("spin", "timeout: ")
	f("sleep", "timeout: ")

	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			var c Call
			for range 20 {
				x := newFake()
				if err := stamp(p, &c, x); err != nil || x.body(RequestBody) != "HELLO WORLD" || x.body(ResponseBody) != "<answer>" {
					t.Errorf("%v, %s, %s", err, x.body(RequestBody), x.body(ResponseBody))
				}
			}
		})
	}
	wg.Wait()
}
