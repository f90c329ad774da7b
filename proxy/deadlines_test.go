package proxy

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// callerPair is a caller's connection and its other end.
func callerPair(tb testing.TB) (*callerConn, *net.TCPConn) {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback
	if err != nil {
		tb.Fatal(err)
	}
	defer listener.Close()
	other, err := net.Dial("tcp", listener.Addr().String()) //nolint:noctx // loopback
	if err != nil {
		tb.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close(); other.Close() })
	return newCallerConn(conn.(*net.TCPConn), nil), other.(*net.TCPConn)
}

func wantDeadline(t *testing.T, what string, err error, began time.Time, least time.Duration) {
	t.Helper()
	if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took < least || took > least+2*time.Second {
		t.Errorf("%s: got %v after %v, want a timeout after %v", what, err, took, least)
	}
}

const short, long = 20 * time.Millisecond, 80 * time.Millisecond

// A deadline that nobody wants any more, and that has passed, cuts no write of several pieces.
func TestBuffersAfterAnEarlyDeadline(t *testing.T) {
	conn, other := callerPair(t)
	_ = conn.SetWriteDeadline(time.Now().Add(short))
	_ = conn.SetWriteDeadline(time.Time{})
	<-time.After(long)
	pieces := net.Buffers{[]byte("a head, "), bytes.Repeat([]byte("x"), 64<<10), []byte("an end")}
	want := bytes.Join(pieces, nil)
	if n, err := conn.WriteBuffers(&pieces); n != int64(len(want)) || err != nil {
		t.Fatalf("got %d, %v; want %d", n, err, len(want))
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(other, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("other bytes arrived, or %v", err)
	}
}

func TestReadDeadlineWantedLastCounts(t *testing.T) {
	conn, other := callerPair(t)
	var p [10]byte
	began := time.Now()
	_ = conn.SetReadDeadline(began.Add(short))
	_ = conn.SetReadDeadline(began.Add(long)) // later: the connection keeps the first
	_, err := conn.Read(p[:])
	wantDeadline(t, "later", err, began, long)

	_ = conn.SetReadDeadline(time.Time{}) // none, after one has passed
	time.AfterFunc(short, func() { _, _ = other.Write([]byte("a")) })
	if n, err := conn.Read(p[:]); n != 1 || err != nil {
		t.Errorf("none: got %d, %v", n, err)
	}

	began = time.Now()
	_ = conn.SetReadDeadline(began.Add(time.Hour))
	_ = conn.SetReadDeadline(began.Add(short)) // sooner
	_, err = conn.Read(p[:])
	wantDeadline(t, "sooner", err, began, short)

	began = time.Now()
	_ = conn.SetReadDeadline(time.Time{})
	time.AfterFunc(short, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) }) // an interrupt
	_, err = conn.Read(p[:])
	wantDeadline(t, "interrupt", err, began, short)
	_ = conn.SetReadDeadline(time.Time{})
	time.AfterFunc(short, func() { _, _ = other.Write([]byte("b")) })
	if n, err := conn.Read(p[:]); n != 1 || err != nil {
		t.Errorf("after an interrupt: got %d, %v", n, err)
	}
}

// Of a write that goes on after a deadline that was put off no byte is lost or sent twice.
func TestWriteGoesOnAfterADeadlineThatWasPutOff(t *testing.T) {
	conn, other := callerPair(t)
	content := make([]byte, 16<<20) // more than the kernel takes
	for i := range content {
		content[i] = byte(i>>8) ^ byte(i)
	}
	began := time.Now()
	_ = conn.SetWriteDeadline(began.Add(short))
	_ = conn.SetWriteDeadline(began.Add(time.Minute))
	read := make(chan []byte, 1)
	go func() {
		time.Sleep(long)
		got, _ := io.ReadAll(other)
		read <- got
	}()
	if n, err := conn.Write(content); n != len(content) || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	conn.Close()
	if got := <-read; !bytes.Equal(got, content) {
		t.Errorf("got %d bytes that are not those sent", len(got))
	}
}

func TestWriteEndsAtItsDeadline(t *testing.T) {
	conn, _ := callerPair(t)
	began := time.Now()
	_ = conn.SetWriteDeadline(began.Add(short))
	_ = conn.SetWriteDeadline(began.Add(long))
	_, err := conn.Write(make([]byte, 16<<20))
	wantDeadline(t, "write", err, began, long)
	_ = conn.SetWriteDeadline(time.Now().Add(long))
	began = time.Now()
	_, err = conn.ReadFrom(bytes.NewReader(make([]byte, 16<<20)))
	wantDeadline(t, "ReadFrom", err, began, long)
}

// Whatever is wanted by whom and when, what is wanted last is kept.
func TestHammerDeadlines(t *testing.T) {
	rounds := 30
	if testing.Short() {
		rounds = 5
	}
	for range rounds {
		conn, other := callerPair(t)
		var all sync.WaitGroup
		end := make(chan struct{})
		ended := make(chan struct{}, 1)
		all.Go(func() {
			var p [64]byte
			for {
				if _, err := conn.Read(p[:]); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
					return // closed
				} else if err != nil {
					select {
					case <-end:
						ended <- struct{}{}
						return
					default:
					}
				}
			}
		})
		for range 3 {
			all.Go(func() {
				for range 300 {
					_ = conn.SetReadDeadline([]time.Time{{}, time.Now().Add(time.Hour), time.Now().Add(time.Duration(rand.IntN(300)) * time.Microsecond)}[rand.IntN(3)]) //nolint:gosec // a test's
					_, _ = other.Write([]byte("x"))
				}
			})
		}
		done := make(chan struct{})
		go func() { all.Wait(); close(done) }()
		time.Sleep(10 * time.Millisecond)
		// The last one to want is this goroutine, when the others are through; an earlier one may still be set.
		until := time.Now().Add(5 * time.Second)
		close(end)
		for ok := false; !ok; {
			_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
			select {
			case <-ended:
				ok = true
			case <-time.After(5 * time.Millisecond):
				if time.Now().After(until) {
					t.Fatal("a read did not end at its deadline")
				}
			}
		}
		<-done
	}
}

// BenchmarkDeadlines is what net/http and releaseConnection set for one request.
func BenchmarkDeadlines(b *testing.B) {
	own, _ := callerPair(b)
	for name, conn := range map[string]net.Conn{"plain": own.TCPConn, "own": own} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				at := time.Now()
				for _, d := range []time.Duration{10 * time.Second, 10 * time.Second, 0, 0, 120 * time.Second} {
					if d == 0 {
						_ = conn.SetReadDeadline(time.Time{})
					} else {
						_ = conn.SetReadDeadline(at.Add(d))
					}
				}
				_ = conn.SetWriteDeadline(at.Add(30 * time.Second))
				_ = conn.SetWriteDeadline(time.Time{})
			}
		})
	}
}
