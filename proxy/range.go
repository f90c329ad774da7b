package proxy

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes. Written out it takes the largest binary unit that divides it.
type Size int64

func (s Size) String() string {
	units := []string{"", "KiB", "MiB", "GiB", "TiB"}
	n, u := int64(s), 0
	for n != 0 && n%1024 == 0 && u < len(units)-1 {
		n, u = n/1024, u+1
	}
	return strconv.FormatInt(n, 10) + units[u]
}

// ParseSize reads 4096, 64KiB, 64MiB, 1GiB, 1TiB, and 64KB or 64MB, which mean the same here. Without a
// unit the number is multiplied by unit.
func ParseSize(text string, unit Size) (Size, error) {
	number, scale := strings.TrimSpace(text), unit
	for i, u := range []string{"K", "M", "G", "T"} {
		for _, suffix := range []string{u + "iB", u + "B", u} {
			if head, ok := strings.CutSuffix(number, suffix); ok && scale == unit {
				number, scale = strings.TrimSpace(head), Size(1)<<(10*(i+1))
			}
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(n) || n < 0 || n*float64(scale) >= 1<<62 {
		return 0, fmt.Errorf("proxy: %q is no size such as 64MiB", text)
	}
	return Size(n * float64(scale)), nil
}

// rangeFaults checks every field below v that has a range tag; path is where v stands in a document.
func rangeFaults(path string, v reflect.Value) (faults []Fault) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			key := field.Tag.Get("json")
			if key == "-" || !field.IsExported() {
				continue
			}
			at := joinPath(path, field.Tag.Get("section"), key)
			if wanted, ok := field.Tag.Lookup("range"); ok {
				if got, ok := inRange(v.Field(i), wanted); !ok {
					faults = append(faults, Fault{at, got, strings.NewReplacer("..", " to ", "|", ", ").Replace(strings.TrimPrefix(wanted, "|"))})
				}
				continue
			}
			faults = append(faults, rangeFaults(at, v.Field(i))...)
		}
	case reflect.Map:
		if v.Type().Elem().Kind() != reflect.Struct {
			return nil
		}
		names := slices.SortedFunc(maps.Keys(mapValues(v)), strings.Compare)
		for _, name := range names {
			faults = append(faults, rangeFaults(joinPath(path, name), v.MapIndex(reflect.ValueOf(name)))...)
		}
	case reflect.Slice:
		for i := range v.Len() {
			faults = append(faults, rangeFaults(path+"["+strconv.Itoa(i)+"]", v.Index(i))...)
		}
	}
	return faults
}

func mapValues(v reflect.Value) map[string]struct{} {
	out := map[string]struct{}{}
	for _, key := range v.MapKeys() {
		out[key.String()] = struct{}{}
	}
	return out
}

// inRange reads "low..high" in the field's own terms, or a|b|c for words, and returns the value as shown.
func inRange(v reflect.Value, wanted string) (got string, ok bool) {
	low, high, isRange := strings.Cut(wanted, "..")
	switch x := v.Interface().(type) {
	case string:
		return strconv.Quote(x), slices.Contains(strings.Split(wanted, "|"), x)
	case time.Duration:
		return x.String(), isRange && x >= duration(low) && x <= duration(high)
	case Size:
		return x.String(), isRange && x >= size(low) && x <= size(high)
	case float64:
		return strconv.FormatFloat(x, 'g', -1, 64), isRange && x >= float64(size(low)) && x <= float64(size(high))
	case int:
		return strconv.Itoa(x), isRange && x >= int(size(low)) && x <= int(size(high))
	}
	panic(fmt.Sprintf("bug: range %q on a %s", wanted, v.Type()))
}

func duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		panic(fmt.Sprintf("bug: range tag: %v", err))
	}
	return d
}

func size(text string) Size {
	s, err := ParseSize(text, 1)
	if err != nil {
		panic(fmt.Sprintf("bug: range tag: %v", err))
	}
	return s
}

// fillDefaults sets each field that is zero, and whose range does not hold zero, to its default.
func fillDefaults(v, def reflect.Value) {
	for i := range v.NumField() {
		wanted, ok := v.Type().Field(i).Tag.Lookup("range")
		if !ok || !v.Field(i).IsZero() {
			continue
		}
		if _, fits := inRange(v.Field(i), wanted); !fits {
			v.Field(i).Set(def.Field(i))
		}
	}
}

func joinPath(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ".")
}
