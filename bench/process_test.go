package main

import (
	"context"
	"errors"
	"math"
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
	w, _ := workloadNamed("W5")
	w.connections = 20
	p, err := startRP(t.Context(), &site{upstream: at.Serving}, w)
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	got, err := p.turn(t.Context(), w, 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	for which, value := range got {
		if beyond := which == addedP50 || which == addedP99; !beyond && !(value > 0) || beyond && !math.IsNaN(value) {
			t.Errorf("%s: got %v", measureRows[which].name, value)
		}
	}
	if got[p50] > got[p99] || got[p50] < 60 || got[mallocs] < 20 || got[mallocs] > 1000 || got[idle] > got[peak] {
		t.Errorf("got %v: p50 beyond p99 or too short, or what no such proxy has", got)
	}

	p.process.stop()
	if upstream.ended() || !p.process.ended() {
		t.Error("want the child ended that was stopped, and no other")
	}
	if _, err := p.startLoad(t.Context(), w, time.Minute, time.Minute); err == nil || !strings.Contains(err.Error(), "the proxy had ended") {
		t.Errorf("without a proxy: got error %v, want that it had ended", err)
	}
}

// TestWorkers: children of a child are counted with it, and end with it even if they do not by themselves.
func TestWorkers(t *testing.T) {
	onLinux(t)
	p, err := start(t.Context(), "/bin/sh", nil, "-c", "trap 'exit 0' INT; sleep 100 2>/dev/null & wait")
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	for begin := time.Now(); len(p.workers) == 0; {
		if err := p.adopt(); err != nil || time.Since(begin) > 10*time.Second {
			t.Fatalf("got no worker, %v", err)
		}
	}
	worker := p.workers[0]
	if all := p.all(); !slices.Equal(all, []int{p.pid, worker}) {
		t.Errorf("got %v, want %d and its worker", all, p.pid)
	}
	one, err := (&process{pid: worker}).resident(residentNow)
	both, err2 := p.resident(residentNow)
	if err != nil || err2 != nil || both <= one {
		t.Errorf("resident: got %d of both and %d of one, %v, %v", both, one, err, err2)
	}
	if _, err := p.cpuUsed(); err != nil {
		t.Error(err)
	}
	p.stop()
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(procFile(worker, "stat"))
		if err != nil || strings.Contains(string(text), ") Z ") { // dead, and not waited for by whoever has it now
			break
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("worker %d outlives its parent", worker)
		}
	}
}

// TestBlame: the first that a child said is in the error, not all of it.
func TestBlame(t *testing.T) {
	onLinux(t)
	p, err := start(t.Context(), "/bin/sh", nil, "-c", "for i in 1 2 3; do echo first of $i >&2; done; yes 2>/dev/null | head -c 100000 >&2; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	<-p.done
	text := p.blame("the proxy", errors.New("no answer")).Error()
	if !strings.HasPrefix(text, "no answer; the proxy had ended (exit status 3); the proxy said: first of 1 first of 2 first of 3 y y") || len(text) > 2*headBytes {
		t.Errorf("got %q", text)
	}
}

// TestCPUTime: the clock and /proc tell the same, which is 10 ms at the most behind.
func TestCPUTime(t *testing.T) {
	onLinux(t)
	coarse, err := cpuTimeOf(os.Getpid())
	fine, err2 := cpuTimeUsed(os.Getpid())
	if err != nil || err2 != nil || fine <= 0 || fine < coarse.own-20*time.Millisecond {
		t.Errorf("got %v by the clock and %v by /proc, %v, %v", fine, coarse.own, err, err2)
	}
	if _, err := cpuTimeUsed(1<<22 + 1); err == nil {
		t.Error("a process that is not there: want an error")
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

func TestParseStat(t *testing.T) {
	f := func(text string, want stat, ok bool) {
		t.Helper()
		got, err := parseStat(text)
		if (err == nil) != ok || got != want {
			t.Errorf("%q: got %v, %v; want %v, ok %v", text, got, err, want, ok)
		}
	}
	const rest = " 20 0 9 0 5000 1200000000 3000"
	f("42 (edge) S 7 41 42 0 -1 4194560 900 0 1 0 250 31 7 2"+rest, stat{7, 41, cpuTime{2810 * time.Millisecond, 90 * time.Millisecond}}, true)
	f("42 (a) b (c 1 2) R 1 42 42 0 -1 4194560 900 0 1 0 1 0 0 0"+rest, stat{1, 42, cpuTime{10 * time.Millisecond, 0}}, true)
	f("42 (edge) S 1 42 42 0 -1 4194560 900 0 1 0 250", stat{}, false)
	f("42 (edge) S 1 42 42 0 -1 4194560 900 0 1 0 x 31 7 2"+rest, stat{}, false)
	f("", stat{}, false)
}

func TestParseStatus(t *testing.T) {
	f := func(status, field string, want int64, ok bool) {
		t.Helper()
		if got, err := parseStatus(status, field); got != want || (err == nil) != ok {
			t.Errorf("%q: got %d, %v; want %d, ok %v", status, got, err, want, ok)
		}
	}
	const status = "Name:\tedge\nVmPeak:\t  900000 kB\nVmHWM:\t   20480 kB\nVmRSS:\t   10 kB\n"
	f(status, residentMost, 20<<20, true)
	f(status, residentNow, 10<<10, true)
	f("Name:\tedge\n", residentMost, 0, false)
	f("VmHWM:\tmuch kB\n", residentMost, 0, false)
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
