package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// countingListener counts what is written to its connections.
type countingListener struct {
	net.Listener
	writes *atomic.Int32
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return countingConn{conn, l.writes}, err
}

type countingConn struct {
	net.Conn
	writes *atomic.Int32
}

func (c countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// Each write is a system call, and an answer that came at once goes out at once: its head and its content together.
func TestAnswersTakeFewWrites(t *testing.T) {
	step := make(chan struct{}, 1)
	up := provider(t, func(w http.ResponseWriter, r *http.Request) {
		var size, pieces int
		_, _ = fmt.Sscanf(r.URL.Path, "/%d/%d", &size, &pieces)
		if pieces == 0 {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			_, _ = io.WriteString(w, strings.Repeat("x", size))
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for range pieces {
			_, _ = io.WriteString(w, strings.Repeat("x", size))
			w.(http.Flusher).Flush()
			<-step
		}
	})
	var writes atomic.Int32
	e := start(t, one(up), func(s *httptest.Server) {
		s.Listener = countingListener{s.Listener, &writes}
		s.Start()
	})
	f := func(size, pieces, most int) {
		t.Helper()
		writes.Store(0)
		answer, err := client(t).Get(fmt.Sprintf("%s/up/%d/%d", e.url, size, pieces)) //nolint:noctx // ends with the handler
		if err != nil {
			t.Fatal(err)
		}
		for range pieces {
			if _, err := io.ReadFull(answer.Body, make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			step <- struct{}{}
		}
		whole(t, answer)
		if got := int(writes.Load()); got > most {
			t.Errorf("%d bytes, %d pieces: got %d writes, want %d at most", size, pieces, got, most)
		}
	}
	f(0, 0, 1)
	f(1<<10, 0, 1)
	f(3<<10, 0, 1)
	f(12<<10, 0, 5)   // as it comes: what does not fit net/http's buffer of 4 KiB goes out by itself
	f(100, 10, 12)    // the head, each piece, the end
	f(3<<10, 10, 12)  // so too
	f(10<<10, 10, 32) // a piece that does not fit: its beginning, its rest, its end
}
