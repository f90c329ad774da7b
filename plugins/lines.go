package plugins

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Keys of the log, those of package proxy where it has them.
const (
	keyPlugin  = "plugin"
	keyRequest = "request_id"
	keyError   = "error"
	keyStream  = "stream"
	keyText    = "text"
	keyDropped = "dropped"
	keyRate    = "lines_per_second"
	keyDir     = "dir"
)

// lineMax is the most bytes of one line of a guest's log.
const lineMax = 4096

// lines is the log of a plugin: all its instances write so many lines a second.
type lines struct {
	logger  *slog.Logger
	perSec  int
	dropped atomic.Uint64 // since the module was loaded

	mu     sync.Mutex
	until  time.Time // the end of the second that is counted
	used   int       // lines in it
	over   uint64    // dropped and not yet told
	teller *time.Timer
	closed bool
}

func (l *lines) init(c Config) {
	l.logger, l.perSec = c.Logger.With(slog.String(keyPlugin, c.Name)), c.LogLinesPerSecond
}

// admit counts a line and reports whether there is room for it.
func (l *lines) admit() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.After(l.until) {
		l.until, l.used = now.Add(time.Second), 0
	}
	if l.used < l.perSec {
		l.used++
		return true
	}
	l.dropLocked(1)
	return false
}

// write logs a line that was admitted. The line is copied.
func (l *lines) write(level slog.Level, line []byte, attrs []slog.Attr) {
	text := strings.ToValidUTF8(string(line[:min(len(line), lineMax)]), "\uFFFD")
	if len(line) > lineMax {
		text += " (cut)"
	}
	l.logger.LogAttrs(context.Background(), level, "plugin log", append(slices.Clip(attrs), slog.String(keyText, text))...)
}

// drop counts lines that nobody will see.
func (l *lines) drop(n uint64) {
	if n == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropLocked(n)
}

func (l *lines) dropLocked(n uint64) {
	l.dropped.Add(n)
	if l.over == 0 && !l.closed {
		if wait := time.Until(l.until); l.teller == nil {
			l.teller = time.AfterFunc(wait, l.tell)
		} else {
			l.teller.Reset(wait)
		}
	}
	l.over += n
}

// tell logs how many lines were dropped since it did so last.
func (l *lines) tell() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tellLocked()
}

func (l *lines) tellLocked() {
	if l.over == 0 {
		return
	}
	l.logger.LogAttrs(context.Background(), slog.LevelWarn, "plugin log lines dropped",
		slog.Uint64(keyDropped, l.over), slog.Int(keyRate, l.perSec))
	l.over = 0
}

// close tells what is left to tell. Nothing is logged after it but by write.
func (l *lines) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.teller != nil {
		l.teller.Stop()
	}
	l.tellLocked()
}
