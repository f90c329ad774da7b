package main_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// openStream begins a stream and returns it behind its first event.
func openStream(t *testing.T, c *http.Client, url string) io.Reader {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	first := make([]byte, len("data: first\n\n"))
	if _, err := io.ReadFull(response.Body, first); err != nil || string(first) != "data: first\n\n" {
		t.Fatalf("%s: got %q, error %v", url, first, err)
	}
	return response.Body
}

// connect opens a connection that the test reads and writes itself.
func connect(t *testing.T, url string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// exchange writes a request on a connection and reads its answer.
func exchange(conn net.Conn, r *bufio.Reader, head string) (got answer) {
	if _, err := io.WriteString(conn, head+"\r\n\r\n"); err != nil {
		return answer{err: err}
	}
	if _, err := r.Peek(1); err != nil {
		return answer{err: err}
	}
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	got = answer{status: response.StatusCode, header: response.Header}
	if response.StatusCode == http.StatusSwitchingProtocols {
		return got
	}
	text, err := io.ReadAll(response.Body)
	if response.Close {
		got.header.Set("Connection", "close") // ReadResponse takes it out
	}
	got.body, got.err = string(text), err
	return got
}

// overBoth runs a test on net/http's connections, and on those that are taken over from it.
func overBoth(t *testing.T, test func(t *testing.T, variable string)) {
	for name, variable := range map[string]string{"net-http": "EDGE_TAKEOVER=false", "takeover": "EDGE_TAKEOVER=true"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, variable)
		})
	}
}

func TestDrainServesWhatIsInside(t *testing.T) { overBoth(t, testDrainServesWhatIsInside) }

func testDrainServesWhatIsInside(t *testing.T, variable string) {
	t.Helper()
	up := newUpstream(t)
	p := serve(t, []string{"EDGE_PROVIDERS_UP_BASE_URL=" + up.url, "EDGE_PROVIDERS_UP_CONCURRENCY=1", "EDGE_PROVIDERS_LIVE_BASE_URL=" + up.url, variable})
	c := client(t)
	stream := openStream(t, c, p.url+"/live/stream")
	answers := make(chan answer, 3)
	for range 3 {
		go func() { answers <- send(c, http.MethodPost, p.url+"/up/held", "content") }()
	}
	until(t, "one in flight, two waiting", func() bool {
		return p.metric("edge_in_flight", `"up"`) == 1 && p.metric("edge_waiting", `"up"`) == 2
	})
	// One connection between two requests, and one without any yet. Connections are accepted in turn, so that edge has
	// the second when the third has an answer.
	between, fromBetween := connect(t, p.url)
	exchange(between, fromBetween, "GET /live/now HTTP/1.1\r\nHost: edge").served(t)
	fresh, fromFresh := connect(t, p.url)
	ask(t, client(t), http.MethodGet, p.url+"/live/now", "").served(t)

	p.signal(syscall.SIGTERM)
	p.unready()
	p.shut()
	// net/http may close the connection without an answer, which is right too, but never within one.
	if got := exchange(fresh, fromFresh, "GET /live/now HTTP/1.1\r\nHost: edge"); !errors.Is(got.err, io.EOF) {
		got.refused(t, http.StatusServiceUnavailable, "draining")
		if got.header.Get("Connection") != "close" {
			t.Errorf("draining: got header %v, want Connection: close", got.header)
		}
	}
	if _, err := fromBetween.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("a connection between requests: got %v, want it closed", err)
	}
	if got := ask(t, p.operator, http.MethodGet, p.admin+"/healthz", ""); got.status != http.StatusOK {
		t.Errorf("/healthz during the drain: got %d", got.status)
	}
	select {
	case got := <-answers:
		t.Fatalf("answered before its provider did: %d %.100s, error %v", got.status, got.body, got.err)
	case <-p.ended:
		t.Fatal("edge has ended before what was inside")
	default:
	}

	close(up.held)
	for range 3 {
		(<-answers).served(t)
	}
	close(up.stream)
	if rest, err := io.ReadAll(stream); err != nil || string(rest) != "data: [DONE]\n\n" {
		t.Errorf("the stream: got %q, error %v", rest, err)
	}
	p.stopped(4, 0, 0)
}

// net/http sends the end of an answer after its handler has returned; here it cannot, until the caller reads.
func TestDrainWaitsForTheEndOfAnAnswer(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	p := serve(t, []string{"EDGE_H2C=true", "EDGE_PROVIDERS_UP_BASE_URL=" + up.url})
	c := client(t, unencryptedHTTP2, func(transport *http.Transport) {
		transport.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 100}
	})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/up/short", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	p.idle()
	p.signal(syscall.SIGTERM)
	p.shut()
	text, err := io.ReadAll(response.Body)
	if err != nil || len(text) != 1000 {
		t.Errorf("got %d bytes of an answer, error %v; want 1000", len(text), err)
	}
	p.stopped(0, 0, 0)
}

func TestDrainDelayServesOn(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	p := serve(t, []string{"EDGE_PROVIDERS_UP_BASE_URL=" + up.url, "EDGE_DRAIN_DELAY=1h"})
	health := func(want int) {
		t.Helper()
		code, out, errs := whole(t, []string{"EDGE_ADMIN_LISTEN=127.0.0.1:1"}, "healthcheck", "-admin", strings.TrimPrefix(p.admin, "http://"))
		if code != want || out != "" || (errs == "") != (want == 0) {
			t.Errorf("healthcheck: got %d, %q, %q; want %d", code, out, errs, want)
		}
	}
	health(0)
	p.signal(syscall.SIGTERM)
	p.unready()
	health(1)
	ask(t, client(t), http.MethodGet, p.url+"/up/now", "").served(t) // on a new connection
	p.signal(syscall.SIGTERM)
	p.stopped(0, 0, 0)
	health(1) // nobody is there

	p = serve(t, []string{"EDGE_PROVIDERS_UP_BASE_URL=" + up.url, "EDGE_DRAIN_DELAY=300ms"})
	p.signal(syscall.SIGTERM)
	if took := p.stopped(0, 0, 0); took < 0.3 {
		t.Errorf("a drain with 300 ms of delay took %v s", took)
	}
}

// wantBroken checks that a stream ends, and that its caller can tell that it is not whole.
func wantBroken(t *testing.T, stream io.Reader) {
	t.Helper()
	if rest, err := io.ReadAll(stream); err == nil || len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a stream that was cut off: got %q, error %v; want nothing more and an error", rest, err)
	}
}

func TestDrainTimeoutCutsOff(t *testing.T) { overBoth(t, testDrainTimeoutCutsOff) }

func testDrainTimeoutCutsOff(t *testing.T, variable string) {
	t.Helper()
	up := newUpstream(t)
	p := serve(t, []string{"EDGE_PROVIDERS_UP_BASE_URL=" + up.url, "EDGE_PROVIDERS_UP_CONCURRENCY=3", "EDGE_DRAIN_TIMEOUT=500ms", "EDGE_H2C=true", variable})
	stream := openStream(t, client(t), p.url+"/up/stream")
	stream2 := openStream(t, client(t, unencryptedHTTP2), p.url+"/up/stream")
	conn, r := connect(t, p.url)
	exchange(conn, r, "GET / HTTP/1.1\r\nHost: edge")
	if got := exchange(conn, r, "GET /up/upgrade HTTP/1.1\r\nHost: edge\r\nConnection: Upgrade\r\nUpgrade: echo"); got.status != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: got %d, error %v", got.status, got.err)
	}
	ping := func(text string) {
		t.Helper()
		got := make([]byte, len(text))
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, got); err != nil || string(got) != text {
			t.Fatalf("echo: got %q, error %v", got, err)
		}
	}
	ping("before")
	if got := p.metric("edge_upgraded_connections"); got != 1 {
		t.Errorf("edge_upgraded_connections: got %v, want 1", got)
	}
	queued := make(chan answer, 1)
	go func() { queued <- send(http.DefaultClient, http.MethodPost, p.url+"/up/now", "content") }()
	until(t, "one waits", func() bool { return p.metric("edge_waiting") == 1 })

	p.signal(syscall.SIGTERM)
	p.unready()
	ping("while it drains")
	wantBroken(t, stream)
	wantBroken(t, stream2)
	if _, err := r.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the upgraded connection: got %v, want it closed", err)
	}
	if got := <-queued; got.err == nil {
		got.refused(t, http.StatusServiceUnavailable, "draining")
	}
	if took := p.stopped(0, 4, 1); took < 0.5 || took > 5 {
		t.Errorf("a drain with a timeout of 500 ms took %v s", took)
	}
}

func TestSecondSignalMeansNow(t *testing.T) { overBoth(t, testSecondSignalMeansNow) }

func testSecondSignalMeansNow(t *testing.T, variable string) {
	t.Helper()
	up := newUpstream(t)
	p := serve(t, []string{"EDGE_PROVIDERS_UP_BASE_URL=" + up.url, "EDGE_DRAIN_TIMEOUT=1h", variable})
	stream := openStream(t, client(t), p.url+"/up/stream")
	p.signal(syscall.SIGTERM)
	p.shut()
	p.signal(syscall.SIGTERM)
	wantBroken(t, stream)
	if took := p.stopped(0, 1, 0); took > 5 {
		t.Errorf("took %v s", took)
	}
}
