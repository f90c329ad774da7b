package httpwasm

import (
	"fmt"
	"net/textproto"
	"strings"
	"testing"
)

func TestWords(t *testing.T) {
	var w words
	f := func(raw, want string) {
		t.Helper()
		for range 2 {
			if got := w.name([]byte(raw)); got != want {
				t.Errorf("%q: got %q, want %q", raw, got, want)
			}
		}
	}
	f("x-stamp", "X-Stamp")
	f("X-STAMP", "X-Stamp")
	f("host", "Host")
	f("etag", "Etag")
	f("a", "A")
	f("!#$%&'*+-.^_`|~09az", "!#$%&'*+-.^_`|~09az")
	f(strings.Repeat("a", wordBytes+1), "A"+strings.Repeat("a", wordBytes))
	for _, bad := range []string{"", " ", "a b", "a:", ":a", "a\x00", "\x7f", "é", "a\n", strings.Repeat("a", 300) + " "} {
		f(bad, "")
	}
	for c := range 256 { // each byte by itself, in a value and in a URI
		b := []byte{byte(c)}
		if _, ok := w.value(b); ok != (c == '\t' || c >= ' ' && c != 0x7f) {
			t.Errorf("value %q: %v", b, ok)
		}
		if ok := validURI(b); ok != (c > ' ' && c != 0x7f) {
			t.Errorf("URI %q: %v", b, ok)
		}
	}
	if s, ok := w.value(nil); s != "" || !ok {
		t.Error("an empty value is a value")
	}
	if compareNames("X-_", "X-Z") > 0 || compareNames("x-z", "X-Z") != 0 || compareNames("A", "AB") >= 0 {
		t.Error("names are not ordered as in lower case")
	}
}

// More words than slots: they take each other's, and none is ever another.
func TestWordsAreReplaced(t *testing.T) {
	var w words
	for n := range 20 * wordSlots {
		n %= 3 * wordSlots
		raw := fmt.Sprintf("x-a%d", n)
		if got := w.name([]byte(raw)); got != textproto.CanonicalMIMEHeaderKey(raw) {
			t.Fatalf("%s: got %s", raw, got)
		}
		if got, ok := w.value([]byte(raw)); got != raw || !ok {
			t.Fatalf("%s: got %s", raw, got)
		}
	}
	word := []byte("x-stamp")
	if n := testing.AllocsPerRun(100, func() { w.name(word); w.value(word) }); n != 0 {
		t.Errorf("%v allocations for a word that is there", n)
	}
}
