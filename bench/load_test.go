package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestAnswer(t *testing.T) {
	f := func(answer, wrong string) {
		t.Helper()
		const next = "HTTP/1.1 200 OK\r\n"
		r := bufio.NewReader(strings.NewReader(answer + next))
		err := readAnswer(r, 5, nil)
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
	f(ok+"Content-Length: 4\r\n\r\n1234", "got 4 bytes, want 5")
	f(ok+"Content-Length: -5\r\n\r\n", `Content-Length "-5"`)
	f(ok+"\r\n12345", "either")
	f(ok+"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "both")
	f(ok+"Connection: close\r\nContent-Length: 5\r\n\r\n12345", "closed")
	f(ok+"Transfer-Encoding: gzip, chunked\r\n\r\n", "want chunked")
	f(ok+"Transfer-Encoding: chunked\r\n\r\n4\r\n1234\r\n0\r\n\r\n", "got 4 bytes, want 5")
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
			err := readAnswer(bufio.NewReader(strings.NewReader(answer[:cut])), 5, nil)
			if err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
				t.Errorf("%q: got error %v, want unexpected EOF", answer[:cut], err)
			}
		}
		if err := readAnswer(bufio.NewReader(strings.NewReader(answer)), 5, nil); err != nil {
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

// upstreamOf serves until the test ends, and returns its address.
func upstreamOf(t *testing.T) string {
	t.Helper()
	listener, err := listenLoopback(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- serveUpstream(t.Context(), listener) }()
	t.Cleanup(func() {
		if err := <-ended; err != nil { // t's context has ended
			t.Errorf("the upstream: %v", err)
		}
	})
	return listener.Addr().String()
}

// reverseProxyTo is rp's, with a chance to be wrong.
func reverseProxyTo(t *testing.T, upstream string, around func(http.Handler) http.Handler) string {
	t.Helper()
	target, err := url.Parse("http://" + upstream)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(around(newReverseProxy(target)))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func right(h http.Handler) http.Handler { return h }

// planOf is for a workload with few connections.
func planOf(w workload, address string) loadPlan {
	most := 16
	if w.rate > 0 { // each of its requests may have one
		most = max(most, int(loadTime*time.Duration(w.rate)/time.Second))
	}
	w.connections = min(w.connections, most)
	return (&peer{address: address, prefixes: []string{""}}).plan(w, loadTime)
}

// loadOnce is what the load's process does between the orders.
func loadOnce(ctx context.Context, p loadPlan) (loadResult, error) {
	l, err := p.connect(ctx)
	if err != nil {
		return loadResult{}, err
	}
	defer l.close()
	return l.run()
}

// TestLoad sends every workload to the upstream and through the reverse proxy.
func TestLoad(t *testing.T) {
	upstream := upstreamOf(t)
	addresses := map[string]string{"direct": upstream, "rp": reverseProxyTo(t, upstream, right)}
	var all sync.WaitGroup
	for _, w := range workloads {
		for name, address := range addresses {
			all.Go(func() { // beside each other: W8 takes its time
				p := planOf(w, address)
				got, err := loadOnce(t.Context(), p)
				least, most := p.Connections, 1<<30
				if p.Rate > 0 {
					least = int(loadTime * time.Duration(p.Rate) / time.Second)
					most = least
				}
				if err != nil {
					t.Errorf("%s %s: %v", w.name, name, err)
				} else if got.Requests < least || got.Requests > most || got.Elapsed < loadTime/2 || got.P50 <= 0 || got.P99 < got.P50 ||
					got.InFlight < 1 || got.InFlight > p.Connections {
					t.Errorf("%s %s: got %+v", w.name, name, got)
				}
			})
		}
	}
	all.Wait()
}

// TestLoadTakesPrefixesInTurn: each of two has half of the requests.
func TestLoadTakesPrefixesInTurn(t *testing.T) {
	upstream := upstreamOf(t)
	var first, second atomic.Int64
	address := reverseProxyTo(t, upstream, func(h http.Handler) http.Handler {
		mux := http.NewServeMux()
		mux.Handle("/up0/", count(&first, http.StripPrefix("/up0", h)))
		mux.Handle("/up1/", count(&second, http.StripPrefix("/up1", h)))
		return mux
	})
	for _, name := range []string{"W2", "W6"} {
		w, _ := workloadNamed(name)
		p := planOf(w, address)
		p.Connections, p.Prefixes = 1, []string{"/up0", "/up1"}
		if _, err := loadOnce(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if a, b := first.Load(), second.Load(); a == 0 || a-b < 0 || a-b > 2 {
			t.Errorf("%s: got %d and %d requests", name, a, b)
		}
	}
}

func count(n *atomic.Int64, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		h.ServeHTTP(w, r)
	})
}

// TestLoadFails has a server that is wrong once, among many right answers.
func TestLoadFails(t *testing.T) {
	upstream := upstreamOf(t)
	f := func(wrong http.HandlerFunc, want string) {
		t.Helper()
		for _, name := range []string{"W2", "W6"} { // closed and open
			var turns atomic.Int64
			address := reverseProxyTo(t, upstream, func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if turns.Add(1) == 100 {
						wrong(w, r)
						return
					}
					h.ServeHTTP(w, r)
				})
			})
			w, _ := workloadNamed(name)
			p := planOf(w, address)
			p.For = time.Minute
			if _, err := loadOnce(t.Context(), p); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got error %v, want %q", name, err, want)
			}
		}
	}
	f(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "too much", http.StatusTooManyRequests) }, "429")
	f(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "short") }, "got 5 bytes, want 1024")
	f(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "unexpected EOF")
}

// TestOpenLoopCountsWaiting: with one connection and an upstream that is slower than the schedule, each request waits
// longer than that before it, which a closed loop does not see.
func TestOpenLoopCountsWaiting(t *testing.T) {
	w, _ := workloadNamed("W5")
	p := loadPlan{Workload: w.name, Address: upstreamOf(t), Prefixes: []string{""}, Connections: 1, Rate: 100, For: 100 * time.Millisecond}
	got, err := loadOnce(t.Context(), p)
	if err != nil || got.Requests != 10 || got.InFlight != 1 {
		t.Fatalf("got %+v, %v; want 10 requests, one at a time", got, err)
	}
	if least := 10*w.delay - p.For; got.P99 < least || got.P50 < w.delay {
		t.Errorf("got p50 %v and p99 %v, want the last to take %v at least", got.P50, got.P99, least)
	}
}

// TestOpenLoopWithoutServer: the load ends although nothing is ever answered.
func TestOpenLoopWithoutServer(t *testing.T) {
	listener, err := listenLoopback(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
			conn.Close()
		}
	}()
	w, _ := workloadNamed("W6")
	if got, err := loadOnce(t.Context(), planOf(w, listener.Addr().String())); err == nil {
		t.Errorf("got %+v, want an error", got)
	}
}

// TestRunLoad is the order of the load's process: connected, begin, the result, begin, the result of both, the end.
func TestRunLoad(t *testing.T) {
	w, _ := workloadNamed("W1")
	plan, err := json.Marshal(planOf(w, upstreamOf(t)))
	if err != nil {
		t.Fatal(err)
	}
	orders, give := io.Pipe()
	says, tell := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- runLoad(t.Context(), string(plan), orders, tell) }()
	lines := bufio.NewReader(says)
	if line, err := lines.ReadString('\n'); err != nil || line != connected+"\n" {
		t.Fatalf("got %q, %v; want %q", line, err, connected)
	}
	segment := func() (result loadResult) {
		t.Helper()
		if _, err := io.WriteString(give, "\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := lines.ReadBytes('\n'); err != nil || json.Unmarshal(line, &result) != nil {
			t.Fatalf("got %q, %v; want a result", line, err)
		}
		return result
	}
	one := segment()
	if both := segment(); one.Requests == 0 || both.Requests <= one.Requests || one.Elapsed < loadTime || both.Elapsed < one.Elapsed+loadTime {
		t.Errorf("got %+v for one segment, and %+v for both", one, both)
	}
	give.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := runLoad(t.Context(), string(plan), strings.NewReader(""), io.Discard); err == nil || !strings.Contains(err.Error(), "order") {
		t.Errorf("without an order: got error %v", err)
	}
}

func TestWorkloads(t *testing.T) {
	for _, w := range served() {
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
	if got := newEvent(); len(got) != eventBytes || !strings.HasSuffix(string(got), "\n\n") {
		t.Errorf("event: got %q, want %d bytes and an empty line", got, eventBytes)
	}
	w9, _ := workloadNamed("W9")
	if rounds, long := w9.rounds(3), w9.turnTime(2); rounds != 12 || long != 2*time.Second {
		t.Errorf("W9: got %d rounds of %v", rounds, long)
	}
	w8, _ := workloadNamed("W8")
	if rounds, long := w8.rounds(3), w8.turnTime(2); rounds != 3 || long != w8.least {
		t.Errorf("W8: got %d rounds of %v", rounds, long)
	}
	f := func(w workload, want int) {
		t.Helper()
		if got := w.openFiles(); got != want {
			t.Errorf("%+v: got %d open files, want %d", w, got, want)
		}
	}
	for _, w := range served() {
		if w.segments > 0 && w.rate > 0 {
			t.Errorf("%s: a schedule cannot be cut into segments", w.name)
		}
	}
	f(workload{connections: 64}, 428)
	f(workload{connections: 10000, rate: 5000}, 11800)
	f(workload{connections: 9000, rate: 5000, delay: 1500 * time.Millisecond}, 18300)
}
