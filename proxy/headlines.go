package proxy

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"sync/atomic"

	"github.com/edge-proxy/edge/arena"
	"github.com/edge-proxy/edge/proxy/upstream"
)

// headLines are the fields of an answer as lines, which the caller's connection puts behind the status line when net/http
// writes the head. net/http is told only of what it frames the message by: Content-Length, Connection, the trailer's names.
// Else it copies the header map, sorts the names and looks through each value again: with the fields of an LLM provider's
// answer a tenth of a request's CPU time; docs/bench.md.
//
// They become pending behind WriteHeader, since what net/http may write before that is another head, 100 Continue. The
// block outlives the exchange, since net/http may write the head only when the handler has returned. Whoever swaps pending
// to false has the block: Write, or Close.
type headLines struct {
	pending atomic.Bool
	slot    arena.Slot[headBlock]
	end     int          // of the lines in the block; they begin at statusRoom
	writer  reflect.Type // net/http's own, once it was seen
}

const (
	statusRoom = 64      // bytes left free in front, for the status line; net/http's longest has 54
	headRoom   = 1 << 10 // bytes left free behind, for the rest of the head and short content
)

// Fields of Edge's own in every answer, and where there may be several attempts.
const (
	requestIDField = "X-Edge-Request-Id"
	attemptsField  = "X-Edge-Attempts"
)

// headAsLines makes lines of the answer's fields, and puts into h what net/http has to know. It returns nil, and leaves h
// as it is, where only net/http can write the head: to another connection than one of Listener's with HTTP/1.1, or when
// somebody stands between net/http and the Proxy, and for fields that are too many, or not fit to be sent as they are.
func (x *exchange) headAsLines(h http.Header) *headLines {
	if x.conn == nil || x.conn.own == nil || x.r.ProtoMajor != 1 || x.r.ProtoMinor != 1 || !x.conn.own.served.Load() {
		return nil
	}
	a, lines := &x.answer, &x.conn.own.lines
	if a.Status < 200 || a.Status == http.StatusNoContent || a.Status == http.StatusNotModified || !lines.of(x.w) {
		return nil // of some fields of these net/http lets none pass
	}
	slot, free := x.p.heads.TryTake(x.hint)
	if !free { // all are on their way elsewhere: the map is slower, and needs none
		return nil
	}
	b, most := slot.P()[:statusRoom], len(slot.P())-headRoom
	named, fit := namedByConnection(a.Fields), x.fieldsAreFit()
	length, dated := "", false
	for i := range a.Fields {
		field := &a.Fields[i]
		switch {
		case hopByHop(field.Name) || named[field.Name] || field.Name == requestIDField || field.Name == attemptsField && x.course.several:
			continue
		case field.Name == "Content-Length":
			length = field.Value
			continue
		case len(b)+len(field.Name)+len(field.Value) > most || !fit && !field.Valid():
			slot.Give()
			return nil
		}
		dated = dated || field.Name == "Date"
		b = appendLine(b, field.Name, field.Value)
	}
	b = appendLine(b, requestIDField, x.id)
	if x.course.several {
		b = appendLine(b, attemptsField, strconv.Itoa(x.attempts))
	}
	if length != "" {
		x.last.length[0] = length
		h["Content-Length"] = x.last.length[:]
	}
	h["Content-Type"] = nil // it is in a line, or there is none and net/http is not to guess one
	if dated {
		h["Date"] = nil
	}
	x.closeAfter(h)
	lines.slot, lines.end = slot, len(b)
	return lines
}

// of reports whether w is net/http's own for HTTP/1, so that what is written to it goes to the connection as it is.
func (l *headLines) of(w http.ResponseWriter) bool {
	kind := reflect.TypeOf(w)
	if kind == l.writer {
		return true
	}
	if kind.Kind() != reflect.Pointer || kind.Elem().PkgPath() != "net/http" || kind.Elem().Name() != "response" {
		return false
	}
	l.writer = kind
	return true
}

// fieldsAreFit reports whether the answer's fields are known to be fit to be sent: the strict client has read them, and no
// plugin has seen them. Of several attempts another provider's may have been.
func (x *exchange) fieldsAreFit() bool {
	if x.use.replica == nil || x.course.several || len(x.draft.visits) > 0 || x.draft.answered || x.draft.failure != nil {
		return false
	}
	_, strict := x.use.client.(*upstream.Direct)
	return strict
}

func appendLine(b []byte, name, value string) []byte {
	b = append(append(b, name...), ": "...)
	return append(append(b, value...), "\r\n"...)
}

// follow has the lines, if there are any, go into the next head.
func (l *headLines) follow() {
	if l != nil {
		l.pending.Store(true)
	}
}

// drop gives the block back, if there is one that nobody has taken.
func (l *headLines) drop() {
	if l.pending.Swap(false) {
		l.slot.Give()
	}
}

var errNoHead = errors.New("bug: net/http has written something else than a head")

// writeHead writes p, which begins with a head, with the lines in it.
func (c *callerConn) writeHead(p []byte) (int, error) {
	l := &c.lines
	defer l.slot.Give()
	block := l.slot.P()[:]
	first := bytes.IndexByte(p[:min(len(p), statusRoom)], '\n') + 1
	if first == 0 || !bytes.HasPrefix(p, []byte("HTTP/1.1 ")) {
		return 0, errNoHead
	}
	begin := statusRoom - first
	copy(block[begin:], p[:first])
	var sent int64
	var err error
	if rest := p[first:]; len(rest) <= len(block)-l.end {
		var n int
		n, err = c.write(append(block[begin:l.end], rest...))
		sent = int64(n)
	} else {
		sent, err = c.WriteBuffers(&net.Buffers{block[begin:l.end], rest})
	}
	if err != nil {
		return max(0, int(sent)-(l.end-statusRoom)), err
	}
	return len(p), nil
}
