package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// streams is how many SSE streams TestStreamsAtOnce holds open together. Each takes two descriptors of this process and
// two of edge's; 20,000 is the limit on many machines.
const streams = 5000

// TestStreamsAtOnce holds 5,000 streams open at once, concurrency being 5,000: no event is sent before all have begun.
// All of them end whole, and nothing is left. It says what memory a stream costs.
func TestStreamsAtOnce(t *testing.T) {
	var inside atomic.Int64
	all := make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		control := http.NewResponseController(w)
		_ = control.Flush() // who has left is seen below
		if inside.Add(1) == streams {
			close(all)
		}
		select {
		case <-all:
		case <-r.Context().Done():
			return
		}
		for i := range 3 {
			fmt.Fprintf(w, "data: %s %d\n\n", r.URL.Path, i)
			_ = control.Flush()
		}
	}))
	defer up.Close()
	e := start(t, []string{
		"EDGE_PROVIDERS_UP_BASE_URL=" + up.URL, fmt.Sprintf("EDGE_PROVIDERS_UP_CONCURRENCY=%d", streams),
		fmt.Sprintf("EDGE_INITIAL_POOL_SIZE=%d", streams), "EDGE_LOG_LEVEL=info",
	})
	idle := e.resident()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var begun, whole sync.WaitGroup
	begun.Add(streams)
	var failed atomic.Int64
	turns := make(chan struct{}, 100) // connects at once: a listener's backlog is finite
	for i := range streams {
		whole.Go(func() {
			if err := stream(ctx, e, i, turns, begun.Done); err != nil && failed.Add(1) == 1 {
				t.Errorf("stream %d: %v", i, err)
			}
		})
	}
	begun.Wait()
	if failed.Load() == 0 && inside.Load() != streams {
		t.Errorf("got %d streams upstream, want %d", inside.Load(), streams)
	}
	busy := e.resident()
	t.Logf("%d streams: %.1f KiB each (%d MiB, %d idle)", streams, float64(busy-idle)/streams, busy>>10, idle>>10)
	whole.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d streams failed", failed.Load(), streams)
	}
	if got := e.sum("edge_arena_overflows_total", `class="exchange"`); got != 0 {
		t.Errorf("got %v exchanges from the heap, want none", got)
	}
}

// stream opens one stream, says that its head has come, and reads it to its end.
func stream(ctx context.Context, e *edge, number int, turns chan struct{}, begun func()) error {
	var once sync.Once
	defer once.Do(begun)
	turns <- struct{}{}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(e.url, "http://"))
	<-turns
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := fmt.Fprintf(conn, "GET /up/%d HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", number, edgeToken); err != nil {
		return err
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	once.Do(begun)
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("data: /%d 0\n\ndata: /%d 1\n\ndata: /%d 2\n\n", number, number, number); string(got) != want {
		return fmt.Errorf("got %d %q, want %q", answer.StatusCode, got, want)
	}
	return nil
}

// resident is edge's resident memory in KiB, or 0 where the system does not tell.
func (e *edge) resident() (kib int) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.command.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			_, _ = fmt.Sscan(value, &kib)
		}
	}
	return kib
}
