package upstream

// nameBytes are those of a token (RFC 9110, section 5.6.2), valueBytes those of a field's value: neither controls nor
// the ends of lines (section 5.5).
var nameBytes, valueBytes = func() (name, value [256]bool) {
	for c := range 256 {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			name[c] = true
		}
		value[c] = c >= ' ' && c != 0x7f || c == '\t'
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		name[c] = true
	}
	return name, value
}()

func validName(s string) bool {
	for i := range len(s) {
		if !nameBytes[s[i]] {
			return false
		}
	}
	return s != ""
}

func validValue(s string) bool {
	for i := range len(s) {
		if !valueBytes[s[i]] {
			return false
		}
	}
	return true
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
