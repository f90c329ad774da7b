package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
	"github.com/edge-proxy/edge/proxy/takeover"
)

// overTaken runs all tests on connections that were taken over from net/http, as client.takeover does.
var overTaken = flag.Bool("takeover", false, "take connections over from net/http")

// TestMain fails when goroutines are left over, as net/http's own tests do.
func TestMain(m *testing.M) {
	code := m.Run()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if code == 0 && !settles(5*time.Second, func() bool { return runtime.NumGoroutine() <= 3 }) {
		stacks := make([]byte, 1<<20)
		fmt.Fprintf(os.Stderr, "goroutines are left over:\n%s\n", stacks[:runtime.Stack(stacks, true)])
		code = 1
	}
	os.Exit(code)
}

// settles waits until a condition holds.
func settles(within time.Duration, holds func() bool) bool {
	deadline := time.Now().Add(within)
	for !holds() {
		if time.Now().After(deadline) {
			return false
		}
		runtime.Gosched()
		<-time.After(time.Millisecond)
	}
	return true
}

// edge is a proxy behind a real server.
type edge struct {
	*proxy.Proxy
	t      *testing.T
	server *httptest.Server
	url    string
}

// start serves a proxy with the configuration on a loopback port, until the test ends.
func start(t *testing.T, c proxy.Config, with ...func(*httptest.Server)) *edge {
	t.Helper()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	p, err := proxy.New(c)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	server.Config = p.Server(false)
	server.EnableHTTP2 = true
	if *overTaken {
		taken := takeover.New(takeover.Config{
			Handler: p, MaxHeaderBytes: server.Config.MaxHeaderBytes, ReadHeaderTimeout: server.Config.ReadHeaderTimeout,
			IdleTimeout: server.Config.IdleTimeout, ErrorLog: server.Config.ErrorLog,
		})
		server.Config.Handler = taken
		t.Cleanup(func() { taken.Close() })
	}
	if len(with) == 0 {
		server.Listener = p.Listener(server.Listener)
		server.Start()
	}
	for _, w := range with {
		w(server)
	}
	e := &edge{p, t, server, server.URL}
	t.Cleanup(func() {
		p.Abort()
		server.CloseClientConnections()
		server.Close()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		e.balanced()
	})
	return e
}

// balanced checks that everything taken was given back.
func (e *edge) balanced() {
	e.t.Helper()
	for _, name := range []string{"edge_in_flight", "edge_waiting", "edge_blocked", "edge_arena_slots_in_use", "edge_buffered_bytes", "edge_upgraded_connections"} {
		if !settles(2*time.Second, func() bool { return e.sum(name) == 0 }) {
			e.t.Errorf("%s: got %v at the end, want 0", name, e.sum(name))
		}
	}
	if !settles(2*time.Second, func() bool { return len(e.Unsettled()) == 0 }) {
		e.t.Errorf("left at the end: %v", e.Unsettled())
	}
}

// sum adds up the samples of one metric whose labels hold all the given texts.
func (e *edge) sum(name string, labels ...string) (total float64) {
	var out bytes.Buffer
	e.WriteMetrics(&out)
samples:
	for line := range strings.SplitSeq(out.String(), "\n") {
		if !regexp.MustCompile("^" + name + `[{ ]`).MatchString(line) {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(line, label) {
				continue samples
			}
		}
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			e.t.Fatalf("sample %q: %v", line, err)
		}
		total += value
	}
	return total
}

// provider starts an upstream on a loopback port, until the test ends.
func provider(t *testing.T, handler http.HandlerFunc) (url string) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// speaking is an upstream that does on each connection what talk does.
func speaking(t *testing.T, talk func(conn net.Conn)) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				talk(conn)
			})
		}
	})
	t.Cleanup(func() { listener.Close(); all.Wait() })
	return "http://" + listener.Addr().String()
}

// one is a configuration with one provider called up.
func one(base string, change ...func(*proxy.Config, *proxy.Provider)) proxy.Config {
	c, p := proxy.DefaultConfig(), proxy.DefaultProvider()
	c.InitialPoolSize = 16
	p.BaseURL = base
	for _, do := range change {
		do(&c, &p)
	}
	c.Providers = map[string]proxy.Provider{"up": p}
	return c
}

// client has connections of its own, that end with the test.
func client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// call sends a request and reads the whole answer.
func call(t *testing.T, c *http.Client, method, url, body string, header ...string) (answer, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Add(header[i], header[i+1])
	}
	got, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	return whole(t, got)
}

// answer is what is left of a response once its body was read.
type answer struct {
	StatusCode    int
	Header        http.Header
	Proto         string
	ProtoMajor    int
	ContentLength int64
	Close         bool
}

// whole reads and closes a response's body.
func whole(t *testing.T, r *http.Response) (answer, string) {
	t.Helper()
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("body: %v", err)
	}
	return answer{r.StatusCode, r.Header, r.Proto, r.ProtoMajor, r.ContentLength, r.Close}, string(text)
}

// next reads the next answer of a connection.
func next(t *testing.T, reader *bufio.Reader) (answer, string) {
	t.Helper()
	r, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	return whole(t, r)
}

// raw sends bytes on a connection of its own and returns it with a reader.
func raw(t *testing.T, url, request string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://")) //nolint:noctx // loopback, and the test has its own end
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// refused checks an error that Edge itself made.
func refused(t *testing.T, got answer, body string, status int, code string) {
	t.Helper()
	if got.StatusCode != status || got.Header.Get("X-Edge-Reason") != code || !strings.Contains(body, `"code":"`+code+`"`) {
		t.Errorf("got %d %q %s, want %d with code %s", got.StatusCode, got.Header.Get("X-Edge-Reason"), body, status, code)
	}
	if got.Header.Get("X-Edge-Request-Id") == "" {
		t.Error("no X-Edge-Request-Id")
	}
}
