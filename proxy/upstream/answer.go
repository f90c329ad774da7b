package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"net/textproto"
	"strconv"
	"strings"
	"time"
)

// ErrAnswer says that an upstream's answer is not HTTP/1.1 (RFC 9112). What an intermediary may repair is refused, too:
// lines that end with LF alone, continued lines, space before a colon.
var ErrAnswer = errors.New("upstream: malformed answer")

// answerHead is the head of an answer.
type answerHead struct {
	status   int
	fields   Fields
	length   int64         // -1: not declared, or of no account
	chunked  bool          // the content is chunked
	keeps    bool          // the connection may carry another request
	closes   bool          // it was said that it may not
	idle     time.Duration // how long it may be idle before it does; 0: not said
	trailers []string      // announced, in canonical form
}

// headEnd looks at b from seen on and returns where its head ends, 0 when that is not there yet. line is where the line
// began that seen is in; so is what it returns.
func headEnd(b []byte, seen, line int) (end, at int, err error) {
	for {
		i := bytes.IndexByte(b[seen:], '\n')
		if i < 0 {
			return 0, line, nil
		}
		i += seen
		if i == line || b[i-1] != '\r' {
			return 0, 0, fmt.Errorf("%w: a line of its head ends without CR", ErrAnswer)
		}
		if i-1 == line {
			if line == 0 {
				return 0, 0, fmt.Errorf("%w: it begins with an empty line", ErrAnswer)
			}
			return i + 1, 0, nil
		}
		line, seen = i+1, i+1
	}
}

// parseHead reads a head that headEnd has found the end of, and appends its fields to into. It changes head: names become
// canonical there, so that all strings are parts of one.
func parseHead(head []byte, into Fields) (h answerHead, err error) {
	first := bytes.IndexByte(head, '\n') + 1
	status, ten, err := parseStatus(head[:first-2])
	if err != nil {
		return h, err
	}
	h = answerHead{status: status, length: -1, keeps: !ten, fields: into}
	declared := int64(-1)
	s := section{lines: head[first : len(head)-2]}
	for len(s.lines) > 0 {
		name, value, err := s.next()
		if err != nil {
			return h, err
		}
		switch name {
		case "Content-Length":
			n, err := parseLength(value)
			if err != nil || declared >= 0 && n != declared {
				return h, fmt.Errorf("%w: Content-Length %.64q", ErrAnswer, value)
			}
			if declared >= 0 {
				continue // said twice
			}
			declared = n
		case "Transfer-Encoding":
			if h.chunked || ten || !strings.EqualFold(value, "chunked") {
				return h, fmt.Errorf("%w: Transfer-Encoding %.64q", ErrAnswer, value)
			}
			h.chunked = true
			continue
		case "Trailer":
			h.trailers = appendTokens(h.trailers, value)
			continue
		case "Connection":
			h.connection(value, ten)
		case "Keep-Alive":
			h.idle = idleOf(value)
		}
		h.fields = append(h.fields, Field{name, value})
	}
	if h.length = declared; h.chunked && declared >= 0 { // smuggling, or a mistake (RFC 9112, section 6.3)
		h.length, h.keeps = -1, false
		h.fields.Del("Content-Length")
	}
	return h, nil
}

// parseStatus reads "HTTP/1.1 200 OK" and reports whether it is of HTTP/1.0.
func parseStatus(line []byte) (status int, ten bool, err error) {
	wrong := func() (int, bool, error) { return 0, false, fmt.Errorf("%w: %.64q", ErrAnswer, line) }
	if len(line) < len("HTTP/1.1 200") || string(line[:7]) != "HTTP/1." || line[7] != '1' && line[7] != '0' || line[8] != ' ' {
		return wrong()
	}
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return wrong()
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 || len(line) > 12 && line[12] != ' ' {
		return wrong()
	}
	for _, c := range line[12:] {
		if !valueBytes[c] {
			return wrong()
		}
	}
	return status, line[7] == '0', nil
}

// section reads lines of fields, each with its CRLF. It changes them: names become canonical there.
type section struct {
	lines []byte          // still to be read
	text  strings.Builder // what was read; all strings are parts of it, so that they are one allocation
}

// next checks the first of the lines and takes its field.
func (s *section) next() (name, value string, err error) {
	b := s.lines
	colon := 0
	for cased := &upperName; cased[b[colon]] != 0; colon++ { // ends at the LF at the latest
		b[colon] = cased[b[colon]]
		if cased = &lowerName; b[colon] == '-' {
			cased = &upperName
		}
	}
	if colon == 0 || b[colon] != ':' {
		return "", "", fmt.Errorf("%w: a line without a field's name", ErrAnswer)
	}
	end := colon + 1 + valueLen(b[colon+1:])
	if b[end] != '\r' || b[end+1] != '\n' {
		return "", "", fmt.Errorf("%w: a control character in %.64s", ErrAnswer, b[:colon])
	}
	if s.text.Cap() == 0 {
		s.text.Grow(len(b)) // enough for all that follow
	}
	at := s.text.Len()
	s.text.Write(b[:end])
	s.lines = b[end+2:]
	line := s.text.String()[at:]
	return line[:colon], textproto.TrimString(line[colon+1:]), nil
}

// parseLength reads a Content-Length: digits only (RFC 9110, section 8.6).
func parseLength(value string) (int64, error) {
	if value == "" || value[0] < '0' || value[0] > '9' {
		return 0, ErrAnswer
	}
	return strconv.ParseInt(value, 10, 64)
}

// connection reads what Connection says of keeping it (RFC 9112, section 9.3).
func (h *answerHead) connection(value string, ten bool) {
	for token := range strings.SplitSeq(value, ",") {
		switch token = textproto.TrimString(token); {
		case strings.EqualFold(token, "close"):
			h.keeps, h.closes = false, true
		case ten && strings.EqualFold(token, "keep-alive"):
			h.keeps = !h.closes
		}
	}
}

// idleOf reads Keep-Alive's timeout, in seconds, and stays a second below it. Less than 2 means a second all the same.
func idleOf(value string) time.Duration {
	for parameter := range strings.SplitSeq(value, ",") {
		name, number, _ := strings.Cut(textproto.TrimString(parameter), "=")
		if !strings.EqualFold(name, "timeout") {
			continue
		}
		if seconds, err := strconv.ParseUint(number, 10, 16); err == nil {
			return max(time.Duration(seconds)*time.Second-time.Second, time.Second)
		}
	}
	return 0
}

// appendTokens appends the names that a Trailer field lists, but for those that cannot be in a trailer.
func appendTokens(names []string, value string) []string {
	for token := range strings.SplitSeq(value, ",") {
		token = textproto.CanonicalMIMEHeaderKey(textproto.TrimString(token))
		if validName(token) && !framesMessage(token) {
			names = append(names, token)
		}
	}
	return names
}

// framesMessage reports whether a field cannot be in a trailer since it says where a message ends (RFC 9110, section
// 6.5.1).
func framesMessage(name string) bool {
	return strings.EqualFold(name, "Content-Length") || strings.EqualFold(name, "Transfer-Encoding") || strings.EqualFold(name, "Trailer")
}
