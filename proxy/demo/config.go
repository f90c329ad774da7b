package demo

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

const (
	defaultTokens     = 32
	defaultStatus     = http.StatusInternalServerError
	defaultFaultAfter = 1000
	defaultTrickle    = 10 * time.Millisecond

	maxDelay           = time.Hour
	maxTokens          = 1_000_000
	minTokensPerSecond = 0.001 // so that the last token's time is no overflow
	maxTokensPerSecond = 1_000_000
	maxPerMinute       = 100_000_000 // the quota's arithmetic is exact up to here
	maxPerWindow       = 100_000     // and up to here for the longest window
	minWindow          = 10 * time.Millisecond
	maxFaultAfter      = 1 << 30
	maxRetryAfter      = 128                 // bytes
	maxAway            = 876_000 * time.Hour // a hundred years
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

	// Fault is what the failures of ErrorRate are in place of an answer with ErrorStatus: a step of a Script, such
	// as reset or stall. Empty means ErrorStatus.
	Fault string

	// FaultAfter is the number of body bytes that pass before a fault strikes in mid-body, 0 to 1 GiB. 0 means
	// 1000. It strikes after half of a shorter answer, and before a stream's last event at the latest.
	FaultAfter int

	// Trickle is the time between the bytes of an answer that trickles, 0 to 1 h. 0 means 10 ms.
	Trickle time.Duration

	// RetryAfter is the retry-after of the answers that are injected failures: sent as it stands, at most 128
	// bytes, unless it is date:2s (the HTTP date in 2 s), ms:1500 (retry-after-ms alone) or x-ms:1500
	// (x-ms-retry-after-ms alone). Empty means none.
	RetryAfter string

	// Script says what becomes of the first requests of each caller, one step a request: "503*2,reset,ok" fails
	// the first three. A step is ok, a status of 400 to 599, or a fault; the package's comment lists them. What
	// comes after the last step is served. Callers are told apart by X-Demo-Id, else by their key. Requests that
	// are refused take no step.
	Script string

	// RequestsPerMinute bounds the POST requests of each key, 0 to 100000000. 0 means no bound. A key that was
	// idle for a minute may spend all of it at once; it comes back evenly.
	RequestsPerMinute int

	// TokensPerMinute bounds what the requests of each key cost, prompt and answer together, as
	// RequestsPerMinute bounds their number.
	TokensPerMinute int

	// InputTokensPerMinute and OutputTokensPerMinute bound prompts and answers apart, as Anthropic does.
	InputTokensPerMinute, OutputTokensPerMinute int

	// RequestsPerWindow bounds the POST requests of each key in Window, 0 to 100000, beside RequestsPerMinute. 0
	// means no bound.
	RequestsPerWindow int

	// Window is what RequestsPerWindow counts in, 10 ms to 24 h. 0 means 1 s.
	Window time.Duration

	// FixedWindow makes windows begin at whole multiples of their length since 1970: all comes back at once, and
	// nothing before. Else it comes back evenly, as with RequestsPerMinute.
	FixedWindow bool

	// Announce is the provider whose way of announcing limits is played: anthropic, azure, gemini, github, groq,
	// ietf, ietf-old, mistral, mistral-old, none, openai, openrouter or openrouter-free. Empty means openai, and
	// anthropic on /v1/messages. With azure, a tenth of each limit of requests is enforced in each tenth of its
	// window, too.
	Announce string

	// AnnouncedPerMinute is a lie: it is announced as the limit of requests a minute, and kept account of, but the
	// other limits of requests are enforced, and not announced. 0 to 100000000; 0 means the truth.
	AnnouncedPerMinute int

	// APIKey is what callers must present as Authorization: Bearer, or to /v1/messages as x-api-key. Empty
	// means that any caller is served, unless there are Keys. Other forms are api-key (Azure's), x-goog-api-key
	// and ?key=.
	APIKey string

	// Keys are more keys that are accepted, each with the script of its own requests.
	Keys []Key

	// Seed changes the ids and which requests fail by ErrorRate.
	Seed uint64
}

// Key is one of Config.Keys.
type Key struct {
	// Value is what callers present; not empty.
	Value string

	// Script is as Config.Script, which it replaces.
	Script string
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
	within("FaultAfter", float64(c.FaultAfter), 0, maxFaultAfter)
	within("RequestsPerMinute", float64(c.RequestsPerMinute), 0, maxPerMinute)
	within("TokensPerMinute", float64(c.TokensPerMinute), 0, maxPerMinute)
	within("InputTokensPerMinute", float64(c.InputTokensPerMinute), 0, maxPerMinute)
	within("OutputTokensPerMinute", float64(c.OutputTokensPerMinute), 0, maxPerMinute)
	within("RequestsPerWindow", float64(c.RequestsPerWindow), 0, maxPerWindow)
	within("AnnouncedPerMinute", float64(c.AnnouncedPerMinute), 0, maxPerMinute)
	if c.Window != 0 && (c.Window < minWindow || c.Window > day) {
		faults = append(faults, fmt.Errorf("demo: Window: got %v, want %v to %v", c.Window, minWindow, day))
	}
	if c.Trickle < 0 || c.Trickle > maxDelay {
		faults = append(faults, fmt.Errorf("demo: Trickle: got %v, want 0s to %v", c.Trickle, maxDelay))
	}
	return errors.Join(append(faults, c.validateWords()...)...)
}

// validateWords returns what is wrong with the fields that are text.
func (c *Config) validateWords() (faults []error) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("demo: "+format, args...)) }
	if c.Announce != "" && styles[c.Announce] == nil {
		fault("Announce: got %.64q, want one of %s", c.Announce, styleNames)
	}
	if _, ok := parseFailure(c.Fault); !ok && c.Fault != "" {
		fault("Fault: got %.64q, want a status of 400 to 599 or one of %s", c.Fault, faultNames)
	}
	if !goodRetryAfter(c.RetryAfter) {
		fault("RetryAfter: got %.64q, want %s", c.RetryAfter, wantRetryAfter)
	}
	if _, err := parseScript(c.Script); err != nil {
		fault("Script: %w", err)
	}
	for i, key := range c.Keys {
		if key.Value == "" {
			fault("Keys[%d].Value: is empty", i)
		}
		if _, err := parseScript(key.Script); err != nil {
			fault("Keys[%d].Script: %w", i, err)
		}
	}
	return faults
}
