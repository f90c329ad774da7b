package main

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// shape is what a configuration may look like, read once off the tags of document and the structs in it. Reading
// JSON, naming variables, setting values and showing them all follow it.
type shape struct {
	kind    shapeKind
	name    string       // of an object: its section or its Go type, the key of foreignKeys and laterKeys
	typ     reflect.Type // of the Go value; a section has its enclosing struct's
	members []*member    // of an object
	elem    *shape       // of a list or a dict
	short   *member      // of a list: the key that an element stands for which is no object; nil: there are none
	leaf    *leaf        // of a leaf; of a dict of strings, what a variable is converted by
}

type shapeKind uint8

const (
	objectShape shapeKind = iota
	listShape             // an array of objects
	dictShape             // an object whose keys are free
	leafShape             // one value, or an array of strings
)

type member struct {
	key, alias string
	prefix     string // before the variables of what is inside
	index      []int  // the Go field; nil for a section, which has none
	shape      *shape
}

// leaf is a value that no further key leads into.
type leaf struct {
	typ      reflect.Type
	owner    reflect.Type // the struct that has it
	index    []int        // its field there
	name     string       // of the field
	variable string       // its env tag
	bounds   string       // its range tag
	unit     float64      // nanoseconds or bytes of a bare number
	unitName string
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[proxy.Size]()
	secretType   = reflect.TypeFor[proxy.Secret]()
	switchType   = reflect.TypeFor[*bool]()
	providerType = reflect.TypeFor[proxy.Provider]()
	keyType      = reflect.TypeFor[proxy.Key]()
	pluginType   = reflect.TypeFor[proxy.Plugin]()
	settingsType = reflect.TypeFor[proxy.Settings]()
)

// units of a bare number, by the ending of its key.
var units = []struct {
	ending, name string
	unit         float64
}{
	{"_in_seconds", "seconds", float64(time.Second)},
	{"_ms", "milliseconds", float64(time.Millisecond)},
	{"_mb", "MiB", 1 << 20},
	{"_kb", "KiB", 1 << 10},
}

// secret reports whether the value must never be shown.
func (l *leaf) secret() bool { return l.typ == secretType }

// private reports whether a fault must not show the value: a secret, or a header or a plugin's settings, which may hold
// one.
func (l *leaf) private() bool {
	return l.secret() || l.typ == settingsType || l.typ.Kind() == reflect.Map || l.variable == ""
}

var rootShape = structShape(reflect.TypeFor[document]())

func structShape(t reflect.Type) *shape {
	sh := &shape{kind: objectShape, name: strings.ToLower(t.Name()), typ: t}
	sh.addFields(t, nil)
	return sh
}

// addFields adds t's fields; at leads to t from the struct that sh stands for.
func (sh *shape) addFields(t reflect.Type, at []int) {
	for i := range t.NumField() {
		field := t.Field(i)
		index := append(slices.Clip(at), i)
		key := field.Tag.Get("json")
		switch {
		case field.Anonymous:
			sh.addFields(field.Type, index)
		case key == "" || key == "-":
		default:
			into := sh
			if section := field.Tag.Get("section"); section != "" {
				into = sh.section(section)
			}
			into.members = append(into.members, &member{
				key: key, alias: field.Tag.Get("alias"), prefix: field.Tag.Get("envPrefix"), index: index, shape: fieldShape(t, field),
			})
		}
	}
}

// section returns the wrapper object called key, made at its first field.
func (sh *shape) section(key string) *shape {
	if m := sh.member(key); m != nil {
		return m.shape
	}
	m := &member{key: key, shape: &shape{kind: objectShape, name: key, typ: sh.typ}}
	if key == "client" {
		m.alias = "config" // Bifrost's other name for it
	}
	sh.members = append(sh.members, m)
	return m.shape
}

func fieldShape(owner reflect.Type, field reflect.StructField) *shape {
	t := field.Type
	switch {
	case t.Kind() == reflect.Struct:
		return structShape(t)
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		sh := &shape{kind: listShape, typ: t, elem: structShape(t.Elem())}
		sh.short = sh.elem.member(field.Tag.Get("short"))
		return sh
	case t.Kind() == reflect.Map && t.Elem().Kind() == reflect.Struct:
		return &shape{kind: dictShape, typ: t, elem: structShape(t.Elem())}
	}
	l := &leaf{typ: t, owner: owner, index: field.Index, name: field.Name, variable: field.Tag.Get("env"), bounds: field.Tag.Get("range")}
	switch t {
	case durationType:
		l.unit, l.unitName = float64(time.Second), "seconds"
	case sizeType:
		l.unit, l.unitName = 1, "bytes"
	}
	for _, u := range units {
		if l.unit != 0 && strings.HasSuffix(field.Tag.Get("json"), u.ending) {
			l.unit, l.unitName = u.unit, u.name
		}
	}
	if t.Kind() == reflect.Map {
		elem := &leaf{typ: t.Elem(), owner: owner, index: field.Index, name: field.Name}
		return &shape{kind: dictShape, typ: t, leaf: l, elem: &shape{kind: leafShape, typ: t.Elem(), leaf: elem}}
	}
	return &shape{kind: leafShape, typ: t, leaf: l}
}

// member returns the member that key or alias names, or nil.
func (sh *shape) member(key string) *member {
	for _, m := range sh.members {
		if m.key == key || m.alias != "" && m.alias == key {
			return m
		}
	}
	return nil
}

// keys returns the keys that may stand in an object.
func (sh *shape) keys() (keys []string) {
	for _, m := range sh.members {
		keys = append(keys, m.key)
	}
	return keys
}

// suggest returns " (did you mean ...?)" for a key that the object does not have: a similar one, or the same one in a
// section of it.
func (sh *shape) suggest(key string) string {
	if len(key) > shownBytes {
		return ""
	}
	for _, m := range sh.members {
		if m.index == nil && m.shape.member(key) != nil {
			return " (did you mean " + m.key + "." + key + "?)"
		}
	}
	return didYouMean(key, sh.keys())
}

// element returns the path segment of a list's element.
func element(i int) string { return "[" + strconv.Itoa(i) + "]" }

// elementIndex reads what element wrote.
func elementIndex(segment string) int {
	i, err := strconv.Atoi(strings.Trim(segment, "[]"))
	if err != nil {
		panic("bug: path segment " + segment)
	}
	return i
}

// join writes a path as faults name it: providers.openai.keys[0].value.
func join(path []string) string {
	var b strings.Builder
	for _, segment := range path {
		if b.Len() > 0 && !strings.HasPrefix(segment, "[") {
			b.WriteByte('.')
		}
		b.WriteString(segment)
	}
	return b.String()
}
