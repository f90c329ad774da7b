package main

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// turnOf has every measure at v.
func turnOf(v float64) (t turn) {
	for i := range t {
		t[i] = v
	}
	return t
}

func withoutProxy(t turn) turn {
	t[cpu], t[mallocs], t[heapBytes], t[peak] = math.NaN(), math.NaN(), math.NaN(), math.NaN()
	return t
}

func outcomeOf(rounds int) outcome {
	o := outcome{workload: workloads[1]}
	for i := range rounds {
		v := float64(i + 1)
		o.turns[directPeer] = append(o.turns[directPeer], withoutProxy(turnOf(10000*v)))
		o.turns[rpPeer] = append(o.turns[rpPeer], turnOf(100*v))
		o.turns[edgePeer] = append(o.turns[edgePeer], turnOf(25*v*v)) // ratios .25, .50, .75
	}
	return o
}

func TestTable(t *testing.T) {
	f := func(rounds int, want string) {
		t.Helper()
		if got := markdown(tableRows([]outcome{outcomeOf(rounds)})); got != strings.TrimPrefix(want, "\n") {
			t.Errorf("got\n%s\nwant%s", got, want)
		}
	}
	f(3, `
| workload                                   |                       | direct                          | rp                     | edge                  | edge/rp          |
| ------------------------------------------ | --------------------- | ------------------------------- | ---------------------- | --------------------- | ---------------- |
| W2: POST 1 KB, 1 KB answer, 64 connections | requests/s            | 20,000 (10,000–30,000)          | 200 (100–300)          | 100 (25–225)          | 0.50 (0.25–0.75) |
|                                            | p50, ms               | 20,000.00 (10,000.00–30,000.00) | 200.00 (100.00–300.00) | 100.00 (25.00–225.00) | 0.50 (0.25–0.75) |
|                                            | p99, ms               | 20,000.00 (10,000.00–30,000.00) | 200.00 (100.00–300.00) | 100.00 (25.00–225.00) | 0.50 (0.25–0.75) |
|                                            | CPU µs a request      | –                               | 200.0 (100.0–300.0)    | 100.0 (25.0–225.0)    | 0.50 (0.25–0.75) |
|                                            | allocations a request | –                               | 200.0 (100.0–300.0)    | 100.0 (25.0–225.0)    | 0.50 (0.25–0.75) |
|                                            | bytes a request       | –                               | 200 (100–300)          | 100 (25–225)          | 0.50 (0.25–0.75) |
|                                            | peak MB               | –                               | 300.0                  | 225.0                 | 0.75             |
`)
	f(1, `
| workload                                   |                       | direct    | rp     | edge  | edge/rp |
| ------------------------------------------ | --------------------- | --------- | ------ | ----- | ------- |
| W2: POST 1 KB, 1 KB answer, 64 connections | requests/s            | 10,000    | 100    | 25    | 0.25    |
|                                            | p50, ms               | 10,000.00 | 100.00 | 25.00 | 0.25    |
|                                            | p99, ms               | 10,000.00 | 100.00 | 25.00 | 0.25    |
|                                            | CPU µs a request      | –         | 100.0  | 25.0  | 0.25    |
|                                            | allocations a request | –         | 100.0  | 25.0  | 0.25    |
|                                            | bytes a request       | –         | 100    | 25    | 0.25    |
|                                            | peak MB               | –         | 100.0  | 25.0  | 0.25    |
`)
}

func TestNumber(t *testing.T) {
	f := func(v float64, decimals int, want string) {
		t.Helper()
		if got := number(v, decimals); got != want {
			t.Errorf("%v with %d decimals: got %s, want %s", v, decimals, got, want)
		}
	}
	f(0, 0, "0")
	f(999.4, 0, "999")
	f(999.6, 0, "1,000")
	f(21345.678, 1, "21,345.7")
	f(1234567, 0, "1,234,567")
	f(.125, 2, "0.12")
}

func TestMedian(t *testing.T) {
	f := func(want float64, list ...float64) {
		t.Helper()
		if got := median(list); got != want {
			t.Errorf("%v: got %v, want %v", list, got, want)
		}
	}
	f(3, 3)
	f(2, 3, 1)
	f(2, 9, 1, 2)
	f(4, 9, 1, 2, 6)
}

func TestReport(t *testing.T) {
	m := &machine{date: "2026-01-02", model: "Some CPU", cores: 2, others: .125}
	o, err := parseFlags([]string{"-rounds", "3", "-seconds", "1.5"}, new(bytes.Buffer))
	if err != nil {
		t.Fatal(err)
	}
	low, high := outcomeOf(3), outcomeOf(3)
	for i := range high.turns[edgePeer] {
		high.turns[edgePeer][i][rate] *= 4
	}
	got := report(m, o, []outcome{low, high})
	for _, want := range []string{
		"2026-01-02, ", ", 2 cores (Some CPU), go1.", "Other work took 12 % of the cores' time",
		"`cd bench && go run . -rounds 3 -seconds 1.5`, rounds of 1.5 s for each peer: 3.",
		"edge spends 0.50 times rp's CPU time on a request, allocates 0.50 times as often and\nanswers 0.50 to 2.00 times as many",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant %q in it", got, want)
		}
	}
}

func TestReplaceMeasured(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bench.md")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const old, begin, end = "# Title\n\n", markerBegin + "old\n", markerEnd + "\n## After\n"
	write(old + begin + end)
	want := old + markerBegin + "\nnew\n\n" + end
	for range 2 { // the second time changes nothing
		got, err := replaceMeasured(file, "new\n")
		if err != nil || string(got) != want {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
		write(string(got))
	}
	for _, without := range []string{old + begin, old + end, markerEnd + markerBegin} {
		write(without)
		if _, err := replaceMeasured(file, "new\n"); err == nil || !strings.Contains(err.Error(), "want the lines") {
			t.Errorf("%q: got error %v, want which lines are missing", without, err)
		}
	}
	if _, err := replaceMeasured(documentFile, "new\n"); err != nil {
		t.Errorf("the document itself: %v", err)
	}
}

func TestProgressIsSilentWithoutTerminal(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	p := newProgress(file, 2)
	p.next("first")
	p.clear()
	if info, err := file.Stat(); err != nil || info.Size() > 0 {
		t.Errorf("wrote %d bytes to a file, %v", info.Size(), err)
	}
	var screen bytes.Buffer
	p.w = &screen
	p.next("second")
	p.clear()
	if got, want := screen.String(), "\r\x1b[K2/2 second\r\x1b[K"; got != want {
		t.Errorf("on a terminal: got %q, want %q", got, want)
	}
}
