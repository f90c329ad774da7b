package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// What Edge answers by itself comes at once too, although the content is stalled.
func TestOwnAnswersComeAtOnceAlthoughTheBodyIsUnread(t *testing.T) {
	long := `{"data":[{"id":"` + strings.Repeat("m", 8<<10) + `"}]}`
	list := provider(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, long) })
	c := one(list, func(c *proxy.Config, _ *proxy.Provider) { c.BodyTimeout, c.WriteTimeout = 30*time.Second, time.Second })
	c.Providers["other"] = c.Providers["up"]
	e := start(t, c)
	for _, target := range []string{"/", "/v1/models"} {
		conn, reader := raw(t, e.url, "GET "+target+" HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if answer, body := next(t, reader); answer.StatusCode != http.StatusOK || !answer.Close || body == "" {
			t.Errorf("%s: got %d, %d bytes, Connection: close %v", target, answer.StatusCode, len(body), answer.Close)
		}
	}
}

// An HTTP/2 caller whose window is empty holds no goroutine for ever, whoever makes its answers.
func TestHTTP2CallersThatReadNothingEnd(t *testing.T) {
	p, err := proxy.New(one(provider(t, echo("up")), func(c *proxy.Config, _ *proxy.Provider) { c.WriteTimeout = 200 * time.Millisecond }))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	server.Config = p.Server(true)
	server.Start()
	defer func() {
		p.Abort()
		server.CloseClientConnections()
		server.Close()
		p.Close()
	}()
	conn, reader := raw(t, server.URL, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	// SETTINGS with INITIAL_WINDOW_SIZE 0 (RFC 9113, section 6.5), then HEADERS with END_STREAM.
	frames := []byte{0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0}
	for i := range 20 {
		path := []string{"/nope", "/up/a"}[i%2]
		block := append([]byte{0x82, 0x86, 0x04, byte(len(path))}, path...) // GET, http, :path, :authority x
		block = append(block, 0x01, 1, 'x')
		frames = append(append(frames, 0, 0, byte(len(block)), 1, 5, 0, 0, 0, byte(2*i+1)), block...)
	}
	if _, err := conn.Write(frames); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, reader)
	}()
	stuck := func() int {
		stacks := make([]byte, 4<<20)
		return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "writeDataFromHandler(")
	}
	if !settles(5*time.Second, func() bool { return stuck() > 0 }) {
		t.Error("no handler waits for the window: the test has missed")
	}
	if !settles(10*time.Second, func() bool { return stuck() == 0 && p.Status().Requests == 0 }) {
		t.Errorf("%d goroutines still wait for a caller that reads nothing", stuck())
	}
	conn.Close()
	<-done
}

// A 100 that is due and a 103 are written by different goroutines of net/http; under -race this test sees it.
func TestContinueAndEarlyHintsDoNotMeet(t *testing.T) {
	const early = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
	e := start(t, one(speaking(t, func(conn net.Conn) {
		for reader := bufio.NewReader(conn); ; {
			r, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, early+"HTTP/1.1 100 Continue\r\n\r\n"+early+early)
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})))
	for range 100 {
		conn, reader := raw(t, e.url, "POST /up/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
		for {
			answer, body := next(t, reader)
			if answer.StatusCode == http.StatusContinue {
				_, _ = io.WriteString(conn, "abcd")
				continue
			}
			if answer.StatusCode != http.StatusOK || body != "ok" {
				t.Errorf("got %d %q", answer.StatusCode, body)
			}
			break
		}
		conn.Close()
	}
}

func TestReloadUnderTraffic(t *testing.T) {
	up := []string{provider(t, echo("up")), provider(t, echo("up"))}
	e := start(t, one(up[0]))
	stop := make(chan struct{})
	var all sync.WaitGroup
	var sent atomic.Int64
	for worker := range 8 {
		c := client(t)
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				want := fmt.Sprintf("%d-%d", worker, i)
				if answer, got := call(t, c, "POST", e.url+"/up/x", want); answer.StatusCode != http.StatusOK || got != "up POST /x|"+want {
					t.Errorf("got %d %q, want %s", answer.StatusCode, got, want)
				}
				sent.Add(1)
			}
		})
	}
	for i := range 40 {
		before := sent.Load()
		if err := e.Reload(one(up[i%2], func(c *proxy.Config, p *proxy.Provider) { c.InitialPoolSize, p.Concurrency = 1+i%3*20, 1+i%5 })); err != nil {
			t.Error(err)
		}
		settles(time.Second, func() bool { return sent.Load() > before+20 })
	}
	if err := e.Reload(one("nonsense")); err == nil || e.sum("edge_config_last_reload_successful") != 0 {
		t.Errorf("a bad configuration: got %v, edge_config_last_reload_successful %v", err, e.sum("edge_config_last_reload_successful"))
	}
	close(stop)
	all.Wait()
	if got := e.sum("edge_requests_total", `provider="up"`); got != float64(sent.Load()) {
		t.Errorf("got %v requests counted, want %d", got, sent.Load())
	}
	if got := e.sum("edge_concurrency_limit"); got != 5 { // i = 39
		t.Errorf("edge_concurrency_limit: got %v, want 5", got)
	}
}
