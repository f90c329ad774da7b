package proxy

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/arena"
)

// A long block is taken if one is free and max_buffered_mb is less than half used, and is given back once.
func TestLongBlockIsTakenOnlyIfItCanBeSpared(t *testing.T) {
	f := func(maxBuffered int, free, want bool) {
		t.Helper()
		p, err := New(Config{InitialPoolSize: 8, MaxBuffered: Size(maxBuffered), Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		var other arena.Slot[longBlock]
		if !free {
			other = p.longs.Take(1)
		}
		r := &http.Request{Body: io.NopCloser(strings.NewReader("x"))}
		b := new(body).init(&lifetime{parent: t.Context()}, &arrival{p: p, gen: p.current.Load(), r: r}, 1)
		if got := b.lengthen(); got != want {
			t.Errorf("%d bytes may be held: got %v, want %v", maxBuffered, got, want)
		}
		held := int64(0)
		if want {
			held = int64(len(longBlock{}))
		}
		if got := p.buffered.Load(); got != held {
			t.Errorf("got %d bytes held, want %d", got, held)
		}
		reader := b.reader()
		b.release()
		reader.Close()
		if !free {
			other.Give()
		}
		if stats := p.longs.Stats(); p.buffered.Load() != 0 || stats.InUse != 0 || stats.Overflows != 0 {
			t.Errorf("got %d bytes held and %+v at the end", p.buffered.Load(), stats)
		}
	}
	f(2*len(longBlock{}), true, true)
	f(2*len(longBlock{})-1, true, false)
	f(2*len(longBlock{}), false, false)
}
