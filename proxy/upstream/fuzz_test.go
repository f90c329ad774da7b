package upstream_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// stage is a listener for all turns of a fuzz target: each with its own would use up the ports.
type stage struct{ *net.TCPListener }

func newStage(f *testing.F) stage {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { listener.Close() })
	return stage{listener.(*net.TCPListener)}
}

// play accepts connections until what it returns is called, which waits for those that serve them. Nothing is left for the
// next turn, not even what nobody has accepted yet.
func (s stage) play(serve func(c *net.TCPConn, n int)) (end func()) {
	_ = s.SetDeadline(time.Time{})
	var all sync.WaitGroup
	var mu sync.Mutex
	conns := map[string]*net.TCPConn{} // by the client's address
	all.Go(func() {
		for n := 0; ; n++ {
			c, err := s.AcceptTCP()
			if err != nil {
				return
			}
			mu.Lock()
			conns[c.RemoteAddr().String()] = c
			mu.Unlock()
			all.Go(func() { serve(c, n) })
		}
	})
	return sync.OnceFunc(func() {
		if last, err := net.Dial("tcp", s.Addr().String()); err == nil { //nolint:noctx // loopback
			settles(patience, func() bool {
				mu.Lock()
				defer mu.Unlock()
				return conns[last.LocalAddr().String()] != nil
			})
			_ = last.(*net.TCPConn).SetLinger(0)
			last.Close()
		}
		_ = s.SetDeadline(time.Unix(1, 0))
		mu.Lock()
		for _, c := range conns {
			_ = c.SetDeadline(time.Unix(1, 0))
		}
		mu.Unlock()
		all.Wait()
	})
}

// leave waits for the client to close, and then leaves nothing in the kernel that would keep the port.
func leave(c *net.TCPConn) {
	_, _ = io.Copy(io.Discard, c)
	_ = c.SetLinger(0)
	c.Close()
}

// puppet answers the first request to it with arbitrary bytes, and all others with the word marker.
type puppet struct {
	data   []byte
	closes bool        // ends the first connection behind data
	reused atomic.Bool // another request has come on the first connection
}

const marker = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n\r\nmarker"

func (p *puppet) serve(c *net.TCPConn, n int) {
	defer leave(c)
	r := bufio.NewReader(c)
	if !skipHead(r) {
		return
	}
	if n == 0 {
		_, _ = c.Write(p.data)
		if p.closes {
			_ = c.CloseWrite()
		}
		if !skipHead(r) {
			return
		}
		p.reused.Store(true)
	}
	_, _ = io.WriteString(c, marker)
}

func skipHead(r *bufio.Reader) bool {
	for {
		line, err := r.ReadString('\n')
		if err != nil || line == "\r\n" {
			return err == nil
		}
	}
}

// reading is what net/http makes of an answer.
type reading struct {
	*http.Response
	content string
	broken  error // what ended the content
	rest    int   // bytes behind it
	early   int
	err     error // in the head
}

func readByNetHTTP(data []byte, method string) (n reading) {
	r := bufio.NewReaderSize(bytes.NewReader(data), 1<<21) // it refuses trailers that do not fit
	for {
		n.Response, n.err = http.ReadResponse(r, &http.Request{Method: method}) //nolint:bodyclose // of bytes in memory
		if n.err != nil {
			return n
		}
		if n.StatusCode >= 200 || n.StatusCode == 101 {
			break
		}
		n.early++
	}
	content, err := io.ReadAll(n.Body)
	n.content, n.broken = string(content), err
	n.rest = r.Buffered()
	return n
}

// whole reports an answer that has ended, and whose end the connection's is not.
func (n *reading) whole() bool {
	return n.err == nil && n.broken == nil && n.StatusCode != 101 &&
		(n.ContentLength >= 0 || len(n.TransferEncoding) > 0 || n.Request.Method == "HEAD")
}

// headers returns fields as String writes them, with what net/http does to them on its own undone.
func (n *reading) headers() string {
	h := n.Header.Clone()
	if h.Get("Pragma") == "no-cache" && h.Get("Cache-Control") == "no-cache" {
		h.Del("Cache-Control")
	}
	return written(upstream.Fields(nil).AppendHeader(h))
}

func ownHeaders(fields upstream.Fields) string {
	fields = slices.Clone(fields)
	if fields.Get("Pragma") == "no-cache" && fields.Get("Cache-Control") == "no-cache" {
		fields.Del("Cache-Control")
	}
	return written(fields)
}

// lessPatient are errors of net/http's about answers that are not wrong but take too much of it.
func lessPatient(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "too long") || strings.Contains(err.Error(), "non-data") ||
		strings.Contains(err.Error(), "too large") || strings.Contains(err.Error(), "suspiciously long"))
}

// FuzzAnswer shows that what Direct accepts net/http accepts too, and understands in the same way; that a connection with
// something left on it is not used again; and that no bytes make it hang.
func FuzzAnswer(f *testing.F) {
	for _, c := range acceptedAnswers {
		f.Add([]byte(c.answer), uint8(0), !c.closes)
		f.Add([]byte(c.answer), uint8(1), !c.closes)
		f.Add([]byte(c.answer+ok), uint8(2), true)
	}
	for _, c := range refusedAnswers {
		f.Add([]byte(c.answer), uint8(0), true)
	}
	for _, end := range []string{"0\r\n\r\n", "0\r\nX-Sum: 1\r\n\r\n", "2\r\nok\r\n000;a=b\r\nTrailer: x\r\n\r\n", "2 ;x\r\nok\r\n0 \r\n\r\n", "1\r\nx\r\n"} {
		f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"+end), uint8(0), true)
	}
	methods := [...]string{"GET", "HEAD", "POST"}
	stage := newStage(f)
	f.Fuzz(func(t *testing.T, data []byte, method uint8, keep bool) {
		if len(data) > 1<<20 {
			return
		}
		q := get("/")
		q.Method = methods[int(method)%len(methods)]
		theirs := readByNetHTTP(data, q.Method)
		p := &puppet{data: data, closes: !keep || !theirs.whole()}
		end := stage.play(p.serve)
		defer end()
		client, err := upstream.NewDirect(upstream.Config{BaseURL: "http://" + stage.Addr().String()})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errStuck)
		defer cancel()
		ours := doWith(ctx, client, q)
		if errors.Is(ours.failure(), errStuck) {
			t.Fatalf("%q: hangs", data)
		}
		compare(t, data, &ours, &theirs)
		next := doWith(ctx, client, get("/"))
		want(t, next, 200, "marker")
		if p.reused.Load() && (!theirs.whole() || theirs.rest > 0 || theirs.Close) {
			t.Errorf("%q: the connection was used again, with %d bytes left, Close %v", data, theirs.rest, theirs.Close)
		}
	})
}

// spaced is a chunk's size with space before its extension.
var spaced = regexp.MustCompile(`[0-9A-Fa-f][ \t]+;`)

func compare(t *testing.T, data []byte, ours *result, theirs *reading) {
	t.Helper()
	switch {
	case ours.err != nil:
		return // stricter
	case theirs.err != nil:
		t.Errorf("%q: got %v, where net/http says %v", data, ours, theirs.err)
		return
	case lessPatient(theirs.broken):
		return
	case spaced.Match(data):
		return // RFC 9112, section 7.1.1, allows that space; net/http does not
	case theirs.Request.Method == "HEAD" && len(theirs.TransferEncoding) > 0:
		return // net/http believes a Content-Length beside chunks then
	}
	if ours.Status != theirs.StatusCode || len(ours.early) > theirs.early || ownHeaders(ours.Fields) != theirs.headers() {
		t.Errorf("%q: got %v, where net/http has %d\n%s", data, ours, theirs.StatusCode, theirs.headers())
	}
	empty := theirs.Request.Method != "HEAD" && (ours.Status == 204 || ours.Status == 304) // whatever is declared
	if length := theirs.ContentLength; ours.Length != length && !empty {
		t.Errorf("%q: got length %d, where net/http has %d", data, ours.Length, length)
	}
	if !strings.HasPrefix(theirs.content, ours.content) {
		t.Errorf("%q: got content %q, where net/http has %q", data, ours.content, theirs.content)
	}
	if ours.broken != nil {
		return // stricter
	}
	if theirs.broken != nil || ours.content != theirs.content {
		t.Errorf("%q: got content %q, where net/http has %q, %v", data, ours.content, theirs.content, theirs.broken)
	}
	for name := range theirs.Trailer {
		if name == "Content-Length" || name == "Transfer-Encoding" || name == "Trailer" || theirs.Trailer[name] == nil {
			delete(theirs.Trailer, name) // the first three are not ours to pass on
		}
	}
	if got, wanted := written(ours.trailer), written(upstream.Fields(nil).AppendHeader(theirs.Trailer)); got != wanted {
		t.Errorf("%q: got the trailer %q, where net/http has %q", data, got, wanted)
	}
}

// FuzzRequest shows that what Direct sends is the one request that was asked for, to whoever reads it, or that it refuses
// to send it.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/", "", "X-A", "1", "X-B", "2", "", int64(0))
	f.Add("POST", "/a?b", "h:1", "X-A", "1", "x-a", " 2\t", "hello", int64(5))
	f.Add("POST", "//a%2F%zz?#", "", "X-A", "", "Via", "\xff", "hello", int64(-1))
	f.Add("G T", "/", "", "X-A", "1", "X-B", "2", "", int64(0))
	f.Add("GET", "/ HTTP/1.1\r\nX: y", "", "X-A", "1", "X-B", "2", "", int64(0))
	f.Add("GET", "/", "a\r\nb", "X-A", "1", "X-B", "2", "", int64(0))
	f.Add("GET", "/", "", "X-A: 1\r\nX", "1", "X-B", "2\r\n\r\nGET / HTTP/1.1", "", int64(0))
	f.Add("POST", "/", "", "X A", "1", "X-B", "2", "0\r\n\r\n", int64(-1))
	f.Add("POST", "/", "", "Connection", "close", "Pragma", "no-cache", "hello", int64(4))
	f.Add("PUT", "/", "", "Upgrade", "x", "Te", "trailers", "hello", int64(6))
	f.Add("CONNECT", "/", "", "X-A", "1", "X-A", "2", "hello", int64(1<<40))
	stage := newStage(f)
	f.Fuzz(func(t *testing.T, method, target, host, name1, value1, name2, value2, body string, length int64) {
		q := &upstream.Request{Method: method, Target: target, Host: host}
		for _, field := range []upstream.Field{{Name: name1, Value: value1}, {Name: name2, Value: value2}} {
			switch textproto.CanonicalMIMEHeaderKey(field.Name) {
			case "Host", "Content-Length", "Transfer-Encoding", "Trailer", "Expect":
				return // the first four are not for Fields, and the fifth takes a second
			}
			q.Fields = append(q.Fields, field)
		}
		if length == 0 && body != "" {
			return // whether the answer or the end of the content comes first is chance
		}
		if length != 0 {
			q.Body, q.Length = io.NopCloser(strings.NewReader(body)), max(length, -1)
		}
		arrived := &arrival{}
		end := stage.play(func(c *net.TCPConn, n int) {
			defer leave(c)
			if n > 0 {
				return
			}
			arrived.err = arrived.read(bufio.NewReader(c), c, q, stage.Addr().String())
		})
		defer end()
		client, err := upstream.NewDirect(upstream.Config{BaseURL: "http://" + stage.Addr().String()})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errStuck)
		defer cancel()
		r := doWith(ctx, client, q)
		client.Close()
		end()
		if arrived.err == nil && r.err == nil && q.Body != nil && arrived.content != body {
			t.Errorf("content %q arrived as %q", body, arrived.content)
		}
		if errors.Is(r.failure(), errStuck) || r.err == nil && arrived.err != nil || arrived.whole && r.err != nil {
			t.Errorf("%q %q %q %v, %q as %d: got %v, and the server %v", method, target, host, q.Fields, body, length, r, arrived.err)
		}
	})
}

// arrival is what a server got.
type arrival struct {
	whole   bool // a request has come to its end
	content string
	err     error // why it is not what was sent
}

// read takes the target for itself: net/http's server does not take each.
func (a *arrival) read(from *bufio.Reader, c net.Conn, q *upstream.Request, address string) error {
	first, err := from.ReadString('\n')
	if err != nil {
		return err
	}
	if wanted := q.Method + " " + q.Target + " HTTP/1.1\r\n"; first != wanted {
		a.whole = true // it should not have come
		return fmt.Errorf("got %q, want %q", first, wanted)
	}
	rest := bufio.NewReader(io.MultiReader(strings.NewReader(q.Method+" / HTTP/1.1\r\n"), from))
	r, err := http.ReadRequest(rest)
	if err != nil {
		return err
	}
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	a.whole, a.content = true, string(content)
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	if more, _ := io.ReadAll(rest); len(more) > 0 {
		return fmt.Errorf("%q behind the request", more)
	}
	if wanted := cmp.Or(q.Host, address); r.Host != wanted {
		return fmt.Errorf("got host %q, want %q", r.Host, wanted)
	}
	wanted := upstream.Fields{}
	for _, field := range q.Fields {
		wanted.Add(field.Name, textproto.TrimString(field.Value))
	}
	got := upstream.Fields(nil).AppendHeader(r.Header)
	got.Del("Content-Length") // as framing
	if ownHeaders(got) != ownHeaders(wanted) {
		return fmt.Errorf("got %v, want %v", got, wanted)
	}
	return nil
}
