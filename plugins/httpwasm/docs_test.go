package httpwasm

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/api"
)

var update = flag.Bool("update", false, "write the generated documents anew")

// notes say of a host function what its name does not.
var notes = map[string]string{
	"enable_features":      "at the start for every request, in handle_request for this one; returns all that are on",
	"get_config":           "the plugin's `config`",
	"log":                  "within `log_lines_per_second`",
	"set_method":           "in handle_request",
	"get_uri":              "as on the wire",
	"set_uri":              "in handle_request; begins with `/` or `?`",
	"get_header_names":     "lower case, each once",
	"get_header_values":    "kinds: 0 request, 1 answer, 2 and 3 their trailers",
	"set_header_value":     "the request's in handle_request; the answer's there too, or with buffer_response",
	"add_header_value":     "as set_header_value",
	"remove_header":        "as set_header_value",
	"read_body":            "the answer's with buffer_response; the request's in handle_response with buffer_request",
	"write_body":           "the first call of a phase replaces, later ones append",
	"get_status_code":      "also without buffer_response",
	"set_status_code":      "200 to 999",
	"get_protocol_version": "the caller's",
	"get_source_addr":      "the caller's, with its port",
}

// TestHostFunctionDocs keeps the table of docs/plugins.md as the code has it, and wants each function in a vector.
func TestHostFunctionDocs(t *testing.T) {
	var vectors []byte
	for _, file := range []string{"vectors_test.go", "body_test.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		vectors = append(vectors, text...)
	}
	types := func(list []api.ValueType) string {
		var names []string
		for _, one := range list {
			names = append(names, api.ValueTypeName(one))
		}
		return strings.Join(names, ", ")
	}
	var doc strings.Builder
	doc.WriteString("| `http_handler` | parameters | result | |\n| --- | --- | --- | --- |\n")
	for _, f := range hostFunctions {
		if !regexp.MustCompile(`\b` + f.name + `\b`).Match(vectors) {
			t.Errorf("%s has no vector", f.name)
		}
		early := ""
		if f.early {
			early = "also while the instance starts; "
		}
		fmt.Fprintf(&doc, "| `%s` | %s | %s | %s |\n", f.name, types(f.params), types(f.results), strings.TrimSuffix(early+notes[f.name], "; "))
	}
	const path, begin, end = "../../docs/plugins.md", "<!-- http-wasm: begin; make docs writes what follows -->\n", "<!-- http-wasm: end -->\n"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", path)
	}
	want := before + begin + doc.String() + end + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(page) != want {
		t.Errorf("%s is not what the host functions give; run make docs", path)
	}
}
