package proxy

import "log/slog"

// Settings is what a guest is configured with. It may hold credentials, so every way of printing it prints ***; only
// Reveal gives it.
type Settings string

// Reveal returns what the guest is to read. It must reach neither a log nor an error.
func (s Settings) Reveal() string { return string(s) }

// String returns *** or, for none, nothing.
func (s Settings) String() string { return Secret(s).String() }

// GoString keeps %#v from printing the settings.
func (s Settings) GoString() string { return Secret(s).GoString() }

// LogValue keeps slog from printing the settings.
func (s Settings) LogValue() slog.Value { return Secret(s).LogValue() }

// MarshalText keeps encoders from printing the settings.
func (s Settings) MarshalText() ([]byte, error) { return Secret(s).MarshalText() }
