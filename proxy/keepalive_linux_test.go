package proxy_test

import (
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// smallBuffers is a listener whose connections take little of what their caller does not read.
type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		err = conn.(*net.TCPConn).SetWriteBuffer(1)
	}
	return conn, err
}

// A caller that reads nothing is aborted although only comments are sent; and when the stream ends for another reason
// meanwhile, nobody waits for the comment.
func TestCommentsAreNotForCallersThatReadNothing(t *testing.T) {
	f := func(metric, label string, change func(*proxy.Config, *proxy.Provider)) {
		t.Helper()
		up, _ := stepping(t, nil, "")
		e := start(t, kept(up, 20*time.Microsecond, change), func(s *httptest.Server) {
			s.Listener = smallBuffers{s.Listener}
			s.Start()
		})
		conn, err := (&net.Dialer{Control: smallReceiveBuffer}).DialContext(t.Context(), "tcp", strings.TrimPrefix(e.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /up/x HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if !eventually(func() bool { return e.sum(metric, label) == 1 }) {
			t.Errorf("%s %s: got %v, want 1", metric, label, e.sum(metric, label))
		}
	}
	f("edge_client_gone_total", `stage="streaming"`, func(c *proxy.Config, _ *proxy.Provider) { c.WriteTimeout = 300 * time.Millisecond })
	f("edge_rejected_total", `reason="upstream_timeout"`, func(_ *proxy.Config, p *proxy.Provider) { p.StreamIdleTimeout = time.Second })
}

// smallReceiveBuffer makes a socket take little.
func smallReceiveBuffer(_, _ string, c syscall.RawConn) error {
	var err error
	if failed := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 1) }); failed != nil {
		return failed
	}
	return err
}
