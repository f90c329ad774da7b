package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// A server-sent event of eventBytes that says when it was sent, in nanoseconds of the machine's monotonic clock.
const (
	eventBegin  = `data: {"at":"`
	stampDigits = 19 // what an int64 has at most
	eventMiddle = `","data":"`
	eventEnd    = "\"}\n\n"
)

// newEvent returns one with the stamp 0.
func newEvent() []byte {
	const frame = len(eventBegin) + stampDigits + len(eventMiddle) + len(eventEnd)
	return []byte(eventBegin + strings.Repeat("0", stampDigits) + eventMiddle + strings.Repeat("x", eventBytes-frame) + eventEnd)
}

// stamp writes the time into an event.
func stamp(event []byte, at time.Duration) {
	digits := event[len(eventBegin) : len(eventBegin)+stampDigits]
	for i, rest := stampDigits-1, int64(at); i >= 0; i, rest = i-1, rest/10 {
		digits[i] = byte('0' + rest%10)
	}
}

// stampOf reads the time from an event, and wants it whole.
func stampOf(event []byte) (time.Duration, error) {
	rest, begins := bytes.CutPrefix(event, []byte(eventBegin))
	if !begins || !bytes.HasSuffix(rest, []byte(eventEnd)) || len(event) != eventBytes {
		return 0, fmt.Errorf("got the event %q", event)
	}
	at, err := strconv.ParseInt(string(rest[:stampDigits]), 10, 64)
	return time.Duration(at), err
}

// eventClock takes how long each event of one connection was on its way. Proxies cut a stream into other pieces than
// the upstream did, so an event is complete with its last byte.
type eventClock struct {
	event  [eventBytes]byte
	filled int
	took   []time.Duration
}

func (e *eventClock) read(r *bufio.Reader, size int) error {
	for size > 0 {
		piece := e.event[e.filled:min(eventBytes, e.filled+size)]
		if _, err := io.ReadFull(r, piece); err != nil {
			return endless(err)
		}
		size -= len(piece)
		if e.filled += len(piece); e.filled < eventBytes {
			return nil
		}
		e.filled = 0
		sent, err := stampOf(e.event[:])
		if err != nil {
			return err
		}
		e.took = append(e.took, monotonic()-sent)
	}
	return nil
}
