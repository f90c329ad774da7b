package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/configs"
	"github.com/edge-proxy/edge/proxy"
)

var update = flag.Bool("update", false, "write docs/config.md anew")

const docsFile = "../../docs/config.md"

// TestConfigDocs compares docs/config.md with what the structs say; -update writes it.
func TestConfigDocs(t *testing.T) {
	d := docs{sentences: map[string]string{}}
	for _, file := range []string{"document.go", "../../proxy/config.go", "../../proxy/provider.go", "../../proxy/plugin.go", "../../proxy/admin/config.go"} {
		if err := d.parse(file); err != nil {
			t.Fatal(err)
		}
	}
	want := d.page(t)
	if *update {
		if err := os.WriteFile(docsFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the structs say; run go test ./cmd/edge -run TestConfigDocs -update", docsFile)
	}
}

// docs makes the page of all keys.
type docs struct {
	bytes.Buffer
	sentences map[string]string // by package.Type.Field: the first paragraph of the field's comment
	missing   []string
}

func (d *docs) parse(file string) error {
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if fields, ok := spec.Type.(*ast.StructType); ok {
			for _, field := range fields.Fields.List {
				for _, name := range field.Names {
					first, _, _ := strings.Cut(field.Doc.Text(), "\n\n")
					d.sentences[tree.Name.Name+"."+spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(first), " ")
				}
			}
		}
		return false
	})
	return nil
}

const docsIntro = `# Configuration

Generated from the structs in ` + "`cmd/edge/document.go`, `proxy/config.go`, `proxy/provider.go`, `proxy/plugin.go` and `proxy/admin/config.go`" + `; ` + "`go test ./cmd/edge -run TestConfigDocs -update`" + ` writes it anew.

A value is taken from the highest source that gives it: default < profile < JSON file (` + "`-config FILE` or `EDGE_CONFIG`" + `)
< ` + "`EDGE_CONFIG_JSON`" + ` (a whole document in one variable) < ` + "`EDGE_*`" + ` variables < flags (` + "`-listen`, `-admin`" + `). Objects merge by
key; an array of a higher source replaces. ` + "`edge config`" + ` shows every value with its source, ` + "`edge validate`" + ` all faults at once.

- **Durations** are ` + "`30s`, `500ms`, `1m30s`" + ` or a bare number in the unit below; **sizes** are ` + "`64MiB`, `16KiB`" + ` or a bare number in the
  unit below. Fractions are allowed.
- **Lists** of strings are arrays in JSON and separated by commas in a variable. ` + "`<N>`" + ` in a variable is the index of a list's
  element, from 0: it edits that element, or adds the next one.
- **Secrets**: every variable of type secret has a twin that ends in ` + "`_FILE`" + ` and names a file with it, whose last newline does not
  count. A secret is never shown.
- **` + "`env.NAME`" + `**: a JSON string that is exactly this is replaced by that variable, which must be set. ` + "`null`" + ` means not set here.
- **An empty variable** counts as unset; an empty secret is a fault. So is an unknown ` + "`EDGE_`" + ` variable, an unknown key, a key of
  the wrong case and a duplicate key.
- **` + "`<NAME>`" + `** is the provider's name in capitals, with _ for what is neither letter nor digit. A name that no document has becomes a
  new provider, in lower case.
- **Known providers** need no base_url: %s.
  Without keys, one takes its usual variable, such as OPENAI_API_KEY; with no provider configured at all, each one whose variable
  is set is on.
- **Kubernetes' service links** for a Service called edge (EDGE_SERVICE_HOST, EDGE_PORT_8080_TCP and so on) are skipped, and so is
  what begins with EDGE_TEST_.
- A Bifrost config.json loads; its keys that Edge does not have cost one warning. ` + "`config`" + ` is another name of ` + "`client`" + `,
  ` + "`retry_backoff_initial` and `retry_backoff_max`" + ` of the keys with _ms.

`

func (d *docs) page(t *testing.T) []byte {
	defaults := defaultDocument()
	fmt.Fprintf(d, docsIntro, wrap(strings.Join(proxy.KnownNames(), ", "), 100, "  "))
	d.heading("Keys")
	d.rows(reflect.ValueOf(defaults), rootShape, nil, variablePrefix)
	d.WriteString("\n`EDGE_CONCURRENCY` and `EDGE_BUFFER_SIZE` are `EDGE_PROVIDER_DEFAULTS_CONCURRENCY` and `EDGE_PROVIDER_DEFAULTS_BUFFER_SIZE`.\n\n")
	d.heading("A provider")
	d.WriteString("`provider_defaults` has the same keys, with `EDGE_PROVIDER_DEFAULTS_` before its variables. `EDGE_PROVIDERS_<NAME>_API_KEY` is\n`EDGE_PROVIDERS_<NAME>_KEYS_0_VALUE`.\n\n")
	d.head()
	d.rows(reflect.ValueOf(defaults.ProviderDefaults), rootShape.member("providers").shape.elem, []string{"providers", "<name>"}, "EDGE_PROVIDERS_<NAME>_")
	d.WriteByte('\n')
	d.plugins(t)
	d.profiles(t)
	for _, name := range d.missing {
		t.Errorf("%s has no comment", name)
	}
	return d.Bytes()
}

func (d *docs) heading(text string) {
	d.WriteString("## " + text + "\n\n")
	if text == "Keys" {
		d.head()
	}
}

func (d *docs) head() {
	d.WriteString("| key | variable | type | default | range | |\n| --- | --- | --- | --- | --- | --- |\n")
}

func (d *docs) rows(v reflect.Value, sh *shape, path []string, prefix string) {
	switch {
	case sh.leaf != nil:
		d.row(v, sh, path, prefix+sh.leaf.variable)
	case sh.kind == listShape:
		elem := reflect.Zero(sh.elem.typ)
		switch sh.elem.typ {
		case keyType:
			elem = reflect.ValueOf(proxy.DefaultKey())
		case pluginType:
			elem = reflect.ValueOf(proxy.DefaultPlugin())
		}
		at := append(path[:len(path)-1:len(path)-1], path[len(path)-1]+"[]")
		if sh.short != nil {
			d.short(sh, at, prefix)
		}
		d.rows(elem, sh.elem, at, prefix+"_<N>_")
	case sh.kind == objectShape && len(path) > 0 && path[0] == "provider_defaults":
	case sh.kind == objectShape:
		for _, m := range sh.members {
			inner := v
			if m.index != nil {
				inner = v.FieldByIndex(m.index)
			}
			d.rows(inner, m.shape, append(slices.Clip(path), m.key), prefix+m.prefix)
		}
	}
}

// short is the row of a list's variable that has its elements' short values.
func (d *docs) short(sh *shape, at []string, variable string) {
	fmt.Fprintf(d, "| `%s` | `%s` | list of %ss |  |  | Each element's %s alone. |\n", join(at), variable, strings.ToLower(sh.short.shape.leaf.typ.Name()), sh.short.key)
}

func (d *docs) row(v reflect.Value, sh *shape, at []string, variable string) {
	l := sh.leaf
	pkg := path.Base(l.owner.PkgPath())
	if pkg == "edge" {
		pkg = "main"
	}
	field := pkg + "." + l.owner.Name() + "." + l.name
	sentence := d.sentences[field]
	if sentence == "" {
		d.missing = append(d.missing, field)
	}
	kind, shown := l.typ.Kind().String(), fmt.Sprint(v.Interface())
	switch {
	case l.typ == durationType:
		kind, shown = "duration, "+l.unitName, v.Interface().(time.Duration).String()
		if minutes, ok := strings.CutSuffix(shown, "m0s"); ok {
			shown = minutes + "m"
		}
	case l.typ == sizeType:
		kind = "size, " + l.unitName
	case l.secret():
		kind = "secret"
	case l.typ == switchType:
		kind, shown = "bool", "true"
	case l.typ == settingsType:
		kind = "any value"
	case l.typ.Kind() == reflect.Slice:
		kind, shown = "list of strings", strings.Join(v.Interface().([]string), ", ")
	case l.typ.Kind() == reflect.Map:
		kind = "strings by name"
	case l.typ.Kind() == reflect.Float64:
		kind = "number"
	}
	if v.IsZero() && (l.typ.Kind() == reflect.Slice || l.typ.Kind() == reflect.Map || l.typ.Kind() == reflect.String) {
		shown = ""
	}
	bounds := strings.ReplaceAll(strings.Replace(strings.TrimPrefix(l.bounds, "|"), "..", " to ", 1), "|", ", ")
	fmt.Fprintf(d, "| `%s` | `%s` | %s | %s | %s | %s |\n", join(at), variable, kind, shown, bounds, strings.ReplaceAll(sentence, "|", `\|`))
}

const docsPlugins = `## Plugins

A plugin is a WASM module with its settings. Routes name plugins that run before admission, providers name plugins that run after
it; one module may be several plugins. No path may be a URL in this version.

%s

In variables:

%s

- **` + "`path`" + `** begins at the folder of the JSON file that gives it; one from ` + "`EDGE_CONFIG_JSON`" + `, from another variable or by
  ` + "`env.NAME`" + `, at the working directory. Modules are read once, at start and by ` + "`edge validate` and `edge config`" + `.
- **` + "`config`" + `** is given to the guest as bytes: those of a string, nothing for null, else the JSON text without the space between its
  parts, numbers and strings as they are written. Strings inside that are exactly ` + "`env.NAME`" + ` are replaced, too. What a variable
  ` + "`EDGE_PLUGINS_<N>_CONFIG`" + ` holds is given as it stands. It is shown as ***, since it may hold credentials. All this
  is true of ` + "`vm_config`" + `, too.
- **A route** may do without ` + "`provider`" + ` when it has plugins: they are added to the built-in route that a request matches. A plugin of a
  route that sees answers needs ` + "`max_instances`" + ` if it is built for http-wasm, where an instance serves one request
  at a time.
- **An element of ` + "`plugins`" + `** that has the key ` + "`enabled`" + `, or no path that ends in .wasm or begins with https:// or oci://, is
  Bifrost's: it is ignored, takes no place in the list, and costs a warning. So does a plugin that nothing names.

`

// The example of docs/config.md, in JSON and in variables.
const (
	docsPluginsJSON = `{
  "providers": { "openai": { "plugins": ["redact"] } },
  "routes": [{ "path": "/v1/*", "plugins": ["check-key"] }],
  "plugins": [
    { "name": "redact", "path": "plugins/redact.wasm", "config": { "fields": ["ssn"] }, "timeout_ms": 50 },
    { "name": "check-key", "path": "plugins/check-key.wasm", "config": { "key": "env.CHECK_KEY" }, "phases": ["request"] }
  ]
}`
	docsPluginsVariables = `EDGE_PROVIDERS_OPENAI_PLUGINS=redact
EDGE_ROUTES_0_PATH=/v1/*
EDGE_ROUTES_0_PLUGINS=check-key
EDGE_PLUGINS_0_NAME=redact
EDGE_PLUGINS_0_PATH=plugins/redact.wasm
EDGE_PLUGINS_0_CONFIG={"fields":["ssn"]}
EDGE_PLUGINS_0_TIMEOUT=50ms
EDGE_PLUGINS_1_NAME=check-key
EDGE_PLUGINS_1_PATH=plugins/check-key.wasm
EDGE_PLUGINS_1_CONFIG={"key":"change-me"}
EDGE_PLUGINS_1_PHASES=request`
)

// plugins writes what the table of keys does not say of plugins. Both examples must load, to the same plugins.
func (d *docs) plugins(t *testing.T) {
	fromJSON, prov, lines := loadText(docsPluginsJSON, environment{"CHECK_KEY": "change-me"})
	environ := environment{}
	for line := range strings.Lines(docsPluginsVariables) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		environ[name] = value
	}
	fromVariables, _, more := loadText("", environ)
	for _, line := range slices.Concat(lines, more, prov.warnings) {
		t.Errorf("the example of plugins: %s", line)
	}
	equal(t, "the example in variables", fromVariables.Config, fromJSON.Config)
	fmt.Fprintf(d, docsPlugins, "```json\n"+docsPluginsJSON+"\n```", "```ini\n"+docsPluginsVariables+"\n```")
}

// profiles writes what each profile changes.
func (d *docs) profiles(t *testing.T) {
	d.WriteString("## Profiles\n\nWhat each profile sets, as `configs/<profile>.json` has it; all else is as above.\n\n| key |")
	var keys []string
	values := map[string]string{}
	for _, name := range configs.Profiles() {
		d.WriteString(" " + name + " |")
		data, _ := configs.Profile(name)
		r, ok := read(&text{rank: fromProfile, name: name, data: data}, nil)
		if !ok || len(r.faults) > 0 {
			t.Fatalf("profile %s: %v", name, r.faults)
		}
		for _, s := range r.settings {
			path := join(s.path)
			if values[path] == "" {
				keys = append(keys, path)
				values[path] = "x"
			}
			values[path+" "+name] = fmt.Sprint(s.value.Interface())
		}
	}
	d.WriteString("\n|" + strings.Repeat(" --- |", 1+len(configs.Profiles())) + "\n")
	for _, key := range keys {
		d.WriteString("| `" + key + "` |")
		for _, name := range configs.Profiles() {
			d.WriteString(" " + values[key+" "+name] + " |")
		}
		d.WriteByte('\n')
	}
}
