package upstream_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/proxy/upstream"
)

const switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"

// upgrade asks for another protocol.
func upgrade() *upstream.Request {
	q := get("/")
	q.Fields = upstream.Fields{{Name: "Connection", Value: "Upgrade"}, {Name: "Upgrade", Value: "echo"}}
	return q
}

// upgraded returns the connection that a server gave away.
func upgraded(t *testing.T, client upstream.Client, q *upstream.Request) io.ReadWriteCloser {
	t.Helper()
	var a upstream.Response
	if err := client.Do(t.Context(), q, &a); err != nil {
		t.Fatal(err)
	}
	if a.Status != 101 || a.Upgraded == nil || a.Fields.Get("Upgrade") != "echo" {
		t.Fatalf("got %+v", a)
	}
	if n, err := a.Body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("Body: read %d, %v, want io.EOF", n, err)
	}
	a.Body.Close()
	return a.Upgraded
}

// exchange writes one thing and reads another, at the same time.
func exchange(t *testing.T, with io.ReadWriter, write, read string) {
	t.Helper()
	wrote := make(chan error, 1)
	go func() {
		_, err := io.WriteString(with, write)
		wrote <- err
	}()
	got := make([]byte, len(read))
	if n, err := io.ReadFull(with, got); err != nil || string(got) != read {
		t.Errorf("got %.100q, %v, want %.100q", got[:n], err, read)
	}
	if err := receive(t, wrote); err != nil {
		t.Error(err)
	}
}

func TestUpgrade(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		s := serve(t, func(c *conn) {
			if _, more := c.head(); !more {
				return
			}
			c.send("HTTP/1.1 103 Early Hints\r\n\r\n" + switched + "hello ")
			for {
				line, err := c.r.ReadString('\n')
				if err != nil {
					return
				}
				c.send(line)
			}
		})
		client := m.client(t, s)
		for _, scratch := range [][]byte{nil, make([]byte, 100), make([]byte, 4096)} {
			q := upgrade()
			q.Scratch = scratch
			conn := upgraded(t, client, q)
			clear(scratch)
			exchange(t, conn, "world\n", "hello world\n")
			long := strings.Repeat("x", 3_000_000) + "\n"
			exchange(t, conn, long, long)
			conn.Close()
		}
		if n := s.accepted.Load(); n != 3 {
			t.Errorf("%d connections, want 3: what was upgraded is not used again", n)
		}
	})
}

func TestUpgradedConnectionEnds(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		s := serve(t, func(c *conn) {
			if _, more := c.head(); more {
				c.send(switched, "bye")
				if c.n == 0 {
					c.finish()
				}
			}
		})
		client := m.client(t, s)
		conn := upgraded(t, client, upgrade())
		if rest, err := io.ReadAll(conn); err != nil || string(rest) != "bye" {
			t.Errorf("got %q, %v, want bye", rest, err)
		}
		conn.Close()

		conn = upgraded(t, client, upgrade()) // Close ends a Read that waits
		exchange(t, conn, "", "bye")
		read := make(chan error, 1)
		go func() {
			_, err := conn.Read(make([]byte, 1))
			read <- err
		}()
		conn.Close()
		if err := receive(t, read); err == nil {
			t.Error("Read: got no error after Close")
		}
	})
}

// Who has an upgraded connection says when it ends, not the context of the request.
func TestUpgradedConnectionOutlivesItsContext(t *testing.T) {
	own(t, "net/http does not say", func(t *testing.T, m maker) {
		for _, ctx := range m.endings(t) {
			s := serve(t, func(c *conn) {
				if _, more := c.head(); more {
					c.send(switched)
					_, _ = io.Copy(c, io.LimitReader(c.r, 5))
				}
			})
			client := m.client(t, s)
			var a upstream.Response
			if err := client.Do(ctx.Context, upgrade(), &a); err != nil {
				t.Fatal(err)
			}
			ctx.check(t, "upgraded")
			ctx.end(errGone)
			exchange(t, a.Upgraded, "hello", "hello")
			a.Upgraded.Close()
			a.Upgraded.Close() // harmless
		}
	})
}

// An upgrade that the server does not want is an ordinary answer.
func TestUpgradeIsNotGiven(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		s := answering(t, ok)
		client := m.client(t, s)
		for range 2 {
			r := do(t, client, upgrade())
			if want(t, r, 200, "ok"); r.Upgraded != nil {
				t.Error("upgraded")
			}
		}
	})
}
