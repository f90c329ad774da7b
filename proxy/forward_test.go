package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// bare is an upstream that shows the request as it came over the wire and answers with the given bytes.
func bare(t *testing.T, answer string) (url string, requests <-chan string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			reader := bufio.NewReader(conn)
			var head strings.Builder
			length := 0
			for {
				line, err := reader.ReadString('\n')
				if err != nil || line == "\r\n" {
					break
				}
				head.WriteString(line)
				if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "content-length") {
					_, _ = fmt.Sscan(value, &length)
				}
			}
			body := make([]byte, length)
			_, _ = io.ReadFull(reader, body)
			seen <- head.String() + "\r\n" + string(body)
			_, _ = io.WriteString(conn, answer)
			conn.Close()
		}
	}()
	t.Cleanup(func() { listener.Close(); <-done })
	return "http://" + listener.Addr().String(), seen
}

const plainOK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

func TestTargetIsForwardedByteForByte(t *testing.T) {
	f := func(base, target, want string) {
		t.Helper()
		up, seen := bare(t, plainOK)
		e := start(t, one(up+base))
		conn, reader := raw(t, e.url, "GET "+target+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		defer conn.Close()
		if answer, body := next(t, reader); answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: got %d %s", target, answer.StatusCode, body)
		}
		line, _, _ := strings.Cut(<-seen, "\r\n")
		if line != "GET "+want+" HTTP/1.1" {
			t.Errorf("%s: got %q, want %q", target, line, want)
		}
	}
	f("", "/up/v1/x?a=b&c", "/v1/x?a=b&c")
	f("", "/up", "/")
	f("", "/up?q", "/?q")
	f("", "/up/", "/")
	f("", "/up/a?", "/a?")
	f("", "/up/a;b=c/%2F%2f/ü/|^\"{}?x=%zz&y=a+b&&=;", "/a;b=c/%2F%2f/ü/|^\"{}?x=%zz&y=a+b&&=;")
	f("", "/up//host/x", "//host/x")
	f("", "/up//host/x?y=//z", "//host/x?y=//z")
	f("", "/up//host/a|b", "//host/a|b")
	f("", "/up/../a/./b", "/../a/./b")
	f("/base/v9", "/up/x", "/base/v9/x")
	f("/base", "/up//x", "/base//x")
	f("", "http://somewhere.example/up/x?y", "/x?y")
}

func TestFieldsThatGoUpstream(t *testing.T) {
	up, seen := bare(t, plainOK)
	e := start(t, one(up, func(_ *proxy.Config, p *proxy.Provider) { p.ExtraHeaders = map[string]string{"x-team": "blue"} }))
	_, reader := raw(t, e.url, strings.Join([]string{
		"POST /up/x HTTP/1.1", "Host: edge.example", "Content-Length: 4", "Connection: close, X-Named", "X-Named: 1",
		"Keep-Alive: timeout=5", "Proxy-Authorization: Basic x", "TE: trailers, deflate", "X-Forwarded-For: 1.2.3.4",
		"X-Forwarded-Proto: https", "Forwarded: for=1.2.3.4", "X-Real-IP: 1.2.3.4", "Via: 1.0 other", "X-Team: red",
		"Traceparent: 00-aa-bb-01", "X-Request-Id: mine", "X-Twice: a", "X-Twice: b", "Accept: */*", "", "body",
	}, "\r\n"))
	answer, _ := next(t, reader)
	if got := answer.Header.Get("X-Edge-Request-Id"); got != "mine" {
		t.Errorf("X-Edge-Request-Id: got %q, want the caller's", got)
	}
	got := <-seen
	request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(got)))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"X-Named", "Keep-Alive", "Proxy-Authorization", "X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "X-Real-Ip", "User-Agent", "Accept-Encoding", "X-Edge-Request-Id"} {
		if values, has := request.Header[name]; has {
			t.Errorf("%s went upstream: %q", name, values)
		}
	}
	want := map[string]string{"X-Team": "blue", "Traceparent": "00-aa-bb-01", "X-Request-Id": "mine", "Te": "trailers", "Accept": "*/*", "Content-Length": "4"}
	for name, value := range want {
		if values := request.Header[name]; len(values) != 1 || values[0] != value {
			t.Errorf("%s: got %q, want %q", name, values, value)
		}
	}
	if values := request.Header["X-Twice"]; len(values) != 2 || values[0] != "a" || values[1] != "b" {
		t.Errorf("X-Twice: got %q", values)
	}
	if via := request.Header.Get("Via"); !strings.HasPrefix(via, "1.0 other, 1.1 edge-") {
		t.Errorf("Via: got %q", via)
	}
	if request.Host != strings.TrimPrefix(up, "http://") {
		t.Errorf("Host: got %q", request.Host)
	}
	if !strings.HasSuffix(got, "\r\n\r\nbody") {
		t.Errorf("body: got %q", got)
	}
}

func TestFieldsThatComeBack(t *testing.T) {
	up, _ := bare(t, "HTTP/1.1 207 Fancy\r\nConnection: close, X-Named\r\nX-Named: 1\r\nKeep-Alive: x\r\nX-Request-Id: theirs\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Edge-Request-Id: forged\r\nContent-Length: 3\r\n\r\n\x00\xff!")
	e := start(t, one(up))
	answer, body := call(t, client(t), "GET", e.url+"/up/", "", "X-Request-Id", strings.Repeat("x", 129))
	if answer.StatusCode != 207 || body != "\x00\xff!" {
		t.Errorf("got %d %q", answer.StatusCode, body)
	}
	for _, name := range []string{"X-Named", "Keep-Alive", "Content-Type"} {
		if values, has := answer.Header[name]; has {
			t.Errorf("%s came back: %q", name, values)
		}
	}
	if answer.Header.Get("X-Request-Id") != "theirs" || len(answer.Header["Set-Cookie"]) != 2 {
		t.Errorf("got %v", answer.Header)
	}
	if ids := answer.Header["X-Edge-Request-Id"]; len(ids) != 1 || ids[0] == "forged" || len(ids[0]) > 128 {
		t.Errorf("X-Edge-Request-Id: got %q", ids)
	}
}

func TestHeadKeepsContentLength(t *testing.T) {
	e := start(t, one(provider(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "12345") })))
	answer, body := call(t, client(t), "HEAD", e.url+"/up/", "")
	if answer.ContentLength != 12345 || body != "" {
		t.Errorf("got length %d, body %q", answer.ContentLength, body)
	}
	answer, _ = call(t, client(t), "HEAD", e.url+"/nothing", "")
	if answer.StatusCode != http.StatusNotFound {
		t.Errorf("got %d", answer.StatusCode)
	}
}

func TestNoContentAndNotModified(t *testing.T) {
	for _, status := range []int{http.StatusNoContent, http.StatusNotModified} {
		e := start(t, one(provider(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })))
		if answer, body := call(t, client(t), "GET", e.url+"/up/", ""); answer.StatusCode != status || body != "" {
			t.Errorf("got %d %q, want %d", answer.StatusCode, body, status)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	e := start(t, one(provider(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/else", http.StatusFound) })))
	if answer, _ := call(t, client(t), "GET", e.url+"/up/", ""); answer.StatusCode != http.StatusFound || answer.Header.Get("Location") != "/else" {
		t.Errorf("got %d %v", answer.StatusCode, answer.Header)
	}
}

func TestBodiesOfAllSizesBothWays(t *testing.T) {
	e := start(t, one(provider(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.URL.Path == "/long" {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		}
		_, _ = w.Write(body)
	})))
	c := client(t)
	for _, size := range []int{1, 100, 16<<10 - 1, 16 << 10, 16<<10 + 1, 64 << 10, 1 << 20, 5<<20 + 7} {
		data := make([]byte, size)
		_, _ = rand.Read(data)
		for _, path := range []string{"/up/long", "/up/chunked", "/v1/echo"} {
			if path != "/v1/echo" || size <= 1<<20 {
				for _, chunked := range []bool{false, true} {
					var body io.Reader = bytes.NewReader(data)
					if chunked {
						body = io.MultiReader(body)
					}
					request, _ := http.NewRequestWithContext(t.Context(), "POST", e.url+path, body)
					answer, err := c.Do(request)
					if err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(answer.Body)
					answer.Body.Close()
					if err != nil || !bytes.Equal(got, data) {
						t.Errorf("%s %d bytes chunked=%v: got %d bytes, %v, status %d", path, size, chunked, len(got), err, answer.StatusCode)
					}
				}
			}
		}
	}
}

func TestEventsAreFlushedAsTheyArrive(t *testing.T) {
	step := make(chan struct{})
	e := start(t, one(provider(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/sized":
			w.Header().Set("Content-Length", "6")
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
		}
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		for i := range 3 {
			select {
			case <-step:
			case <-r.Context().Done():
				return
			}
			fmt.Fprintf(w, "%d\n", i)
			w.(http.Flusher).Flush()
		}
	})))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, path := range []string{"/up/events", "/up/chunked", "/up/sized"} {
		request, _ := http.NewRequestWithContext(ctx, "GET", e.url+path, nil)
		if path == "/up/sized" { // its head goes with the first bytes
			go func() { step <- struct{}{} }()
		}
		answer, err := client(t).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		reader := bufio.NewReader(answer.Body)
		for i := range 3 {
			if path != "/up/sized" || i > 0 {
				step <- struct{}{}
			}
			if line, err := reader.ReadString('\n'); err != nil || line != fmt.Sprintf("%d\n", i) {
				t.Errorf("%s: got %q, %v", path, line, err)
			}
		}
		answer.Body.Close()
	}
}

func TestTrailersBothWays(t *testing.T) {
	e := start(t, one(provider(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "content")
		w.Header().Set("X-Sum", "of "+r.Trailer.Get("X-Client-Sum"))
		w.Header().Set(http.TrailerPrefix+"X-Late", "unannounced")
	})))
	for _, size := range []int{10, 100 << 10} {
		request, _ := http.NewRequestWithContext(t.Context(), "POST", e.url+"/up/", io.MultiReader(strings.NewReader(strings.Repeat("x", size))))
		request.Trailer = http.Header{"X-Client-Sum": {"42"}}
		request.Header.Set("TE", "trailers")
		answer, err := client(t).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if answer.Trailer.Get("X-Sum") != "of 42" || answer.Trailer.Get("X-Late") != "unannounced" {
			t.Errorf("%d bytes: got trailers %v", size, answer.Trailer)
		}
	}
}

func TestEarlyHintsPass(t *testing.T) {
	e := start(t, one(provider(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "done")
	})))
	var hints []string
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		hints = append(hints, fmt.Sprint(code, h.Get("Link"), h.Get("X-Edge-Request-Id")))
		return nil
	}}
	request, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", e.url+"/up/", nil)
	answer, err := client(t).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if len(hints) != 1 || hints[0] != "103</style.css>" || answer.Header.Get("Link") != "" || answer.StatusCode != http.StatusOK {
		t.Errorf("got hints %q, then %d %v", hints, answer.StatusCode, answer.Header)
	}
}

func TestExpectContinueGoesToTheProvider(t *testing.T) {
	e := start(t, one(provider(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%d %s", len(body), r.Header.Get("Expect"))
	})))
	f := func(path string, wantFirst string) {
		t.Helper()
		conn, reader := raw(t, e.url, "POST "+path+" HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
		line, err := reader.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, wantFirst) {
			t.Fatalf("%s: got %q, %v, want %q", path, line, err, wantFirst)
		}
		if strings.Contains(wantFirst, "100") {
			_, _ = reader.ReadString('\n')
			_, _ = io.WriteString(conn, "hello")
			if _, body := next(t, reader); body != "5 100-continue" {
				t.Errorf("got %q", body)
			}
		}
	}
	f("/up/yes", "HTTP/1.1 100 ")
	f("/up/no", "HTTP/1.1 403 ")
}

func TestUpgradedConnectionHoldsItsPermit(t *testing.T) {
	e := start(t, one(provider(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || !strings.EqualFold(r.Header.Get("Connection"), "upgrade") {
			t.Errorf("upstream got %v", r.Header)
		}
		conn, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: abc\r\n\r\nhello ")
		_, _ = io.Copy(conn, buffered)
	}), func(_ *proxy.Config, p *proxy.Provider) { p.Concurrency = 1 }))
	conn, reader := raw(t, e.url, "GET /up/socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n")
	answer, err := http.ReadResponse(reader, nil)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols || answer.Header.Get("Sec-Websocket-Accept") != "abc" || answer.Header.Get("Upgrade") != "websocket" {
		t.Fatalf("got %v, %v", answer, err)
	}
	defer answer.Body.Close()
	if _, err := io.WriteString(conn, "there"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len("hello there"))
	if _, err := io.ReadFull(reader, got); err != nil || string(got) != "hello there" {
		t.Errorf("got %q, %v", got, err)
	}
	if e.sum("edge_in_flight") != 1 || e.sum("edge_upgraded_connections") != 1 {
		t.Errorf("got %v in flight, %v upgraded, want 1 and 1", e.sum("edge_in_flight"), e.sum("edge_upgraded_connections"))
	}
	conn.Close()
	if !settles(time.Second, func() bool { return e.sum("edge_in_flight") == 0 }) {
		t.Error("the permit was not given back")
	}
}

func TestAnswerThatBreaksOffIsNeverCompleted(t *testing.T) {
	f := func(answer string) {
		t.Helper()
		up, _ := bare(t, answer)
		e := start(t, one(up))
		request, _ := http.NewRequestWithContext(t.Context(), "GET", e.url+"/up/", nil)
		got, err := client(t).Do(request)
		if err != nil {
			return // the head itself did not arrive whole
		}
		defer got.Body.Close()
		if body, err := io.ReadAll(got.Body); err == nil {
			t.Errorf("got a complete answer %q", body)
		}
		if !settles(time.Second, func() bool { return e.sum("edge_rejected_total", `reason="upstream_error"`) == 1 }) {
			t.Error("not counted as upstream_error")
		}
	}
	f("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
	f("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n")
	f("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n4\r\nda")
}

func TestUpstreamFailures(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + listener.Addr().String()
	listener.Close()
	f := func(base string) {
		t.Helper()
		e := start(t, one(base))
		answer, body := call(t, client(t), "POST", e.url+"/up/x", "content")
		refused(t, answer, body, http.StatusBadGateway, "upstream_error")
	}
	f(nobody)
	for _, answer := range []string{"", "HTTP/1.1", "nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 200 OK\r\nBad Header\r\n\r\n"} {
		base, _ := bare(t, answer)
		f(base)
	}
}

func TestTimeouts(t *testing.T) {
	quit := make(chan struct{})
	defer close(quit)
	e := start(t, one(provider(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/idle" {
			_, _ = io.WriteString(w, "first")
			w.(http.Flusher).Flush()
		}
		select {
		case <-quit:
		case <-r.Context().Done():
		}
	}), func(_ *proxy.Config, p *proxy.Provider) {
		p.Timeout, p.StreamIdleTimeout = 100*time.Millisecond, 100*time.Millisecond
	}))
	answer, body := call(t, client(t), "POST", e.url+"/up/silent", "content")
	refused(t, answer, body, http.StatusGatewayTimeout, "upstream_timeout")
	request, _ := http.NewRequestWithContext(t.Context(), "GET", e.url+"/up/idle", nil)
	got, err := client(t).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if text, err := io.ReadAll(got.Body); err == nil || string(text) != "first" {
		t.Errorf("got %q, %v, want an aborted answer", text, err)
	}
}

func TestSlowReaderIsAborted(t *testing.T) {
	up := newCounter()
	e := start(t, one(provider(t, func(w http.ResponseWriter, r *http.Request) {
		up.enter()
		defer up.inside.Add(-1)
		chunk := make([]byte, 1<<20)
		for r.Context().Err() == nil {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}), func(c *proxy.Config, _ *proxy.Provider) { c.WriteTimeout = 200 * time.Millisecond }))
	_, reader := raw(t, e.url, "GET /up/ HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := reader.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if !settles(3*time.Second, func() bool { return e.sum("edge_in_flight") == 0 && up.inside.Load() == 0 }) {
		t.Error("the permit of a caller that reads nothing was not given back")
	}
}

func TestStalledAndOversizedBodies(t *testing.T) {
	up := newCounter()
	e := start(t, one(provider(t, up.slow(0)), func(c *proxy.Config, _ *proxy.Provider) {
		c.BodyTimeout, c.MaxRequestBody = 200*time.Millisecond, 100<<10
	}))
	f := func(head, sent string, status int, code string) {
		t.Helper()
		_, reader := raw(t, e.url, "POST "+head+"\r\nHost: x\r\n\r\n"+sent)
		answer, body := next(t, reader)
		refused(t, answer, body, status, code)
		if !answer.Close {
			t.Errorf("%s: the connection stays open", head)
		}
	}
	for _, path := range []string{"/up/x", "/v1/x"} {
		f(path+" HTTP/1.1\r\nContent-Length: 10", "12345", http.StatusRequestTimeout, "body_timeout")
		f(path+" HTTP/1.1\r\nContent-Length: 20000", strings.Repeat("x", 18000), http.StatusRequestTimeout, "body_timeout")
		f(path+" HTTP/1.1\r\nContent-Length: 200000", "12345", http.StatusRequestEntityTooLarge, "body_too_large")
		f(path+" HTTP/1.1\r\nContent-Length: 200000\r\nExpect: 100-continue", "", http.StatusRequestEntityTooLarge, "body_too_large")
		f(path+" HTTP/1.1\r\nTransfer-Encoding: chunked", "1e000\r\n"+strings.Repeat("x", 0x1e000), http.StatusRequestEntityTooLarge, "body_too_large")
	}
	if !settles(time.Second, func() bool { return up.inside.Load() == 0 }) {
		t.Error("the upstream still holds a request")
	}
}

func TestLoopIsRefused(t *testing.T) {
	var e *edge
	e = start(t, one(provider(t, func(w http.ResponseWriter, r *http.Request) {
		request, _ := http.NewRequestWithContext(r.Context(), "GET", e.url+"/up/again", nil)
		request.Header = r.Header
		answer, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Error(err)
			return
		}
		defer answer.Body.Close()
		w.Header().Set("X-Edge-Reason", answer.Header.Get("X-Edge-Reason"))
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body)
	})))
	answer, body := call(t, client(t), "GET", e.url+"/up/", "")
	refused(t, answer, body, http.StatusLoopDetected, "loop")
}

func TestHTTP2Callers(t *testing.T) {
	up := newCounter()
	e := start(t, one(provider(t, up.slow(30*time.Millisecond)), func(_ *proxy.Config, p *proxy.Provider) { p.Concurrency = 2 }),
		(*httptest.Server).StartTLS)
	c := e.server.Client()
	for _, path := range []string{"/up/plain", "/up/stream"} {
		answer, body := call(t, c, "POST", e.server.URL+path, strings.Repeat("x", 40<<10))
		if answer.ProtoMajor != 2 || answer.StatusCode != http.StatusOK || !strings.HasPrefix(body, "data: 0\n\n") {
			t.Errorf("%s: got %s %d %q", path, answer.Proto, answer.StatusCode, body)
		}
	}
	cut, _ := bare(t, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
	if err := e.Reload(one(cut)); err != nil {
		t.Fatal(err)
	}
	request, _ := http.NewRequestWithContext(t.Context(), "GET", e.server.URL+"/up/", nil)
	answer, err := c.Do(request)
	if err == nil {
		_, err = io.ReadAll(answer.Body)
		answer.Body.Close()
	}
	if err == nil || errors.Is(err, io.EOF) {
		t.Errorf("got %v, want a stream reset", err)
	}
}

func TestProviderOverTLSChoosesTheProtocolThatIsOffered(t *testing.T) {
	protocols := make(chan string, 1)
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { protocols <- r.Proto }))
	up.EnableHTTP2 = true
	up.StartTLS()
	t.Cleanup(up.Close)
	roots := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: up.Certificate().Raw}))
	f := func(http2 bool, want string) {
		t.Helper()
		e := start(t, one(up.URL, func(_ *proxy.Config, p *proxy.Provider) { p.HTTP2, p.CACertPEM = http2, roots }))
		if answer, body := call(t, client(t), "POST", e.url+"/up/x", "content"); answer.StatusCode != http.StatusOK {
			t.Fatalf("got %d %q", answer.StatusCode, body)
		}
		if got := <-protocols; got != want {
			t.Errorf("enforce_http2 %t: the provider was spoken to in %s, want %s", http2, got, want)
		}
	}
	f(false, "HTTP/1.1")
	f(true, "HTTP/2.0")
}
