package upstream_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/proxy/upstream"
)

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// listening returns a server that puts each request into a channel.
func listening(t testing.TB, answer string) (*server, <-chan message) {
	got := make(chan message, 64)
	return serve(t, func(c *conn) {
		for {
			m, more := c.request()
			if !more {
				return
			}
			got <- m
			c.send(answer)
		}
	}), got
}

// sorted brings the lines of a head below the first into order: net/http has one of its own.
func sorted(head string) string {
	lines := strings.Split(head, "\r\n")
	slices.Sort(lines[1:])
	return strings.Join(lines, "\r\n")
}

// fields makes fields of names and values.
func fields(pairs ...string) (f upstream.Fields) {
	for i := 0; i < len(pairs); i += 2 {
		f = append(f, upstream.Field{Name: pairs[i], Value: pairs[i+1]})
	}
	return f
}

var writtenRequests = []struct {
	name, base string
	q          upstream.Request
	pieces     []string // nil means no Body
	want       string   // HOST stands for the server's address
}{
	{name: "GET", q: upstream.Request{Method: "GET", Target: "/"}, want: "GET / HTTP/1.1\r\nHost: HOST\r\n\r\n"},
	{name: "HEAD", q: upstream.Request{Method: "HEAD", Target: "/a"}, want: "HEAD /a HTTP/1.1\r\nHost: HOST\r\n\r\n"},
	{name: "DELETE", q: upstream.Request{Method: "DELETE", Target: "/a"}, want: "DELETE /a HTTP/1.1\r\nHost: HOST\r\n\r\n"},
	{name: "OPTIONS", q: upstream.Request{Method: "OPTIONS", Target: "/a"}, want: "OPTIONS /a HTTP/1.1\r\nHost: HOST\r\n\r\n"},
	{name: "POST", q: upstream.Request{Method: "POST", Target: "/"}, want: "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n\r\n"},
	{name: "PUT", q: upstream.Request{Method: "PUT", Target: "/"}, want: "PUT / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n\r\n"},
	{name: "PATCH", q: upstream.Request{Method: "PATCH", Target: "/"}, want: "PATCH / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n\r\n"},
	{
		name: "a length without content", q: upstream.Request{Method: "GET", Target: "/", Length: 7},
		want: "GET / HTTP/1.1\r\nHost: HOST\r\n\r\n",
	},
	{
		name: "another method", q: upstream.Request{Method: "M-SEARCH", Target: "/"},
		want: "M-SEARCH / HTTP/1.1\r\nHost: HOST\r\n\r\n",
	},
	{
		name: "host", q: upstream.Request{Method: "GET", Target: "/", Host: "api.example:99"},
		want: "GET / HTTP/1.1\r\nHost: api.example:99\r\n\r\n",
	},
	{
		name: "order and repetition",
		q:    upstream.Request{Method: "GET", Target: "/", Fields: fields("X-B", "2", "X-A", "1", "X-B", "3", "X-Empty", "")},
		want: "GET / HTTP/1.1\r\nHost: HOST\r\nX-B: 2\r\nX-A: 1\r\nX-B: 3\r\nX-Empty: \r\n\r\n",
	},
	{
		name: "obs-text", q: upstream.Request{Method: "GET", Target: "/", Fields: fields("X-A", "\xff\xc3\xa9 \t!")},
		want: "GET / HTTP/1.1\r\nHost: HOST\r\nX-A: \xff\xc3\xa9 \t!\r\n\r\n",
	},
	{
		name: "what the caller accepts", q: upstream.Request{Method: "GET", Target: "/", Fields: fields("User-Agent", "curl/8", "Accept-Encoding", "gzip")},
		want: "GET / HTTP/1.1\r\nHost: HOST\r\nUser-Agent: curl/8\r\nAccept-Encoding: gzip\r\n\r\n",
	},
	{
		name: "base path", base: "/base/v1", q: upstream.Request{Method: "GET", Target: "/chat?q=1"},
		want: "GET /base/v1/chat?q=1 HTTP/1.1\r\nHost: HOST\r\n\r\n",
	},
	{
		name: "base path with an escape", base: "/a%2Fb", q: upstream.Request{Method: "GET", Target: "//c"},
		want: "GET /a%2Fb//c HTTP/1.1\r\nHost: HOST\r\n\r\n",
	},
	{
		name: "length", pieces: []string{"hel", "lo"}, q: upstream.Request{Method: "POST", Target: "/", Length: 5, Fields: fields("X-A", "1")},
		want: "POST / HTTP/1.1\r\nHost: HOST\r\nX-A: 1\r\nContent-Length: 5\r\n\r\nhello",
	},
	{
		name: "length of a GET", pieces: []string{"hello"}, q: upstream.Request{Method: "GET", Target: "/", Length: 5},
		want: "GET / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello",
	},
	{
		name: "chunked", pieces: []string{"hello", strings.Repeat("x", 26)}, q: upstream.Request{Method: "POST", Target: "/", Length: -1, Fields: fields("X-A", "1")},
		want: "POST / HTTP/1.1\r\nHost: HOST\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"5\r\nhello\r\n1a\r\n" + strings.Repeat("x", 26) + "\r\n0\r\n\r\n",
	},
	{
		name: "trailer", pieces: []string{"hello"}, q: upstream.Request{Method: "POST", Target: "/", Length: -1, Trailer: http.Header{"X-Sum": {"1"}}},
		want: "POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
	},
	{
		name: "nothing, chunked", pieces: []string{}, q: upstream.Request{Method: "POST", Target: "/", Length: -1},
		want: "POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	},
	{
		name: "nothing, of a length", pieces: []string{}, q: upstream.Request{Method: "POST", Target: "/", Length: 0},
		want: "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n\r\n",
	},
}

func TestRequestIsWrittenAsItIs(t *testing.T) {
	for _, c := range writtenRequests {
		t.Run(c.name, func(t *testing.T) {
			each(t, func(t *testing.T, m maker) {
				s, got := listening(t, "HTTP/1.1 204 No Content\r\n\r\n")
				client := m.client(t, s, func(config *upstream.Config) { config.BaseURL += c.base })
				q := c.q
				if c.pieces != nil {
					q.Body = content(t, c.pieces...)
				}
				want(t, do(t, client, &q), 204, "")
				sent := receive(t, got)
				head, rest, _ := strings.Cut(strings.ReplaceAll(c.want, "HOST", s.listener.Addr().String()), "\r\n\r\n")
				head += "\r\n\r\n"
				if c.name == "nothing, of a length" && !m.own {
					return // net/http takes a length of 0 beside a Body for an unknown one
				}
				if m.own && sent.head != head || sorted(sent.head) != sorted(head) || sent.wire != rest {
					t.Errorf("sent\n%q\n%q\nwant\n%q\n%q", sent.head, sent.wire, head, rest)
				}
			})
		})
	}
}

func TestTargetsAreSentByteForByte(t *testing.T) {
	for _, base := range []string{"", "/base", "/"} {
		each(t, func(t *testing.T, m maker) {
			if base == "/" && !m.own {
				return // a path that begins with // must be decoded for net/http, and not all come back as they were
			}
			s, got := listening(t, ok)
			client := m.client(t, s, func(config *upstream.Config) { config.BaseURL += base })
			f := func(target string) {
				t.Helper()
				want(t, do(t, client, get(target)), 200, "ok")
				if line, _, _ := strings.Cut(receive(t, got).head, "\r\n"); line != "GET "+base+target+" HTTP/1.1" {
					t.Errorf("%q + %q: sent %q", base, target, line)
				}
			}
			f("/")
			f("/a?b=c&d")
			f("/?")
			f("/a??b=/?")
			f("/%2F%2f")
			f("/a/../b/./c//d")
			f("//evil.example/x")
			f("//evil.example:99/x?y")
			f("///")
			f("/a:b@c;d,e'(f)*!$&+=")
			f("/\xc3\xa9?\xff")
			f("/#fragment")
			f("/" + strings.Repeat("x", 6000)) // more than a scratch
			f("/a%zz%")
			if m.own {
				f("//%zz")
				f("/\"<>\\^`{|}")
			}
		})
	}
}

func TestRequestsThatCannotBeSentAreRefused(t *testing.T) {
	field := func(name, value string) upstream.Fields { return upstream.Fields{{Name: name, Value: value}} }
	cases := map[string]struct {
		q    upstream.Request
		is   error
		both bool // net/http refuses it too
	}{
		"method: empty":         {q: upstream.Request{Method: "", Target: "/"}, is: errField},
		"method: two words":     {q: upstream.Request{Method: "GET /x", Target: "/"}, is: errField, both: true},
		"method: line break":    {q: upstream.Request{Method: "GET\r\n", Target: "/"}, is: errField, both: true},
		"method: separator":     {q: upstream.Request{Method: "G(T", Target: "/"}, is: errField, both: true},
		"method: not ASCII":     {q: upstream.Request{Method: "G\xc3\xa9T", Target: "/"}, is: errField, both: true},
		"target: empty":         {q: upstream.Request{Method: "GET", Target: ""}},
		"target: relative":      {q: upstream.Request{Method: "GET", Target: "x"}},
		"target: space":         {q: upstream.Request{Method: "GET", Target: "/a b"}, is: upstream.ErrTarget},
		"target: end":           {q: upstream.Request{Method: "GET", Target: "/a HTTP/1.1\r\nX: y"}, is: upstream.ErrTarget},
		"target: tab":           {q: upstream.Request{Method: "GET", Target: "/a\tb"}, is: upstream.ErrTarget},
		"target: line break":    {q: upstream.Request{Method: "GET", Target: "/a\r\nX: y"}, is: upstream.ErrTarget},
		"target: line feed":     {q: upstream.Request{Method: "GET", Target: "/a\nb"}, is: upstream.ErrTarget},
		"target: NUL":           {q: upstream.Request{Method: "GET", Target: "/a\x00b"}, is: upstream.ErrTarget},
		"target: DEL":           {q: upstream.Request{Method: "GET", Target: "/a\x7fb"}, is: upstream.ErrTarget},
		"field: empty name":     {q: upstream.Request{Method: "GET", Target: "/", Fields: field("", "x")}, is: errField, both: true},
		"field: space":          {q: upstream.Request{Method: "GET", Target: "/", Fields: field("X A", "x")}, is: errField, both: true},
		"field: space at end":   {q: upstream.Request{Method: "GET", Target: "/", Fields: field("X-A ", "x")}, is: errField, both: true},
		"field: colon":          {q: upstream.Request{Method: "GET", Target: "/", Fields: field("X:A", "x")}, is: errField, both: true},
		"field: line break":     {q: upstream.Request{Method: "GET", Target: "/", Fields: field("X\r\nA", "x")}, is: errField, both: true},
		"field: not ASCII":      {q: upstream.Request{Method: "GET", Target: "/", Fields: field("X\xc3\xa9", "x")}, is: errField, both: true},
		"field: NUL":            {q: upstream.Request{Method: "GET", Target: "/", Fields: field("X\x00", "x")}, is: errField, both: true},
		"value: CRLF":           {q: upstream.Request{Method: "GET", Target: "/", Fields: field("X-A", "x\r\nX-B: y")}, is: errField, both: true},
		"value: CR":             {q: upstream.Request{Method: "GET", Target: "/", Fields: field("X-A", "x\ry")}, is: errField, both: true},
		"value: LF":             {q: upstream.Request{Method: "GET", Target: "/", Fields: field("X-A", "x\ny")}, is: errField, both: true},
		"value: NUL":            {q: upstream.Request{Method: "GET", Target: "/", Fields: field("X-A", "x\x00y")}, is: errField, both: true},
		"value: the second":     {q: upstream.Request{Method: "GET", Target: "/", Fields: append(field("X-A", "x"), field("X-B", "\n")...)}, is: errField, both: true},
		"host: line break":      {q: upstream.Request{Method: "GET", Target: "/", Host: "a\r\nX: y"}},
		"host: space":           {q: upstream.Request{Method: "GET", Target: "/", Host: "a b"}},
		"trailer: name":         {q: upstream.Request{Method: "POST", Target: "/", Trailer: http.Header{"X A": {"x"}}}},
		"trailer: line break":   {q: upstream.Request{Method: "POST", Target: "/", Trailer: http.Header{"X\r\nA": {"x"}}}},
		"trailer: of framing":   {q: upstream.Request{Method: "POST", Target: "/", Trailer: http.Header{"Content-Length": {"5"}}}, both: true},
		"trailer: of framing 2": {q: upstream.Request{Method: "POST", Target: "/", Trailer: http.Header{"Transfer-Encoding": {"chunked"}}}, both: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, m maker) {
				if !m.own && !c.both {
					return // net/http sends it, or something in its place
				}
				s := serve(t, func(*conn) {}) // nothing may come
				client := m.client(t, s)
				q := c.q
				u := content(t, "hello")
				q.Body, q.Length = u, -1
				r := do(t, client, &q)
				if r.err == nil {
					t.Error("was sent")
				}
				if m.own && c.is != nil && !errors.Is(r.err, c.is) {
					t.Errorf("got %v, want %v", r.err, c.is)
				}
				wantClosed(t, u)
				if n := s.requests.Load(); n != 0 {
					t.Errorf("%d requests have come", n)
				}
			})
		})
	}
}
