package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// documentFile is where -write puts the report, between the markers.
const (
	documentFile = "../docs/bench.md"
	markerBegin  = "<!-- measured: begin; go run . -write in bench/ rewrites what follows -->\n"
	markerEnd    = "<!-- measured: end -->\n"
)

// Cells without a figure.
const (
	none      = "–"
	failsCell = "fails"
)

// report is the whole result as Markdown.
func (r *results) report() string {
	var b strings.Builder
	command := strings.Join(append([]string{"cd bench && go run ."}, r.options.args...), " ")
	fmt.Fprintf(&b, "%s\n\n`%s`, turns of %v s or more for each peer: %d. Medians (least–most); a ratio is taken round by round.\n",
		r.machine, command, r.options.seconds, r.options.rounds)
	b.WriteString(r.notes())
	var table, plugins []outcome
	for _, o := range r.outcomes {
		if o.workload.name == pluginWorkload {
			plugins = append(plugins, o)
		} else {
			table = append(table, o)
		}
	}
	section := func(title, text string, rows [][]string) {
		if len(rows) > 1 {
			fmt.Fprintf(&b, "\n### %s\n\n", title)
			if text != "" {
				b.WriteString(text + "\n\n")
			}
			b.WriteString(markdown(rows))
		}
	}
	section("Workloads", "", tableRows(table, r.columns))
	for _, o := range plugins {
		section("Plugins", "W9 is W2 through plugins that set one header of the request.", pluginRows(o))
	}
	section("Starts", "", startRows(r.starts))
	section("Scale", "", scaleRows(r.scale))
	section("Bars", "Bars are about edge, and reported only. The bars of gate and arena are held against `go test -bench`, below.", barRows(r))
	return b.String()
}

// notes say who took part, who did not, and what went wrong.
func (r *results) notes() string {
	var b strings.Builder
	if len(r.found) > 0 {
		fmt.Fprintf(&b, "Beside them: %s.\n", strings.Join(r.found, ", "))
	}
	for _, left := range r.left {
		fmt.Fprintf(&b, "Left out: %s.\n", left)
	}
	ours, others := r.failures()
	for _, failure := range append(ours, others...) {
		fmt.Fprintf(&b, "Fails: %s.\n", strings.ReplaceAll(failure, "\n", " "))
	}
	if b.Len() == 0 {
		return ""
	}
	return "\n" + b.String()
}

// row is how a measure of this workload is told.
func (w workload) row(which int) measure {
	m := measureRows[which]
	if which == p50 || which == p99 || which == addedP50 || which == addedP99 {
		if w.apart > 0 {
			m.name = "event " + m.name
		}
		if w.micro {
			m.name, m.decimals, m.factor = strings.Replace(m.name, "ms", "µs", 1), 0, 1000
		}
	}
	if which == rate && w.events > 0 {
		m.name = "streams/s"
	}
	return m
}

func tableRows(outcomes []outcome, columns []string) [][]string {
	withNginx, withTakeover := slices.Contains(columns, nginxPeer), slices.Contains(columns, takeoverPeer)
	head := append(append([]string{"workload", ""}, columns...), "edge/rp")
	if withTakeover {
		head = append(head, takeoverPeer+"/rp")
	}
	if withNginx {
		head = append(head, "edge/nginx")
	}
	rows := [][]string{head}
	for _, o := range outcomes {
		label := fmt.Sprintf("%s: %s, %s connections", o.workload.name, o.workload.does, number(float64(o.workload.connections), 0))
		for which := range measures {
			if !o.tells(which) {
				continue
			}
			m := o.workload.row(which)
			row := []string{label, m.name}
			for _, name := range columns {
				row = append(row, o.cell(name, which, m))
			}
			row = append(row, o.ratioCell(edgePeer, rpPeer, which))
			if withTakeover {
				row = append(row, o.ratioCell(takeoverPeer, rpPeer, which))
			}
			if withNginx {
				row = append(row, o.ratioCell(edgePeer, nginxPeer, which))
			}
			rows = append(rows, row)
			label = ""
		}
	}
	return rows
}

// tells reports whether any peer has the measure.
func (o *outcome) tells(which int) bool {
	return slices.ContainsFunc(o.lanes, func(l lane) bool { return !math.IsNaN(l.first(which)) }) ||
		which == rate // a row at least, which says who failed
}

// first is NaN when there is no turn.
func (l *lane) first(which int) float64 {
	if len(l.turns) == 0 || l.err != nil {
		return math.NaN()
	}
	return l.turns[0][which]
}

// series is what a peer did in a measure, by round; nil if it has none.
func (o *outcome) series(name string, which int) []float64 {
	l := o.lane(name)
	if l == nil || math.IsNaN(l.first(which)) {
		return nil
	}
	return l.series(which)
}

func (l *lane) series(which int) []float64 {
	list := make([]float64, len(l.turns))
	for i, t := range l.turns {
		list[i] = t[which]
	}
	return list
}

// ratios are of one peer to another, by round: what disturbs a round disturbs both. They are nil if one has none.
func (o *outcome) ratios(name, base string, which int) []float64 {
	list, bases := o.series(name, which), o.series(base, which)
	switch {
	case list == nil || bases == nil:
		return nil
	case measureRows[which].highest:
		return []float64{slices.Max(list) / slices.Max(bases)}
	}
	var ratios []float64
	for i, base := range bases {
		if base > 0 { // what is beyond direct may be nothing
			ratios = append(ratios, list[i]/base)
		}
	}
	return ratios
}

func (o *outcome) cell(name string, which int, m measure) string {
	for i := range o.lanes {
		if o.lanes[i].name == name {
			return laneCell(&o.lanes[i], which, m)
		}
	}
	return none
}

func laneCell(l *lane, which int, m measure) string {
	if l.err != nil {
		return failsCell
	}
	return cell(l.series(which), m)
}

func (o *outcome) ratioCell(name, base string, which int) string {
	return cell(o.ratios(name, base, which), measure{decimals: 2, highest: measureRows[which].highest})
}

// pluginRows have, beyond what the workloads' table has, the cost of each plugin.
func pluginRows(o outcome) [][]string {
	columns := []string{edgePeer, oneHTTPWasm, fiveHTTPWasm, oneProxyWasm, fiveProxyWasm}
	rows := [][]string{append([]string{""}, columns...)}
	for which := range measures {
		if !o.tells(which) {
			continue
		}
		m := o.workload.row(which)
		row := []string{m.name}
		for _, name := range columns {
			row = append(row, o.cell(name, which, m))
		}
		rows = append(rows, row)
		if which == cpu || which == mallocs {
			m = eachPlugin[which]
			row := []string{m.name}
			for _, name := range columns {
				row = append(row, cell(o.eachPlugin(name, which), m))
			}
			rows = append(rows, row)
		}
	}
	return rows
}

var eachPlugin = map[int]measure{
	cpu:     {name: "CPU ns, for each plugin", factor: 1000},
	mallocs: {name: "allocations, for each plugin", decimals: 2},
}

// eachPlugin is what one plugin adds, by round.
func (o *outcome) eachPlugin(name string, which int) []float64 {
	count, ok := pluginCounts[name]
	list, without := o.series(name, which), o.series(edgePeer, which)
	if !ok || list == nil || without == nil {
		return nil
	}
	for i := range list {
		list[i] = (list[i] - without[i]) / count
	}
	return list
}

// median of a list that is not empty; of an even count, the mean of the middle two.
func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// value is the figure that stands for a series which is not empty: the median, or the highest.
func value(list []float64, m measure) float64 {
	if m.highest {
		return slices.Max(list)
	}
	return median(list)
}

// cell tells a series: its median and spread, or its highest.
func cell(list []float64, m measure) string {
	if len(list) == 0 || math.IsNaN(list[0]) {
		return none
	}
	told := func(v float64) string {
		if m.factor != 0 {
			v *= m.factor
		}
		return number(v, m.decimals)
	}
	text := told(value(list, m))
	if len(list) > 1 && !m.highest {
		text += fmt.Sprintf(" (%s–%s)", told(slices.Min(list)), told(slices.Max(list)))
	}
	return text
}

// number writes a value with commas between thousands.
func number(v float64, decimals int) string {
	text := strconv.FormatFloat(math.Abs(v), 'f', decimals, 64)
	whole, fraction, _ := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction != "" {
		whole += "." + fraction
	}
	if v < 0 && strings.ContainsAny(text, "123456789") {
		whole = "-" + whole
	}
	return whole
}

// markdown writes rows, the first of them the head, as a table whose columns are aligned for a terminal too.
func markdown(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, text := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(text), 3)
		}
	}
	var b strings.Builder
	line := func(row []string) {
		for i, text := range row {
			fmt.Fprintf(&b, "| %-*s ", widths[i], text) // fmt counts runes
		}
		b.WriteString("|\n")
	}
	line(rows[0])
	rule := make([]string, len(widths))
	for i, width := range widths {
		rule[i] = strings.Repeat("-", width)
	}
	line(rule)
	for _, row := range rows[1:] {
		line(row)
	}
	return b.String()
}

// replaceMeasured returns the document with text between its markers.
func replaceMeasured(file, text string) ([]byte, error) {
	page, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	before, rest, begins := bytes.Cut(page, []byte(markerBegin))
	_, after, ends := bytes.Cut(rest, []byte(markerEnd))
	if !begins || !ends {
		return nil, fmt.Errorf("%s: want the lines %q and %q", file, strings.TrimSpace(markerBegin), strings.TrimSpace(markerEnd))
	}
	return slices.Concat(before, []byte(markerBegin), []byte("\n"+text+"\n"), []byte(markerEnd), after), nil
}
