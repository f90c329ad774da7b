package main

import (
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"github.com/edge-proxy/edge/proxy"
)

var errUnwanted = errors.New("not what the leaf takes") // never shown: wanted words it

// fromText converts what a variable or a file says. The conversion is env/v11's, one value at a time into a struct of
// its own, so that whatever it refuses is this value.
func (l *leaf) fromText(text string) (reflect.Value, error) {
	owner := reflect.New(l.owner)
	variable := l.variable
	if k := l.typ.Kind(); k == reflect.Slice || k == reflect.Map {
		parts := strings.Split(text, ",")
		for i, part := range parts {
			if name, value, ok := strings.Cut(part, ":"); ok && k == reflect.Map {
				part = strings.TrimSpace(name) + ":" + strings.TrimSpace(value)
			}
			if parts[i] = strings.TrimSpace(part); parts[i] == "" {
				return reflect.Value{}, errUnwanted
			}
		}
		text = strings.Join(parts, ",")
	}
	if variable == "" { // one header of extra_headers, which has no variable of its own
		return reflect.ValueOf(text).Convert(l.typ), nil
	}
	err := env.ParseWithOptions(owner.Interface(), env.Options{
		Environment: map[string]string{variable: text},
		FuncMap: map[reflect.Type]env.ParserFunc{
			reflect.TypeFor[bool](): parseBool,
			switchType: func(s string) (any, error) {
				on, err := parseBool(s)
				b, _ := on.(bool)
				return &b, err
			},
			reflect.TypeFor[int](): func(s string) (any, error) { return strconv.Atoi(s) }, // env/v11's own has 32 bits
			secretType:             func(s string) (any, error) { return proxy.Secret(s), nil },
			durationType:           func(s string) (any, error) { return l.duration(s) },
			sizeType:               func(s string) (any, error) { return l.size(s) },
		},
	})
	if err != nil {
		return reflect.Value{}, errUnwanted
	}
	return owner.Elem().FieldByIndex(l.index), nil
}

// fromNode converts what a document says.
func (l *leaf) fromNode(n *node) (reflect.Value, error) {
	value := reflect.New(l.typ).Elem()
	err := errUnwanted
	switch {
	case l.typ == durationType && (n.kind == isNumber || n.kind == isString):
		var d time.Duration
		d, err = l.duration(n.text)
		value.SetInt(int64(d))
	case l.typ == sizeType && (n.kind == isNumber || n.kind == isString):
		var s proxy.Size
		s, err = l.size(n.text)
		value.SetInt(int64(s))
	case l.typ.Kind() == reflect.String && n.kind == isString:
		value.SetString(n.text)
		err = nil
	case l.typ.Kind() == reflect.Bool && n.kind == isBool:
		value.SetBool(n.text == "true")
		err = nil
	case l.typ == switchType && n.kind == isBool:
		value.Set(reflect.ValueOf(new(n.text == "true")))
		err = nil
	case l.typ.Kind() == reflect.Int && n.kind == isNumber:
		var i int64
		i, err = strconv.ParseInt(n.text, 10, strconv.IntSize)
		value.SetInt(i)
	case l.typ.Kind() == reflect.Float64 && n.kind == isNumber:
		var f float64
		f, err = strconv.ParseFloat(n.text, 64)
		value.SetFloat(f)
	}
	return value, err
}

// wanted words what the leaf takes.
func (l *leaf) wanted() string {
	bounds := strings.Replace(l.bounds, "..", " to ", 1)
	switch l.typ {
	case durationType:
		return joinNonEmpty(", ", "a duration such as 30s or a number of "+l.unitName, bounds)
	case sizeType:
		return joinNonEmpty(", ", "a size such as 64MiB or a number of "+l.unitName, bounds)
	}
	switch l.typ.Kind() {
	case reflect.Bool, reflect.Pointer:
		return "true or false"
	case reflect.Int:
		return joinNonEmpty(", ", "a whole number", bounds)
	case reflect.Float64:
		return joinNonEmpty(", ", "a number", bounds)
	case reflect.Slice:
		return "strings: an array in JSON, separated by commas in a variable"
	case reflect.Map:
		return "strings by name: an object in JSON, name:value separated by commas in a variable"
	}
	return "a string"
}

func parseBool(text string) (any, error) {
	switch strings.ToLower(text) {
	case "true", "1", "yes", "on":
		return true, nil
	case "false", "0", "no", "off":
		return false, nil
	}
	return nil, errUnwanted
}

// duration reads 30s, 500ms or 1m30s, and a bare number in the leaf's unit.
func (l *leaf) duration(text string) (time.Duration, error) {
	if !jsonNumber.MatchString(text) {
		return time.ParseDuration(text)
	}
	f, err := strconv.ParseFloat(text, 64)
	if nanos := math.Round(f * l.unit); err == nil && math.Abs(nanos) < 1<<62 {
		return time.Duration(nanos), nil
	}
	return 0, errUnwanted
}

// size reads 64MiB and the like, and a bare number in the leaf's unit. ParseSize takes whatever ParseFloat does, NaN
// included; a size begins with a digit.
func (l *leaf) size(text string) (proxy.Size, error) {
	if text == "" || text[0] < '0' || text[0] > '9' {
		return 0, errUnwanted
	}
	return proxy.ParseSize(text, proxy.Size(l.unit))
}
