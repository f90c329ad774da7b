package main

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// onLinux also keeps the test on its thread, as childAttributes wants.
func onLinux(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("bench runs on Linux only")
	}
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
}

// TestProcesses starts the children, loads one through the other, and ends them.
func TestProcesses(t *testing.T) {
	onLinux(t)
	upstream, at, err := startSelf(t.Context(), upstreamCommand)
	if err != nil {
		t.Fatal(err)
	}
	defer upstream.stop()
	process, rpAt, err := startSelf(t.Context(), rpCommand, at.Serving)
	if err != nil {
		t.Fatal(err)
	}
	defer process.stop()
	w, _ := workloadNamed("W2")
	p := &peer{address: rpAt.Serving, process: process, counters: "http://" + rpAt.Control + "/"}
	got, err := p.turn(t.Context(), w, 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	for which, value := range got {
		if !(value > 0) {
			t.Errorf("%s: got %v, want above 0", measureRows[which].name, value)
		}
	}
	if got[p50] > got[p99] || got[mallocs] < 20 || got[mallocs] > 1000 {
		t.Errorf("got %v: p50 beyond p99, or a number of allocations that no such proxy has", got)
	}

	process.stop()
	if upstream.ended() || !process.ended() {
		t.Error("want the child ended that was stopped, and no other")
	}
	if _, err := p.load(t.Context(), w, time.Minute); err == nil || !strings.Contains(err.Error(), "the proxy had ended") {
		t.Errorf("without a proxy: got error %v, want that it had ended", err)
	}
}

// TestChildrenEndWithContext is what an interrupt does.
func TestChildrenEndWithContext(t *testing.T) {
	onLinux(t)
	ctx, cancel := context.WithCancel(t.Context())
	p, _, err := startSelf(ctx, upstreamCommand)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	cancel()
	select {
	case <-p.done:
	case <-time.After(stopGrace):
		t.Fatal("the child outlives its context")
	}
	if p.how != "exit status 0" {
		t.Errorf("the child ended with %s, want exit status 0: in order, not killed", p.how)
	}
	if _, err := os.Stat(procFile(p.pid, "stat")); err == nil {
		t.Errorf("process %d is still there", p.pid)
	}
}

func TestChildThatCannotStart(t *testing.T) {
	onLinux(t)
	if _, _, err := startSelf(t.Context(), rpCommand, "%"); err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("got error %v, want how the child ended", err)
	}
	if _, err := start(t.Context(), filepath.Join(t.TempDir(), "none"), nil); err == nil {
		t.Error("started a file that is not there")
	}
}

func TestParseCPUTime(t *testing.T) {
	f := func(stat string, own, children time.Duration, ok bool) {
		t.Helper()
		got, err := parseCPUTime(stat)
		if (err == nil) != ok || ok && got != (cpuTime{own, children}) {
			t.Errorf("%q: got %v, %v; want %v and %v, ok %v", stat, got, err, own, children, ok)
		}
	}
	const rest = " 20 0 9 0 5000 1200000000 3000"
	f("42 (edge) S 1 42 42 0 -1 4194560 900 0 1 0 250 31 7 2"+rest, 2810*time.Millisecond, 90*time.Millisecond, true)
	f("42 (a) b (c 1 2) R 1 42 42 0 -1 4194560 900 0 1 0 1 0 0 0"+rest, 10*time.Millisecond, 0, true)
	f("42 (edge) S 1 42 42 0 -1 4194560 900 0 1 0 250", 0, 0, false)
	f("42 (edge) S 1 42 42 0 -1 4194560 900 0 1 0 x 31 7 2"+rest, 0, 0, false)
	f("", 0, 0, false)
}

func TestParsePeak(t *testing.T) {
	f := func(status string, want int64, ok bool) {
		t.Helper()
		if got, err := parsePeak(status); got != want || (err == nil) != ok {
			t.Errorf("%q: got %d, %v; want %d, ok %v", status, got, err, want, ok)
		}
	}
	f("Name:\tedge\nVmPeak:\t  900000 kB\nVmHWM:\t   20480 kB\nVmRSS:\t   10 kB\n", 20<<20, true)
	f("Name:\tedge\n", 0, false)
	f("VmHWM:\tmuch kB\n", 0, false)
}

func TestParseMachine(t *testing.T) {
	got, err := parseMachineTime("cpu  1000 10 300 5000 40 1 2 3 900 90\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
	if want := (machineTime{all: 63560 * time.Millisecond, busy: 13160 * time.Millisecond}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, wrong := range []string{"", "cpu 1 2 3\n", "cpu0 1 2 3 4 5 6 7 8\n", "cpu 1 2 3 4 5 6 7 x\n"} {
		if _, err := parseMachineTime(wrong); err == nil {
			t.Errorf("%q: want an error", wrong)
		}
	}
	before := machineTime{all: 100 * time.Second, busy: 10 * time.Second, ours: time.Second}
	after := machineTime{all: 140 * time.Second, busy: 40 * time.Second, ours: 21 * time.Second}
	if got := otherShare(before, after); got != .25 {
		t.Errorf("other work: got %v, want a quarter", got)
	}
	if got := parseModel("processor\t: 0\nmodel\t\t: 1\nmodel name\t: Some CPU @ 2 GHz\n"); got != "Some CPU @ 2 GHz" {
		t.Errorf("model: got %q", got)
	}
	if got := parseModel("processor\t: 0\n"); got != "" {
		t.Errorf("model: got %q, want none", got)
	}
}

func TestMetricValue(t *testing.T) {
	const text = "# TYPE go_memstats_mallocs_total counter\ngo_memstats_mallocs_total_more 1\ngo_memstats_mallocs_total 1234\n"
	if got, err := metricValue(text, mallocsMetric); got != 1234 || err != nil {
		t.Errorf("got %v, %v; want 1234", got, err)
	}
	if _, err := metricValue(text, allocatedMetric); err == nil {
		t.Error("a metric that is not there: want an error")
	}
}

func TestEdgeEnvironment(t *testing.T) {
	got := edgeEnvironment([]string{"PATH=/bin", "EDGE_CONFIG=/etc/edge.json", "GOGC=50"}, "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
	if slices.Contains(got, "EDGE_CONFIG=/etc/edge.json") {
		t.Error("the caller's configuration of edge goes into the measurement")
	}
	for _, want := range []string{"PATH=/bin", "GOGC=50", "EDGE_LISTEN=127.0.0.1:2", "EDGE_PROVIDERS_UP_BASE_URL=http://127.0.0.1:1"} {
		if !slices.Contains(got, want) {
			t.Errorf("got %q, want %s in it", got, want)
		}
	}
}
