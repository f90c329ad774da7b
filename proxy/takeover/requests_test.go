package takeover_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// describe answers with all that a handler can see of a request.
func describe(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/constant" {
		_, _ = io.WriteString(w, "constant\n") // a client that has left is told nothing, here and below
		return
	}
	content, err := io.ReadAll(r.Body)
	var out strings.Builder
	fmt.Fprintf(&out, "%q %q %q %d %d close=%v host=%q\n", r.Method, r.RequestURI, r.Proto, r.ProtoMajor, r.ProtoMinor, r.Close, r.Host)
	fmt.Fprintf(&out, "url %#v\nlength %d coding %q nobody %v\n", *r.URL, r.ContentLength, r.TransferEncoding, r.Body == http.NoBody)
	for _, h := range []http.Header{r.Header, r.Trailer} {
		for _, name := range slices.Sorted(maps.Keys(h)) {
			fmt.Fprintf(&out, "%s: %q\n", name, h[name])
		}
		fmt.Fprintln(&out, "--")
	}
	fmt.Fprintf(&out, "content %q broken %v\n", content, err != nil)
	server, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	fmt.Fprintf(&out, "context %v %v %v\n", server != nil, local != nil, conn != nil && conn.RemoteAddr().String() == r.RemoteAddr)
	_, _ = io.WriteString(w, out.String())
}

// sound are requests that both accept.
var sound = []string{
	"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET /a/b%20c?d=e&f HTTP/1.1\r\nhost:h\r\nX-a: 1\r\nx-A: 2\r\nACCEPT-encoding:\t gzip \t\r\n\r\n",
	"GET //double?x#y HTTP/1.1\r\nHost: h:80\r\n\r\n",
	"GET http://other/path HTTP/1.1\r\nHost: ignored\r\n\r\n",
	"GET /\xc3\xa9 HTTP/1.1\r\nHost: h\r\nX: \xc3\xa9\xff\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
	"OPTIONS /x HTTP/1.1\r\nHost: h\r\n\r\n",
	"HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n",
	"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n",
	"CONNECT /rpc HTTP/1.1\r\nHost: h:443\r\n\r\n",
	"M!#$%&'*+-.^_`|~09 /x HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET / HTTP/1.1\r\nHost:\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: [::1]:80\r\nX!#$%&'*+-.^_`|~: y\r\nEmpty:\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nPragma: no-cache\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nPragma: no-cache\r\nCache-Control: max-age=1\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nTrailer: X\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nExpect:\r\n\r\n",
	"GET / HTTP/1.0\r\n\r\n",
	"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	"GET / HTTP/1.0\r\nHost: h\r\nConnection: Keep-Alive, close\r\n\r\n",
	"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
	"POST / HTTP/1.0\r\nExpect: 100-continue\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc\r\n", // the line end belongs to nothing
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 003\r\nContent-Length:  003 \r\n\r\nabc",
	"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\nabc",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\ntransfer-encoding: Chunked\r\n\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0000a;x=y;z=\"q\"\r\n0123456789\r\n1;\r\nx\r\nB\r\n01234567890\r\n000\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: a,, X-b\r\nTrailer: c\r\n\r\n1\r\nx\r\n0\r\nA: 1\r\nx-B: 2\r\nD:3\r\na: 4\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nUnannounced: 1\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n" + strings.Repeat("x", 4096) + "\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 20000\r\n\r\n" + strings.Repeat("y", 20000),
	"GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("z", 7000) + "\r\n\r\n",
	"GET /" + strings.Repeat("z", 7000) + " HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("X: y\r\n", 500) + "\r\n",
}

// wrong are requests that both refuse, with the same words, or that break off in their content.
var wrong = []string{
	"\r\n",
	"GET\r\n\r\n",
	"GET /\r\n\r\n",
	"GET / \r\n\r\n",
	"GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
	" GET / HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
	"GET / http/1.1\r\nHost: h\r\n\r\n",
	"GET / HTTP/1.1x\r\nHost: h\r\n\r\n",
	"GET / HTTP/11\r\nHost: h\r\n\r\n",
	"GET / HTTP/2.0\r\nHost: h\r\n\r\n",
	"GET / HTTP/0.9\r\nHost: h\r\n\r\n",
	"GET / HTTP/3.7\r\n\r\n",
	"GET x HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET /\t HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET /\x7f HTTP/1.1\r\nHost: h\r\n\r\n",
	"G@T / HTTP/1.1\r\nHost: h\r\n\r\n",
	"G\xc3\xa9T / HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET / HTTP/1.1\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX : y\r\n\r\n",
	"GET / HTTP/1.1\r\nX : y\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX\t: y\r\n\r\n",
	"GET / HTTP/1.1\r\n Host: h\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\n: y\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX\xe9: y\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX(: y\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX: \x00\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX: \x7f\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nExpect: something\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\nabc",
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -3\r\n\r\nabc",
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x3\r\n\r\nabc",
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3, 3\r\n\r\nabc",
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9223372036854775808\r\n\r\nabc",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\nabc",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\nabc",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\nabc",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chun\xe2\x84\xaaed\r\n\r\n0\r\n\r\n", // a Kelvin sign folds to k
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;\rx\r\nabc\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n11112222333344445\r\nabc\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("x", 5000) + "\r\na\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("x", 1000)+"\r\na\r\n", 20) + "0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + strings.Repeat("x", 5000) + "\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("z", headBytes+9000) + "\r\n\r\n",
	"GET /" + strings.Repeat("z", headBytes+9000) + " HTTP/1.1\r\nHost: h\r\n\r\n",
}

// stricter are requests that net/http accepts and a Takeover refuses: with 400, or 505 for a version.
var stricter = []string{
	"GET / HTTP/1.1\nHost: h\n\n",
	"GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX: y\r\n\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX: y\r\n z\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX: y\r\n\tz: a\r\n\r\n",
	"GET / HTTP/1.2\r\nHost: h\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
	"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
	"CONNECT h:443 HTTP/1.1\r\n\r\n",
}

// brokenInside are stricter, too, but only when the handler reads the content.
var brokenInside = []string{
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;\x01\r\nabc\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nHost: evil\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX : y\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\n\r\n",
}

// same checks that both answer the parts with the same bytes.
func same(t *testing.T, plain, over *served, parts ...string) {
	t.Helper()
	want, got := plain.talk(t, parts...), over.talk(t, parts...)
	if got != want {
		t.Errorf("%.300q:\ngot  %.400q\nwant %.400q", parts, got, want)
	}
	if !strings.HasPrefix(got, "HTTP/1.") {
		t.Errorf("%.300q: no answer, %q", parts, got)
	}
}

func TestRequestsAreAnsweredByteForByte(t *testing.T) {
	t.Parallel()
	plain, over := serve(t, false, describe), serve(t, true, describe)
	for _, request := range slices.Concat(sound, wrong) {
		same(t, plain, over, request+last)
		same(t, plain, over, primer+request+last)
		same(t, plain, over, primer, request+last)
		same(t, plain, over, primer+primer+request+request+last)
	}
}

func TestRequestsThatBreakOffAreAnsweredByteForByte(t *testing.T) {
	t.Parallel()
	plain, over := serve(t, false, describe), serve(t, true, describe)
	for _, request := range sound {
		for _, part := range []int{1, 3, 4, 5, 10, 20, 40, 60, 80, 100} {
			if part >= len(request) {
				break
			}
			// A content that breaks off ends the connection; that net/http does not say so is no virtue.
			silent := func(answer string) string { return strings.ReplaceAll(answer, "Connection: close\r\n", "") }
			want, got := plain.breakOff(t, primer, request[:part]), over.breakOff(t, primer, request[:part])
			if silent(got) != silent(want) {
				t.Errorf("%.300q:\ngot  %.400q\nwant %.400q", request[:part], got, want)
			}
		}
	}
}

// TestRequestsSplitAnywhere has every request arrive in two parts, whatever they are, and byte by byte.
func TestRequestsSplitAnywhere(t *testing.T) {
	t.Parallel()
	plain, over := scripted(t, false, describe), scripted(t, true, describe)
	for _, request := range slices.Concat(sound, wrong) {
		whole := request + last
		want := plain.recite(t, primer+whole)
		check := func(parts ...string) {
			t.Helper()
			if got := over.recite(t, append([]string{primer}, parts...)...); got != want {
				t.Errorf("%.300q in parts %.20q:\ngot  %.400q\nwant %.400q", request, parts, got, want)
			}
		}
		step := max(1, len(whole)/400)
		for at := 1; at < len(whole); at += step {
			check(whole[:at], whole[at:])
		}
		check(strings.Split(whole, "")...)
	}
}

func TestTakeoverRefusesMoreThanNetHTTP(t *testing.T) {
	t.Parallel()
	plain, over := serve(t, false, describe), serve(t, true, describe)
	for _, request := range stricter {
		if got := plain.talk(t, primer, request+last); strings.Count(got, "HTTP/1.1 4")+strings.Count(got, "HTTP/1.1 5") > 0 {
			t.Errorf("%q: net/http refuses it too: %q", request, got)
		}
		got := over.talk(t, primer, request+last)
		_, answer, _ := strings.Cut(got, "constant\n")
		if !strings.HasPrefix(answer, "HTTP/1.1 400 Bad Request") && !strings.HasPrefix(answer, "HTTP/1.1 505 ") || strings.Count(answer, "HTTP/1.1 ") != 1 {
			t.Errorf("%q: got %q, want it to be refused", request, answer)
		}
	}
	for _, request := range brokenInside {
		if got := plain.talk(t, primer, request+last); !strings.Contains(got, "broken false") {
			t.Errorf("%q: net/http refuses it too: %q", request, got)
		}
		if got := over.talk(t, primer, request+last); !strings.Contains(got, "broken true") || strings.Count(got, "HTTP/1.1 2") != 2 {
			t.Errorf("%q: got %q, want its content to be refused", request, got)
		}
	}
}

// TestRefusedContentEndsTheConnection: what follows a content that is refused is never taken for a request.
func TestRefusedContentEndsTheConnection(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"read":   describe,
		"unread": func(http.ResponseWriter, *http.Request) {},
		"closed": func(_ http.ResponseWriter, r *http.Request) { r.Body.Close() },
		"answered": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte("x"))
			w.(http.Flusher).Flush()
			if _, err := io.ReadAll(r.Body); err == nil && r.Method == http.MethodPost {
				panic(errors.New("want an error"))
			}
		},
	} {
		over := serve(t, true, handler)
		for _, request := range brokenInside {
			if got := over.talk(t, primer, request+last); strings.Count(got, "HTTP/1.1 2") != 2 {
				t.Errorf("%s, %q: got %q, want one answer behind the first", name, request, got)
			}
		}
	}
}
