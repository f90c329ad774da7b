package upstream

import "encoding/binary"

// lowerName and upperName are the bytes of a token (RFC 9110, section 5.6.2) in either case, 0 for others. valueBytes are those
// of a field's value: neither controls nor the ends of lines (section 5.5).
var lowerName, upperName, valueBytes = func() (lower, upper [256]byte, value [256]bool) {
	for c := range 256 {
		value[c] = c >= ' ' && c != 0x7f || c == '\t'
	}
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz" {
		lower[c], upper[c] = byte(c), byte(c)
	}
	for c := byte('a'); c <= 'z'; c++ {
		capital := c - ('a' - 'A')
		lower[capital], upper[c], upper[capital] = c, capital, capital
	}
	return lower, upper, value
}()

func validName(s string) bool {
	for i := range len(s) {
		if lowerName[s[i]] == 0 {
			return false
		}
	}
	return s != ""
}

func validValue(s string) bool { return valueLen([]byte(s)) == len(s) }

// valueLen is how many bytes b begins with that may stand in a field's value. Eight at a time are looked at while none is a
// control, which a tab is, too.
func valueLen(b []byte) (n int) {
	for n+8 <= len(b) && !anyControl(binary.LittleEndian.Uint64(b[n:])) {
		n += 8
	}
	for n < len(b) && valueBytes[b[n]] {
		n++
	}
	return n
}

// anyControl reports whether one of eight bytes is below 0x20 or 0x7f. A byte's top bit says so of itself, but for those above
// one that is: what they borrow may be wrong (https://graphics.stanford.edu/~seander/bithacks.html#HasLessInWord).
func anyControl(word uint64) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	deleted := word ^ 0x7f*ones
	return ((word-0x20*ones)&^word|(deleted-ones)&^deleted)&tops != 0
}

// validTarget reports whether s is a path and query that ends where it should: no spaces or controls (RFC 9112, section
// 3.2).
func validTarget(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return s != "" && s[0] == '/'
}

// validHost reports whether s may be a Host; empty means the default.
func validHost(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
