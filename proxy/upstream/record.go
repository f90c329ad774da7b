package upstream

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
)

// records is what lies under TLS: it follows the records (RFC 8446, section 5.1) that are read, to know what tls.Conn
// does not tell.
type records struct {
	net.Conn
	head   [5]byte // of a record
	got    int     // bytes of that
	left   int     // bytes of the record to come
	held   bool    // nothing is to be read now
	ended  bool    // the other side has closed, though perhaps without a word under TLS
	spare  [1]byte
	secure *tls.Conn
}

// holding is a net.Error that tls.Conn does not keep.
type holding struct{}

func (holding) Error() string   { return "upstream: not now" }
func (holding) Timeout() bool   { return true }
func (holding) Temporary() bool { return true }

func (r *records) Read(p []byte) (int, error) {
	if r.held {
		return 0, holding{}
	}
	n, err := r.Conn.Read(p)
	r.follow(p[:n])
	if err == io.EOF { //nolint:errorlint // a connection's own, never wrapped
		r.ended = true
	}
	return n, err
}

func (r *records) follow(p []byte) {
	for len(p) > 0 {
		if r.left > 0 {
			n := min(r.left, len(p))
			r.left, p = r.left-n, p[n:]
			continue
		}
		n := copy(r.head[r.got:], p)
		if r.got, p = r.got+n, p[n:]; r.got == len(r.head) {
			r.got, r.left = 0, int(binary.BigEndian.Uint16(r.head[3:]))
		}
	}
}

// drained reports whether tls.Conn has nothing more that could be read without the network, not even a part of a record.
func (r *records) drained() bool {
	r.held = true
	_, err := r.secure.Read(r.spare[:])
	r.held = false
	return errors.Is(err, holding{}) && r.left == 0 && r.got == 0
}
