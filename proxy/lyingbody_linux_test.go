package proxy

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/socket"
)

// lyingBody is a body of which the middle lies in a pipe.
func lyingBody(t *testing.T) (b *body, content []byte) {
	t.Helper()
	p, err := New(Config{InitialPoolSize: 8, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	content = make([]byte, 30_000)
	for i := range content {
		content[i] = byte(i>>8) ^ byte(i)
	}
	const from, to = 4000, 25_000
	conn, other := callerPair(t)
	if _, err := other.Write(content[from:to]); err != nil {
		t.Fatal(err)
	}
	r := &http.Request{Body: io.NopCloser(bytes.NewReader(nil))}
	b = new(body).init(&lifetime{parent: t.Context()}, &arrival{p: p, gen: p.current.Load(), r: r}, 1)
	if !b.lengthen() || b.append(content[:from]) != nil {
		t.Fatal("no memory")
	}
	if b.lying.pipe = socket.TakePipe(); b.lying.pipe == nil {
		t.Fatal("no pipe")
	}
	b.lying.from, b.lying.to = from, to
	for b.lying.pipe.Len() < to-from { // a pipe is filled once only where it matters that it may be full
		if _, err := b.lying.pipe.Fill(conn.Conn, to-from-b.lying.pipe.Len()); err != nil {
			t.Fatal(err)
		}
	}
	b.grow(to - from)
	if b.append(content[to:]) != nil {
		t.Fatal("no memory")
	}
	b.whole.Store(true)
	b.read = b.size
	return b, content
}

// Whoever wants content in memory gets it all, wherever it lies.
func TestLyingContentIsReadUp(t *testing.T) {
	f := func(what string, get func(b *body) []byte) {
		t.Helper()
		b, content := lyingBody(t)
		if got := get(b); !bytes.Equal(got, content) {
			t.Errorf("%s: got %d bytes, others than those", what, len(got))
		}
		if b.lying.pipe != nil {
			t.Errorf("%s: the pipe is not given back", what)
		}
		b.release()
	}
	f("Read", func(b *body) []byte { r := b.reader(); defer r.Close(); all, _ := io.ReadAll(r); return all })
	f("WriteTo", func(b *body) []byte {
		var all bytes.Buffer
		r := b.reader()
		defer r.Close()
		_, _ = r.WriteTo(&all)
		return all.Bytes()
	})
	f("Next", func(b *body) (all []byte) {
		r := b.reader()
		defer r.Close()
		for r.Len() > 0 {
			all = append(all, r.Next(7000)...)
		}
		return all
	})
	f("copyAt", func(b *body) []byte { all := make([]byte, b.size); return all[:b.copyAt(all, 0)] })
	f("copyAt, two parts", func(b *body) []byte {
		all := make([]byte, b.size)
		n := b.copyAt(all[10_000:], 10_000) + b.copyAt(all[:10_000], 0)
		return all[:n]
	})
	f("two at once", func(b *body) []byte {
		var all [2][]byte
		var both sync.WaitGroup
		for i := range all {
			r := b.reader()
			both.Go(func() { defer r.Close(); all[i], _ = io.ReadAll(r) })
		}
		both.Wait()
		if !bytes.Equal(all[0], all[1]) {
			return nil
		}
		return all[0]
	})
}

// A pipe is taken where its content begins, once, and its taker has it then.
func TestLyingContentIsTakenOnce(t *testing.T) {
	b, content := lyingBody(t)
	first, second := b.reader(), b.reader()
	if first.Piped() || first.Pipe() != nil {
		t.Error("the pipe can be taken before its content comes")
	}
	if got := first.Next(1 << 20); !bytes.Equal(got, content[:4000]) || !first.Piped() {
		t.Errorf("got %d bytes before the pipe", len(got))
	}
	p := first.Pipe()
	if p == nil || p.Len() != 21_000 || first.Piped() || first.Pipe() != nil || first.Len() != 5000 {
		t.Error("the pipe is not taken")
	}
	if rest := first.Next(1 << 20); !bytes.Equal(rest, content[25_000:]) {
		t.Errorf("got %d bytes behind the pipe", len(rest))
	}
	if got := second.Next(1 << 20); len(got) != 4000 || second.Piped() || len(second.Next(1<<20)) != 0 {
		t.Error("another reader finds what was taken")
	}
	p.Give()
	first.Close()
	second.Close()
	b.release()
}

// A read into a pipe goes on after a deadline that nobody wants any more.
func TestReadIntoAPipeAfterAnEarlyDeadline(t *testing.T) {
	conn, other := callerPair(t)
	_ = conn.SetReadDeadline(time.Now().Add(short))
	_ = conn.SetReadDeadline(time.Time{})
	time.AfterFunc(long, func() { _, _ = other.Write([]byte("content")) })
	room := make([]byte, 10)
	conn.pipe, conn.aside = socket.TakePipe(), &room[0]
	defer conn.pipe.Give()
	if n, err := conn.Read(room); n != 7 || err != nil || conn.pipe.Len() != 7 {
		t.Errorf("got %d, %v, and %d bytes in the pipe", n, err, conn.pipe.Len())
	}
	_, _ = other.Write([]byte("more"))
	if n, err := conn.Read(room[1:]); string(room[1:1+n]) != "more" || err != nil {
		t.Errorf("into other memory: got %q, %v", room[1:1+n], err)
	}
}
