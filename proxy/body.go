package proxy

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/edge-proxy/edge/arena"
)

const (
	heldSlots     = 4        // blocks of a held body that come from the arena; what follows is counted heap
	heapBlockSize = 64 << 10 // of a held body beyond those
)

// body is a request's content: what of it is held in memory, and the rest that the caller has yet to send.
//
// It outlives its exchange, since net/http may read and close what it was lent after RoundTrip returned.
// So it counts who needs it: the exchange is one, each bodyReader another. The last one out gives the slots
// back; that is in a reader's Close as often as not.
type body struct {
	p    *Proxy
	gen  *generation
	ctx  *lifetime     // the exchange's
	src  io.ReadCloser // the caller's; net/http allows Read after the handler returned
	hint uint32
	refs atomic.Int32

	whole    atomic.Bool   // src was read to its end, or failed; read by the sweeper
	deadline atomic.Uint64 // of the Read going on, as in clock; 0 = none. Read and cleared by the sweeper

	declared int64 // bytes that the content is said to have; -1: not known, or not to be relied on
	piped    bool  // src is a filter, whose errors stay as they are

	// The handler's until a reader exists, and fixed from then on.
	slots   [heldSlots]arena.Slot[bodyBlock]
	blocks  [][]byte // the held content in order: views of slots, then heap
	block   [1][]byte
	size    int64 // bytes held
	charged int64 // bytes of the blocks, counted in buffered
	edits   []edit
	few     [2]edit // room for the edits of most requests: a model's prefix, a list of fallbacks

	long  arena.Slot[longBlock] // in place of the first slot, where content had arrived; see arrived.go
	lying lying                 // held bytes that are not in it

	mu   sync.Mutex // orders the readers' use of src; one reader streams it
	read int64      // bytes taken from src
	err  error      // what ended src, if not io.EOF; written before whole

	first bodyReader // the one that most bodies have; taken when its body is set
}

// init makes b the content of a request. The exchange is its one user so far.
func (b *body) init(ctx *lifetime, a *arrival, hint uint32) *body {
	b.p, b.gen, b.ctx, b.src, b.hint, b.declared = a.p, a.gen, ctx, a.r.Body, hint, a.r.ContentLength
	b.blocks = b.block[:0]
	b.refs.Store(1)
	return b
}

// newHeldBody returns a content of Edge's own making, empty so far. Its maker is its one user.
func newHeldBody(x *exchange) *body {
	b := &body{p: x.p, gen: x.gen, ctx: x.ctx, hint: x.hint}
	b.refs.Store(1)
	b.whole.Store(true)
	return b
}

// newPipedBody returns the content that src gives, of the length that the one before had.
func newPipedBody(x *exchange, src io.ReadCloser) *body {
	b := &body{p: x.p, gen: x.gen, ctx: x.ctx, src: src, hint: x.hint, declared: x.declaredLength(), piped: true}
	b.refs.Store(1)
	return b
}

// append adds p to a content of Edge's own. It may return errMemory.
func (b *body) append(p []byte) error {
	for len(p) > 0 {
		room, err := b.room()
		if err != nil {
			return err
		}
		n := copy(room, p)
		b.grow(n)
		p = p[n:]
	}
	return nil
}

// receive adds what one Read of src gives. It returns what Read does, or errMemory.
func (b *body) receive(src io.Reader) (int, error) {
	room, err := b.room()
	if err != nil {
		return 0, err
	}
	n, err := src.Read(room)
	b.grow(n)
	return n, err
}

// grow counts n bytes that were put into room.
func (b *body) grow(n int) {
	last := len(b.blocks) - 1
	b.blocks[last] = b.blocks[last][:len(b.blocks[last])+n]
	b.size += int64(n)
}

// length is how many bytes are held, as edits leave them.
func (b *body) length() int64 { return b.size + b.growth() }

// growth is how many bytes edits add, less those that they take out.
func (b *body) growth() int64 { return growth(b.edits) }

// copyAt copies what is held, as edits leave it, from offset on, and returns how much it was.
func (b *body) copyAt(into []byte, offset int64) (n int) {
	r := bodyReader{body: b, edits: b.edits}
	for offset > 0 {
		piece := r.next()
		if len(piece) == 0 {
			return 0
		}
		passed := min(int64(len(piece)), offset)
		r.pass(int(passed))
		offset -= passed
	}
	for n < len(into) {
		passed := copy(into[n:], r.next())
		if passed == 0 {
			break
		}
		r.pass(passed)
		n += passed
	}
	return n
}

// release ends one use of b.
func (b *body) release() {
	switch n := b.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic(fmt.Sprintf("bug: body released %d times too often", -n))
	}
	for i := range b.slots {
		if b.slots[i].P() != nil {
			b.slots[i].Give()
		}
	}
	if b.long.P() != nil {
		b.long.Give()
		b.lying.give()
	}
	b.p.buffered.Add(-b.charged)
	b.blocks = nil
}

// fill reads from the caller until limit bytes are held or the content has ended, and hands each piece to
// see when that is not nil. Errors: errBodyTooLarge, errBodyTimeout, errBodyRead, errMemory.
func (b *body) fill(limit int64, see func([]byte)) error {
	for b.size < limit && !b.whole.Load() {
		room, err := b.room()
		if err != nil {
			return err
		}
		n, err := b.take(room[:min(int64(len(room)), limit-b.size)])
		if n > 0 {
			b.grow(n)
			if see != nil {
				see(room[:n])
			}
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

// room returns the free end of the last block, after making one if there is none: errMemory when all bodies
// together may not have it.
func (b *body) room() ([]byte, error) {
	n := len(b.blocks)
	if n > 0 {
		if last := b.blocks[n-1]; len(last) < cap(last) {
			return last[len(last):cap(last)], nil
		}
	}
	size := int64(len(bodyBlock{}))
	if n >= heldSlots {
		size = heapBlockSize << min((n-heldSlots)/8, 4)
	}
	if b.p.buffered.Add(size) > int64(b.gen.config.MaxBuffered) {
		b.p.buffered.Add(-size)
		return nil, errMemory
	}
	b.charged += size
	if n < heldSlots {
		b.slots[n] = b.p.bodies.Take(b.hint)
		b.blocks = append(b.blocks, b.slots[n].P()[:0])
	} else {
		b.blocks = append(b.blocks, make([]byte, 0, size))
	}
	last := b.blocks[n]
	return last[:cap(last)], nil
}

// take reads from the caller once, with body_timeout as the longest that the read may stand still, unless the
// exchange has ended.
func (b *body) take(into []byte) (int, error) {
	return b.takeWhile(into, func() bool { return b.ctx.Err() == nil })
}

// takeWhile is take with another condition.
func (b *body) takeWhile(into []byte, wanted func() bool) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.whole.Load() {
		if b.err != nil {
			return 0, b.err
		}
		return 0, io.EOF
	}
	config := &b.gen.config
	b.deadline.Store(b.p.sweeper.after(config.BodyTimeout))
	if !wanted() { // looked at after the store: whoever cancels looks at the deadline after that
		b.deadline.Store(0)
		b.err = errBodyRead
		b.whole.Store(true)
		return 0, b.err
	}
	n, err := b.src.Read(into)
	// The sweeper takes the deadline before it interrupts the read. So an interrupt may still be on its way even if
	// the read went well, and the connection cannot go on.
	interrupted := b.deadline.Swap(0) == 0
	b.read += int64(n)
	switch {
	case b.read > int64(config.MaxRequestBody):
		n, b.err = 0, errBodyTooLarge
	case interrupted:
		b.err = errBodyTimeout
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		b.whole.Store(true)
		return n, io.EOF
	case b.piped:
		b.err = err
	default:
		b.err = errBodyRead
	}
	b.whole.Store(true)
	return n, b.err
}

// failure is what ended the caller's content before its end, as far as it has ended.
func (b *body) failure() error {
	if !b.whole.Load() { // err is written before whole
		return nil
	}
	return b.err
}

// complete reports whether the caller's content was read to its end.
func (b *body) complete() bool { return b.whole.Load() && b.err == nil }

// kept reports whether all of the content is held: a reader has it from the beginning, any number of times.
func (b *body) kept() bool { return b.complete() && b.read <= b.size }

// untouched reports whether nothing was taken from the caller that is not held.
func (b *body) untouched() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err == nil && b.read == b.size
}

// abandon ends a read that the upstream client may still be in, and makes all later ones fail.
func (b *body) abandon(interrupt func()) {
	interrupt()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.whole.Load() {
		b.err = errBodyRead
		b.whole.Store(true)
	}
}

// stalled reports, once, that the read going on has stood still for too long.
func (b *body) stalled(at uint64) bool {
	deadline := b.deadline.Load()
	return deadline != 0 && deadline <= at && b.deadline.CompareAndSwap(deadline, 0)
}

// reader returns the content from its beginning: what is held, then the rest from the caller. The rest can
// be had once. The reader must be closed, exactly once. Only one goroutine may ask for readers.
func (b *body) reader() *bodyReader {
	b.refs.Add(1)
	if b.first.body == nil {
		b.first.body, b.first.edits = b, b.edits
		return &b.first
	}
	return &bodyReader{body: b, edits: b.edits}
}

// bodyReader reads a body. It is lent to the upstream client, whose goroutines read and close it.
type bodyReader struct {
	body   *body
	edits  []edit // still to come: those that the body had when the reader was made
	given  int    // bytes of the first edit's that were passed
	at     int64  // held bytes passed, left out or not
	block  int32  // of body.blocks
	offset int32  // in that block
	closed atomic.Bool
	busy   sync.Mutex // Close waits for a Read of held content that goes on in another goroutine
}

// Read gives held content, then the caller's. Errors: io.EOF, those of take, or that the reader is closed.
func (r *bodyReader) Read(into []byte) (int, error) {
	n, err := r.readHeld(into)
	if n > 0 || err != nil {
		return n, err
	}
	return r.body.take(into)
}

var errReaderClosed = errors.New("proxy: read from a closed body")

// readHeld returns 0 and nil when all that is held was read.
func (r *bodyReader) readHeld(into []byte) (int, error) {
	r.busy.Lock()
	defer r.busy.Unlock()
	if r.closed.Load() {
		return 0, errReaderClosed
	}
	n := copy(into, r.next())
	r.pass(n)
	return n, nil
}

// WriteTo gives what Read does, held content without copying it. It may be under way when Close is called: what it
// holds stays until it returns.
func (r *bodyReader) WriteTo(w io.Writer) (sent int64, err error) {
	b := r.body
	if !r.share() {
		return 0, errReaderClosed
	}
	defer b.release()
	for err == nil {
		rest := r.next()
		if len(rest) == 0 {
			break
		}
		var n int
		n, err = w.Write(rest)
		r.pass(n)
		sent += int64(n)
	}
	if err != nil {
		return sent, err
	}
	if b.kept() {
		return sent, nil
	}
	buffer := b.p.spareBuffer(b.hint)
	defer buffer.give()
	for {
		n, err := b.take(buffer.bytes)
		if n > 0 {
			written, failed := w.Write(buffer.bytes[:n])
			sent += int64(written)
			if failed != nil {
				return sent, failed
			}
		}
		if errors.Is(err, io.EOF) {
			return sent, nil
		}
		if err != nil {
			return sent, err
		}
	}
}

// spareBuffer is what content goes through that its caller has yet to send: a long block if one can be spared, else a slot.
// That is more system calls, but uploads must not take 128 KiB of the heap's each when there are many.
func (p *Proxy) spareBuffer(hint uint32) (b copyBuffer) {
	if long, free := p.longs.TryTake(hint); free {
		b.long, b.bytes = long, long.P()[:]
		return b
	}
	b.slot = p.bodies.Take(hint)
	b.bytes = b.slot.P()[:]
	return b
}

// share keeps the body for another user, unless r was closed.
func (r *bodyReader) share() bool {
	r.busy.Lock()
	defer r.busy.Unlock()
	if r.closed.Load() {
		return false
	}
	r.body.refs.Add(1)
	return true
}

// next is the held content that comes next, as far as it lies in one piece; nothing when all was passed.
func (r *bodyReader) next() []byte {
	for len(r.edits) > 0 && r.at == r.edits[0].from {
		e := &r.edits[0]
		if r.given < len(e.with) {
			return e.with[r.given:]
		}
		r.skip(e.to - e.from)
		r.edits, r.given = r.edits[1:], 0
	}
	rest := r.skip(0)
	if len(r.edits) > 0 {
		rest = rest[:min(int64(len(rest)), r.edits[0].from-r.at)]
	}
	if r.body.lying.to > 0 {
		rest = r.upTo(rest)
	}
	return rest
}

// skip goes on by n held bytes. It returns what is left of the block it comes to.
func (r *bodyReader) skip(n int64) (rest []byte) {
	for blocks := r.body.blocks; int(r.block) < len(blocks); r.block, r.offset = r.block+1, 0 {
		rest = blocks[r.block][r.offset:]
		passed := min(int64(len(rest)), n)
		r.offset, r.at, n = r.offset+int32(passed), r.at+passed, n-passed
		if rest = rest[passed:]; len(rest) > 0 {
			return rest
		}
	}
	return nil
}

// pass goes on by n bytes of what next has returned.
func (r *bodyReader) pass(n int) {
	if len(r.edits) > 0 && r.at == r.edits[0].from { // next has left the held bytes there for later
		r.given += n
		return
	}
	r.offset, r.at = r.offset+int32(n), r.at+int64(n)
}

// Len is how many bytes Read or WriteTo give without waiting for the caller.
func (r *bodyReader) Len() int {
	r.busy.Lock()
	defer r.busy.Unlock()
	if r.closed.Load() {
		return 0
	}
	return int(r.body.size - r.at + growth(r.edits) - int64(r.given))
}

// Next takes the next piece of held content, most bytes at most. It stays as it is until Close.
func (r *bodyReader) Next(most int) []byte {
	r.busy.Lock()
	defer r.busy.Unlock()
	if r.closed.Load() {
		return nil
	}
	piece := r.next()
	piece = piece[:min(len(piece), most)]
	r.pass(len(piece))
	return piece
}

// Exact reports whether there is no more content than the request says: it is held, or net/http sees to that.
func (r *bodyReader) Exact() bool {
	b := r.body
	return b.whole.Load() || !b.piped && b.declared >= 0
}

// Close ends the reader's use of the slots.
func (r *bodyReader) Close() error {
	r.busy.Lock()
	defer r.busy.Unlock()
	if r.closed.CompareAndSwap(false, true) {
		r.body.release()
	}
	return nil
}
