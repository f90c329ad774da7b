package upstream

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// Field is one header or trailer line. Name is in canonical form (textproto.CanonicalMIMEHeaderKey).
type Field struct{ Name, Value string }

// Valid reports whether f can stand in a message: a token, and a value without control characters (RFC 9110, section 5).
func (f *Field) Valid() bool { return validName(f.Name) && validValue(f.Value) }

// Fields is a header section, in order; a name may stand in it more than once (RFC 9110, section 5.2).
type Fields []Field

// Len returns the number of fields, of which one name may have several.
func (f Fields) Len() int { return len(f) }

// At returns the field at i, from 0 to Len()-1.
func (f Fields) At(i int) (name, value string) { return f[i].Name, f[i].Value }

// same reports whether two names of fields are the same (RFC 9110, section 5.1). Most that are not differ in their lengths.
func same(a, b string) bool { return len(a) == len(b) && strings.EqualFold(a, b) }

// Get returns the first value of name, or "".
func (f Fields) Get(name string) string {
	for i := range f {
		if same(f[i].Name, name) {
			return f[i].Value
		}
	}
	return ""
}

// Values returns all values of name, in order.
func (f Fields) Values(name string) (values []string) {
	for i := range f {
		if same(f[i].Name, name) {
			values = append(values, f[i].Value)
		}
	}
	return values
}

// Has reports whether name is there, if only with an empty value.
func (f Fields) Has(name string) bool {
	for i := range f {
		if same(f[i].Name, name) {
			return true
		}
	}
	return false
}

// Add appends a value.
func (f *Fields) Add(name, value string) {
	*f = append(*f, Field{textproto.CanonicalMIMEHeaderKey(name), value})
}

// Set puts value in place of all values of name: where the first one stood, else at the end.
func (f *Fields) Set(name, value string) {
	for i := range *f {
		if !same((*f)[i].Name, name) {
			continue
		}
		(*f)[i].Value = value
		others := (*f)[i+1:]
		others.Del(name)
		*f = (*f)[:i+1+len(others)]
		return
	}
	f.Add(name, value)
}

// Del removes all values of name.
func (f *Fields) Del(name string) {
	*f = slices.DeleteFunc(*f, func(field Field) bool { return same(field.Name, name) })
}

// Tokens calls each for every comma-separated element of all values of name, trimmed, empty ones left out
// (RFC 9110, section 5.6.1).
func (f Fields) Tokens(name string, each func(token string)) {
	for i := range f {
		if !same(f[i].Name, name) {
			continue
		}
		for token := range strings.SplitSeq(f[i].Value, ",") {
			if token = textproto.TrimString(token); token != "" {
				each(token)
			}
		}
	}
}

// AppendHeader appends all of h's fields; net/http has kept no order between names.
func (f Fields) AppendHeader(h http.Header) Fields {
	for name, values := range h {
		for _, value := range values {
			f = append(f, Field{name, value})
		}
	}
	return f
}

// header returns the fields as net/http wants them.
func (f Fields) header() http.Header {
	h := make(http.Header, len(f)+1)
	values := make([]string, len(f)) // one backing array for all single values
	for i, field := range f {
		if have := h[field.Name]; have != nil {
			h[field.Name] = append(have, field.Value)
			continue
		}
		values[i] = field.Value
		h[field.Name] = values[i : i+1 : i+1]
	}
	return h
}
