//go:build unix

package socket_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/socket"
)

// pair returns the two ends of a TCP connection over loopback.
func pair(t testing.TB) (near, far *net.TCPConn) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialed, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	near, far = dialed.(*net.TCPConn), accepted.(*net.TCPConn)
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// TestOutcomes does to a Conn what it does to a connection of package net, and wants the same of both, words included.
func TestOutcomes(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB: more than a call copies, and than the kernel takes
	past := time.Now().Add(-time.Second)
	read := func(size int) func(net.Conn) (int, error) {
		return func(c net.Conn) (int, error) { return c.Read(make([]byte, size)) }
	}
	write := func(p []byte) func(net.Conn) (int, error) {
		return func(c net.Conn) (int, error) { return c.Write(p) }
	}
	reset := func(far *net.TCPConn) { _ = far.SetLinger(0); far.Close() }
	for _, c := range []struct {
		name string
		far  func(*net.TCPConn) // what the other side does first
		do   func(net.Conn) (int, error)
	}{
		{"some bytes", func(far *net.TCPConn) { _, _ = far.Write([]byte("abc")) }, read(10)},
		{"bytes that come later", func(far *net.TCPConn) {
			time.AfterFunc(20*time.Millisecond, func() { _, _ = far.Write([]byte("abc")) })
		}, read(10)},
		{"no room for a byte", func(*net.TCPConn) {}, read(0)},
		{"a room of a MiB", func(far *net.TCPConn) { _, _ = far.Write([]byte("abc")) }, read(1 << 20)},
		{"the end", func(far *net.TCPConn) { far.Close() }, read(10)},
		{"the end of one side", func(far *net.TCPConn) { _ = far.CloseWrite() }, read(10)},
		{"an end that comes later", func(far *net.TCPConn) { time.AfterFunc(20*time.Millisecond, func() { far.Close() }) }, read(10)},
		{"a reset", reset, read(10)},
		{"a read after its deadline", func(*net.TCPConn) {}, func(c net.Conn) (int, error) {
			_ = c.SetReadDeadline(past)
			return c.Read(make([]byte, 1))
		}},
		{"a read until its deadline", func(*net.TCPConn) {}, func(c net.Conn) (int, error) {
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			return c.Read(make([]byte, 1))
		}},
		{"a read of what is closed", func(*net.TCPConn) {}, func(c net.Conn) (int, error) {
			c.Close()
			return c.Read(make([]byte, 1))
		}},
		{"a read until it is closed", func(*net.TCPConn) {}, func(c net.Conn) (int, error) {
			time.AfterFunc(20*time.Millisecond, func() { c.Close() })
			return c.Read(make([]byte, 1))
		}},
		{"a write", func(*net.TCPConn) {}, write([]byte("abc"))},
		{"a write of nothing", func(*net.TCPConn) {}, write(nil)},
		{"a write of a MiB", func(far *net.TCPConn) { go func() { _, _ = io.Copy(io.Discard, far) }() }, write(long)},
		{"a write after its deadline", func(*net.TCPConn) {}, func(c net.Conn) (int, error) {
			_ = c.SetWriteDeadline(past)
			return c.Write([]byte("abc"))
		}},
		{"a write of what is closed", func(*net.TCPConn) {}, func(c net.Conn) (int, error) {
			c.Close()
			return c.Write([]byte("abc"))
		}},
		{"a write after a reset", reset, func(c net.Conn) (int, error) {
			_, _ = c.Read(make([]byte, 1)) // it has come
			return c.Write([]byte("abc"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			near, far := pair(t)
			c.far(far)
			wantN, wantErr := c.do(near)
			if wantErr != nil && strings.Contains(wantErr.Error(), "raw-") {
				t.Fatalf("the plain connection says %v", wantErr)
			}

			plain, far := pair(t)
			conn := socket.New(plain)
			c.far(far)
			n, err := c.do(conn)
			if n != wantN || !alike(err, wantErr, plain, near) {
				t.Errorf("got %d, %v; want %d, %v", n, err, wantN, wantErr)
			}
		})
	}
}

// alike reports whether both errors say the same, but for the addresses of the connections they are of.
func alike(got, want error, of, like net.Conn) bool {
	if got == nil || want == nil || errors.Is(want, io.EOF) {
		return got == want //nolint:errorlint // io.EOF itself, as Read returns it
	}
	ports := strings.NewReplacer(of.LocalAddr().String(), "near", of.RemoteAddr().String(), "far", like.LocalAddr().String(), "near", like.RemoteAddr().String(), "far")
	var a, b net.Error
	return ports.Replace(got.Error()) == ports.Replace(want.Error()) && errors.As(got, &a) && errors.As(want, &b) && a.Timeout() == b.Timeout() &&
		errors.Is(got, os.ErrDeadlineExceeded) == errors.Is(want, os.ErrDeadlineExceeded) && errors.Is(got, net.ErrClosed) == errors.Is(want, net.ErrClosed) &&
		errors.Is(got, syscall.ECONNRESET) == errors.Is(want, syscall.ECONNRESET) && errors.Is(got, syscall.EPIPE) == errors.Is(want, syscall.EPIPE)
}

// TestDeadlineCutsAWrite wants what was sent counted, when nobody reads.
func TestDeadlineCutsAWrite(t *testing.T) {
	near, far := pair(t)
	conn := socket.New(near)
	piece := bytes.Repeat([]byte("x"), 100<<10)
	_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	sent, err := 0, error(nil)
	for n := 0; err == nil; sent += n {
		n, err = conn.Write(piece)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want a deadline exceeded", err)
	}
	conn.Close()
	if arrived, err := io.Copy(io.Discard, far); arrived != int64(sent) || err != nil {
		t.Errorf("%d bytes arrived, %v; want the %d that were said to be sent", arrived, err, sent)
	}
}

// TestManyAtOnce has eight goroutines write and eight read through one connection: each byte arrives, once.
func TestManyAtOnce(t *testing.T) {
	const writers, lines = 8, 500
	near, far := pair(t)
	out, in := socket.New(near), socket.New(far)
	var sending, taking sync.WaitGroup
	for i := range writers {
		sending.Go(func() {
			line := bytes.Repeat([]byte{byte('a' + i)}, 1024)
			for range lines {
				if n, err := out.Write(line); n != len(line) || err != nil {
					t.Errorf("wrote %d, %v", n, err)
				}
			}
		})
	}
	var mu sync.Mutex
	count := map[byte]int{}
	for range writers {
		taking.Go(func() {
			p := make([]byte, 4096)
			for {
				n, err := in.Read(p)
				mu.Lock()
				for _, b := range p[:n] {
					count[b]++
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	sending.Wait()
	out.Close()
	taking.Wait()
	for i := range writers {
		if got := count[byte('a'+i)]; got != lines*1024 {
			t.Errorf("writer %d: %d bytes arrived, want %d", i, got, lines*1024)
		}
	}
}

// TestLinesStayWhole has eight goroutines write at once lines that the kernel cannot take in one piece.
func TestLinesStayWhole(t *testing.T) {
	const writers, size = 8, 120 << 10
	near, far := pair(t)
	out := socket.New(near)
	var sending sync.WaitGroup
	for i := range writers {
		sending.Go(func() {
			for range 20 {
				if _, err := out.Write(bytes.Repeat([]byte{byte('a' + i)}, size)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { sending.Wait(); out.Close() }()
	line := make([]byte, size)
	for i := 0; ; i++ {
		_, err := io.ReadFull(far, line)
		if errors.Is(err, io.EOF) && i == writers*20 {
			return
		}
		if err != nil {
			t.Fatalf("line %d: %v", i, err)
		}
		if bytes.Count(line, line[:1]) != size {
			t.Fatalf("line %d is of more than one writer", i)
		}
	}
}

func TestQuiet(t *testing.T) {
	near, far := pair(t)
	conn := socket.New(near)
	if !conn.Quiet() {
		t.Error("a connection on which nothing has arrived is not quiet")
	}
	noisy := func(what string) {
		t.Helper()
		for deadline := time.Now().Add(5 * time.Second); conn.Quiet(); {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the connection is quiet", what)
			}
		}
	}
	_, _ = far.Write([]byte("abc"))
	noisy("bytes")
	noisy("bytes that were looked at")
	p := make([]byte, 10)
	if n, err := conn.Read(p); string(p[:n]) != "abc" || err != nil {
		t.Errorf("after the look: got %q, %v; want abc", p[:n], err)
	}
	if !conn.Quiet() {
		t.Error("a connection that was read is not quiet")
	}
	far.Close()
	noisy("the end")
	conn.Close()
	noisy("closed on our side")
}
