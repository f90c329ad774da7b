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
	pieces := append(b.pieces[:0], s.head)
	for len(pieces) < len(b.pieces) {
		piece := body.Next(math.MaxInt)
		if len(piece) == 0 {
			break
		}
		s.left -= int64(len(piece))
		pieces = append(pieces, piece)
	}
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
	case s.left == 0:
		s.state.Store(sendOver)
		return true, nil
	}
	return false, err
}

// remains sends what burst has left.
func (s *sender) remains() error {
	if len(s.rest) == 0 {
		return nil
	}
	if s.left == 0 {
		s.state.Store(sendLast)
	}
	n, err := s.rest.WriteTo(s.conn.Conn)
	if n > 0 {
		s.sent.Store(true)
	}
	if err != nil {
		s.broken = true
	}
	return err
}
