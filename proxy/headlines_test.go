package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/proxy"
)

// exchanged sends a request as it is written and returns the answer as it is written, up to where the connection ends.
func exchanged(t *testing.T, e *edge, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://")) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, request)
	all, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

func parsed(t *testing.T, r *bufio.Reader, method string) (head, trailer http.Header, status int, body string) {
	t.Helper()
	response, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	all, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.Header, response.Trailer, response.StatusCode, string(all)
}

// A provider's fields reach a caller of HTTP/1.1 in its order, each as often as it was sent, and once what the server
// writes itself, whatever the answer's framing, size and status are.
func TestFieldsOfEachKindOfAnswer(t *testing.T) {
	many := ""
	for i := range 200 {
		many += fmt.Sprintf("X-Field-%d: %s\r\n", i, strings.Repeat("v", 40))
	}
	const fields = "Date: Mon, 02 Jan 2006 15:04:05 GMT\r\nServer: theirs\r\nSet-Cookie: a=1\r\nX-Ratelimit-Limit-Requests: 9\r\nSet-Cookie: b=2\r\n"
	long := strings.Repeat("0123456789", 20_000)
	for _, c := range []struct{ name, answer, body string }{
		{"content with a length", "HTTP/1.1 200 OK\r\n" + fields + "Content-Type: text/x\r\nContent-Length: 3\r\n\r\nabc", "abc"},
		{"no type and no date", "HTTP/1.1 200 OK\r\nServer: theirs\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 3\r\n\r\nabc", "abc"},
		{"an empty answer", "HTTP/1.1 418 Tea\r\n" + fields + "Content-Length: 0\r\n\r\n", ""},
		{"chunks", "HTTP/1.1 200 OK\r\n" + fields + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc"},
		{"until the end", "HTTP/1.1 200 OK\r\n" + fields + "Connection: close\r\n\r\nabc", "abc"},
		{"long content", "HTTP/1.1 200 OK\r\n" + fields + "Content-Length: 200000\r\n\r\n" + long, long},
		{"many fields", "HTTP/1.1 200 OK\r\n" + fields + many + "Content-Length: 3\r\n\r\nabc", "abc"},
		{"a trailer", "HTTP/1.1 200 OK\r\n" + fields + "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n", "abc"},
		{"a longest status line", "HTTP/1.1 511 x\r\n" + fields + "Content-Length: 3\r\n\r\nabc", "abc"},
		{"a status without a name", "HTTP/1.1 599 x\r\n" + fields + "Content-Length: 3\r\n\r\nabc", "abc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			up, _ := bare(t, c.answer)
			e := start(t, one(up))
			text := exchanged(t, e, "GET /up/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTe: trailers\r\n\r\n")
			header, trailer, status, body := parsed(t, bufio.NewReader(strings.NewReader(text)), http.MethodGet)
			if want := strings.Fields(c.answer)[1]; fmt.Sprint(status) != want || body != c.body {
				t.Errorf("got %d and %d bytes, want %s and %d", status, len(body), want, len(c.body))
			}
			for name, want := range map[string]int{"Server": 1, "Set-Cookie": 2, "X-Edge-Request-Id": 1, "Date": 1} {
				if got := header[name]; len(got) != want {
					t.Errorf("%s: got %q, want %d of it", name, got, want)
				}
			}
			if cookies := header["Set-Cookie"]; len(cookies) == 2 && cookies[0] != "a=1" {
				t.Errorf("Set-Cookie: got %q", cookies)
			}
			head, _, _ := strings.Cut(text, "\r\n\r\n")
			if n := strings.Count(head, "Content-Length:"); n > 1 {
				t.Errorf("Content-Length stands there %d times", n)
			}
			if strings.Contains(c.answer, "Content-Type") != strings.Contains(head, "Content-Type: text/x") || strings.Count(head, "Content-Type") > 1 {
				t.Errorf("Content-Type: got %q", header["Content-Type"])
			}
			if strings.Contains(c.answer, "Date:") != strings.Contains(head, "Date: Mon, 02 Jan 2006") {
				t.Errorf("Date: got %q", header["Date"])
			}
			if strings.Contains(c.answer, "X-Field-199") != strings.Contains(head, "X-Field-199: vvv") {
				t.Error("the last of many fields is missing, or there for no reason")
			}
			if strings.Contains(c.answer, "X-Sum: 6") != (trailer.Get("X-Sum") == "6") {
				t.Errorf("trailer: got %v", trailer)
			}
		})
	}
}

// Answers of HTTP/1.0, to HEAD, and behind 100 Continue have heads that are whole, and so has the next one.
func TestHeadsInARow(t *testing.T) {
	up := speaking(t, func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for {
			request, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, request.Body)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nX-Theirs: "+request.URL.Path+"\r\nContent-Length: 2\r\n\r\n")
			if request.Method != http.MethodHead {
				_, _ = io.WriteString(conn, "ok")
			}
		}
	})
	e := start(t, one(up))
	got := exchanged(t, e, "HEAD /up/head HTTP/1.1\r\nHost: x\r\n\r\n"+
		"POST /up/post HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"+
		"POST /up/expects HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody"+
		"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"+
		"GET /up/ten HTTP/1.0\r\nHost: x\r\n\r\n")
	r := bufio.NewReader(strings.NewReader(got))
	for _, want := range []struct {
		method, theirs, body string
		status               int
	}{
		{"HEAD", "/head", "", 200},
		{"POST", "/post", "ok", 200},
		{"POST", "", "", 100},
		{"POST", "/expects", "ok", 200},
		{"GET", "", "", 404},
		{"GET", "/ten", "ok", 200},
	} {
		header, _, status, body := parsed(t, r, want.method)
		if status != want.status || header.Get("X-Theirs") != want.theirs || want.status != 404 && body != want.body {
			t.Errorf("got %d %q %q, want %+v", status, header["X-Theirs"], body, want)
		}
		if ids := header["X-Edge-Request-Id"]; want.status != 100 && len(ids) != 1 || want.status == 100 && len(ids) != 0 {
			t.Errorf("%+v: X-Edge-Request-Id %q", want, ids)
		}
	}
	if rest, _ := io.ReadAll(r); len(rest) > 0 {
		t.Errorf("%q is left", rest)
	}
}

// Who stands between the server and the Proxy sees the answer's fields, and may change them.
func TestFieldsPassAMiddleware(t *testing.T) {
	up, _ := bare(t, "HTTP/1.1 200 OK\r\nServer: theirs\r\nX-Kept: 1\r\nContent-Length: 3\r\n\r\nabc")
	p, err := proxy.New(one(up))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.ServeHTTP(withoutServer{w}, r)
	}))
	server.Config.ConnContext = proxy.ConnContext
	server.Listener = p.Listener(server.Listener)
	server.Start()
	defer p.Close()
	defer server.Close()
	answer, body := call(t, client(t), "GET", server.URL+"/up/", "")
	if _, has := answer.Header["Server"]; has || answer.Header.Get("X-Kept") != "1" || body != "abc" {
		t.Errorf("got %v %q", answer.Header, body)
	}
}

type withoutServer struct{ http.ResponseWriter }

func (w withoutServer) WriteHeader(status int) {
	w.Header().Del("Server")
	w.ResponseWriter.WriteHeader(status)
}

// Lines take no block that another exchange would miss: a pool of one is enough for one request at a time.
func TestHeadsOverflowNoPool(t *testing.T) {
	up, _ := bare(t, "HTTP/1.1 200 OK\r\nServer: theirs\r\nContent-Length: 3\r\n\r\nabc")
	e := start(t, one(up, func(c *proxy.Config, _ *proxy.Provider) { c.InitialPoolSize = 1 }))
	caller := client(t)
	for range 10 {
		if answer, body := call(t, caller, "GET", e.url+"/up/", ""); answer.Header.Get("Server") != "theirs" || body != "abc" {
			t.Errorf("got %v %q", answer.Header, body)
		}
	}
	if n := e.sum("edge_arena_overflows_total"); n > 0 {
		t.Errorf("%v objects came from the heap, want none", n)
	}
}
