package sigv4

import (
	"slices"
	"strings"
)

// canonical returns the one form of a request that client and server compute the same signature of, and the names of the
// fields in it.
func canonical(r Request, payload string) (request []byte, names string) {
	path, query, _ := strings.Cut(r.Target, "?")
	b := append([]byte(r.Method), '\n')
	b = append(appendPath(b, path), '\n')
	b = append(appendQuery(b, query), '\n')
	fields := slices.Clone(r.Fields)
	slices.SortStableFunc(fields, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	for i, field := range fields {
		if i > 0 && fields[i-1].Name == field.Name {
			b[len(b)-1] = ',' // one more value of it
		} else {
			b = append(append(b, field.Name...), ':')
			names += ";" + field.Name
		}
		b = append(appendValue(b, field.Value), '\n')
	}
	names = strings.TrimPrefix(names, ";")
	b = append(append(b, '\n'), names...)
	return append(append(b, '\n'), payload...), names
}

// appendPath appends a path without empty and dot segments, and encodes what is left once more: a path on the wire is
// encoded already, and services other than S3 want it encoded twice. A slash at its end stays.
func appendPath(b []byte, path string) []byte {
	var kept []string
	for segment := range strings.SplitSeq(path, "/") {
		switch segment {
		case "", ".":
		case "..":
			kept = kept[:max(len(kept)-1, 0)]
		default:
			kept = append(kept, segment)
		}
	}
	for _, segment := range kept {
		b = appendEncoded(append(b, '/'), segment)
	}
	if len(kept) == 0 || strings.HasSuffix(path, "/") {
		b = append(b, '/')
	}
	return b
}

// appendQuery appends a query with its parameters sorted and encoded in one way, each with its =.
func appendQuery(b []byte, query string) []byte {
	type parameter struct{ name, value string }
	var list []parameter
	for pair := range strings.SplitSeq(query, "&") {
		if name, value, _ := strings.Cut(pair, "="); pair != "" {
			list = append(list, parameter{encoded(name), encoded(value)})
		}
	}
	slices.SortFunc(list, func(a, b parameter) int {
		if byName := strings.Compare(a.name, b.name); byName != 0 {
			return byName
		}
		return strings.Compare(a.value, b.value)
	})
	for i, p := range list {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(append(append(b, p.name...), '='), p.value...)
	}
	return b
}

// appendValue appends a field's value without white space around it and with single spaces in it.
func appendValue(b []byte, value string) []byte {
	for i, word := range strings.FieldsFunc(value, func(c rune) bool { return c == ' ' || c == '\t' }) {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, word...)
	}
	return b
}

// encoded is a part of a query, decoded and encoded again. A plus is a space, as in forms.
func encoded(part string) string {
	plain := make([]byte, 0, len(part))
	for i := 0; i < len(part); i++ {
		c := part[i]
		switch {
		case c == '+':
			c = ' '
		case c == '%' && i+2 < len(part) && isHex(part[i+1]) && isHex(part[i+2]):
			c = fromHex(part[i+1])<<4 | fromHex(part[i+2])
			i += 2
		}
		plain = append(plain, c)
	}
	return string(appendEncoded(nil, string(plain)))
}

// appendEncoded appends s with all but letters, digits and -._~ as %XX.
func appendEncoded(b []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; isWord(c) || c == '-' || c == '.' || c == '~' {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isWord(c byte) bool  { return isDigit(c) || isLower(c|0x20) || c == '_' }
func isHex(c byte) bool   { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' }

func fromHex(c byte) byte {
	if isDigit(c) {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}
