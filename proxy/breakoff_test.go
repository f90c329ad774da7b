package proxy_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// TestAnswerThatBreaksOffAtOnceHasAHead: a caller that got nothing at all would take the connection for one that had died
// before, and clients send a request again then by themselves.
func TestAnswerThatBreaksOffAtOnceHasAHead(t *testing.T) {
	f := func(name, answer, reason string) {
		t.Helper()
		e := start(t, one(speaking(t, func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 4<<10))
			_, _ = io.WriteString(conn, answer)
			if reason == "upstream_timeout" {
				_, _ = conn.Read(make([]byte, 1)) // until Edge has enough
			}
		}), func(_ *proxy.Config, p *proxy.Provider) { p.StreamIdleTimeout = 100 * time.Millisecond }))
		_, reader := raw(t, e.url, "GET /up/ HTTP/1.1\r\nHost: x\r\n\r\n")
		got, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Errorf("%s: %v, want a head", name, err)
			return
		}
		defer got.Body.Close()
		if text, err := io.ReadAll(got.Body); got.StatusCode != 200 || err == nil || len(text) > 0 {
			t.Errorf("%s: got %d %q %v, want 200 that breaks off", name, got.StatusCode, text, err)
		}
		if !settles(5*time.Second, func() bool { return e.sum("edge_rejected_total", `reason="`+reason+`"`) == 1 }) {
			t.Errorf("%s: no %s is counted", name, reason)
		}
	}
	f("a length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "upstream_error")
	f("silence", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "upstream_timeout")
	f("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "upstream_error")
	f("a chunk's size that is no number", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "upstream_error")
}

// TestAnswerCutInEachPlace: in its head, and another provider answers; behind it, and the caller sees that it is not whole.
func TestAnswerCutInEachPlace(t *testing.T) {
	other := provider(t, status(201))
	f := func(answer, content string) {
		t.Helper()
		head := strings.Index(answer, "\r\n\r\n") + 4
		for n := range len(answer) + 1 {
			e := start(t, pair(speaking(t, func(conn net.Conn) {
				_, _ = conn.Read(make([]byte, 4<<10))
				_, _ = io.WriteString(conn, answer[:n])
			}), other, retrying(2)))
			got, err := client(t).Post(e.url+"/up/", "text/plain", strings.NewReader("content")) //nolint:noctx // loopback
			if err != nil {
				t.Fatalf("%d bytes of %q: %v", n, answer, err)
			}
			text, err := io.ReadAll(got.Body)
			got.Body.Close()
			switch attempts := got.Header.Get("X-Edge-Attempts"); {
			case n < head && (got.StatusCode != 201 || err != nil || attempts != "2"):
				t.Errorf("%q: got %d %q %v after %s attempts, want that of the fallback", answer[:n], got.StatusCode, text, err, attempts)
			case n >= head && (got.StatusCode != 200 || attempts != "1" || (err == nil) != (n == len(answer)) || !strings.HasPrefix(content, string(text))):
				t.Errorf("%q: got %d %q %v after %s attempts", answer[:n], got.StatusCode, text, err, attempts)
			}
		}
	}
	f("HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 10\r\n\r\n0123456789", "0123456789")
	f("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n5;a=b\r\n01234\r\n5\r\n56789\r\n0\r\nX-T: 1\r\n\r\n", "0123456789")
}
