package upstream

import (
	"fmt"
)

const (
	maxChunkLine = 16 << 10 // bytes of a line that says a chunk's size
	maxTrailer   = 1 << 20  // bytes of a trailer section
)

// chunked decodes chunked content (RFC 9112, section 7.1), however it is cut into pieces.
type chunked struct {
	state   chunkState
	left    int64 // bytes of the chunk to come
	digits  int   // of its size
	line    int   // bytes of the line that says it
	excess  int   // bytes of such lines that the content does not make up for
	section []byte
	begun   int // where in section the last line begins
	fields  Fields
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkSpace
	chunkExtension
	chunkSizeLF
	chunkData
	chunkDataCR
	chunkDataLF
	chunkTrailer
	chunkDone
)

// done reports whether the content has ended, its trailer included.
func (d *chunked) done() bool { return d.state == chunkDone }

// decode moves the content that is in p to its front. It returns the bytes of that, and how many of p were used: all of
// them, unless the content has ended.
func (d *chunked) decode(p []byte) (n, used int, err error) {
	for used < len(p) && d.state != chunkDone {
		if d.state == chunkData {
			m := int(min(d.left, int64(len(p)-used)))
			if n != used {
				copy(p[n:], p[used:used+m])
			}
			n, used, d.left = n+m, used+m, d.left-int64(m)
			if d.left == 0 {
				d.state = chunkDataCR
			}
			continue
		}
		if err := d.step(p[used]); err != nil {
			return n, used, err
		}
		used++
	}
	return n, used, nil
}

// ready reports whether raw bytes that come next have content in them.
func (d *chunked) ready(raw []byte) bool {
	ahead := *d
	for _, c := range raw {
		switch {
		case ahead.state == chunkData:
			return true
		case ahead.state >= chunkTrailer || ahead.step(c) != nil:
			return false
		}
	}
	return false
}

// step takes one byte that is not content.
func (d *chunked) step(c byte) error {
	switch d.state {
	case chunkSize:
		return d.sizeByte(c)
	case chunkSpace, chunkExtension:
		return d.behindSize(c)
	case chunkSizeLF:
		return d.sizeEnd(c)
	case chunkDataCR:
		if c != '\r' {
			return fmt.Errorf("%w: byte %#02x where a chunk ends", ErrAnswer, c)
		}
		d.state = chunkDataLF
	case chunkDataLF:
		if c != '\n' {
			return fmt.Errorf("%w: byte %#02x where a chunk ends", ErrAnswer, c)
		}
		d.state, d.digits, d.line = chunkSize, 0, 0
	default:
		return d.trailerByte(c)
	}
	return nil
}

// behindSize takes space, and behind a semicolon anything but controls.
func (d *chunked) behindSize(c byte) error {
	if d.line++; d.line > maxChunkLine {
		return fmt.Errorf("%w: a chunk's size takes more than %d bytes", ErrAnswer, maxChunkLine)
	}
	switch {
	case c == '\r':
		d.state = chunkSizeLF
	case c == ';':
		d.state = chunkExtension
	case !valueBytes[c], d.state == chunkSpace && c != ' ' && c != '\t':
		return fmt.Errorf("%w: byte %#02x behind a chunk's size", ErrAnswer, c)
	}
	return nil
}

func (d *chunked) sizeByte(c byte) error {
	d.line++
	digit := int64(-1)
	switch {
	case '0' <= c && c <= '9':
		digit = int64(c - '0')
	case 'a' <= c && c <= 'f':
		digit = int64(c-'a') + 10
	case 'A' <= c && c <= 'F':
		digit = int64(c-'A') + 10
	}
	switch {
	case digit >= 0:
		if d.digits++; d.digits > 16 || d.left >= 1<<59 {
			return fmt.Errorf("%w: a chunk's size of more than 63 bits", ErrAnswer)
		}
		d.left = d.left<<4 | digit
	case d.digits == 0:
		return fmt.Errorf("%w: byte %#02x where a chunk's size begins", ErrAnswer, c)
	case c == '\r':
		d.state = chunkSizeLF
	case c == ';':
		d.state = chunkExtension
	case c == ' ' || c == '\t':
		d.state = chunkSpace
	default:
		return fmt.Errorf("%w: byte %#02x in a chunk's size", ErrAnswer, c)
	}
	return nil
}

// sizeEnd bounds what is not content, so that a few bytes cannot cost megabytes: lines of 16 bytes are granted, and
// twice what the chunk holds.
func (d *chunked) sizeEnd(c byte) error {
	if c != '\n' {
		return fmt.Errorf("%w: byte %#02x behind a chunk's size", ErrAnswer, c)
	}
	d.excess = max(0, d.excess+d.line+1-16-2*int(min(d.left, maxChunkLine)))
	if d.excess > maxChunkLine {
		return fmt.Errorf("%w: chunks with hardly any content", ErrAnswer)
	}
	if d.state = chunkData; d.left == 0 {
		d.state = chunkTrailer
	}
	return nil
}

// trailerByte collects the trailer section until its empty line.
func (d *chunked) trailerByte(c byte) error {
	if len(d.section) >= maxTrailer {
		return fmt.Errorf("%w: a trailer of more than %d bytes", ErrAnswer, maxTrailer)
	}
	d.section = append(d.section, c)
	if c != '\n' {
		return nil
	}
	end := len(d.section)
	if end-d.begun < 2 || d.section[end-2] != '\r' {
		return fmt.Errorf("%w: a line of its trailer ends without CR", ErrAnswer)
	}
	if end-d.begun > 2 {
		d.begun = end
		return nil
	}
	d.state = chunkDone
	var fields Fields
	s := section{lines: d.section[:d.begun]}
	d.section = nil
	for len(s.lines) > 0 {
		name, value, err := s.next()
		if err != nil {
			return err
		}
		if !framesMessage(name) {
			fields = append(fields, Field{name, value})
		}
	}
	d.fields = fields
	return nil
}
