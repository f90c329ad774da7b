package proxy

import (
	"net/http"
	"sync"
	"time"
)

// keepAlive sends comments into a stream of server-sent events that is silent, for load balancers that cut silence. It is
// one object and one timer of each stream, of the heap's, and none where stream_keepalive_in_seconds is 0.
//
// Invariants:
//
//	K1  A comment stands between two events, or before the first: never within one.
//	K2  Nobody writes to the caller while somebody else does: who writes holds mu.
//	K3  The exchange is not touched once end has returned.
//
// The stream's idle timeout is the handler's deadline, which a comment leaves alone. A comment that the caller does not
// take has a deadline of its own, comment, which the sweeper fires like the others.
type keepAlive struct {
	x       *exchange
	control *http.ResponseController
	every   time.Duration

	mu    sync.Mutex
	timer *time.Timer
	sent  time.Time // when a piece or a comment was sent last
	lines lineEnds
	over  bool
}

// keepAliveComment is a line that starts with a colon, which clients ignore, and the blank line that some proxies wait
// for (HTML standard, section 9.2.6).
var keepAliveComment = []byte(": keep-alive\n\n")

// keepStreamAlive begins to, if the provider's configuration says so and the answer is a stream of events. One whose
// length was said, or that is encoded, takes no more bytes.
func (x *exchange) keepStreamAlive(c content) {
	if x.end == nil || x.end.config.StreamKeepalive <= 0 || x.answer.Length >= 0 || !c.events || c.encoded {
		return
	}
	k := &keepAlive{x: x, control: http.NewResponseController(x.w), every: x.end.config.StreamKeepalive, sent: time.Now(), lines: newLineEnds()}
	x.alive = k
	k.mu.Lock()
	defer k.mu.Unlock()
	k.timer = time.AfterFunc(k.every, k.due)
}

// note takes down what is about to be sent. Its caller holds mu.
func (k *keepAlive) note(piece []byte) {
	k.lines.see(piece)
	k.sent = time.Now()
}

// due sends a comment if the stream was silent for long enough. It is the timer's.
func (k *keepAlive) due() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over {
		return
	}
	wait := k.every - time.Since(k.sent) // pieces do not move the timer: that costs more than to look here
	if wait <= 0 {
		wait = k.every
		if k.lines.between() && !k.x.done {
			if !k.write() {
				return
			}
			k.sent = time.Now()
		}
	}
	k.timer.Reset(wait)
}

// write sends a comment. A caller that does not take it ends the exchange.
func (k *keepAlive) write() bool {
	x := k.x
	x.comment.set(deadlineWrite, x.p.sweeper.after(x.gen.config.WriteTimeout))
	if x.ctx.Err() != nil { // looked at after set: who cancels looks at comment after that
		return false
	}
	_, err := x.w.Write(keepAliveComment)
	if err == nil {
		err = k.control.Flush()
	}
	if !x.comment.stop() {
		return false
	}
	if err != nil {
		x.cancel(errClientGone)
	}
	return err == nil
}

// end stops the comments; broken says that the answer is not to be completed. Then a comment that is being written is
// not waited for. k may be nil.
func (k *keepAlive) end(x *exchange, broken bool) {
	if k == nil {
		return
	}
	if broken && !k.mu.TryLock() {
		x.interrupt(deadlineWrite)
		k.mu.Lock()
	} else if !broken {
		k.mu.Lock()
	}
	defer k.mu.Unlock()
	k.over = true
	k.timer.Stop()
	x.alive = nil
}

// lineEnds follows the lines of a stream, which end with LF, CR or both.
type lineEnds struct {
	blank bool // an empty line was the last, or nothing has come yet: no event is open
	start bool // the line that goes on is empty so far
	cr    bool // the last byte is a CR
}

// between reports whether no event is open. After a CR the LF may be still to come.
func (l *lineEnds) between() bool { return l.blank && !l.cr }

func newLineEnds() lineEnds { return lineEnds{blank: true, start: true} }

// see takes the next bytes.
func (l *lineEnds) see(b []byte) {
	const enough = 4 // CR, LF, CR, LF: what comes before that does not matter
	if len(b) > enough {
		b = b[len(b)-enough:]
		*l = lineEnds{}
	}
	for _, c := range b {
		switch {
		case c == '\n' && l.cr:
			l.cr = false
		case c == '\n' || c == '\r':
			l.blank, l.start, l.cr = l.start, true, c == '\r'
		default:
			*l = lineEnds{}
		}
	}
}
