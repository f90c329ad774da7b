package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// A caller may take longer than the write timeout for what is in the pipe, too, if it takes some of it within that.
func TestSlowReaderOfAPieceOfAPassage(t *testing.T) {
	const timeout, length, step = time.Second, 500_000, 20_000
	pipesInUse(t)
	e := startOn(t, one(provider(t, sized), func(c *proxy.Config, _ *proxy.Provider) { c.WriteTimeout = timeout }), func(s *httptest.Server, p *proxy.Proxy) {
		s.Listener.Close()
		listener, err := (&net.ListenConfig{Control: limited(syscall.SO_SNDBUF, 4<<10)}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.Listener = p.Listener(listener)
	})
	dialer := net.Dialer{Control: limited(syscall.SO_RCVBUF, 8<<10)}
	conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(e.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = fmt.Fprintf(conn, "GET /up/%d/1000000 HTTP/1.1\r\nHost: x\r\n\r\n", length)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	want, piece := random(length), make([]byte, step)
	for at := 0; at < length; at += step { // a piece of 256 KiB takes 1.3 times the timeout
		<-time.After(timeout / 10)
		if _, err := io.ReadFull(answer.Body, piece); err != nil || !bytes.Equal(piece, want[at:at+step]) {
			t.Fatalf("at %d: %v", at, err)
		}
	}
}
