package takeover

import (
	"context"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

// request makes the request whose head is in b, and its framing. The order of the checks is net/http's, so that a
// request with several faults is refused with the same words.
func (c *conn) request(b []byte, x *exchange) (http.Request, error) {
	h := &c.head
	text := string(b[:h.at]) // all strings of the request are parts of this one
	r := http.Request{
		Method: methodOf(h.method.of(text)), RequestURI: h.target.of(text), RemoteAddr: c.remote,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody, Header: c.header,
	}
	if h.minor == 0 {
		r.Proto, r.ProtoMinor = "HTTP/1.0", 0
	}
	var err error
	if r.URL, err = target(r.Method, r.RequestURI); err != nil {
		return r, errBad
	}
	f := c.fields(r.Header, text)
	if f.hosts > 1 {
		return r, errBad
	}
	if f.pragma && first(r.Header, "Pragma") == "no-cache" {
		if _, has := r.Header["Cache-Control"]; !has {
			r.Header["Cache-Control"] = []string{"no-cache"}
		}
	}
	if r.Host = r.URL.Host; r.Host == "" {
		r.Host = f.host
	}
	if err := c.frame(&r, &f); err != nil {
		return r, err
	}
	switch {
	case h.minor < 0:
		return r, errVersion
	case f.hosts == 0 && h.minor > 0:
		return r, errNoHost
	case !hostOf(f.host):
		return r, errHost
	case h.spaced:
		return r, errName
	}
	return r, x.expect(&r, &f)
}

// framing is what a head says of the message and the connection.
type framing struct {
	hosts, codings, lengths             int
	host, coding, length                string
	clash                               bool // two lengths that differ
	connection, trailer, pragma, expect bool
}

// fields puts the fields into h, but for those that net/http keeps to itself.
func (c *conn) fields(h http.Header, text string) (f framing) {
	for _, l := range c.head.fields {
		name, value := l.name.of(text), l.value.of(text)
		switch name {
		case "Host":
			f.hosts++
			f.host = value
			continue
		case "Transfer-Encoding":
			f.codings++
			f.coding = value
			continue
		case "Content-Length":
			if f.lengths++; f.lengths > 1 { // says nothing new, or something else
				f.clash = f.clash || value != f.length
				continue
			}
			f.length = value
		case "Connection":
			f.connection = true
		case "Trailer":
			f.trailer = true
		case "Pragma":
			f.pragma = true
		case "Expect":
			f.expect = true
		}
		c.put(h, name, value)
	}
	return f
}

// frame sets how long the content is, and what concerns the connection (RFC 9112, sections 6 and 9).
func (c *conn) frame(r *http.Request, f *framing) error {
	if f.connection {
		r.Close = containsToken(r.Header["Connection"], "close")
	}
	if r.ProtoMinor == 0 {
		r.Close = r.Close || !containsToken(r.Header["Connection"], "keep-alive")
	}
	switch {
	case f.codings > 0:
		// Whoever reads such a message by its Content-Length sees another one.
		if f.codings > 1 || !equalFold(f.coding, "chunked") {
			return errCoding
		}
		if f.lengths > 0 || r.ProtoMinor == 0 {
			return errBad
		}
		r.ContentLength, r.TransferEncoding = -1, []string{"chunked"}
	case f.lengths > 0:
		n, err := strconv.ParseUint(f.length, 10, 63)
		if err != nil || f.clash {
			return errBad
		}
		r.ContentLength = int64(n)
	}
	if f.trailer && r.ContentLength < 0 {
		return announced(r)
	}
	return nil
}

// announced moves the names in Trailer to r.Trailer.
func announced(r *http.Request) error {
	names := http.Header{}
	var err error
	for _, value := range r.Header["Trailer"] {
		eachElement(value, func(name string) {
			switch name = http.CanonicalHeaderKey(name); name {
			case "Transfer-Encoding", "Trailer", "Content-Length":
				err = errBad
			}
			names[name] = nil
		})
	}
	delete(r.Header, "Trailer")
	if len(names) > 0 {
		r.Trailer = names
	}
	return err
}

// expect notes what the client waits for before it sends the content (RFC 9110, section 10.1.1).
func (x *exchange) expect(r *http.Request, f *framing) error {
	if !f.expect {
		return nil
	}
	switch value := first(r.Header, "Expect"); {
	case hasToken(value, "100-continue"):
		x.content.expected = r.ProtoMinor > 0 && r.ContentLength != 0
	case value != "":
		return errExpectation
	}
	return nil
}

// put adds a field to h. All values of a head lie in one array.
func (c *conn) put(h http.Header, name, value string) {
	if others, has := h[name]; has {
		h[name] = append(others, value)
		return
	}
	n := len(c.values)
	c.values = append(c.values, value)
	h[name] = c.values[n : n+1 : n+1]
}

// with returns the request with a context of its own, which ends with its handler.
func with(ctx context.Context, r http.Request) *http.Request {
	return r.WithContext(ctx) // copies it, which is the one time that it goes to the heap
}

// target parses the request's target as net/http does: that of CONNECT is a host alone.
func target(method, uri string) (*url.URL, error) {
	if method != http.MethodConnect || strings.HasPrefix(uri, "/") {
		return url.ParseRequestURI(uri)
	}
	u, err := url.ParseRequestURI("http://" + uri)
	if err == nil {
		u.Scheme = ""
	}
	return u, err
}

// methodOf keeps a usual method from keeping the whole head alive.
func methodOf(name string) string {
	switch name {
	case http.MethodGet:
		return http.MethodGet
	case http.MethodPost:
		return http.MethodPost
	case http.MethodHead:
		return http.MethodHead
	}
	return name
}

func hostOf(host string) bool {
	for i := range len(host) {
		if !hostByte[host[i]] {
			return false
		}
	}
	return true
}

// first returns the first value of a field whose name is canonical.
func first(h http.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// containsToken reports whether one of a list's elements is token (RFC 9110, section 5.6.1).
func containsToken(values []string, token string) bool {
	for _, value := range values {
		for element := range strings.SplitSeq(value, ",") {
			if equalFold(strings.Trim(element, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// hasToken reports whether token, in lower case, is between spaces or commas in value: net/http's own looser rule.
func hasToken(value, token string) bool {
	boundary := func(at int) bool {
		return at < 0 || at >= len(value) || value[at] == ' ' || value[at] == ',' || value[at] == '\t'
	}
	for at := 0; at+len(token) <= len(value); at++ {
		if boundary(at-1) && boundary(at+len(token)) && equalFold(value[at:at+len(token)], token) {
			return true
		}
	}
	return false
}

// equalFold is strings.EqualFold for ASCII: there are characters beyond it that fold to letters.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c - 'A' + 'a'
	}
	return c
}

// eachElement calls do for each element of a list that is not empty.
func eachElement(value string, do func(string)) {
	for element := range strings.SplitSeq(value, ",") {
		if element = textproto.TrimString(element); element != "" {
			do(element)
		}
	}
}
