package socket_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/socket"
)

func take(t *testing.T) *socket.Pipe {
	t.Helper()
	p := socket.TakePipe()
	if p == nil {
		t.Fatal("no pipe")
	}
	return p
}

// Content of any size arrives as it was sent, whatever pieces it comes in, and however slowly it is taken.
func TestPipeMovesContent(t *testing.T) {
	from, sender := pair(t)
	to, receiver := pair(t)
	near, far := socket.New(from), socket.New(to)
	content := make([]byte, 3<<20)
	source := rand.NewChaCha8([32]byte{})
	_, _ = source.Read(content)
	go func() {
		for rest := content; len(rest) > 0; {
			n := min(len(rest), 1+int(source.Uint64()%100_000))
			if _, err := sender.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
		sender.Close()
	}()
	received := make(chan []byte)
	go func() {
		all, _ := io.ReadAll(receiver)
		received <- all
	}()
	p := take(t)
	defer p.Give()
	var got bytes.Buffer
	for moved := 0; ; {
		n, err := p.Fill(near, 100_000)
		if errors.Is(err, io.EOF) {
			if moved != len(content) || n != 0 {
				t.Errorf("moved %d bytes and %d at the end, want %d and 0", moved, n, len(content))
			}
			break
		}
		if err != nil || n < 1 || n > 100_000 || p.Len() != n {
			t.Fatalf("filled with %d bytes, holds %d: %v", n, p.Len(), err)
		}
		moved += n
		if sent, err := p.TryDrain(far); err != nil || sent+p.Len() != n {
			t.Fatalf("sent %d of %d, %d are left: %v", sent, n, p.Len(), err)
		}
		left := p.Len()
		if sent, err := p.Drain(far); err != nil || sent != left || p.Len() != 0 {
			t.Fatalf("sent %d of %d, %d are left: %v", sent, left, p.Len(), err)
		}
	}
	far.Close()
	got.Write(<-received)
	if !bytes.Equal(got.Bytes(), content) {
		t.Errorf("%d bytes arrived, want the %d that were sent", got.Len(), len(content))
	}
}

// What was moved into a pipe can be read after all.
func TestPipeIsRead(t *testing.T) {
	from, sender := pair(t)
	_, _ = sender.Write([]byte("content"))
	p := take(t)
	defer p.Give()
	if n, err := p.Fill(socket.New(from), 4); n != 4 || err != nil {
		t.Fatalf("filled with %d bytes: %v", n, err)
	}
	if all, err := io.ReadAll(p); string(all) != "cont" || err != nil || p.Len() != 0 {
		t.Errorf("got %q and %d left: %v", all, p.Len(), err)
	}
}

// Waits end as those of Read and Write do.
func TestPipeWaits(t *testing.T) {
	from, sender := pair(t)
	to, _ := pair(t)
	near, far := socket.New(from), socket.New(to)
	p := take(t)
	defer p.Give()
	_ = near.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := p.Fill(near, 10); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an empty connection: %d bytes, %v", n, err)
	}
	_ = near.SetReadDeadline(time.Time{})
	go func() {
		chunk := make([]byte, 64<<10)
		for {
			if _, err := sender.Write(chunk); err != nil {
				return
			}
		}
	}()
	_ = far.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	for filled, sent := 0, 0; ; {
		n, err := p.Fill(near, 64<<10)
		if filled += n; err != nil {
			t.Fatal(err)
		}
		n, err = p.Drain(far)
		if sent += n; err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) || sent+p.Len() != filled {
				t.Errorf("sent %d of %d, %d are left: %v", sent, filled, p.Len(), err)
			}
			break
		}
	}
	near.Close()
	if _, err := p.Fill(near, 10); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed connection: %v", err)
	}
}

// So many pipes and no more are in use, whatever became of those before.
func TestPipesAreBounded(t *testing.T) {
	from, sender := pair(t)
	near := socket.New(from)
	_, _ = sender.Write([]byte("content"))
	const most = 64
	for range 3 {
		var all []*socket.Pipe
		for range most + 10 {
			if p := socket.TakePipe(); p != nil {
				all = append(all, p)
			}
		}
		if len(all) > most || len(all) < most-10 {
			t.Errorf("%d pipes, want at most %d", len(all), most)
		}
		_, _ = all[len(all)-1].Fill(near, 2) // it must not come back with that
		for _, p := range all {
			p.Give()
		}
	}
	p := take(t)
	defer p.Give()
	if p.Len() > 0 {
		t.Errorf("a pipe that holds %d bytes was kept", p.Len())
	}
}
