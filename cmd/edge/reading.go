package main

import (
	"bytes"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/edge-proxy/edge/proxy"
)

// setting is one value that a source gives. Settings are put into the document in the order of their sources, so
// objects merge by key.
type setting struct {
	path  []string
	value reflect.Value // invalid for what is only made: a provider, a list's element, or the list, which begins anew
	from  origin
	parts []origin // of the elements, when value is an array from a document
}

// reading turns one document into settings.
type reading struct {
	doc      *text
	environ  map[string]string
	settings []setting
	ignored  []string // paths of foreign keys
	referred []string // the variables that env.NAME names, in ignored parts too
	faults   []fault
}

// read returns what the document says. It is never nil; a document that cannot be read has faults and no settings.
func read(doc *text, environ map[string]string) (r *reading, whole bool) {
	r = &reading{doc: doc, environ: environ}
	root, faults := parse(doc)
	r.faults = faults
	if root == nil {
		return r, false
	}
	r.refer(root)
	r.object(root, rootShape, nil)
	return r, true
}

func (r *reading) fail(at int, path []string, got, want string) {
	r.faults = append(r.faults, fault{from: r.doc.origin(at), path: join(path), got: got, want: want})
}

func (r *reading) set(at int, path []string, value reflect.Value) {
	r.settings = append(r.settings, setting{path: path, value: value, from: r.doc.origin(at)})
}

var reference = regexp.MustCompile(`^env\.([A-Za-z_][A-Za-z0-9_]*)$`)

// refer collects the variables that the tree names.
func (r *reading) refer(n *node) {
	if n.kind == isString {
		if match := reference.FindStringSubmatch(n.text); match != nil {
			r.referred = append(r.referred, match[1])
		}
	}
	for _, item := range n.items {
		r.refer(item)
	}
	for _, m := range n.members {
		r.refer(m.value)
	}
}

// value reads what stands where sh is due. null means not set here.
func (r *reading) value(n *node, sh *shape, path []string) {
	if n.kind == isNull {
		return
	}
	switch sh.kind {
	case objectShape:
		if r.kind(n, isObject, path) {
			r.object(n, sh, path)
		}
	case dictShape:
		if r.kind(n, isObject, path) {
			r.dict(n, sh, path)
		}
	case listShape:
		match := reference.FindStringSubmatch(n.text)
		if sh.short != nil && n.kind == isString && match != nil {
			r.shortList(n, match[1], sh, path)
		} else if r.kind(n, isArray, path) {
			r.list(n, sh, path)
		}
	case leafShape:
		r.leaf(n, sh.leaf, path)
	}
}

// kind checks that a value is of the kind that is due, and does not show it: it may be a secret in the wrong place.
func (r *reading) kind(n *node, due nodeKind, path []string) bool {
	if n.kind != due {
		r.fail(n.at, path, n.kind.String(), due.String())
	}
	return n.kind == due
}

// list reads an array of objects. Elements that are not Edge's take no place in the list; what is said of the others
// names their place in the document.
func (r *reading) list(n *node, sh *shape, path []string) {
	r.set(n.at, path, reflect.Value{})
	taken := 0
	for i, item := range n.items {
		at := append(slices.Clip(path), element(i))
		if sh.elem.typ == pluginType && r.foreignPlugin(item) {
			r.ignored = append(r.ignored, join(at))
			continue
		}
		first := len(r.settings)
		r.set(item.at, at, reflect.Value{})
		if sh.short != nil && item.kind == isString {
			r.leaf(item, sh.short.shape.leaf, append(at, sh.short.key))
		} else if r.kind(item, isObject, at) {
			r.object(item, sh.elem, at)
		}
		for j := first; i != taken && j < len(r.settings); j++ {
			r.settings[j].move(len(path), taken)
		}
		taken++
	}
}

// shortList reads a list from the variable that stands in its place: its elements' short values, separated by commas.
func (r *reading) shortList(n *node, name string, sh *shape, path []string) {
	from := r.doc.origin(n.at)
	from.via = name
	all, err := sh.shortSettings(r.environ[name], path, from)
	if err != nil {
		r.fail(n.at, path, "", "wants the variable "+name+", which is not set, empty or has an empty part")
		return
	}
	r.settings = append(r.settings, all...)
}

// shortSettings are those that make a list of its elements' short values, separated by commas.
func (sh *shape) shortSettings(text string, path []string, from origin) ([]setting, error) {
	all := []setting{{path: path, from: from}}
	for i, part := range strings.Split(text, ",") {
		part = strings.TrimSpace(part)
		value, err := sh.short.shape.leaf.fromText(part)
		if err != nil || part == "" {
			return nil, errUnwanted
		}
		all = append(all, setting{path: append(slices.Clip(path), element(i), sh.short.key), value: value, from: from})
	}
	return all, nil
}

// move puts what s sets into the list's element i; depth is where in the path the element stands.
func (s *setting) move(depth, i int) {
	place := join(s.path[:depth+1])
	s.from.place = place
	for j := range s.parts {
		s.parts[j].place = place
	}
	s.path = slices.Clone(s.path)
	s.path[depth] = element(i)
}

func (r *reading) object(n *node, sh *shape, path []string) {
	seen := map[*member]string{}
	for _, p := range n.members {
		at := append(slices.Clip(path), p.key)
		m := sh.member(p.key)
		switch {
		case m == nil && slices.Contains(foreignKeys[sh.name], p.key):
			r.ignored = append(r.ignored, join(at))
		case m == nil && slices.Contains(laterKeys[sh.name], p.key):
			r.later(at, p.value)
		case m == nil:
			at[len(at)-1] = shortKey(p.key)
			r.fail(p.at, at, "", "unknown key"+sh.suggest(p.key))
		case seen[m] != "":
			r.fail(p.at, at, "", "is another name of "+seen[m]+", which is set too; want one of them")
		default:
			seen[m] = p.key
			at[len(at)-1] = m.key
			r.value(p.value, m.shape, at)
		}
	}
}

// shortKey returns a key that is not ours as a path shows it.
func shortKey(key string) string {
	if len(key) > shownBytes || key == "" || strings.ContainsAny(key, ".[] ") {
		return quoted(key)
	}
	return key
}

func (r *reading) dict(n *node, sh *shape, path []string) {
	for _, p := range n.members {
		at := append(slices.Clip(path), p.key)
		if sh.elem.kind != leafShape {
			// A provider exists even if nothing in it is right, so that what refers to it is no second fault.
			r.set(p.at, at, reflect.Value{})
		}
		r.value(p.value, sh.elem, at)
	}
}

// leaf reads one value, or an array of strings.
func (r *reading) leaf(n *node, l *leaf, path []string) {
	if n.kind == isString {
		if match := reference.FindStringSubmatch(n.text); match != nil {
			r.variable(n, match[1], l, path)
			return
		}
	}
	if l.typ.Kind() == reflect.Slice {
		r.strings(n, l, path)
		return
	}
	if l.typ == settingsType && n.kind != isString {
		var b bytes.Buffer
		r.compact(&b, n, path)
		r.set(n.at, path, reflect.ValueOf(proxy.Settings(b.String())))
		return
	}
	value, err := l.fromNode(n)
	if err != nil {
		got := n.shown()
		if l.private() {
			got = n.kind.String()
		}
		r.fail(n.at, path, got, l.wanted())
		return
	}
	r.set(n.at, path, value)
}

// variable reads the variable that stands in place of a value. What it holds is never shown.
func (r *reading) variable(n *node, name string, l *leaf, path []string) {
	text := r.environ[name]
	if text == "" {
		r.fail(n.at, path, "", "wants the variable "+name+", which is not set or empty")
		return
	}
	value, err := l.fromText(text)
	if err != nil {
		r.fail(n.at, path, "", "want "+l.wanted()+" (the value of "+name+" is not shown)")
		return
	}
	from := r.doc.origin(n.at)
	from.via = name
	r.settings = append(r.settings, setting{path: path, value: value, from: from})
}

// compact writes a value without the space between its parts, all else as it is in the document, but for strings that
// name a variable. A fault has the path of the whole: the keys inside are not Edge's to show.
func (r *reading) compact(b *bytes.Buffer, n *node, path []string) {
	switch n.kind {
	case isNull:
		b.WriteString("null")
	case isBool, isNumber:
		b.WriteString(n.text)
	case isString:
		match := reference.FindStringSubmatch(n.text)
		if match == nil {
			b.Write(r.doc.data[n.at:stringEnd(r.doc.data, n.at)])
			return
		}
		text := r.environ[match[1]]
		if text == "" {
			r.fail(n.at, path, "", "wants the variable "+match[1]+", which is not set or empty")
		}
		b.Write(encode(text))
	case isArray:
		b.WriteByte('[')
		for i, item := range n.items {
			if i > 0 {
				b.WriteByte(',')
			}
			r.compact(b, item, path)
		}
		b.WriteByte(']')
	case isObject:
		b.WriteByte('{')
		for i, m := range n.members {
			if i > 0 {
				b.WriteByte(',')
			}
			b.Write(r.doc.data[m.at:stringEnd(r.doc.data, m.at)])
			b.WriteByte(':')
			r.compact(b, m.value, path)
		}
		b.WriteByte('}')
	}
}

func (r *reading) strings(n *node, l *leaf, path []string) {
	if !r.kind(n, isArray, path) {
		return
	}
	all := reflect.MakeSlice(l.typ, 0, len(n.items))
	var parts []origin
	for i, item := range n.items {
		at := append(slices.Clip(path), element(i))
		if !r.kind(item, isString, at) {
			continue
		}
		text, from := item.text, r.doc.origin(item.at)
		if match := reference.FindStringSubmatch(text); match != nil {
			if text, from.via = r.environ[match[1]], match[1]; text == "" {
				r.fail(item.at, at, "", "wants the variable "+match[1]+", which is not set or empty")
				continue
			}
		}
		all = reflect.Append(all, reflect.ValueOf(text).Convert(l.typ.Elem()))
		parts = append(parts, from)
	}
	r.settings = append(r.settings, setting{path: path, value: all, from: r.doc.origin(n.at), parts: parts})
}
