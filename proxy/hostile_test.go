package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// What callers and providers do wrong, on purpose or not.

// hasty is an upstream that answers as soon as it has seen the request line, and reads on.
func hasty(t *testing.T, answer string) (url string) {
	t.Helper()
	return speaking(t, func(conn net.Conn) {
		if _, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
			_, _ = io.WriteString(conn, answer)
		}
		_, _ = io.Copy(io.Discard, conn)
	})
}

func TestUpgradeThatNobodyAskedForIsRefused(t *testing.T) {
	const switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
	f := func(request string) {
		t.Helper()
		e := start(t, one(hasty(t, switched)))
		_, reader := raw(t, e.url, request)
		answer, body := next(t, reader)
		refused(t, answer, body, http.StatusBadGateway, "upstream_error")
	}
	f("GET /up/ HTTP/1.1\r\nHost: x\r\n\r\n")
	f("GET /up/ HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n")
	f("GET /up/ HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
	f("POST /up/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nabc")
	f("POST /up/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n" + strings.Repeat("x", 40<<10))
}

func TestEndlessEarlyAnswersEnd(t *testing.T) {
	e := start(t, one(speaking(t, func(conn net.Conn) {
		_, err := bufio.NewReader(conn).ReadString('\n')
		for err == nil {
			_, err = io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: x\r\nConnection: y\r\n\r\n")
		}
	})))
	_, reader := raw(t, e.url, "GET /up/ HTTP/1.1\r\nHost: x\r\n\r\n")
	for early := 0; ; early++ {
		answer, body := next(t, reader)
		if answer.StatusCode != http.StatusEarlyHints {
			refused(t, answer, body, http.StatusBadGateway, "upstream_error")
			if early == 0 || early > 20 {
				t.Errorf("got %d early answers", early)
			}
			return
		}
		if _, has := answer.Header["Connection"]; has {
			t.Error("Connection came back in a 103")
		}
	}
}

// Under HTTP/2 net/http may go on reading the header map of an early answer whose stream was reset.
func TestEarlyAnswersToHTTP2CallersThatLeave(t *testing.T) {
	e := start(t, one(provider(t, func(w http.ResponseWriter, r *http.Request) {
		for range 5 {
			w.Header().Set("Link", "</x>")
			w.WriteHeader(http.StatusEarlyHints)
		}
		_, _ = io.WriteString(w, "end")
	})), (*httptest.Server).StartTLS)
	c := e.server.Client()
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 40 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration((worker+i)%7)*300*time.Microsecond)
				request, _ := http.NewRequestWithContext(ctx, "GET", e.server.URL+"/up/", nil)
				if answer, err := c.Do(request); err == nil {
					_, _ = io.Copy(io.Discard, answer.Body)
					answer.Body.Close()
				}
				cancel()
			}
		})
	}
	all.Wait()
}

func TestRefusalComesAtOnceAlthoughTheBodyIsUnread(t *testing.T) {
	up := newCounter()
	e := start(t, one(provider(t, up.slow(0)), func(c *proxy.Config, _ *proxy.Provider) {
		c.Auth.Tokens = []proxy.Token{{Value: "token"}}
		c.BodyTimeout = 300 * time.Millisecond
	}))
	f := func(length int, sent string, wantClose bool) {
		t.Helper()
		conn, reader := raw(t, e.url, fmt.Sprintf("POST /up/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", length, sent))
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		answer, body := next(t, reader)
		refused(t, answer, body, http.StatusUnauthorized, "unauthorized")
		if answer.Close != wantClose {
			t.Errorf("%d of %d bytes: Connection: close is %v, want %v", len(sent), length, answer.Close, wantClose)
		}
		if !wantClose { // and the next request is not mistaken
			_, _ = io.WriteString(conn, "GET /up/ HTTP/1.1\r\nHost: x\r\nX-Api-Key: token\r\nConnection: close\r\n\r\n")
			if answer, _ := next(t, reader); answer.StatusCode != http.StatusOK {
				t.Errorf("%d bytes: then got %d", length, answer.StatusCode)
			}
		}
		if rest, err := io.ReadAll(reader); len(rest) > 0 {
			t.Errorf("%d bytes: got %q, %v after the answer", length, rest, err)
		}
	}
	f(100, "abc", true)
	f(10_000_000, strings.Repeat("x", 50<<10), true)
	f(100, strings.Repeat("x", 100), false)
	f(60<<10, strings.Repeat("x", 60<<10), false)
	f(len("GET /up/smuggled HTTP/1.1\r\n\r\n")+9, "GET /up/smuggled HTTP/1.1\r\n\r\n", true)
	if up.total.Load() != 2 {
		t.Errorf("the upstream saw %d requests, want 2", up.total.Load())
	}
}

func TestEarlyAnswerToAStalledUploadArrives(t *testing.T) {
	for _, head := range []string{"Content-Length: 2\r\n\r\nno", "Transfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"} {
		e := start(t, one(hasty(t, "HTTP/1.1 401 Unauthorized\r\n"+head), func(c *proxy.Config, p *proxy.Provider) {
			c.BodyTimeout, p.Concurrency = 20*time.Second, 1
		}))
		_, reader := raw(t, e.url, "POST /up/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 40<<10))
		answer, body := next(t, reader)
		if answer.StatusCode != http.StatusUnauthorized || body != "no" || !answer.Close {
			t.Errorf("got %d %q, Connection: close %v", answer.StatusCode, body, answer.Close)
		}
		if !settles(2*time.Second, func() bool { return e.sum("edge_in_flight") == 0 && e.sum("edge_arena_slots_in_use") == 0 }) {
			t.Error("permit or slots are held by a stalled upload whose answer has ended")
		}
	}
}

func TestResetDuringAStalledUploadIsSeenAtOnce(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Read(make([]byte, 1<<10))
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}()
	e := start(t, one("http://"+listener.Addr().String(), func(c *proxy.Config, p *proxy.Provider) {
		c.BodyTimeout, p.Timeout = time.Minute, time.Minute
	}))
	_, reader := raw(t, e.url, "POST /up/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 20<<10))
	began := time.Now()
	answer, body := next(t, reader)
	refused(t, answer, body, http.StatusBadGateway, "upstream_error")
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	if !settles(2*time.Second, func() bool { return e.sum("edge_in_flight") == 0 && e.sum("edge_arena_slots_in_use") == 0 }) {
		t.Error("permit or slots are held by a stalled upload whose provider is gone")
	}
}

func TestFirstByteTimeoutHoldsDuringAStalledUpload(t *testing.T) {
	quit := make(chan struct{})
	e := start(t, one(provider(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-quit:
		case <-r.Context().Done():
		}
	}), func(c *proxy.Config, p *proxy.Provider) {
		c.BodyTimeout, p.Timeout = 30*time.Second, 200*time.Millisecond
	}))
	defer close(quit)
	_, reader := raw(t, e.url, "POST /up/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 40<<10))
	began := time.Now()
	answer, body := next(t, reader)
	refused(t, answer, body, http.StatusGatewayTimeout, "upstream_timeout")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the answer took %v", took)
	}
}

func TestSlowUploadEndsWithTheWholeRequestsTime(t *testing.T) {
	up := newCounter()
	e := start(t, one(provider(t, up.slow(0)), func(c *proxy.Config, p *proxy.Provider) {
		c.QueueTimeout, p.Timeout = 200*time.Millisecond, 200*time.Millisecond
	}))
	conn, reader := raw(t, e.url, "POST /up/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
	done := make(chan struct{})
	go func() { // a byte now and then
		defer close(done)
		for {
			if _, err := io.WriteString(conn, "x"); err != nil {
				return
			}
			<-time.After(20 * time.Millisecond)
		}
	}()
	answer, body := next(t, reader)
	refused(t, answer, body, http.StatusRequestTimeout, "body_timeout")
	conn.Close()
	<-done
	if up.total.Load() != 0 {
		t.Error("the request went upstream")
	}
}

// Whoever reads nothing of a small answer cannot hold a connection for ever.
func TestPipelinedRequestsWithoutReaderEnd(t *testing.T) {
	e := start(t, one(provider(t, echo("up")), func(c *proxy.Config, _ *proxy.Provider) { c.WriteTimeout = 200 * time.Millisecond }))
	conn, _ := raw(t, e.url, "")
	request := strings.Repeat("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1000)
	if err := conn.SetWriteDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		if _, err := io.WriteString(conn, request); err != nil {
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() { //nolint:errorlint // the connection's own
				t.Error("the connection is still there")
			}
			return // closed by Edge
		}
	}
	t.Error("Edge has answered two million requests that nobody read")
}

func TestRefusedCallersTakeNoPlace(t *testing.T) {
	e := start(t, one(provider(t, echo("up")), func(c *proxy.Config, p *proxy.Provider) {
		c.DropExcessRequests, c.Auth.Tokens = true, []proxy.Token{{Value: "token"}}
		p.Concurrency, p.BufferSize = 1, 0
	}))
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 8 {
		c := client(t)
		all.Go(func() {
			for ctx.Err() == nil {
				request, _ := http.NewRequestWithContext(ctx, "GET", e.url+"/up/", nil)
				if answer, err := c.Do(request); err == nil {
					_, _ = io.Copy(io.Discard, answer.Body)
					answer.Body.Close()
				}
			}
		})
	}
	c := client(t)
	for range 200 {
		if answer, body := call(t, c, "GET", e.url+"/up/", "", "X-Api-Key", "token"); answer.StatusCode != http.StatusOK {
			t.Errorf("got %d %s", answer.StatusCode, body)
			break
		}
		settles(time.Second, func() bool { return e.sum("edge_in_flight") == 0 })
	}
	cancel()
	all.Wait()
	if got := e.sum("edge_rejected_total", `provider="up"`); got != 0 {
		t.Errorf("got %v refusals counted for the provider, want 0: they are none's", got)
	}
}

func TestBodiesThatOnlyLookLikeJSON(t *testing.T) {
	e := start(t, one(provider(t, echo("up"))))
	f := func(pieces []string, want string) {
		t.Helper()
		conn, reader := raw(t, e.url, "POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
		for _, piece := range pieces { // net/http's body reader gives each chunk by itself
			fmt.Fprintf(conn, "%x\r\n%s\r\n", len(piece), piece)
		}
		_, _ = io.WriteString(conn, "0\r\n\r\n")
		answer, got := next(t, reader)
		if want == "" {
			refused(t, answer, got, http.StatusBadRequest, "bad_request")
		} else if got != "up POST /v1/x|"+want {
			t.Errorf("%q: got %d %q", pieces, answer.StatusCode, got)
		}
	}
	f([]string{"  ", `{"model":"up/abcd"}`}, `  {"model":"abcd"}`)
	f([]string{strings.Repeat(" ", 100), `{"model":"up/abcd"}`}, strings.Repeat(" ", 100)+`{"model":"abcd"}`)
	f([]string{"hello"}, "hello")
	f([]string{`{"half`}, `{"half`)
	f([]string{`["up/a"]`}, `["up/a"]`)
	f([]string{`{"model":"up/a","model":"up/b"}`}, "")
}

func TestTargetsAndMethodsThatAreNotPassedOn(t *testing.T) {
	e := start(t, one(provider(t, echo("up"))), (*httptest.Server).StartTLS)
	c := e.server.Client()
	for _, target := range []string{"/up/a HTTP/1.1 b", "/up/a b"} {
		request, _ := http.NewRequestWithContext(t.Context(), "GET", e.server.URL, nil)
		request.URL.Opaque = target
		got, err := c.Do(request)
		if err != nil {
			continue // the client or the server's parser has refused it already
		}
		answer, body := whole(t, got)
		refused(t, answer, body, http.StatusBadRequest, "bad_request")
	}
	plain := start(t, one(provider(t, echo("up"))))
	_, reader := raw(t, plain.url, "TRACE /up/x HTTP/1.1\r\nHost: x\r\n\r\n")
	answer, body := next(t, reader)
	refused(t, answer, body, http.StatusBadRequest, "bad_request")
}

func TestTokenInSeveralFormsStaysHere(t *testing.T) {
	c := one(provider(t, echo("up")), func(c *proxy.Config, p *proxy.Provider) {
		c.Auth.Tokens = []proxy.Token{{Value: "token"}}
		p.ExtraHeaders = map[string]string{"authorization": "Bearer internal"}
	})
	e := start(t, c)
	f := func(target, want string, header ...string) {
		t.Helper()
		if answer, got := call(t, client(t), "GET", e.url+target, "", header...); got != want {
			t.Errorf("%s %q: got %d %q, want %q", target, header, answer.StatusCode, got, want)
		}
	}
	f("/up/x?key=token&a", "up GET /x?a|Authorization: Bearer internal|", "Authorization", "Bearer token", "X-Api-Key", "token", "Api-Key", "token")
	f("/up/x?k%65y=token&a", "up GET /x?a|Authorization: Bearer internal|")
	f("/up/x?key=mine&key=token", "up GET /x?key=mine|Authorization: Bearer internal|X-Api-Key: other|", "Api-Key", "token", "X-Api-Key", "other")
}

func TestHTTP10CallerSeesThatAnAnswerBrokeOff(t *testing.T) {
	up, _ := bare(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n")
	e := start(t, one(up))
	_, reader := raw(t, e.url, "GET /up/ HTTP/1.0\r\n\r\n")
	if got, err := io.ReadAll(reader); err == nil {
		t.Errorf("got %q and a clean end", got)
	}
}

func TestImpossibleStatusIsAnUpstreamError(t *testing.T) {
	up, _ := bare(t, "HTTP/1.1 050 What\r\nContent-Length: 0\r\n\r\n")
	e := start(t, one(up))
	answer, body := call(t, client(t), "GET", e.url+"/up/", "")
	refused(t, answer, body, http.StatusBadGateway, "upstream_error")
}

func TestBufferedBytesAreWhatTheyTakeInMemory(t *testing.T) {
	release := make(chan struct{})
	e := start(t, one(provider(t, func(http.ResponseWriter, *http.Request) { <-release }), func(c *proxy.Config, p *proxy.Provider) {
		c.MaxBuffered, p.Concurrency = 64<<10, 1
	}))
	defer close(release)
	for range 10 {
		leave(t, e, t.Context(), "/v1/x", "x")
	}
	if !settles(2*time.Second, func() bool { return e.sum("edge_rejected_total", `reason="memory"`) > 0 }) {
		t.Errorf("%v bytes in %v slots and nobody refused, want at most 64 KiB", e.sum("edge_buffered_bytes"), e.sum("edge_arena_slots_in_use", "body"))
	}
}

func TestCallerThatSentMoreAndLeftIsNoticed(t *testing.T) {
	up := newCounter()
	e := start(t, one(provider(t, up.slow(30*time.Second))))
	conn, _ := raw(t, e.url, "GET /up/ HTTP/1.1\r\nHost: x\r\n\r\n")
	if !settles(time.Second, func() bool { return up.inside.Load() == 1 }) {
		t.Fatal("the request did not arrive")
	}
	if _, err := io.WriteString(conn, "G"); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if !settles(2*time.Second, func() bool { return up.inside.Load() == 0 && e.sum("edge_in_flight") == 0 }) {
		t.Error("the provider is still at work for a caller that has left")
	}
}

func TestTrailerOfTheSameNameAsAHeader(t *testing.T) {
	up, _ := bare(t, "HTTP/1.1 200 OK\r\nTrailer: X-Foo\r\nX-Foo: head\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Foo: tail\r\n\r\n")
	e := start(t, one(up))
	request, _ := http.NewRequestWithContext(t.Context(), "GET", e.url+"/up/", nil)
	got, err := client(t).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = whole(t, got)
	if values := got.Trailer["X-Foo"]; len(values) != 1 || values[0] != "tail" {
		t.Errorf("got trailer %q", values)
	}
}

func TestRefusalKeepsTheHTTP2Connection(t *testing.T) {
	e := start(t, one(provider(t, echo("up")), func(c *proxy.Config, _ *proxy.Provider) { c.MaxRequestBody = 10 }), (*httptest.Server).StartTLS)
	var connections sync.Map
	for range 5 {
		request, _ := http.NewRequestWithContext(t.Context(), "POST", e.server.URL+"/up/", strings.NewReader("more than ten"))
		got, err := e.server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer, body := whole(t, got)
		refused(t, answer, body, http.StatusRequestEntityTooLarge, "body_too_large")
		connections.Store(answer.Header.Get("Connection"), true)
	}
	if _, closed := connections.Load("close"); closed {
		t.Error("a refusal ends the whole connection")
	}
}

func TestCloseMayBeRepeated(t *testing.T) {
	p, err := proxy.New(one("http://127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// OpenAI's clients hang up at the end mark of a stream, before the end of its encoding has come. In an answer of another kind
// what looks like the mark is content.
func TestCallerThatLeavesAtTheEndMarkIsServed(t *testing.T) {
	f := func(kind string, served, gone float64) {
		t.Helper()
		e := start(t, one(provider(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", kind)
			_, _ = io.WriteString(w, "data: x\n\ndata: [DONE]\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})))
		conn, reader := raw(t, e.url, "GET /up/ HTTP/1.1\r\nHost: x\r\n\r\n")
		for {
			line, err := reader.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if line == "data: [DONE]\n" {
				break
			}
		}
		conn.Close()
		answered := func() float64 { return e.sum("edge_requests_total", `code="2xx"`) }
		if !settles(2*time.Second, func() bool { return answered() == served && e.sum("edge_client_gone_total") == gone }) {
			t.Errorf("%s: got %v answered, %v gone, want %v and %v", kind, answered(), e.sum("edge_client_gone_total"), served, gone)
		}
	}
	f("text/event-stream", 1, 0)
	f("text/plain", 0, 1)
}
