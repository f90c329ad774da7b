//go:build wasip1

package main

import (
	"errors"
	"strconv"
	"strings"
)

// settings is the plugin's configuration: {"header": "x-plugin-key", "keys": ["one", "two"]}.
type settings struct {
	header string
	keys   []string
}

// parseSettings reads the configuration. It does so by hand: encoding/json would add 1.4 MB to the plugin.
func parseSettings(text string) (settings, error) {
	s := settings{header: "x-plugin-key"}
	r := reader{strings.TrimSpace(text)}
	if r.rest != "" && (!s.read(&r) || r.rest != "") {
		return s, errors.New(`want {"header": "name", "keys": ["key", ...]}`)
	}
	if s.header == "" || strings.ContainsFunc(s.header, notInName) {
		return s, errors.New("header: want letters, digits, - and _")
	}
	return s, nil
}

func notInName(c rune) bool {
	return c != '-' && c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z')
}

func (s *settings) read(r *reader) bool {
	return r.each('{', '}', func() bool {
		name, ok := r.text()
		if !ok || !r.take(':') {
			return false
		}
		switch name {
		case "header":
			s.header, ok = r.text()
		case "keys":
			ok = r.each('[', ']', func() bool {
				key, ok := r.text()
				s.keys = append(s.keys, key)
				return ok && key != "" // an empty key would let in whoever sends an empty header
			})
		default:
			ok = false
		}
		return ok
	})
}

// reader reads JSON as far as the settings need it. What it returns is false when something else stands there.
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

// text reads a string. Go's escapes are JSON's but for \/ and pairs of surrogates, which no key needs.
func (r *reader) text() (string, bool) {
	if !r.take('"') {
		return "", false
	}
	quoted, err := strconv.QuotedPrefix(`"` + r.rest)
	if err != nil {
		return "", false
	}
	r.rest = r.rest[len(quoted)-1:]
	s, err := strconv.Unquote(quoted)
	return s, err == nil
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
