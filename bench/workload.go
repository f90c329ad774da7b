package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
)

// workload is what the clients ask for, and what they must get.
type workload struct {
	name, does  string
	method      string
	bodyBytes   int
	answerBytes int // of content, without framing
	events      int // the answer is a stream of so many events; 0: plain, with its length
	connections int
}

const eventBytes = 128

var workloads = []workload{
	{name: "W1", does: "GET, 11 B answer", method: http.MethodGet, answerBytes: 11, connections: 64},
	{name: "W2", does: "POST 1 KB, 1 KB answer", method: http.MethodPost, bodyBytes: 1 << 10, answerBytes: 1 << 10, connections: 64},
	{name: "W3", does: "POST 100 KB, 1 KB answer", method: http.MethodPost, bodyBytes: 100 << 10, answerBytes: 1 << 10, connections: 64},
	{name: "W4a", does: "SSE, 50 events", method: http.MethodPost, bodyBytes: 1 << 10, answerBytes: 50 * eventBytes, events: 50, connections: 32},
}

func names(all []workload) []string {
	list := make([]string, len(all))
	for i, w := range all {
		list[i] = w.name
	}
	return list
}

func workloadNamed(name string) (workload, bool) {
	for _, w := range workloads {
		if w.name == name {
			return w, true
		}
	}
	return workload{}, false
}

// path is where the upstream serves the workload.
func (w workload) path() string { return "/" + strings.ToLower(w.name) }

// request returns the bytes of one request, as a client of an LLM API would send it.
func (w workload) request(host, prefix string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: edge-bench\r\nAccept: */*\r\n", w.method, prefix, w.path(), host)
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

// event returns a server-sent event of eventBytes.
func event() []byte {
	const frame = "data: \n\n"
	return []byte(frame[:6] + string(jsonOf(eventBytes-len(frame))) + frame[6:])
}
