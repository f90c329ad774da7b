package upstream

import (
	"bytes"
	"net/http"
	"sync"
)

// tunnel is a connection after a 101.
type tunnel struct {
	call *call
	once sync.Once
}

// upgrade makes the connection the caller's.
func (k *call) upgrade(a *Response, h answerHead) error {
	k.unwatch()
	if cause := causeOf(k.ctx); cause != nil {
		return cause
	}
	k.filled = bytes.Clone(k.filled) // nobody says when the request's memory is wanted back
	a.Status, a.Length, a.Body, a.Upgraded = h.status, 0, http.NoBody, &tunnel{call: k}
	a.TrailerNames, a.Trailer = a.TrailerNames[:0], noTrailer
	return nil
}

func (t *tunnel) Read(p []byte) (int, error) { return t.call.read(p) }

func (t *tunnel) Write(p []byte) (int, error) { return t.call.conn.Write(p) }

// Close may be called from any goroutine, any number of times.
func (t *tunnel) Close() error {
	t.once.Do(func() {
		t.call.conn.Break()
		t.call.client.pool.gone()
	})
	return nil
}
