package proxy

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"testing"
)

// bodyOf returns a body of n bytes, whole in memory, and the proxy it belongs to.
func bodyOf(t *testing.T, n int) (*body, *Proxy, []byte) {
	t.Helper()
	p, err := New(Config{InitialPoolSize: 8, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	content := bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]
	r := &http.Request{Body: io.NopCloser(bytes.NewReader(content))}
	b := new(body).init(&lifetime{parent: t.Context()}, &arrival{p: p, gen: p.current.Load(), r: r}, 1)
	if err := b.fill(int64(n)+1, nil); err != nil {
		t.Fatal(err)
	}
	return b, p, content
}

// net/http may read what it was lent after RoundTrip has returned and the exchange has ended: the slots go back
// when the reader is closed, not before.
func TestSlotsGoBackWhenTheReaderIsClosed(t *testing.T) {
	b, p, content := bodyOf(t, 40<<10)
	reader := b.reader()
	b.release() // the exchange has ended
	if got := p.bodies.Stats().InUse; got != 3 {
		t.Errorf("got %d slots in use while a reader is open, want 3", got)
	}
	if got, err := io.ReadAll(reader); err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	for range 2 { // a second Close does nothing
		if err := reader.Close(); err != nil {
			t.Error(err)
		}
	}
	if got := p.bodies.Stats().InUse; got != 0 || p.buffered.Load() != 0 {
		t.Errorf("got %d slots in use, %d bytes buffered after Close, want none", got, p.buffered.Load())
	}
	if _, err := reader.Read(make([]byte, 1)); !errors.Is(err, errReaderClosed) {
		t.Errorf("a read after Close: got %v", err)
	}
}

func TestHeldBodyIsReadWithoutItsCut(t *testing.T) {
	for _, n := range []int{1, 16 << 10, 16<<10 + 1, 70 << 10, 200 << 10} {
		b, _, content := bodyOf(t, n)
		for _, from := range []int{0, 1, 16<<10 - 3, 16 << 10, 64 << 10, n - 1} {
			for _, length := range []int{0, 1, 7, 20 << 10} {
				if from < 0 || from+length > n {
					continue
				}
				b.edit(edit{from: int64(from), to: int64(from + length)})
				want := append(bytes.Clone(content[:from]), content[from+length:]...)
				reader := b.reader()
				got, err := io.ReadAll(io.MultiReader(io.LimitReader(reader, 5), reader))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes without %d to %d: got %d bytes, %v", n, from, from+length, len(got), err)
				}
				reader.Close()
			}
		}
		b.release()
	}
}
