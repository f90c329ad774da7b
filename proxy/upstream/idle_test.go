package upstream_test

import (
	"io"
	"sync/atomic"
	"testing"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// ends are the ways in which a server gives a connection up.
var ends = map[string]func(*conn){"FIN": func(c *conn) { c.Close() }, "RST": (*conn).reset}

// A server may close a connection that carries no request whenever it likes. The next request must not notice, not even
// one that may not be sent twice.
func TestIdleConnectionThatTheServerClosed(t *testing.T) {
	for name, end := range ends {
		for _, method := range []string{"GET", "POST"} {
			each(t, func(t *testing.T, m maker) {
				if method == "POST" && !m.own {
					return // net/http finds out in another goroutine, and that may be too late
				}
				answered, ended := make(chan struct{}), make(chan struct{})
				s := serve(t, func(c *conn) {
					if _, more := c.request(); !more {
						return
					}
					c.send(ok)
					if c.n < 3 {
						<-answered
						end(c)
						ended <- struct{}{}
					}
				})
				client := m.client(t, s)
				for i := range 4 {
					q := get("/")
					if method == "POST" {
						q = post(content(t, "hello"), 5) // and no Again
					}
					want(t, do(t, client, q), 200, "ok")
					if i < 3 {
						answered <- struct{}{}
						<-ended
					}
				}
				if a, r := s.accepted.Load(), s.requests.Load(); a != 4 || r != 4 {
					t.Errorf("%s %s: %d requests on %d connections, want 4 on 4", method, name, r, a)
				}
			})
		}
	}
}

// When a server closes a connection that has served before, while the request is on its way, nobody can know whether it
// has done what was asked. Only what may be done twice is sent again, and that once.
func TestConnectionThatDiesUnderARequest(t *testing.T) {
	f := func(name string, q upstream.Request, again bool, pieces ...string) {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, m maker) {
				if name == "POST with Idempotency-Key" && !m.own {
					return // net/http sends it again
				}
				for how, end := range ends {
					s := serve(t, func(c *conn) {
						for i := 0; ; i++ {
							if _, more := c.request(); !more {
								return
							}
							if c.n == 0 && i == 1 {
								end(c)
								return
							}
							c.send(ok)
						}
					})
					client := m.client(t, s)
					want(t, do(t, client, get("/first")), 200, "ok")
					q := q
					var more []*upload
					if pieces != nil {
						q.Body = content(t, pieces...)
						if q.Again == nil {
							q.Again = func() (io.ReadCloser, error) {
								u := content(t, pieces...)
								more = append(more, u)
								return u, nil
							}
						}
					}
					r, requests := do(t, client, &q), int32(2)
					if again {
						want(t, r, 200, "ok")
						requests = 3
					} else if r.err == nil {
						t.Errorf("%s: got %v, want an error", how, r)
					}
					if n := s.requests.Load(); n != requests {
						t.Errorf("%s: %d requests have come, want %d", how, n, requests)
					}
					for _, u := range more {
						wantClosed(t, u)
					}
				}
			})
		})
	}
	never := func() (io.ReadCloser, error) { return nil, io.ErrNoProgress }
	key := upstream.Fields{{Name: "Idempotency-Key", Value: "1"}}
	f("GET", upstream.Request{Method: "GET", Target: "/"}, true)
	f("HEAD", upstream.Request{Method: "OPTIONS", Target: "/"}, true)
	f("OPTIONS", upstream.Request{Method: "OPTIONS", Target: "/"}, true)
	f("TRACE", upstream.Request{Method: "TRACE", Target: "/"}, true)
	f("GET with content", upstream.Request{Method: "GET", Target: "/", Length: 5}, true, "hello")
	f("GET with content that fails", upstream.Request{Method: "GET", Target: "/", Length: 5, Again: never}, false, "hello")
	f("POST", upstream.Request{Method: "POST", Target: "/"}, false)
	f("POST with content", upstream.Request{Method: "POST", Target: "/", Length: 5}, false, "hello")
	f("POST with chunks", upstream.Request{Method: "POST", Target: "/", Length: -1}, false, "hello")
	f("PUT", upstream.Request{Method: "PUT", Target: "/"}, false)
	f("PATCH", upstream.Request{Method: "PATCH", Target: "/"}, false)
	f("DELETE", upstream.Request{Method: "DELETE", Target: "/"}, false)
	f("another", upstream.Request{Method: "PURGE", Target: "/"}, false)
	f("POST with Idempotency-Key", upstream.Request{Method: "POST", Target: "/", Fields: key}, false)
}

// A content that was had once is not had again, if nobody says how.
func TestContentThatCannotBeHadTwiceIsSentOnce(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		s := serve(t, func(c *conn) {
			if _, more := c.request(); more {
				c.send(ok)
				c.request()
				c.Close()
			}
		})
		client := m.client(t, s)
		want(t, do(t, client, get("/")), 200, "ok")
		if r := do(t, client, &upstream.Request{Method: "GET", Target: "/", Body: content(t, "hello"), Length: 5}); r.err == nil {
			t.Errorf("got %v, want an error", r)
		}
		if n := s.requests.Load(); n != 2 {
			t.Errorf("%d requests have come, want 2", n)
		}
	})
}

// The second attempt goes over a new connection and is the last, however many have died meanwhile.
func TestNoRequestIsSentThreeTimes(t *testing.T) {
	own(t, "net/http goes on until a connection is new", func(t *testing.T, m maker) {
		const idle = 4
		var answered atomic.Int32
		s := serve(t, func(c *conn) {
			if _, more := c.request(); !more {
				return
			}
			answered.Add(1)
			for c.n < idle && answered.Load() < idle {
				settles(patience, func() bool { return answered.Load() >= idle })
			}
			if c.n < idle {
				c.send(ok)
				if _, more := c.request(); !more {
					return
				}
			}
			c.Close()
		})
		client := m.client(t, s)
		var calls []*call
		for range idle {
			calls = append(calls, start(t.Context(), client, get("/first")))
		}
		for _, c := range calls {
			want(t, c.wait(t), 200, "ok")
		}
		if r := do(t, client, get("/second")); r.err == nil {
			t.Errorf("got %v, want an error", r)
		}
		if a, r := s.accepted.Load(), s.requests.Load(); a != idle+1 || r != idle+2 {
			t.Errorf("%d requests on %d connections, want %d on %d", r, a, idle+2, idle+1)
		}
	})
}

// Once an answer has begun, or on a connection that is new, nothing is sent a second time.
func TestNothingIsSentTwiceWithoutNeed(t *testing.T) {
	f := func(name, begun string, fresh bool) {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, m maker) {
				for how, end := range ends {
					s := serve(t, func(c *conn) {
						if !fresh {
							if _, more := c.request(); !more {
								return
							}
							c.send(ok)
						}
						if _, more := c.request(); !more {
							return
						}
						if begun != "" {
							c.send(begun)
							c.taken()
						}
						end(c)
					})
					client := m.client(t, s)
					requests := int32(1)
					if !fresh {
						want(t, do(t, client, get("/")), 200, "ok")
						requests++
					}
					if r := do(t, client, get("/")); r.failure() == nil {
						t.Errorf("%s: got %v, want an error", how, r)
					}
					if n := s.requests.Load(); n != requests {
						t.Errorf("%s: %d requests have come, want %d", how, n, requests)
					}
				}
			})
		})
	}
	f("new, nothing", "", true)
	f("new, one byte", "H", true)
	f("one byte", "H", false)
	f("half a head", "HTTP/1.1 200 OK\r\nContent", false)
	f("an early answer", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", false)
	f("a head", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", false)
}
