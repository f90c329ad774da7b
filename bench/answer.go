package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

const (
	okPrefix   = "HTTP/1.1 200 "
	shownBytes = 300 // of an answer that is not 200, in the error
	noLength   = -1
)

// readAnswer reads one answer to its end and returns an error unless it is 200, its content has so many bytes and the
// connection stays open. r must hold the longest line.
func readAnswer(r *bufio.Reader, contentBytes int) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return endless(err)
	}
	if !bytes.HasPrefix(line, []byte(okPrefix)) {
		rest, _ := r.Peek(min(r.Buffered(), shownBytes)) // it is buffered
		return fmt.Errorf("got status %q, want 200; then came %q", bytes.TrimSpace(line), rest)
	}
	length, err := readFields(r)
	if err != nil {
		return err
	}
	got := length
	if length == noLength {
		if got, err = discardChunks(r, contentBytes); err != nil {
			return err
		}
	}
	if got != contentBytes {
		return fmt.Errorf("got an answer of %d bytes, want %d", got, contentBytes)
	}
	if length != noLength {
		_, err = r.Discard(length)
	}
	return endless(err)
}

// endless makes an end of the connection within an answer an error that says so.
func endless(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readFields reads the header section and returns Content-Length, or noLength when the content comes in chunks.
func readFields(r *bufio.Reader) (int, error) {
	length, chunked := noLength, false
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, endless(err)
		}
		line = bytes.TrimSuffix(line[:len(line)-1], []byte("\r"))
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 {
				return 0, fmt.Errorf("got Content-Length %q", value)
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			if chunked = bytes.EqualFold(value, []byte("chunked")); !chunked {
				return 0, fmt.Errorf("got Transfer-Encoding %q, want chunked", value)
			}
		case bytes.EqualFold(name, []byte("Connection")) && bytes.EqualFold(value, []byte("close")):
			return 0, errors.New("the connection is to be closed, want it kept")
		}
	}
	if chunked == (length != noLength) {
		return 0, errors.New("want an answer with either Content-Length or chunks")
	}
	return length, nil
}

// discardChunks reads chunked content to its end and returns its length. It gives up when there is more than wanted.
func discardChunks(r *bufio.Reader, wanted int) (int, error) {
	total := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, endless(err)
		}
		size, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 31)
		if err != nil {
			return 0, fmt.Errorf("got chunk size %q", bytes.TrimSpace(line))
		}
		if total += int(size); total > wanted {
			return 0, fmt.Errorf("got an answer of %d bytes and more, want %d", total, wanted)
		}
		if _, err := r.Discard(int(size)); err != nil {
			return 0, endless(err)
		}
		// The end of this chunk, or of the whole: no trailers are sent.
		if line, err = r.ReadSlice('\n'); err != nil {
			return 0, endless(err)
		}
		if len(bytes.TrimSpace(line)) > 0 {
			return 0, fmt.Errorf("got %q behind a chunk", bytes.TrimSpace(line))
		}
		if size == 0 {
			return total, nil
		}
	}
}
