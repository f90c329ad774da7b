package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// behaviours are what the server of the hammer does with a request, whose target names one: /id/behaviour. It returns
// whether it goes on.
var behaviours = map[string]func(c *conn, q *message, id string) bool{
	"keep": func(c *conn, q *message, id string) bool {
		if c.rest(q) {
			c.send(marked(id, fmt.Sprintf("Content-Length: %d\r\n\r\n", len(marks(id))), marks(id)))
		}
		return true
	},
	"slow": func(c *conn, q *message, id string) bool {
		c.rest(q)
		for _, piece := range strings.SplitAfter(marked(id, fmt.Sprintf("Content-Length: %d\r\n\r\n", len(marks(id))), marks(id)), id) {
			for range rand.IntN(50) {
				runtime.Gosched()
			}
			c.send(piece)
		}
		return true
	},
	"chunked": func(c *conn, q *message, id string) bool {
		c.rest(q)
		c.send(marked(id, "Transfer-Encoding: chunked\r\n\r\n", ""))
		for rest := marks(id); rest != ""; {
			n := min(1+rand.IntN(50), len(rest))
			c.send(fmt.Sprintf("%x\r\n%s\r\n", n, rest[:n]))
			rest = rest[n:]
		}
		c.send("0\r\nX-Sum: "+id, "\r\n\r\n")
		return true
	},
	"hints": func(c *conn, q *message, id string) bool {
		c.send("HTTP/1.1 103 Early Hints\r\nX-Id: " + id + "\r\n\r\n")
		c.rest(q)
		c.send("HTTP/1.1 100 Continue\r\n\r\n", marked(id, "Content-Length: 0\r\n\r\n", ""))
		return true
	},
	"early": func(c *conn, q *message, id string) bool { // before the content, which it reads all the same
		c.send(marked(id, fmt.Sprintf("Content-Length: %d\r\n\r\n", len(marks(id))), marks(id)))
		return c.rest(q)
	},
	"stops": func(c *conn, _ *message, id string) bool { // before the content, which it leaves
		c.send(marked(id, "Connection: close\r\nContent-Length: 0\r\n\r\n", ""))
		c.Close()
		return false
	},
	"close": func(c *conn, q *message, id string) bool {
		c.rest(q)
		c.send(marked(id, fmt.Sprintf("Connection: close\r\nContent-Length: %d\r\n\r\n", len(marks(id))), marks(id)))
		c.Close()
		return false
	},
	"end": func(c *conn, q *message, id string) bool {
		c.rest(q)
		c.send(marked(id, "\r\n", marks(id)))
		c.Close()
		return false
	},
	"cut": func(c *conn, q *message, id string) bool {
		c.rest(q)
		whole := marked(id, fmt.Sprintf("Content-Length: %d\r\n\r\n", len(marks(id))), marks(id))
		c.send(whole[:rand.IntN(len(whole))])
		if rand.IntN(2) == 0 {
			c.reset()
		}
		c.Close()
		return false
	},
	"junk": func(c *conn, q *message, id string) bool {
		c.rest(q)
		// In one packet: junk that comes after the next request is an answer to that.
		c.send(marked(id, "Content-Length: 0\r\n\r\n", "") + "HTTP/1.1 200 OK\r\nX-Id: junk\r\nContent-Length: 4\r\n\r\njunk")
		_, _ = io.Copy(io.Discard, c.r)
		return false
	},
}

// mayFail are the behaviours after which no answer is one of the outcomes.
var mayFail = map[string]bool{"cut": true, "stops": true}

func marks(id string) string { return strings.Repeat(id+" ", 100) }

func marked(id, framing, content string) string {
	return "HTTP/1.1 200 OK\r\nX-Id: " + id + "\r\n" + framing + content
}

// TestHammer mixes all of it. No answer may be another's, and nothing may be left at the end.
func TestHammer(t *testing.T) {
	for _, most := range []int{0, 10} {
		each(t, func(t *testing.T, m maker) {
			s := serve(t, func(c *conn) {
				c.tested = true
				for {
					var q message
					var more bool
					if q.head, more = c.head(); !more {
						return
					}
					parts := strings.Split(q.target(), "/")
					if !behaviours[parts[2]](c, &q, parts[1]) {
						return
					}
				}
			})
			s.lenient.Store(true)
			client := m.client(t, s, atMost(most))
			var names []string
			for name := range behaviours {
				if name != "junk" && name != "stops" || m.own { // net/http sees junk too late, and may take a reset for the answer
					names = append(names, name)
				}
			}
			var done atomic.Int64
			var all sync.WaitGroup
			until := time.Now().Add(hammering() / 4)
			for worker := range 64 {
				all.Go(func() {
					for i := 0; time.Now().Before(until); i++ {
						hit(t, m, client, fmt.Sprintf("%d-%d", worker, i), names[rand.IntN(len(names))])
						done.Add(1)
					}
				})
			}
			all.Wait()
			client.Close()
			if !settles(patience, func() bool { return s.open.Load() == 0 }) {
				t.Errorf("%d connections are open at the end, want none", s.open.Load())
			}
			t.Logf("%d requests on %d connections", done.Load(), s.accepted.Load())
		})
	}
}

// hit sends one request and looks at what comes back.
func hit(t *testing.T, m maker, client upstream.Client, id, behaviour string) {
	q := get("/" + id + "/" + behaviour)
	if rand.IntN(2) == 0 {
		q.Scratch = make([]byte, 1+rand.IntN(5000))
	}
	var u *upload
	if rand.IntN(2) == 0 {
		q.Method = "POST"
		piece := strings.Repeat("x", 1+rand.IntN(1000)*(1+rand.IntN(40)/39*40))
		u = content(t, piece, piece)
		q.Body, q.Length = u, int64(2*len(piece))
		if rand.IntN(2) == 0 {
			q.Length = -1
		}
	}
	kinds := m.endings(t)
	ctx := kinds[rand.IntN(len(kinds))]
	goes, leaves := rand.IntN(4) == 0, rand.IntN(8) == 0
	var over sync.WaitGroup
	if goes {
		wait := rand.IntN(300)
		over.Go(func() {
			for range wait {
				runtime.Gosched()
			}
			ctx.end(errGone)
		})
	}
	var a upstream.Response
	err := client.Do(ctx.Context, q, &a)
	if err == nil {
		err = take(t, &a, id, leaves)
	}
	over.Wait()
	// With net/http a request may fail because of the end of one that had the connection before.
	expected := mayFail[behaviour] || (goes || !m.own) && errors.Is(err, errGone) || errors.Is(err, errLeft)
	if err != nil && !expected {
		t.Errorf("%s %s: %v", id, behaviour, err)
	}
	ctx.check(t, behaviour)
	ctx.end(context.Canceled)
	for i := range q.Scratch {
		q.Scratch[i] = 0xDB
	}
	if got := a.Fields.Get("X-Id"); err == nil && got != id {
		t.Errorf("%s %s: got the answer to %s", id, behaviour, got)
	}
	if u != nil {
		wantClosed(t, u)
	}
}

var errLeft = errors.New("test: not interested any more")

// take reads an answer, or a part of it.
func take(t *testing.T, a *upstream.Response, id string, leaves bool) error {
	defer a.Body.Close()
	if got := a.Fields.Get("X-Id"); a.Status != 200 || got != id {
		t.Errorf("%s: got %d, X-Id %q", id, a.Status, got)
	}
	if leaves {
		_, _ = a.Body.Read(make([]byte, 10))
		return errLeft
	}
	content, err := io.ReadAll(a.Body)
	if !strings.HasPrefix(marks(id), string(content)) || err == nil && len(content) > 0 && string(content) != marks(id) {
		t.Errorf("%s: got %.100q of %d bytes, %v", id, content, len(content), err)
	}
	if trailer := a.Trailer(); err == nil && len(trailer) > 0 && trailer.Get("X-Sum") != id {
		t.Errorf("%s: got the trailer %v", id, trailer)
	}
	return err
}
