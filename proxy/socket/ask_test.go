//go:build unix

package socket_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/socket"
)

// noisy waits until something has arrived that conn has not read.
func noisy(t *testing.T, conn *socket.Conn) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); conn.Quiet(); {
		if time.Now().After(deadline) {
			t.Fatal("the connection is quiet")
		}
	}
}

// full writes until nothing more is taken, and returns how much that was.
func full(t *testing.T, c net.Conn) (sent int) {
	t.Helper()
	_ = c.(interface{ SetWriteBuffer(bytes int) error }).SetWriteBuffer(4 << 10)
	_ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	for err := error(nil); err == nil; {
		var n int
		n, err = c.Write(bytes.Repeat([]byte("x"), 64<<10))
		sent += n
	}
	_ = c.SetWriteDeadline(time.Time{})
	return sent
}

// The other side answers when the request has come and sent was called: that is before the wait.
func TestAsk(t *testing.T) {
	for _, size := range []int{1, 100, 128 << 10, 128<<10 + 1, 1 << 20} {
		for _, room := range []int{6, 4096, 128<<10 + 1} {
			near, far := pair(t)
			conn := socket.New(near)
			for range 3 {
				request, sent := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size], make(chan struct{})
				go func() {
					got := make([]byte, size)
					if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, request) {
						t.Errorf("%d bytes: another request has come, %v", size, err)
					}
					<-sent
					_, _ = far.Write([]byte("answer"))
				}()
				into := make([]byte, room)
				wrote, n, err := conn.Ask(request, into, func() { close(sent) })
				if wrote != size || string(into[:n]) != "answer" || err != nil {
					t.Errorf("got %d, %q, %v; want %d and the answer", wrote, into[:n], err, size)
				}
			}
		}
	}
}

// The answer may come to where the request lay.
func TestAskInOneMemory(t *testing.T) {
	near, far := pair(t)
	go func() { _, _ = io.Copy(far, io.LimitReader(far, 7)) }()
	p := append(make([]byte, 0, 4096), "request"...)
	if wrote, n, err := socket.New(near).Ask(p, p[:cap(p)], nil); wrote != 7 || string(p[:n]) != "request" || err != nil {
		t.Errorf("got %d, %q, %v", wrote, p[:n], err)
	}
}

// Nothing is sent on a connection on which something has arrived.
func TestAskOnlyIfQuiet(t *testing.T) {
	for name, far := range map[string]func(*net.TCPConn){
		"bytes":               func(far *net.TCPConn) { _, _ = far.Write([]byte("abc")) },
		"the end":             func(far *net.TCPConn) { _ = far.CloseWrite() },
		"bytes, then the end": func(far *net.TCPConn) { _, _ = far.Write([]byte("abc")); _ = far.CloseWrite() },
		"a reset":             func(far *net.TCPConn) { _ = far.SetLinger(0); far.Close() },
	} {
		for _, size := range []int{10, 256 << 10} {
			near, other := pair(t)
			conn := socket.New(near)
			far(other)
			noisy(t, conn)
			for range 2 {
				if wrote, n, err := conn.Ask(make([]byte, size), make([]byte, 10), func() { t.Error("said to be sent") }); wrote != 0 || n != 0 || !errors.Is(err, socket.ErrNotQuiet) {
					t.Errorf("%s: got %d, %d, %v; want it not quiet", name, wrote, n, err)
				}
			}
			if name == "bytes" {
				p := make([]byte, 10)
				if n, err := conn.Read(p); string(p[:n]) != "abc" || err != nil {
					t.Errorf("after that: got %q, %v; want abc", p[:n], err)
				}
			}
			conn.Close()
			if wrote, n, err := conn.Ask(make([]byte, size), make([]byte, 10), nil); wrote != 0 || n != 0 || !errors.Is(err, socket.ErrNotQuiet) {
				t.Errorf("closed on our side: got %d, %d, %v; want it not quiet", wrote, n, err)
			}
			if name == "a reset" {
				continue
			}
			if arrived, _ := io.ReadAll(other); len(arrived) > 0 { // a reset, where bytes were left unread
				t.Errorf("%s: %d bytes have arrived", name, len(arrived))
			}
		}
	}
}

// What ends the wait is what Read says of it.
func TestAskWithoutAnswer(t *testing.T) {
	for name, end := range map[string]func(near, far *net.TCPConn){
		"the end": func(_, far *net.TCPConn) { far.Close() },
		"a reset": func(_, far *net.TCPConn) { _ = far.SetLinger(0); far.Close() },
		"closed":  func(near, _ *net.TCPConn) { near.Close() },
		"a read's deadline": func(near, _ *net.TCPConn) {
			_ = near.SetReadDeadline(time.Now().Add(-time.Second))
		},
	} {
		near, far := pair(t)
		conn := socket.New(near)
		go func() {
			_, _ = io.ReadFull(far, make([]byte, 10))
			end(near, far)
		}()
		sent := 0
		wrote, n, err := conn.Ask(make([]byte, 10), make([]byte, 10), func() { sent++ })
		if wrote != 10 || n != 0 || sent != 1 {
			t.Errorf("%s: got %d, %d, said to be sent %d times; want 10, 0, once", name, wrote, n, sent)
		}

		like, other := pair(t)
		go func() {
			_, _ = io.ReadFull(other, make([]byte, 10))
			end(like, other)
		}()
		_, _ = like.Write(make([]byte, 10))
		if _, want := like.Read(make([]byte, 10)); !alike(err, want, near, like) {
			t.Errorf("%s: got %v; want %v", name, err, want)
		}
	}
}

// The kernel takes a part of the request, or none of it: the rest goes when there is room.
func TestAskWithoutRoom(t *testing.T) {
	for _, filled := range []bool{false, true} {
		near, far := pair(t)
		conn := socket.New(near)
		_ = near.SetWriteBuffer(4 << 10)
		before, size := 0, 128<<10
		if filled {
			before = full(t, conn)
		}
		arrived := make(chan []byte, 1)
		go func() {
			all, _ := io.ReadAll(io.LimitReader(far, int64(before+size)))
			arrived <- all
			_, _ = far.Write([]byte("answer"))
		}()
		into, sent := make([]byte, 10), 0
		wrote, n, err := conn.Ask(bytes.Repeat([]byte("y"), size), into, func() { sent++ })
		if wrote != size || string(into[:n]) != "answer" || err != nil || sent != 1 {
			t.Errorf("got %d, %q, %v, said to be sent %d times; want %d and the answer", wrote, into[:n], err, sent, size)
		}
		if all := <-arrived; bytes.Count(all[before:], []byte("y")) != size {
			t.Errorf("%d bytes before it: another request has come", before)
		}
	}
}

// Without room, the connection ends: sent is not called, and what was taken is counted.
func TestAskCutShort(t *testing.T) {
	for name, end := range map[string]func(near, far *net.TCPConn){
		"closed":  func(near, _ *net.TCPConn) { near.Close() },
		"a reset": func(_, far *net.TCPConn) { _ = far.SetLinger(0); far.Close() },
	} {
		near, far := pair(t)
		conn := socket.New(near)
		before := full(t, conn)
		time.AfterFunc(50*time.Millisecond, func() { end(near, far) })
		wrote, n, err := conn.Ask(make([]byte, 128<<10), make([]byte, 10), func() { t.Error("said to be sent") })
		if wrote == 128<<10 || n != 0 || err == nil || errors.Is(err, socket.ErrNotQuiet) {
			t.Errorf("%s: got %d, %d, %v; want an error of a write", name, wrote, n, err)
		}
		var op *net.OpError
		if !errors.As(err, &op) || op.Op != "write" || name == "closed" && !errors.Is(err, net.ErrClosed) ||
			name == "a reset" && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("%s: got %v", name, err)
		}
		if name == "closed" {
			if arrived, err := io.Copy(io.Discard, far); arrived != int64(before+wrote) || err != nil {
				t.Errorf("%d bytes arrived, %v; want the %d that were said to be sent", arrived, err, before+wrote)
			}
		}
	}
}

// A Write that waits for room makes Ask wait, but nobody else: the room may come when somebody reads.
func TestAskBesidesAWrite(t *testing.T) {
	near, far := pair(t)
	conn := socket.New(near)
	before := full(t, conn)
	var sending sync.WaitGroup
	sending.Go(func() {
		if _, err := conn.Write(bytes.Repeat([]byte("w"), 100<<10)); err != nil {
			t.Error(err)
		}
	})
	sending.Go(func() {
		into := make([]byte, 10)
		if wrote, n, err := conn.Ask(bytes.Repeat([]byte("y"), 100<<10), into, nil); wrote != 100<<10 || string(into[:n]) != "answer" || err != nil {
			t.Errorf("got %d, %q, %v", wrote, into[:n], err)
		}
	})
	for until := time.Now().Add(50 * time.Millisecond); time.Now().Before(until); { // the two get there meanwhile
		if !conn.Quiet() {
			t.Error("the connection is not quiet")
		}
	}
	all, _ := io.ReadAll(io.LimitReader(far, int64(before+200<<10)))
	for _, one := range []string{"w", "y"} {
		if !bytes.Contains(all, bytes.Repeat([]byte(one), 100<<10)) {
			t.Errorf("%s: not in one piece", one)
		}
	}
	_, _ = far.Write([]byte("answer"))
	sending.Wait()
}

// An answer that has come, and that the runtime has heard of, before the wait begins is not waited for in vain.
func TestAnswerBeforeTheWait(t *testing.T) {
	near, far := pair(t)
	conn := socket.New(near)
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	left, right := pair(t)
	p := make([]byte, 10)
	for range 200 {
		_, n, err := conn.Ask([]byte("request"), p, func() {
			_, _ = far.Write([]byte("answer"))
			go func() { _, _ = right.Write([]byte("x")) }()
			_, _ = left.Read(make([]byte, 1)) // the runtime has looked at all connections
		})
		if string(p[:n]) != "answer" || err != nil {
			t.Fatalf("got %q, %v", p[:n], err)
		}
		_, _ = io.ReadFull(far, p[:7])
	}
}

// TestHammerAsk asks on some connections at once, some of which are closed meanwhile: each is answered in order or ends.
func TestHammerAsk(t *testing.T) {
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			near, far := pair(t)
			conn := socket.New(near)
			_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
			all.Go(func() {
				_, _ = io.Copy(struct{ io.Writer }{far}, struct{ io.Reader }{far})
				far.Close()
			})
			closes := worker%2 == 0
			for i := range 2000 {
				request := fmt.Appendf(nil, "%d of %d", i, worker)
				if closes && i == 1000 {
					wait := rand.IntN(20)
					all.Go(func() {
						for range wait {
							runtime.Gosched()
						}
						conn.Close()
					})
				}
				into := make([]byte, 100)
				wrote, n, err := conn.Ask(request, into, nil)
				if closes && i >= 1000 && (errors.Is(err, net.ErrClosed) || errors.Is(err, socket.ErrNotQuiet)) {
					return
				}
				if err != nil || wrote != len(request) || string(into[:n]) != string(request) {
					t.Errorf("%s: got %d, %q, %v", request, wrote, into[:n], err)
					return
				}
			}
			conn.Close()
		})
	}
	all.Wait()
}
