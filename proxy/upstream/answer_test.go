package upstream_test

import (
	"fmt"
	"strings"
	"testing"
)

// accepted is an answer that a client must take.
type accepted struct {
	name   string
	method string // empty means GET
	answer string
	want   string // as result.String has it
	closes bool   // the server closes the connection behind the answer
	own    bool   // net/http does not take it, or something else from it
}

var acceptedAnswers = []accepted{
	{name: "plain", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", want: "200, length 2\nContent-Length: 2\n\"ok\"\n"},
	{name: "empty", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", want: "200, length 0\nContent-Length: 0\n\"\"\n"},
	{name: "no reason", answer: "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", want: "200, length 0\nContent-Length: 0\n\"\"\n"},
	{name: "empty reason", answer: "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", want: "200, length 0\nContent-Length: 0\n\"\"\n"},
	{name: "reason of words", answer: "HTTP/1.1 404 It's not \xc3\xa9 here\r\nContent-Length: 0\r\n\r\n", want: "404, length 0\nContent-Length: 0\n\"\"\n"},
	{name: "status 999", answer: "HTTP/1.1 999 ?\r\nContent-Length: 0\r\n\r\n", want: "999, length 0\nContent-Length: 0\n\"\"\n"},
	{
		name:   "fields",
		answer: "HTTP/1.1 200 OK\r\nx-a:1\r\nX-A: \t 2\t \r\nx-EMPTY:\r\nX-Obs: \xff\xc3\xa9\tx\r\nContent-Length: 0\r\n\r\n",
		want:   "200, length 0\nContent-Length: 0\nX-A: 1\nX-A: 2\nX-Empty: \nX-Obs: \xff\xc3\xa9\tx\n\"\"\n",
	},
	{
		name: "names of all tokens", answer: "HTTP/1.1 200 OK\r\n!#$%&'*+-.^_`|~09azAZ: 1\r\nContent-Length: 0\r\n\r\n",
		want: "200, length 0\n!#$%&'*+-.^_`|~09azaz: 1\nContent-Length: 0\n\"\"\n",
	},
	{
		name: "hop-by-hop fields", answer: "HTTP/1.1 200 OK\r\nConnection: x-a\r\nX-A: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n",
		want: "200, length 0\nConnection: x-a\nContent-Length: 0\nKeep-Alive: timeout=5\nX-A: 1\n\"\"\n",
	},
	{
		name: "length with zeros", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0002\r\n\r\nok",
		want: "200, length 2\nContent-Length: 0002\n\"ok\"\n",
	},
	{name: "chunked", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", want: "200, length -1\n\"ok\"\n"},
	{name: "chunked in capitals", answer: "HTTP/1.1 200 OK\r\ntransfer-encoding:\tCHUNKED \r\n\r\n2\r\nok\r\n0\r\n\r\n", want: "200, length -1\n\"ok\"\n"},
	{
		name: "chunked with a length", answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		want: "200, length -1\n\"ok\"\n",
	},
	{
		name:   "chunked with a trailer",
		answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum, X-Other\r\n\r\n2\r\nok\r\n0\r\nx-sum:  1 \r\nX-Sum: 2\r\n\r\n",
		want:   "200, length -1\ntrailer X-Other, X-Sum\n\"ok\"\nX-Sum: 1\nX-Sum: 2\n",
	},
	{
		name: "trailer that was not announced", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
		want: "200, length -1\n\"ok\"\nX-Sum: 1\n",
	},
	{
		name: "trailer of framing", own: true,
		answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\nX-Sum: 1\r\ntransfer-encoding: chunked\r\nTrailer: X\r\n\r\n",
		want:   "200, length -1\n\"\"\nX-Sum: 1\n",
	},
	{name: "until the end", answer: "HTTP/1.1 200 OK\r\n\r\nok", closes: true, want: "200, length -1\n\"ok\"\n"},
	{name: "nothing until the end", answer: "HTTP/1.1 200 OK\r\n\r\n", closes: true, want: "200, length -1\n\"\"\n"},
	{name: "HTTP/1.0 until the end", answer: "HTTP/1.0 200 OK\r\nX-A: 1\r\n\r\nok", closes: true, want: "200, length -1\nX-A: 1\n\"ok\"\n"},
	{name: "HTTP/1.0 with a length", answer: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", want: "200, length 2\nContent-Length: 2\n\"ok\"\n"},
	{name: "HEAD", method: "HEAD", answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", want: "200, length 5\nContent-Length: 5\n\"\"\n"},
	{name: "HEAD of unknown length", method: "HEAD", answer: "HTTP/1.1 200 OK\r\n\r\n", want: "200, length -1\n\"\"\n"},
	{name: "HEAD of chunks", method: "HEAD", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", want: "200, length -1\n\"\"\n"},
	{name: "204", answer: "HTTP/1.1 204 No Content\r\n\r\n", want: "204, length 0\n\"\"\n"},
	{name: "304", answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", want: "304, length 0\nContent-Length: 5\n\"\"\n"},
	{name: "204 with chunks announced", answer: "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", want: "204, length 0\n\"\"\n", own: true},
	{name: "304 with chunks announced", answer: "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", want: "304, length 0\n\"\"\n", own: true},
	{
		name:   "early answers",
		answer: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + ok,
		want:   "103\nLink: </a>\nLink: </b>\n102\n200, length 2\nContent-Length: 2\n\"ok\"\n",
	},
	{
		name: "a length in an early answer", answer: "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n" + ok,
		want: "103\nContent-Length: 5\n200, length 2\nContent-Length: 2\n\"ok\"\n",
	},
	{name: "16 early answers", answer: strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 16) + ok, want: "200, length 2\nContent-Length: 2\n\"ok\"\n"},
	{
		name: "many fields", answer: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 3000) + "Content-Length: 0\r\n\r\n",
		want: "200, length 0\nContent-Length: 0\n" + strings.Repeat("X: y\n", 3000) + "\"\"\n",
	},
	{
		name: "a long field", answer: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 900_000) + "\r\nContent-Length: 0\r\n\r\n",
		want: "200, length 0\nContent-Length: 0\nX: " + strings.Repeat("y", 900_000) + "\n\"\"\n",
	},
	{
		name: "equal lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\nok", // one is dropped (RFC 9110, section 8.6)
		want: "200, length 2\nContent-Length: 2\n\"ok\"\n",
	},
}

func TestAnswersThatAreAccepted(t *testing.T) {
	for _, c := range acceptedAnswers {
		t.Run(c.name, func(t *testing.T) {
			each(t, func(t *testing.T, m maker) {
				if c.own && !m.own {
					return
				}
				s := serve(t, func(server *conn) {
					for {
						if _, more := server.request(); !more {
							return
						}
						if server.send(c.answer); c.closes {
							server.finish()
						}
					}
				})
				client := m.client(t, s)
				for range 2 { // the second is not disturbed by what the first has left
					q := get("/")
					if c.method != "" {
						q.Method = c.method
					}
					if got := do(t, client, q).String(); got != c.want {
						t.Errorf("got %.1000s\nwant %.1000s", got, c.want)
					}
				}
			})
		})
	}
}

func TestOrderOfFieldsIsKept(t *testing.T) {
	own(t, "net/http has a map", func(t *testing.T, m maker) {
		s := answering(t, "HTTP/1.1 200 OK\r\nX-B: 1\r\nX-A: 2\r\nx-b: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-D: 4\r\nX-C: 5\r\nX-D: 6\r\n\r\n")
		r := do(t, m.client(t, s), get("/"))
		fields := r.Fields
		fields.Del("Transfer-Encoding")
		if got := fmt.Sprint(fields, r.trailer); got != "[{X-B 1} {X-A 2} {X-B 3}] [{X-D 4} {X-C 5} {X-D 6}]" {
			t.Errorf("got %s, %v", got, r)
		}
	})
}

// refused is an answer that a client must not take. It looks complete to whoever is lax.
type refused struct {
	name   string
	answer string
	lax    bool // net/http takes it
}

func withField(line string) string {
	return "HTTP/1.1 200 OK\r\n" + line + "Content-Length: 2\r\n\r\nok"
}

var refusedAnswers = []refused{
	{name: "no HTTP", answer: "HELO, this is a long line\r\n\r\n"},
	{name: "leading empty line", answer: "\r\n" + ok},
	{name: "leading space", answer: " " + ok},
	{name: "HTTP/2.0", answer: "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", lax: true},
	{name: "HTTP/0.9", answer: "HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\nok", lax: true},
	{name: "HTTP/1.2", answer: "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok", lax: true},
	{name: "HTTP/1.10", answer: "HTTP/1.10 200 OK\r\nContent-Length: 2\r\n\r\nok"},
	{name: "http/1.1", answer: "http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
	{name: "two spaces", answer: "HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok", lax: true},
	{name: "tab", answer: "HTTP/1.1\t200 OK\r\nContent-Length: 2\r\n\r\nok"},
	{name: "status of two digits", answer: "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok"},
	{name: "status of four digits", answer: "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok"},
	{name: "status with a sign", answer: "HTTP/1.1 +20 OK\r\nContent-Length: 2\r\n\r\nok", lax: true},
	{name: "status 099", answer: "HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok", lax: true},
	{name: "status 000", answer: "HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nok", lax: true},
	{name: "status of letters", answer: "HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\nok"},
	{name: "reason without a space", answer: "HTTP/1.1 200OK\r\nContent-Length: 2\r\n\r\nok"},
	{name: "NUL in the reason", answer: "HTTP/1.1 200 O\x00K\r\nContent-Length: 2\r\n\r\nok", lax: true},
	{name: "CR in the reason", answer: "HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nok", lax: true},
	{name: "LF after the status", answer: "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok", lax: true},
	{name: "LF after a field", answer: "HTTP/1.1 200 OK\r\nX-A: 1\nContent-Length: 2\r\n\r\nok", lax: true},
	{name: "LF in place of the empty line", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok", lax: true},
	{name: "LF before the empty line", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok", lax: true},
	{name: "only LF", answer: "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", lax: true},
	{name: "CR in a value", answer: withField("X-A: 1\r2\r\n")},
	{name: "CR CR LF", answer: withField("X-A: 1\r\r\n"), lax: true},
	{name: "CR in a name", answer: withField("X\rA: 1\r\n")},
	{name: "NUL in a value", answer: withField("X-A: 1\x002\r\n"), lax: true},
	{name: "control character in a value", answer: withField("X-A: 1\x012\r\n"), lax: true},
	{name: "DEL in a value", answer: withField("X-A: 1\x7f2\r\n"), lax: true},
	{name: "space before the colon", answer: withField("X-A : 1\r\n"), lax: true},
	{name: "tab before the colon", answer: withField("X-A\t: 1\r\n"), lax: true},
	{name: "space in a name", answer: withField("X A: 1\r\n"), lax: true},
	{name: "name not ASCII", answer: withField("X\xc3\xa9: 1\r\n"), lax: true},
	{name: "separator in a name", answer: withField("X(A): 1\r\n"), lax: true},
	{name: "empty name", answer: withField(": 1\r\n")},
	{name: "no colon", answer: withField("X-A\r\n")},
	{name: "folded", answer: withField("X-A: 1\r\n 2\r\n"), lax: true},
	{name: "folded with a tab", answer: withField("X-A: 1\r\n\t2\r\n"), lax: true},
	{name: "folded at once", answer: withField(" X-A: 1\r\n")},
	{name: "two lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!"},
	{name: "a list of lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok"},
	{name: "length with a sign", answer: "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"},
	{name: "negative length", answer: "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok"},
	{name: "hexadecimal length", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok"},
	{name: "length with a space", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0 2\r\n\r\nok"},
	{name: "empty length", answer: "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nok"},
	{name: "length over 2^63", answer: "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nok"},
	{name: "length over 2^64", answer: "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nok"},
	{name: "gzip, chunked", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
	{name: "gzip and chunked", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
	{name: "chunked twice", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
	{name: "chunked, chunked", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
	{name: "identity", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok"},
	{name: "empty coding", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: \r\nContent-Length: 2\r\n\r\nok"},
	{name: "chunked with a vertical tab", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: \vchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
	{name: "chunked in HTTP/1.0", answer: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", lax: true},
	{name: "a head that is too long", answer: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 1<<20)},
	{name: "fields without end", answer: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: 1\r\n", 1<<18)},
	{name: "status line without end", answer: "HTTP/1.1 200 " + strings.Repeat("O", 2<<20)},
	{name: "17 early answers", answer: strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 17) + ok},
	{name: "17 hints", answer: strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 17) + ok},
	{name: "101 that nobody asked for", answer: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" + ok, lax: true},
	{name: "early answer of a bad form", answer: "HTTP/1.1 103 Early Hints\r\nLink : </a>\r\n\r\n" + ok, lax: true},
}

func TestAnswersThatAreRefused(t *testing.T) {
	for _, c := range refusedAnswers {
		t.Run(c.name, func(t *testing.T) {
			each(t, func(t *testing.T, m maker) {
				if c.lax && !m.own {
					return
				}
				s := serve(t, func(server *conn) {
					if _, more := server.request(); more {
						server.send(c.answer) // and the client must close
					}
				})
				client := m.client(t, s)
				for range 2 {
					if r := do(t, client, get("/")); r.failure() == nil {
						t.Errorf("accepted: %.1000s", r)
					}
				}
				if n := s.requests.Load(); n != 2 {
					t.Errorf("%d requests have come, want 2: none is sent twice", n)
				}
			})
		})
	}
}
