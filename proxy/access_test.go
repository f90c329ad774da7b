package proxy_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

const patienceOfTests = 5 * time.Second

// lines keeps what is written to it, a line a Write.
type lines struct {
	mu   sync.Mutex
	all  []string
	hold chan struct{} // nil: Write does not wait
}

func (l *lines) Write(p []byte) (int, error) {
	if l.hold != nil {
		<-l.hold
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(p))
	return len(p), nil
}

// wait returns the lines once there are so many.
func (l *lines) wait(t *testing.T, n int) []string {
	t.Helper()
	var all []string
	if !eventually(func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		all = l.all
		return len(all) >= n
	}) {
		t.Fatalf("got %d lines, want %d: %q", len(all), n, all)
	}
	for _, line := range all {
		if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
			t.Errorf("not one line: %q", line)
		}
	}
	return all
}

// accessLogged is a configuration with an access log.
func accessLogged(base, format string, to io.Writer, change ...func(*proxy.Config, *proxy.Provider)) proxy.Config {
	return one(base, append(change, func(c *proxy.Config, _ *proxy.Provider) { c.AccessLog, c.AccessFormat = to, format })...)
}

func TestAccessLogSaysWhatBecameOfEachRequest(t *testing.T) {
	up := saying(t)
	var log lines
	e := start(t, accessLogged(up, "", &log, func(c *proxy.Config, _ *proxy.Provider) {
		c.TrustedProxies = []string{"127.0.0.0/8"}
	}))
	c := client(t)
	n := 0
	f := func(want map[string]any, method, path, body string, header ...string) {
		t.Helper()
		n++
		call(t, c, method, e.url+path, body, append(header, "X-Request-Id", "r1", "X-Forwarded-For", "192.0.2.7")...)
		line := log.wait(t, n)[n-1]
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		at, err := time.Parse("2006-01-02T15:04:05.000Z", got["time"].(string))
		if err != nil || time.Since(at) > time.Minute || time.Since(at) < 0 {
			t.Errorf("time %v: %v", got["time"], err)
		}
		for _, key := range []string{"duration_seconds", "queue_seconds"} {
			if v, ok := got[key].(float64); !ok || v < 0 || v > 60 {
				t.Errorf("%s: got %v", key, got[key])
			}
		}
		_, first := got["first_byte_seconds"]
		if asked := want["provider"] == "up"; first != asked {
			t.Errorf("first_byte_seconds is there: %v, want %v", first, asked)
		}
		for _, key := range []string{"time", "duration_seconds", "queue_seconds", "first_byte_seconds"} {
			delete(got, key)
		}
		want["request_id"], want["caller"], want["method"] = "r1", "192.0.2.7", method
		if first {
			want["attempts"] = 1
		}
		for key := range want {
			if v, ok := want[key].(int); ok {
				want[key] = float64(v)
			}
			if got[key] != want[key] {
				t.Errorf("%s: got %v, want %v", key, got[key], want[key])
			}
		}
		for key := range got {
			if _, ok := want[key]; !ok {
				t.Errorf("got %s %v, too", key, got[key])
			}
		}
	}
	const usage = `{"usage":{"prompt_tokens":10,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4}}}`
	f(map[string]any{
		"path": "/v1/chat", "provider": "up", "model": "m", "status": 200, "request_bytes": 13, "response_bytes": len(usage),
		"input_tokens": 6, "cached_input_tokens": 4, "output_tokens": 3,
	}, http.MethodPost, "/v1/chat?q=secret", `{"model":"m"}`, "Say", usage, "Say-Type", typeJSON)
	f(map[string]any{"path": "/up/a%20b", "provider": "up", "status": 200, "request_bytes": 0, "response_bytes": 2},
		http.MethodGet, "/up/a%20b", "", "Say", "{}", "Say-Type", typeJSON)
	body := `{"error":{"message":"no route matches; there are /v1/*, /up/*","type":"invalid_request_error","code":"not_found","param":null}}` + "\n"
	f(map[string]any{"path": "/else", "provider": "none", "status": 404, "reason": "not_found", "request_bytes": 0, "response_bytes": len(body)},
		http.MethodGet, "/else", "")
	f(map[string]any{"path": "/", "provider": "none", "status": 200, "request_bytes": 0, "response_bytes": 119}, http.MethodGet, "/", "")
}

func TestAccessLogInCommonFormat(t *testing.T) {
	up := saying(t)
	var log lines
	e := start(t, accessLogged(up, "common", &log))
	call(t, client(t), http.MethodPost, e.url+"/up/v1/x?key=secret", "{}", "Say", "{}", "Say-Type", typeJSON)
	call(t, client(t), http.MethodGet, e.url+"/up/%22x", "", "Say", "", "Say-Type", typeJSON)
	_, reader := raw(t, e.url, "GET /up/\"\xff\\ HTTP/1.1\r\nHost: x\r\n\r\n")
	next(t, reader)
	got := log.wait(t, 3)
	for i, want := range []string{`"POST /up/v1/x HTTP/1.1" 200 2`, `"GET /up/%22x HTTP/1.1" 200 -`, `"GET /up/\"\xff\\ HTTP/1.1" 200 -`} {
		if !regexp.MustCompile(`^127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] ` + regexp.QuoteMeta(want) + `\n$`).MatchString(got[i]) {
			t.Errorf("got %q, want %s", got[i], want)
		}
	}
}

// Callers show credentials in four forms, to tokens of Edge's and to none, and in bodies.
func TestAccessLogHoldsNoCredentials(t *testing.T) {
	const secret = "sk-very-secret"
	up := saying(t)
	for _, format := range []string{"json", "common"} {
		for _, tokens := range [][]proxy.Token{nil, {{Value: secret}}} {
			var log lines
			e := start(t, accessLogged(up, format, &log, func(c *proxy.Config, p *proxy.Provider) {
				c.Auth.Tokens = tokens
				p.Keys = []proxy.Key{{Name: "k", Value: "sk-very-secret-too", Weight: 1}}
			}))
			n := 0
			for _, path := range []string{"/up/x", "/v1/x", "/else", "/", "/up", "//up/x"} {
				for _, query := range []string{"", "?key=" + secret, "?a=%3F&k%65y=" + secret, "?&?key=" + secret} {
					for _, field := range []string{"Authorization", "X-Api-Key", "Api-Key", "Cookie"} {
						value := secret
						if field == "Authorization" {
							value = "Bearer " + secret
						}
						call(t, client(t), http.MethodPost, e.url+path+query, `{"model":"m","a":"`+secret+`"}`, field, value, "Say", `{"id":"`+secret+`"}`, "Say-Type", typeJSON)
						n++
					}
				}
			}
			for _, target := range []string{"http://user:" + secret + "@x?key=" + secret, "http://user:" + secret + "@x/up/x?key=" + secret, "http://x/up/x?u=http://" + secret} {
				_, reader := raw(t, e.url, "GET "+target+" HTTP/1.1\r\nHost: x\r\nSay: "+secret+"\r\n\r\n")
				next(t, reader)
				n++
			}
			for _, line := range log.wait(t, n) {
				if strings.Contains(line, "sk-") {
					t.Errorf("a credential is in %q", line)
				}
			}
		}
	}
}

// A log that nobody reads loses lines, and stops nobody.
func TestAccessLogThatStandsStillStopsNobody(t *testing.T) {
	up := provider(t, func(http.ResponseWriter, *http.Request) {})
	log := lines{hold: make(chan struct{})}
	p, err := proxy.New(accessLogged(up, "json", &log))
	if err != nil {
		t.Fatal(err)
	}
	const waiting, more = 4096, 100
	for range waiting + more {
		p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/else", nil))
	}
	e := &edge{Proxy: p, t: t}
	lost := e.sum("edge_access_log_dropped_total")
	if lost < more-1 || lost > more { // the line that is being written waits no more
		t.Errorf("got %v lines dropped, want %d or one less", lost, more)
	}
	close(log.hold)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got := float64(len(log.wait(t, 0))) + lost; got != waiting+more {
		t.Errorf("got %v lines, dropped ones included, want %d: Close writes what is left", got, waiting+more)
	}
}

// A line cannot be forged, whatever stands in a path or a model.
func TestAccessLogLinesCannotBeForged(t *testing.T) {
	up := saying(t)
	for _, format := range []string{"json", "common"} {
		var log lines
		e := start(t, accessLogged(up, format, &log))
		for _, path := range []string{"/up/\x1b[31m", "/up/\"}", "/up/\xc2\x9b31m", "/up/" + strings.Repeat("\xf0", 5000)} {
			conn, reader := raw(t, e.url, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
			_, _ = io.Copy(io.Discard, io.LimitReader(reader, 1))
			conn.Close()
		}
		call(t, client(t), http.MethodPost, e.url+"/v1/x", `{"model":"m\n\u001b\u0000\"`+strings.Repeat("é", 200)+`"}`, "Say", "{}", "Say-Type", typeJSON)
		_ = eventually(func() bool { return e.sum("edge_requests_total") >= 4 })
		for _, line := range log.wait(t, 4) {
			var got map[string]any
			if format == "json" && json.Unmarshal([]byte(line), &got) != nil {
				t.Errorf("no JSON: %q", line)
			}
			if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\ufffd' }) {
				t.Errorf("%s: control characters in %q", format, line)
			}
			if len(line) > 8<<10 {
				t.Errorf("a line of %d bytes", len(line))
			}
		}
	}
}

// A caller that left has a line that says where.
func TestAccessLogSaysWhereACallerLeft(t *testing.T) {
	asked := make(chan struct{})
	up := provider(t, func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	})
	var log lines
	e := start(t, accessLogged(up, "json", &log))
	ctx, leave := context.WithCancel(context.Background())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url+"/up/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-asked; leave() }()
	if _, err := client(t).Do(request); err == nil { //nolint:bodyclose // there is none
		t.Fatal("got an answer")
	}
	if line := log.wait(t, 1)[0]; !strings.Contains(line, `"status":499,"stage":"waiting"`) {
		t.Errorf("got %s", line)
	}
}

func TestAccessFormatIsOneOfTwo(t *testing.T) {
	c := accessLogged("http://127.0.0.1:1", "combined", io.Discard)
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), `AccessFormat: got "combined", want json, common`) {
		t.Errorf("got %v", err)
	}
}
