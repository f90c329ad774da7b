package main

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"sort"
	"unicode/utf8"

	jsoniter "github.com/json-iterator/go"
)

const (
	maxDocumentBytes = 16 << 20
	maxDepth         = 64
	maxValues        = 1 << 20
)

// text is a configuration document as it was read.
type text struct {
	rank  rank
	name  string // of the file, variable or profile
	data  []byte
	lines []int // where each line begins; made by parse
}

// origin returns where the byte at offset at stands.
func (t *text) origin(at int) origin {
	if t.rank == fromProfile {
		return origin{rank: t.rank, name: t.name}
	}
	line := sort.SearchInts(t.lines, at+1)
	return origin{rank: t.rank, name: t.name, line: line, column: at - t.lines[line-1] + 1}
}

type nodeKind uint8

const (
	isNull nodeKind = iota
	isBool
	isNumber
	isString
	isArray
	isObject
)

func (k nodeKind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "an array", "an object"}[k]
}

// node is one value of a document.
type node struct {
	kind    nodeKind
	at      int    // offset of its first byte
	text    string // a string's value; a number or a boolean as written
	members []pair
	items   []*node
}

type pair struct {
	key   string
	at    int
	value *node
}

// shown returns the value as a fault shows it: never what an array or an object holds.
func (n *node) shown() string {
	switch n.kind {
	case isString:
		return quoted(n.text)
	case isNumber, isBool:
		if len(n.text) <= shownBytes {
			return n.text
		}
	}
	return n.kind.String()
}

// jsonParser reads a document with json-iterator as its tokenizer: fed one byte at a time, it has always read exactly as
// far as the token it returned, so every token's place is known. Its error text is never used, since it repeats the
// input around the error.
type jsonParser struct {
	doc    *text
	data   []byte
	iter   *jsoniter.Iterator
	read   int // bytes the iterator took
	end    int // end of the last token
	values int
	faults []fault

	private int // how many objects called config there are around what is read; theirs are not keys of Edge's
}

// parse returns the document's tree, or nil when it is no JSON object; a duplicate key is a fault, but no reason to
// stop.
func parse(doc *text) (*node, []fault) {
	doc.data = bytes.TrimPrefix(doc.data, []byte("\ufeff"))
	doc.lines = []int{0}
	for i, c := range doc.data {
		if c == '\n' {
			doc.lines = append(doc.lines, i+1)
		}
	}
	p := &jsonParser{doc: doc, data: doc.data}
	if len(p.data) > maxDocumentBytes {
		p.fail(0, fmt.Sprintf("the document is larger than %d MiB", maxDocumentBytes>>20))
		return nil, p.faults
	}
	p.iter = jsoniter.Parse(jsoniter.ConfigDefault, p, 1)
	root := p.value(1)
	switch {
	case root == nil:
		return nil, p.faults
	case p.next() >= 0:
		p.fail(p.end, "want nothing after the document's end")
		return nil, p.faults
	case root.kind != isObject:
		p.fail(root.at, "want an object, { ... }")
		return nil, p.faults
	}
	return root, p.faults
}

// Read gives the iterator its next byte.
func (p *jsonParser) Read(b []byte) (int, error) {
	if p.read == len(p.data) {
		return 0, io.EOF
	}
	b[0] = p.data[p.read]
	p.read++
	return 1, nil
}

// next moves end to the next token and returns its first byte, or -1 at the document's end.
func (p *jsonParser) next() int {
	for ; p.end < len(p.data); p.end++ {
		switch c := p.data[p.end]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return int(c)
		}
	}
	return -1
}

func (p *jsonParser) fail(at int, want string) *node {
	p.faults = append(p.faults, fault{from: p.doc.origin(at), want: want})
	return nil
}

// unexpected words the fault for the byte at end, where want was due.
func (p *jsonParser) unexpected(want string) *node {
	switch p.next() {
	case -1:
		want += ", but the document ends"
	case '/', '#':
		want += " (JSON has no comments)"
	case '\'':
		want += " (strings take double quotes)"
	}
	return p.fail(p.end, want)
}

var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// value reads one value; nil means that the document cannot be read on.
func (p *jsonParser) value(depth int) *node {
	p.next()
	n := &node{at: p.end}
	if p.values++; p.values > maxValues {
		return p.fail(n.at, fmt.Sprintf("the document has more than %d values", maxValues))
	}
	if depth > maxDepth {
		return p.fail(n.at, fmt.Sprintf("nested deeper than %d", maxDepth))
	}
	switch p.iter.WhatIsNext() {
	case jsoniter.StringValue:
		n.kind, n.text = isString, p.iter.ReadString()
		p.end = p.read
		if p.iter.Error != nil || !wellFormed(p.data[n.at:p.end]) {
			return p.fail(n.at, "want a string that ends on its line, in UTF-8, with the escapes that JSON has")
		}
	case jsoniter.NumberValue:
		n.kind, n.text = isNumber, string(p.iter.ReadNumber())
		p.end += len(n.text)
		if !jsonNumber.MatchString(n.text) {
			return p.fail(n.at, "want a number as JSON writes it, such as 10 or 0.5")
		}
	case jsoniter.BoolValue:
		n.kind, n.text = isBool, "false"
		if p.iter.ReadBool() {
			n.text = "true"
		}
		p.end = p.read
		if p.iter.Error != nil {
			return p.fail(n.at, "want true or false")
		}
	case jsoniter.NilValue:
		p.iter.ReadNil()
		p.end = p.read
		if p.iter.Error != nil {
			return p.fail(n.at, "want null")
		}
	case jsoniter.ArrayValue:
		return p.array(n, depth)
	case jsoniter.ObjectValue:
		return p.object(n, depth)
	default:
		return p.unexpected("want a value: a string in double quotes, a number, true, false, null, [ or {")
	}
	return n
}

func (p *jsonParser) array(n *node, depth int) *node {
	n.kind = isArray
	for first := true; ; first = false {
		// Checked here, since the iterator takes [ and null where only a comma may stand.
		if c := p.next(); !first && c != ',' && c != ']' {
			return p.unexpected("want , or ]")
		}
		more := p.iter.ReadArray()
		p.end++ // the bracket or the comma
		if !more {
			if first { // [ ]
				p.next()
				p.end++
			}
			return n
		}
		item := p.value(depth + 1)
		if item == nil {
			return nil
		}
		n.items = append(n.items, item)
	}
}

func (p *jsonParser) object(n *node, depth int) *node {
	n.kind = isObject
	seen := map[string]int{}
	for first := true; ; first = false {
		c := p.next()
		if !first && c != ',' && c != '}' {
			return p.unexpected("want , or }")
		}
		p.end++ // the brace or the comma
		at, closed := p.end-1, c == '}'
		if !closed {
			c = p.next()
			at, closed = p.end, first && c == '}'
		}
		if closed {
			p.iter.ReadObject()
			p.end = p.read
			return n
		}
		if c != '"' {
			return p.unexpected("want a key in double quotes")
		}
		key := p.iter.ReadObject()
		p.end = p.read
		if p.iter.Error != nil || !wellFormed(p.data[at:stringEnd(p.data, at)]) {
			return p.fail(at, "want a key in double quotes, then a colon")
		}
		settings := (key == "config" || key == "vm_config") && depth > 1
		if settings {
			p.private++
		}
		value := p.value(depth + 1)
		if value == nil {
			return nil
		}
		if settings {
			p.private--
		}
		if before, ok := seen[key]; ok {
			shown := quoted(key)
			if p.private > 0 {
				shown = ""
			}
			p.faults = append(p.faults, fault{
				from: p.doc.origin(at), path: shown, want: "a key that is already at " + p.doc.origin(before).position(),
			})
			continue
		}
		seen[key] = at
		n.members = append(n.members, pair{key, at, value})
	}
}

// stringEnd returns the offset behind the string that begins at offset at.
func stringEnd(data []byte, at int) int {
	for i := at + 1; i < len(data); i++ {
		switch data[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(data)
}

// wellFormed checks what the iterator does not: a string's control characters and its encoding.
func wellFormed(raw []byte) bool {
	return utf8.Valid(raw) && bytes.IndexFunc(raw, func(r rune) bool { return r < ' ' }) < 0
}
