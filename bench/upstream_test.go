package main

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// ask sends text to an address and returns the whole answer; the server closes.
func ask(t *testing.T, address, text string) string {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Errorf("%q: %v", text, err)
	}
	return string(answer)
}

// TestUpstreamWantsWholeRequests: a proxy that drops bytes of a request is not the faster one.
func TestUpstreamWantsWholeRequests(t *testing.T) {
	upstream := upstreamOf(t)
	f := func(text, want string) {
		t.Helper()
		answer := ask(t, upstream, text)
		if wrong := !strings.HasPrefix(answer, okPrefix); wrong != (want != "") || !strings.Contains(answer, want) {
			t.Errorf("%.80q: got %q, want %q in it", text, answer, want)
		}
	}
	const w2 = "POST /w2 HTTP/1.1\r\nHost: x\r\n"
	x := strings.Repeat("x", 1024)
	f(w2+"Content-Length: 1024\r\n\r\n"+x, "")
	f(w2+"Transfer-Encoding: chunked\r\n\r\n200\r\n"+x[:512]+"\r\n200\r\n"+x[:512]+"\r\n0\r\n\r\n", "")
	f("GET /w1 HTTP/1.1\r\nHost: x\r\n\r\n", "")
	f("GET /stamped HTTP/1.1\r\nX-Stamp: edge\r\n\r\n", "")
	f("GET /stamped HTTP/1.1\r\n\r\n", "x-stamp")
	f(w2+"Content-Length: 1023\r\n\r\n"+x[:1023], "got a body of 1023 bytes, want 1024")
	f(w2+"Content-Length: 1025\r\n\r\n"+x+"x", "got a body of 1025 bytes, want 1024")
	f(w2+"Content-Length: 1024\r\n\r\n"+x[:1000], "unexpected EOF")
	f(w2+"Transfer-Encoding: chunked\r\n\r\n200\r\n"+x[:512]+"\r\n0\r\n\r\n", "got 512 bytes, want 1024")
	f(w2+"\r\n", "want 1024")
	f("GET /w2 HTTP/1.1\r\n\r\n", "GET /w2")
	f("GET /w1 HTTP/1.0\r\n\r\n", "HTTP/1.0")
	f("GET /w1 HTTP/1.1\r\nConnection: close\r\n\r\n", "want it kept")
}

// TestUpstreamStamps takes a stream whose events say when they were sent.
func TestUpstreamStamps(t *testing.T) {
	w, _ := workloadNamed("W4b")
	before := monotonic()
	answer := ask(t, upstreamOf(t), string(w.request("x", "")))
	after := monotonic()
	r := bufio.NewReader(strings.NewReader(answer))
	clock := &eventClock{}
	if err := readAnswer(r, w.answerBytes, clock); err != nil {
		t.Fatal(err)
	}
	if len(clock.took) != w.events {
		t.Fatalf("got %d events, want %d", len(clock.took), w.events)
	}
	last := before
	for rest := answer; ; {
		at := strings.Index(rest, eventBegin)
		if at < 0 {
			break
		}
		sent, err := stampOf([]byte(rest[at : at+eventBytes]))
		if err != nil || sent < last || sent > after {
			t.Errorf("an event was sent at %v, %v; the one before at %v", sent, err, last)
		}
		rest, last = rest[at+eventBytes:], sent
	}
	if least := time.Duration(w.events-1) * w.apart; after-before < least {
		t.Errorf("the stream took %v, want %v at least", after-before, least)
	}
}

func TestEvents(t *testing.T) {
	stamped := func(at time.Duration) string {
		event := newEvent()
		stamp(event, at)
		if got, err := stampOf(event); got != at || err != nil {
			t.Errorf("%q: got %v, %v; want %v", event, got, err, at)
		}
		return string(event)
	}
	stamped(0)
	stamped(1<<63 - 1)
	content := stamped(monotonic()) + stamped(monotonic())
	for size := 1; size <= len(content); size++ { // pieces of the stream, however it was cut
		clock := &eventClock{}
		r := bufio.NewReader(strings.NewReader(content))
		for left := len(content); left > 0; left -= size {
			if err := clock.read(r, min(size, left)); err != nil {
				t.Fatal(err)
			}
		}
		if len(clock.took) != 2 || clock.filled != 0 || clock.took[0] <= 0 || clock.took[0] > time.Minute {
			t.Errorf("pieces of %d: got %v", size, clock.took)
		}
	}
	for _, wrong := range []string{strings.Replace(content, "data:", "dota:", 1), strings.Replace(content, "\n\n", "\n.", 1), strings.Replace(content, `":"0`, `":"x`, 1)} {
		if err := (&eventClock{}).read(bufio.NewReader(strings.NewReader(wrong)), eventBytes); err == nil {
			t.Errorf("%.40q: want an error", wrong)
		}
	}
	if err := (&eventClock{}).read(bufio.NewReader(strings.NewReader(content)), len(content)+1); err == nil {
		t.Error("a stream that is cut off: want an error")
	}
}
