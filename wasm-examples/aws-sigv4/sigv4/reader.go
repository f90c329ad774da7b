package sigv4

import (
	"iter"
	"strconv"
	"strings"
	"unicode/utf16"
)

// reader reads JSON as far as the configuration needs it. What it returns is false when something else stands there.
type reader struct{ rest string }

// take reads one character, and the white space before it.
func (r *reader) take(c byte) bool {
	rest := strings.TrimLeft(r.rest, " \t\r\n")
	if rest == "" || rest[0] != c {
		return false
	}
	r.rest = rest[1:]
	return true
}

// members yields the names of an object that is the whole text, each when its value is to be read. A false one is the last.
func (r *reader) members() iter.Seq2[string, bool] {
	return func(yield func(string, bool) bool) {
		stopped := false
		ok := r.each('{', '}', func() bool {
			name, ok := r.text()
			if ok = ok && r.take(':'); ok {
				stopped = !yield(name, true)
			}
			return ok && !stopped
		})
		if !stopped && (!ok || strings.TrimLeft(r.rest, " \t\r\n") != "") {
			yield("", false)
		}
	}
}

// texts reads a list of strings.
func (r *reader) texts() (list []string, ok bool) {
	ok = r.each('[', ']', func() bool {
		s, ok := r.text()
		list = append(list, s)
		return ok
	})
	return list, ok
}

// each reads items between two brackets, with commas between them.
func (r *reader) each(open, shut byte, item func() bool) bool {
	if !r.take(open) {
		return false
	}
	if r.take(shut) {
		return true
	}
	for item() {
		if r.take(shut) {
			return true
		}
		if !r.take(',') {
			return false
		}
	}
	return false
}

// text reads a string.
func (r *reader) text() (string, bool) {
	if !r.take('"') {
		return "", false
	}
	var b []byte
	for r.rest != "" {
		c := r.rest[0]
		r.rest = r.rest[1:]
		switch {
		case c == '"':
			return string(b), true
		case c < ' ':
			return "", false
		case c != '\\':
			b = append(b, c)
			continue
		}
		if r.rest == "" {
			return "", false
		}
		c = r.rest[0]
		r.rest = r.rest[1:]
		if c == 'u' {
			code, ok := r.code()
			if !ok {
				return "", false
			}
			b = append(b, string(code)...)
			continue
		}
		i := strings.IndexByte(`"\/bfnrt`, c)
		if i < 0 {
			return "", false
		}
		b = append(b, "\"\\/\b\f\n\r\t"[i])
	}
	return "", false
}

// code reads what stands behind \u: a character, or both halves of one.
func (r *reader) code() (rune, bool) {
	c, ok := r.hex()
	if !ok || !utf16.IsSurrogate(c) || !strings.HasPrefix(r.rest, `\u`) {
		return c, ok
	}
	whole := r.rest
	r.rest = r.rest[2:]
	low, ok := r.hex()
	if pair := utf16.DecodeRune(c, low); ok && pair != '\uFFFD' {
		return pair, true
	}
	r.rest = whole // a half without its other half
	return c, true
}

// hex reads four hexadecimal digits.
func (r *reader) hex() (rune, bool) {
	if len(r.rest) < 4 || !consists(r.rest[:4], isHex) {
		return 0, false
	}
	n, err := strconv.ParseUint(r.rest[:4], 16, 16)
	r.rest = r.rest[4:]
	return rune(n), err == nil
}

func quoted(name string) string { return strconv.Quote(name[:min(len(name), 64)]) }
