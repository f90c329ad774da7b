package proxy_test

import (
	"log/slog"
	"runtime"
	"testing"

	"github.com/edge-proxy/edge/proxy"
)

// What `edge config` says the pool costs is what the heap grows by, and two collections free none of it.
func TestArenaCostsWhatItSays(t *testing.T) {
	heap := func(pool int) (bytes int64) {
		t.Helper()
		p, err := proxy.New(proxy.Config{InitialPoolSize: pool, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		runtime.GC()
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		for _, class := range p.Status().Arena {
			want := pool
			if class.Class == "long" {
				want = max(1, pool/32)
			}
			if class.Slots != want || class.InUse != 0 {
				t.Errorf("class %s: got %d slots, %d in use, want %d and 0", class.Class, class.Slots, class.InUse, want)
			}
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		return int64(stats.HeapAlloc)
	}
	const pool = 5000
	heap(1) // what the first proxy of a process makes for all
	least := heap(1)
	got, want := heap(pool)-least, proxy.ArenaBytes(pool)-proxy.ArenaBytes(1)
	if got < want*9/10 || got > want*11/10 {
		t.Errorf("the heap grew by %d bytes, want %d within 10 %%", got, want)
	}
	t.Logf("heap %+d bytes, said %d", got, want)
}
