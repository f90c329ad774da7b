package demo

import (
	"encoding/json"
	"reflect"
	"strings"
	"unicode/utf8"
)

// content is what a message says: a string, or an array of parts of which the text is taken.
type content struct {
	text  string
	given bool // false for null and for a message without content
}

// UnmarshalJSON reads valid JSON, as encoding/json promises.
func (c *content) UnmarshalJSON(b []byte) error {
	*c = content{given: true}
	switch b[0] {
	case 'n':
		c.given = false
		return nil
	case '"':
		return c.unquote(b)
	case '[':
		var parts []struct {
			Type string `json:"type"`
			Text string `json:"text"`
		}
		if err := json.Unmarshal(b, &parts); err != nil {
			return err
		}
		var text strings.Builder
		for _, part := range parts {
			if part.Type != "text" {
				continue
			}
			if text.Len() > 0 {
				text.WriteByte('\n')
			}
			text.WriteString(part.Text)
		}
		c.text = text.String()
		return nil
	}
	return typeError(b[0], reflect.TypeFor[string]())
}

func (c *content) unquote(b []byte) error {
	if inner := string(b[1 : len(b)-1]); strings.IndexByte(inner, '\\') < 0 && utf8.ValidString(inner) {
		c.text = inner // most text is plain, and a second pass of encoding/json is not free
		return nil
	}
	return json.Unmarshal(b, &c.text)
}

// typeError is what encoding/json returns for a value of the wrong type; it adds the field's name.
func typeError(first byte, want reflect.Type) error {
	got := "number"
	switch first {
	case '"':
		got = "string"
	case '[':
		got = "array"
	case '{':
		got = "object"
	case 't', 'f':
		got = "bool"
	case 'n':
		got = "null"
	}
	return &json.UnmarshalTypeError{Value: got, Type: want}
}

// appendString appends s as a JSON string.
func appendString(dst []byte, s string) []byte {
	return append(appendEscaped(append(dst, '"'), s), '"')
}

// appendOrNull appends s as a JSON string, or null when it is empty.
func appendOrNull(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, "null"...)
	}
	return appendString(dst, s)
}

// appendEscaped appends s as the inside of a JSON string. What is not UTF-8 becomes U+FFFD.
func appendEscaped(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, s[from:i]...), "\ufffd"...)
				from = i + 1
			}
			i += size
			continue
		}
		if c < ' ' || c == '"' || c == '\\' {
			dst = append(append(dst, s[from:i]...), '\\')
			switch c {
			case '"', '\\':
				dst = append(dst, c)
			case '\n':
				dst = append(dst, 'n')
			default:
				dst = append(dst, 'u', '0', '0', digits[c>>4], digits[c&15])
			}
			from = i + 1
		}
		i++
	}
	return append(dst, s[from:]...)
}
