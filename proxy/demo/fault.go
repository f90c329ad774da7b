package demo

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fault is a way in which an answer goes wrong below HTTP, or in the middle.
type fault uint8

const (
	noFault fault = iota

	// Before the head.
	reset   // the connection is reset
	hangUp  // the connection is closed
	mute    // nothing comes, until the caller leaves
	notHTTP // this and what follows sends one of rawHeads
	badStatus
	badField
	badLength
	bothLengths
	badChunk
	headClose
	headReset
	endlessHead // fields without end
	slowHead    // the same, a byte at a time

	// In the body, after so many bytes of it.
	bodyReset  // the connection is reset
	short      // it is closed, with less than Content-Length has announced
	shortChunk // it is closed before the last chunk
	stall      // nothing more comes, until the caller leaves
	cutEvent   // HTTP ends it as if it were whole: in the middle of an event, of JSON, of a word
	errorEvent // a stream's last event is an error; a plain answer is whole
	trickle    // all of it comes, a byte at a time
)

// faults are what a Script and X-Demo-Fault may name.
var faults = map[string]fault{
	"reset": reset, "close": hangUp, "silence": mute,
	"not-http": notHTTP, "bad-status": badStatus, "bad-field": badField, "bad-length": badLength,
	"both-lengths": bothLengths, "bad-chunk": badChunk,
	"head-close": headClose, "head-reset": headReset, "endless-head": endlessHead, "slow-head": slowHead,
	"body-reset": bodyReset, "short": short, "short-chunked": shortChunk, "stall": stall, "cut-event": cutEvent,
	"error-event": errorEvent, "trickle": trickle,
}

// faultNames are the keys of faults, sorted.
var faultNames = strings.Join(slices.Sorted(maps.Keys(faults)), ", ")

// rawHeads are sent in place of an answer, as they stand.
var rawHeads = map[fault]string{
	notHTTP:     "SSH-2.0-OpenSSH_9.9\r\n",
	badStatus:   "HTTP/1.1 OK 200\r\nContent-Length: 3\r\n\r\n{}\n",
	badField:    "HTTP/1.1 200 OK\r\nContent-Type application/json\r\nContent-Length: 3\r\n\r\n{}\n",
	badLength:   "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n{}\n",
	bothLengths: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n0\r\n\r\n",
	badChunk:    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nthree\r\n{}\n\r\n0\r\n\r\n",
	headClose:   "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Le",
	headReset:   "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Le",
	endlessHead: "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n",
	slowHead:    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n",
}

// maxEndless is where even an endless head ends, so that a caller that reads all of it is no leak.
const maxEndless = 64 << 20

var (
	// errBroken ends a request whose answer was broken off as it was told to.
	errBroken = errors.New("demo: broken off")

	// errCut is errBroken for an answer that HTTP ends as if it were whole.
	errCut = errors.New("demo: cut short")
)

// inBody says whether the fault needs an answer to strike in.
func (f fault) inBody() bool { return f >= bodyReset }

// strikeHead carries out a fault that comes in place of an answer.
func (x *exchange) strikeHead(f fault) error {
	switch f {
	case mute:
		<-x.r.Context().Done()
		return errGone
	case hangUp:
		x.leave()
		return errBroken // net/http closes the connection without a byte
	case reset:
		return x.reset()
	}
	conn, err := x.hijack()
	if err != nil {
		return err
	}
	if f == endlessHead || f == slowHead {
		return x.flood(conn, rawHeads[f], f == slowHead)
	}
	x.leave()
	_, _ = conn.Write([]byte(rawHeads[f])) // the caller may be gone, which is its affair
	if f == headReset {
		lingerNot(conn)
	}
	return errBroken // end closes it
}

// flood sends a head that does not end until the caller leaves.
func (x *exchange) flood(conn net.Conn, head string, slowly bool) error {
	defer context.AfterFunc(x.r.Context(), func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	b, sent := []byte(head), 0
	for sent < maxEndless {
		size := len(b)
		if slowly {
			size = 1
		}
		for piece := range slices.Chunk(b, size) {
			if _, err := conn.Write(piece); err != nil {
				return errGone
			}
			if slowly && x.sleepUntil(time.Now().Add(x.settings.trickle)) != nil {
				return errGone
			}
		}
		sent += len(b)
		for b = b[:0]; len(b) < 4<<10; {
			b = strconv.AppendInt(append(b, "X-Field-"...), int64(sent+len(b)), 10)
			b = append(b, ": one of many\r\n"...)
		}
	}
	x.leave()
	return errBroken
}

// writeFaulty is write for an answer in whose body a fault strikes.
func (x *exchange) writeFaulty(b []byte) error {
	switch f := x.fault; {
	case f == trickle:
		return x.trickle(b)
	case len(b) < x.untilFault:
		x.untilFault -= len(b)
		return x.writeWhole(b)
	case f == cutEvent:
		b = b[:len(b)/2]
	case f == errorEvent:
		b = nil
	default:
		b = b[:x.untilFault]
	}
	if err := x.writeWhole(b); err != nil {
		return err
	}
	return x.strikeBody()
}

// strikeBody carries out a fault in mid-body.
func (x *exchange) strikeBody() error {
	f := x.fault
	x.fault = noFault
	if f == errorEvent {
		const openAI = `data: {"error":{"message":"The server had an error while processing your request. Sorry about that!","type":"server_error","param":null,"code":null}}` + "\n\n"
		const anthropic = "event: error\n" + `data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}` + "\n\n"
		text := openAI
		if x.anthropic {
			text = anthropic
		}
		if err := x.writeWhole([]byte(text)); err != nil {
			return err
		}
	}
	if f != stall {
		x.leave() // before the caller can see the end
	}
	if f == cutEvent || f == errorEvent {
		return errCut
	}
	if http.NewResponseController(x.w).Flush() != nil {
		return errGone
	}
	switch f {
	case stall:
		<-x.r.Context().Done()
		return errGone
	case bodyReset:
		return x.reset()
	}
	return errBroken
}

// trickle writes b a byte at a time.
func (x *exchange) trickle(b []byte) error {
	control := http.NewResponseController(x.w)
	for i := range b {
		if err := x.sleepUntil(time.Now().Add(x.settings.trickle)); err != nil {
			return err
		}
		if err := x.writeWhole(b[i : i+1]); err != nil {
			return err
		}
		if control.Flush() != nil {
			return errGone
		}
	}
	return nil
}

// frame prepares the head of an answer in whose body a fault will strike; size is that of the body, or 0 for a stream.
func (x *exchange) frame(size int) {
	h := x.w.Header()
	if size > 0 {
		x.untilFault = min(x.untilFault, size/2)
	}
	switch {
	case x.fault == short && size == 0:
		h["Content-Length"] = []string{strconv.Itoa(maxFaultAfter)}
	case x.fault == shortChunk || x.fault == cutEvent:
		// Chunked, as net/http makes it when the length is unknown by the first flush.
	case size > 0:
		h["Content-Length"] = []string{strconv.Itoa(size)}
	}
}

// reset ends the connection with a TCP reset, where there is TCP.
func (x *exchange) reset() error {
	conn, err := x.hijack()
	if err != nil {
		return err
	}
	x.leave()
	lingerNot(conn)
	return errBroken
}

// hijack takes the connection out of net/http's hands; end closes it. Without one the answer is aborted.
func (x *exchange) hijack() (net.Conn, error) {
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		return nil, errBroken
	}
	x.conn = conn
	return conn, nil
}

// lingerNot makes Close drop what is unsent and reset the connection.
func lingerNot(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}
