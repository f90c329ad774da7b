package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestAnswer(t *testing.T) {
	f := func(answer, wrong string) {
		t.Helper()
		const next = "HTTP/1.1 200 OK\r\n"
		r := bufio.NewReader(strings.NewReader(answer + next))
		err := readAnswer(r, 5)
		if err == nil && wrong == "" {
			if left, _ := r.Peek(r.Buffered()); string(left) != next {
				t.Errorf("%q: left %q, want %q", answer, left, next)
			}
			return
		}
		if err == nil || wrong == "" || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%q: got error %v, want %q", answer, err, wrong)
		}
	}
	const ok = "HTTP/1.1 200 OK\r\n"
	f(ok+"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\n12345", "")
	f(ok+"content-length:5\r\n\r\n12345", "")
	f(ok+"Transfer-Encoding: chunked\r\n\r\n3\r\n123\r\n2\r\n45\r\n0\r\n\r\n", "")
	f(ok+"Connection: keep-alive\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n", "")
	f("HTTP/1.1 503 Busy\r\nX-Edge-Reason: queue_full\r\n\r\n", "queue_full")
	f("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n12345", "want 200")
	f(ok+"Content-Length: 4\r\n\r\n1234", "got an answer of 4 bytes, want 5")
	f(ok+"Content-Length: -5\r\n\r\n", `Content-Length "-5"`)
	f(ok+"\r\n12345", "either")
	f(ok+"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "either")
	f(ok+"Connection: close\r\nContent-Length: 5\r\n\r\n12345", "closed")
	f(ok+"Transfer-Encoding: gzip, chunked\r\n\r\n", "want chunked")
	f(ok+"Transfer-Encoding: chunked\r\n\r\n4\r\n1234\r\n0\r\n\r\n", "got an answer of 4 bytes, want 5")
	f(ok+"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n1\r\n6\r\n0\r\n\r\n", "6 bytes and more")
	f(ok+"Transfer-Encoding: chunked\r\n\r\n5\r\n1234567\r\n0\r\n\r\n", "behind a chunk")
	f(ok+"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", "chunk size")
	f(ok+"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n", "chunk size") // the next answer in place of the end
}

// TestAnswerCut ends the connection behind every byte of an answer.
func TestAnswerCut(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n",
	} {
		for cut := range answer {
			err := readAnswer(bufio.NewReader(strings.NewReader(answer[:cut])), 5)
			if err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
				t.Errorf("%q: got error %v, want unexpected EOF", answer[:cut], err)
			}
		}
		if err := readAnswer(bufio.NewReader(strings.NewReader(answer)), 5); err != nil {
			t.Errorf("%q: %v", answer, err)
		}
	}
}

func TestPercentile(t *testing.T) {
	f := func(count int, p float64, want time.Duration) {
		t.Helper()
		sorted := make([]time.Duration, count)
		for i := range sorted {
			sorted[i] = time.Duration(i + 1)
		}
		if got := percentile(sorted, p); got != want {
			t.Errorf("p%v of 1 to %d: got %d, want %d", p, count, got, want)
		}
	}
	f(1, 50, 1)
	f(1, 99, 1)
	f(2, 50, 1)
	f(3, 50, 2)
	f(100, 50, 50)
	f(100, 99, 99)
	f(101, 99, 100)
	f(5, 100, 5)
	f(5, 0, 1)
}

const loadTime = 20 * time.Millisecond

// TestLoad sends every workload to the upstream and through the reverse proxy.
func TestLoad(t *testing.T) {
	upstream := httptest.NewServer(upstreamHandler())
	defer upstream.Close()
	target, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	rp := httptest.NewServer(newReverseProxy(target))
	defer rp.Close()
	for _, w := range workloads {
		for name, server := range map[string]*httptest.Server{"direct": upstream, "rp": rp} {
			got, err := loadPlan{Workload: w.name, Address: server.Listener.Addr().String(), For: loadTime}.run(t.Context())
			if err != nil {
				t.Errorf("%s %s: %v", w.name, name, err)
			} else if got.Requests < w.connections || got.Elapsed < loadTime || got.P50 <= 0 || got.P99 < got.P50 {
				t.Errorf("%s %s: got %+v", w.name, name, got)
			}
		}
	}
}

// TestLoadFails has a server that is wrong once, among many right answers.
func TestLoadFails(t *testing.T) {
	f := func(wrong http.HandlerFunc, want string) {
		t.Helper()
		right := upstreamHandler()
		turns := make(chan int, 1)
		turns <- 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			turn := <-turns + 1
			turns <- turn
			if turn == 100 {
				wrong(w, r)
				return
			}
			right.ServeHTTP(w, r)
		}))
		defer server.Close()
		_, err := loadPlan{Workload: "W2", Address: server.Listener.Addr().String(), For: time.Minute}.run(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %q", err, want)
		}
	}
	f(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "too much", http.StatusTooManyRequests) }, "429")
	f(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "short") }, "got an answer of 5 bytes, want 1024")
	f(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "unexpected EOF")
}

// TestUpstreamWantsWholeBodies: a proxy that drops bytes of a request is not the faster one.
func TestUpstreamWantsWholeBodies(t *testing.T) {
	f := func(body string, want int) {
		t.Helper()
		w := httptest.NewRecorder()
		upstreamHandler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/w2", strings.NewReader(body)))
		if w.Code != want {
			t.Errorf("%d bytes: got status %d, want %d", len(body), w.Code, want)
		}
	}
	f(strings.Repeat("x", 1024), http.StatusOK)
	f(strings.Repeat("x", 1023), http.StatusBadRequest)
	f(strings.Repeat("x", 1025), http.StatusBadRequest)
}

func TestWorkloads(t *testing.T) {
	for _, w := range workloads {
		head, body, _ := strings.Cut(string(w.request("127.0.0.1:1", "/up")), "\r\n\r\n")
		if line := w.method + " /up/" + strings.ToLower(w.name) + " HTTP/1.1\r\n"; !strings.HasPrefix(head, line) {
			t.Errorf("%s: got head %q, want it to begin with %q", w.name, head, line)
		}
		if len(body) != w.bodyBytes || w.bodyBytes > 0 && !json.Valid([]byte(body)) {
			t.Errorf("%s: got a body of %d bytes (JSON: %v), want %d", w.name, len(body), json.Valid([]byte(body)), w.bodyBytes)
		}
	}
	if got := len(jsonOf(11)); got != 11 {
		t.Errorf("jsonOf(11): got %d bytes", got)
	}
	if got := event(); len(got) != eventBytes || !strings.HasSuffix(string(got), "\n\n") {
		t.Errorf("event: got %q, want %d bytes and an empty line", got, eventBytes)
	}
}
