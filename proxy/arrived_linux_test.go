package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// Content that lies in the kernel when its request arrives stays there while the request waits, and then arrives as it was,
// whether there is a long block for it or not.
func TestContentThatHasArrivedIsNotHeldWhileItsRequestWaits(t *testing.T) {
	f := func(length int, maxBuffered proxy.Size, held float64) {
		t.Helper()
		content := strings.Repeat("0123456789abcdef", length/16)
		release, got := make(chan struct{}), make(chan string, 3)
		e := start(t, one(provider(t, func(_ http.ResponseWriter, r *http.Request) {
			content, _ := io.ReadAll(r.Body)
			got <- string(content)
			<-release
		}), func(c *proxy.Config, p *proxy.Provider) { c.MaxBuffered, p.Concurrency = maxBuffered, 1 }))
		// The second request is sent while the first is served: it is there when its handler begins.
		_, answers := raw(t, e.url, "GET /up/1 HTTP/1.1\r\nHost: x\r\n\r\n"+
			"POST /up/2 HTTP/1.1\r\nHost: x\r\nContent-Length: "+strconv.Itoa(len(content))+"\r\n\r\n"+content)
		if first := <-got; first != "" {
			t.Errorf("got %d bytes, want none", len(first))
		}
		_, other := raw(t, e.url, "GET /up/3 HTTP/1.1\r\nHost: x\r\n\r\n")
		waits := func(paths int) bool { return e.sum("edge_in_flight") == 1 && int(e.sum("edge_waiting")) == paths }
		if !settles(2*time.Second, func() bool { return waits(1) }) {
			t.Fatal("the other caller does not wait")
		}
		release <- struct{}{}
		next(t, answers)
		<-got
		if !settles(2*time.Second, func() bool { return waits(1) && e.sum("edge_buffered_bytes") == held }) {
			t.Errorf("%d bytes: got %v held while the request waits, want %v", length, e.sum("edge_buffered_bytes"), held)
		}
		release <- struct{}{}
		next(t, other)
		if arrived := <-got; arrived != content {
			t.Errorf("%d bytes: got %d others", length, len(arrived))
		}
		if n := e.sum("edge_arena_overflows_total"); n != 0 {
			t.Errorf("%d bytes: got %v blocks of the heap's", length, n)
		}
		close(release)
		next(t, answers)
	}
	f(16<<10, 0, 16<<10)       // a slot is enough
	f(16<<10+16, 0, 0)         // more than that
	f(40<<10, 0, 0)            // what a socket takes unread
	f(40<<10, 200<<10, 0)      // no long block may be had: what is in the way is read into a slot, and the rest goes by
	f(160<<10, 0, 16<<10)      // more than a long block takes
	f(16<<10, 100<<10, 16<<10) // small
}

// A byte of the content that net/http's read in the background has taken does not make it look as if its end were to come:
// all of it goes to the long block at once.
func TestContentThatHasArrivedButForOneByte(t *testing.T) {
	const first, length = 4 << 10, 40 << 10 // first: net/http's buffer
	content := strings.Repeat("0123456789abcdef", length/16)
	requests := "GET /up/1 HTTP/1.1\r\nHost: x\r\n\r\nPOST /up/2 HTTP/1.1\r\nHost: x\r\nContent-Length: " + strconv.Itoa(length) + "\r\n\r\n" + content
	inside, sent, taken := make(chan struct{}), make(chan struct{}), make(chan bool, 1)
	begin, proceed, got := make(chan struct{}), make(chan struct{}), make(chan string)
	c := one(provider(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/2":
			content, _ := io.ReadAll(r.Body)
			got <- string(content)
			<-proceed
		case "/held":
			_, _ = w.Write([]byte("x"))
			w.(http.Flusher).Flush()
			<-proceed
		}
	}))
	c.InitialPoolSize = 1
	e := startOn(t, c, func(s *httptest.Server, p *proxy.Proxy) {
		s.Listener = p.Listener(s.Listener)
		s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/up/1":
				inside <- struct{}{}
				<-sent
				taken <- settles(5*time.Second, func() bool { return proxy.Unread(r) == int64(len(requests)-first-1) })
			case "/up/2":
				<-begin
			}
			p.ServeHTTP(w, r)
		})
	})
	conn, answers := raw(t, e.url, requests[:first])
	<-inside
	_, _ = io.WriteString(conn, requests[first:])
	close(sent)
	if !<-taken {
		t.Error("net/http has taken no byte")
	}
	next(t, answers)
	_, other := raw(t, e.url, "GET /up/held HTTP/1.1\r\nHost: x\r\n\r\n") // has the one slot there is, from its first byte on
	held, err := http.ReadResponse(other, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Body.Close()
	close(begin)
	if arrived := <-got; arrived != content {
		t.Errorf("got %d other bytes", len(arrived))
	}
	for _, class := range []string{"body", "long"} {
		if n := e.sum("edge_arena_overflows_total", `class="`+class+`"`); n != 0 {
			t.Errorf("%s: got %v blocks of the heap's", class, n)
		}
	}
	close(proceed)
	next(t, answers)
}

// An upload whose content is still to come takes no long block of the heap's, however many there are.
func TestUploadsTakeNoLongBlocksOfTheHeaps(t *testing.T) {
	const uploads, first, length = 4, 40 << 10, 400 << 10
	content := strings.Repeat("0123456789abcdef", length/16)
	begun, got := make(chan struct{}, uploads), make(chan string, uploads)
	e := start(t, one(provider(t, func(_ http.ResponseWriter, r *http.Request) {
		part := make([]byte, first)
		_, _ = io.ReadFull(r.Body, part)
		begun <- struct{}{}
		rest, _ := io.ReadAll(r.Body)
		got <- string(part) + string(rest)
	})))
	var conns [uploads]net.Conn
	var answers [uploads]*bufio.Reader
	for i := range conns {
		conns[i], answers[i] = raw(t, e.url, "POST /up/ HTTP/1.1\r\nHost: x\r\nContent-Length: "+strconv.Itoa(length)+"\r\n\r\n"+content[:first])
		<-begun
	}
	for i, conn := range conns {
		_, _ = io.WriteString(conn, content[first:])
		if arrived := <-got; arrived != content {
			t.Errorf("got %d other bytes", len(arrived))
		}
		next(t, answers[i])
	}
	if n := e.sum("edge_arena_overflows_total"); n != 0 {
		t.Errorf("got %v blocks of the heap's", n)
	}
}

// What has left as a whole is not kept while the answer is waited for, once an answer has told of no quota: a quota may go by
// the model in the content.
func TestContentIsGivenBackWhenItIsSent(t *testing.T) {
	release, got := make(chan struct{}), make(chan struct{})
	e := start(t, one(provider(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got <- struct{}{}
		<-release
	})))
	for i, length := range []int{1, 1, 1 << 10, 16 << 10} {
		_, answers := raw(t, e.url, "POST /up/ HTTP/1.1\r\nHost: x\r\nContent-Length: "+strconv.Itoa(length)+"\r\n\r\n"+strings.Repeat("x", length))
		<-got
		if i > 0 && !settles(2*time.Second, func() bool { return e.sum("edge_buffered_bytes") == 0 }) {
			t.Errorf("%d bytes: got %v held by a request that waits for its answer, want 0", length, e.sum("edge_buffered_bytes"))
		}
		release <- struct{}{}
		next(t, answers)
	}
}
