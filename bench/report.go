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

// report is the whole result as Markdown.
func report(m *machine, o options, outcomes []outcome) string {
	var b strings.Builder
	command := strings.Join(append([]string{"cd bench && go run ."}, o.args...), " ")
	fmt.Fprintf(&b, "%s\n\n`%s`, rounds of %v s for each peer: %d. Medians (least–most); edge/rp is taken round by round.\n\n",
		m, command, o.seconds, o.rounds)
	b.WriteString(markdown(tableRows(outcomes)))
	fmt.Fprintf(&b, "\n%s\n", reading(outcomes))
	return b.String()
}

func tableRows(outcomes []outcome) [][]string {
	rows := [][]string{append(append([]string{"workload", ""}, peerNames[:]...), "edge/rp")}
	for _, o := range outcomes {
		label := fmt.Sprintf("%s: %s, %d connections", o.workload.name, o.workload.does, o.workload.connections)
		for which, m := range measureRows {
			row := []string{label, m.name}
			for p := range peers {
				row = append(row, cell(o.series(p, which), m))
			}
			rows = append(rows, append(row, cell(o.ratios(which), measure{decimals: 2, highest: m.highest})))
			label = ""
		}
	}
	return rows
}

// series is what one peer did in a measure, by round.
func (o *outcome) series(p, which int) []float64 {
	var list []float64
	for _, t := range o.turns[p] {
		list = append(list, t[which])
	}
	return list
}

// ratios are edge to rp, by round: what disturbs a round disturbs both.
func (o *outcome) ratios(which int) []float64 {
	list, base := o.series(edgePeer, which), o.series(rpPeer, which)
	if measureRows[which].highest {
		return []float64{slices.Max(list) / slices.Max(base)}
	}
	for i := range list {
		list[i] /= base[i]
	}
	return list
}

// median of a list that is not empty; of an even count, the mean of the middle two.
func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// cell tells a series: its median and spread, or its highest.
func cell(list []float64, m measure) string {
	if math.IsNaN(list[0]) {
		return "–"
	}
	if m.highest {
		return number(slices.Max(list), m.decimals)
	}
	text := number(median(list), m.decimals)
	if len(list) > 1 {
		text += fmt.Sprintf(" (%s–%s)", number(slices.Min(list), m.decimals), number(slices.Max(list), m.decimals))
	}
	return text
}

// number writes a value that is not negative, with commas between thousands.
func number(v float64, decimals int) string {
	text := strconv.FormatFloat(v, 'f', decimals, 64)
	whole, fraction, _ := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction != "" {
		whole += "." + fraction
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

// reading says what the table shows, and what it does not.
func reading(outcomes []outcome) string {
	span := func(which int) string {
		var list []float64
		for _, o := range outcomes {
			list = append(list, median(o.ratios(which)))
		}
		least, most := number(slices.Min(list), 2), number(slices.Max(list), 2)
		if least == most {
			return least
		}
		return least + " to " + most
	}
	return fmt.Sprintf(`Reading: by workload, edge spends %s times rp's CPU time on a request, allocates %s times as often and
answers %s times as many requests a second. Both reach the upstream through Go's http.Transport for now, so this is
what edge's own line costs beside ReverseProxy's; it is not held against any bar yet.`, span(cpu), span(mallocs), span(rate))
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
