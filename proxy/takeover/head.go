package takeover

import (
	"bytes"
	"net/http"
)

// head is a request's head or a trailer, parsed line by line as it arrives, in the connection's buffer. Names are made
// canonical where they stand. Offsets are from the head's beginning, so the buffer may move.
type head struct {
	at      int // the line to parse next
	seen    int // bytes in which no further end of a line is
	blank   int // empty lines that may come before the request line
	started bool

	method, target span
	minor          int8 // of HTTP/1: 0 or 1; -1 is a version that is not spoken here
	fields         []line
	spaced         bool // a name has a space in it: an error of its own in net/http
}

// span is some bytes of a buffer.
type span struct{ from, to int }

func (s span) of(text string) string { return text[s.from:s.to] }

// line is a field.
type line struct{ name, value span }

// keptLines is how many fields a connection keeps room for between two requests.
const keptLines = 64

// reset makes h ready for the next head. Up to blank empty lines may come before it.
func (h *head) reset(blank int) {
	fields := h.fields[:0]
	if cap(fields) > keptLines {
		fields = nil
	}
	*h = head{blank: blank, fields: fields}
}

// refusal is why a request is not served: a status and text as net/http words them.
type refusal struct{ status, text string }

func (r *refusal) Error() string { return r.text }

var (
	errBad         = &refusal{"400 Bad Request", "400 Bad Request"}
	errNoHost      = refuse("400 Bad Request: missing required Host header")
	errHost        = refuse("400 Bad Request: malformed Host header")
	errName        = refuse("400 Bad Request: invalid header name")
	errVersion     = refuse("505 HTTP Version Not Supported: unsupported protocol version")
	errCoding      = &refusal{"501 Not Implemented", "Unsupported transfer encoding"}
	errTooLarge    = refuse("431 Request Header Fields Too Large")
	errExpectation = refuse("417 Expectation Failed") // worded by response.fail
)

func refuse(text string) *refusal { return &refusal{text, text} }

// parse goes on with what b, the head so far, has got. It reports whether the head is whole, which is then b[:h.at].
func (h *head) parse(b []byte) (whole bool, err error) {
	for {
		i := bytes.IndexByte(b[h.seen:], '\n')
		if i < 0 {
			h.seen = len(b)
			return false, nil
		}
		from, to := h.at, h.seen+i
		h.at, h.seen = to+1, to+1
		if to == from || b[to-1] != '\r' { // a bare LF: who reads it otherwise sees other lines
			return false, errBad
		}
		to--
		switch {
		case to > from && h.started:
			err = h.field(b, from, to)
		case to > from:
			err = h.requestLine(b, from, to)
		case h.started:
			return true, nil
		default:
			if h.blank--; h.blank < 0 {
				err = errBad
			}
		}
		if err != nil {
			return false, err
		}
	}
}

// requestLine parses method SP target SP version (RFC 9112, section 3).
func (h *head) requestLine(b []byte, from, to int) error {
	h.started = true
	text := b[from:to]
	one := bytes.IndexByte(text, ' ')
	if one <= 0 {
		return errBad
	}
	two := bytes.IndexByte(text[one+1:], ' ')
	if two <= 0 {
		return errBad
	}
	two += one + 1
	h.method, h.target = span{from, from + one}, span{from + one + 1, from + two}
	for _, c := range text[:one] {
		if !tokenByte[c] {
			return errBad
		}
	}
	for _, c := range text[one+1 : two] {
		if c <= ' ' || c == 0x7f {
			return errBad
		}
	}
	switch version := text[two+1:]; string(version) {
	case "HTTP/1.1":
		h.minor = 1
	case "HTTP/1.0":
		h.minor = 0
	default:
		if _, _, ok := http.ParseHTTPVersion(string(version)); !ok {
			return errBad
		}
		h.minor = -1
	}
	return nil
}

// field parses one field and makes its name canonical.
func (h *head) field(b []byte, from, to int) error {
	text := b[from:to]
	colon := bytes.IndexByte(text, ':')
	if colon <= 0 || text[0] == ' ' || text[0] == '\t' { // folded: obsolete, and a way to hide a field
		return errBad
	}
	if err := h.canonical(text[:colon]); err != nil {
		return err
	}
	begin, end := colon+1, len(text)
	for begin < end && blankByte(text[begin]) {
		begin++
	}
	for begin < end && blankByte(text[end-1]) {
		end--
	}
	for _, c := range text[begin:end] {
		if c < ' ' && c != '\t' || c == 0x7f {
			return errBad
		}
	}
	h.fields = append(h.fields, line{span{from, from + colon}, span{from + begin, from + end}})
	return nil
}

// canonical writes the name as http.CanonicalHeaderKey does.
func (h *head) canonical(name []byte) error {
	upper := true
	for i, c := range name {
		switch {
		case !tokenByte[c]:
			if c != ' ' {
				return errBad
			}
			h.spaced = true // refused at the end of the head, as net/http does
		case upper && 'a' <= c && c <= 'z':
			name[i] = c - 'a' + 'A'
		case !upper && 'A' <= c && c <= 'Z':
			name[i] = c - 'A' + 'a'
		}
		upper = c == '-'
	}
	return nil
}

func blankByte(c byte) bool { return c == ' ' || c == '\t' }

// tokenByte are the characters of a token (RFC 9110, section 5.6.2), hostByte those that net/http takes in Host.
var tokenByte, hostByte = bytesOf("!#$%&'*+-.^_`|~"), bytesOf("!$%&'()*+,-.:;=[]_~")

// bytesOf is the set of letters, digits and others.
func bytesOf(others string) (set [256]bool) {
	for c := range set {
		set[c] = '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
	}
	for i := range len(others) {
		set[others[i]] = true
	}
	return set
}
