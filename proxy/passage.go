package proxy

import (
	"errors"
	"io"
	"strconv"

	"github.com/edge-proxy/edge/proxy/socket"
	"github.com/edge-proxy/edge/proxy/upstream"
)

// CPU of an answer, of that without passages: 64 KiB .88, 96 KiB .85, 128 KiB .73, 1 MiB .6 to .7. Pieces of 256 KiB, of
// those of 128 KiB: .88 to .96; of 64 KiB: 1.2; of 1 MiB: 1.05.
const (
	passageLeast = 64 << 10  // bytes of an answer; a shorter one is copied
	passageMost  = 256 << 10 // bytes of a piece
)

// piped is content that can move from one connection to another inside the kernel. It is upstream.Direct's.
type piped interface {
	Pipes() bool
	Pipe(into *socket.Pipe, most int) (int, error)
}

// passage is the way of a long answer's content from the provider's connection to the caller's through a pipe in the
// kernel. It never is in memory of this process.
//
// It goes round the ResponseWriter, with that one's consent: a passage is given to its ReadFrom, and only where that hands
// it on to the connection as it is, nothing stands between: no chunks, no encoding, nobody who wants to see the content.
// At the end it is given once more and says how much was sent meanwhile, so that everybody between counts right; net/http
// would close the connection else. The pieces do not go by ReadFrom, since net/http's holds a buffer of 32 KiB until it
// returns, and so would every slow reader.
type passage struct {
	to    *callerConn // nil: ReadFrom did not lead to it
	moved int64       // bytes that were sent and that the ResponseWriter does not know of
}

// Read is for a ReaderFrom that knows no passages. There is nothing to be read.
func (*passage) Read([]byte) (int, error) { return 0, io.EOF }

// reach is c.ReadFrom.
func (p *passage) reach(c *callerConn) (moved int64) {
	p.to, moved, p.moved = c, p.moved, 0
	return moved
}

// passable returns the answer's content if it may pass, else nil, and for how many bytes copyBody wants a buffer. The caller
// was told the length of what passes: so the framing is right whoever writes.
func (x *exchange) passable(a *upstream.Response, of content) (through piped, first int64) {
	if a.Length <= passageLeast || x.conn == nil || x.conn.own == nil || x.r.ProtoMajor != 1 || of.events || x.usage.state == usageReading {
		return nil, a.Length
	}
	through, ok := a.Body.(piped) // no filter's, and nothing that is held
	if !ok {
		return nil, a.Length
	}
	told := x.w.Header()["Content-Length"]
	if len(told) != 1 {
		return nil, a.Length
	}
	if n, err := strconv.ParseInt(told[0], 10, 64); err != nil || n != a.Length {
		return nil, a.Length
	}
	return through, 0 // what came with the head is all that needs one
}

// pass lets the rest of an answer pass, and reports whether it did; the first piece was sent and flushed. The buffer is
// given back then, else it becomes one for an answer of that length.
func (x *exchange) pass(content piped, buffer *copyBuffer) (bool, error) {
	var p passage
	w, ok := x.w.(io.ReaderFrom)
	if ok && content.Pipes() {
		_, _ = w.ReadFrom(&p) // an error is met again
	}
	var pipe *socket.Pipe
	if p.to != nil {
		pipe = socket.TakePipe()
	}
	if pipe == nil {
		buffer.lengthen(x)
		return false, nil
	}
	defer pipe.Give()
	buffer.give()
	err := x.move(content, pipe, &p)
	if errors.Is(err, socket.ErrNoSplice) { // the first time; there are no pipes from now on
		*buffer = x.buffer(x.answer.Length)
		return false, nil
	}
	if err == nil {
		_, err = w.ReadFrom(&p)
	}
	return true, err
}

// move is copyBody with a pipe for a buffer.
func (x *exchange) move(content piped, pipe *socket.Pipe, p *passage) error {
	for {
		if err := x.watchAnswer(deadlineIdle, x.idleTimeout()); err != nil {
			return err
		}
		_, readErr := content.Pipe(pipe, passageMost)
		if errors.Is(readErr, socket.ErrNoSplice) {
			return readErr
		}
		if readErr != nil {
			if !errors.Is(readErr, io.EOF) {
				return x.brokeOff(readErr)
			}
			x.answer.Body.Close()
			x.leave()
			x.discharge()
		}
		for pipe.Len() > 0 { // a slow caller may take its time for a piece: the deadline is for some of it
			if err := x.watchAnswer(deadlineWrite, x.gen.config.WriteTimeout); err != nil {
				return err
			}
			sent, err := p.to.drain(pipe)
			x.sent += int64(sent)
			p.moved += int64(sent)
			if err != nil {
				return x.writing(err)
			}
		}
		if readErr != nil {
			return nil
		}
	}
}
