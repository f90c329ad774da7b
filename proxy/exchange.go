package proxy

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/edge-proxy/edge/arena"
	"github.com/edge-proxy/edge/limiter"
	"github.com/edge-proxy/edge/plugins/proxywasm"
	"github.com/edge-proxy/edge/proxy/upstream"
)

// What one object of initial_pool_size consists of, beside an exchange record.
type (
	headBlock [4 << 10]byte   // a message's head in the making
	bodyBlock [16 << 10]byte  // content on its way
	longBlock [128 << 10]byte // so too, where much of it passes; one for longShare objects
)

// exchange is one request and its answer on the way through. Its record comes from the arena and goes back
// when the handler returns; whatever may live longer (a body lent to net/http, an early answer's callback)
// is an object of its own and never points into a record.
//
// Fields are the handler goroutine's own, but for those that say otherwise.
type exchange struct {
	arrival
	w    http.ResponseWriter
	conn *connection // nil when the server that called us did not say
	ctx  *lifetime   // any goroutine
	last *remains    // ctx is in it

	self arena.Slot[exchange] // holds nothing while the record is the heap's
	head arena.Slot[headBlock]

	id      string
	hint    uint32 // which of the arena's shards is near
	arrived time.Time
	ended   time.Time // when it was accounted for

	model string               // bare model, when the body was read for it
	body  atomic.Pointer[body] // set once; read by the sweeper
	left  bool                 // the content is in the kernel, whole
	apart bool                 // what body holds is not needed any more, and was released
	asked *asked               // what the content says of where it is to go

	place  limiter.Place
	permit limiter.Permit
	placed bool // holds a place
	flying bool // holds a permit

	claimed *limiter.Shares // counts the place as one of the caller's; nil with one caller

	waited time.Duration // for place and permit

	clock  clock       // read and fired by the sweeper
	slow   [2]progress // of the write that clock is for, and of a comment's; the sweeper's
	tunnel atomic.Bool // the connection was upgraded; read by the sweeper

	attempts int // made so far
	course   course
	use      use           // of the provider's replica
	retryIn  time.Duration // what the caller is told when the provider is not available

	began     time.Time // when the permit was taken
	firstByte time.Duration
	sent      int64 // bytes of content sent to the caller
	status    int   // of the answer; 0 until there is one
	reason    reason
	committed bool // the answer's head was sent
	broken    bool // the answer is not to end cleanly
	done      bool // what was sent last is the end of OpenAI's streams
	stage     clientStage

	usage   usageScan
	alive   *keepAlive // nil: the stream may be silent
	comment clock      // of a keep-alive comment's Write; set by its goroutine, fired by the sweeper

	query  upstream.Request
	answer upstream.Response
	key    Secret // the provider's, put in last
	turn   uint32 // the caller's number: where requests wait, callers take turns
	pacing pacing
	said   hint  // by the answer's head
	draft  draft // of plugins

	// Methods of this record, bound once in its life.
	onEarly func(status int, fields upstream.Fields)
	onAgain func() (io.ReadCloser, error)
	onSent  func()

	views    [2]filterView // of Proxy-Wasm plugins: the route's and the provider's
	streams  [keptVisits]proxywasm.Stream
	streamed int // of streams, in use

	shard      *sweepShard
	prev, next *exchange // the shard's list, under its mutex
}

// clientStage is where a caller was when it left, as a metric label.
type clientStage uint8

const (
	stageArriving clientStage = iota // its request was being read
	stageQueued
	stageWaiting // for the first byte of the answer
	stageStreaming
	clientStages
)

var clientStageNames = [clientStages]string{"arriving", "queued", "waiting", "streaming"}

// begin makes a record for the request and puts it under the sweeper's eye. The record comes from the
// arena, and a place is taken with it when there is one. A caller that is going to be blocked gets a record of
// the heap's: thousands of them must not use up the arena for those who have a place. One that is not
// welcome, since it is about to be refused, takes no place.
func (p *Proxy) begin(w http.ResponseWriter, a *arrival, conn *connection, welcome bool) *exchange {
	number := p.sequence.Add(1)
	r := a.r
	hint := uint32(number)
	if conn != nil {
		hint = conn.hint
	}
	var place limiter.Place
	placed, blocked := false, false
	var claimed *limiter.Shares
	if welcome && a.end != nil && !a.readsModel() {
		var ok bool
		if claimed, ok = a.claim(); ok {
			place, placed = a.end.gate.TryEnter(a.caller.request())
			blocked = !placed && !a.gen.config.DropExcessRequests
		}
	}
	var x *exchange
	if blocked {
		x = new(exchange)
	} else {
		slot := p.records.Take(hint)
		x = slot.P()
		x.self = slot
	}
	x.arrival, x.w, x.conn, x.hint, x.arrived = *a, w, conn, hint, time.Now()
	x.place, x.placed, x.claimed = place, placed, claimed
	if x.caller != nil {
		x.turn = x.caller.number + 1
	}
	x.id = requestID(r, p.tag, number)
	if x.onEarly == nil {
		x.onEarly, x.onAgain, x.onSent = x.early, x.again, x.contentLeft
	}
	if hasContent(r) {
		last := new(remainsWithBody)
		x.last = &last.remains
		x.ctx = &x.last.lifetime
		x.body.Store(last.body.init(x.ctx, a, hint))
	} else {
		x.last = new(remains)
		x.ctx = &x.last.lifetime
	}
	x.ctx.parent = r.Context()
	p.sweeper.add(x, hint)
	if p.aborted.Load() { // Abort has passed already
		x.cancel(errDrainDeadline)
	}
	return x
}

// finish gives back all that x holds, in the reverse order of taking, and the record last.
func (p *Proxy) finish(x *exchange) {
	x.alive.end(x, true) // where a bug of ours has cut reply short
	p.sweeper.remove(x)
	x.closeAnswer()
	x.unpace()
	x.leave()
	x.endBound()
	x.returnBudget()
	x.usage.drop()
	x.course.forget() // as above
	x.detachAll()
	x.releaseVisits()
	x.releaseConnection()
	x.draft.release()
	x.releaseContent()
	x.discharge()
	x.cancel(context.Canceled)
	if x.head.P() != nil {
		x.head.Give()
	}
	slot := x.self
	x.reset()
	if slot.P() != nil {
		slot.Give()
	}
}

// keptFields is how many fields a record keeps room for between two requests.
const keptFields = 48

// keptVisits is how many plugins' visits a record keeps room for.
const keptVisits = 8

// reset makes x a zero record that keeps nothing alive but room for its lists.
func (x *exchange) reset() {
	lists, visits, piped := x.lists(), x.draft.visits, x.draft.piped
	var kept [len(lists)]upstream.Fields
	for i, list := range lists {
		if cap(*list) <= keptFields {
			clear((*list)[:cap(*list)])
			kept[i] = (*list)[:0]
		}
	}
	onEarly, onAgain, onSent := x.onEarly, x.onAgain, x.onSent
	look := x.asked
	if look != nil {
		*look = asked{}
	}
	*x = exchange{}
	x.asked = look
	x.onEarly, x.onAgain, x.onSent = onEarly, onAgain, onSent
	for i, list := range x.lists() {
		*list = kept[i]
	}
	if cap(visits) <= 2*keptVisits {
		clear(visits[:cap(visits)])
		x.draft.visits = visits[:0]
	}
	x.draft.piped = piped[:0]
}

// closeAnswer ends the provider's answer, wherever it is. Closing it again does nothing.
func (x *exchange) closeAnswer() {
	if x.answer.Body != nil {
		x.answer.Body.Close()
	}
	if x.answer.Upgraded != nil {
		x.answer.Upgraded.Close()
	}
}

// leave gives back the permit or the place.
func (x *exchange) leave() {
	switch {
	case x.flying:
		x.flying = false
		var sample limiter.Sample
		if x.answer.Status != 0 { // what failed at once says nothing of how long a request takes
			sample = limiter.Sample{Status: x.answer.Status, FirstByte: x.firstByte, Held: time.Since(x.began), Bytes: x.sent}
		}
		x.use.end()
		x.permit.Done(sample)
	case x.placed:
		x.placed = false
		x.place.Leave()
	}
	x.unclaim()
}

// cancel ends x because of err, unless it has ended before. Any goroutine may call it while the record is x's.
func (x *exchange) cancel(err error) { x.ctx.end(err) }

// releaseContent ends x's use of the content that it holds. It may be called again.
func (x *exchange) releaseContent() {
	if b := x.body.Load(); b != nil && !x.apart {
		x.apart = true
		b.release()
	}
}

// cause is why x was cancelled: the error that was given, or that the caller has left.
func (x *exchange) cause() error {
	cause := x.ctx.Cause()
	if cause == context.Canceled { //nolint:errorlint // the server's own, never wrapped: its connection is gone
		return errClientGone
	}
	return cause
}

// requestID is the caller's X-Request-Id if it may stand in a header and a log line, else one of our own.
func requestID(r *http.Request, tag string, number uint64) string {
	if own := headerOf(r.Header, "X-Request-Id"); own != "" && len(own) <= 128 && visibleASCII(own) {
		return own
	}
	var text [32]byte
	return string(strconv.AppendUint(append(append(text[:0], tag...), '-'), number, 16))
}

// visibleASCII reports whether s is not empty and holds only characters 0x21 to 0x7e.
func visibleASCII(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// hasContent reports whether a request has a body to read.
func hasContent(r *http.Request) bool {
	return r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0
}
