package translate

import (
	"bytes"
	"errors"
)

// maxEvent bounds an event of a stream, and a line of it.
const maxEvent = 4 << 20

var errEventTooLarge = errors.New("event too large")

// events cuts server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) out of chunks, which may
// end anywhere. Lines end with CR LF, LF or CR. Of an event only the data are kept: Anthropic's name their type.
type events struct {
	line    []byte // begun
	data    []byte // of the event begun
	has     bool   // a data line
	begun   bool   // the stream: a byte order mark may only come before
	afterCR bool   // an LF now belongs to the line end before it
}

// feed calls f with the data of each event that ends in the chunk; they are valid during the call. Its error is f's, or
// errEventTooLarge; nothing may be fed after one.
func (e *events) feed(chunk []byte, f func(data []byte) error) error {
	for len(chunk) > 0 {
		if e.afterCR {
			e.afterCR = false
			if chunk[0] == '\n' {
				chunk = chunk[1:]
				continue
			}
		}
		end := bytes.IndexAny(chunk, "\r\n")
		if end < 0 {
			end = len(chunk)
		}
		if len(e.line)+end > maxEvent {
			return errEventTooLarge
		}
		e.line = append(e.line, chunk[:end]...)
		if end == len(chunk) {
			return nil
		}
		e.afterCR = chunk[end] == '\r'
		chunk = chunk[end+1:]
		if err := e.endLine(f); err != nil {
			return err
		}
	}
	return nil
}

func (e *events) endLine(f func(data []byte) error) error {
	line := e.line
	e.line = e.line[:0]
	if !e.begun {
		e.begun = true
		line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	}
	if len(line) == 0 {
		data, has := e.data, e.has
		e.data, e.has = e.data[:0], false
		if !has {
			return nil
		}
		return f(data)
	}
	name, value, _ := bytes.Cut(line, []byte(":"))
	if string(name) != "data" {
		return nil
	}
	value = bytes.TrimPrefix(value, []byte(" "))
	if len(e.data)+1+len(value) > maxEvent {
		return errEventTooLarge
	}
	if e.has {
		e.data = append(e.data, '\n')
	}
	e.data = append(e.data, value...)
	e.has = true
	return nil
}
