package proxywasm

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the generated documents anew")

// TestHostcallDocs keeps the matrix of docs/plugins.md as the code has it, and wants each hostcall and callback that does
// something in a vector. (Those that are not implemented have one together.)
func TestHostcallDocs(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []byte
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		vectors = append(vectors, text...)
	}
	vector := func(name string, support Support) {
		if support != Unimplemented && name != memoryGrowth && !regexp.MustCompile(`\b`+name+`\b`).Match(vectors) {
			t.Errorf("%s has no vector", name)
		}
	}
	var doc strings.Builder
	doc.WriteString("| hostcall | | |\n| --- | --- | --- |\n")
	for _, h := range Hostcalls() {
		vector(h.Name, h.Support)
		fmt.Fprintf(&doc, "| `%s` | %s | %s |\n", h.Name, h.Support, h.Note)
	}
	doc.WriteString("\n| callback | | |\n| --- | --- | --- |\n")
	for _, c := range Callbacks() {
		vector(c.Name, c.Support)
		fmt.Fprintf(&doc, "| `%s` | %s | %s |\n", c.Name, c.Support, c.Note)
	}
	const path, begin, end = "../../docs/plugins.md", "<!-- proxy-wasm: begin; make docs writes what follows -->\n", "<!-- proxy-wasm: end -->\n"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the matrix", path)
	}
	want := before + begin + doc.String() + end + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(page) != want {
		t.Errorf("%s is not what the hostcalls give; run make docs", path)
	}
}
