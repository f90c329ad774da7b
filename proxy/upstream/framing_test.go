package upstream_test

import (
	"errors"
	"io"
	"strings"
	"testing"
)

const chunkedAnswer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" +
	"5\r\nhello\r\n0b;name=\"value\"\r\n big world!\r\n1\r\n.\r\n000\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n"

// After every one of its bytes a chunked answer may be cut off, and that must never look like an end.
func TestChunkedAnswerThatIsCutOffIsNeverWhole(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		for name, end := range map[string]func(*conn){"FIN": (*conn).finish, "RST": (*conn).reset} {
			s := serve(t, func(c *conn) {
				if _, more := c.request(); more {
					c.send(chunkedAnswer[:c.n])
					end(c)
				}
			})
			client := m.client(t, s)
			for cut := range len(chunkedAnswer) {
				r := do(t, client, get("/"))
				if r.failure() == nil {
					t.Errorf("%s after %q: got %v", name, chunkedAnswer[:cut], r)
				}
				if !strings.HasPrefix("hello big world!.", r.content) {
					t.Errorf("%s after %q: got %q", name, chunkedAnswer[:cut], r.content)
				}
			}
			if n := s.requests.Load(); int(n) != len(chunkedAnswer) {
				t.Errorf("%d requests have come, want %d: on a new connection none is sent twice", n, len(chunkedAnswer))
			}
		}
	})
}

func TestAnswerThatIsCutOffIsNeverWhole(t *testing.T) {
	const answer = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 12\r\nX-A: 1\r\n\r\nhello world!"
	each(t, func(t *testing.T, m maker) {
		for name, end := range map[string]func(*conn){"FIN": (*conn).finish, "RST": (*conn).reset} {
			s := serve(t, func(c *conn) {
				if _, more := c.request(); more {
					c.send(answer[:c.n])
					end(c)
				}
			})
			client := m.client(t, s)
			for cut := range len(answer) {
				r := do(t, client, get("/"))
				if r.failure() == nil {
					t.Errorf("%s after %q: got %v", name, answer[:cut], r)
				}
				if name == "FIN" && r.err == nil && !errors.Is(r.broken, io.ErrUnexpectedEOF) {
					t.Errorf("%s after %q: got %v, want io.ErrUnexpectedEOF", name, answer[:cut], r.broken)
				}
			}
		}
	})
}

// A reset is no end for a content that goes on until the connection ends.
func TestResetIsNoEnd(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		read := make(chan struct{})
		s := serve(t, func(c *conn) {
			if _, more := c.request(); more {
				c.send("HTTP/1.1 200 OK\r\n\r\nhello")
				<-read
				c.reset()
			}
		})
		a := open(t, m.client(t, s), get("/"))
		content := make([]byte, 5)
		if _, err := io.ReadFull(a.Body, content); err != nil || string(content) != "hello" {
			t.Errorf("got %q, %v", content, err)
		}
		close(read)
		if n, err := a.Body.Read(content); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("got %d bytes, %v, want an error that is not io.EOF", n, err)
		}
		a.Body.Close()
	})
}

// How an answer is cut into packets changes nothing.
func TestAnswersInPieces(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nX-A:  1 \r\nX-B:\r\n\r\nhello world!",
		chunkedAnswer,
		"HTTP/1.0 200\r\nX-A: 1\r\n\r\nhello world!",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok,
		"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
	} {
		each(t, func(t *testing.T, m maker) {
			closes := strings.HasPrefix(answer, "HTTP/1.0")
			plan := make(chan []string, 1)
			s := serve(t, func(c *conn) {
				for {
					if _, more := c.request(); !more {
						return
					}
					for i, piece := range <-plan {
						if i > 0 {
							c.taken()
						}
						c.send(piece)
					}
					if closes {
						c.finish()
					}
				}
			})
			client := m.client(t, s)
			f := func(pieces ...string) string {
				plan <- pieces
				return do(t, client, get("/")).String()
			}
			whole := f(answer)
			if got := f(strings.Split(answer, "")...); got != whole {
				t.Errorf("byte by byte: got %s\nwant %s", got, whole)
			}
			for at := 1; at < len(answer); at++ {
				if got := f(answer[:at], answer[at:]); got != whole {
					t.Errorf("%q, %q: got %s\nwant %s", answer[:at], answer[at:], got, whole)
				}
			}
			if n := s.accepted.Load(); n != 1 && !closes {
				t.Errorf("%d connections, want 1", n)
			}
		})
	}
}

const lastChunk = "0\r\n\r\n"

// chunkCases are contents as they are framed, and what is in them.
var chunkCases = []struct {
	name, chunks, want string
	lax                bool // net/http takes it
}{
	{"capitals", "A\r\n0123456789\r\nb\r\n0123456789a\r\n" + lastChunk, "01234567890123456789a", false},
	{"16 digits", "0000000000000002\r\nok\r\n0000000000000000\r\n\r\n", "ok", false},
	{"extensions", "2;a;b=c;d=\"e f\"\r\nok\r\n0;x\r\n\r\n", "ok", false},
	{"long extension", "2;" + strings.Repeat("x", 3000) + "\r\nok\r\n" + lastChunk, "ok", false},
	{"bytes", strings.Repeat("1\r\nx\r\n", 100_000) + lastChunk, strings.Repeat("x", 100_000), false},
	{"one large", "100000\r\n" + strings.Repeat("x", 1<<20) + "\r\n" + lastChunk, strings.Repeat("x", 1<<20), false},
	{"content like chunks", "5\r\n0\r\n\r\n\r\n" + lastChunk, "0\r\n\r\n", false},
	{"17 digits", "00000000000000002\r\nok\r\n" + lastChunk, refusal, false},
	{"2^64-1", "ffffffffffffffff\r\nok\r\n" + lastChunk, refusal, true},
	{"2^63", "8000000000000000\r\nok\r\n" + lastChunk, refusal, true},
	{"2^64+2", "10000000000000002\r\nok\r\n" + lastChunk, refusal, false},
	{"no size", "\r\nok\r\n" + lastChunk, refusal, false},
	{"only an extension", ";x\r\nok\r\n" + lastChunk, refusal, false},
	{"no digit", "g\r\nok\r\n" + lastChunk, refusal, false},
	{"prefix", "0x2\r\nok\r\n" + lastChunk, refusal, false},
	{"sign", "+2\r\nok\r\n" + lastChunk, refusal, false},
	{"negative", "-2\r\nok\r\n" + lastChunk, refusal, false},
	{"underscore", "0_2\r\nok\r\n" + lastChunk, refusal, false},
	{"leading space", " 2\r\nok\r\n" + lastChunk, refusal, true},
	{"space inside", "0 2\r\nok\r\n" + lastChunk, refusal, false},
	{"space and more behind the size", "2 2\r\nok\r\n" + lastChunk, refusal, false},
	{"data without an end", "2\r\nok2\r\nok\r\n" + lastChunk, refusal, false},
	{"LF after data", "2\r\nok\n" + lastChunk + "12345", refusal, false},
	{"CR after data", "2\r\nok\rx" + lastChunk, refusal, false},
	{"LF after size", "2\nok\r\n" + lastChunk, refusal, true},
	{"LF after the last size", "2\r\nok\r\n0\n\r\n", refusal, true},
	{"LF at the end", "2\r\nok\r\n0\r\n\n", refusal, true},
	{"CR in an extension", "2;a\rb\r\nok\r\n" + lastChunk, refusal, true},
	{"LF in an extension", "2;a\nok\r\n" + lastChunk, refusal, true},
	{"NUL in an extension", "2;a\x00\r\nok\r\n" + lastChunk, refusal, true},
	{"an extension that is too long", "2;" + strings.Repeat("x", 17<<10) + "\r\nok\r\n" + lastChunk, refusal, false},
	{"an extension without end", "2;" + strings.Repeat("x", 2<<20), refusal, false},
	{"a size without end", strings.Repeat("0", 2<<20), refusal, false},
	{"a trailer without end", "0\r\n" + strings.Repeat("X-A: 1\r\n", 1<<18), refusal, false},
	{"a trailer that is too long", "0\r\nX: " + strings.Repeat("y", 2<<20) + "\r\n\r\n", refusal, false},
	{"a trailer without a colon", "0\r\nX-A\r\n\r\n", refusal, false},
	{"a trailer with a space", "0\r\nX-A : 1\r\n\r\n", refusal, true},
	{"a trailer with LF", "0\r\nX-A: 1\n\r\n", refusal, true},
	{"a folded trailer", "0\r\nX-A: 1\r\n 2\r\n\r\n", refusal, true},
	{"NUL in a trailer", "0\r\nX-A: 1\x00\r\n\r\n", refusal, true},
}

func TestChunks(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, c := range chunkCases {
		t.Run(c.name, func(t *testing.T) {
			each(t, func(t *testing.T, m maker) {
				if c.lax && !m.own {
					return
				}
				s := serve(t, func(server *conn) {
					for {
						if _, more := server.request(); !more {
							return
						}
						server.send(head, c.chunks)
					}
				})
				client := m.client(t, s)
				for range 2 {
					r := do(t, client, get("/"))
					if got := r.content; c.want != refusal && (r.failure() != nil || got != c.want) {
						t.Errorf("got %.200q, %v, want %.200q", got, r.failure(), c.want)
					} else if c.want == refusal && r.failure() == nil {
						t.Errorf("got %.200q, want an error", got)
					}
				}
				n := int32(1)
				if c.want == refusal {
					n = 2
				}
				if got := s.accepted.Load(); got != n {
					t.Errorf("%d connections, want %d", got, n)
				}
			})
		})
	}
}

// refusal is a content that stands for an error.
const refusal = "an error"
