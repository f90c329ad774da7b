package main

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// workload is what the clients ask for, and what they must get.
type workload struct {
	name, does  string
	method      string
	bodyBytes   int
	answerBytes int // of content, without framing
	events      int // the answer is a stream of so many events; 0: plain, with its length
	connections int

	apart    time.Duration // between two events, each of which says when it was sent; 0: back to back
	delay    time.Duration // how long the upstream takes
	rate     int           // requests a second, sent when the clock says so; 0: each connection's when it has its answer
	least    time.Duration // of a turn, whatever -seconds says
	segments int           // a turn is in so many, between which the others have theirs; not with a rate; 0: in one
	often    int           // there are so many times as many turns, for what is told as a difference; 0: as many

	fields bool // those of an SDK and of an LLM provider, on top of what every request and answer has

	held  bool // memory is told for each request in flight
	added bool // latency is told beyond direct, too
	micro bool // latency is told in µs
}

const eventBytes = 128

var workloads = []workload{
	{name: "W1", does: "GET, 11 B answer", method: http.MethodGet, answerBytes: 11, connections: 64},
	{name: "W2", does: "POST 1 KB, 1 KB answer", method: http.MethodPost, bodyBytes: 1 << 10, answerBytes: 1 << 10, connections: 64},
	{
		name: "W2f", does: "W2 with the fields of an LLM's SDK and provider", method: http.MethodPost, bodyBytes: 1 << 10, answerBytes: 1 << 10,
		connections: 64, fields: true,
	},
	{name: "W3", does: "POST 100 KB, 1 KB answer", method: http.MethodPost, bodyBytes: 100 << 10, answerBytes: 1 << 10, connections: 64},
	{name: "W4a", does: "SSE, 50 events", method: http.MethodPost, bodyBytes: 1 << 10, answerBytes: 50 * eventBytes, events: 50, connections: 32},
	{
		name: "W4b", does: "SSE, 50 events 5 ms apart", method: http.MethodPost, bodyBytes: 1 << 10, answerBytes: 50 * eventBytes, events: 50,
		connections: 100, apart: 5 * time.Millisecond, added: true, micro: true,
	},
	{
		name: "W5", does: "W2, upstream takes 60 ms", method: http.MethodPost, bodyBytes: 1 << 10, answerBytes: 1 << 10,
		connections: 2000, delay: 60 * time.Millisecond, held: true,
	},
	{
		name: "W6", does: "W2, open loop, 2,500 requests/s", method: http.MethodPost, bodyBytes: 1 << 10, answerBytes: 1 << 10,
		connections: 128, rate: 2500, added: true, micro: true,
	},
	{name: "W7", does: "GET, 1 MB answer", method: http.MethodGet, answerBytes: 1 << 20, connections: 64},
	{
		// 7,500 are in flight once the first are answered. The spare connections are for what the proxy itself takes;
		// more would need more than 20,000 open files in a proxy, which is a usual limit.
		name: "W8", does: "open loop, 5,000 requests/s, upstream takes 1.5 s, 10 KB answer", method: http.MethodPost, bodyBytes: 1 << 10,
		answerBytes: 10 << 10, connections: 9000, delay: 1500 * time.Millisecond, rate: 5000, least: 2500 * time.Millisecond, held: true,
	},
	{
		name: "W9", does: "W2, through plugins", method: http.MethodPost, bodyBytes: 1 << 10, answerBytes: 1 << 10, connections: 64,
		segments: 20, often: 4,
	},
}

// pluginWorkload is the one whose peers are edge with plugins.
const pluginWorkload = "W9"

// heldWorkload is no row of the table: the scale's, whose requests are all in flight for a second.
var heldWorkload = workload{
	name: "held", does: "W2, upstream takes 1 s", method: http.MethodPost, bodyBytes: 1 << 10, answerBytes: 1 << 10,
	connections: 100, delay: time.Second, held: true,
}

// served are those that the upstream answers.
func served() []workload { return append(slices.Clone(workloads), heldWorkload) }

func names(all []workload) []string {
	list := make([]string, len(all))
	for i, w := range all {
		list[i] = w.name
	}
	return list
}

func workloadNamed(name string) (workload, bool) {
	for _, w := range served() {
		if w.name == name {
			return w, true
		}
	}
	return workload{}, false
}

// path is where the upstream serves the workload.
func (w workload) path() string { return "/" + strings.ToLower(w.name) }

// rounds is how many there are when the flags say so many.
func (w workload) rounds(wanted int) int { return wanted * max(w.often, 1) }

// turnTime is how long a turn is when the flags say so.
func (w workload) turnTime(seconds float64) time.Duration {
	return max(time.Duration(seconds*float64(time.Second)), w.least)
}

// openFiles is what a proxy needs: its clients' connections, one to the upstream for each request in flight, and some
// more.
func (w workload) openFiles() int {
	inFlight := w.connections
	if w.rate > 0 {
		inFlight = min(inFlight, int(float64(w.rate)*(w.delay+stall).Seconds()))
	}
	return w.connections + inFlight + 300
}

// stall is what a proxy with a busy machine may take beyond what the upstream does.
const stall = 300 * time.Millisecond

// sdkFields are what OpenAI's SDK for Python sends beside what every client does.
const sdkFields = "Accept-Encoding: gzip, deflate\r\n" +
	"Authorization: Bearer sk-proj-0123456789abcdef0123456789abcdef0123456789abcdef\r\n" +
	"X-Stainless-Lang: python\r\nX-Stainless-Package-Version: 2.8.1\r\nX-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\n" +
	"X-Stainless-Runtime: CPython\r\nX-Stainless-Runtime-Version: 3.12.3\r\nX-Stainless-Async: false\r\n" +
	"x-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\n"

// request returns the bytes of one request.
func (w workload) request(host, prefix string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: edge-bench\r\nAccept: */*\r\n", w.method, prefix, w.path(), host)
	if w.fields {
		b.WriteString(sdkFields)
	}
	if w.bodyBytes > 0 {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", w.bodyBytes)
	}
	b.WriteString("\r\n")
	if w.bodyBytes > 0 {
		b.Write(jsonOf(w.bodyBytes))
	}
	return b.Bytes()
}

// jsonOf returns a JSON object of exactly so many bytes, at least 11.
func jsonOf(size int) []byte {
	const frame = `{"data":""}`
	return []byte(frame[:9] + strings.Repeat("x", size-len(frame)) + frame[9:])
}
