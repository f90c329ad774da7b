package main

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// turnOf has every measure at v, but for those that few workloads have.
func turnOf(v float64) (t turn) {
	for i := range t {
		t[i] = v
	}
	for _, which := range []int{addedP50, addedP99, each, heapHeld, stackHeld} {
		t[which] = math.NaN()
	}
	return t
}

func without(t turn, measures ...int) turn {
	for _, which := range measures {
		t[which] = math.NaN()
	}
	return t
}

func outcomeOf(rounds int) outcome {
	lanes := []lane{{name: directPeer}, {name: rpPeer}, {name: edgePeer}, {name: nginxPeer}, {name: caddyPeer, err: errors.New("gone")}}
	for i := range rounds {
		v := float64(i + 1)
		for j, t := range []turn{
			without(turnOf(10000*v), cpu, mallocs, heapBytes, idle, peak),
			turnOf(100 * v),
			turnOf(25 * v * v), // ratios .25, .50, .75
			without(turnOf(20*v), mallocs, heapBytes),
		} {
			lanes[j].turns = append(lanes[j].turns, t)
		}
	}
	return outcome{workloads[1], lanes}
}

var columns = []string{directPeer, rpPeer, edgePeer, nginxPeer, caddyPeer}

// compact takes the alignment out of a table.
func compact(table string) string {
	for strings.Contains(table, "  ") || strings.Contains(table, "---") {
		table = strings.ReplaceAll(strings.ReplaceAll(table, "  ", " "), "---", "--")
	}
	return strings.TrimSpace(table)
}

func TestTable(t *testing.T) {
	f := func(rows [][]string, want string) {
		t.Helper()
		if got := compact(markdown(rows)); got != strings.TrimSpace(want) {
			t.Errorf("got\n%s\nwant%s", got, want)
		}
	}
	f(tableRows([]outcome{outcomeOf(3)}, columns), `
| workload | | direct | rp | edge | nginx | caddy | edge/rp | edge/nginx |
| -- | -- | -- | -- | -- | -- | -- | -- | -- |
| W2: POST 1 KB, 1 KB answer, 64 connections | requests/s | 20,000 (10,000–30,000) | 200 (100–300) | 100 (25–225) | 40 (20–60) | fails | 0.50 (0.25–0.75) | 2.50 (1.25–3.75) |
| | p50, ms | 20,000.00 (10,000.00–30,000.00) | 200.00 (100.00–300.00) | 100.00 (25.00–225.00) | 40.00 (20.00–60.00) | fails | 0.50 (0.25–0.75) | 2.50 (1.25–3.75) |
| | p99, ms | 20,000.00 (10,000.00–30,000.00) | 200.00 (100.00–300.00) | 100.00 (25.00–225.00) | 40.00 (20.00–60.00) | fails | 0.50 (0.25–0.75) | 2.50 (1.25–3.75) |
| | CPU µs a request | – | 200.0 (100.0–300.0) | 100.0 (25.0–225.0) | 40.0 (20.0–60.0) | fails | 0.50 (0.25–0.75) | 2.50 (1.25–3.75) |
| | allocations a request | – | 200.0 (100.0–300.0) | 100.0 (25.0–225.0) | – | fails | 0.50 (0.25–0.75) | – |
| | bytes a request | – | 200 (100–300) | 100 (25–225) | – | fails | 0.50 (0.25–0.75) | – |
| | idle MB | – | 300.0 | 225.0 | 60.0 | fails | 0.75 | 3.75 |
| | peak MB | – | 300.0 | 225.0 | 60.0 | fails | 0.75 | 3.75 |
`)
	alone := outcomeOf(1) // and without nginx
	f(tableRows([]outcome{alone}, columns[:3])[:2], `
| workload | | direct | rp | edge | edge/rp |
| -- | -- | -- | -- | -- | -- |
| W2: POST 1 KB, 1 KB answer, 64 connections | requests/s | 10,000 | 100 | 25 | 0.25 |
`)
	alone.lanes[2].err = errors.New("gone")
	f(tableRows([]outcome{alone}, columns[:3])[:2], `
| workload | | direct | rp | edge | edge/rp |
| -- | -- | -- | -- | -- | -- |
| W2: POST 1 KB, 1 KB answer, 64 connections | requests/s | 10,000 | 100 | fails | – |
`)
}

// TestAlignment: a table is readable on a terminal.
func TestAlignment(t *testing.T) {
	got := markdown([][]string{{"µs", "b"}, {"1", "long"}})
	if want := "| µs  | b    |\n| --- | ---- |\n| 1   | long |\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestRowNames: latency is told in the unit that its workload needs.
func TestRowNames(t *testing.T) {
	f := func(name string, which int, want string) {
		t.Helper()
		w, _ := workloadNamed(name)
		m := w.row(which)
		if got := m.name + " " + cell([]float64{1.5}, m); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	f("W1", p50, "p50, ms 1.50")
	f("W4a", rate, "streams/s 2")
	f("W4b", p50, "event p50, µs 1,500")
	f("W4b", addedP99, "event p99 beyond direct, µs 1,500")
	f("W6", addedP50, "p50 beyond direct, µs 1,500")
	f("W8", p99, "p99, ms 1.50")
}

func TestPluginRows(t *testing.T) {
	at := func(us, count float64) turn {
		var t turn
		for i := range t {
			t[i] = math.NaN()
		}
		t[rate], t[cpu], t[mallocs] = 1000, us, count
		return t
	}
	w, _ := workloadNamed(pluginWorkload)
	o := outcome{w, []lane{
		{name: edgePeer, turns: []turn{at(50, 20), at(60, 20)}},
		{name: oneHTTPWasm, turns: []turn{at(50.5, 20), at(60.7, 20.1)}},
		{name: fiveHTTPWasm, turns: []turn{at(55, 20.5), at(66, 20.5)}},
		{name: oneProxyWasm, turns: []turn{at(49, 20), at(61, 20)}},
		{name: fiveProxyWasm, err: errors.New("gone")},
	}}
	want := `
| | edge | 1 http-wasm | 5 http-wasm | 1 Proxy-Wasm | 5 Proxy-Wasm |
| -- | -- | -- | -- | -- | -- |
| requests/s | 1,000 (1,000–1,000) | 1,000 (1,000–1,000) | 1,000 (1,000–1,000) | 1,000 (1,000–1,000) | fails |
| CPU µs a request | 55.0 (50.0–60.0) | 55.6 (50.5–60.7) | 60.5 (55.0–66.0) | 55.0 (49.0–61.0) | fails |
| CPU ns, for each plugin | – | 600 (500–700) | 1,100 (1,000–1,200) | 0 (-1,000–1,000) | – |
| allocations a request | 20.0 (20.0–20.0) | 20.1 (20.0–20.1) | 20.5 (20.5–20.5) | 20.0 (20.0–20.0) | fails |
| allocations, for each plugin | – | 0.05 (0.00–0.10) | 0.10 (0.10–0.10) | 0.00 (0.00–0.00) | – |
`
	if got := compact(markdown(pluginRows(o))); got != strings.TrimSpace(want) {
		t.Errorf("got\n%s\nwant%s", got, want)
	}
}

func TestScaleRows(t *testing.T) {
	all := growths()
	for i := range all {
		g := &all[i]
		for _, p := range g.points {
			for _, e := range p.entrants {
				one := turnOf(100)
				if e.name == rpPeer {
					one = turnOf(300)
				}
				one[each] = 40
				g.lanes = append(g.lanes, lane{name: e.name + p.name, turns: []turn{one}})
			}
		}
	}
	all[1].lanes[2] = lane{err: errors.New("gone")}
	got := compact(markdown(scaleRows(all)))
	for _, want := range []string{
		"| what grows | | rp | edge |",
		"| connections: 10,000 | CPU µs a request | 300.0 | 100.0 |",
		"| providers: 10 | CPU µs a request | – | 100.0 |\n| providers: 200 | CPU µs a request | – | fails |",
		"| plugins: 10 Proxy-Wasm | CPU µs a request | – | 100.0 |\n| | allocations a request | – | 100.0 |",
		"| requests in flight: 5,000 | peak MB | 300.0 | 100.0 |\n| | KiB a request in flight | 40.0 | 40.0 |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant %q in it", got, want)
		}
	}
	left := all[0].fit(2000)
	if len(left) != 2 || left[1] != "10,000 connections: a proxy needs 11,800 open files, the limit is 2,000" || len(all[0].points) != 2 {
		t.Errorf("with few files: left out %q", left)
	}
}

func TestStartRows(t *testing.T) {
	got := compact(markdown(startRows([]started{
		{name: startBalanced, ready: []float64{20, 10, 15}, idle: []float64{12, 12, 13}},
		{name: startCached, problem: errors.New("gone")},
	})))
	want := `
| edge starts | ready after, ms | idle MB |
| -- | -- | -- |
| balanced | 15.0 (10.0–20.0) | 12.0 (12.0–13.0) |
| balanced, a Go plugin from the cache | fails | fails |
`
	if got != strings.TrimSpace(want) {
		t.Errorf("got\n%s\nwant%s", got, want)
	}
}

func TestBars(t *testing.T) {
	o := outcomeOf(3)
	r := &results{outcomes: []outcome{o}, starts: []started{{name: startBalanced, ready: []float64{49, 51, 50}, idle: []float64{40}}}}
	f := func(want string) {
		t.Helper()
		if got := compact(markdown(barRows(r))); got != strings.TrimSpace(want) {
			t.Errorf("got\n%s\nwant%s", got, want)
		}
	}
	f(`
| bar | limit | measured | |
| -- | -- | -- | -- |
| W2, CPU against rp | ≤ 0.45 | 0.50 (0.25–0.75) | misses |
| W2, requests/s against rp | ≥ 1.90 | 0.50 (0.25–0.75) | misses |
| W2, allocations a request | ≤ 36.0 | 100.0 (25.0–225.0) | misses |
| W2, bytes a request | ≤ 4,500 | 100 (25–225) | holds |
| idle MB, balanced | ≤ 32.0 | 40.0 | misses |
| ready after, ms, no plugin | ≤ 50.0 | 50.0 (49.0–51.0) | holds |
`)
	w, _ := workloadNamed("W8")
	held := turnOf(100)
	r.starts, r.outcomes = nil, []outcome{{w, []lane{{name: edgePeer, turns: []turn{held, turnOf(500)}}}}}
	f(`
| bar | limit | measured | |
| -- | -- | -- | -- |
| W8, errors | ≤ 0 | 0 | holds |
| W8, peak MB | ≤ 400.0 | 500.0 | misses |
`)
	r.outcomes[0].lanes[0].err = errors.New("503")
	f(`
| bar | limit | measured | |
| -- | -- | -- | -- |
| W8, errors | ≤ 0 | 1 | misses |
`)
	whole, err := parseFlags(nil, new(bytes.Buffer))
	if err != nil {
		t.Fatal(err)
	}
	r.options = whole // then every bar has its row
	if got := len(barRows(r)); got != len(bars)+1 {
		t.Errorf("got %d rows, want one for each of %d bars", got, len(bars))
	}
	if got := compact(markdown(barRows(r))); !strings.Contains(got, "| W2, CPU against Caddy | ≤ 0.30 | – | not measured |") {
		t.Errorf("got\n%s\nwant the missing peer", got)
	}
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
	f(-1234.56, 1, "-1,234.6")
	f(-.04, 1, "0.0")
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
	o, err := parseFlags([]string{"-rounds", "3", "-seconds", "1.5"}, new(bytes.Buffer))
	if err != nil {
		t.Fatal(err)
	}
	r := &results{
		machine: &machine{date: "2026-01-02", model: "Some CPU", cores: 2, others: .125},
		options: o, columns: columns, found: []string{"nginx 1.2.3", "caddy 4.5"}, left: []string{"not installed: haproxy"},
		outcomes: []outcome{outcomeOf(3)},
	}
	f := func(want ...string) {
		t.Helper()
		got := r.report()
		for _, part := range want {
			if !strings.Contains(got, part) {
				t.Errorf("got\n%s\nwant %q in it", got, part)
			}
		}
		if strings.Contains(got, "### Starts") || strings.Contains(got, "### Scale") {
			t.Errorf("got\n%s\nwant no part that was not measured", got)
		}
	}
	f("2026-01-02, ", ", 2 cores (Some CPU), go1.", "Other work took 12 % of the cores' time",
		"`cd bench && go run . -rounds 3 -seconds 1.5`, turns of 1.5 s or more for each peer: 3.",
		"\nBeside them: nginx 1.2.3, caddy 4.5.\n", "\nLeft out: not installed: haproxy.\n", "\nFails: W2, caddy: gone.\n",
		"### Workloads\n\n| workload ", "### Bars\n")
	if ours, others := r.failures(); len(ours) != 0 || len(others) != 1 {
		t.Errorf("got failures of ours %q and of others %q", ours, others)
	}
	r.outcomes[0].lanes[2].err = errors.New("gone\ntoo")
	f("\nFails: W2, edge: gone too.\n")
	if ours, _ := r.failures(); len(ours) != 1 {
		t.Errorf("got failures of ours %q, want edge's", ours)
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
