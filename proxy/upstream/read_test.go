package upstream_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// However little a reader takes at a time, it gets the same.
func TestContentReadInPieces(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello world!", chunkedAnswer, "HTTP/1.0 200 OK\r\n\r\nhello world!",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\nx\r\n2\r\nyz\r\n", 2000) + "0\r\nX-Sum: 1\r\n\r\n",
	} {
		each(t, func(t *testing.T, m maker) {
			s := serve(t, func(c *conn) {
				for {
					if _, more := c.request(); !more {
						return
					}
					if c.send(answer); strings.HasPrefix(answer, "HTTP/1.0") {
						c.finish()
					}
				}
			})
			client := m.client(t, s)
			whole := do(t, client, get("/"))
			for _, size := range []int{1, 2, 3, 7, 100} {
				a := open(t, client, get("/"))
				if n, err := a.Body.Read(nil); n != 0 || err != nil {
					t.Errorf("a Read of nothing: got %d, %v", n, err)
				}
				var got strings.Builder
				var err error
				for err == nil {
					var n int
					p := make([]byte, size)
					n, err = a.Body.Read(p)
					got.Write(p[:n])
				}
				if got.String() != whole.content || !errors.Is(err, io.EOF) || written(a.Trailer()) != written(whole.trailer) {
					t.Errorf("by %d bytes: got %.100q, %v, %v, want %.100q", size, got.String(), err, a.Trailer(), whole.content)
				}
				a.Body.Close()
			}
		})
	}
}

// A Body that says it is ready does not make its reader wait, wherever the answer stands still.
func TestReadyBodyDoesNotWait(t *testing.T) {
	own(t, "net/http does not say", func(t *testing.T, m maker) {
		for _, answer := range []string{chunkedAnswer, "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello world!", "HTTP/1.1 200 OK\r\n\r\nhello"} {
			head := strings.Index(answer, "\r\n\r\n") + 4
			s := serve(t, func(c *conn) {
				if _, more := c.request(); more {
					c.send(answer[:head+c.n])
				}
			})
			client := m.client(t, s)
			for cut := head; cut < len(answer); cut++ {
				size := 1 + (cut-head)%2*4095
				a := open(t, client, get("/"))
				body, says := a.Body.(interface{ Ready() bool })
				if !says {
					t.Fatalf("%q: a %T does not say", answer[:cut], a.Body)
				}
				for body.Ready() {
					read := make(chan error, 1)
					go func() {
						n, err := a.Body.Read(make([]byte, size))
						if n == 0 && err == nil {
							err = io.ErrNoProgress
						}
						read <- err
					}()
					if err := receive(t, read); err != nil {
						t.Errorf("%q: %v", answer[:cut], err)
						break
					}
				}
				a.Body.Close()
			}
		}
	})
}

// idling gives nothing at every other Read, which io.Reader allows.
type idling struct {
	io.ReadCloser
	idle bool
}

func (i *idling) Read(p []byte) (int, error) {
	if i.idle = !i.idle; i.idle {
		return 0, nil
	}
	return i.ReadCloser.Read(p)
}

// withEOF gives its last bytes together with io.EOF, which io.Reader allows as well.
type withEOF struct {
	io.Reader
	io.Closer
}

func TestContentOfUnusualReaders(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		s, got := listening(t, ok)
		client := m.client(t, s)
		for name, wrap := range map[string]func(*upload) io.ReadCloser{
			"idle":          func(u *upload) io.ReadCloser { return &idling{ReadCloser: u} },
			"EOF with data": func(u *upload) io.ReadCloser { return withEOF{iotest.DataErrReader(u), u} },
			"by byte":       func(u *upload) io.ReadCloser { return withEOF{iotest.OneByteReader(u), u} },
		} {
			for _, length := range []int64{-1, 11} {
				u := content(t, "hello ", "world")
				want(t, do(t, client, post(wrap(u), length)), 200, "ok")
				if sent := receive(t, got); sent.content != "hello world" {
					t.Errorf("%s, length %d: got %q", name, length, sent.content)
				}
				wantClosed(t, u)
			}
		}
	})
}
