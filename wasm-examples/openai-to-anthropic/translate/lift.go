package translate

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// lifted are long strings that were taken out of a JSON text, in which marks stand instead. What people say and show goes on
// as it is, escapes and all, and encoding/json would walk through each megabyte of it half a dozen times.
type lifted struct {
	mark   string // does not occur in the text itself
	pieces [][]byte
}

// minLift is the least that is lifted.
const minLift = 1 << 10

// lift takes out the long strings called text and content, and the data of data: URLs. The pieces are body's own bytes, and
// what a JSON string may hold; of a body that is not JSON it leaves a text that is not either.
func lift(body []byte) (text []byte, l lifted) {
	if len(body) < minLift {
		return body, l
	}
	for n := 0; l.mark == "" || bytes.Contains(body, []byte(l.mark)); n++ {
		l.mark = "lifted." + strconv.Itoa(n) + "."
	}
	done := 0 // of body, which is in text
	for at := 0; ; {
		quote := bytes.IndexByte(body[at:], '"')
		if quote < 0 {
			break
		}
		start := at + quote + 1
		size := stringSize(body[start:])
		if size < 0 {
			break
		}
		piece := body[start : start+size]
		if keep := keepOf(body[:start-1], piece); size-keep >= minLift && utf8.Valid(piece) {
			text = append(append(text, body[done:start+keep]...), l.mark...)
			text = append(strconv.AppendInt(text, int64(len(l.pieces)), 10), '.')
			l.pieces = append(l.pieces, piece[keep:])
			done = start + size
		}
		at = start + size + 1
	}
	return append(text, body[done:]...), l
}

// stringSize returns how long a JSON string is of which the opening quote has been read; -1 for none.
func stringSize(b []byte) int {
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i
		case c < ' ':
			return -1
		case c == '\\':
			if i++; i == len(b) {
				return -1
			}
			switch b[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					if i++; i == len(b) || !isHex(b[i]) {
						return -1
					}
				}
			default:
				return -1
			}
		}
	}
	return -1
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f' }

// keepOf returns how much of a string stays in the text: all of one that is not liftable.
func keepOf(before, piece []byte) int {
	if len(piece) < minLift {
		return len(piece)
	}
	if bytes.HasPrefix(piece, []byte("data:")) {
		if comma := bytes.IndexByte(piece[:100], ','); comma >= 0 && bytes.IndexByte(piece[:comma], '\\') < 0 {
			return comma + 1
		}
	}
	const space = " \t\r\n"
	if name, isMember := bytes.CutSuffix(bytes.TrimRight(before, space), []byte(":")); isMember {
		name = bytes.TrimRight(name, space)
		if bytes.HasSuffix(name, []byte(`"text"`)) || bytes.HasSuffix(name, []byte(`"content"`)) {
			return 0
		}
	}
	return len(piece)
}

// restore puts the pieces back into a JSON text in which their marks stand.
func (l lifted) restore(text []byte) []byte {
	if len(l.pieces) == 0 {
		return text
	}
	size := len(text)
	for _, piece := range l.pieces {
		size += len(piece)
	}
	out := make([]byte, 0, size)
	for {
		before, after, ok := bytes.Cut(text, []byte(l.mark))
		out = append(out, before...)
		if !ok {
			return out
		}
		number, rest, _ := bytes.Cut(after, []byte("."))
		i, err := strconv.Atoi(string(number))
		if err != nil || i < 0 || i >= len(l.pieces) { // an escaped copy of the mark, by somebody who likes riddles
			out = append(out, l.mark...)
			text = after
			continue
		}
		out = append(out, l.pieces[i]...)
		text = rest
	}
}
