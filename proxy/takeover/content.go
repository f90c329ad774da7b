package takeover

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	leftBytes    = 256 << 10       // content that a handler left and that is read so that the connection can go on
	leftTime     = 5 * time.Second // how long that may take, unless the handler has set a deadline
	lineBytes    = 4 << 10         // a chunk's first line, and a whole trailer
	excessBytes  = 16 << 10        // of chunks' framing beyond 16 bytes each and twice what they carry, as in net/http
	directlyFrom = 1 << 10         // a read of so much goes past the connection's buffer
)

// content is a request's Body. While it is open, whoever holds mu owns the reading side of the connection; once it is
// closed, that is the connection's own goroutine, and a reader that comes late gets an error.
type content struct {
	c        *conn
	request  *http.Request // gets the trailer
	expected bool          // the client waits for 100 Continue

	continuing sync.Mutex
	continued  bool // 100 went out, or need not go out any more

	mu      sync.Mutex
	chunked bool
	left    int64 // of the content or, when chunked, of this chunk
	behind  bool  // a chunk's last byte was read, its line end was not
	excess  int64
	ended   bool  // the last byte was read, and the trailer
	broken  error // what makes all further reads fail
	closed  bool
	early   atomic.Bool // closed with too much left
	eof     atomic.Bool // ended, for who does not hold mu
	shut    atomic.Bool // Close was called, for who does not hold mu
}

var (
	errChunk   = errors.New("takeover: malformed chunked content")
	errTrailer = errors.New("takeover: malformed trailer")
)

// init makes b the content that is length bytes long; -1 is chunked.
func (b *content) init(c *conn, length int64) {
	b.c, b.left, b.chunked = c, max(0, length), length < 0
}

// Read reads content; the last of it comes with io.EOF. It may be called while the answer is written.
func (b *content) Read(p []byte) (int, error) {
	if b.expected {
		if b.shut.Load() {
			return 0, http.ErrBodyReadAfterClose
		}
		b.sendContinue()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.read(p)
}

// Close reads what is left of a small content, so that the connection can go on. One that waits for 100 Continue may
// never come, so there the connection ends.
func (b *content) Close() error {
	b.shut.Store(true)
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.close()
}

// sendContinue tells the client, once, that its content is wanted.
func (b *content) sendContinue() {
	b.continuing.Lock()
	defer b.continuing.Unlock()
	if !b.continued {
		b.continued = true
		_, _ = io.WriteString(b.c.rwc, "HTTP/1.1 100 Continue\r\n\r\n") // if it fails, so will the read
	}
}

// noContinue keeps 100 Continue from going out behind the head of an answer.
func (b *content) noContinue() {
	if b.expected {
		b.continuing.Lock()
		b.continued = true
		b.continuing.Unlock()
	}
}

// close is Close under mu.
func (b *content) close() (err error) {
	if b.closed {
		return nil
	}
	if !b.ended && b.broken == nil && !b.expected {
		var over bool
		if over, err = b.skip(leftBytes); over {
			b.early.Store(true)
		}
	}
	b.closed = true
	return err
}

// end closes the content behind its handler. Unless the connection is to be kept, nothing more is read. It reports
// whether the next request can be read.
func (b *content) end(keep bool) bool {
	if !b.mu.TryLock() { // somebody reads on whom the handler has left behind
		b.c.interrupt()
		b.mu.Lock()
	}
	defer b.mu.Unlock()
	if keep && b.close() != nil {
		return false
	}
	b.closed = true
	return b.ended
}

// skip reads what is left and reports whether that is more than limit.
func (b *content) skip(limit int64) (over bool, err error) {
	if !b.chunked && b.left > limit {
		return true, nil
	}
	b.c.limitReading(leftTime)
	scratch := make([]byte, min(limit+1, 8<<10))
	for read := int64(0); ; {
		n, err := b.read(scratch)
		if read += int64(n); errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil || read > limit {
			return read > limit, err
		}
	}
}

// read is Read under mu.
func (b *content) read(p []byte) (n int, err error) {
	switch {
	case b.ended:
		return 0, io.EOF
	case b.broken != nil:
		return 0, b.broken
	case b.chunked:
		n, err = b.readChunks(p)
	case len(p) > 0:
		n, err = b.take(p)
		if b.left == 0 && err == nil {
			err = io.EOF
		}
	}
	if errors.Is(err, io.EOF) {
		b.ended = true
		b.eof.Store(true)
	}
	return n, err
}

// take reads some of the content or the chunk. It returns no io.EOF.
func (b *content) take(p []byte) (n int, err error) {
	c := b.c
	p = p[:min(int64(len(p)), b.left)]
	switch {
	case c.from < c.to:
	case len(p) >= directlyFrom:
		n, err = c.rwc.Read(p)
		b.left -= int64(n)
		return n, b.failed(n, err)
	default:
		if err := b.failed(0, c.fill(len(c.in))); err != nil {
			return 0, err
		}
	}
	n = copy(p, c.in[c.from:c.to])
	c.from += n
	b.left -= int64(n)
	return n, nil
}

// failed says what a read's error means: the connection does not go on, whatever else comes.
func (b *content) failed(n int, err error) error {
	if err == nil || n > 0 {
		return nil
	}
	b.c.fail()
	if errors.Is(err, io.EOF) {
		b.broken = io.ErrUnexpectedEOF
		return b.broken
	}
	return err
}

// readChunks reads chunked content (RFC 9112, section 7.1). It does not wait once it has something.
func (b *content) readChunks(p []byte) (n int, err error) {
	c := b.c
	for err == nil {
		switch {
		case b.behind:
			if n > 0 && c.to-c.from < 2 {
				return n, nil
			}
			err = b.endChunk()
		case b.left == 0:
			if n > 0 && bytes.IndexByte(c.in[c.from:c.to], '\n') < 0 {
				return n, nil
			}
			err = b.beginChunk()
		case len(p) == 0 || n > 0 && c.from == c.to:
			return n, nil
		default:
			var some int
			some, err = b.take(p)
			n, p = n+some, p[some:]
			b.behind = b.left == 0
		}
	}
	return n, err
}

// endChunk reads the line end behind a chunk.
func (b *content) endChunk() error {
	text, err := b.line(2)
	if err != nil {
		return err
	}
	if string(text) != "\r\n" {
		return b.malformed(errChunk)
	}
	b.behind = false
	return nil
}

// beginChunk reads the line before a chunk. The error io.EOF says that the content has ended.
func (b *content) beginChunk() error {
	text, err := b.line(lineBytes)
	if err != nil {
		return err
	}
	if len(text) < 2 || text[len(text)-2] != '\r' {
		return b.malformed(errChunk)
	}
	text = text[:len(text)-2]
	size, digits := int64(0), 0
	for digits < len(text) && text[digits] != ';' {
		value, ok := hexDigit(text[digits])
		if digits++; !ok || digits > 15 {
			return b.malformed(errChunk)
		}
		size = size<<4 | value
	}
	for _, char := range text[digits:] { // an extension; nobody here knows one
		if char < ' ' && char != '\t' || char == 0x7f {
			return b.malformed(errChunk)
		}
	}
	// Else a sender could make us read for ever without sending anything.
	b.excess = max(0, b.excess+int64(len(text))+2-16-2*size)
	if digits == 0 || b.excess > excessBytes {
		return b.malformed(errChunk)
	}
	if b.left = size; size == 0 {
		return b.trailer()
	}
	return nil
}

// line takes one line, its end included, out of the buffer, where it stays until the next read.
func (b *content) line(limit int) ([]byte, error) {
	c := b.c
	for seen := 0; ; {
		have := c.in[c.from:c.to]
		if i := bytes.IndexByte(have[seen:], '\n'); i >= 0 {
			if end := seen + i + 1; end <= limit {
				c.from += end
				return have[:end], nil
			}
			return nil, b.malformed(errChunk)
		}
		if seen = len(have); seen >= limit {
			return nil, b.malformed(errChunk)
		}
		if err := b.failed(0, c.fill(len(c.in))); err != nil {
			return nil, err
		}
	}
}

// trailer reads the trailer section and adds its fields to the request's. The error is io.EOF when all went well.
func (b *content) trailer() error {
	c := b.c
	h := &c.head // the request's own was used long ago
	h.reset(0)
	h.started = true
	for {
		whole, err := h.parse(c.in[c.from:c.to])
		if err != nil || h.spaced || h.at > lineBytes || !whole && c.to-c.from >= lineBytes {
			return b.malformed(errTrailer)
		}
		if whole {
			break
		}
		if err := b.failed(0, c.fill(len(c.in))); err != nil {
			return err
		}
	}
	text := string(c.in[c.from : c.from+h.at])
	c.from += h.at
	fields := http.Header{}
	for _, l := range h.fields {
		name := l.name.of(text)
		switch name {
		case "Transfer-Encoding", "Content-Length", "Host", "Trailer":
			return b.malformed(errTrailer)
		}
		fields[name] = append(fields[name], l.value.of(text))
	}
	switch {
	case len(fields) == 0:
	case b.request.Trailer == nil:
		b.request.Trailer = fields
	default:
		maps.Copy(b.request.Trailer, fields)
	}
	return io.EOF
}

// malformed ends the content, and the connection with it: what follows cannot be told from content.
func (b *content) malformed(err error) error {
	b.broken = err
	b.c.broken.Store(true)
	return err
}

func hexDigit(c byte) (value int64, ok bool) {
	switch {
	case '0' <= c && c <= '9':
		return int64(c - '0'), true
	case 'a' <= c && c <= 'f':
		return int64(c-'a') + 10, true
	case 'A' <= c && c <= 'F':
		return int64(c-'A') + 10, true
	}
	return 0, false
}
