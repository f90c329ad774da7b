package takeover_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/takeover"
)

func TestTimeoutsOfAConnection(t *testing.T) {
	t.Parallel()
	const short = 200 * time.Millisecond
	s := serve(t, true, describe, func(c *takeover.Config) { c.IdleTimeout, c.ReadHeaderTimeout = short, 3*short })
	took := func(do func(c *client)) time.Duration {
		t.Helper()
		c := s.client(t)
		c.ask(primer)
		began := time.Now()
		do(c)
		c.gone()
		return time.Since(began)
	}
	if d := took(func(*client) {}); d < short*7/8-10*time.Millisecond || d > 10*short {
		t.Errorf("an idle connection was closed after %v, want %v", d, short)
	}
	if d := took(func(c *client) { c.send("GET / HT") }); d < 3*short-10*time.Millisecond {
		t.Errorf("half a head was given %v, want %v", d, 3*short)
	}
	if d := took(func(c *client) { // a byte now and then does not help
		for range 5 {
			_, _ = io.WriteString(c.conn, "X") // until the server closes
			time.Sleep(short)
		}
	}); d < 3*short-10*time.Millisecond || d > 15*short {
		t.Errorf("a slow head was given %v, want %v", d, 3*short)
	}
}

func TestEachIdleTimeIsANewOne(t *testing.T) {
	t.Parallel()
	const idle = time.Second
	s := serve(t, true, describe, func(c *takeover.Config) { c.IdleTimeout, c.ReadHeaderTimeout = idle, idle })
	c := s.client(t)
	for waits := 0; waits < 6; waits++ {
		c.ask(primer)
		began := time.Now()
		time.Sleep(idle / 4)
		if time.Since(began) > idle/2 { // a machine so busy may miss the time
			c, waits = s.client(t), -1
		}
	}
	c.ask(primer)
	// A slow content is no idle connection.
	c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n")
	time.Sleep(idle * 3 / 2)
	if _, text := c.ask("abc"); !strings.Contains(text, `content "abc" broken false`) {
		t.Errorf("got %q", text)
	}
	c.ask(primer)
}

func TestWriteTimeout(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 1)
	s := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		for piece := make([]byte, 1<<20); r.URL.Path == "/endless"; {
			if _, err := w.Write(piece); err != nil {
				failed <- err
				return
			}
		}
	}, func(c *takeover.Config) { c.WriteTimeout = 200 * time.Millisecond })
	c := s.client(t)
	c.ask(primer)
	c.send(get("/endless"))
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestDrainAndShutdown(t *testing.T) {
	t.Parallel()
	inside, leave := make(chan struct{}), make(chan struct{})
	s := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			inside <- struct{}{}
			<-leave
		}
		say(w, "done")
	})
	idle, active, streaming := s.client(t), s.client(t), s.client(t)
	for _, c := range []*client{idle, active, streaming} {
		c.ask(get("/"))
	}
	active.send(get("/slow"))
	streaming.send("POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab")
	<-inside
	<-inside
	ended := make(chan error)
	go func() { ended <- s.taken.Shutdown(t.Context()) }()
	idle.gone()
	hurried, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.taken.Shutdown(hurried); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with requests inside: got %v", err)
	}
	close(leave)
	streaming.send("cd")
	for _, c := range []*client{active, streaming} {
		if r, text := c.next(); !r.Close || text != "done" {
			t.Errorf("got close %v, %q, want the whole answer and Connection: close", r.Close, text)
		}
		c.gone()
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	late := s.client(t)
	if r, _ := late.ask(get("/")); r.StatusCode != http.StatusOK { // by net/http, until its own Shutdown
		t.Errorf("got %d", r.StatusCode)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	inside := make(chan context.Context, 1)
	s := serve(t, true, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			inside <- r.Context()
			<-r.Context().Done()
		}
	})
	idle, active := s.client(t), s.client(t)
	idle.ask(get("/"))
	active.ask(get("/"))
	active.send(get("/slow"))
	ctx := <-inside
	s.taken.Close()
	<-ctx.Done()
	idle.gone()
	active.gone()
}

// TestLateReaderGetsNothing: a goroutine that a handler has left behind reads no byte of what comes next.
func TestLateReaderGetsNothing(t *testing.T) {
	t.Parallel()
	reading, results := make(chan struct{}), make(chan string, 1)
	s := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/leave" {
			return
		}
		_ = http.NewResponseController(w).EnableFullDuplex()
		go func() {
			close(reading)
			text, err := io.ReadAll(r.Body)
			results <- fmt.Sprintf("%s %v", text, err != nil)
		}()
		<-reading
		time.Sleep(20 * time.Millisecond) // it waits for content, most likely
	})
	c := s.client(t)
	c.ask(get("/"))
	c.send("POST /leave HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc")
	c.next()
	if got := <-results; got != "abc true" {
		t.Errorf("got %q", got)
	}
	c.gone()
}

func TestLateUseOfAnAnswer(t *testing.T) {
	t.Parallel()
	left := make(chan http.ResponseWriter, 1)
	var body io.ReadCloser
	s := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/leave":
			body = r.Body
			left <- w
		case "/use":
			w, now := <-left, w
			if n, err := w.Write([]byte("stray")); n != 0 || err == nil {
				t.Errorf("Write: got %d, %v", n, err)
			}
			if err := http.NewResponseController(w).Flush(); err == nil {
				t.Error("Flush: got no error")
			}
			if _, _, err := http.NewResponseController(w).Hijack(); err == nil {
				t.Error("Hijack: got no error")
			}
			w.WriteHeader(http.StatusTeapot)
			if n, err := body.Read(make([]byte, 10)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
				t.Errorf("Read: got %d, %v", n, err)
			}
			text, err := io.ReadAll(r.Body)
			say(now, string(text), words(err))
		}
	})
	c := s.client(t)
	c.ask(get("/"))
	c.ask("POST /leave HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
	if _, text := c.ask("POST /use HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nxyz"); text != "xyzfine" {
		t.Errorf("got %q", text)
	}
}

func TestDeadlinesOfAHandlerEndWithIt(t *testing.T) {
	t.Parallel()
	s := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		switch r.URL.Path {
		case "/past":
			_, _ = io.Copy(io.Discard, r.Body)
			say(w, words(control.SetReadDeadline(time.Unix(1, 0))))
		case "/write":
			say(w, "abc", "\f")
			_ = control.SetWriteDeadline(time.Now().Add(time.Millisecond))
		case "/interrupt":
			go func() {
				time.Sleep(20 * time.Millisecond)
				_ = control.SetReadDeadline(time.Unix(1, 0))
			}()
			_, err := io.Copy(io.Discard, r.Body)
			say(w, fmt.Sprint(errors.Is(err, os.ErrDeadlineExceeded), " ", r.Context().Err()))
		}
	})
	c := s.client(t)
	c.ask(get("/"))
	for _, path := range []string{"/past", "/write", "/past"} {
		c.ask("POST " + path + " HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
		time.Sleep(5 * time.Millisecond)
	}
	if r, text := c.ask("POST /interrupt HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\na"); text != "true context canceled" || !r.Close {
		t.Errorf("got %q, close %v", text, r.Close)
	}
	c.gone()
}

func TestClientsThatLeaveAreSeenByReadsAndWrites(t *testing.T) {
	t.Parallel()
	results := make(chan string, 1)
	s := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		var err error
		switch r.URL.Path {
		case "/read":
			_, err = io.Copy(io.Discard, r.Body)
		case "/write":
			for piece := make([]byte, 1<<16); err == nil; {
				_, err = w.Write(piece)
			}
		default:
			return
		}
		results <- fmt.Sprint(err != nil, r.Context().Err())
	})
	for _, path := range []string{"/read", "/write"} {
		c := s.client(t)
		c.ask(get("/"))
		c.send("POST " + path + " HTTP/1.1\r\nHost: h\r\nContent-Length: 300\r\n\r\na")
		time.Sleep(10 * time.Millisecond)
		c.conn.Close()
		if got := <-results; got != "true context canceled" {
			t.Errorf("%s: got %s", path, got)
		}
	}
}
