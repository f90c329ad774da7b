package plugins

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestStreamsBecomeLogLines(t *testing.T) {
	f := func(fd int, written []string, want ...string) {
		t.Helper()
		var rec recorder
		text := strings.Join(written, "")
		s := zoo
		s.data = map[int]string{1024: text}
		i := instantiate(t, load(t, newHost(t), Config{Module: s.bytes(), Logger: rec.logger()}, binding()), hostFunc(func(ctx context.Context, _ int32) int32 {
			at := 1024
			for _, w := range written {
				if _, err := invoke(InstanceOf(ctx), "write", uint64(fd), uint64(at), uint64(len(w))); err != nil {
					t.Error(err)
				}
				at += len(w)
			}
			return 0
		}))
		i.SetRequest("r1")
		mustInvoke(t, i, "host", 0)
		if got := rec.lines(); !slices.Equal(got, want) {
			t.Errorf("%q gave\n%s\nwant\n%s", written, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	line := func(level, stream, text string) string {
		return `level=` + level + ` msg="plugin log" plugin=zoo stream=` + stream + ` request_id=r1 text=` + text
	}
	f(1, []string{"hello\nworld\n"}, line("INFO", "stdout", "hello"), line("INFO", "stdout", "world"))
	f(2, []string{"hel", "lo\r\n\nwor", "ld"}, line("ERROR", "stderr", "hello"), line("ERROR", "stderr", "world"))
	f(1, []string{strings.Repeat("x", 3000), strings.Repeat("x", 9000), "\nnext\n"},
		line("INFO", "stdout", `"`+strings.Repeat("x", lineMax)+` (cut)"`), line("INFO", "stdout", "next"))
	f(1, []string{"a\xffb\n"}, line("INFO", "stdout", `"a�b"`))
	f(1, []string{"\n\r\n\n", "\n", "\r\nx\n\n"}, line("INFO", "stdout", "x"))
	f(1, []string{""}, "")
	f(7, []string{"no such file\n"}, "")
}

// TestLogFlood has a guest write more lines than it may: they are dropped, counted and told.
func TestLogFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rec recorder
		s := zoo
		s.data = map[int]string{1024: strings.Repeat("a\nb\n", 10000)}
		h := newHost(t)
		m := load(t, h, Config{Module: s.bytes(), Logger: rec.logger(), LogLinesPerSecond: 3}, binding())
		i := instantiate(t, m, nil)
		mustInvoke(t, i, "write", 2, 1024, 40000)
		i.Log(slog.LevelInfo, []byte("mine"))
		i.Log(slog.LevelDebug, []byte("not enabled, not counted"))
		if got := m.Stats().DroppedLines; got != 19998 {
			t.Errorf("%d lines dropped, want 19998", got)
		}
		if got := rec.lines(); len(got) != 3 {
			t.Errorf("log holds %q, want 3 lines", got)
		}
		time.Sleep(time.Second + 1) // bubble time
		synctest.Wait()
		want := `level=WARN msg="plugin log lines dropped" plugin=zoo dropped=19998 lines_per_second=3`
		if got := rec.lines(); len(got) != 4 || got[3] != want {
			t.Errorf("log ends in %q, want %q", got, want)
		}
		for range 4 {
			i.Log(slog.LevelInfo, []byte("again"), slog.Int(keyRate, 7))
		}
		i.Close()
		_ = m.Close(context.Background())
		got := rec.lines()
		if len(got) != 8 || got[4] != `level=INFO msg="plugin log" plugin=zoo lines_per_second=7 text=again` || !strings.Contains(got[7], "dropped=1 ") {
			t.Errorf("log is %q, want 3 lines more and what is left to tell at the end", got)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestWriteOfManyVectors has a guest write the same bytes hundreds of thousands of times in one call of the host, which
// would take minutes.
func TestWriteOfManyVectors(t *testing.T) {
	i := instantiate(t, load(t, newHost(t), Config{}, binding()), nil)
	mustInvoke(t, i, "grow", 62)
	const at, vectors = 1 << 20, 300_000
	memory, _ := i.Memory().Read(0, at+vectors*8)
	for n := range at / 4 {
		copy(memory[n*4:], "a\nb\n")
	}
	for n := range vectors {
		binary.LittleEndian.PutUint32(memory[at+n*8:], 0)
		binary.LittleEndian.PutUint32(memory[at+n*8+4:], at)
	}
	i.Within(short)
	begin := time.Now()
	wantTrap(t, i, ReasonTimeout, "writev", at, vectors)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("stopped after %v", took)
	}
}

// TestSleepEndsAtDeadline runs on a clock of its own: an hour is over at once, and the timeout is met to the tick.
func TestSleepEndsAtDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		i := instantiate(t, load(t, h, Config{}, binding()), nil)
		begin := time.Now()
		mustInvoke(t, i, "sleep", uint64(50*time.Millisecond))
		if took := time.Since(begin); took != 50*time.Millisecond {
			t.Errorf("slept %v, want 50ms", took)
		}
		begin = time.Now()
		i.Within(20 * time.Millisecond)
		wantTrap(t, i, ReasonTimeout, "sleep", uint64(time.Hour))
		if took := time.Since(begin); took < 20*time.Millisecond || took > 20*time.Millisecond+2*tick {
			t.Errorf("stopped after %v, want 20 ms to 22 ms", took)
		}
		closeAll(t, h)
	})
}

// TestOutside checks that a host function's wait is not the guest's time, and that the clock runs on after it.
func TestOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		m := load(t, h, Config{Timeout: 10 * time.Millisecond}, binding())
		wait := hostFunc(func(ctx context.Context, ms int32) int32 {
			i := InstanceOf(ctx)
			if !i.Outside() {
				t.Error("no time left at the beginning")
			}
			time.Sleep(time.Hour)
			i.Inside()
			time.Sleep(time.Duration(ms) * time.Millisecond)
			if ok := i.Outside(); ok != (ms < 10) {
				t.Errorf("after %d ms Outside reports %v", ms, ok)
			}
			i.Inside()
			return ms
		})
		i := instantiate(t, m, wait)
		if v := mustInvoke(t, i, "host", 8); v != 8 {
			t.Errorf("got %d, want 8", v)
		}
		if v := mustInvoke(t, i, "host", 7); v != 7 { // the count begins anew
			t.Errorf("got %d, want 7", v)
		}
		wantTrap(t, i, ReasonTimeout, "host", 15)
		closeAll(t, h)
	})
}

// TestOutsideEndsInGuest: a guest that is called by a host function that waits for I/O is on its own time.
func TestOutsideEndsInGuest(t *testing.T) {
	h := newHost(t)
	i := instantiate(t, load(t, h, Config{Timeout: short}, binding()), hostFunc(func(ctx context.Context, n int32) int32 {
		i := InstanceOf(ctx)
		i.Outside()
		defer i.Inside()
		_, err := invoke(i, "loop")
		checkTrap(t, err, ReasonTimeout, "loop")
		if _, again := invoke(i, "nop"); !errors.Is(again, err) {
			t.Errorf("a call after one that failed: %v", again)
		}
		return n
	}))
	_, err := invoke(i, "host", 1)
	checkTrap(t, err, ReasonTimeout, "loop")
}

// closeAll closes a host and all it has; in a bubble this must be before the test ends.
func closeAll(t *testing.T, h *Host) {
	t.Helper()
	for _, m := range slices.Clone(h.modules) {
		for i := range m.instances {
			i.Close()
		}
		_ = m.Close(context.Background())
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}
