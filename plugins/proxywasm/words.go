package proxywasm

import (
	"hash/maphash"
	"net/textproto"
)

const (
	wordSlots = 64  // of names and of values, each
	wordBytes = 256 // a longer one is not kept
)

// wordSeed keys the hash of all tables: what guests are given by their callers must not choose its slot.
var wordSeed = maphash.MakeSeed()

// words makes strings of bytes in guest memory, and keeps the last ones so that a constant one is made once. Each table
// is direct-mapped: a word has one slot by its hash. What is in the tables has been checked.
type words struct {
	names  [wordSlots]struct{ raw, canonical string }
	values [wordSlots]string
}

// name returns the canonical form of a field name, "" if b is not a token.
func (w *words) name(b []byte) string {
	if len(b) > wordBytes {
		return canonical(b)
	}
	slot := &w.names[maphash.Bytes(wordSeed, b)%wordSlots]
	if slot.raw != string(b) {
		c := canonical(b)
		if c == "" {
			return ""
		}
		slot.raw, slot.canonical = string(b), c
	}
	return slot.canonical
}

// value returns a field value, and false if b may not be one.
func (w *words) value(b []byte) (string, bool) {
	if len(b) > wordBytes {
		return string(b), validValue(b)
	}
	slot := &w.values[maphash.Bytes(wordSeed, b)%wordSlots]
	if *slot != string(b) {
		if !validValue(b) {
			return "", false
		}
		*slot = string(b)
	}
	return *slot, true
}

func canonical(b []byte) string {
	for _, c := range b {
		if !tokenBytes[c] {
			return ""
		}
	}
	return textproto.CanonicalMIMEHeaderKey(string(b))
}

// tokenBytes marks the characters of a token (https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2).
var tokenBytes = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

// validValue says whether b can be sent as a field value: no control character but a tab. Bytes above ASCII pass.
func validValue(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// sameName compares names without regard to case.
func sameName[B string | []byte](s string, b B) bool {
	if len(s) != len(b) {
		return false
	}
	for i := range len(s) {
		if s[i] != b[i] && lower(s[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}
