package upstream

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/edge-proxy/edge/proxy/socket"
)

// ErrLength says that a request's content is not as long as the request said.
var ErrLength = errors.New("upstream: content of another length than declared")

// sender writes one request to its connection: in the goroutine of Do or, once started, in its own.
//
// What Do reads while that goroutine runs is state and the channels; err is written before state says failed.
type sender struct {
	conn    *conn
	trailer http.Header  // of the request, which may be the caller's again before all was sent
	head    []byte       // not sent yet, with room behind; nil before a goroutine is started
	left    int64        // bytes of content to come; -1: it is sent in chunks
	exact   bool         // there are no more than that
	rest    net.Buffers  // taken from the content, and not sent by burst
	pipe    *socket.Pipe // so too; never both
	held    []byte       // the last byte, until the content has ended: a message cut short must not look whole

	state  atomic.Uint32 // a sendState
	sent   atomic.Bool   // some byte was taken by the kernel
	err    error         // why the content could not be sent, other than by the connection
	broken bool          // by the connection

	answer chan bool     // of a request that expects 100: true means go on; closed means do not
	told   bool          // answer was used. Do's own
	ended  chan struct{} // closed when the goroutine has ended; nil without one

	size   [20]byte // of a chunk
	pieces [4][]byte
	vector net.Buffers // of pieces
}

// sendState is how far a sender is.
type sendState = uint32

const (
	sendGoing  sendState = iota
	sendLast             // the Write going on is the last
	sendOver             // all was sent
	sendFailed           // not all will be
)

// begin writes the head into scratch.
func (s *sender) begin(c *conn, q *Request, d *Direct, scratch []byte) {
	s.conn, s.trailer = c, q.Trailer
	s.head = d.appendHead(scratch[:0], q)
	s.left = max(q.Length, -1)
}

// alone sends a request without content.
func (s *sender) alone() error {
	if err := s.flush(); err != nil {
		return err
	}
	s.state.Store(sendOver)
	return nil
}

// first sends the head, with content behind it if some can be had without waiting.
func (s *sender) first(body io.Reader, ready bool) error {
	if s.left == 0 { // the head alone would be whole, and the content may be longer than it says
		s.head = bytes.Clone(s.head)
		return nil
	}
	if !ready || s.left < 0 {
		return s.flush()
	}
	if h, ok := body.(holder); ok {
		if _, err := s.Write(h.Next(inlineBytes)); err != nil {
			s.fail(err)
			return err
		}
		return s.flush() // if that was nothing, or one byte that is held back
	}
	room := s.head[len(s.head):cap(s.head)]
	n, err := body.Read(room[:min(int64(len(room)), s.left)])
	if err != nil && !errors.Is(err, io.EOF) {
		s.fail(err)
		return err
	}
	s.head, s.left = s.head[:len(s.head)+n], s.left-int64(n)
	if n > 0 && s.left == 0 && !s.exact {
		last := len(s.head) - 1
		s.held, s.head = append(s.size[:0], s.head[last]), s.head[:last]
	}
	return s.flush()
}

// holder is content that is in memory, as far as Len says.
type holder interface {
	Len() int

	// Next takes the next piece of that, without copying it: most bytes at most. It stays as it is until Close.
	Next(most int) []byte
}

// piped is a holder of which a part may lie in a pipe.
type piped interface {
	holder

	// Piped reports whether the content that comes next does. Next would read it to memory.
	Piped() bool

	// Pipe takes that pipe, with what is in it; nil if there is none. Whoever takes it gives it back.
	Pipe() *socket.Pipe
}

// fail says why the content could not be had.
func (s *sender) fail(err error) {
	if s.broken {
		s.err = nil // the connection says why
	} else if s.err == nil {
		s.err = err
	}
	s.state.Store(sendFailed)
}

// untouched reports whether no byte of the request has left.
func (s *sender) untouched() bool { return !s.sent.Load() }

// failure is why the content could not be had, if it could not.
func (s *sender) failure() error {
	if s.state.Load() != sendFailed {
		return nil
	}
	return s.err
}

// flush sends the head alone, if it was not sent.
func (s *sender) flush() error {
	if len(s.head) == 0 {
		return nil
	}
	return s.write(nil, nil, nil)
}

// write sends the head, if it was not sent, and three pieces at once. Small ones are put behind the head in its memory,
// which is cheaper than a vector.
func (s *sender) write(a, b, c []byte) error {
	total := len(a) + len(b) + len(c)
	var n int64
	var err error
	if room := cap(s.head) - len(s.head); total <= room || len(s.head) == 0 && len(a)+len(c) == 0 {
		one := b
		if len(s.head) > 0 {
			one = append(append(append(s.head, a...), b...), c...)
		}
		var m int
		m, err = s.conn.Write(one)
		n = int64(m)
	} else {
		s.vector = slices.DeleteFunc(append(s.pieces[:0], s.head, a, b, c), func(p []byte) bool { return len(p) == 0 })
		n, err = s.vector.WriteTo(s.conn.Conn)
		s.pieces = [len(s.pieces)][]byte{}
	}
	s.head = nil
	if n > 0 {
		s.sent.Store(true)
	}
	if err != nil {
		s.broken = true
	}
	return err
}

// Write sends one piece of content, with the head before it if that was not sent.
func (s *sender) Write(p []byte) (int, error) {
	switch {
	case len(p) == 0:
		return 0, nil
	case s.left < 0:
		size := append(strconv.AppendInt(s.size[:0], int64(len(p)), 16), '\r', '\n')
		if err := s.write(size, p, crlf); err != nil {
			return 0, err
		}
		return len(p), nil
	case int64(len(p)) > s.left:
		s.err = ErrLength
		return 0, ErrLength
	}
	now := p
	if s.left -= int64(len(p)); s.left == 0 {
		if s.exact {
			s.state.Store(sendLast)
		} else {
			now, s.held = p[:len(p)-1], append(s.size[:0], p[len(p)-1])
		}
	}
	if len(now) > 0 {
		if err := s.write(nil, now, nil); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

var crlf = []byte("\r\n")

// content sends all of body and closes it.
func (s *sender) content(body io.ReadCloser) error {
	defer body.Close()
	err := s.copy(body)
	if err == nil {
		s.state.Store(sendOver)
		return nil
	}
	s.fail(err)
	return err
}

func (s *sender) copy(body io.Reader) error {
	if err := s.remains(); err != nil {
		return err
	}
	if h, ok := body.(holder); ok && s.ended == nil { // all of it, and this stack stays small
		for h.Len() > 0 {
			if _, err := s.Write(h.Next(inlineBytes)); err != nil {
				return err
			}
		}
	} else if _, err := io.Copy(s, body); err != nil {
		return err
	}
	if s.left > 0 {
		return ErrLength
	}
	if s.left == 0 {
		s.state.Store(sendLast)
		if len(s.head)+len(s.held) == 0 {
			return nil
		}
		return s.write(nil, s.held, nil)
	}
	end, err := s.appendTrailer(append(s.size[:0], "0\r\n"...))
	if err != nil {
		return err
	}
	s.state.Store(sendLast)
	return s.write(nil, append(end, crlf...), nil)
}

// start sends the content from a goroutine, which closes body.
func (s *sender) start(body io.ReadCloser, expects bool) {
	s.ended = make(chan struct{})
	if expects {
		s.answer = make(chan bool, 1)
	}
	go func() {
		defer close(s.ended)
		if expects && !s.awaited() {
			body.Close()
			s.state.Store(sendFailed) // but for no reason of its own
			return
		}
		if s.content(body) != nil && !s.broken {
			s.conn.Break() // what was sent cannot be completed; who reads is told
		}
	}()
}

// awaited waits for what the upstream says to the head. Without a word for a second the content goes out: a client must
// not wait for ever (RFC 9110, section 10.1.1).
func (s *sender) awaited() bool {
	timer := time.NewTimer(continueTimeout)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case proceed := <-s.answer:
		return proceed
	}
}

// proceed lets content that waits for 100 go.
func (s *sender) proceed() {
	if s.answer != nil && !s.told {
		s.told = true
		s.answer <- true
	}
}

// decline says that content that still waits for 100 is not wanted.
func (s *sender) decline() {
	if s.answer != nil && !s.told {
		s.told = true
		s.answer <- false
	}
}

// over reports whether all was sent. When only the return of the last Write is missing, it waits a little for that.
func (s *sender) over() bool {
	if s.state.Load() == sendLast && s.ended != nil {
		timer := time.NewTimer(lastWriteWait)
		defer timer.Stop()
		select {
		case <-s.ended:
		case <-timer.C:
		}
	}
	return s.state.Load() == sendOver
}

// appendTrailer appends the trailer's fields.
func (s *sender) appendTrailer(b []byte) ([]byte, error) {
	for _, name := range sortedNames(s.trailer) {
		for _, value := range s.trailer[name] {
			if !validValue(value) {
				return nil, fieldError(name)
			}
			b = append(append(append(append(b, name...), ": "...), value...), crlf...)
		}
	}
	return b, nil
}

func sortedNames(h http.Header) []string {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
