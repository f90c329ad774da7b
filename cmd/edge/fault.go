package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// rank orders the sources of the configuration; a higher one wins.
type rank uint8

const (
	fromDefault rank = iota
	fromProfile
	fromFile
	fromInline // EDGE_CONFIG_JSON
	fromVariable
	fromFlag
)

// origin is where a value of the configuration comes from.
type origin struct {
	rank         rank
	name         string // of the profile, file, variable or flag
	line, column int    // in a document, from 1; the column counts bytes
	via          string // the variable, when the document says env.NAME
	place        string // the list's element, when the document counts others too
}

// written returns a path of the configuration as the document writes it.
func (o origin) written(path string) string {
	if o.place == "" {
		return path
	}
	_, rest, _ := strings.Cut(path, "]")
	return o.place + rest
}

// String returns the origin as `edge config` shows it.
func (o origin) String() string {
	switch o.rank {
	case fromProfile:
		return "profile " + o.name
	case fromFile, fromInline:
		at := o.position()
		if o.via != "" {
			at += " env " + o.via
		}
		return at
	case fromVariable:
		return "env " + o.name
	case fromFlag:
		return "flag " + o.name
	}
	return "default"
}

func (o origin) position() string {
	if o.line == 0 {
		return o.name
	}
	return fmt.Sprintf("%s:%d:%d", o.name, o.line, o.column)
}

// fault is one thing wrong with the configuration. It never holds a secret, nor any value but the one it is about.
type fault struct {
	from origin
	path string // the key, as client.queue_timeout_in_seconds; empty when there is none
	got  string // the value as shown; empty when it is not
	want string // what was wanted; without got, the whole sentence
}

// String returns the line an operator reads, with the place first where an editor can jump to it.
func (f fault) String() string {
	subject := printable(f.path)
	switch f.from.rank {
	case fromFile, fromInline:
		subject = joinNonEmpty(": ", f.from.position(), subject)
	case fromVariable, fromFlag:
		if subject == "" {
			subject = f.from.name
		} else {
			subject += " (" + f.from.name + ")"
		}
	}
	if f.got == "" {
		return joinNonEmpty(": ", subject, f.want)
	}
	return joinNonEmpty(": ", subject, "got "+f.got+", want "+f.want)
}

// sortFaults puts the faults in the order of their sources, those of a document in the order of its lines, and
// drops repetitions.
func sortFaults(faults []fault) []fault {
	slices.SortStableFunc(faults, func(a, b fault) int {
		return cmp.Or(
			cmp.Compare(a.from.rank, b.from.rank),
			cmp.Compare(a.from.line, b.from.line),
			cmp.Compare(a.from.column, b.from.column),
			cmp.Compare(a.from.name, b.from.name),
			cmp.Compare(a.path, b.path))
	})
	return slices.Compact(faults)
}

// covered reports whether path, or what it is part of, has a fault already: what follows from it is not news.
func covered(faults []fault, path string) bool {
	return slices.ContainsFunc(faults, func(f fault) bool {
		rest, ok := strings.CutPrefix(path, f.path)
		return ok && f.path != "" && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

const shownBytes = 64 // how much of a value a fault repeats

// quoted returns text as a fault shows it.
func quoted(text string) string { return quotedTo(text, shownBytes) }

func quotedTo(text string, end int) string {
	if len(text) <= end {
		return strconv.Quote(text)
	}
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return strconv.Quote(text[:end]) + "..."
}

// printable returns a path, cut short, with what a terminal would act upon replaced.
func printable(path string) string {
	if len(path) > 4*shownBytes {
		path = path[:4*shownBytes] + "..."
	}
	return graphic(path)
}

func graphic(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) && r != utf8.RuneError {
			return r
		}
		return '?'
	}, text)
}

func joinNonEmpty(separator string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), separator)
}
