package proxywasm

import (
	"errors"
	"fmt"
)

// ErrBodyTooLarge says that a guest holds more of a body than Options.MaxBody.
var ErrBodyTooLarge = errors.New("body held by a plugin is too large")

// body is what a stream has of one side's body.
//
//	held: what the guest paused, its own memory and charged to the exchange
//	chunk: what came with the callback under way, lent by the proxy
//
// The guest sees one buffer: chunk alone while nothing is held, else held, to which the chunk was appended.
type body struct {
	held    []byte
	chunk   []byte
	owned   bool  // the buffer is held
	calling bool  // in its callback
	charged int64 // to the exchange
}

// bytes returns the buffer.
func (b *body) bytes() []byte {
	if b.owned {
		return b.held
	}
	return b.chunk
}

// keep moves the chunk into held.
func (b *body) keep(c *stream) error {
	if b.owned && len(b.chunk) == 0 {
		return nil
	}
	if !b.owned {
		b.held, b.owned = b.held[:0], true
	}
	if err := b.room(c, int64(len(b.held)+len(b.chunk))); err != nil {
		return err
	}
	b.held = append(b.held, b.chunk...)
	b.chunk = nil
	return nil
}

// room checks that the stream may hold size bytes and charges what is new.
func (b *body) room(c *stream, size int64) error {
	p := c.guest.plugin
	if size > p.options.MaxBody {
		return fmt.Errorf("proxywasm: %s: %w: over %d bytes; raise max_body", p.Name(), ErrBodyTooLarge, p.options.MaxBody)
	}
	if c.x != nil && size != b.charged {
		if err := c.x.Charge(size - b.charged); err != nil {
			return err
		}
		b.charged = size
	}
	return nil
}

// edit replaces size bytes from start, both within the buffer, by p.
func (b *body) edit(c *stream, start, size int, p []byte) error {
	old := b.bytes()
	if err := b.room(c, int64(len(old)-size+len(p))); err != nil {
		return err
	}
	if !b.owned {
		b.held = append(append(append(b.held[:0], old[:start]...), p...), old[start+size:]...)
		b.owned, b.chunk = true, nil
		return nil
	}
	tail := len(old) - start - size
	switch grown := len(p) - size; {
	case grown > 0:
		b.held = append(old, p[:grown]...) // any bytes: it is their room that counts
		copy(b.held[start+len(p):], old[start+size:start+size+tail])
	case grown < 0:
		copy(old[start+len(p):], old[start+size:])
		b.held = old[:len(old)+grown]
	}
	copy(b.held[start:], p)
	return nil
}

// drop forgets the buffer: the guest has taken it.
func (b *body) drop(c *stream) {
	b.take(c)
}

// take hands the buffer out. It is valid until the next call on the stream, and not charged any more.
func (b *body) take(c *stream) []byte {
	out := b.bytes()
	b.owned, b.chunk = false, nil
	if c.x != nil && b.charged != 0 {
		_ = c.x.Charge(-b.charged) // fewer bytes cannot be refused
	}
	b.charged = 0
	return out
}

// take hands out what goes on for a side: what was injected and, when the side is not paused, the buffer.
func (c *stream) take(d side, buffer bool) []byte {
	var out []byte
	if buffer {
		out = c.bodies[d].take(c)
	}
	if d == response && len(c.injected) > 0 {
		out = append(c.injected, out...)
		c.injected = nil // a call-out's callback may inject while out is being written
	}
	return out
}

// keptBody is the most memory that a stream keeps for the next one in its place.
const keptBody = 64 << 10

// reset readies the body for another stream.
func (b *body) reset() {
	held := b.held[:0]
	if cap(held) > keptBody {
		held = nil
	}
	*b = body{held: held}
}

// buffer finds a buffer for a hostcall. The body is nil for those that are only to be read.
func (g *guest) buffer(n uint64) (content []byte, b *body, st status) {
	a := g.answer
	switch c := g.effective; uint32(n) {
	case bufferRequestBody, bufferResponseBody:
		if c == nil || c.x == nil {
			return nil, nil, statusNotFound
		}
		b = &c.bodies[uint32(n)]
		if !b.calling && !b.owned {
			return nil, nil, statusNotFound
		}
		return b.bytes(), b, statusOK
	case bufferVMConfig:
		return g.plugin.options.VMConfig, nil, statusOK
	case bufferPluginConfig:
		return g.plugin.module.Settings(), nil, statusOK
	case bufferCallBody:
		if a == nil || a.redis {
			return nil, nil, statusNotFound
		}
		return a.body, nil, statusOK
	case bufferRedisReply:
		if a == nil || !a.redis {
			return nil, nil, statusNotFound
		}
		return a.body, nil, statusOK
	}
	if uint32(n) < buffers {
		return nil, nil, statusNotFound
	}
	return nil, nil, statusBadArgument
}
