package demo

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const (
	defaultTokens = 32
	defaultStatus = http.StatusInternalServerError

	maxDelay           = time.Hour
	maxTokens          = 1_000_000
	minTokensPerSecond = 0.001 // so that the last token's time is no overflow
	maxTokensPerSecond = 1_000_000
	maxPerMinute       = 100_000_000 // the quota's arithmetic is exact up to here
)

// Config says how a Provider behaves. The zero value answers at once and knows no limits.
type Config struct {
	// Delay is the time before the first byte of an answer, 0 to 1 h.
	Delay time.Duration

	// TokensPerSecond is the pace of a stream, 0.001 to 1000000. 0 means at once. A plain answer comes whole,
	// after Delay.
	TokensPerSecond float64

	// Tokens is the length of an answer unless the request's max_tokens is less, 0 to 1000000. 0 means 32.
	Tokens int

	// ErrorRate is the share of requests that are answered with ErrorStatus, 0 to 1.
	ErrorRate float64

	// ErrorStatus is what injected failures answer, 400 to 599. 0 means 500.
	ErrorStatus int

	// RequestsPerMinute bounds the POST requests of each key, 0 to 100000000. 0 means no bound. A key that was
	// idle for a minute may spend all of it at once; it comes back evenly.
	RequestsPerMinute int

	// TokensPerMinute bounds what the requests of each key cost, prompt and answer together, as
	// RequestsPerMinute bounds their number.
	TokensPerMinute int

	// APIKey is what callers must present as Authorization: Bearer, or to /v1/messages as x-api-key. Empty
	// means that any caller is served.
	APIKey string

	// Seed changes the ids and which requests fail by ErrorRate.
	Seed uint64
}

// Validate returns all fields that are out of range, joined, or nil.
func (c Config) Validate() error {
	var faults []error
	within := func(field string, got, low, high float64) {
		if !(got >= low && got <= high) { // so that NaN is a fault
			faults = append(faults, fmt.Errorf("demo: %s: got %g, want %g to %g", field, got, low, high))
		}
	}
	if c.Delay < 0 || c.Delay > maxDelay {
		faults = append(faults, fmt.Errorf("demo: Delay: got %v, want 0s to %v", c.Delay, maxDelay))
	}
	if c.TokensPerSecond != 0 {
		within("TokensPerSecond", c.TokensPerSecond, minTokensPerSecond, maxTokensPerSecond)
	}
	within("Tokens", float64(c.Tokens), 0, maxTokens)
	within("ErrorRate", c.ErrorRate, 0, 1)
	if c.ErrorStatus != 0 {
		within("ErrorStatus", float64(c.ErrorStatus), 400, 599)
	}
	within("RequestsPerMinute", float64(c.RequestsPerMinute), 0, maxPerMinute)
	within("TokensPerMinute", float64(c.TokensPerMinute), 0, maxPerMinute)
	return errors.Join(faults...)
}

// settings is what may differ from one request to the next.
type settings struct {
	delay           time.Duration
	tokensPerSecond float64
	tokens          int
	status          int // of an injected failure; 0 for none
	retryAfter      string
}

// settings returns what c says about every request; the coin for ErrorRate is tossed elsewhere.
func (c *Config) settings() settings {
	s := settings{delay: c.Delay, tokensPerSecond: c.TokensPerSecond, tokens: c.Tokens}
	if s.tokens == 0 {
		s.tokens = defaultTokens
	}
	return s
}

// overrides are the request headers that change one request. set reports whether the value is in range.
var overrides = [...]struct {
	header, want string
	set          func(s *settings, value string) bool
}{
	{"X-Demo-Delay", "a duration such as 300ms, 0s to 1h", func(s *settings, value string) (ok bool) {
		d, err := time.ParseDuration(value)
		s.delay = d
		return err == nil && d >= 0 && d <= maxDelay
	}},
	{"X-Demo-Tokens-Per-Second", "0, or 0.001 to 1000000", func(s *settings, value string) (ok bool) {
		f, err := strconv.ParseFloat(value, 64)
		s.tokensPerSecond = f
		return err == nil && (f == 0 || f >= minTokensPerSecond && f <= maxTokensPerSecond)
	}},
	{"X-Demo-Tokens", "1 to 1000000", func(s *settings, value string) (ok bool) {
		n, err := strconv.Atoi(value)
		s.tokens = n
		return err == nil && n >= 1 && n <= maxTokens
	}},
	{"X-Demo-Status", "400 to 599", func(s *settings, value string) (ok bool) {
		n, err := strconv.Atoi(value)
		s.status = n
		return err == nil && n >= 400 && n <= 599
	}},
	{"X-Demo-Retry-After", "at most 128 bytes", func(s *settings, value string) (ok bool) {
		s.retryAfter = value
		return len(value) <= 128
	}},
}

// override applies the headers of one request.
func (s *settings) override(h http.Header) error {
	for i := range overrides {
		o := &overrides[i]
		before := *s
		if values := h[o.header]; len(values) > 0 && !o.set(s, values[0]) {
			*s = before
			return &apiError{
				status: http.StatusBadRequest, kind: "invalid_request_error", code: "invalid_value", param: o.header,
				message: fmt.Sprintf("Invalid header %s: got %.64q, want %s.", o.header, values[0], o.want),
			}
		}
	}
	return nil
}
