package proxy

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/edge-proxy/edge/limiter"
	"github.com/edge-proxy/edge/proxy/upstream"
)

// maxAnnounced is the longest wait or reset that is believed.
const maxAnnounced = 24 * time.Hour

// announcement is what the head of an answer says of the provider's quotas.
type announcement struct {
	levels limiter.Levels
	told   bool // some level was said
	hint
}

// hint is what an answer says of a further attempt.
type hint struct {
	wait  time.Duration // before that
	waits bool          // wait was said
	never bool          // it would be in vain
}

// announce reads the rate-limit fields of every known provider; docs/quotas.md lists them. They are hints: what cannot be read
// is left out, and what is too long is cut to 24 hours. Of fields that come twice the first one counts. It allocates
// nothing unless a wait is given as a date or out of range.
func announce(fields upstream.Fields, status int, now time.Time) (a announcement) {
	var waits [3]string // by precedence
	policy := ""
	for i := range fields {
		name := fields[i].Name
		if len(name) < len("Ratelimit") {
			continue
		}
		value := fields[i].Value
		switch name[0] | 0x20 {
		case 'r':
			switch {
			case beginsWith(name, "Ratelimit"):
				if rest := name[len("Ratelimit"):]; rest == "" {
					a.structured(value, "")
				} else if sameName(rest, "-Policy") {
					policy = value
				} else {
					a.field(rest, value, now)
				}
			case sameName(name, "Retry-After-Ms"):
				waits[0] = first(waits[0], value)
			case sameName(name, "Retry-After"):
				waits[2] = first(waits[2], value)
			}
		case 'x':
			switch {
			case beginsWith(name, "X-Ratelimit"):
				a.field(name[len("X-Ratelimit"):], value, now)
			case sameName(name, "X-Ms-Retry-After-Ms"):
				waits[1] = first(waits[1], value)
			case sameName(name, "X-Should-Retry"):
				a.never = a.never || strings.EqualFold(strings.TrimSpace(value), "false")
			}
		case 'a':
			if beginsWith(name, "Anthropic-Ratelimit-") {
				a.anthropic(name[len("Anthropic-Ratelimit-"):], value, now)
			}
		}
	}
	if policy != "" {
		a.structured("", policy)
	}
	if status >= 400 { // else Retry-After is about something else (RFC 9110, section 10.2.3)
		a.readWait(&waits, now)
	}
	return a
}

func first(have, next string) string {
	if have != "" {
		return have
	}
	return next
}

// sameName reports whether a name, or a part of one, is want in any case. Those in a head are as canonical as want is, so that
// the same bytes are looked for first; those in a refusal's content are as the provider writes them.
func sameName(name, want string) bool {
	return len(name) == len(want) && (name == want || strings.EqualFold(name, want))
}

func beginsWith(name, want string) bool {
	return len(name) >= len(want) && sameName(name[:len(want)], want)
}

// readWait takes the first of the three fields that can be read.
func (a *announcement) readWait(waits *[3]string, now time.Time) {
	for i, text := range waits {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		if i < 2 {
			if ms, ok := number(text); ok {
				a.wait, a.waits = clamped(ms/1000), true
				return
			}
			continue
		}
		if wait, _, ok := resetOf(text, now); ok {
			a.wait, a.waits = wait, true
			return
		}
		if at, err := http.ParseTime(text); err == nil {
			a.wait, a.waits = min(max(at.Sub(now), 0), maxAnnounced), true
			return
		}
	}
}

// field reads one of the x-ratelimit or ratelimit fields, by what follows that in its name.
func (a *announcement) field(rest, value string, now time.Time) {
	dimension := limiter.Requests
	if rest != "" && rest[0] != '-' && beginsWith(rest, "bysize") { // Mistral's older ones count tokens
		rest, dimension = rest[len("bysize"):], limiter.Tokens
	}
	what, unit, _ := strings.Cut(strings.TrimPrefix(rest, "-"), "-")
	switch {
	case unit == "": // GitHub, OpenRouter, IETF drafts up to 6
	case dimension == limiter.Tokens:
		if !sameName(unit, "Minute") {
			return // a month's
		}
	case sameName(unit, "Requests"), sameName(unit, "Req-Minute"):
	case sameName(unit, "Tokens"), sameName(unit, "Tokens-Minute"):
		dimension = limiter.Tokens
	default:
		return
	}
	level := &a.levels[dimension]
	if over := len(unit) - len("Minute"); over >= 0 && sameName(unit[over:], "Minute") {
		level.Window = time.Minute
	}
	a.put(level, what, value, now)
}

// anthropic reads requests-limit and its like.
func (a *announcement) anthropic(rest, value string, now time.Time) {
	cut := strings.LastIndexByte(rest, '-')
	if cut < 0 {
		return
	}
	for d := range limiter.Dimensions {
		if sameName(rest[:cut], [...]string{"Requests", "Tokens", "Input-Tokens", "Output-Tokens"}[d]) {
			a.put(&a.levels[d], rest[cut+1:], value, now)
		}
	}
}

// put sets what of level to value, unless that was said before or cannot be read.
func (a *announcement) put(level *limiter.Level, what, value string, now time.Time) {
	value = strings.TrimSpace(value)
	switch {
	case sameName(what, "Limit"):
		a.count(level, limiter.SaidLimit, value)
	case sameName(what, "Remaining"):
		a.count(level, limiter.SaidRemaining, value)
	case sameName(what, "Reset") && level.Said&limiter.SaidReset == 0:
		if reset, absolute, ok := resetOf(value, now); ok {
			level.Reset, level.Absolute = reset, absolute
			level.Said |= limiter.SaidReset
			a.told = true
		}
	}
}

// count reads a limit or what remains of one. Of a list ("100, 100;w=60") it is the first.
func (a *announcement) count(level *limiter.Level, what limiter.Said, value string) {
	n, ok := number(firstItem(value))
	if !ok || n > 1<<53 || level.Said&what != 0 {
		return
	}
	if what == limiter.SaidLimit {
		level.Limit = int64(n)
	} else {
		level.Remaining = int64(n)
	}
	level.Said |= what
	a.told = true
}

// firstItem is what comes before a comma or a semicolon, or all.
func firstItem(list string) string {
	for i := range len(list) {
		if list[i] == ',' || list[i] == ';' {
			return strings.TrimSpace(list[:i])
		}
	}
	return list
}

// structured reads RateLimit and RateLimit-Policy of the IETF draft from 8 on, which are lists: "default";r=50;t=30. Of several
// quotas the one counts of which the least remains. What counts other things than requests is left out.
func (a *announcement) structured(quotas, policies string) {
	level := &a.levels[limiter.Requests]
	for quotas != "" {
		var item string
		item, quotas = cutList(quotas)
		remaining, ok := parameter(item, "r")
		if !ok || level.Said&limiter.SaidRemaining != 0 && remaining >= float64(level.Remaining) {
			continue
		}
		level.Remaining = int64(min(remaining, 1<<53))
		level.Said |= limiter.SaidRemaining
		level.Said &^= limiter.SaidReset
		if t, ok := parameter(item, "t"); ok {
			level.Reset = clamped(t)
			level.Said |= limiter.SaidReset
		}
		a.told = true
	}
	for policies != "" {
		var item string
		item, policies = cutList(policies)
		limit, ok := parameter(item, "q")
		if unit := strings.Index(item, ";qu="); !ok || unit >= 0 && !strings.HasPrefix(item[unit:], `;qu="requests"`) {
			continue
		}
		// Which policy a quota belongs to is said by its name; with one of each, that is clear. Of several, the tightest
		// one that what remains fits in.
		if limit < float64(level.Remaining) || limit > 1<<53 || level.Said&limiter.SaidLimit != 0 && limit >= float64(level.Limit) {
			continue
		}
		level.Limit = int64(limit)
		level.Said |= limiter.SaidLimit
		a.told = true
		if w, ok := parameter(item, "w"); ok && w > 0 {
			level.Window = clamped(w)
		}
	}
}

// cutList returns the first item of a structured list, and the rest.
func cutList(list string) (item, rest string) {
	quoted := false
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			return list[:i], list[i+1:]
		}
	}
	return list, ""
}

// parameter returns a number that an item of a structured list has, outside of its name.
func parameter(item, name string) (float64, bool) {
	rest := strings.TrimLeft(item, " \t")
	if rest != "" && rest[0] == '"' {
		end := 1
		for end < len(rest) && rest[end] != '"' {
			if rest[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(rest) {
			return 0, false
		}
		rest = rest[end:]
	}
	for {
		at := strings.IndexByte(rest, ';')
		if at < 0 {
			return 0, false
		}
		rest = strings.TrimLeft(rest[at+1:], " ")
		if len(rest) > len(name) && rest[:len(name)] == name && rest[len(name)] == '=' {
			value, _, _ := strings.Cut(rest[len(name)+1:], ";")
			return number(strings.TrimSpace(value))
		}
	}
}

// resetOf reads when a quota is full again, or when to come again: a duration as Go writes it; a number that is seconds below
// 1e9, from there on seconds since 1970 and above 1e11 milliseconds; or an instant (RFC 3339). absolute says that it was an instant.
func resetOf(text string, now time.Time) (reset time.Duration, absolute, ok bool) {
	if text == "" || len(text) > 64 {
		return 0, false, false
	}
	if text[0] >= '0' && text[0] <= '9' {
		text = firstItem(text)
	}
	if n, ok := number(text); ok {
		switch {
		case n < 1e9:
			return clamped(n), false, true
		case n > 1e11:
			n /= 1000
		}
		since := float64(now.Unix()) + float64(now.Nanosecond())/1e9
		return clamped(max(n-since, 0)), true, true
	}
	if d, ok := goDuration(text); ok {
		return d, false, true
	}
	if len(text) >= len("2006-01-02T15:04:05Z") && text[4] == '-' && text[10]|0x20 == 't' {
		if at, err := time.Parse(time.RFC3339, text); err == nil {
			return min(max(at.Sub(now), 0), maxAnnounced), true, true
		}
	}
	return 0, false, false
}

// clamped is so many seconds, 24 hours at most.
func clamped(seconds float64) time.Duration {
	return time.Duration(min(seconds, maxAnnounced.Seconds()) * float64(time.Second))
}

// number reads a decimal number that is finite and not negative.
func number(text string) (float64, bool) {
	if text == "" || len(text) > 32 {
		return 0, false
	}
	whole, digits := int64(0), 0
	for i := range len(text) {
		switch c := text[i]; {
		case c >= '0' && c <= '9':
			whole, digits = 10*whole+int64(c-'0'), digits+1 // of no use where it overflows
		case c != '.' && (i == 0 || c|0x20 != 'e' && c != '+' && c != '-'):
			return 0, false
		}
	}
	if digits == len(text) && digits <= 15 { // as nearly all; a float64 holds them exactly
		return float64(whole), true
	}
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil && n >= 0
}

// goDuration reads one as Go writes it, with days as well. time.ParseDuration allocates an error for each text that is none.
func goDuration(text string) (time.Duration, bool) {
	total := 0.0
	for text != "" {
		digits := 0
		for digits < len(text) && (text[digits] >= '0' && text[digits] <= '9' || text[digits] == '.') {
			digits++
		}
		n, ok := number(text[:digits])
		if !ok {
			return 0, false
		}
		text = text[digits:]
		letters := 0
		for letters < len(text) && text[letters] > '9' {
			letters++
		}
		unit := 0.0
		switch text[:letters] {
		case "ns":
			unit = 1e-9
		case "us", "µs", "μs":
			unit = 1e-6
		case "ms":
			unit = 1e-3
		case "s":
			unit = 1
		case "m":
			unit = 60
		case "h":
			unit = 3600
		case "d":
			unit = 86400
		default:
			return 0, false
		}
		total += n * unit
		text = text[letters:]
	}
	return clamped(total), true
}
