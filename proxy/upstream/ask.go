package upstream

import (
	"errors"
	"io"

	"github.com/edge-proxy/edge/proxy/socket"
)

// asks reports whether call.ask can be used: on a plain connection that must be looked at before it is written to. A new
// one need not be, and may be one on which the upstream speaks first.
func (c *conn) asks() bool { return c.reused && c.records == nil && c.tcp != nil }

// ask sends a request that lies in one piece, once its content is behind its head, and reads the beginning of the answer:
// the look at the connection, the write and the read are one call to the socket.
func (k *call) ask() error {
	s, sent := &k.sending, k.query.Sent
	if safe(k.query.Method) { // it may be sent anew; repeatable
		sent = nil
	}
	if err := s.gather(k.body); err != nil {
		return err
	}
	for k.conn.asks() {
		wrote, n, err := k.conn.tcp.Ask(s.head, k.filled[:cap(k.filled)], sent)
		if errors.Is(err, socket.ErrNotQuiet) {
			if err := k.another(); err != nil {
				return err
			}
			continue
		}
		if wrote > 0 {
			s.sent.Store(true)
		}
		if wrote < len(s.head) {
			s.broken = true
			s.fail(err)
			return k.sent(err)
		}
		s.head = nil
		s.state.Store(sendOver)
		k.filled = k.filled[:n]
		if k.received = n; n == 0 {
			return noAnswer(err)
		}
		return nil
	}
	return k.whole(s.alone())
}

// gather puts all of the content behind the head, where there must be room, and closes it.
func (s *sender) gather(body io.ReadCloser) error {
	if body == nil {
		return nil
	}
	defer body.Close()
	head := len(s.head)
	s.head = s.head[:head+int(s.left)]
	_, err := io.ReadFull(body, s.head[head:])
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = ErrLength
		}
		s.fail(err)
	}
	return err
}

// quiet finds a connection for a request that call.ask cannot send.
func (k *call) quiet() error {
	for k.conn.reused && !k.conn.quiet() {
		if err := k.another(); err != nil {
			return err
		}
	}
	return nil
}

// another gives the connection up, on which nothing was sent, and takes the next. On an error there is none.
func (k *call) another() error {
	if err := causeOf(k.ctx); err != nil {
		return err // it is why the connection is not quiet, and would break the next
	}
	k.unwatch()
	k.conn.end()
	k.client.pool.gone()
	c, err := k.client.connect(k.ctx, k.fresh)
	if err != nil {
		k.conn, k.ended = nil, true
		return err
	}
	k.conn, k.sending.conn = c, c
	k.watch()
	return nil
}
