package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edge-proxy/edge/proxy"
	"github.com/edge-proxy/edge/proxy/socket"
)

// takePipes takes all pipes that are to be had.
func takePipes() (all []*socket.Pipe) {
	for p := socket.TakePipe(); p != nil; p = socket.TakePipe() {
		all = append(all, p)
	}
	return all
}

func givePipes(all []*socket.Pipe) {
	for _, p := range all {
		p.Give()
	}
}

// pipesUsed waits until so many pipes are in use.
func pipesUsed(t *testing.T, want int) {
	t.Helper()
	if !settles(5*time.Second, func() bool { return socket.PipesInUse() == want }) {
		t.Errorf("%d pipes are in use, want %d", socket.PipesInUse(), want)
	}
}

// sockets sets an option of all connections that a listener will accept.
func sockets(t *testing.T, l net.Listener, level, option, value int) {
	t.Helper()
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), level, option, value) })
	}
	if err != nil {
		t.Fatal(err)
	}
}

// roomy serves on connections that take any content of these tests unread.
func roomy(t *testing.T) func(*httptest.Server) {
	return func(s *httptest.Server) {
		sockets(t, s.Listener, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 2<<20)
		if p, ok := s.Config.Handler.(*proxy.Proxy); ok { // else connections are taken over, and no pipe is used
			s.Listener = p.Listener(s.Listener)
		}
		s.Start()
	}
}

// uploads is an Edge whose provider holds back GET /hold.
type uploads struct {
	*edge
	provider *httptest.Server
	held     chan struct{} // that has come
	release  chan struct{} // and may go
	drops    atomic.Bool   // its connection is closed without a word then
}

// tight makes a provider's connections take less than 64 KiB unread.
func tight(t *testing.T) func(*httptest.Server) {
	return func(s *httptest.Server) {
		sockets(t, s.Listener, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10)
		sockets(t, s.Listener, syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 536) // the sender's room goes by that
	}
}

func wide(*testing.T) func(*httptest.Server) { return func(*httptest.Server) {} }

func uploading(t *testing.T, width func(*testing.T) func(*httptest.Server), handler http.HandlerFunc, change ...func(*proxy.Config, *proxy.Provider)) *uploads {
	t.Helper()
	u := &uploads{held: make(chan struct{}), release: make(chan struct{})}
	u.provider = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hold":
			u.held <- struct{}{}
			if <-u.release; u.drops.Load() {
				conn, _, _ := w.(http.Hijacker).Hijack()
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				conn.Close()
			}
		case "/first":
		default:
			handler(w, r)
		}
	}))
	width(t)(u.provider)
	u.provider.Start()
	t.Cleanup(func() {
		u.provider.CloseClientConnections()
		u.provider.Close()
	})
	u.edge = start(t, one(u.provider.URL, change...), roomy(t))
	call(t, client(t), "POST", u.url+"/up/first", "x") // from now on it is known to tell of no quota
	return u
}

// send sends content such that it lies in the kernel, but for what net/http has read with the head, when the handler of
// its request begins. It is written in pieces of a size.
func (u *uploads) send(t *testing.T, method string, content []byte, size int) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, answers := raw(t, u.url, "GET /up/hold HTTP/1.1\r\nHost: x\r\n\r\n")
	<-u.held
	u.write(t, conn, method, content, size)
	u.release <- struct{}{}
	if got, _ := next(t, answers); got.StatusCode != http.StatusOK {
		t.Fatalf("the request before: %d", got.StatusCode)
	}
	return conn, answers
}

func (u *uploads) write(t *testing.T, conn net.Conn, method string, content []byte, size int) {
	t.Helper()
	between := sink(t)
	head := method + " /up/content HTTP/1.1\r\nHost: x\r\nContent-Length: " + strconv.Itoa(len(content)) + "\r\n\r\n"
	for rest := append([]byte(head), content...); len(rest) > 0; {
		n := min(len(rest), size)
		if _, err := conn.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		if rest = rest[n:]; n < 2<<10 {
			_, _ = between.Write(make([]byte, n)) // else the kernel puts the pieces together: they lie side by side in its memory
		}
	}
	arrived(t, conn)
}

// sink is a connection that takes whatever is written.
func sink(t *testing.T) net.Conn {
	t.Helper()
	base := speaking(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://")) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// arrived waits until the other side's kernel has all that was written.
func arrived(t *testing.T, conn net.Conn) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	unsent := 0
	if !settles(5*time.Second, func() bool {
		failed := raw.Control(func(fd uintptr) { unsent, err = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) })
		return failed == nil && err == nil && unsent == 0
	}) {
		t.Errorf("%d bytes do not arrive: %v", unsent, err)
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// hashing answers with the digest of what it gets.
func hashing(w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	_, _ = io.Copy(sum, r.Body)
	_, _ = io.WriteString(w, hex.EncodeToString(sum.Sum(nil)))
}

var lengths = []int{16<<10 + 1, 17 << 10, 20<<10 + 7, 40 << 10, 64 << 10, 100_000, 128<<10 - 1, 128 << 10}

// Content that goes through a pipe arrives byte for byte, whatever pieces it has come in, whether pipes are to be had or not.
func TestContentGoesThroughAPipe(t *testing.T) {
	u := uploading(t, wide, hashing)
	f := func(length, size int) {
		t.Helper()
		content := noise(length)
		_, answers := u.send(t, "POST", content, size)
		if got, body := next(t, answers); got.StatusCode != http.StatusOK || body != digest(content) {
			t.Errorf("%d bytes in pieces of %d: got %d, other content", length, size, got.StatusCode)
		}
		pipesUsed(t, 0)
	}
	for _, length := range lengths {
		for _, size := range []int{700, 5000, 1 << 20} {
			f(length, size)
		}
	}
	defer givePipes(takePipes())
	for _, length := range lengths {
		content := noise(length)
		_, answers := u.send(t, "POST", content, 1<<20)
		if got, body := next(t, answers); got.StatusCode != http.StatusOK || body != digest(content) {
			t.Errorf("%d bytes without a pipe: got %d, other content", length, got.StatusCode)
		}
	}
}

// What the provider has no room for yet waits in the pipe, and in memory behind it, and goes out later.
func TestContentWaitsInItsPipe(t *testing.T) {
	read := make(chan struct{})
	for _, size := range []int{1 << 20, 5000, 700} {
		// A connection that has carried such content may take all of it the next time.
		u := uploading(t, tight, func(w http.ResponseWriter, r *http.Request) { <-read; hashing(w, r) })
		for i, length := range []int{128 << 10, 100_000} {
			content := noise(length)
			_, answers := u.send(t, "POST", content, size)
			if i == 0 && size > length && !*overTaken { // in small pieces it is more than a pipe takes
				pipesUsed(t, 1)
			}
			read <- struct{}{}
			if got, body := next(t, answers); got.StatusCode != http.StatusOK || body != digest(content) {
				t.Errorf("%d bytes in pieces of %d: got %d, other content", length, size, got.StatusCode)
			}
			pipesUsed(t, 0)
		}
	}
}

// A provider that answers in the midst of content that waits in a pipe is heard, and the pipe comes back.
func TestAnswerInTheMidstOfContentInAPipe(t *testing.T) {
	u := uploading(t, tight, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	})
	for range 3 {
		_, answers := u.send(t, "POST", noise(128<<10), 1<<20)
		if got, _ := next(t, answers); got.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("got %d", got.StatusCode)
		}
		pipesUsed(t, 0)
	}
}

// A provider that breaks off while content waits in a pipe ends that, and the pipe comes back.
func TestProviderThatBreaksOffContentInAPipe(t *testing.T) {
	breakOff := make(chan struct{})
	u := uploading(t, tight, func(http.ResponseWriter, *http.Request) { <-breakOff; panic(http.ErrAbortHandler) })
	_, answers := u.send(t, "POST", noise(128<<10), 1<<20)
	if !*overTaken {
		pipesUsed(t, 1)
	}
	breakOff <- struct{}{}
	if got, _ := next(t, answers); got.StatusCode != http.StatusBadGateway {
		t.Errorf("got %d, want 502", got.StatusCode)
	}
	pipesUsed(t, 0)
}

// A caller that leaves while its content waits in a pipe ends that, and the pipe comes back.
func TestCallerLeavesContentInAPipe(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	u := uploading(t, tight, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-over:
		case <-r.Context().Done():
		}
	})
	conn, _ := u.send(t, "POST", noise(128<<10), 1<<20)
	if !*overTaken {
		pipesUsed(t, 1)
	}
	conn.Close()
	pipesUsed(t, 0)
}

// A provider that closes the connection it has kept just when content comes gets all of the content on another, or the
// caller gets an error.
func TestContentInAPipeAfterAConnectionThatWasKept(t *testing.T) {
	u := uploading(t, wide, hashing)
	u.drops.Store(true)
	content := noise(100_000)
	good := 0
	for range 40 {
		conn, answers := u.send(t, "POST", content, 1<<20)
		switch got, body := next(t, answers); {
		case got.StatusCode == http.StatusOK && body == digest(content):
			good++
		case got.StatusCode != http.StatusBadGateway:
			t.Errorf("got %d, or other content", got.StatusCode)
		}
		conn.Close()
	}
	if t.Logf("%d of 40 were served", good); good == 0 {
		t.Error("no content has arrived")
	}
	pipesUsed(t, 0)
}

// Content that may be sent again is whole each time.
func TestContentIsSentAgainWithoutAPipe(t *testing.T) {
	asked := 0
	u := uploading(t, wide, func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		hashing(w, r)
	}, func(_ *proxy.Config, p *proxy.Provider) { p.MaxRetries = 1 })
	for _, length := range lengths {
		content := noise(length)
		_, answers := u.send(t, "POST", content, 1<<20)
		if got, body := next(t, answers); got.StatusCode != http.StatusOK || body != digest(content) {
			t.Errorf("%d bytes: got %d, other content", length, got.StatusCode)
		}
	}
	pipesUsed(t, 0)
}

// What is safe may be sent again by the client, so it goes through no pipe.
func TestSafeContentGoesThroughNoPipe(t *testing.T) {
	came, read := make(chan struct{}), make(chan struct{})
	u := uploading(t, tight, func(w http.ResponseWriter, r *http.Request) { came <- struct{}{}; <-read; hashing(w, r) })
	content := noise(128 << 10)
	_, answers := u.send(t, "OPTIONS", content, 1<<20)
	<-came
	if n := socket.PipesInUse(); n != 0 { // at once: a pipe may run empty
		t.Errorf("%d pipes are in use", n)
	}
	read <- struct{}{}
	if got, body := next(t, answers); got.StatusCode != http.StatusOK || body != digest(content) {
		t.Errorf("got %d, other content", got.StatusCode)
	}
}

// A handler around the Proxy that looks at the content sees it.
func TestHandlerAroundSeesContent(t *testing.T) {
	var seen bytes.Buffer
	u := uploading(t, wide, hashing)
	content := noise(100_000)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			r.Body = struct {
				io.Reader
				io.Closer
			}{io.TeeReader(r.Body, &seen), r.Body}
		}
		u.ServeHTTP(w, r)
	})
	server := httptest.NewUnstartedServer(handler)
	server.Config.ConnContext = proxy.ConnContext
	sockets(t, server.Listener, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 2<<20)
	server.Listener = u.Listener(server.Listener)
	server.Start()
	defer server.Close()
	u.url = server.URL
	_, answers := u.send(t, "POST", content, 1<<20)
	if got, body := next(t, answers); got.StatusCode != http.StatusOK || body != digest(content) || !bytes.Equal(seen.Bytes(), content) {
		t.Errorf("got %d, or other content; the handler around has seen %d bytes", got.StatusCode, seen.Len())
	}
}
