package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
)

const (
	okPrefix   = "HTTP/1.1 200 "
	shownBytes = 300 // of an answer that is not 200, in the error
	noLength   = -1
)

// readAnswer reads one answer to its end and returns an error unless it is 200, its content has so many bytes and the
// connection stays open. With events, it takes the time of each. r must hold the longest line.
func readAnswer(r *bufio.Reader, contentBytes int, events *eventClock) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return endless(err)
	}
	if !bytes.HasPrefix(line, []byte(okPrefix)) {
		rest, _ := r.Peek(min(r.Buffered(), shownBytes)) // it is buffered
		return fmt.Errorf("got status %q, want 200; then came %q", bytes.TrimSpace(line), rest)
	}
	f, err := readFields(r)
	switch {
	case err != nil:
		return err
	case f.close:
		return errors.New("the connection is to be closed, want it kept")
	case f.chunked:
		return takeChunks(r, contentBytes, events)
	case f.length == noLength:
		return errors.New("want an answer with either Content-Length or chunks")
	case f.length != contentBytes:
		return fmt.Errorf("got %d bytes, want %d", f.length, contentBytes)
	}
	return take(r, f.length, events)
}

// endless makes an end of the connection within a message an error that says so.
func endless(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// fields are what of a header section matters here: above all where the message ends.
type fields struct {
	length  int // Content-Length or noLength
	chunked bool
	close   bool // no other message follows
	stamped bool // x-stamp: edge
}

func readFields(r *bufio.Reader) (fields, error) {
	f := fields{length: noLength}
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return f, endless(err)
		}
		line = bytes.TrimSuffix(line[:len(line)-1], []byte("\r"))
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if f.length, err = strconv.Atoi(string(value)); err != nil || f.length < 0 {
				return f, fmt.Errorf("got Content-Length %q", value)
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			if f.chunked = bytes.EqualFold(value, []byte("chunked")); !f.chunked {
				return f, fmt.Errorf("got Transfer-Encoding %q, want chunked", value)
			}
		case bytes.EqualFold(name, []byte("Connection")) && bytes.EqualFold(value, []byte("close")):
			f.close = true
		case bytes.EqualFold(name, []byte("X-Stamp")):
			f.stamped = string(value) == "edge"
		}
	}
	if f.chunked && f.length != noLength {
		return f, errors.New("want either Content-Length or chunks, got both")
	}
	return f, nil
}

// takeChunks takes chunked content to its end. It gives up when there is more than wanted.
func takeChunks(r *bufio.Reader, wanted int, events *eventClock) error {
	total := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return endless(err)
		}
		size, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 31)
		if err != nil {
			return fmt.Errorf("got chunk size %q", bytes.TrimSpace(line))
		}
		if total += int(size); total > wanted {
			return fmt.Errorf("got %d bytes and more, want %d", total, wanted)
		}
		if err := take(r, int(size), events); err != nil {
			return err
		}
		// The end of this chunk, or of the whole: no trailers are sent.
		if line, err = r.ReadSlice('\n'); err != nil {
			return endless(err)
		}
		if len(bytes.TrimSpace(line)) > 0 {
			return fmt.Errorf("got %q behind a chunk", bytes.TrimSpace(line))
		}
		if size > 0 {
			continue
		}
		if total != wanted {
			return fmt.Errorf("got %d bytes, want %d", total, wanted)
		}
		return nil
	}
}

// take takes content that nobody looks at, but for the stamps of events.
func take(r *bufio.Reader, size int, events *eventClock) error {
	if events != nil {
		return events.read(r, size)
	}
	buffered := min(size, r.Buffered())
	_, _ = r.Discard(buffered) // it is buffered
	size -= buffered
	if size <= r.Size() {
		_, err := r.Discard(size)
		return endless(err)
	}
	scratch := scratches.Get().(*[scratchBytes]byte)
	defer scratches.Put(scratch)
	for size > 0 { // r's own buffer, which is empty and smaller, stays out of it
		n, err := r.Read(scratch[:min(size, len(scratch))])
		if size -= n; err != nil {
			return endless(err)
		}
	}
	return nil
}

// Content larger than a connection's buffer goes into one that the few connections share which read at the moment.
const scratchBytes = 64 << 10

var scratches = sync.Pool{New: func() any { return new([scratchBytes]byte) }}
