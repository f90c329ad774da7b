package proxy

import (
	"unicode/utf16"
	"unicode/utf8"
)

// This file is modelScan's reading of text that has to be known: top-level names and the model.

// read takes text that has to be known, byte by byte.
func (s *modelScan) read(p []byte, i int) int {
	for text := s.state; i < len(p) && s.state == text; i++ {
		c, at := p[i], s.base+int64(i)
		switch {
		case c == '"':
			s.closeText(at)
		case c == '\\':
			s.state, s.text = inEscape, text
		case c < ' ':
			s.unexpected(c, at)
		case text == inName:
			s.matchName(rune(c))
		default:
			s.keep(c, at)
		}
	}
	return i
}

// escape takes the byte after a backslash.
func (s *modelScan) escape(p []byte, i int) int {
	c, at := p[i], s.base+int64(i)
	switch known := scanEscapes[c]; {
	case c == 'u':
		s.state, s.unit, s.digits = inHex, 0, 0
	case known == 0:
		s.unexpected(c, at)
	default:
		s.state = s.text
		s.unescaped(rune(known), at)
	}
	return i + 1
}

// hex takes the four digits of \u.
func (s *modelScan) hex(p []byte, i int) int {
	for ; i < len(p) && s.state == inHex; i++ {
		digit, at := scanHex[p[i]], s.base+int64(i)
		s.unit, s.digits = s.unit<<4|uint16(digit&0xf), s.digits+1
		switch {
		case digit == 0:
			s.unexpected(p[i], at)
		case s.digits == 4:
			s.state = s.text
			s.unescaped(rune(s.unit), at)
		}
	}
	return i
}

// unescaped takes what an escape stands for: a character or half of a surrogate pair. Its last byte is at.
func (s *modelScan) unescaped(r rune, at int64) {
	switch {
	case s.text == inPlain:
		return
	case s.text == inName:
		s.matchName(r)
		return
	case s.high == 0 && r >= 0xd800 && r < 0xdc00:
		s.high = uint16(r)
		return
	case s.high != 0:
		r, s.high = utf16.DecodeRune(rune(s.high), r), 0
		if r == utf8.RuneError {
			s.fail(errModelText, "lone surrogate before the escape that ends", at)
			return
		}
	case utf16.IsSurrogate(r):
		s.fail(errModelText, "lone surrogate ends", at)
		return
	}
	var room [utf8.UTFMax]byte
	for _, c := range utf8.AppendRune(room[:0], r) {
		s.keep(c, at)
	}
}

// matchName compares one more character of a top-level name with those that are looked for.
func (s *modelScan) matchName(r rune) {
	if s.done == 0 && r == rune(nameFallbacks[0]) && s.wishes {
		s.name = nameFallbacks
	}
	if int(s.done) == len(s.name) || rune(s.name[s.done]) != r {
		s.state = inPlain
		return
	}
	s.done++
}

// keep takes one raw byte of the model. closeText checks that such bytes make UTF-8.
func (s *modelScan) keep(c byte, at int64) {
	switch {
	case s.high != 0:
		s.fail(errModelText, "lone surrogate before the character", at)
	case s.size == modelMaxBytes:
		s.fail(errModelLong, "it goes on", at)
	default:
		s.value[s.size] = c
		s.size++
		if c == '/' && s.rest == 0 {
			s.rest = at + 1
		}
	}
}

// closeText ends a top-level name that may be one that is looked for, or the model.
func (s *modelScan) closeText(at int64) {
	model := s.state == inModel
	s.state = s.then
	switch {
	case model && s.high != 0:
		s.fail(errModelText, "lone surrogate before the quote", at)
	case model && !utf8.Valid(s.value[:s.size]):
		s.fail(errModelText, "invalid UTF-8 in the value that ends", at)
	case model:
		s.stop = at
	case int(s.done) < len(s.name):
	case s.name == nameFallbacks && s.wish != wishNone:
		s.fail(errFallbacksTwice, "its name ends", at)
	case s.name == nameFallbacks:
		s.extra.present, s.first, s.state = true, s.comma == 0, wantFallbacksColon
	case s.found:
		s.fail(errModelTwice, "its name ends", at)
	default:
		s.found, s.state = true, wantModelColon
	}
}
