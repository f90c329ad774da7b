package takeover

import (
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"
)

// answerHead is what the fields say that the handler had set when it called WriteHeader. They stand in the
// connection's buffer from then on, and those that concern the message's framing may be cut out again.
type answerHead struct {
	connection, length, kind, coding span // where they stand

	connectionText, lengthText, codingText string // their first values
	switches                               bool   // changes the protocol

	hasConnection, hasLength, hasKind, hasDate, encoded, trailers bool
}

// note appends the fields, in the order of their names as in net/http, and notes what they say.
func (x *exchange) note(out []byte) []byte {
	n := &x.noted
	for _, name := range x.c.sorted(x.header) {
		from := len(out)
		if strings.HasPrefix(name, http.TrailerPrefix) {
			n.trailers = true
			continue
		}
		out = appendField(out, name, x.header[name])
		at := span{from, len(out)}
		switch name {
		case "Connection":
			n.connection, n.hasConnection, n.connectionText = at, true, first(x.header, name)
		case "Content-Encoding":
			n.encoded = first(x.header, name) != ""
		case "Content-Length":
			n.length, n.hasLength, n.lengthText = at, true, first(x.header, name)
		case "Content-Type":
			n.kind, n.hasKind = at, true
		case "Date":
			n.hasDate = true
		case "Trailer":
			n.trailers = n.trailers || len(x.header[name]) > 0
			for _, value := range x.header[name] {
				eachElement(value, x.announce)
			}
		case "Transfer-Encoding":
			n.coding, n.codingText = at, first(x.header, name)
		}
	}
	if x.status == http.StatusSwitchingProtocols {
		n.switches = first(x.header, "Upgrade") != "" && containsToken(x.header["Connection"], "Upgrade")
	}
	return out
}

// announce notes the name of a field that is going to be in the trailer.
func (x *exchange) announce(name string) {
	name = http.CanonicalHeaderKey(name)
	if !strings.HasPrefix(name, "If-") && !notInTrailer[name] {
		x.trailers = append(x.trailers, name)
	}
}

// notInTrailer are the fields that net/http leaves out of trailers (RFC 9110, section 6.5.1).
var notInTrailer = setOf("Authorization", "Cache-Control", "Connection", "Content-Encoding", "Content-Length", "Content-Range",
	"Content-Type", "Expect", "Host", "Keep-Alive", "Max-Forwards", "Pragma", "Proxy-Authenticate", "Proxy-Authorization",
	"Proxy-Connection", "Range", "Realm", "Te", "Trailer", "Transfer-Encoding", "Www-Authenticate")

func setOf(names ...string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

// added are the fields that the server puts behind the handler's.
type added struct {
	date, kind, connection string
	length                 int64 // -1: none
	chunked                bool
}

// sendHead decides how the answer's end is told, and ends its head. p is the first piece of content, nil for none.
// It is net/http's chunkWriter.writeHeader, decision by decision.
func (x *exchange) sendHead(p []byte) {
	x.sent = true
	n := &x.noted
	plus := added{length: -1}
	keeping := !x.c.t.draining.Load()
	isHead := x.r.Method == http.MethodHead
	if x.done && !n.trailers && n.codingText == "" && hasBody(x.status) && !n.hasLength && (!isHead || len(p) > 0) {
		x.length, plus.length = int64(len(p)), int64(len(p))
	}
	x.decideKeeping(&plus, keeping, isHead)
	if x.r.ContentLength != 0 && !x.closeAfter && !x.fullDuplex {
		// Many clients read no answer before they have sent their request to the end.
		if tooBig := x.readRest(); tooBig {
			x.closeAfter = true
			n.connectionText = ""
			x.cut(&n.connection)
			plus.connection = "close"
		}
	}
	if !hasBody(x.status) {
		if x.status == http.StatusNotModified {
			x.cut(&n.kind)
		}
		x.cut(&n.length)
		x.cut(&n.coding)
	} else if !n.encoded && !n.hasKind && n.codingText == "" && len(p) > 0 {
		plus.kind = http.DetectContentType(p)
	}
	if !n.hasDate {
		plus.date = x.c.t.dateAt(time.Now())
	}
	x.decideFraming(&plus, isHead)
	if x.closeAfter && (!keeping || !hasToken(n.connectionText, "close")) && !n.switches {
		x.cut(&n.connection)
		if x.r.ProtoMinor > 0 {
			plus.connection = "close"
		}
	}
	x.c.out = append(plus.appendTo(x.c.out), "\r\n"...)
}

// decideKeeping decides, as far as the head tells, whether the connection goes on.
func (x *exchange) decideKeeping(plus *added, keeping, isHead bool) {
	n := &x.noted
	if x.wants10KeepAlive && keeping && n.lengthText != "" && n.connectionText == "keep-alive" {
		x.closeAfter = false
	}
	if x.wants10KeepAlive && (isHead || x.length != -1 || !hasBody(x.status)) {
		if !n.hasConnection {
			plus.connection = "keep-alive"
		}
	} else if x.r.ProtoMinor == 0 || x.wantsClose {
		x.closeAfter = true
	}
	if n.connectionText == "close" || !keeping {
		x.closeAfter = true
	}
	if x.content.expected && !x.content.eof.Load() { // the client may send its content, or may not
		x.closeAfter = true
	}
}

// decideFraming decides how the content ends: after Content-Length bytes, with a last chunk, or with the connection.
func (x *exchange) decideFraming(plus *added, isHead bool) {
	n := &x.noted
	hasLength, coding := x.length != -1, n.codingText
	if hasLength && coding != "" && coding != "identity" {
		x.c.t.logf("takeover: WriteHeader called with both Transfer-Encoding of %q and a Content-Length of %d", coding, x.length)
		x.cut(&n.length)
		hasLength = false
	}
	switch {
	case isHead || !hasBody(x.status) || hasLength:
		x.cut(&n.coding)
	case x.r.ProtoMinor == 0:
		x.closeAfter = true
		x.cut(&n.coding)
	case coding == "identity":
		x.closeAfter = true
		x.cut(&n.coding)
	default:
		x.chunking, plus.chunked = true, true
		if coding == "chunked" {
			x.cut(&n.coding)
		}
		x.cut(&n.length)
	}
}

// readRest reads a small rest of the request's content, so that the next request can be read. It reports that too
// much is left.
func (x *exchange) readRest() (tooBig bool) {
	b := &x.content
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		x.closeAfter = x.closeAfter || !b.ended
		return false
	}
	if b.ended {
		b.closed = !b.expected // a quirk of net/http: a handler that reads on is told one or the other
		return false
	}
	if !b.chunked && b.left >= leftBytes {
		return true
	}
	tooBig, err := b.skip(leftBytes)
	if err != nil {
		x.closeAfter = true
	}
	b.closed = b.ended
	return tooBig
}

// cut takes a field's lines out of the head again.
func (x *exchange) cut(at *span) {
	gone := at.to - at.from
	if gone == 0 {
		return
	}
	x.c.out = slices.Delete(x.c.out, at.from, at.to)
	n := &x.noted
	for _, other := range [...]*span{&n.connection, &n.length, &n.kind, &n.coding} {
		if other != at && other.from >= at.to {
			other.from, other.to = other.from-gone, other.to-gone
		}
	}
	*at = span{}
}

func (a *added) appendTo(out []byte) []byte {
	if a.date != "" {
		out = appendLine(out, "Date", a.date)
	}
	if a.length >= 0 {
		out = append(strconv.AppendInt(append(out, "Content-Length: "...), a.length, 10), "\r\n"...)
	}
	if a.kind != "" {
		out = appendLine(out, "Content-Type", a.kind)
	}
	if a.connection != "" {
		out = appendLine(out, "Connection", a.connection)
	}
	if a.chunked {
		out = appendLine(out, "Transfer-Encoding", "chunked")
	}
	return out
}

// appendEarly appends the rest of a 1xx answer.
func (x *exchange) appendEarly(out []byte) []byte {
	for _, name := range x.c.sorted(x.header) {
		if name != "Content-Length" && name != "Transfer-Encoding" {
			out = appendField(out, name, x.header[name])
		}
	}
	return append(out, "\r\n"...)
}

// appendTrailers appends the fields that come behind the content.
func (x *exchange) appendTrailers(out []byte) []byte {
	var trailers http.Header
	add := func(name string, values []string) {
		if trailers == nil {
			trailers = http.Header{}
		}
		trailers[name] = append(trailers[name], values...)
	}
	for name, values := range x.header {
		if bare, found := strings.CutPrefix(name, http.TrailerPrefix); found {
			add(bare, values)
		}
	}
	for _, name := range x.trailers {
		add(name, x.header[name])
	}
	for _, name := range x.c.sorted(trailers) {
		out = appendField(out, name, trailers[name])
	}
	return out
}

// sorted returns the names in h in order, until the next call.
func (c *conn) sorted(h http.Header) []string {
	c.names = c.names[:0]
	for name := range h {
		c.names = append(c.names, name)
	}
	slices.Sort(c.names)
	return c.names
}

func appendStatus(out []byte, minor, status int) []byte {
	out = append(append(out, "HTTP/1."...), byte('0'+minor), ' ')
	out = strconv.AppendInt(out, int64(status), 10)
	out = append(out, ' ')
	if text := http.StatusText(status); text != "" {
		out = append(out, text...)
	} else {
		out = strconv.AppendInt(append(out, "status code "...), int64(status), 10)
	}
	return append(out, "\r\n"...)
}

// appendField appends a field with all its values; one whose name is none is left out, as in net/http.
func appendField(out []byte, name string, values []string) []byte {
	if !token(name) {
		return out
	}
	for _, value := range values {
		out = appendLine(out, name, textproto.TrimString(value))
	}
	return out
}

// appendLine appends a line; a line end in value would begin another one.
func appendLine(out []byte, name, value string) []byte {
	out = append(append(out, name...), ": "...)
	from := len(out)
	out = append(out, value...)
	for i := from; i < len(out); i++ {
		if out[i] == '\n' || out[i] == '\r' {
			out[i] = ' '
		}
	}
	return append(out, "\r\n"...)
}

func token(name string) bool {
	for i := range len(name) {
		if !tokenByte[name[i]] {
			return false
		}
	}
	return name != ""
}
