package httpwasm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// list is Fields in a slice.
type list []name

func (l *list) Len() int                  { return len(*l) }
func (l *list) At(i int) (string, string) { return (*l)[i].raw, (*l)[i].canonical }
func (l *list) Add(key, value string)     { *l = append(*l, name{key, value}) }
func (l *list) is(key string) func(n name) bool {
	return func(n name) bool { return strings.EqualFold(n.raw, key) }
}

func (l *list) Set(key, value string) {
	at := slices.IndexFunc(*l, l.is(key))
	if at < 0 {
		l.Add(key, value)
		return
	}
	(*l)[at].canonical = value
	rest := slices.DeleteFunc((*l)[at+1:], l.is(key))
	*l = (*l)[:at+1+len(rest)]
}

func (l *list) Del(key string) { *l = slices.DeleteFunc(*l, l.is(key)) }

func (l *list) String() string {
	var lines []string
	for _, n := range *l {
		lines = append(lines, n.raw+": "+n.canonical)
	}
	return strings.Join(lines, "; ")
}

// fake is an exchange in memory. What a guest reads of the request's body is held for the upstream or dropped, as
// KeepRequestBody says.
type fake struct {
	method, uri, protocol, source, id string

	status   int
	fields   [kinds]list
	sources  [bodyKinds][]string // what is left of the bodies, in the chunks that they arrive in
	early    bool                // eof comes with the last chunk, not after it
	held     []byte              // of the request's body: read, and still to go upstream
	keep     bool
	replaced [bodyKinds]bool
	written  [bodyKinds][]byte
	err      error  // of reads and writes
	endless  bool   // reads give nothing
	onRead   func() // called by ReadBody
}

func newFake() *fake {
	x := &fake{method: "GET", uri: "/v1/chat?x=%26", protocol: "HTTP/1.1", source: "1.2.3.4:567", id: "req-1"}
	x.fields[RequestHeader] = list{{"Host", "example.com"}, {"X-B", "1"}, {"Accept", "*/*"}, {"X-B", ""}, {"X-B", "3"}}
	x.fields[RequestTrailer] = list{{"X-Sum", "abc"}}
	x.fields[ResponseTrailer] = list{{"X-Done", "1"}}
	x.sources[RequestBody] = []string{"he", "", "llo ", "world"}
	x.sources[ResponseBody] = []string{"an", "swer"}
	return x
}

func (x *fake) Method() string            { return x.method }
func (x *fake) SetMethod(method string)   { x.method = method }
func (x *fake) URI() string               { return x.uri }
func (x *fake) Protocol() string          { return x.protocol }
func (x *fake) SourceAddr() string        { return x.source }
func (x *fake) RequestID() string         { return x.id }
func (x *fake) Fields(k Kind) Fields      { return &x.fields[k] }
func (x *fake) KeepRequestBody(keep bool) { x.keep = keep }
func (x *fake) SetStatus(code int)        { x.status = code }

func (x *fake) Status() int {
	if x.status == 0 {
		return 200
	}
	return x.status
}

func (x *fake) SetURI(uri string) error {
	if !strings.HasPrefix(uri, "/") {
		return errors.New("a URI begins with a slash")
	}
	x.uri = uri
	return nil
}

func (x *fake) ReadBody(k BodyKind, into []byte) (n int, eof bool, err error) {
	if x.onRead != nil {
		x.onRead()
	}
	if x.endless {
		return 0, false, nil
	}
	chunks := &x.sources[k]
	if len(*chunks) == 0 {
		return 0, x.err == nil, x.err
	}
	n = copy(into, (*chunks)[0])
	if k == RequestBody && x.keep {
		x.held = append(x.held, into[:n]...)
	}
	if (*chunks)[0] = (*chunks)[0][n:]; (*chunks)[0] == "" {
		*chunks = (*chunks)[1:]
	}
	return n, x.early && len(*chunks) == 0, nil
}

func (x *fake) WriteBody(k BodyKind, p []byte, first bool) error {
	if x.err != nil {
		return x.err
	}
	if first {
		x.written[k] = nil
	}
	x.replaced[k] = true
	x.written[k] = append(x.written[k], p...)
	return nil
}

// body is what goes on: to the upstream, or to the client.
func (x *fake) body(k BodyKind) string {
	if x.replaced[k] {
		return string(x.written[k])
	}
	return string(x.held) + strings.Join(x.sources[k], "")
}

// String tells all a guest can have changed.
func (x *fake) String() string {
	return fmt.Sprintf("%s %s %d [%v] [%v] [%v] [%v]", x.method, x.uri, x.Status(),
		&x.fields[0], &x.fields[1], &x.fields[2], &x.fields[3])
}
