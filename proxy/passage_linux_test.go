package proxy_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
	"github.com/edge-proxy/edge/proxy/socket"
)

// pipesInUse tells how many are, and checks at the end of the test that all came back.
func pipesInUse(t *testing.T) func() int {
	t.Helper()
	before := socket.PipesInUse()
	p := socket.TakePipe()
	if p == nil {
		t.Fatal("there are no pipes")
	}
	p.Give()
	t.Cleanup(func() { pipesUsed(t, before) })
	return func() int { return socket.PipesInUse() - before }
}

// allRandom is what random takes its content from.
var allRandom = sync.OnceValue(func() []byte {
	all := make([]byte, 21<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(all)
	return all
})

// random is content of 20 MiB at most. It is the same for the same length and another for most others.
func random(length int) []byte { return allRandom()[length%1009:][:length] }

// sized is a provider that answers /<bytes>/<piece> with random content of that length, in pieces.
func sized(w http.ResponseWriter, r *http.Request) {
	var length, piece int
	_, _ = fmt.Sscanf(r.URL.Path, "/%d/%d", &length, &piece)
	w.Header().Set("Content-Length", strconv.Itoa(length))
	for rest := random(length); len(rest) > 0; {
		n := min(piece, len(rest))
		if _, err := w.Write(rest[:n]); err != nil {
			return
		}
		if rest = rest[n:]; piece < 100_000 {
			w.(http.Flusher).Flush()
		}
	}
}

// Long answers come as they were sent, one after another on one connection to the caller and one to the provider.
func TestLongAnswersByteForByte(t *testing.T) {
	pipesInUse(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(sized))
	var connections atomic.Int32
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	e := start(t, one(server.URL))
	conn, reader := raw(t, e.url, "")
	f := func(length, piece int, head string) {
		t.Helper()
		_, _ = fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\n\r\n", strings.Replace(head, "/", fmt.Sprintf("/up/%d/%d", length, piece), 1))
		request := &http.Request{Method: strings.Fields(head)[0]}
		answer, err := http.ReadResponse(reader, request)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		want := random(length)
		if request.Method == http.MethodHead {
			want = nil
		}
		if answer.ContentLength != int64(length) || err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s of %d bytes by %d: got %d of %d, %v", head, length, piece, len(got), answer.ContentLength, err)
		}
	}
	for _, length := range []int{10, 64 << 10, 64<<10 + 1, 100_000, 300_000, 1 << 20, 20 << 20} {
		f(length, 1<<20, "GET /")
		f(length, 1<<20, "HEAD /")
		f(length, 1<<20, "POST /") // without content
	}
	for _, piece := range []int{100, 1000, 5000, 50_000} {
		f(200_000, piece, "GET /")
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections to the provider, want 1", n)
	}
	_, _ = io.WriteString(conn, "GET /up/200000/1000 HTTP/1.0\r\n\r\n")
	answer, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, got := whole(t, answer); got != string(random(200_000)) {
		t.Errorf("HTTP/1.0: got %d bytes", len(got))
	}
}

// An answer that passes holds a pipe and no buffer, however slowly it is taken. Who must see its content, or frame it, gets
// it as ever.
func TestWhichAnswersPass(t *testing.T) {
	const length = 20 << 20
	inUse := pipesInUse(t)
	up := provider(t, func(w http.ResponseWriter, r *http.Request) {
		kind, _ := hex.DecodeString(r.URL.Query().Get("kind"))
		if len(kind) > 0 {
			w.Header().Set("Content-Type", string(kind))
		}
		if strings.HasPrefix(r.URL.Path, "/chunked/") {
			_, _ = io.Copy(struct{ io.Writer }{w}, bytes.NewReader(random(length)))
			return
		}
		sized(w, r)
	})
	f := func(pass bool, method, path, kind string, c proxy.Config, with ...func(*httptest.Server)) {
		t.Helper()
		e := start(t, c, with...)
		request, _ := http.NewRequestWithContext(t.Context(), method, fmt.Sprintf("%s/up%s?kind=%x", e.url, path, kind), http.NoBody)
		web := client(t)
		if with != nil {
			web = e.server.Client()
		}
		answer, err := web.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if _, err := io.ReadFull(answer.Body, make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
		buffers := func() float64 {
			return e.sum("edge_arena_slots_in_use", `class="body"`) + e.sum("edge_arena_slots_in_use", `class="long"`)
		}
		wanted, buffered := 1, 0.0
		if !pass {
			wanted, buffered = 0, 1
		}
		if answer.ProtoMajor > 1 {
			buffered = 0 // the heap's
		}
		if !settles(5*time.Second, func() bool { return inUse() == wanted && buffers() == buffered }) {
			t.Errorf("%s %s %s %s: %d pipes and %v buffers in use, want %d and %v", method, path, kind, answer.Proto, inUse(), buffers(), wanted, buffered)
		}
		rest, err := io.ReadAll(answer.Body)
		if err != nil || !bytes.Equal(rest, random(length)[100_000:]) {
			t.Errorf("%s %s %s: got %d bytes, %v", method, path, kind, len(rest), err)
		}
	}
	path := fmt.Sprintf("/%d/1000000", length)
	f(true, "GET", path, "", one(up))
	f(true, "GET", path, "application/json", one(up))
	f(true, "POST", path, "image/png", one(up))
	f(false, "POST", path, "application/json", one(up)) // its tokens are counted
	f(false, "GET", path, "text/event-stream", one(up))
	f(false, "GET", "/chunked/", "", one(up))
	f(false, "GET", path, "", one(up), unwrapped)
	f(false, "GET", path, "", one(up), func(s *httptest.Server) { s.StartTLS() })
}

// startOn is start with a server that the test makes of the proxy's.
func startOn(t *testing.T, c proxy.Config, change func(*httptest.Server, *proxy.Proxy)) *edge {
	t.Helper()
	p, err := proxy.New(c)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	server.Config = p.Server(false)
	change(server, p)
	server.Start()
	e := &edge{p, t, server, server.URL}
	t.Cleanup(func() {
		server.Close()
		p.Close()
		e.balanced()
	})
	return e
}

// limited makes sockets with small buffers, so that it is felt soon when the other side does not read.
func limited(option, bytes int) func(_, _ string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, option, bytes) })
	}
}

// The permit is back once the provider's last byte was read, although the caller has yet to take the last piece.
func TestPermitOfAPassageIsBackAtTheLastByte(t *testing.T) {
	const first, held, last = 100_000, 200_000, 60_000
	inUse := pipesInUse(t)
	rest := make(chan struct{})
	written := make(chan struct{}, 1)
	up := provider(t, func(w http.ResponseWriter, _ *http.Request) {
		content := random(first + held + last)
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		_, _ = w.Write(content[:first])
		w.(http.Flusher).Flush()
		<-rest
		_, _ = w.Write(content[first : first+held]) // Edge waits for the caller with a part of it
		w.(http.Flusher).Flush()
		_, _ = w.Write(content[first+held:]) // and with this in the kernel, behind it
		w.(http.Flusher).Flush()
		written <- struct{}{}
	})
	e := startOn(t, one(up), func(s *httptest.Server, p *proxy.Proxy) {
		s.Listener.Close()
		listener, err := (&net.ListenConfig{Control: limited(syscall.SO_SNDBUF, 4<<10)}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.Listener = p.Listener(listener)
	})
	dialer := net.Dialer{Control: limited(syscall.SO_RCVBUF, 16<<10)}
	early := 0
	for range 50 { // what Edge finds in the kernel at once is the kernel's to say
		conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(e.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "GET /up/ HTTP/1.1\r\nHost: x\r\n\r\n")
		reader := bufio.NewReader(conn)
		answer, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		_, _ = io.CopyN(&got, answer.Body, first)
		rest <- struct{}{}
		<-written
		for got.Len() < first+held+last && e.sum("edge_in_flight") > 0 {
			_, _ = io.CopyN(&got, answer.Body, 2000)
		}
		if inUse() == 1 && e.sum("edge_in_flight") == 0 {
			early++
		}
		if _, err := io.Copy(&got, answer.Body); err != nil || !bytes.Equal(got.Bytes(), random(first+held+last)) {
			t.Errorf("got %d bytes, %v", got.Len(), err)
		}
		answer.Body.Close()
		conn.Close()
		if early == 3 {
			return
		}
	}
	t.Errorf("%d of 50 permits were back before the caller had taken the answer", early)
}

// passing returns an answer of 20 MiB that is passing, of which the provider sends so much before it does what it is told.
// It is told when the answer was seen to pass.
func passing(t *testing.T, send int, then func(conn net.Conn, passes <-chan struct{}), change ...func(*proxy.Config, *proxy.Provider)) (*edge, net.Conn, io.ReadCloser) {
	t.Helper()
	inUse := pipesInUse(t)
	passes := make(chan struct{})
	defer close(passes)
	e := start(t, one(speaking(t, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 4<<10))
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 20<<20)
		_, _ = conn.Write(random(20 << 20)[:send])
		then(conn, passes)
	}), change...))
	conn, reader := raw(t, e.url, "GET /up/ HTTP/1.1\r\nHost: x\r\n\r\n")
	answer, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	if !settles(5*time.Second, func() bool { return inUse() == 1 }) {
		t.Error("the answer does not pass")
	}
	return e, conn, answer.Body
}

// untilClosed is a provider that waits until Edge has enough.
func untilClosed(conn net.Conn, _ <-chan struct{}) { _, _ = conn.Read(make([]byte, 1)) }

// An answer that breaks off while it passes, whatever the reason, is cut, and the connection with it.
func TestPassageThatBreaksOffIsNeverCompleted(t *testing.T) {
	f := func(reason string, send int, then func(conn net.Conn, passes <-chan struct{}), change ...func(*proxy.Config, *proxy.Provider)) {
		t.Helper()
		e, _, content := passing(t, send, then, change...)
		got, err := io.ReadAll(content)
		if err == nil || !bytes.Equal(got, random(20 << 20)[:len(got)]) {
			t.Errorf("%s: got %d bytes, %v", reason, len(got), err)
		}
		if !settles(5*time.Second, func() bool { return e.sum("edge_rejected_total", `reason="`+reason+`"`) == 1 }) {
			t.Errorf("no %s is counted", reason)
		}
	}
	f("upstream_error", 1<<20, func(_ net.Conn, passes <-chan struct{}) { <-passes })
	f("upstream_error", 1<<20, func(conn net.Conn, passes <-chan struct{}) {
		<-passes
		_ = conn.(*net.TCPConn).SetLinger(0)
	})
	f("upstream_timeout", 1<<20, untilClosed, func(_ *proxy.Config, p *proxy.Provider) { p.StreamIdleTimeout = time.Second })
}

// A pipe counts as in use for as long as content is held up in it.
func TestPipesInUseAreShown(t *testing.T) {
	e, _, content := passing(t, 20<<20, untilClosed)
	if used, most := e.sum("edge_pipes_in_use"), e.sum("edge_pipes_limit"); used < 1 || used > most || most != socket.MostPipes {
		t.Errorf("got %v pipes of at most %v, want 1 or more of %d", used, most, socket.MostPipes)
	}
	if got, err := io.ReadAll(content); err != nil || len(got) != 20<<20 {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if !settles(5*time.Second, func() bool { return e.sum("edge_pipes_in_use") == 0 }) {
		t.Errorf("%v pipes are in use after the answer", e.sum("edge_pipes_in_use"))
	}
}

// A caller that takes nothing of a passing answer, or leaves it, ends it, and the provider's connection.
func TestPassageNobodyTakes(t *testing.T) {
	f := func(leave bool, change ...func(*proxy.Config, *proxy.Provider)) {
		t.Helper()
		ended := make(chan struct{})
		e, conn, content := passing(t, 20<<20, func(conn net.Conn, _ <-chan struct{}) { untilClosed(conn, nil); close(ended) }, change...)
		if leave {
			conn.Close()
		}
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Fatal("the provider's connection goes on")
		}
		if !settles(5*time.Second, func() bool { return e.sum("edge_client_gone_total", `stage="streaming"`) == 1 }) {
			t.Error("no caller that left is counted")
		}
		if got, err := io.ReadAll(content); err == nil {
			t.Errorf("got a complete answer of %d bytes", len(got))
		}
	}
	f(true)
	f(false, func(c *proxy.Config, _ *proxy.Provider) { c.WriteTimeout = time.Second })
}

// A caller may take long in all, if it takes something within each write timeout.
func TestSlowReaderOfAPassage(t *testing.T) {
	const timeout, steps = time.Second, 20
	_, _, content := passing(t, 20<<20, untilClosed, func(c *proxy.Config, _ *proxy.Provider) { c.WriteTimeout = timeout })
	want := random(20 << 20)
	piece := make([]byte, len(want)/steps)
	for at := 0; at < len(want); at += len(piece) {
		<-time.After(timeout / 10)
		if _, err := io.ReadFull(content, piece); err != nil || !bytes.Equal(piece, want[at:at+len(piece)]) {
			t.Fatalf("at %d: %v", at, err)
		}
	}
}

// A deadline that somebody in front has set and taken back does not end a passage.
func TestPassageGoesOnAfterADeadlineNobodyWants(t *testing.T) {
	inUse := pipesInUse(t)
	const timeout = 200 * time.Millisecond
	e := startOn(t, one(provider(t, sized)), func(s *httptest.Server, p *proxy.Proxy) {
		s.Listener = p.Listener(s.Listener)
		s.Config.WriteTimeout = timeout
		s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
			p.ServeHTTP(w, r)
		})
	})
	conn, reader := raw(t, e.url, fmt.Sprintf("GET /up/%d/1000000 HTTP/1.1\r\nHost: x\r\n\r\n", 20<<20))
	defer conn.Close()
	if !settles(5*time.Second, func() bool { return inUse() == 1 }) {
		t.Error("the answer does not pass")
	}
	<-time.After(2 * timeout) // the caller takes nothing meanwhile
	if _, got := next(t, reader); got != string(random(20<<20)) {
		t.Errorf("got %d bytes", len(got))
	}
}

// TestHammerPassages has many more answers on their way than there are pipes, and many of them are given up.
func TestHammerPassages(t *testing.T) {
	pipesInUse(t)
	e := start(t, one(provider(t, sized), func(_ *proxy.Config, p *proxy.Provider) { p.Concurrency, p.BufferSize = 200, 200 }))
	lengths := [...]int{1000, 70_000, 300_000, 2 << 20}
	var contents [len(lengths)][]byte
	for i, length := range lengths {
		contents[i] = random(length)
	}
	var all sync.WaitGroup
	var answered, left atomic.Int32
	for worker := range 100 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 1)) //nolint:gosec // a test's
			web := client(t)
			for range 6 {
				i := random.IntN(len(lengths))
				request, _ := http.NewRequestWithContext(t.Context(), "GET", fmt.Sprintf("%s/up/%d/%d", e.url, lengths[i], 20_000+random.IntN(200_000)), nil)
				answer, err := web.Do(request)
				if err != nil {
					t.Error(err)
					return
				}
				want := contents[i]
				if random.IntN(3) == 0 {
					want = want[:random.IntN(len(want))]
					left.Add(1)
				} else {
					answered.Add(1)
				}
				got := make([]byte, len(want))
				if _, err := io.ReadFull(answer.Body, got); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes of %d: %v, or others", len(want), lengths[i], err)
				}
				answer.Body.Close()
			}
		})
	}
	all.Wait()
	if answered.Load() == 0 || left.Load() == 0 {
		t.Errorf("the hammer missed: %d answered, %d left", answered.Load(), left.Load())
	}
}
