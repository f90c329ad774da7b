package proxy

import (
	"io"
	"sync"

	"github.com/edge-proxy/edge/proxy/socket"
)

// lying is the stretch of a content that lies in a pipe, in the kernel, on its way from the caller's connection to the
// provider's. It is in none of this process's memory: in the content's first block there is room for it, which holds
// anything. Whoever wants to see it there reads it up.
//
// Content with such a stretch has no edits, is sent once, and nobody looks at it but who sends it: exchange.pipes.
type lying struct {
	from, to int64 // held bytes; to is 0 if there is no such stretch. Fixed before there is a reader

	mu   sync.Mutex   // of two attempts at sending it the first may still be ending
	pipe *socket.Pipe // nil: it was read up, or taken
	gone bool         // it was taken
}

// dry gives back a pipe that nothing was put into. No reader exists yet.
func (l *lying) dry() {
	if l.pipe != nil && l.pipe.Len() == 0 {
		l.give()
	}
}

// give gives the pipe back, if it is there.
func (l *lying) give() {
	if l.pipe != nil {
		l.pipe.Give()
		l.pipe = nil
	}
}

// readUp puts the stretch where the other held bytes are. It returns false if it was taken.
func (b *body) readUp() bool {
	l := &b.lying
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pipe == nil {
		return !l.gone
	}
	_, err := io.ReadFull(l.pipe, b.blocks[0][l.from:l.to])
	l.gone = err != nil // a pipe of ours that is not empty does not fail
	l.give()
	return !l.gone
}

// upTo is what of rest, the reader's next held bytes, is in memory, or can be brought there.
func (r *bodyReader) upTo(rest []byte) []byte {
	switch l := &r.body.lying; {
	case r.at < l.from:
		return rest[:min(int64(len(rest)), l.from-r.at)]
	case r.at < l.to && !r.body.readUp():
		return nil
	}
	return rest
}

// Piped reports whether the content that comes next lies in a pipe. Next and Read would read it up.
func (r *bodyReader) Piped() bool {
	l := &r.body.lying
	if l.to == 0 || r.at != l.from {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pipe != nil
}

// Pipe takes the pipe with the content that comes next; nil if it lies in none. Whoever has taken it gives it back.
func (r *bodyReader) Pipe() *socket.Pipe {
	r.busy.Lock()
	defer r.busy.Unlock()
	if r.closed.Load() || !r.Piped() {
		return nil
	}
	l := &r.body.lying
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pipe
	if p != nil {
		l.pipe, l.gone = nil, true
		r.pass(int(l.to - l.from))
	}
	return p
}
