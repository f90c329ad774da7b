package upstream

import (
	"bytes"
	"math"
)

// burstPieces is how many pieces a burst has at most: the head, and content.
const burstPieces = 8

// burst sends the head and held content in one write that does not wait: what the kernel takes at once needs no
// goroutine. all says that this was the whole request. Else what was not taken is in s.rest.
func (s *sender) burst(body holder) (all bool, err error) {
	b := s.conn.burst
	pieces := b.pieces[:0]
	if len(s.head) > 0 {
		pieces = append(pieces, s.head)
	}
	lies, _ := body.(piped)
	for len(pieces) < len(b.pieces) && (lies == nil || !lies.Piped()) {
		piece := body.Next(math.MaxInt)
		if len(piece) == 0 {
			break
		}
		s.left -= int64(len(piece))
		pieces = append(pieces, piece)
	}
	more := len(pieces) < len(b.pieces) && lies != nil && lies.Piped()
	n, err := b.write(s.conn.tcp, pieces)
	if n > 0 {
		s.sent.Store(true)
	}
	if n < len(s.head) {
		pieces[0], n = bytes.Clone(s.head[n:]), 0 // the answer is going to be read to where it lies
	}
	s.head = nil
	for len(pieces) > 0 && n >= len(pieces[0]) {
		n -= len(pieces[0])
		pieces[0], pieces = nil, pieces[1:]
	}
	switch {
	case err != nil:
		clear(pieces)
		s.broken = true
		s.fail(err)
	case len(pieces) > 0:
		pieces[0] = pieces[0][n:]
		s.rest = pieces
	case more: // only now: if no byte was taken, another connection may have to send it all
		return s.pour(lies)
	case s.left == 0:
		s.state.Store(sendOver)
		return true, nil
	}
	return false, err
}

// pour is burst for what lies in a pipe, and goes on with what is held behind it. What was not taken is in s.pipe.
func (s *sender) pour(body piped) (all bool, err error) {
	pipe := body.Pipe()
	if pipe == nil { // an attempt before this one, on its way out, has read it up
		return false, nil
	}
	s.left -= int64(pipe.Len())
	if _, err = pipe.TryDrain(s.conn.tcp); err == nil && pipe.Len() > 0 {
		s.pipe = pipe
		return false, nil
	}
	pipe.Give()
	switch {
	case err != nil:
		s.broken = true
		s.fail(err)
	case s.left == 0:
		s.state.Store(sendOver)
		return true, nil
	case body.Len() > 0:
		return s.burst(body)
	}
	return false, err
}

// remains sends what burst has left.
func (s *sender) remains() error {
	if len(s.rest) == 0 && s.pipe == nil {
		return nil
	}
	if s.left == 0 {
		s.state.Store(sendLast)
	}
	var n int64
	var err error
	if s.pipe != nil {
		_, err = s.pipe.Drain(s.conn.tcp)
		s.pipe.Give()
		s.pipe = nil
	} else {
		n, err = s.rest.WriteTo(s.conn.Conn)
	}
	if n > 0 {
		s.sent.Store(true)
	}
	if err != nil {
		s.broken = true
	}
	return err
}
