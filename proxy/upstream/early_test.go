package upstream_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/upstream"
)

const tooLarge = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge"

// refusing returns a server that answers the first request in the midst of its content, of which it reads no more. Then
// it does what then says, when the client has the answer.
func refusing(t *testing.T, answer string, then func(c *conn, answered <-chan struct{})) (*server, chan<- struct{}) {
	answered := make(chan struct{}, 1)
	return serve(t, func(c *conn) {
		head, more := c.head()
		if !more {
			return
		}
		if !strings.HasPrefix(head, "POST") {
			c.send(ok)
			return
		}
		c.tested = true
		_, _ = io.CopyN(io.Discard, c.r, 64<<10)
		c.send(answer)
		then(c, answered)
		c.wait()
	}), answered
}

func TestAnswerInTheMidstOfAnUpload(t *testing.T) {
	f := func(name, answer string, kept bool, then func(c *conn, answered <-chan struct{})) {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, m maker) {
				if !kept && !m.own {
					return // net/http may take the failure of its writing for that of all
				}
				for length, wrap := range map[int64]func(*upload) io.ReadCloser{10 << 20: plain, -1: writerTo} {
					s, answered := refusing(t, answer, then)
					client := m.client(t, s, atMost(1))
					u := content(t, strings.Repeat("x", 10<<20))
					want(t, do(t, client, post(wrap(u), length)), 413, "large")
					wantClosed(t, u)
					answered <- struct{}{}
					want(t, do(t, client, get("/")), 200, "ok")
					if n := s.accepted.Load(); n != 2 {
						t.Errorf("%d connections, want 2", n)
					}
				}
			})
		})
	}
	keeps := func(_ *conn, answered <-chan struct{}) { <-answered }
	closes := func(c *conn, _ <-chan struct{}) { c.Close() } // with unread content: a RST
	f("kept", tooLarge, true, keeps)
	f("FIN", tooLarge, true, func(c *conn, answered <-chan struct{}) { c.finish(); <-answered })
	f("closed", tooLarge, false, closes)
	closing := strings.Replace(tooLarge, "\r\n", "\r\nConnection: close\r\n", 1)
	f("close, kept", closing, true, keeps)
	f("close, closed", closing, false, closes)
	f("until the end", "HTTP/1.1 413 Content Too Large\r\n\r\nlarge", true, func(c *conn, answered <-chan struct{}) { c.finish(); <-answered })
	f("chunked", "HTTP/1.1 413 Content Too Large\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nlarge\r\n0\r\n\r\n", true, keeps)
	f("early answers", "HTTP/1.1 103 Early Hints\r\n\r\n"+tooLarge, true, keeps)
}

// An answer without content ends where it begins, and so does the upload.
func TestEmptyAnswerInTheMidstOfAnUpload(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		for _, answer := range []string{"HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"} {
			s, answered := refusing(t, answer, func(_ *conn, answered <-chan struct{}) { <-answered })
			client := m.client(t, s, atMost(1))
			u := content(t, strings.Repeat("x", 10<<20))
			if r := do(t, client, post(u, -1)); r.failure() != nil || r.content != "" {
				t.Errorf("got %v", r)
			}
			wantClosed(t, u)
			answered <- struct{}{}
			want(t, do(t, client, get("/")), 200, "ok")
		}
	})
}

// An answer that ends while the content still waits for its caller ends the connection: what would come on it later is
// the rest of a request, in the midst of another.
func TestAnswerThatEndsBeforeAStalledUpload(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		for _, length := range []int64{-1, 100_000} {
			s := serve(t, func(c *conn) {
				if _, more := c.head(); !more {
					return
				}
				if c.n == 0 {
					_, _ = io.CopyN(io.Discard, c.r, 5)
					c.tested = true
				}
				c.send(ok)
			})
			client := m.client(t, s, atMost(1))
			u := uploading(t, "hello", "world")
			u.deaf = true
			want(t, do(t, client, post(u, length)), 200, "ok")
			want(t, do(t, client, get("/")), 200, "ok")
			if n := s.accepted.Load(); n != 2 {
				t.Errorf("%d connections, want 2", n)
			}
			u.pieces <- "late"
		}
	})
}

func TestFullDuplex(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		for _, wrap := range []func(*upload) io.ReadCloser{plain, writerTo} {
			s := serve(t, func(c *conn) {
				for {
					if _, more := c.head(); !more {
						return
					}
					c.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
					for {
						line, _ := c.r.ReadString('\n')
						size, err := chunkSize(line)
						if err != nil {
							t.Error(err)
							return
						}
						piece := make([]byte, size+2)
						if _, err := io.ReadFull(c.r, piece); err != nil {
							t.Error(err)
							return
						}
						if size == 0 {
							c.send("0\r\n\r\n")
							break
						}
						c.send("5\r\n", string(piece))
					}
				}
			})
			client := m.client(t, s)
			for range 6 {
				u := uploading(t)
				a := open(t, client, post(wrap(u), -1))
				for _, piece := range []string{"hello", "world", "again"} {
					u.pieces <- piece
					if got := read(t, a.Body, 5); got != piece {
						t.Errorf("got %q, want %q", got, piece)
					}
				}
				close(u.pieces)
				if rest, err := io.ReadAll(a.Body); err != nil || len(rest) > 0 {
					t.Errorf("got %q, %v", rest, err)
				}
				wantClosed(t, u)
			}
			s.reuses(t, 6)
		}
	})
}

// The upstream has gone, and the caller sends nothing: nobody needs to wait for either.
func TestServerGoesDuringAStalledUpload(t *testing.T) {
	own(t, "net/http waits for the caller's Read", func(t *testing.T, m maker) {
		for name, end := range map[string]func(*conn){"FIN": (*conn).finish, "RST": (*conn).reset} {
			for _, length := range []int64{-1, 100} {
				s := serve(t, func(c *conn) {
					if _, more := c.head(); more {
						_, _ = io.CopyN(io.Discard, c.r, 5)
						c.tested = true
						end(c)
						c.wait()
					}
				})
				u := uploading(t, "hello")
				u.deaf = true
				began := time.Now()
				if r := do(t, m.client(t, s), post(u, length)); r.err == nil || time.Since(began) > patience/2 {
					t.Errorf("%s: got %v after %v, want an error at once", name, r, time.Since(began))
				}
			}
		}
	})
}

// After Do has failed the request is the caller's again: a content that comes to its end only then is not to look at it.
func TestRequestIsTheCallersAfterAnError(t *testing.T) {
	own(t, "net/http has a copy", func(t *testing.T, m maker) {
		for range 20 {
			s := serve(t, func(c *conn) {
				if _, more := c.head(); more {
					c.tested = true
					c.reset()
				}
			})
			u := uploading(t)
			u.deaf = true
			q := post(u, -1)
			q.Trailer = http.Header{"X-Sum": {"1"}}
			if r := do(t, m.client(t, s), q); r.err == nil {
				t.Errorf("got %v, want an error", r)
			}
			close(u.pieces)
			*q = upstream.Request{} // the race detector looks at it
			wantClosed(t, u)
		}
	})
}

func expecting(body io.ReadCloser, length int64) *upstream.Request {
	q := post(body, length)
	q.Fields = upstream.Fields{{Name: "Expect", Value: "100-continue"}}
	return q
}

func TestContentWaitsFor100(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		for _, length := range []int64{-1, 5, 100_000} {
			for _, hints := range []string{"", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"} {
				whole := strings.Repeat("hello", 20_000)
				if length == 5 {
					whole = "hello"
				}
				s := serve(t, func(c *conn) {
					for {
						var q message
						var more bool
						if q.head, more = c.head(); !more {
							return
						}
						c.send(hints)
						if !c.silent(soon / 5) {
							t.Errorf("content has come before 100")
						}
						c.send("HTTP/1.1 100 Continue\r\n\r\n")
						if c.rest(&q); q.content != whole || q.field("Expect") != "100-continue" {
							t.Errorf("got %q, %.100q", q.head, q.content)
						}
						c.send(ok)
					}
				})
				client := m.client(t, s)
				for range 3 {
					u := content(t, whole)
					want(t, do(t, client, expecting(u, length)), 200, "ok")
					wantClosed(t, u)
				}
				s.reuses(t, 3)
			}
		}
	})
}

func TestContentDoesNotWaitForEver(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		s, _ := listening(t, ok)
		began := time.Now()
		want(t, do(t, m.client(t, s), expecting(content(t, "hello"), 5)), 200, "ok")
		if took := time.Since(began); took < 900*time.Millisecond || took > 3*time.Second {
			t.Errorf("took %v, want a second", took)
		}
	})
}

// Who expects 100 and gets something else sends no content, and that ends the connection: the length was announced.
func TestContentThatIsNotWantedIsNotSent(t *testing.T) {
	f := func(name, answer string, status int, content string) {
		t.Run(name, func(t *testing.T) {
			own(t, "net/http sends it all the same, which keeps the connection", func(t *testing.T, m maker) {
				for _, length := range []int64{-1, 5} {
					s := serve(t, func(c *conn) {
						if _, more := c.head(); more {
							c.send(answer) // and nothing may come
						}
					})
					client := m.client(t, s, atMost(1))
					for range 2 {
						u := uploading(t, "hello")
						want(t, do(t, client, expecting(u, length)), status, content)
						wantClosed(t, u)
					}
				}
			})
		})
	}
	f("417", "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno", 417, "no")
	f("401 without content", "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", 401, "")
	f("200", ok, 200, "ok")
	f("204", "HTTP/1.1 204 No Content\r\n\r\n", 204, "")
	f("chunked", "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", 403, "no")
}

func TestServerGoesInPlaceOf100(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		for name, end := range ends {
			s := serve(t, func(c *conn) {
				if _, more := c.head(); more {
					end(c)
				}
			})
			u := uploading(t, "hello")
			if r := do(t, m.client(t, s), expecting(u, 5)); r.err == nil {
				t.Errorf("%s: got %v, want an error", name, r)
			}
			wantClosed(t, u)
			if n := s.requests.Load(); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		}
	})
}

// Without content there is nothing to wait for.
func TestExpectationWithoutContent(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		s, _ := listening(t, "HTTP/1.1 100 Continue\r\n\r\n"+ok)
		client := m.client(t, s)
		for range 2 {
			want(t, do(t, client, expecting(nil, 0)), 200, "ok")
		}
		if n := s.accepted.Load(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	})
}
