package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"

	"github.com/edge-proxy/edge/proxy/socket"
	"github.com/edge-proxy/edge/proxy/upstream"
)

// This file is about content that is too long for a slot and lies in the kernel as a whole when its request arrives. It is
// left there while the request waits for its permit, and is then read into a long block and sent at once: no goroutine
// waits for the caller, and a kept connection that turns out to be dead costs nothing. All this waits for nobody.
//
// Where the provider's connection can take it from a pipe, all but what net/http has read already stays in the kernel even
// then: see lying.

// serverBuffer is how much of a connection net/http may have read already: its bufio.Reader's size.
const serverBuffer = 4 << 10

// warmest is the arena's hint for blocks that come back in a moment: all begin at one shard, where the block that was used
// last is still in the processor's cache. W3 cost .93 to .96 of what it did before with a hint by connection, .91 to .93
// with this; docs/bench.md.
const warmest = 0

// holdOrLeave is hold, but for content that need not be held yet: its caller is not slow.
func (x *exchange) holdOrLeave() error {
	b := x.body.Load()
	x.left = b != nil && b.size == 0 && b.declared > int64(len(bodyBlock{})) && b.declared <= int64(len(longBlock{})) &&
		len(x.draft.visits) == 0 && !x.course.several && !expectsContinue(x.r) && !x.end.quota.engaged.Load() && // a lane goes by the model in it
		x.conn != nil && x.conn.own != nil && x.conn.own.served.Load() && x.conn.in.holds(x.conn.raw) >= b.declared-serverBuffer
	if x.left {
		return nil
	}
	return x.hold()
}

// gather reads what holdOrLeave has left. What plugins want to see again is kept until the end of the answer, so it takes
// no long block.
func (x *exchange) gather() error {
	b := x.body.Load()
	if !x.left || b.size > 0 {
		return nil
	}
	if b != x.content() || len(x.draft.visits) > 0 || !b.lengthen() {
		return x.hold()
	}
	if x.pipes(b) {
		b.lying.pipe = socket.TakePipe()
	}
	defer b.lying.dry()
	// While the kernel holds anything a Read does not wait: for what it gives is there, or is the byte that net/http's read
	// in the background has taken. That one comes by itself, so a look for all that is left would miss the rest.
	for first := true; !b.whole.Load() && (first || x.conn.in.holds(x.conn.raw) > 0); first = false {
		room, err := b.room()
		if err != nil {
			return err
		}
		n, err := x.conn.own.takeAside(b, room)
		b.grow(n)
		if err != nil && !errors.Is(err, io.EOF) {
			return x.reading(err)
		}
	}
	return nil
}

// netBody is the type of the contents that net/http gives its handlers. It counts what it reads, and looks at none of it;
// what another handler may have put around it might.
var netBody = func() reflect.Type {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n ")))
	if err != nil {
		panic(fmt.Sprintf("bug: %v", err))
	}
	return reflect.TypeOf(r.Body)
}()

// piper is a client that may send content from a pipe.
type piper interface {
	Pipes(q *upstream.Request) bool
}

// pipes reports whether b's content may lie in a pipe: the client sends it from there, and nobody wants to see it then.
func (x *exchange) pipes(b *body) bool {
	client, may := x.use.client.(piper)
	return may && client.Pipes(&x.query) && x.contentGoes() && len(b.edits) == 0 && reflect.TypeOf(b.src) == netBody
}

// takeAside is b.take, but what lies in the kernel goes to b's pipe if that is empty: in room there are as many bytes that
// mean nothing then.
func (c *callerConn) takeAside(b *body, room []byte) (int, error) {
	l := &b.lying
	if l.pipe == nil || l.pipe.Len() > 0 {
		return b.take(room)
	}
	c.pipe, c.aside = l.pipe, &room[0]
	n, err := b.take(room)
	c.pipe, c.aside = nil, nil
	if moved := int64(l.pipe.Len()); moved > 0 {
		l.from, l.to = b.size, b.size+moved
	}
	return n, err
}

// lengthen makes a long block the first of b's. It takes none of the heap's, and leaves half of max_buffered_mb to content
// that has no other way.
func (b *body) lengthen() bool {
	size := int64(len(longBlock{}))
	if b.p.buffered.Add(size) > int64(b.gen.config.MaxBuffered)/2 {
		b.p.buffered.Add(-size)
		return false
	}
	long, free := b.p.longs.TryTake(warmest)
	if !free {
		b.p.buffered.Add(-size)
		return false
	}
	b.long, b.charged = long, b.charged+size
	b.blocks = append(b.blocks, long.P()[:0])
	return true
}
