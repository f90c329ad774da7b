package takeover_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// client is one connection.
type client struct {
	t    testing.TB
	conn *net.TCPConn
	r    *bufio.Reader
}

func (s *served) client(t testing.TB) *client {
	conn := s.dial(t)
	return &client{t, conn, bufio.NewReader(conn)}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatal(err)
	}
}

// answer is what is left of a response once its content was read.
type answer struct {
	StatusCode int
	Close      bool
}

// next reads one answer; 1xx are in it.
func (c *client) next() (head answer, content string) {
	c.t.Helper()
	r, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Fatalf("got %q, then %v", text, err)
	}
	return answer{r.StatusCode, r.Close}, string(text)
}

// ask sends a request and reads its answer.
func (c *client) ask(request string) (answer, string) {
	c.t.Helper()
	c.send(request)
	return c.next()
}

// gone checks that the server closes, and that nothing comes before that.
func (c *client) gone() {
	c.t.Helper()
	if b, err := c.r.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Errorf("got %q and %v, want the end of the connection", b, err)
	}
}

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n" }

func TestWhatIsTakenOver(t *testing.T) {
	t.Parallel()
	s := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%T %s %v", w, text, err)
	})
	f := func(request string, taken bool) {
		t.Helper()
		for range 2 { // on one connection, if it goes on
			c := s.client(t)
			r, got := c.ask(request)
			if r.StatusCode == http.StatusContinue {
				_, got = c.next()
			}
			if strings.HasPrefix(got, "*takeover.exchange") != taken || !strings.HasSuffix(got, "<nil>") {
				t.Errorf("%q: got %q, want it taken over: %v", request, got, taken)
			}
		}
	}
	f(get("/"), true)
	f("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", true)
	f("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", true)
	f("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false)
	f("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", false)
	f("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", false)
	f("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc", false)
}

func TestContextOfARequest(t *testing.T) {
	t.Parallel()
	contexts := make(chan context.Context, 3)
	s := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		conn, _ := r.Context().Value(connKey{}).(net.Conn)
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		fmt.Fprint(w, conn.LocalAddr().String() == local.String(), conn.RemoteAddr().String() == r.RemoteAddr, r.Context().Err())
		contexts <- r.Context()
	})
	c := s.client(t)
	for range 3 {
		if _, got := c.ask(get("/")); got != "true true <nil>" {
			t.Errorf("got %s", got)
		}
		if ctx := <-contexts; !settles(patience, func() bool { return ctx.Err() != nil }) {
			t.Error("the context goes on behind the handler")
		}
	}
}

func TestContinueIsSentWhenTheContentIsWanted(t *testing.T) {
	t.Parallel()
	s := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/read":
			text, err := io.ReadAll(r.Body)
			say(w, string(text), words(err))
		case "/refuse":
			w.WriteHeader(http.StatusForbidden)
		}
	})
	const rest = " HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
	c := s.client(t)
	c.ask(get("/"))
	for range 2 {
		if r, _ := c.ask("POST /read" + rest); r.StatusCode != http.StatusContinue {
			t.Fatalf("got %d", r.StatusCode)
		}
		if r, text := c.ask("abc"); r.StatusCode != http.StatusOK || r.Close || text != "abcfine" {
			t.Errorf("got %d %q", r.StatusCode, text)
		}
	}
	if r, _ := c.ask("POST /refuse" + rest); r.StatusCode != http.StatusForbidden || !r.Close {
		t.Errorf("got %d, close %v", r.StatusCode, r.Close)
	}
	c.gone()
}

func TestHijack(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, over bool) {
		s := serve(t, over, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/hijack" {
				return
			}
			set(w, "Connection", "Upgrade", "Upgrade", "x")
			w.WriteHeader(http.StatusSwitchingProtocols)
			conn, buffered, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, http.ErrHijacked) {
				t.Errorf("again: got %v", err)
			}
			if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrHijacked) {
				t.Errorf("Write: got %v", err)
			}
			w.WriteHeader(http.StatusOK)
			line, err := buffered.ReadString('\n')
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintf(buffered, "you said %s", line)
			line, err = buffered.ReadString('\n')
			fmt.Fprintf(buffered, "then %s %v", line, err)
			buffered.Flush()
		})
		c := s.client(t)
		c.ask(get("/"))
		c.send("GET /hijack HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhello\nwor")
		if r, err := http.ReadResponse(c.r, nil); err != nil || r.StatusCode != http.StatusSwitchingProtocols { //nolint:bodyclose // a 101 has none
			t.Fatalf("got %v, %v", r, err)
		}
		if over {
			if err := s.taken.Shutdown(t.Context()); err != nil { // does not wait for what is not HTTP any more
				t.Error(err)
			}
		}
		c.send("ld\n")
		if text, err := io.ReadAll(c.r); err != nil || string(text) != "you said hello\nthen world\n <nil>" {
			t.Errorf("got %q, %v", text, err)
		}
	})
}

func TestPanicsAreLogged(t *testing.T) {
	t.Parallel()
	s := serve(t, true, func(_ http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/panic":
			panic("on purpose")
		case "/abort":
			panic(http.ErrAbortHandler)
		case "/goexit":
			runtime.Goexit()
		}
	})
	for _, path := range []string{"/abort", "/goexit", "/panic"} {
		c := s.client(t)
		c.ask(get("/"))
		c.send(get(path))
		c.gone()
		if logged := s.log.String(); strings.Contains(logged, "on purpose") != (path == "/panic") {
			t.Errorf("%s: logged %q", path, logged)
		}
	}
}

func TestUnreadContent(t *testing.T) {
	t.Parallel()
	s := serve(t, true, func(w http.ResponseWriter, _ *http.Request) { say(w, "answer") })
	content := func(n int) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", n, strings.Repeat("x", n)) }
	chunk := func(n int) string {
		return fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", n, strings.Repeat("x", n))
	}
	f := func(content string, keeps bool) {
		t.Helper()
		c := s.client(t)
		c.ask(primer)
		var sending sync.WaitGroup
		defer sending.Wait()
		sending.Go(func() { // the server may stop to read
			_, _ = io.WriteString(c.conn, "POST / HTTP/1.1\r\nHost: h\r\n"+content)
		})
		if r, text := c.next(); r.Close == keeps || text != "answer" {
			t.Errorf("%.60q: got close %v, %q", content, r.Close, text)
		} else if keeps {
			c.ask(primer)
		} else {
			c.gone()
		}
	}
	f(content(1), true)
	f(content(100_000), true)
	f(content(256<<10-1), true)
	f(content(256<<10), false)
	f(content(10<<20), false)
	f(chunk(100_000), true)
	f(chunk(10<<20), false)
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	t.Parallel()
	s := serve(t, true, func(w http.ResponseWriter, r *http.Request) { say(w, r.URL.Path, byOne(r.Body)) })
	c := s.client(t)
	var all bytes.Buffer
	const count = 500
	for i := range count {
		fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", i, i, strings.Repeat("x", i))
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() { c.send(all.String()) })
	for i := range count {
		if _, text := c.next(); text != fmt.Sprintf("/%d%sEOF", i, strings.Repeat("x", i)) {
			t.Fatalf("%d: got %q", i, text)
		}
	}
}

// TestRequestAllocates pins what a request costs in allocations, client included, which makes none.
func TestRequestAllocates(t *testing.T) {
	content := make([]byte, 1024)
	s := serve(t, true, func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = octets
		_, _ = w.Write(content)
	})
	c := s.client(t)
	request, into := []byte("POST /v1/chat HTTP/1.1\r\nHost: h\r\nUser-Agent: a\r\nContent-Type: b\r\nContent-Length: 3\r\nAuthorization: c\r\n\r\nabc"), make([]byte, 4096)
	once := func() {
		if _, err := c.conn.Write(request); err != nil {
			t.Fatal(err)
		}
		for read, want := 0, 1142; read < want; {
			n, err := c.conn.Read(into)
			if read += n; err != nil || read > want || read < want && n == 0 {
				t.Fatalf("got %d bytes, want %d, %v: %q", read, want, err, into[:n])
			}
		}
	}
	for range 10 {
		once()
	}
	if got := testing.AllocsPerRun(100, once); got > 7.5 {
		t.Errorf("got %v allocations a request, want at most 7", got)
	}
}

var octets = []string{"application/octet-stream"}
