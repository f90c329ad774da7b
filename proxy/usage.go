package proxy

import (
	"bytes"
	"net/http"

	"github.com/edge-proxy/edge/arena"
)

const (
	maxUsage       = 4 << 10 // bytes from a key to the end of its value; what is longer is not read
	maxUsageDepth  = 16      // objects and arrays open at once in a usage object
	maxUsageTokens = 1e9     // in one answer; a provider that says more is not believed
)

// usageScan finds the token counts in an answer while that passes. It does not parse the answer: a key's quotes cannot
// stand unescaped inside a JSON string, so wherever the bytes "usage" with their quotes are followed by a colon they are
// a key, in a whole answer as in an event of a stream. The object behind it is read. Of a field that comes again the
// last one counts, since streams repeat what they have counted so far.
//
// What a piece's end cuts off is kept in a slot, from the quote on, and read again with the next piece. Bytes may so be
// read twice, in order, which changes nothing.
//
// Cost: a search for a word of each piece, and what the usage object takes to read.
type usageScan struct {
	state  usageState
	cohere bool
	model  bool          // the answer's model is looked for
	ask    []tokenFamily // by which it is known
	family *tokenCounts

	counts usageCounts
	result tokenUsage
	known  bool // result is what the provider said

	last    byte // of the piece before
	before  byte // stands before what is kept
	kept    int  // bytes
	keeping arena.Slot[bodyBlock]
}

type usageState uint8

const (
	usageOff     usageState = iota // no answer that ought to say how many tokens it took
	usageUnread                    // it ought to, but its content is encoded
	usageReading                   // it is read
)

// beginUsage decides whether the answer with content c is one whose tokens count: a provider's, with content in JSON or
// server-sent events, to a POST. A GET may show what was counted before.
func (x *exchange) beginUsage(c content) {
	u, status := &x.usage, x.answer.Status
	if x.method() != http.MethodPost || status < 200 || status > 299 || status == http.StatusNoContent || x.end == nil ||
		x.draft.answered || x.draft.failure != nil || !c.json && !c.events {
		return
	}
	u.state = usageReading
	if c.encoded {
		u.state = usageUnread
	}
	u.cohere = x.end.manners.Dialect == dialectCohere
	u.ask = x.end.tokens
	u.family = familyOf(u.ask, x.model)
	u.model = x.model == "" && len(u.ask) > 1
}

// see reads the next piece of the content.
func (u *usageScan) see(x *exchange, piece []byte) {
	if len(piece) == 0 || u.kept > 0 && u.join(piece) {
		return
	}
	open := u.scan(piece, u.last)
	u.before, u.last = u.last, piece[len(piece)-1]
	if open == len(piece) {
		return
	}
	if u.keeping.P() == nil {
		u.keeping = x.p.bodies.Take(x.hint)
	}
	if open > 0 {
		u.before = piece[open-1]
	}
	u.kept = copy(u.keeping.P()[:], piece[open:])
}

// join reads what was kept together with the piece behind it. It reports false when the piece is longer than what
// could be open: then that has found its end or has none, and the piece is to be read by itself.
func (u *usageScan) join(piece []byte) bool {
	block := u.keeping.P()
	n := copy(block[u.kept:2*maxUsage], piece)
	both := block[:u.kept+n]
	open := u.scan(both, u.before)
	u.kept = 0
	if n < len(piece) {
		u.last = both[len(both)-n-1]
		return false
	}
	u.last = piece[n-1]
	if open < len(both) {
		if open > 0 {
			u.before = both[open-1]
		}
		u.kept = copy(block[:], both[open:])
	}
	return true
}

// drop gives back what it holds.
func (u *usageScan) drop() {
	if u.keeping.P() != nil {
		u.keeping.Give()
		u.keeping = arena.Slot[bodyBlock]{}
	}
}

// usageKey is a key that is looked for: word, or word with more behind it.
type usageKey struct {
	word []byte // without quotes: " is everywhere, and the search is for the first byte
	more string
}

var (
	keyUsage = usageKey{[]byte("usage"), "Metadata"} // Gemini's is usageMetadata
	keyMeta  = usageKey{[]byte("meta"), ""}          // Cohere's version 1
	keyModel = usageKey{[]byte("model"), "Version"}  // Gemini's is modelVersion
)

// verdict is what became of reading the bytes behind a key.
type verdict uint8

const (
	verdictRead verdict = iota
	verdictOther
	verdictCut // the bytes end before their value does
)

// scan reads b, which stands behind the byte before. It returns where in b a key begins that b does not hold whole, or
// its length.
func (u *usageScan) scan(b []byte, before byte) (open int) {
	open = u.find(&keyUsage, b, before)
	if u.cohere {
		open = min(open, u.find(&keyMeta, b, before))
	}
	if u.model {
		open = min(open, u.find(&keyModel, b, before))
	}
	return open
}

// find is scan for one key.
func (u *usageScan) find(key *usageKey, b []byte, before byte) (open int) {
	at := 0
	for {
		i := bytes.Index(b[at:], key.word)
		if i < 0 {
			break
		}
		i += at
		at = i + len(key.word)
		if i == 0 || b[i-1] != '"' { // a quote that ended the piece before is kept, and not lost here
			continue
		}
		if i > 1 {
			before = b[i-2]
		}
		if before == '\\' { // inside a string
			continue
		}
		n, v := u.read(key, b[at:min(len(b), i-1+maxUsage)])
		if at += n; v == verdictCut && len(b)-i < maxUsage {
			return i - 1
		}
	}
	tail := b[max(at, len(b)-len(key.word)):]
	if i := bytes.LastIndexByte(tail, '"'); i >= 0 && bytes.HasPrefix(key.word, tail[i+1:]) {
		return len(b) - len(tail) + i
	}
	return len(b)
}

// read reads what follows a key's word.
func (u *usageScan) read(key *usageKey, b []byte) (n int, v verdict) {
	switch rest := b[:min(len(b), len(key.more)+1)]; {
	case len(b) == 0:
		return 0, verdictCut
	case b[0] == '"':
		n = 1
	case key.more != "" && string(rest[:len(rest)-1]) == key.more && rest[len(rest)-1] == '"':
		n = len(rest)
	case len(b) <= len(key.more) && string(b) == key.more[:len(b)]:
		return 0, verdictCut
	default:
		return 0, verdictOther
	}
	if n += spaces(b[n:]); n == len(b) {
		return n, verdictCut
	} else if b[n] != ':' {
		return n, verdictOther
	}
	n++
	if n += spaces(b[n:]); n == len(b) {
		return n, verdictCut
	}
	switch {
	case key == &keyModel && b[n] == '"' && u.model: // the first one counts
		end := stringEnd(b[n+1:])
		if end < 0 {
			return n, verdictCut
		}
		u.family, u.model = familyOf(u.ask, b[n+1:n+1+end]), false
		return n + end + 2, verdictRead
	case key != &keyModel && b[n] == '{':
		var counts usageCounts
		end, v := counts.read(b[n:])
		if v == verdictRead {
			u.counts.merge(&counts)
		}
		return n + end, v
	}
	return n, verdictOther
}

// spaces is how many bytes of JSON's white space b begins with.
func spaces(b []byte) (n int) {
	for n < len(b) && (b[n] == ' ' || b[n] == '\n' || b[n] == '\r' || b[n] == '\t') {
		n++
	}
	return n
}

// stringEnd is where the string that b begins within ends: its closing quote's index; -1 when b does not have it.
func stringEnd(b []byte) int {
	for at := 0; ; {
		i := bytes.IndexByte(b[at:], '"')
		if i < 0 {
			return -1
		}
		at += i
		escapes := 0
		for escapes < at && b[at-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return at
		}
		at++
	}
}
