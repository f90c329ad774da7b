package admin_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edge-proxy/edge/proxy/admin"
)

// pipeListener accepts one end of a net.Pipe, whose deadlines follow synctest's clock.
type pipeListener struct {
	conns chan net.Conn
}

func (l pipeListener) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l pipeListener) Close() error {
	close(l.conns)
	return nil
}

func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9090} }

// dial serves h, without timeouts of the server's own, and returns a connection to it.
func dial(t *testing.T, h http.Handler) net.Conn {
	l := pipeListener{make(chan net.Conn, 1)}
	srv := &http.Server{Handler: h}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	client, server := net.Pipe()
	l.conns <- server
	t.Cleanup(func() {
		client.Close()
		srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
	})
	return client
}

func TestClientThatReadsNothingIsAborted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gaveUp := make(chan time.Duration, 1)
		start := time.Now()
		h := newPlane(t, admin.DefaultConfig(), &fakeSource{write: func(w io.Writer) {
			for {
				if _, err := io.WriteString(w, strings.Repeat("# filler\n", 1000)); err != nil {
					gaveUp <- time.Since(start)
					return
				}
			}
		}})
		client := dial(t, h)
		if _, err := io.WriteString(client, "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if got := <-gaveUp; got != 30*time.Second {
			t.Errorf("given up after %v, want 30s", got)
		}
	})
}

func TestSlowAnswerIsNotAborted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lines = 6
		line := strings.Repeat("x", 3000) + "\n" // more than half of what net/http holds back
		h := newPlane(t, admin.DefaultConfig(), &fakeSource{write: func(w io.Writer) {
			for range lines {
				time.Sleep(40 * time.Second) // the fake clock's
				_, _ = io.WriteString(w, line)
			}
			time.Sleep(40 * time.Second) // what net/http still holds is flushed after this
		}})
		client := dial(t, h)
		if _, err := io.WriteString(client, "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != strings.Repeat(line, lines) {
			t.Errorf("%q, error %v", body, err)
		}
	})
}

func TestStalledBodyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := dial(t, newPlane(t, admin.DefaultConfig(), &fakeSource{}))
		start := time.Now()
		if _, err := io.WriteString(client, "POST /debug/pprof/symbol HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n0x"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // or the test hangs
		defer cancel()
		defer context.AfterFunc(ctx, func() { client.Close() })()
		if _, err := io.ReadAll(client); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(start); got < 30*time.Second || got > 31*time.Second {
			t.Errorf("closed after %v, want 30s", got)
		}
	})
}
