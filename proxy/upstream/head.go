package upstream

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// ErrField says that a method, a host, a field or a trailer field cannot stand in a message (RFC 9110, section 5).
var ErrField = errors.New("upstream: not a valid field")

func fieldError(name string) error { return fmt.Errorf("%w: %.64q", ErrField, name) }

// check refuses what would not arrive as one request.
func (d *Direct) check(q *Request) error {
	if !validTarget(q.Target) {
		return ErrTarget
	}
	if !validName(q.Method) {
		return fmt.Errorf("%w: method %.64q", ErrField, q.Method)
	}
	if !validHost(q.Host) {
		return fmt.Errorf("%w: host %.64q", ErrField, q.Host)
	}
	for i := range q.Fields {
		if f := &q.Fields[i]; !validName(f.Name) || !validValue(f.Value) {
			return fieldError(f.Name) // not its value, which may be a secret
		}
	}
	for name := range q.Trailer {
		if !validName(name) || framesMessage(name) {
			return fieldError(name)
		}
	}
	return nil
}

// closes reports whether q says that it is its connection's last request (RFC 9112, section 9.6).
func (q *Request) closes() (closes bool) {
	q.Fields.Tokens("Connection", func(token string) { closes = closes || strings.EqualFold(token, "close") })
	return closes
}

// appendHead appends the head of q's message, which check has let pass.
func (d *Direct) appendHead(b []byte, q *Request) []byte {
	b = append(b, q.Method...)
	b = append(b, ' ')
	b = append(append(b, d.path...), q.Target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	if q.Host != "" {
		b = append(b, q.Host...)
	} else {
		b = append(b, d.host...)
	}
	b = append(b, crlf...)
	for i := range q.Fields {
		b = append(append(b, q.Fields[i].Name...), ": "...)
		b = append(append(b, q.Fields[i].Value...), crlf...)
	}
	switch {
	case q.Body == nil:
		if q.Method == http.MethodPost || q.Method == http.MethodPut || q.Method == http.MethodPatch {
			b = append(b, "Content-Length: 0\r\n"...)
		}
	case q.Length >= 0:
		b = append(b, "Content-Length: "...)
		b = append(strconv.AppendInt(b, q.Length, 10), crlf...)
	default:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		for i, name := range sortedNames(q.Trailer) {
			if i == 0 {
				b = append(b, "Trailer: "...)
			} else {
				b = append(b, ", "...)
			}
			b = append(b, name...)
		}
		if len(q.Trailer) > 0 {
			b = append(b, crlf...)
		}
	}
	return append(b, crlf...)
}

// head reads until a head has ended, and returns it with its empty line. What has come behind it stays in k.filled.
func (k *call) head() ([]byte, error) {
	seen, line := 0, 0 // bytes looked at; where the line began that they end in
	for {
		end, at, err := headEnd(k.filled, seen, line)
		if err != nil {
			return nil, err
		}
		if end > 0 {
			head := k.filled[:end]
			k.filled = k.filled[end:]
			return head, nil
		}
		seen, line = len(k.filled), at
		if len(k.filled) == cap(k.filled) {
			if k.received >= maxHeadBytes {
				return nil, fmt.Errorf("%w: a head of more than %d bytes", ErrAnswer, maxHeadBytes)
			}
			k.filled = append(make([]byte, 0, max(2*cap(k.filled), ownScratch)), k.filled...)
		}
		n, err := k.conn.Read(k.filled[len(k.filled):cap(k.filled)])
		k.filled = k.filled[:len(k.filled)+n]
		k.received += n
		if n == 0 && err != nil {
			return nil, noAnswer(err)
		}
	}
}

// noAnswer says why there is none, as the connection does.
func noAnswer(err error) error {
	if err == io.EOF { //nolint:errorlint // a connection's own, never wrapped
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("upstream: no answer: %w", err)
}
