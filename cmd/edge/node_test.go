package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func parseText(data string) (*node, []string) {
	root, faults := parse(&text{rank: fromFile, name: "f", data: []byte(data)})
	var lines []string
	for _, f := range faults {
		lines = append(lines, f.String())
	}
	return root, lines
}

func TestParseNamesPlace(t *testing.T) {
	f := func(data, want string) {
		t.Helper()
		root, lines := parseText(data)
		if root != nil || len(lines) != 1 || lines[0] != want {
			t.Errorf("%.80q:\n got %q\nwant %q", data, lines, want)
		}
	}
	const value = "want a value: a string in double quotes, a number, true, false, null, [ or {"
	f("", "f:1:1: "+value+", but the document ends")
	f("{", "f:1:2: want a key in double quotes, but the document ends")
	f("[1]", "f:1:1: want an object, { ... }")
	f("{\n  \"a\": 1,\n}", "f:3:1: want a key in double quotes")
	f("{\n  \"a\": [1,\n]}", "f:3:1: "+value)
	f("{\"a\": [1 2]}", "f:1:10: want , or ]")
	f("{\"a\": [[1] [2]]}", "f:1:12: want , or ]")
	f("{\"a\": [1 null]}", "f:1:10: want , or ]")
	f("{\"a\": {\"b\":1} {\"c\":1}}", "f:1:15: want , or }")
	f("{\"a\": 1 null}", "f:1:9: want , or }")
	f("{\"a\": 1, null: 2}", "f:1:10: want a key in double quotes")
	f("{\"a\" 1}", "f:1:2: want a key in double quotes, then a colon")
	f("{\"a\": tru}", "f:1:7: want true or false")
	f("{\"a\": nul}", "f:1:7: want null")
	f("{\"a\": 01}", "f:1:7: want a number as JSON writes it, such as 10 or 0.5")
	f("{\"a\": 1.}", "f:1:7: want a number as JSON writes it, such as 10 or 0.5")
	f("{\"a\": +1}", "f:1:7: "+value)
	f("{\"a\": 'x'}", "f:1:7: "+value+" (strings take double quotes)")
	f("{ // note\n}", "f:1:3: want a key in double quotes (JSON has no comments)")
	f("{\"a\": 1 // note\n}", "f:1:9: want , or } (JSON has no comments)")
	f("{\"a\": \"x\n\"}", "f:1:7: want a string that ends on its line, in UTF-8, with the escapes that JSON has")
	f("{\"a\": \"\xff\"}", "f:1:7: want a string that ends on its line, in UTF-8, with the escapes that JSON has")
	f("{\"a\": \"\\x\"}", "f:1:7: want a string that ends on its line, in UTF-8, with the escapes that JSON has")
	f("{\"a\": \"x", "f:1:7: want a string that ends on its line, in UTF-8, with the escapes that JSON has")
	f("{\"a\n\": 1}", "f:1:2: want a key in double quotes, then a colon")
	f("{} {}", "f:1:4: want nothing after the document's end")
	f("{\"a\":"+strings.Repeat("[", 70), "f:1:69: nested deeper than 64")
	f(strings.Repeat(" ", maxDocumentBytes+1), "f:1:1: the document is larger than 16 MiB")
	f("{\"a\":["+strings.Repeat("1,", maxValues)+"1]}", "f:1:2097155: the document has more than 1048576 values")
}

func TestParseKeepsValuesAndPlaces(t *testing.T) {
	root, lines := parseText("\ufeff{\n \"a\" : [1, -2.5e3, true , false, null, \"x\\u00e9\\n\", [] , {}],\n\t\"\": {\"b\" :\"c\"} }\n")
	if root == nil || len(lines) > 0 {
		t.Fatalf("got faults %q", lines)
	}
	type want struct {
		kind nodeKind
		text string
		at   string
	}
	doc := &text{rank: fromFile, name: "f", lines: []int{0, 2, 70}}
	for i, w := range []want{
		{isNumber, "1", "f:2:9"},
		{isNumber, "-2.5e3", "f:2:12"},
		{isBool, "true", "f:2:20"},
		{isBool, "false", "f:2:27"},
		{isNull, "", "f:2:34"},
		{isString, "xé\n", "f:2:40"},
		{isArray, "", "f:2:53"},
		{isObject, "", "f:2:58"},
	} {
		n := root.members[0].value.items[i]
		if got := (want{n.kind, n.text, doc.origin(n.at).position()}); got != w {
			t.Errorf("item %d: got %v, want %v", i, got, w)
		}
	}
	if p := root.members[1]; p.key != "" || p.value.members[0].key != "b" || p.value.members[0].value.text != "c" {
		t.Errorf("the member with the empty key: got %+v", p)
	}
}

func TestParseReportsDuplicatesAndGoesOn(t *testing.T) {
	root, lines := parseText("{\"a\":1,\n\"a\":2,\"b\":{\"c\":1,\"\\u0063\":2}}")
	want := []string{`f:2:1: "a": a key that is already at f:1:2`, `f:2:18: "c": a key that is already at f:2:12`}
	if root == nil || strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, want %q", lines, want)
	}
	if len(root.members) != 2 || root.members[0].value.text != "1" {
		t.Errorf("got %+v, want the first of the two", root.members)
	}
}

// FuzzParse compares with encoding/json: a document is read exactly when it is an object in JSON and UTF-8.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":[1,2,{"b":null}],"c":"\ud83d\ude00\n"}`, `{"a":1e5,}`, "{\"a\":\"\x01\"}", `{"a":-0.0}`, `[{}]`, `{"a":[[]]} x`, `{null:1}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if deep(data) {
			return
		}
		root, _ := parse(&text{rank: fromFile, name: "f", data: bytes.Clone(data)})
		data = bytes.TrimPrefix(data, []byte("\ufeff"))
		first := bytes.TrimLeft(data, " \t\r\n")
		want := json.Valid(data) && utf8.Valid(data) && len(first) > 0 && first[0] == '{'
		if (root != nil) != want {
			t.Errorf("%q: read %v, want %v", data, root != nil, want)
		}
	})
}

// deep reports whether data may nest deeper than parse goes.
func deep(data []byte) bool {
	return bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) > maxDepth-2
}
