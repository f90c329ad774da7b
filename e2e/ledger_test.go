package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
)

// entry is what edge's log says of one request.
type entry struct {
	status   int
	attempts int
	reason   string
}

// ledger keeps what has been let into edge and what edge says of it: it stands before its handler, and is where it logs to.
type ledger struct {
	mu       sync.Mutex
	accepted map[string]int
	entries  map[string][]entry
	panics   []string
}

func newLedger() *ledger { return &ledger{accepted: map[string]int{}, entries: map[string][]entry{}} }

// before returns a handler that notes each request and lets next serve it.
func (l *ledger) before(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		l.accepted[r.Header.Get("X-Request-Id")]++
		l.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

// totals are the requests let in, and those edge has accounted for.
func (l *ledger) totals() (accepted, accounted int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.accepted {
		accepted += n
	}
	for _, all := range l.entries {
		accounted += len(all)
	}
	return accepted, accounted
}

func (l *ledger) Enabled(context.Context, slog.Level) bool { return true }

func (l *ledger) Handle(_ context.Context, record slog.Record) error {
	fields := map[string]slog.Value{}
	record.Attrs(func(a slog.Attr) bool { fields[a.Key] = a.Value; return true })
	l.mu.Lock()
	defer l.mu.Unlock()
	switch record.Message {
	case "request":
		id := fields["request_id"].String()
		l.entries[id] = append(l.entries[id], entry{
			int(fields["status"].Int64()), int(fields["attempts"].Int64()), fields["reason"].String(),
		})
	case "panic":
		l.panics = append(l.panics, fmt.Sprint(fields["error"], "\n", fields["stack"]))
	}
	return nil
}

func (l *ledger) WithAttrs([]slog.Attr) slog.Handler { return l }

func (l *ledger) WithGroup(string) slog.Handler { return l }
