package proxy

import (
	"os"
	"strings"
	"testing"
	"time"
)

// docs/logs.md shows a line of each format.
func TestAccessLinesAreAsTheDocumentShows(t *testing.T) {
	page, err := os.ReadFile("../docs/logs.md")
	if err != nil {
		t.Fatal(err)
	}
	e := accessEntry{
		arrived: time.Date(2026, 11, 25, 12, 30, 5, 123456789, time.UTC), id: "5f3c9a12-7", caller: "192.0.2.7", token: "team-a",
		method: "POST", path: "/v1/chat/completions", proto: "HTTP/1.1", provider: "openai", model: "gpt-4o-mini",
		status: 200, attempts: 1, duration: 1834221 * time.Microsecond, queued: 12 * time.Microsecond, firstByte: 412005 * time.Microsecond,
		received: 312, sent: 2048, tokens: tokenUsage{21, 1024, 143}, counted: true,
	}
	refused := accessEntry{
		arrived: e.arrived, id: "5f3c9a12-8", caller: e.caller, token: e.token, method: "POST", path: "/openai/v1/embeddings", proto: "HTTP/2.0",
		provider: "openai", status: 503, attempts: 1, reason: "queue_timeout", duration: 30001 * time.Millisecond, queued: 30 * time.Second, received: 90, sent: 130,
	}
	left := refused
	left.status, left.reason, left.stage, left.sent, left.duration = 499, "", "queued", 0, 2*time.Second
	left.queued, left.token = left.duration, ""
	for _, entry := range []accessEntry{e, refused, left} {
		for _, line := range []string{string(entry.appendJSON(nil)), string(entry.appendCommon(nil))} {
			if !strings.Contains(string(page), "\n"+line) {
				t.Errorf("docs/logs.md does not show\n%s", line)
			}
		}
	}
}

func TestAccessLinesAllocateNothing(t *testing.T) {
	e := accessEntry{arrived: time.Now(), id: "a-1", caller: "::1", method: "POST", path: "/x\x00é", model: "m", status: 200, counted: true}
	buffer := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { buffer = e.appendCommon(e.appendJSON(buffer[:0])) }); n != 0 {
		t.Errorf("got %v allocations", n)
	}
}
