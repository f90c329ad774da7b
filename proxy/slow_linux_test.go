package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
	"github.com/edge-proxy/edge/proxy/takeover"
)

// slowly is an answer and its way to a caller that takes it slowly.
type slowly struct {
	name         string
	head         string // of the answer, without its length
	method, path string // the path says whether the length is known
	sendBuffer   int
	length, step int    // bytes in all, and those that the caller takes in a tenth of the write timeout
	server       string // what stands in front of the Proxy: "takeover", "TLS", else net/http
	filtered     bool
}

// slowAnswers take several write timeouts in all, and so does what Edge writes at once. Where there is much room in the
// kernel, a third of it must be free before it takes more; that is longer, too.
var slowAnswers = []slowly{
	{name: "known length", method: http.MethodPost, path: "sized", head: "application/json", sendBuffer: few, length: 400_000, step: 10_000},
	{name: "a known length under TLS", method: http.MethodGet, path: "sized", head: "text/plain", sendBuffer: few, length: 400_000, step: 10_000, server: "TLS"},
	{name: "unknown length", method: http.MethodGet, path: "chunked", head: "text/plain", sendBuffer: many, length: 1_500_000, step: 20_000},
	{name: "events", method: http.MethodPost, path: "chunked", head: "text/event-stream", sendBuffer: many, length: 1_500_000, step: 20_000},
	{name: "a plugin that looks at it", method: http.MethodGet, path: "sized", head: "text/plain", sendBuffer: many, length: 1_500_000, step: 20_000, filtered: true},
	{name: "taken over", method: http.MethodGet, path: "chunked", head: "text/plain", sendBuffer: many, length: 1_500_000, step: 20_000, server: "takeover"},
	{name: "through a pipe", method: http.MethodGet, path: "sized", head: "text/plain", sendBuffer: many, length: 1_500_000, step: 20_000},
}

const few, many = 4 << 10, 512 << 10 // bytes that the kernel takes in

const slowTimeout = time.Second

// begin has the answer begin, and returns what reads its content.
func (s slowly) begin(t *testing.T) (*edge, io.ReadCloser) {
	t.Helper()
	up := provider(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", s.head)
		if r.URL.Path == "/sized" {
			w.Header().Set("Content-Length", strconv.Itoa(s.length))
		}
		_, _ = w.Write(random(s.length))
	})
	c := one(up, func(c *proxy.Config, p *proxy.Provider) {
		c.WriteTimeout, c.Logger = slowTimeout, slog.New(slog.DiscardHandler)
		if s.filtered {
			around(script(t, "look", "q: log x"))(c, p)
		}
	})
	e := startOn(t, c, func(server *httptest.Server, p *proxy.Proxy) {
		server.Listener.Close()
		listener, err := (&net.ListenConfig{Control: limited(syscall.SO_SNDBUF, s.sendBuffer)}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server.Listener = p.Listener(listener)
		switch s.server {
		case "takeover":
			taken := takeover.New(takeover.Config{Handler: p})
			server.Config.Handler = taken
			t.Cleanup(func() { taken.Close() })
		case "TLS":
			server.Listener = tls.NewListener(proxy.UnderTLS(listener), certificate(t))
		}
	})
	dialer := net.Dialer{Control: limited(syscall.SO_RCVBUF, 8<<10)}
	conn, err := dialer.DialContext(t.Context(), "tcp", e.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if s.server == "TLS" {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the test's own
	}
	_, _ = fmt.Fprintf(conn, "%s /up/%s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", s.method, s.path)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); answer.Body.Close() }) // in this order: else the rest is read
	return e, answer.Body
}

// certificate is a server's.
func certificate(t *testing.T) *tls.Config {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	t.Cleanup(server.Close)
	return &tls.Config{Certificates: server.TLS.Certificates}
}

// A caller that takes some of its answer within each write timeout gets all of it, whatever Edge writes at a time.
func TestSlowReadersGetTheirAnswer(t *testing.T) {
	var all sync.WaitGroup
	for _, s := range slowAnswers {
		_, content := s.begin(t)
		all.Go(func() {
			want, piece := random(s.length), make([]byte, s.step)
			for at := 0; at < s.length; at += s.step {
				<-time.After(slowTimeout / 10)
				if _, err := io.ReadFull(content, piece); err != nil || !bytes.Equal(piece, want[at:at+s.step]) {
					t.Errorf("%s: at %d: %v", s.name, at, err)
					return
				}
			}
			if n, err := io.Copy(io.Discard, content); n != 0 || err != nil {
				t.Errorf("%s: at the end: %d bytes, %v", s.name, n, err)
			}
		})
	}
	all.Wait()
}

// A caller that took some of its answer, and then takes nothing for the write timeout, is aborted.
func TestReadersThatStopAreAborted(t *testing.T) {
	var all sync.WaitGroup
	for _, s := range slowAnswers {
		s.length = 8 << 20 // more than there is room for
		e, content := s.begin(t)
		all.Go(func() {
			if _, err := io.ReadFull(content, make([]byte, 100_000)); err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
			if !settles(10*slowTimeout, func() bool {
				return e.sum("edge_client_gone_total", `stage="streaming"`) == 1 && e.sum("edge_in_flight") == 0
			}) {
				t.Errorf("%s: nobody was aborted", s.name)
			}
			if _, err := io.Copy(io.Discard, content); err == nil {
				t.Errorf("%s: the answer is whole", s.name)
			}
		})
	}
	all.Wait()
}
