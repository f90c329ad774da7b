package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// unwrapped serves on the listener as it is, where net/http reads in the background.
func unwrapped(s *httptest.Server) { s.Start() }

// lateness returns how much later than they should goroutines have run since it was called last.
func lateness(t *testing.T) func() time.Duration {
	t.Helper()
	var worst atomic.Int64
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			began := time.Now()
			select {
			case <-end:
				return
			case <-time.After(5 * time.Millisecond):
			}
			worst.Store(max(worst.Load(), int64(time.Since(began)-5*time.Millisecond)))
		}
	}()
	t.Cleanup(func() { close(end); <-ended })
	return func() time.Duration { return time.Duration(worst.Swap(0)) }
}

// silent is an upstream that reads a request, sends what it is told to, and then nothing until the request ends. It
// tells of that.
func silent(inside *atomic.Int32, ended chan<- struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 1<<10))
		if r.URL.Path == "/stream" {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: 1\n\n")
			w.(http.Flusher).Flush()
		}
		inside.Add(1)
		defer inside.Add(-1)
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		ended <- struct{}{}
	}
}

// A caller that leaves is noticed within 100 ms wherever its request is, on connections of Listener's and others.
func TestCallersThatLeaveAreNoticedInTime(t *testing.T) {
	const tries = 3
	for _, c := range []struct {
		name, request string
		half          bool // the caller closes its sending side only
		queued        bool // behind another
	}{
		{name: "in flight, no content", request: "GET /up/ HTTP/1.1\r\nHost: x\r\n\r\n"},
		{name: "in flight, content read", request: "POST /up/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "in flight, chunked content read", request: "POST /up/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
		{name: "in flight, content still to come", request: "POST /up/ HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n" + strings.Repeat("x", 30000)},
		{name: "streaming", request: "GET /up/stream HTTP/1.1\r\nHost: x\r\n\r\n"},
		{name: "another request behind it", request: "GET /up/ HTTP/1.1\r\nHost: x\r\n\r\nGET /up/other HTTP/1.1\r\nHost: x\r\n\r\n"},
		{name: "queued", queued: true, request: "GET /up/ HTTP/1.1\r\nHost: x\r\n\r\n"},
		{name: "queued, content unread", queued: true, request: "POST /up/ HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n" + strings.Repeat("x", 30000)},
		{name: "half-closed", half: true, request: "POST /up/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"},
	} {
		for name, with := range map[string][]func(*httptest.Server){"Listener": nil, "bare": {unwrapped}} {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				var inside atomic.Int32
				ended := make(chan struct{}, 1)
				e := start(t, one(provider(t, silent(&inside, ended)), func(_ *proxy.Config, p *proxy.Provider) { p.Concurrency = 1 }), with...)
				held := func() float64 { return e.sum("edge_in_flight") }
				if c.queued {
					first, _ := raw(t, e.url, c.request)
					defer first.Close()
					if !settles(5*time.Second, func() bool { return inside.Load() == 1 }) {
						t.Fatal("the first request did not arrive")
					}
					held = func() float64 { return e.sum("edge_waiting") }
				}
				var took []time.Duration
				late := lateness(t)
				inTime := 0
				for len(took) < tries || len(took) < 4*tries && 3*inTime < 2*len(took) { // some may meet a machine that is busy with others
					late()
					conn, _ := raw(t, e.url, c.request)
					if !settles(5*time.Second, func() bool { return inside.Load() == 1 && held() == 1 }) {
						t.Fatal("the request did not arrive")
					}
					left := time.Now()
					if c.half {
						_ = conn.(*net.TCPConn).CloseWrite()
					} else {
						conn.Close()
					}
					if !settles(5*time.Second, func() bool { return held() == 0 }) {
						t.Fatal("nothing was given back")
					}
					noticed := time.Since(left)
					if !c.queued {
						<-ended
					}
					took = append(took, noticed-4*late()) // each step there waits for a processor
					if took[len(took)-1] <= 110*time.Millisecond {
						inTime++
					}
				}
				if 3*inTime < 2*len(took) {
					t.Errorf("it was free after %v, want 110 ms", took)
				}
				if gone, all := e.sum("edge_client_gone_total"), e.sum("edge_client_gone_total")+e.sum("edge_requests_total"); gone != all {
					t.Errorf("edge_client_gone_total: got %v of %v requests", gone, all)
				}
			})
		}
	}
}

// Requests that come while one is served are answered in order, whether they came with it, before its answer or later.
func TestRequestsThatFollowAreAnsweredInOrder(t *testing.T) {
	e := start(t, one(provider(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		time.Sleep(5 * time.Millisecond)
		fmt.Fprintf(w, "%s %s", r.URL.Path, body)
	})))
	request := func(n int) string {
		if n%2 == 0 {
			return fmt.Sprintf("GET /up/%d HTTP/1.1\r\nHost: x\r\n\r\n", n)
		}
		return fmt.Sprintf("POST /up/%d HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody", n)
	}
	conn, reader := raw(t, e.url, request(0)+request(1)+request(2))
	want := func(n int) {
		t.Helper()
		wanted := fmt.Sprintf("/%d ", n)
		if n%2 == 1 {
			wanted += "body"
		}
		if got, body := next(t, reader); got.StatusCode != http.StatusOK || body != wanted {
			t.Errorf("got %d %q, want %q", got.StatusCode, body, wanted)
		}
	}
	for n := 3; n < 30; n++ {
		for i, part := range []string{request(n)[:7], request(n)[7:]} { // one byte, some, all of a head may be there
			if _, err := io.WriteString(conn, part); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(n*(i+1)%4) * time.Millisecond)
		}
		want(n - 3)
	}
	want(27)
	want(28)
	want(29)
}

// bufio.Reader reads a last byte of its buffer by itself, too, as the background read does: here the last of a trailer
// section that is as long as the buffer.
func TestLastByteOfABufferIsRead(t *testing.T) {
	e := start(t, one(provider(t, echo("up"))))
	for _, length := range []int{4094, 4095, 4096} {
		for _, split := range []int{1, 2, 3} {
			trailer := "X-Sum: " + strings.Repeat("s", length-len("X-Sum: \r\n\r\n")) + "\r\n\r\n"
			conn, reader := raw(t, e.url, "POST /up/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\n")
			for _, part := range []string{trailer[:length-split], trailer[length-split:]} {
				time.Sleep(5 * time.Millisecond)
				if _, err := io.WriteString(conn, part); err != nil {
					t.Fatal(err)
				}
			}
			if got, body := next(t, reader); got.StatusCode != http.StatusOK || !strings.HasSuffix(body, "|abc") {
				t.Errorf("trailer of %d bytes, the last %d later: got %d %q", length, split, got.StatusCode, body)
			}
			conn.Close()
		}
	}
}

// Content that comes byte by byte is the caller's, not the background read's.
func TestContentOfSingleBytesComesThrough(t *testing.T) {
	e := start(t, one(provider(t, echo("up"))))
	for _, head := range []string{"Content-Length: 10\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"} {
		conn, reader := raw(t, e.url, "POST /up/a HTTP/1.1\r\nHost: x\r\n"+head)
		content := "0123456789"
		if strings.HasPrefix(head, "T") {
			content = "1\r\n0\r\n9\r\n123456789\r\n0\r\n\r\n"
		}
		for i := range len(content) {
			time.Sleep(time.Millisecond)
			if _, err := io.WriteString(conn, content[i:i+1]); err != nil {
				t.Fatal(err)
			}
		}
		if got, body := next(t, reader); got.StatusCode != http.StatusOK || !strings.HasSuffix(body, "|0123456789") {
			t.Errorf("%q: got %d %q", head, got.StatusCode, body)
		}
		conn.Close()
	}
}

// Under HTTP/2 reads of one byte are usual, and none of them is in the background.
func TestHTTP2OnConnectionsOfListener(t *testing.T) {
	p, err := proxy.New(one(provider(t, echo("up"))))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	server.Config = p.Server(true)
	server.Listener = p.Listener(server.Listener)
	server.Start()
	defer func() {
		server.Close()
		p.Close()
	}()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport}
	for n := range 20 {
		reader, writer := io.Pipe()
		go func() {
			for i := range n {
				_, _ = writer.Write([]byte{'a' + byte(i)})
			}
			writer.Close()
		}()
		answer, err := c.Post(server.URL+"/up/a", "text/plain", reader) //nolint:noctx // ends with the content
		if err != nil {
			t.Fatal(err)
		}
		want := "|" + "abcdefghijklmnopqrstuvwxyz"[:n]
		if got, body := whole(t, answer); got.ProtoMajor != 2 || got.StatusCode != http.StatusOK || !strings.HasSuffix(body, want) {
			t.Errorf("%d bytes: got %s %d %q", n, got.Proto, got.StatusCode, body)
		}
	}
}

// A connection that was upgraded is read by Edge alone, whatever the sizes.
func TestUpgradeOnConnectionsOfListener(t *testing.T) {
	e := start(t, one(speaking(t, func(conn net.Conn) {
		reader := bufio.NewReader(conn)
		if _, err := http.ReadRequest(reader); err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(conn, reader)
	})))
	conn, reader := raw(t, e.url, "GET /up/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly")
	answer, err := http.ReadResponse(reader, nil)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v, %v", answer, err)
	}
	answer.Body.Close()
	var got [1]byte
	for i, want := range []byte("early, and more") {
		if i >= len("early") {
			if _, err := conn.Write([]byte{want}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := io.ReadFull(reader, got[:]); err != nil || got[0] != want {
			t.Fatalf("byte %d: got %q, %v, want %q", i, got, err, want)
		}
	}
	conn.Close()
}
