package demo

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// settings is what may differ from one request to the next.
type settings struct {
	delay           time.Duration
	tokensPerSecond float64
	tokens          int
	failure         failure // none, unless a header asks for one
	script          script
	id              string // whose script's place it is
	faultAfter      int
	trickle         time.Duration
	retryAfter      string
	announce        string
	cached          int // tokens of the prompt
}

// settings returns what c says about every request; the coin for ErrorRate is tossed elsewhere.
func (c *Config) settings() settings {
	s := settings{
		delay: c.Delay, tokensPerSecond: c.TokensPerSecond, tokens: c.Tokens, faultAfter: c.FaultAfter, trickle: c.Trickle,
		announce: c.Announce,
	}
	if s.tokens == 0 {
		s.tokens = defaultTokens
	}
	if s.faultAfter == 0 {
		s.faultAfter = defaultFaultAfter
	}
	if s.trickle == 0 {
		s.trickle = defaultTrickle
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
		s.failure = failure{status: n}
		return err == nil && n >= 400 && n <= 599
	}},
	{"X-Demo-Fault", "a status of 400 to 599 or one of " + faultNames, func(s *settings, value string) (ok bool) {
		s.failure, ok = parseFailure(value)
		return ok
	}},
	{"X-Demo-Fault-After", "0 to 1073741824 bytes", func(s *settings, value string) (ok bool) {
		n, err := strconv.Atoi(value)
		s.faultAfter = n
		return err == nil && n >= 0 && n <= maxFaultAfter
	}},
	{"X-Demo-Trickle", "a duration such as 10ms, 0s to 1h", func(s *settings, value string) (ok bool) {
		d, err := time.ParseDuration(value)
		s.trickle = d
		return err == nil && d >= 0 && d <= maxDelay
	}},
	{"X-Demo-Script", "steps such as 503*2,reset,ok", func(s *settings, value string) (ok bool) {
		steps, err := parseScript(value)
		s.script = steps
		return err == nil
	}},
	{"X-Demo-Id", "1 to 128 bytes", func(s *settings, value string) (ok bool) {
		s.id = value
		return len(value) >= 1 && len(value) <= 128
	}},
	{"X-Demo-Retry-After", wantRetryAfter, func(s *settings, value string) (ok bool) {
		s.retryAfter = value
		return goodRetryAfter(value)
	}},
	{"X-Demo-Announce", "one of " + styleNames, func(s *settings, value string) (ok bool) {
		s.announce = value
		return styles[value] != nil
	}},
	{"X-Demo-Cached-Tokens", "0 to 1000000", func(s *settings, value string) (ok bool) {
		n, err := strconv.Atoi(value)
		s.cached = n
		return err == nil && n >= 0 && n <= maxTokens
	}},
}

// override applies the headers of one request.
func (s *settings) override(h http.Header) error {
	for i := range overrides {
		o := &overrides[i]
		before := *s
		if values := h[o.header]; len(values) > 0 && !o.set(s, values[0]) {
			*s = before
			return overrideError(o.header, values[0], o.want)
		}
	}
	return nil
}

func overrideError(header, value, want string) *apiError {
	return &apiError{
		status: http.StatusBadRequest, kind: "invalid_request_error", code: "invalid_value", param: header,
		message: fmt.Sprintf("Invalid header %s: got %.64q, want %s.", header, value, want),
	}
}

// addFields puts into the answer's head what the caller asks for in X-Demo-Header, a field each.
func (x *exchange) addFields() error {
	for _, field := range x.r.Header["X-Demo-Header"] {
		name, value, ok := strings.Cut(field, ":")
		switch name = http.CanonicalHeaderKey(strings.TrimSpace(name)); {
		case !ok, name == "", name == "Content-Length", name == "Transfer-Encoding", name == "Connection":
			return overrideError("X-Demo-Header", field, "Name: value, of a field that does not frame the answer")
		}
		x.w.Header().Add(name, strings.TrimSpace(value))
	}
	return nil
}

const wantRetryAfter = "at most 128 bytes, with a duration of at most 876000h after date:"

// goodRetryAfter says whether form is one that setRetryAfter takes.
func goodRetryAfter(form string) bool {
	if len(form) > maxRetryAfter {
		return false
	}
	if after, ok := strings.CutPrefix(form, "date:"); ok {
		d, err := time.ParseDuration(after)
		return err == nil && d.Abs() <= maxAway
	}
	return true
}

// setRetryAfter sets the fields that form asks for, in place of any others; Config.RetryAfter tells the forms.
func setRetryAfter(h http.Header, form string) {
	for _, name := range []string{"Retry-After", "Retry-After-Ms", "X-Ms-Retry-After-Ms"} {
		h.Del(name)
	}
	if after, ok := strings.CutPrefix(form, "date:"); ok {
		d, _ := time.ParseDuration(after) // has been checked
		// Up, so that the moment named is not too early.
		h.Set("Retry-After", time.Now().Add(d+time.Second-1).Truncate(time.Second).UTC().Format(http.TimeFormat))
	} else if ms, ok := strings.CutPrefix(form, "ms:"); ok {
		h.Set("Retry-After-Ms", ms)
	} else if ms, ok := strings.CutPrefix(form, "x-ms:"); ok {
		h.Set("X-Ms-Retry-After-Ms", ms)
	} else {
		h.Set("Retry-After", form)
	}
}
