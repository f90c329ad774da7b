package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// showConfig writes the effective configuration.
func showConfig(inv invocation) int {
	f, code, ok := parseFlags(inv, "config")
	if !ok {
		return code
	}
	doc, prov, faults := configure(f, inv.environ)
	printLines(inv.stderr, "warning: ", prov.warnings)
	if printFaults(inv.stderr, faults) {
		return exitFailed
	}
	if _, err := inv.stdout.Write(effectiveJSON(doc, prov)); err != nil {
		fmt.Fprintln(inv.stderr, "edge config:", err)
		return exitFailed
	}
	return exitOK
}

// effectiveJSON returns the configuration in the shape of a document, each value as {"value":...,"source":...} in the
// unit of its key. Secrets and the values of headers are ***. Behind it stands what the arena costs.
func effectiveJSON(doc document, prov provenance) []byte {
	e := &effective{prov: prov}
	e.write(reflect.ValueOf(doc), rootShape, nil)
	out := bytes.TrimSuffix(e.Bytes(), []byte("\n}"))
	cost := float64(proxy.ArenaBytes(doc.InitialPoolSize)) / (1 << 20)
	return fmt.Appendf(out, ",\n  \"arena\": {\"cost_mib\": %.1f}\n}\n", cost)
}

// effective writes the document's values in the order of its fields.
type effective struct {
	bytes.Buffer
	prov provenance
}

func (e *effective) write(v reflect.Value, sh *shape, path []string) {
	switch sh.kind {
	case objectShape:
		e.list('{', '}', len(sh.members), len(path), func(i int) {
			m := sh.members[i]
			e.key(m.key)
			inner := v // a section has no Go value of its own
			if m.index != nil {
				inner = v.FieldByIndex(m.index)
			}
			e.write(inner, m.shape, append(path, m.key))
		})
	case listShape:
		e.list('[', ']', v.Len(), len(path), func(i int) { e.write(v.Index(i), sh.elem, append(path, element(i))) })
	case dictShape:
		names := slices.Sorted(maps.Keys(byName(v)))
		e.list('{', '}', len(names), len(path), func(i int) {
			e.key(names[i])
			e.write(v.MapIndex(reflect.ValueOf(names[i])), sh.elem, append(path, names[i]))
		})
	case leafShape:
		e.WriteString(`{"value": `)
		e.Write(encode(shownValue(v, sh.leaf)))
		e.WriteString(`, "source": `)
		e.Write(encode(e.prov.origins[join(path)].String()))
		e.WriteByte('}')
	}
}

// list writes n things between brackets, each on its line.
func (e *effective) list(open, closing byte, n, depth int, each func(i int)) {
	indent := "\n" + strings.Repeat("  ", depth)
	e.WriteByte(open)
	for i := range n {
		if i > 0 {
			e.WriteByte(',')
		}
		e.WriteString(indent + "  ")
		each(i)
	}
	if n > 0 {
		e.WriteString(indent)
	}
	e.WriteByte(closing)
}

func (e *effective) key(key string) {
	e.Write(encode(key))
	e.WriteString(": ")
}

// byName returns the keys of a map that has strings for keys.
func byName(v reflect.Value) map[string]bool {
	names := map[string]bool{}
	for _, key := range v.MapKeys() {
		names[key.String()] = true
	}
	return names
}

// shownValue returns a leaf's value as a document has it, masked where it is a secret or a header.
func shownValue(v reflect.Value, l *leaf) any {
	switch x := v.Interface().(type) {
	case time.Duration:
		return float64(x) / l.unit
	case proxy.Size:
		return float64(x) / l.unit
	case string:
		if l.private() && x != "" {
			return "***"
		}
	case []string:
		if x == nil {
			return []string{}
		}
	case *bool:
		return x == nil || *x
	}
	return v.Interface() // a Secret marshals as ***
}

func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("bug: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
