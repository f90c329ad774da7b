package takeover

import (
	"net"
	"strconv"
)

// flush writes out.
func (c *conn) flush() error {
	if len(c.out) == 0 || c.werr != nil {
		return c.werr
	}
	_, err := c.rwc.Write(c.out)
	return c.flushed(err)
}

// sendBytes puts p into out or, when it does not fit, writes both with one call.
func (c *conn) sendBytes(p []byte) error {
	if c.werr != nil {
		return c.werr
	}
	if len(p) <= cap(c.out)-len(c.out) {
		c.out = append(c.out, p...)
		return nil
	}
	return c.write(c.out, p, nil)
}

var lineEnd = []byte("\r\n")

// sendChunk does the same with p as a chunk.
func (c *conn) sendChunk(p []byte) error {
	if c.werr != nil {
		return c.werr
	}
	c.out = append(strconv.AppendInt(c.out, int64(len(p)), 16), lineEnd...)
	if len(p)+len(lineEnd) <= cap(c.out)-len(c.out) {
		c.out = append(append(c.out, p...), lineEnd...)
		return nil
	}
	return c.write(c.out, p, lineEnd)
}

// buffersWriter is a connection that wraps another and still writes several pieces with one call.
type buffersWriter interface {
	WriteBuffers(*net.Buffers) (int64, error)
}

// write writes up to three pieces with one call.
func (c *conn) write(pieces ...[]byte) error {
	c.vector = append(c.pieces[:0], pieces...)
	var err error
	if own, ok := c.rwc.(buffersWriter); ok {
		_, err = own.WriteBuffers(&c.vector)
	} else {
		_, err = c.vector.WriteTo(c.rwc)
	}
	clear(c.pieces[:])
	return c.flushed(err)
}

// flushed notes that out was written, or why it could not be.
func (c *conn) flushed(err error) error {
	c.out = c.out[:0]
	if err != nil {
		c.werr = err
		c.fail()
	}
	return err
}
