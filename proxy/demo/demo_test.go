package demo_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/demo"
)

func ExampleStart() {
	s, err := demo.Start("127.0.0.1:0", demo.Config{Tokens: 19})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, s.URL+"/v1/chat/completions",
		strings.NewReader(`{"model":"demo","messages":[{"role":"user","content":"hello there"}]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	var answer struct {
		Choices []struct{ Message struct{ Content string } }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(answer.Choices[0].Message.Content)
	// Output: You said: “hello there”. I am Edge's demo provider and repeat what I hear, one word at a time.
}

// TestBadInput wants 400 with OpenAI's error in OpenAI's shape, and the same of Anthropic's where it applies.
func TestBadInput(t *testing.T) {
	s := start(t, demo.Config{})
	f := func(path, body, param, code, message string, header ...string) {
		t.Helper()
		status, h, text := post(t, s, path, body, header...)
		var got struct {
			Type  string
			Error struct{ Message, Type, Param, Code string }
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Errorf("%s: %q: %v", body, text, err)
			return
		}
		if path == messagesPath {
			got.Error.Param, got.Error.Code = param, code // Anthropic has none
			if got.Type != "error" {
				t.Errorf("%s: type %q in %s", body, got.Type, text)
			}
		}
		if status != 400 || got.Error.Type != "invalid_request_error" || got.Error.Param != param ||
			got.Error.Code != code || !strings.Contains(got.Error.Message, message) || h.Get("X-Request-Id") == "" {
			t.Errorf("%s: got %d %s, want 400 with param %q, code %q, %q", body, status, text, param, code, message)
		}
	}
	for _, path := range []string{chatPath, messagesPath, embeddingsPath} {
		for _, body := range []string{"", "{", "hello", `[]`, `"x"`, `{"model":"m"}}`, "{\"model\":\"\x00\"}"} {
			f(path, body, "", "", "could not parse the JSON body")
		}
		f(path, `{"model":7,"max_tokens":1}`, "model", "invalid_type", "expected a string, but got number instead")
		f(path, `{"max_tokens":1}`, "model", "missing_required_parameter", "'model'")
		f(path, `{"max_tokens":1,"model":null}`, "model", "missing_required_parameter", "'model'")
		f(path, `{"max_tokens":1,"model":"`+strings.Repeat("m", 257)+`"}`, "model", "string_above_max_length", "256")
	}
	for _, path := range []string{chatPath, messagesPath} {
		g := func(fields, param, code, message string) {
			t.Helper()
			f(path, `{"model":"m","max_tokens":1,`+fields+`}`, param, code, message)
		}
		g(`"x":1`, "messages", "missing_required_parameter", "'messages'")
		g(`"messages":null`, "messages", "missing_required_parameter", "'messages'")
		g(`"messages":[]`, "messages", "empty_array", "empty array")
		g(`"messages":"hi"`, "messages", "invalid_type", "expected an array, but got string")
		g(`"messages":[7]`, "messages", "invalid_type", "expected an object, but got number")
		g(`"messages":[{"content":"hi"}]`, "messages[0].role", "missing_required_parameter", "messages[0].role")
		g(`"messages":[{"role":"user","content":"hi"},{"role":"robot","content":"hi"}]`, "messages[1].role", "invalid_value", "robot")
		g(`"messages":[{"role":"user"}]`, "messages[0].content", "missing_required_parameter", "messages[0].content")
		g(`"messages":[{"role":"user","content":null}]`, "messages[0].content", "missing_required_parameter", "messages[0].content")
		g(`"messages":[{"role":"user","content":7}]`, "messages.content", "invalid_type", "expected a string, but got number")
		g(`"messages":[{"role":"user","content":{}}]`, "messages.content", "invalid_type", "expected a string, but got object")
		g(`"messages":[{"role":"user","content":[{"type":"text","text":7}]}]`, "messages.content.text", "invalid_type", "a string")
		g(`"stream":"yes","messages":[{"role":"user","content":"hi"}]`, "stream", "invalid_type", "expected a boolean, but got string")
		g(`"max_tokens":0,"messages":[{"role":"user","content":"hi"}]`, "max_tokens", "integer_below_min_value", ">= 1")
		g(`"max_tokens":1.5,"messages":[{"role":"user","content":"hi"}]`, "max_tokens", "invalid_type", "an integer")
	}
	f(chatPath, `{"model":"m","n":2,"messages":[]}`, "n", "integer_above_max_value", "<= 1, but got 2")
	f(chatPath, `{"model":"m","n":0,"messages":[]}`, "n", "integer_below_min_value", ">= 1, but got 0")
	f(chatPath, `{"model":"m","max_completion_tokens":-1}`, "max_completion_tokens", "integer_below_min_value", ">= 1")
	f(messagesPath, `{"model":"m","messages":[{"role":"user","content":"hi"}]}`, "", "", "'max_tokens'")
	f(messagesPath, `{"model":"m","max_tokens":1,"messages":[{"role":"system","content":"hi"}]}`, "", "", "user, assistant")
	f(messagesPath, `{"model":"m","max_tokens":1,"system":7}`, "", "", "expected a string, but got number")

	e := func(fields, param, code, message string) {
		t.Helper()
		f(embeddingsPath, `{"model":"m",`+fields+`}`, param, code, message)
	}
	e(`"x":1`, "input", "missing_required_parameter", "'input'")
	e(`"input":null`, "input", "missing_required_parameter", "'input'")
	e(`"input":[]`, "input", "invalid_array_length", "1 to 2048")
	e(`"input":["x"`+strings.Repeat(`,"x"`, 2048)+`]`, "input", "invalid_array_length", "got 2049")
	e(`"input":""`, "input", "empty_input", "input 0 is empty")
	e(`"input":["x",""]`, "input", "empty_input", "input 1 is empty")
	e(`"input":[[]]`, "input", "empty_input", "input 0 is empty")
	e(`"input":7`, "input", "invalid_type", "expected a string, but got number")
	e(`"input":["x",7]`, "input", "invalid_type", "expected a string, but got number")
	e(`"input":[7,"x"]`, "input", "invalid_type", "expected an integer, but got string")
	e(`"input":[[7],"x"]`, "input", "invalid_type", "expected an array, but got string")
	e(`"input":"x","dimensions":0`, "dimensions", "integer_below_min_value", ">= 1")
	e(`"input":"x","dimensions":4097`, "dimensions", "integer_above_max_value", "<= 4096")
	e(`"input":"x","encoding_format":"hex"`, "encoding_format", "invalid_value", "float, base64")

	h := func(name, value, message string) {
		t.Helper()
		f(chatPath, hello, name, "invalid_value", message, name, value)
	}
	h("X-Demo-Delay", "300", "a duration such as 300ms")
	h("X-Demo-Delay", "-1s", "0s to 1h")
	h("X-Demo-Delay", "61m", "0s to 1h")
	h("X-Demo-Tokens", "0", "1 to 1000000")
	h("X-Demo-Tokens", "1000001", "1 to 1000000")
	h("X-Demo-Tokens-Per-Second", "NaN", "0.001 to 1000000")
	h("X-Demo-Tokens-Per-Second", "1e-300", "0.001 to 1000000")
	h("X-Demo-Status", "200", "400 to 599")
	h("X-Demo-Status", "600", "400 to 599")
	h("X-Demo-Retry-After", strings.Repeat("9", 129), "at most 128 bytes")
}

// TestBodyOverTheLimit announces more than is taken; the answer must come before a byte of it is sent.
func TestBodyOverTheLimit(t *testing.T) {
	s := start(t, demo.Config{})
	conn := dial(t, s)
	write(t, conn, "POST %s HTTP/1.1\r\nHost: demo\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", chatPath, 128<<20+1)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 413 || !strings.Contains(string(text), "134217728") {
		t.Errorf("got %d %s, %v; want 413", resp.StatusCode, text, err)
	}
}

// TestBodyWithoutLength sends too much without saying how much it will be.
func TestBodyWithoutLength(t *testing.T) {
	req := newPost(t.Context(), chatPath, "")
	req.ContentLength, req.Body = -1, io.NopCloser(spaces{})
	w := &answer{header: http.Header{}}
	demo.New(demo.Config{}).ServeHTTP(w, req)
	if w.status != 413 {
		t.Errorf("status %d, want 413", w.status)
	}
}

// spaces is a body without end.
type spaces struct{}

func (spaces) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// TestStatusNamesItsError wants the type that the provider's SDKs know.
func TestStatusNamesItsError(t *testing.T) {
	s := start(t, demo.Config{})
	f := func(status int, openAI, anthropic string) {
		t.Helper()
		body := strings.Replace(hello, "{", `{"max_tokens":5,`, 1)
		for path, want := range map[string]string{chatPath: openAI, messagesPath: anthropic} {
			got, _, text := post(t, s, path, body, "X-Demo-Status", fmt.Sprint(status))
			if got != status || !strings.Contains(text, `"type":"`+want+`"`) {
				t.Errorf("%s: got %d %s, want %d %s", path, got, text, status, want)
			}
		}
	}
	f(400, "invalid_request_error", "invalid_request_error")
	f(401, "invalid_request_error", "authentication_error")
	f(403, "invalid_request_error", "permission_error")
	f(404, "invalid_request_error", "not_found_error")
	f(413, "invalid_request_error", "request_too_large")
	f(418, "invalid_request_error", "invalid_request_error")
	f(429, "requests", "rate_limit_error")
	f(500, "server_error", "api_error")
	f(503, "server_error", "api_error")
	f(504, "server_error", "timeout_error")
	f(529, "server_error", "overloaded_error")
}

// TestBrokenWriter wants an answer that cannot be written to be aborted and counted, whichever write fails.
func TestBrokenWriter(t *testing.T) {
	f := func(path, body string) {
		t.Helper()
		p, writes := demo.New(demo.Config{}), 0
		p.ServeHTTP(&brittle{answer{header: http.Header{}}, &writes, -1}, newPost(t.Context(), path, body))
		for fail := range writes {
			func() {
				defer func() {
					if got, _ := recover().(error); !errors.Is(got, http.ErrAbortHandler) {
						t.Errorf("%s: write %d of %d fails: panic %v, want http.ErrAbortHandler", path, fail, writes, got)
					}
				}()
				done := 0
				p.ServeHTTP(&brittle{answer{header: http.Header{}}, &done, fail}, newPost(t.Context(), path, body))
			}()
		}
		want := demo.Stats{Requests: int64(writes) + 1, MaxInFlight: 1, Cancelled: int64(writes)}
		got := p.Stats()
		got.MaxStreams = 0
		if got != want || writes < 2 {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
	f(chatPath, hello)
	f(chatPath, strings.Replace(hello, "{", `{"stream":true,"max_tokens":3,"stream_options":{"include_usage":true},`, 1))
	f(messagesPath, strings.Replace(hello, "{", `{"stream":true,"max_tokens":3,`, 1))
	f(embeddingsPath, `{"model":"m","input":["a","b","c","d","e"],"dimensions":4096}`)
	f(chatPath, `{}`)
}

// brittle fails from one write on.
type brittle struct {
	answer
	writes *int
	fail   int
}

func (b *brittle) Write(p []byte) (int, error) {
	*b.writes++
	if b.fail >= 0 && *b.writes > b.fail {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

func (b *brittle) Flush() {}

func TestStartReportsAnAddressInUse(t *testing.T) {
	s := start(t, demo.Config{})
	if second, err := demo.Start(strings.TrimPrefix(s.URL, "http://"), demo.Config{}); err == nil {
		second.Close()
		t.Error("no error")
	}
}

func TestValidateReportsAllFaults(t *testing.T) {
	c := demo.Config{
		Delay: -1, TokensPerSecond: math.NaN(), Tokens: 1_000_001, ErrorRate: 1.1, ErrorStatus: 302,
		RequestsPerMinute: -1, TokensPerMinute: 100_000_001,
	}
	err := c.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{"Delay", "TokensPerSecond", "Tokens:", "ErrorRate", "ErrorStatus", "RequestsPerMinute", "TokensPerMinute"} {
		if !strings.Contains(err.Error(), "demo: "+field) {
			t.Errorf("%s is missing in %q", field, err)
		}
	}
	if _, err := demo.Start("", c); err == nil {
		t.Error("Start takes it")
	}
	defer func() {
		if recover() == nil {
			t.Error("New takes it")
		}
	}()
	demo.New(c)
}

func TestErrorRate(t *testing.T) {
	const calls = 2000
	run := func(c demo.Config, status int) (failed string) {
		p, n := demo.New(c), 0
		for i := range calls {
			w := &answer{header: http.Header{}}
			p.ServeHTTP(w, newPost(t.Context(), chatPath, hello))
			if w.status == status {
				failed += fmt.Sprint(i, " ")
				n++
			} else if w.status != 200 {
				t.Fatalf("status %d, want 200 or %d", w.status, status)
			}
		}
		if share := float64(n) / calls; math.Abs(share-c.ErrorRate) > 0.03 { // three sigma
			t.Errorf("%d of %d failed, want %v", n, calls, c.ErrorRate)
		}
		return failed
	}
	first := run(demo.Config{ErrorRate: 0.3, Seed: 1}, 500)
	if run(demo.Config{ErrorRate: 0.3, Seed: 1, ErrorStatus: 529}, 529) != first {
		t.Error("the same seed fails other requests")
	}
	if run(demo.Config{ErrorRate: 0.3, Seed: 2}, 500) == first {
		t.Error("another seed fails the same requests")
	}
	run(demo.Config{ErrorRate: 1}, 500)
	run(demo.Config{ErrorRate: 0}, 500)
}

// TestInFlightEndsBeforeTheAnswerDoes looks at the count whenever bytes go out: a caller that sends again once it
// has seen the end must not be counted twice, and one that has not seen it must be counted.
func TestInFlightEndsBeforeTheAnswerDoes(t *testing.T) {
	f := func(path, body string) {
		t.Helper()
		p := demo.New(demo.Config{})
		w := &watcher{answer: answer{header: http.Header{}}, p: p}
		p.ServeHTTP(w, newPost(t.Context(), path, body))
		if n := len(w.seen); n < 2 || slices.Contains(w.seen[:n-1], demo.Stats{}) || w.seen[n-1] != (demo.Stats{}) {
			t.Errorf("%s %s: in flight at each write %v, want some and at the last one none", path, body, w.seen)
		}
	}
	f(chatPath, hello)
	f(chatPath, strings.Replace(hello, "{", `{"stream":true,`, 1))
	f(chatPath, strings.Replace(hello, "{", `{"stream":true,"stream_options":{"include_usage":true},`, 1))
	f(messagesPath, strings.Replace(hello, "{", `{"max_tokens":5,`, 1))
	f(messagesPath, strings.Replace(hello, "{", `{"stream":true,"max_tokens":5,`, 1))
	f(embeddingsPath, `{"model":"m","input":"a"}`)
	f(embeddingsPath, `{"model":"m","input":["a","b","c","d","e"],"dimensions":4096}`)
	f(chatPath, `{}`)
}

// watcher notes what is in flight at each write.
type watcher struct {
	answer
	p    *demo.Provider
	seen []demo.Stats
}

func (w *watcher) Write(b []byte) (int, error) {
	s := w.p.Stats()
	w.seen = append(w.seen, demo.Stats{InFlight: s.InFlight, Streams: s.Streams})
	return len(b), nil
}

func (w *watcher) Flush() {}

// TestCloseCutsStreams wants a stream that Close interrupts to break, not to end.
func TestCloseCutsStreams(t *testing.T) {
	s, err := demo.Start("", demo.Config{TokensPerSecond: 0.001})
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, s)
	idle := dial(t, s) // never sends a request
	body := strings.Replace(hello, "{", `{"stream":true,`, 1)
	write(t, conn, "POST %s HTTP/1.1\r\nHost: demo\r\nContent-Length: %d\r\n\r\n%s", chatPath, len(body), body)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(s.Close)
	}
	wg.Wait()
	stacks := make([]byte, 1<<20)
	if stacks = stacks[:runtime.Stack(stacks, true)]; strings.Contains(string(stacks), "(*Provider).ServeHTTP") {
		t.Errorf("a request is still served:\n%s", stacks)
	}
	text, err := io.ReadAll(resp.Body)
	if err == nil || strings.Contains(string(text), "DONE") {
		t.Errorf("the stream ended with %q, %v; want an error", text, err)
	}
	if _, err := idle.Read(make([]byte, 1)); err == nil {
		t.Error("an idle connection is still open")
	}
	want := demo.Stats{Requests: 1, MaxInFlight: 1, MaxStreams: 1, Cancelled: 1}
	if got := s.Provider.Stats(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if _, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://")); err == nil {
		t.Error("still listening")
	}
}

// TestLostCallerOverSockets is TestCancelledRequestStopsAtOnce through the kernel, with a body that net/http
// reads ahead of the handler and one that it does not.
func TestLostCallerOverSockets(t *testing.T) {
	s := start(t, demo.Config{Delay: time.Hour})
	for i, size := range []int{1, 1 << 20} {
		conn := dial(t, s)
		body := strings.Replace(hello, "hello there", strings.Repeat("x", size), 1)
		write(t, conn, "POST %s HTTP/1.1\r\nHost: demo\r\nContent-Length: %d\r\n\r\n%s", chatPath, len(body), body)
		until(t, "the request is in flight", func() bool { return s.Provider.Stats().InFlight == 1 })
		_ = conn.Close()
		until(t, "it is cancelled", func() bool {
			got := s.Provider.Stats()
			return got.InFlight == 0 && got.Cancelled == int64(i+1)
		})
	}
}

func write(t *testing.T, conn net.Conn, format string, args ...any) {
	t.Helper()
	if _, err := fmt.Fprintf(conn, format, args...); err != nil {
		t.Fatal(err)
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); runtime.Gosched() {
		if time.Since(start) > 5*time.Second {
			t.Fatalf("after 5s it is not so that %s", what)
		}
	}
}
