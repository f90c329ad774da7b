package upstream

import (
	"bytes"
	"strings"
	"testing"
)

// Every byte decides for itself, wherever it stands and whatever stands beside it.
func TestValidValueAtEachPlace(t *testing.T) {
	const most = 19 // two words, and more
	for _, beside := range []byte{' ', '~', 0x80, 0xff, '\t'} {
		for length := range most {
			for at := range length {
				for c := range 256 {
					value := bytes.Repeat([]byte{beside}, length)
					value[at] = byte(c)
					valid := c == '\t' || c >= ' ' && c != 0x7f
					if validValue(string(value)) != valid {
						t.Fatalf("byte %#02x at %d of %q: got %v, want %v", c, at, value, !valid, valid)
					}
					want := at
					if valid {
						want = length
					}
					if got := valueLen(append(value, "\r\nX: "...)); got != want {
						t.Fatalf("byte %#02x at %d of %q: got length %d, want %d", c, at, value, got, want)
					}
				}
			}
		}
	}
	if !validValue(strings.Repeat("\t", 100)) {
		t.Error("tabs are refused")
	}
}
