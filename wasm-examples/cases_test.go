package examples_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A testCase is one exchange through a plugin, as README.md describes its file.
type testCase struct {
	name         string
	config       string // JSON; empty means that of edge.json
	request      message
	upstream     message
	wantRequest  *message // nil if it does not matter
	wantNone     bool     // the upstream must not be reached
	wantResponse *message
	wantLog      []string
}

// message is a request or an answer as text.
type message struct {
	first   string   // request line or status line
	headers []string // "Name: value", or "!Name" for one that must not be there
	body    string   // "*" is any
}

const defaultAnswer = "HTTP/1.1 200 OK\nContent-Type: application/json\n\n{\"ok\":true}\n"

// readCases returns the cases of an example.
func readCases(t testing.TB, example string) []testCase {
	t.Helper()
	files, err := fs.Glob(folder, example+"/cases/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no cases: %v", example, err)
	}
	var cases []testCase
	for _, file := range files {
		data, err := fs.ReadFile(folder, file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := parseCase(string(data))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		c.name = strings.TrimSuffix(path.Base(file), ".txtar")
		cases = append(cases, c)
	}
	return cases
}

func parseCase(text string) (testCase, error) {
	c := testCase{upstream: parseMessage(defaultAnswer)}
	section, content := "", ""
	finish := func() error {
		switch section {
		case "": // what comes before the first section is a comment
		case "config.json":
			if c.config = content; !json.Valid([]byte(content)) {
				return errors.New("config.json is not JSON")
			}
		case "request":
			c.request = parseMessage(content)
		case "upstream":
			c.upstream = parseMessage(content)
		case "want.request":
			if c.wantNone = content == "none\n"; !c.wantNone {
				m := parseMessage(content)
				c.wantRequest = &m
			}
		case "want.response":
			m := parseMessage(content)
			c.wantResponse = &m
		case "want.log":
			c.wantLog = strings.Split(strings.TrimSuffix(content, "\n"), "\n")
		default:
			return fmt.Errorf("no section is called %q", section)
		}
		return nil
	}
	for line := range strings.Lines(text) {
		name, marked := strings.CutPrefix(line, "-- ")
		if name, closed := strings.CutSuffix(name, " --\n"); marked && closed {
			if err := finish(); err != nil {
				return c, err
			}
			section, content = name, ""
			continue
		}
		content += line
	}
	if err := finish(); err != nil {
		return c, err
	}
	if c.request.first == "" || c.wantResponse == nil {
		return c, errors.New("want a request and a want.response")
	}
	return c, nil
}

// parseMessage reads a head and, after a blank line, a body, whose last line feed is not part of it.
func parseMessage(text string) message {
	head, body, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(strings.TrimSuffix(head, "\n"), "\n")
	return message{first: lines[0], headers: lines[1:], body: strings.TrimSuffix(body, "\n")}
}

// check compares what came with what is wanted.
func (m *message) check(first string, header http.Header, body string) error {
	if first != m.first {
		return fmt.Errorf("got %q, want %q", first, m.first)
	}
	for _, line := range m.headers {
		if absent, ok := strings.CutPrefix(line, "!"); ok {
			if values := header.Values(absent); len(values) > 0 {
				return fmt.Errorf("%s: got %q, want none", absent, values)
			}
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		if value = strings.TrimSpace(value); !slices.Contains(header.Values(name), value) {
			return fmt.Errorf("%s: got %q, want %q", name, header.Values(name), value)
		}
	}
	if m.body != "*" && body != m.body {
		return fmt.Errorf("body: got\n%q, want\n%q", body, m.body)
	}
	return nil
}

// caseUpstream is the provider of all cases: it answers each exchange as its case says, and keeps what it saw.
type caseUpstream struct {
	*httptest.Server
	last    atomic.Int64
	answers sync.Map // exchange -> message
	seen    sync.Map // exchange -> func(message) error
}

// exchangeHeader tells exchanges apart that are under way together.
const exchangeHeader = "Case-Exchange"

func startUpstream(t *testing.T) *caseUpstream {
	t.Helper()
	u := &caseUpstream{}
	u.Server = httptest.NewServer(u)
	t.Cleanup(u.Close)
	return u
}

// send is what a guest host reaches the upstream by.
func (u *caseUpstream) send(r *http.Request) (*http.Response, error) {
	r.URL.Host = u.Listener.Addr().String()
	return u.Client().Transport.RoundTrip(r)
}

func (u *caseUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	exchange := r.Header.Get(exchangeHeader)
	body, err := io.ReadAll(r.Body)
	header := r.Header.Clone()
	header.Set("Host", r.Host)
	u.seen.Store(exchange, func(want *message) error {
		if err != nil {
			return err
		}
		return want.check(r.Method+" "+r.RequestURI+" "+r.Proto, header, string(body))
	})
	answer, ok := u.answers.Load(exchange)
	if !ok {
		w.WriteHeader(http.StatusTeapot)
		return
	}
	m := answer.(message)
	for _, line := range m.headers {
		name, value, _ := strings.Cut(line, ":")
		w.Header().Add(name, strings.TrimSpace(value))
	}
	status, _ := strconv.Atoi(m.status())
	w.WriteHeader(status)
	_, _ = io.WriteString(w, m.body)
}

// exchange sends a case's request to a listener, its body whole or in small chunks, and compares what comes.
func (u *caseUpstream) exchange(c testCase, address string, split bool) error {
	id := strconv.FormatInt(u.last.Add(1), 10)
	u.answers.Store(id, c.upstream)
	conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	for _, piece := range c.wire(id, split) {
		if _, err := io.WriteString(conn, piece); err != nil {
			return err
		}
	}
	method, _, _ := strings.Cut(c.request.first, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if err := c.wantResponse.check(resp.Proto+" "+resp.Status, resp.Header, string(body)); err != nil {
		return fmt.Errorf("response: %w", err)
	}
	seen, reached := u.seen.Load(id)
	switch {
	case c.wantNone && reached:
		return errors.New("request: the upstream was reached")
	case c.wantRequest != nil && !reached:
		return errors.New("request: the upstream was not reached")
	case c.wantRequest != nil:
		if err := seen.(func(*message) error)(c.wantRequest); err != nil {
			return fmt.Errorf("request: %w", err)
		}
	}
	return nil
}

// status is that of an answer; empty if it has none.
func (m *message) status() string {
	_, rest, _ := strings.Cut(m.first, " ")
	status, _, _ := strings.Cut(rest, " ")
	return status
}

// failing reports whether edge takes an answer for that of a provider that is down. It asks such a one no more after five of
// these in a row.
func (m *message) failing() bool {
	switch m.status() {
	case "500", "502", "503", "504", "529":
		return true
	}
	return false
}

// recover has the upstream of a case that fails serve a request, so that edge does not take it for down.
func (u *caseUpstream) recover(t *testing.T, c testCase, address string) {
	t.Helper()
	if c.wantNone || !c.upstream.failing() {
		return
	}
	well := testCase{
		request: parseMessage("GET /demo/well HTTP/1.1"), upstream: parseMessage(defaultAnswer),
		wantRequest: &message{first: "GET /well HTTP/1.1", body: "*"}, wantResponse: &message{first: "HTTP/1.1 200 OK", body: "*"},
	}
	if err := u.exchange(well, address, false); err != nil {
		t.Errorf("a request that goes well: %v", err)
	}
}

// wire returns the request as it is sent, in one piece or in many. Host and Content-Length are added if they are missing.
func (c testCase) wire(id string, split bool) []string {
	has := func(name string) bool {
		return slices.ContainsFunc(c.request.headers, func(line string) bool { return strings.HasPrefix(line, name+":") })
	}
	head := c.request.first + "\r\n"
	if !has("Host") {
		head += "Host: edge.test\r\n"
	}
	for _, line := range c.request.headers {
		head += line + "\r\n"
	}
	head += exchangeHeader + ": " + id + "\r\n"
	if c.upstream.status() == "429" { // edge would hold back the next request with the same key
		head += "Api-Key: key-" + id + "\r\n"
	}
	body := c.request.body
	switch {
	case body == "" && strings.HasPrefix(c.request.first, "GET "):
		return []string{head + "\r\n"}
	case !split:
		return []string{head + "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body}
	}
	pieces := []string{head + "Transfer-Encoding: chunked\r\n\r\n"}
	for size := 1; body != ""; size = size%7 + 1 {
		size = min(size, len(body))
		pieces = append(pieces, fmt.Sprintf("%x\r\n%s\r\n", size, body[:size]))
		body = body[size:]
	}
	return append(pieces, "0\r\n\r\n")
}

// output keeps what is written to it, by many at once.
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
