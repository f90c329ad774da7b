package upstream_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// What leaves a connection usable, and what does not.
func TestConnectionIsUsedAgain(t *testing.T) {
	f := func(name, method, answer string, again bool) {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, m maker) {
				if strings.Contains(name, "behind") && !m.own {
					return // net/http finds out in another goroutine, and that may be too late
				}
				s := serve(t, func(c *conn) {
					for {
						if _, more := c.request(); !more {
							return
						}
						if c.send(answer); !again {
							return // nothing more may come
						}
					}
				})
				client := m.client(t, s)
				for range 3 {
					if r := do(t, client, &upstream.Request{Method: method, Target: "/"}); r.failure() != nil {
						t.Errorf("failed: %v", r.failure())
					}
				}
				switch n := s.accepted.Load(); {
				case again && n > 1 && (m.own || n == 3): // net/http may be late with saying that it has sent the request
					t.Errorf("%d connections, want 1", n)
				case !again && n != 3:
					t.Errorf("%d connections, want 3", n)
				}
			})
		})
	}
	f("length", "GET", ok, true)
	f("no content", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true)
	f("chunked", "GET", chunkedAnswer, true)
	f("204", "DELETE", "HTTP/1.1 204 No Content\r\n\r\n", true)
	f("304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", true)
	f("HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", true)
	f("HEAD of unknown length", "HEAD", "HTTP/1.1 200 OK\r\n\r\n", true)
	f("HEAD of chunks", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true)
	f("POST", "POST", ok, true)
	f("an error's status", "GET", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno", true)
	f("early answers", "GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n"+ok, true)
	f("keep-alive", "GET", "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", true)
	f("HTTP/1.0 with keep-alive", "GET", "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok", true)
	f("close", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", false)
	f("Close among others", "GET", "HTTP/1.1 200 OK\r\nConnection: x-a , Close,y\r\nContent-Length: 2\r\n\r\nok", false)
	f("close in the second field", "GET", "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", false)
	f("close and chunked", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false)
	f("close and 204", "GET", "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", false)
	f("HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false)
	f("HTTP/1.0 with close", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 2\r\n\r\nok", false)
	f("HTTP/1.0 with close first", "GET", "HTTP/1.0 200 OK\r\nConnection: close\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", false)
	f("bytes behind", "GET", ok+"x", false)
	f("an answer behind", "GET", ok+ok, false)
	f("an answer behind HEAD", "HEAD", ok, false)
	f("an answer behind 204", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", false)
	f("an answer behind chunks", "GET", chunkedAnswer+ok, false)
}

// Chunks and a length together are what smugglers send: such a connection is not trusted any further.
func TestConnectionOfAnAmbiguousAnswerIsNotUsedAgain(t *testing.T) {
	own(t, "net/http uses it again", func(t *testing.T, m maker) {
		s := serve(t, func(c *conn) {
			if _, more := c.request(); more {
				c.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n2\r\nok\r\n0\r\n\r\n")
			}
		})
		client := m.client(t, s)
		for range 2 {
			r := do(t, client, get("/"))
			if want(t, r, 200, "ok"); r.Fields.Has("Content-Length") || r.Length != -1 {
				t.Errorf("got %v, want no Content-Length", r)
			}
		}
	})
}

// An answer that comes before its request belongs to nobody.
func TestBytesBehindAnAnswerReachNobody(t *testing.T) {
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	for name, first := range map[string]string{"length": ok, "chunked": chunkedAnswer, "204": "HTTP/1.1 204 No Content\r\n\r\n"} {
		own(t, "net/http finds out in another goroutine", func(t *testing.T, m maker) {
			for _, late := range []bool{false, true} {
				read := make(chan struct{})
				s := serve(t, func(c *conn) {
					if _, more := c.request(); !more {
						return
					}
					if c.n > 0 {
						c.send(ok)
						return
					}
					if !late {
						c.send(first + evil)
						return
					}
					c.send(first)
					<-read
					c.send(evil)
					read <- struct{}{}
				})
				client := m.client(t, s)
				if r := do(t, client, get("/")); r.failure() != nil {
					t.Errorf("%s: %v", name, r)
				}
				if late {
					read <- struct{}{}
					<-read
				}
				want(t, do(t, client, get("/")), 200, "ok")
			}
		})
	}
}

func TestRequestThatWantsToCloseIsTheLast(t *testing.T) {
	own(t, "net/http has another sign for that", func(t *testing.T, m maker) {
		s := serve(t, func(c *conn) {
			if _, more := c.request(); more {
				c.send(ok)
			}
		})
		client := m.client(t, s)
		for range 2 {
			q := get("/")
			q.Fields = upstream.Fields{{Name: "Connection", Value: "close"}}
			want(t, do(t, client, q), 200, "ok")
		}
	})
}

func TestBodyClosedEarlyClosesTheConnection(t *testing.T) {
	f := func(name, answer string) {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, m maker) {
				s := serve(t, func(c *conn) {
					if _, more := c.request(); more {
						c.send(answer)
					}
				})
				client := m.client(t, s)
				for _, n := range []int{0, 1, 5} {
					a := open(t, client, get("/"))
					if n > 0 {
						read(t, a.Body, n)
					}
					a.Body.Close()
					if !settles(soon, func() bool { return s.open.Load() == 0 }) {
						t.Errorf("after %d bytes: not closed", n)
					}
					if n, err := a.Body.Read(make([]byte, 1)); n > 0 || err == nil {
						t.Errorf("Read after Close: got %d, %v, want an error", n, err)
					}
					a.Body.Close() // harmless
				}
				if n := s.accepted.Load(); n != 3 {
					t.Errorf("%d connections, want 3", n)
				}
			})
		})
	}
	f("length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
	f("chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	f("chunked, half a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello")
	f("until the end", "HTTP/1.1 200 OK\r\n\r\nhello")
	f("much more", "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"+strings.Repeat("x", 10<<20))
}

// A connection is free with the last byte: nobody needs to call Close for that, and what was read may be all.
func TestConnectionIsFreeAtTheEndOfTheContent(t *testing.T) {
	for _, answer := range []string{ok, chunkedAnswer, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"} {
		each(t, func(t *testing.T, m maker) {
			s := answering(t, answer)
			client := m.client(t, s, func(config *upstream.Config) { config.MaxConns = 1 })
			for range 5 {
				a := open(t, client, get("/"))
				if _, err := io.ReadAll(a.Body); err != nil {
					t.Error(err)
				}
				// not closed
			}
			if n := s.accepted.Load(); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		})
	}
}

// Bodies of earlier answers have nothing more to do with the connection.
func TestOldBodiesTouchNothing(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		s := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789")
		client := m.client(t, s)
		first := open(t, client, get("/"))
		read(t, first.Body, 10)
		if n, err := first.Body.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("got %d, %v, want io.EOF", n, err)
		}
		second := open(t, client, get("/"))
		read(t, second.Body, 5)
		for range 2 {
			if n, _ := first.Body.Read(make([]byte, 5)); n > 0 {
				t.Errorf("got %d bytes of another answer", n)
			}
			first.Body.Close()
		}
		if got := read(t, second.Body, 5); got != "56789" {
			t.Errorf("got %q", got)
		}
		second.Body.Close()
		want(t, do(t, client, get("/")), 200, "0123456789")
	})
}

// The answers carry the number of the request, so that none can be taken for another.
func TestManyRequestsOnOneConnection(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		s := serve(t, func(c *conn) {
			for {
				q, more := c.request()
				if !more {
					return
				}
				c.send(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(q.target()), q.target()))
			}
		})
		client := m.client(t, s)
		scratch := make([]byte, 4096)
		for i := range 1000 {
			q := get(fmt.Sprintf("/%d", i))
			q.Scratch = scratch
			want(t, do(t, client, q), 200, q.Target)
		}
		s.reuses(t, 1000)
	})
}
