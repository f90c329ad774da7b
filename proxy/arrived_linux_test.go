package proxy_test

import (
	"io"
	"net/http"
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
