package takeover_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/takeover"
)

// checked runs the tests and fails when goroutines are left over, as net/http's own tests do.
func checked(m *testing.M) int {
	code := m.Run()
	if code == 0 && !settles(5*time.Second, func() bool { return runtime.NumGoroutine() <= 3 }) {
		stacks := make([]byte, 1<<20)
		fmt.Fprintf(os.Stderr, "goroutines are left over:\n%s\n", stacks[:runtime.Stack(stacks, true)])
		code = 1
	}
	return code
}

// settles waits until a condition holds.
func settles(within time.Duration, holds func() bool) bool {
	deadline := time.Now().Add(within)
	for !holds() {
		if time.Now().After(deadline) {
			return false
		}
		<-time.After(time.Millisecond)
	}
	return true
}

const (
	patience  = 10 * time.Second
	headBytes = 8 << 10 // MaxHeaderBytes of the servers here
)

type connKey struct{}

// served is a handler behind net/http, and behind a Takeover when that is not nil.
type served struct {
	address string
	taken   *takeover.Takeover
	server  *http.Server
	log     *logged
}

// logged keeps what was logged.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// serve serves on a loopback port until the test ends.
func serve(t testing.TB, over bool, handler http.HandlerFunc, change ...func(*takeover.Config)) *served {
	t.Helper()
	out := &logged{}
	c := takeover.Config{
		Handler: handler, MaxHeaderBytes: headBytes, ReadHeaderTimeout: patience, IdleTimeout: patience,
		ErrorLog: log.New(out, "", 0),
	}
	for _, do := range change {
		do(&c)
	}
	s := &served{log: out}
	s.server = &http.Server{
		Handler: handler, MaxHeaderBytes: c.MaxHeaderBytes, ReadHeaderTimeout: c.ReadHeaderTimeout, IdleTimeout: c.IdleTimeout,
		WriteTimeout: c.WriteTimeout, ErrorLog: c.ErrorLog,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	if over {
		s.taken = takeover.New(c)
		s.server.Handler = s.taken
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	s.address = listener.Addr().String()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		s.server.Close()
		if over {
			s.taken.Close()
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := s.taken.Shutdown(ctx); err != nil {
				t.Errorf("connections are left: %v", err)
			}
		}
		<-ended
	})
	return s
}

// both runs a test behind net/http and behind a Takeover.
func both(t *testing.T, test func(t *testing.T, over bool)) {
	t.Run("net-http", func(t *testing.T) { test(t, false) })
	t.Run("takeover", func(t *testing.T) { test(t, true) })
}

func (s *served) dial(t testing.TB) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", s.address) //nolint:noctx // loopback, and the test has its own end
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

var dates = regexp.MustCompile(`\r\nDate: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n`)

// talk sends parts, one after the other, and returns all that is answered until the server closes. It does not close
// its side, so the last part must make the server do that.
func (s *served) talk(t testing.TB, parts ...string) string {
	t.Helper()
	conn := s.dial(t)
	defer conn.Close()
	for i, part := range parts {
		if i > 0 {
			time.Sleep(200 * time.Microsecond) // so that the part before is read by itself, as often as not
		}
		if _, err := io.WriteString(conn, part); err != nil {
			break // the server has closed; what it has said is there to be read
		}
	}
	return s.listen(t, conn)
}

// breakOff is talk with a client that closes its side behind the last part.
func (s *served) breakOff(t testing.TB, parts ...string) string {
	t.Helper()
	conn := s.dial(t)
	defer conn.Close()
	if _, err := io.WriteString(conn, strings.Join(parts, "")); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	return s.listen(t, conn)
}

// listen returns what is answered until the server closes.
func (s *served) listen(t testing.TB, conn net.Conn) string {
	t.Helper()
	text, err := io.ReadAll(conn)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("got %q, then %v", text, err)
	}
	return dates.ReplaceAllString(string(text), "\r\nDate: now\r\n")
}

// script is a client that is not there: its parts are read one by one.
type script struct {
	mu    sync.Mutex
	parts []string
	said  bytes.Buffer
	ended chan struct{} // closed by Close
}

func (s *script) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.parts) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.parts[0])
	if s.parts[0] = s.parts[0][n:]; s.parts[0] == "" {
		s.parts = s.parts[1:]
	}
	return n, nil
}

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.Write(p)
}

func (s *script) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.ended:
	default:
		close(s.ended)
	}
	return nil
}

func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{Port: 80} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{Port: 1} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// scripts are a listener's connections.
type scripts chan *script

func (s scripts) Accept() (net.Conn, error) {
	if c, ok := <-s; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (s scripts) Close() error   { return nil }
func (s scripts) Addr() net.Addr { return &net.TCPAddr{Port: 80} }

// recite has a server read the parts exactly as they are cut, and returns what it answers.
func (s scripts) recite(t testing.TB, parts ...string) string {
	t.Helper()
	c := &script{parts: parts, ended: make(chan struct{})}
	s <- c
	select {
	case <-c.ended:
	case <-time.After(patience):
		t.Fatalf("%.300q: the connection was not closed", parts)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return dates.ReplaceAllString(c.said.String(), "\r\nDate: now\r\n")
}

// scripted serves scripts until the test ends.
func scripted(t testing.TB, over bool, handler http.HandlerFunc) scripts {
	t.Helper()
	s := serve(t, over, handler)
	listener := make(scripts)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.server.Serve(listener) // it ends with the listener
	}()
	t.Cleanup(func() { close(listener); <-ended })
	return listener
}

const (
	primer = "GET /constant HTTP/1.1\r\nHost: h\r\n\r\n"                      // what a Takeover takes the connection with
	last   = "GET /constant HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" // what both servers close it behind
)
