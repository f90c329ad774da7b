package proxy

// This file is about callers that take their answer slowly, but steadily: the write deadline is for some of it, however
// much is written at a time.
//
// That a Write goes on does not show it. The kernel takes in what it has room for, which may be megabytes, and lets the
// writer go on only when a third of that is free; net/http and TLS tell nothing before all is written. So the kernel is asked
// how much the caller's side has acknowledged: once when a write has lasted for a sweep, and again when its deadline passes.
// A write that does not wait costs nothing. Who stops just after the first look is given up after twice the time.
//
// It is for HTTP/1 on Linux. A stream of HTTP/2 may stand still while others of its connection move, so there a deadline is
// for a piece, as it is elsewhere.

// progress is what the sweeper knows of a write that lasts. It is the sweeper's own.
type progress struct {
	word  uint64 // of the clock, when it was looked at last
	asked bool   // the kernel, behind that
	taken uint64 // what the caller had taken then
}

// putOff moves the write deadlines of a caller that takes something.
func (x *exchange) putOff(at uint64) {
	x.slow[0].putOff(x, &x.clock, at)
	x.slow[1].putOff(x, &x.comment, at)
}

// putOff moves c's deadline if that is for a write and the caller has taken something since it was set. It leaves a deadline
// to fire if nothing is known of that.
//
// Hazard (the write is over): c's word is swapped only if it still is the one that was looked at, so what the handler has
// set since stays. The total's end is read behind the word, and was written before it.
func (p *progress) putOff(x *exchange, c *clock, at uint64) {
	word := c.word.Load()
	switch {
	case deadline(word&7) != deadlineWrite || x.conn == nil || x.r.ProtoMajor != 1:
		return
	case word != p.word: // set since the last sweep
		p.word, p.asked = word, false
		return
	case p.asked && word>>3 > at:
		return
	}
	bytes, known := taken(x.conn.raw)
	if !known || p.asked && bytes == p.taken {
		return
	}
	what, until := deadlineWrite, x.p.sweeper.after(x.gen.config.WriteTimeout)
	if total := x.course.total; !total.IsZero() && moment(total) < until {
		what, until = deadlineTotal, moment(total)
	}
	p.word, p.asked, p.taken = until<<3|uint64(what), true, bytes
	c.word.CompareAndSwap(word, p.word)
}
