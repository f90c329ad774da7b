package proxy

import (
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

const (
	accessJSON   = "json"
	accessCommon = "common"

	accessWaiting  = 4096        // lines that may wait to be written: tenths of a second of a busy Edge
	accessPatience = time.Second // what Close waits for them

	maxAccessPath  = 1024 // bytes of a path in a line
	maxAccessModel = 128  // and of a model
)

// accessLog writes a line for each request. The request's goroutine makes it and never waits: one goroutine of the log's
// writes, so that lines are whole and a pipe that nobody reads stops no request.
type accessLog struct {
	to     io.Writer
	common bool

	lines   chan *accessLine
	free    sync.Pool
	dropped atomic.Uint64

	quit chan struct{}
	done chan struct{}
}

type accessLine struct{ text []byte }

func newAccessLog(to io.Writer, format string) *accessLog {
	l := &accessLog{
		to: to, common: format == accessCommon,
		lines: make(chan *accessLine, accessWaiting), quit: make(chan struct{}), done: make(chan struct{}),
	}
	l.free.New = func() any { return &accessLine{make([]byte, 0, 512)} }
	go l.run()
	return l
}

func (l *accessLog) run() {
	defer close(l.done)
	for {
		select {
		case line := <-l.lines:
			l.put(line)
		case <-l.quit:
			for { // no request comes any more
				select {
				case line := <-l.lines:
					l.put(line)
				default:
					return
				}
			}
		}
	}
}

func (l *accessLog) put(line *accessLine) {
	if _, err := l.to.Write(line.text); err != nil {
		l.dropped.Add(1)
	}
	l.free.Put(line)
}

// close writes what is left, as far as that is taken in time. l may be nil.
func (l *accessLog) close() {
	if l == nil {
		return
	}
	close(l.quit)
	patience := time.NewTimer(accessPatience)
	defer patience.Stop()
	select {
	case <-l.done:
	case <-patience.C: // a Write cannot be interrupted
	}
}

// lost is how many lines were dropped. l may be nil.
func (l *accessLog) lost() uint64 {
	if l == nil {
		return 0
	}
	return l.dropped.Load()
}

// write makes the line of a request that has ended; left says that its caller did before its answer was whole.
func (l *accessLog) write(x *exchange, left bool) {
	line := l.free.Get().(*accessLine)
	e := x.accessEntry(left)
	if l.common {
		line.text = e.appendCommon(line.text[:0])
	} else {
		line.text = e.appendJSON(line.text[:0])
	}
	select {
	case l.lines <- line:
	default:
		l.dropped.Add(1)
		l.free.Put(line)
	}
}

// accessEntry is what a line says. It has neither the query, which may hold a key, nor fields of the head.
type accessEntry struct {
	arrived             time.Time
	id, caller, token   string
	method, path, proto string
	provider, model     string
	status, attempts    int
	reason              string
	duration, queued    time.Duration
	firstByte           time.Duration
	received            int64 // bytes of the request's content; -1: not known
	sent                int64 // and of the answer's
	tokens              tokenUsage
	counted             bool   // tokens is known
	stage               string // where the caller left
}

func (x *exchange) accessEntry(left bool) accessEntry {
	path, _, _ := strings.Cut(rawTarget(x.r), "?")
	e := accessEntry{
		arrived: x.arrived, id: x.id, caller: callerAddress(x.r, x.gen.trusted), token: x.caller.label(),
		method: x.r.Method, path: path, proto: x.r.Proto, provider: "none", model: x.model,
		status: x.status, attempts: x.attempts, reason: x.reason.String(),
		duration: x.ended.Sub(x.arrived), queued: x.waited, firstByte: x.firstByte, sent: x.sent,
		tokens: x.usage.result, counted: x.usage.known,
	}
	if x.end != nil {
		e.provider = x.end.name
	}
	if b := x.body.Load(); b != nil {
		e.received = b.received()
	}
	if left {
		e.stage = clientStageNames[x.stage]
	}
	return e
}

// received is how many bytes the caller has sent; -1 while somebody reads more of them.
func (b *body) received() int64 {
	if !b.mu.TryLock() {
		return -1
	}
	defer b.mu.Unlock()
	return b.read
}

// appendJSON appends e as a JSON object and a line's end. What was not there is left out.
func (e *accessEntry) appendJSON(b []byte) []byte {
	b = append(b, `{"time":"`...)
	b = e.arrived.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, '"')
	text := func(key, value string, limit int) {
		if value != "" {
			b = append(append(append(b, `,"`...), key...), `":"`...)
			b = append(appendText(b, value, limit, jsonEscapes), '"')
		}
	}
	number := func(key string, value int64) {
		b = strconv.AppendInt(append(append(append(b, `,"`...), key...), `":`...), value, 10)
	}
	seconds := func(key string, value time.Duration) {
		b = strconv.AppendFloat(append(append(append(b, `,"`...), key...), `":`...), value.Seconds(), 'f', 6, 64)
	}
	text(keyRequest, e.id, maxAccessPath)
	text(keyCaller, e.caller, maxAccessPath)
	text("token", e.token, maxAccessPath)
	text(keyMethod, e.method, maxAccessModel)
	text("path", e.path, maxAccessPath)
	text(keyProvider, e.provider, maxAccessPath)
	text("model", e.model, maxAccessModel)
	number(keyStatus, int64(e.status))
	text(keyReason, e.reason, maxAccessPath)
	text("stage", e.stage, maxAccessPath)
	if e.attempts > 0 {
		number("attempts", int64(e.attempts))
	}
	seconds(keyDuration, e.duration)
	seconds("queue_seconds", e.queued)
	if e.firstByte > 0 {
		seconds("first_byte_seconds", e.firstByte)
	}
	if e.received >= 0 {
		number("request_bytes", e.received)
	}
	number("response_bytes", e.sent)
	if e.counted {
		number("input_tokens", int64(e.tokens[tokensInput]))
		number("cached_input_tokens", int64(e.tokens[tokensCachedInput]))
		number("output_tokens", int64(e.tokens[tokensOutput]))
	}
	return append(b, "}\n"...)
}

// appendCommon appends e in the common log format: host ident authuser [date] "request" status bytes
// (https://www.w3.org/Daemon/User/Config/Logging.html).
func (e *accessEntry) appendCommon(b []byte) []byte {
	word := func(value string, limit int) {
		if value == "" {
			b = append(b, '-')
			return
		}
		b = appendText(b, value, limit, commonEscapes)
	}
	word(e.caller, maxAccessPath)
	b = append(b, " - "...)
	word(e.token, maxAccessPath)
	b = e.arrived.UTC().AppendFormat(append(b, " ["...), "02/Jan/2006:15:04:05 -0700")
	b = append(b, `] "`...)
	word(e.method, maxAccessModel)
	b = append(b, ' ')
	word(e.path, maxAccessPath)
	b = append(b, ' ')
	word(e.proto, maxAccessModel)
	b = strconv.AppendInt(append(b, `" `...), int64(e.status), 10)
	if b = append(b, ' '); e.sent == 0 {
		return append(b, "-\n"...)
	}
	return append(strconv.AppendInt(b, e.sent, 10), '\n')
}

// escapes is how a format writes what may not stand in a line as it is.
type escapes struct {
	prefix string // of the character's number
	digits int    // of that
	bad    string // for what is no UTF-8; "": its bytes' numbers
}

var (
	jsonEscapes   = escapes{`\u`, 4, `\ufffd`}
	commonEscapes = escapes{`\x`, 2, ""}
)

// appendText appends at most limit bytes of s, with what ends a string or controls a terminal escaped, and dots if s has
// more.
func appendText(b []byte, s string, limit int, how escapes) []byte {
	cut := len(s) > limit
	if cut {
		s = s[:limit]
	}
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if i++; c == '"' || c == '\\' {
				b = append(b, '\\', c)
			} else if c < ' ' || c == 0x7f {
				b = how.number(b, uint(c))
			} else {
				b = append(b, c)
			}
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1 && how.bad != "":
			b = append(b, how.bad...)
		case r == utf8.RuneError && size == 1 || r < 0xa0 && how.bad == "": // C1 controls
			for _, c := range []byte(s[i : i+size]) {
				b = how.number(b, uint(c))
			}
		case r < 0xa0:
			b = how.number(b, uint(r))
		default:
			b = append(b, s[i:i+size]...)
		}
		i += size
	}
	if cut {
		b = append(b, "..."...)
	}
	return b
}

// number appends an escaped number.
func (how escapes) number(b []byte, n uint) []byte {
	const hex = "0123456789abcdef"
	b = append(b, how.prefix...)
	for i := how.digits - 1; i >= 0; i-- {
		b = append(b, hex[n>>(4*i)&15])
	}
	return b
}
