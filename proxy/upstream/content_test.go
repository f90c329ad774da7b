package upstream_test

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// A content that is shorter or longer than its length must never look complete, or like another request.
func TestContentOfAnotherLengthIsNeverComplete(t *testing.T) {
	f := func(name string, length int64, pieces ...string) {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, m maker) {
				if length == 0 && !m.own {
					return // net/http takes a length of 0 beside a Body for an unknown one
				}
				s := serve(t, func(c *conn) {
					c.tested = true
					head, more := c.head()
					if !more {
						return
					}
					rest, most := c.wait(), length
					if m.own { // net/http looks for more when it has sent what it should
						most--
					}
					if int64(len(rest)) > most || len(rest) > len(strings.Join(pieces, "")) {
						t.Errorf("%q was followed by %.100q", head, rest)
					}
				})
				client := m.client(t, s)
				for _, wrap := range []func(*upload) io.ReadCloser{plain, writerTo} {
					u := content(t, pieces...)
					if r := do(t, client, post(wrap(u), length)); r.err == nil {
						t.Errorf("got %v, want an error", r)
					}
					wantClosed(t, u)
				}
			})
		})
	}
	f("short", 10, "hello")
	f("short by one", 6, "hello")
	f("empty", 5)
	f("long", 4, "hello")
	f("long, another piece", 5, "hello", "x")
	f("long, a request", 5, "helloGET / HTTP/1.1\r\n\r\n")
	f("not empty", 0, "x")
	f("much too long", 1<<20, strings.Repeat("x", 1<<20), "y")
}

func plain(u *upload) io.ReadCloser { return u }

// writing is an upload that is an io.WriterTo. It makes what it has written unreadable.
type writing struct{ *upload }

func writerTo(u *upload) io.ReadCloser { return writing{u} }

// WriteTo writes pieces as they come.
func (w writing) WriteTo(to io.Writer) (written int64, err error) {
	buf := make([]byte, 4096)
	for {
		n, err := w.Read(buf)
		if n > 0 {
			n, err := to.Write(buf[:n])
			written += int64(n)
			for i := range buf {
				buf[i] = '!'
			}
			if err != nil {
				return written, err
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return written, err
		}
	}
}

func TestContentIsSentWhole(t *testing.T) {
	for name, wrap := range map[string]func(*upload) io.ReadCloser{"Reader": plain, "WriterTo": writerTo} {
		for _, pieces := range [][]string{
			{"x"},
			{"hel", "lo"},
			{strings.Repeat("a", 4096), strings.Repeat("b", 4097), strings.Repeat("c", 100_000)},
			slices.Repeat([]string{"z"}, 1000),
		} {
			each(t, func(t *testing.T, m maker) {
				s, got := listening(t, ok)
				client := m.client(t, s)
				whole := strings.Join(pieces, "")
				for i := range 6 {
					length := int64(-1)
					if i%2 == 0 {
						length = int64(len(whole))
					}
					u := content(t, pieces...)
					want(t, do(t, client, post(wrap(u), length)), 200, "ok")
					if sent := receive(t, got); sent.content != whole {
						t.Errorf("%s, length %d: got %.100q, want %.100q", name, length, sent.content, whole)
					}
					wantClosed(t, u)
				}
				s.reuses(t, 6)
			})
		}
	}
}

// A piece goes out when it is there, not when the next one is.
func TestContentIsSentAsItComes(t *testing.T) {
	for name, wrap := range map[string]func(*upload) io.ReadCloser{"Reader": plain, "WriterTo": writerTo} {
		for _, length := range []int64{-1, 9} {
			each(t, func(t *testing.T, m maker) {
				if length >= 0 && !m.own {
					return // net/http fills a buffer of 4 KiB first
				}
				u := uploading(t, "one")
				s := serve(t, func(c *conn) {
					head, _ := c.head()
					f := func(piece string) {
						if length < 0 {
							piece = "3\r\n" + piece + "\r\n"
						}
						got := make([]byte, len(piece))
						if _, err := io.ReadFull(c.r, got); err != nil || string(got) != piece {
							t.Errorf("%s: after %q: got %q, %v, want %q", name, head, got, err, piece)
						}
					}
					f("one")
					u.pieces <- "two"
					f("two")
					u.pieces <- "six"
					close(u.pieces) // of the last piece it must be known that it is that
					f("six")
					if length < 0 {
						_, _ = io.CopyN(io.Discard, c.r, int64(len("0\r\n\r\n")))
					}
					c.send(ok)
				})
				want(t, do(t, m.client(t, s), post(wrap(u), length)), 200, "ok")
			})
		}
	}
}

func TestContentThatFailsIsNeverComplete(t *testing.T) {
	broken := errors.New("test: the caller has gone")
	for _, length := range []int64{-1, 5, 8} {
		each(t, func(t *testing.T, m maker) {
			if length == 5 && !m.own {
				return // net/http has read all that it wants, and calls it a good end
			}
			s := serve(t, func(c *conn) {
				c.tested = true
				if _, more := c.head(); !more {
					return
				}
				if rest := c.wait(); strings.HasSuffix(rest, "0\r\n\r\n") {
					t.Errorf("length %d: got %q", length, rest)
				}
			})
			client := m.client(t, s)
			for _, wrap := range []func(*upload) io.ReadCloser{plain, writerTo} {
				u := content(t, "hello")
				u.failure = broken
				if r := do(t, client, post(wrap(u), length)); !errors.Is(r.err, broken) {
					t.Errorf("length %d: got %v, want %v", length, r.err, broken)
				}
				wantClosed(t, u)
			}
		})
	}
}

func TestTrailerOfARequest(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		s, got := listening(t, ok)
		trailer := http.Header{"X-Late": nil, "X-Never": nil, "X-Two": {"a", "b"}}
		u := uploading(t, "hello")
		q := post(u, -1)
		q.Trailer = trailer
		q.Body = closing{u, func() { trailer["X-Late"] = []string{"7"} }}
		close(u.pieces)
		want(t, do(t, m.client(t, s), q), 200, "ok")
		sent := receive(t, got)
		names := strings.Split(strings.ReplaceAll(sent.field("Trailer"), " ", ""), ",")
		if slices.Sort(names); !slices.Equal(names, []string{"X-Late", "X-Never", "X-Two"}) {
			t.Errorf("announced %q", names)
		}
		lines := strings.Split(strings.TrimSuffix(sent.trailer, "\r\n"), "\r\n")
		if slices.Sort(lines); !slices.Equal(lines, []string{"X-Late: 7", "X-Two: a", "X-Two: b"}) {
			t.Errorf("trailer %q", lines)
		}
	})
}

// closing calls end before it says io.EOF.
type closing struct {
	*upload
	end func()
}

func (c closing) Read(p []byte) (int, error) {
	n, err := c.upload.Read(p)
	if err != nil {
		c.end()
	}
	return n, err
}

// What a trailer's values are is known only when the content has gone out: then the message must stay unfinished.
func TestTrailerThatCannotBeSent(t *testing.T) {
	own(t, "net/http turns line breaks into spaces", func(t *testing.T, m maker) {
		s := serve(t, func(c *conn) {
			c.tested = true
			if _, more := c.head(); !more {
				return
			}
			if rest := c.wait(); strings.HasSuffix(rest, "\r\n\r\n") || strings.Contains(rest, "X-Evil") {
				t.Errorf("got %q", rest)
			}
		})
		trailer := http.Header{"X-Late": nil}
		u := content(t, "hello")
		q := post(closing{u, func() { trailer["X-Late"] = []string{"7\r\nX-Evil: 1"} }}, -1)
		q.Trailer = trailer
		if r := do(t, m.client(t, s), q); r.err == nil {
			t.Errorf("got %v, want an error", r)
		}
		wantClosed(t, u)
	})
}

func TestContentIsClosedWhenNobodyListens(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		s := serve(t, func(*conn) {})
		s.listener.Close()
		client := m.client(t, s)
		for _, length := range []int64{-1, 5} {
			u := content(t, "hello")
			q := post(u, length)
			q.Again = func() (io.ReadCloser, error) { return content(t, "hello"), nil }
			if r := do(t, client, q); r.err == nil {
				t.Errorf("got %v, want an error", r)
			}
			wantClosed(t, u)
		}
	})
}

func TestContentIsClosedWhenTheTargetIsBad(t *testing.T) {
	own(t, "net/http sends it", func(t *testing.T, m maker) {
		s := serve(t, func(*conn) {})
		u := uploading(t)
		q := &upstream.Request{Method: "POST", Target: "/ ", Body: u, Length: -1}
		if r := do(t, m.client(t, s), q); !errors.Is(r.err, upstream.ErrTarget) {
			t.Errorf("got %v, want %v", r.err, upstream.ErrTarget)
		}
		wantClosed(t, u)
	})
}
