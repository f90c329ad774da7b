package takeover_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestHammerConnections has more clients than processors send all kinds of requests, in parts, pipelined or broken off,
// to a handler that leaves goroutines behind, while connections are drained. No answer holds anything of another
// request, an answer that has begun is whole unless the handler aborts it, and nothing is left over.
func TestHammerConnections(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(1, runtime.NumCPU()/2)))
	duration := time.Second
	if testing.Short() {
		duration = 200 * time.Millisecond
	}
	var left sync.WaitGroup
	s := serve(t, true, func(w http.ResponseWriter, r *http.Request) { hammered(w, r, &left) })
	var answered, broken atomic.Int64
	stop := make(chan struct{})
	var all sync.WaitGroup
	for n := range 4 * runtime.NumCPU() {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(n)))
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				whole, err := hammerConnection(s.address, fmt.Sprintf("%d-%d", n, i), random)
				answered.Add(int64(whole))
				if err != nil {
					t.Error(err)
					return
				}
				if whole == 0 {
					broken.Add(1)
				}
			}
		})
	}
	time.Sleep(duration)
	drained := make(chan error)
	go func() { drained <- s.taken.Shutdown(context.Background()) }()
	time.Sleep(duration / 10) // net/http serves on
	close(stop)
	all.Wait()
	left.Wait()
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if answered.Load() == 0 {
		t.Error("nothing was answered")
	}
	t.Logf("%d answers; %d connections without one", answered.Load(), broken.Load())
}

// hammered answers with the request's id and content, in one of several ways.
func hammered(w http.ResponseWriter, r *http.Request, left *sync.WaitGroup) {
	id := r.Header.Get("Id")
	_ = http.NewResponseController(w).EnableFullDuplex() // else the answer's beginning ends the content
	if r.Header.Get("Leave") != "" {                     // not seen by whoever comes next
		body := r.Body
		left.Go(func() { _, _ = io.Copy(io.Discard, body) })
		say(w, id, ":")
		return
	}
	w.Header()["Id"] = []string{id}
	if r.Header.Get("Abort") != "" {
		say(w, id, "\f")
		panic(http.ErrAbortHandler)
	}
	say(w, id, ":")
	if r.Header.Get("Flush") != "" {
		say(w, "\f")
	}
	_, err := io.Copy(writerOnly{w}, r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
}

type writerOnly struct{ io.Writer }

// hammerRequests returns requests to send on one connection, and the contents of their answers. ends says that the
// last of them is going to be broken off.
func hammerRequests(name string, random *rand.Rand) (all string, wants []string, ends bool) {
	var text strings.Builder
	for i := range 1 + random.IntN(6) {
		id := fmt.Sprintf("%s-%d", name, i)
		content := strings.Repeat(id+" ", random.IntN(600))
		field := ""
		switch random.IntN(12) {
		case 0:
			field, ends = "Leave: x\r\n", true
		case 1:
			field, ends = "Abort: x\r\n", true
		case 2, 3:
			field = "Flush: x\r\n"
		}
		fmt.Fprintf(&text, "POST / HTTP/1.1\r\nHost: h\r\nId: %s\r\n%s", id, field)
		if random.IntN(2) == 0 {
			fmt.Fprintf(&text, "Content-Length: %d\r\n\r\n%s", len(content), content)
		} else {
			half := len(content) / 2
			fmt.Fprintf(&text, "Transfer-Encoding: chunked\r\n\r\n")
			for _, piece := range []string{content[:half], content[half:]} {
				if piece != "" {
					fmt.Fprintf(&text, "%x\r\n%s\r\n", len(piece), piece)
				}
			}
			text.WriteString("0\r\n\r\n")
		}
		wants = append(wants, id+":"+content)
		if ends {
			break
		}
	}
	return text.String(), wants, ends
}

// hammerConnection sends some requests and checks their answers. It returns how many were whole.
func hammerConnection(address, name string, random *rand.Rand) (whole int, err error) {
	conn, err := net.Dial("tcp", address) //nolint:noctx // loopback, and there is a deadline
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	all, wants, ends := hammerRequests(name, random)
	length := len(all)
	if random.IntN(8) == 0 {
		all, ends = all[:random.IntN(len(all))], true
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		for rest := all; rest != ""; {
			n := min(len(rest), 1+random.IntN(5000))
			if _, err := io.WriteString(conn, rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
		if len(all) < length {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
	})
	reader := bufio.NewReader(conn)
	for i, want := range wants {
		r, err := http.ReadResponse(reader, nil)
		if err != nil {
			if whole > 0 || ends { // drained behind an answer, or as asked for
				return whole, nil
			}
			var reset *net.OpError
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.As(err, &reset) && !reset.Timeout() {
				return whole, nil // drained
			}
			return whole, fmt.Errorf("%s-%d: %w", name, i, err)
		}
		got, err := io.ReadAll(r.Body)
		r.Body.Close()
		id, _, _ := strings.Cut(want, ":")
		switch {
		case r.StatusCode == http.StatusBadRequest && ends:
			return whole, nil
		case !strings.HasPrefix(want, string(got)):
			return whole, fmt.Errorf("%s-%d: got %.100q, which is not of %.100q", name, i, got, want)
		case r.Header.Get("Id") != "" && r.Header.Get("Id") != id:
			return whole, fmt.Errorf("%s-%d: got Id %s", name, i, r.Header.Get("Id"))
		case err != nil && !ends:
			return whole, fmt.Errorf("%s-%d: %w behind %.100q", name, i, err, got)
		case string(got) != want && !ends:
			return whole, fmt.Errorf("%s-%d: got %d bytes, want %d", name, i, len(got), len(want))
		case err != nil:
			return whole, nil
		}
		whole++
		if r.Close {
			return whole, nil
		}
	}
	return whole, nil
}
