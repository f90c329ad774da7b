package proxy

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// usageCounts is what a provider says in its own words, by field.
type usageCounts struct {
	has uint16 // a bit for each field of of
	of  [usageFields]uint32
}

type usageField uint8

const (
	fieldPrompt       usageField = iota // all that went in, what was cached included
	fieldInput                          // so too, but for Anthropic and Bedrock, who leave out what was cached
	fieldToolPrompt                     // Gemini's, beside the prompt
	fieldOutput                         // all that came out, but for Gemini
	fieldThoughts                       // Gemini's, beside the output
	fieldCached                         // part of the prompt or input
	fieldCacheRead                      // beside the input
	fieldCacheWrite                     // so too
	fieldBilledInput                    // Cohere's, where it says nothing else
	fieldBilledOutput                   // so too
	usageFields
	fieldNone = usageFields
)

// fieldOf is the meaning of a member of a usage object. From the providers' API references, 2026-11.
func fieldOf(key []byte) usageField {
	switch string(key) {
	case "prompt_tokens", "promptTokenCount":
		return fieldPrompt
	case "input_tokens", "inputTokens":
		return fieldInput
	case "toolUsePromptTokenCount":
		return fieldToolPrompt
	case "completion_tokens", "output_tokens", "candidatesTokenCount", "outputTokens":
		return fieldOutput
	case "thoughtsTokenCount":
		return fieldThoughts
	case "cached_tokens", "cachedContentTokenCount", "prompt_cache_hit_tokens":
		return fieldCached
	case "cache_read_input_tokens", "cacheReadInputTokens":
		return fieldCacheRead
	case "cache_creation_input_tokens", "cacheWriteInputTokens":
		return fieldCacheWrite
	}
	return fieldNone
}

// fieldWithin is that of a member of an object in it.
func fieldWithin(parent, key []byte) usageField {
	switch string(parent) {
	case "prompt_tokens_details", "input_tokens_details":
		if string(key) == "cached_tokens" {
			return fieldCached
		}
	case "tokens": // Cohere's
		if f := fieldOf(key); f == fieldInput || f == fieldOutput {
			return f
		}
	case "billed_units":
		switch fieldOf(key) {
		case fieldInput:
			return fieldBilledInput
		case fieldOutput:
			return fieldBilledOutput
		}
	}
	return fieldNone
}

// read reads the object that b begins with. It takes what is no JSON, too, if braces and quotes are in order; numbers
// that are not whole, negative or beyond maxUsageTokens are as if they were not there.
func (c *usageCounts) read(b []byte) (n int, v verdict) {
	var key, parent []byte
	var arrays uint32 // a bit for each depth at which an array is open
	depth := 0
	for n < len(b) {
		switch ch := b[n]; {
		case ch == '"':
			end := stringEnd(b[n+1:])
			if end < 0 {
				return n, verdictCut
			}
			text := b[n+1 : n+1+end]
			n += end + 2
			if n += spaces(b[n:]); n == len(b) {
				return n, verdictCut
			}
			if key = nil; b[n] == ':' {
				key = text
				n++
			}
		case ch >= '0' && ch <= '9' || ch == '-':
			value, length, whole := wholeNumber(b[n:])
			if n += length; n == len(b) {
				return n, verdictCut
			}
			if whole && key != nil {
				c.note(depth, parent, key, value)
			}
			key = nil
		case ch == '{' || ch == '[':
			if depth++; depth > maxUsageDepth {
				return n, verdictOther
			}
			if depth == 2 {
				parent = key
			}
			if arrays &^= 1 << depth; ch == '[' {
				arrays |= 1 << depth
			}
			key = nil
			n++
		case ch == '}' || ch == ']':
			if arrays>>depth&1 == 1 != (ch == ']') {
				return n, verdictOther
			}
			n++
			if depth--; depth == 0 {
				return n, verdictRead
			}
			key = nil
		case ch == ',' || ch == ' ' || ch == '\n' || ch == '\r' || ch == '\t':
			n++
		case ch >= 'a' && ch <= 'z': // null, true, false
			n++
		default:
			return n, verdictOther
		}
	}
	return n, verdictCut
}

// note takes down a number at a depth of the object.
func (c *usageCounts) note(depth int, parent, key []byte, value uint32) {
	field := fieldNone
	switch depth {
	case 1:
		field = fieldOf(key)
	case 2:
		field = fieldWithin(parent, key)
	}
	if field != fieldNone {
		c.has |= 1 << field
		c.of[field] = value
	}
}

// wholeNumber reads the number that b begins with: its length, and its value if that is a whole number in range.
func wholeNumber(b []byte) (value uint32, length int, whole bool) {
	whole = true
	for length < len(b) {
		switch ch := b[length]; {
		case ch >= '0' && ch <= '9':
			if value > maxUsageTokens/10 {
				whole = false
			} else {
				value = value*10 + uint32(ch-'0')
			}
		case ch == '-' || ch == '+' || ch == '.' || ch == 'e' || ch == 'E':
			whole = false
		default:
			return value, length, whole && value <= maxUsageTokens
		}
		length++
	}
	return value, length, false
}

// merge puts what is in other in place of what was there.
func (c *usageCounts) merge(other *usageCounts) {
	for field := range other.of {
		if other.has>>field&1 == 1 {
			c.of[field] = other.of[field]
		}
	}
	c.has |= other.has
}

func (c *usageCounts) knows(f usageField) bool { return c.has>>f&1 == 1 }

// tokenKind is what tokens were, as a metric label. The kinds do not overlap.
type tokenKind uint8

const (
	tokensInput       tokenKind = iota // all that went in, but for the next
	tokensCachedInput                  // what of it the provider had in its cache
	tokensOutput                       // all that came out, reasoning included
	tokenKinds
)

var tokenKindNames = [tokenKinds]string{"input", "cached_input", "output"}

// tokenUsage is how many tokens an answer took, by kind.
type tokenUsage [tokenKinds]uint64

// tokens is the counts in our words; false when the provider has said nothing of use.
func (c *usageCounts) tokens() (t tokenUsage, known bool) {
	var of [usageFields]uint64
	for field, value := range c.of {
		of[field] = uint64(value)
	}
	input, cached := of[fieldPrompt]+of[fieldToolPrompt], of[fieldCached]
	switch {
	case c.knows(fieldPrompt): // gateways add Anthropic's fields to OpenAI's; the prompt has it all then
		if !c.knows(fieldCached) {
			cached = of[fieldCacheRead]
		}
	case c.knows(fieldInput) && !c.knows(fieldCached) && (c.knows(fieldCacheRead) || c.knows(fieldCacheWrite)):
		cached = of[fieldCacheRead]
		input = of[fieldInput] + of[fieldCacheWrite] + cached
	case c.knows(fieldInput):
		input = of[fieldInput]
	default:
		input = of[fieldBilledInput]
	}
	cached = min(cached, input)
	t = tokenUsage{input - cached, cached, of[fieldOutput] + of[fieldThoughts]}
	if !c.knows(fieldOutput) && !c.knows(fieldThoughts) {
		t[tokensOutput] = of[fieldBilledOutput]
	}
	const counts = 1<<fieldPrompt | 1<<fieldInput | 1<<fieldOutput | 1<<fieldThoughts | 1<<fieldBilledInput | 1<<fieldBilledOutput
	return t, c.has&counts != 0
}

// tokenCounts counts the tokens of one family.
type tokenCounts [tokenKinds]atomic.Uint64

// tokenFamily is a beginning of model names.
type tokenFamily struct {
	prefix string // of other, which comes last, the empty one
	counts *tokenCounts
}

// familyOf returns the counts of the first family that model begins with, nil without families.
func familyOf[text string | []byte](families []tokenFamily, model text) *tokenCounts {
	for i := range families {
		if p := families[i].prefix; len(model) >= len(p) && string(model[:len(p)]) == p {
			return families[i].counts
		}
	}
	return nil
}

// tokenStats are the tokens of one provider. They outlive generations, so families that are configured no more keep
// what was counted.
type tokenStats struct {
	missing atomic.Uint64 // answers without a count

	mu       sync.Mutex
	families map[string]*tokenCounts
}

// of returns the families of a configuration, the longest first, and other.
func (s *tokenStats) of(prefixes []string) []tokenFamily {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.families == nil {
		s.families = map[string]*tokenCounts{}
	}
	sorted := slices.SortedFunc(slices.Values(prefixes), func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	var out []tokenFamily
	for _, name := range append(sorted, familyOther) {
		if s.families[name] == nil {
			s.families[name] = new(tokenCounts)
		}
		out = append(out, tokenFamily{name, s.families[name]})
	}
	out[len(out)-1].prefix = ""
	return out
}

// each calls do for every family there has been, sorted by name.
func (s *tokenStats) each(do func(family string, counts *tokenCounts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.families)) {
		do(name, s.families[name])
	}
}

// countUsage counts what the answer said of its tokens, once it has ended.
func (x *exchange) countUsage(stats *tokenStats) {
	u := &x.usage
	if u.state == usageOff {
		return
	}
	if u.result, u.known = u.counts.tokens(); !u.known {
		stats.missing.Add(1)
		return
	}
	for kind, n := range u.result {
		if n > 0 {
			u.family[kind].Add(n)
		}
	}
}
