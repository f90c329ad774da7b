package upstream_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/proxy/socket"
	"github.com/edge-proxy/edge/proxy/upstream"
)

// piped is the content of an answer that may be moved into a pipe.
type piped interface {
	Ready() bool
	Pipes() bool
	Pipe(into *socket.Pipe, most int) (int, error)
}

// through reads an answer's content: what came with the head as it is, all else by a pipe.
func through(t *testing.T, a *upstream.Response, most int) (content string, moved int, err error) {
	t.Helper()
	p := socket.TakePipe()
	if p == nil {
		t.Fatal("no pipe")
	}
	defer p.Give()
	body := a.Body.(piped)
	var all strings.Builder
	for !body.Pipes() {
		if !body.Ready() {
			t.Fatalf("after %d bytes there are none to be read, and none to be piped", all.Len())
		}
		n, err := a.Body.Read(make([]byte, most))
		all.Grow(n)
		all.WriteString(strings.Repeat("x", n)) // contents here are x all over
		if err != nil {
			return all.String(), 0, err
		}
	}
	for err == nil {
		var n int
		n, err = body.Pipe(p, most)
		if moved += n; n > most || p.Len() != n {
			t.Errorf("%d bytes of at most %d, and the pipe holds %d", n, most, p.Len())
		}
		_, _ = io.Copy(&all, p)
	}
	if n, again := body.Pipe(p, most); n != 0 || again == nil {
		t.Errorf("after %v: %d bytes, %v", err, n, again)
	}
	return all.String(), moved, err
}

// Content that is moved into a pipe ends where the answer does, and the next answer comes on the same connection.
func TestContentThroughAPipe(t *testing.T) {
	own(t, "net/http reads", func(t *testing.T, m maker) {
		content := strings.Repeat("x", 300_000)
		s := answering(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(content), content))
		client := m.client(t, s)
		for _, most := range []int{1 << 10, 100_000, 1 << 20} {
			a := open(t, client, get("/"))
			got, moved, err := through(t, a, most)
			if got != content || moved < 200_000 || err != io.EOF { //nolint:errorlint // as Read has it
				t.Errorf("by %d bytes: got %d, %d of them by the pipe, and %v", most, len(got), moved, err)
			}
			a.Body.Close()
		}
		if n := s.most.Load(); n != 1 || s.open.Load() != 1 {
			t.Errorf("%d connections, %d open, want one", n, s.open.Load())
		}
	})
}

// Content in a pipe that breaks off has Read's errors, and its connection is closed.
func TestContentThroughAPipeBreaksOff(t *testing.T) {
	own(t, "net/http reads", func(t *testing.T, m maker) {
		cause := errors.New("test: enough")
		f := func(end func(c *conn, cancel func()), want error) {
			t.Helper()
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			answered := make(chan struct{})
			s := serve(t, func(c *conn) {
				if _, more := c.request(); more {
					c.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 50_000))
					<-answered
					end(c, func() { cancel(cause) })
				}
			})
			var a upstream.Response
			if err := m.client(t, s).Do(ctx, get("/"), &a); err != nil {
				t.Fatal(err)
			}
			defer a.Body.Close()
			close(answered)
			if got, _, err := through(t, &a, 10_000); len(got) > 50_000 || !errors.Is(err, want) {
				t.Errorf("got %d bytes, %v, want %v", len(got), err, want)
			}
			if !settles(patience, func() bool { return s.open.Load() == 0 }) {
				t.Error("the connection is still open")
			}
		}
		f(func(c *conn, _ func()) { c.Close() }, io.ErrUnexpectedEOF)
		f(func(c *conn, cancel func()) { cancel(); c.wait() }, cause)
	})
}

// Content whose end only its bytes tell, or that is encrypted, is not to be moved.
func TestContentThatIsNotPiped(t *testing.T) {
	own(t, "net/http reads", func(t *testing.T, m maker) {
		f := func(s *server, with ...func(*upstream.Config)) {
			t.Helper()
			a := open(t, m.client(t, s, with...), get("/"))
			defer a.Body.Close()
			for {
				if a.Body.(piped).Pipes() {
					t.Errorf("%s: it says that it is", s.url)
				}
				if _, err := a.Body.Read(make([]byte, 5)); err != nil {
					return
				}
			}
		}
		f(answering(t, chunkedAnswer))
		f(serve(t, func(c *conn) {
			if _, more := c.request(); more {
				c.send("HTTP/1.1 200 OK\r\n\r\nhello world!")
				c.finish()
			}
		}))
		f(serveTLS(t, tls.VersionTLS13, nil, func(c *conn) {
			if _, more := c.request(); more {
				c.send("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello ", "world!")
			}
			c.wait()
		}), trusting)
	})
}
