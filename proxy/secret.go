package proxy

import (
	"crypto/subtle"
	"log/slog"
)

// Secret is a credential. Every way of printing it prints ***; only Reveal gives its value.
type Secret string

// Reveal returns the value. It must reach neither a log nor an error.
func (s Secret) Reveal() string { return string(s) }

// String returns *** or, for no secret, nothing.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// GoString keeps %#v from printing the value.
func (s Secret) GoString() string { return `"` + s.String() + `"` }

// LogValue keeps slog from printing the value.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText keeps encoders from printing the value.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// equal compares in constant time; the lengths may show.
func (s Secret) equal(got string) bool {
	return s != "" && subtle.ConstantTimeCompare([]byte(s), []byte(got)) == 1
}
