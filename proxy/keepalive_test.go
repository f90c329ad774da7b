package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

const keepAlive = ": keep-alive\n\n"

// kept is a configuration whose streams are not silent for long.
func kept(base string, every time.Duration, change ...func(*proxy.Config, *proxy.Provider)) proxy.Config {
	return one(base, append(change, func(_ *proxy.Config, p *proxy.Provider) { p.StreamKeepalive = every })...)
}

// stepping is an upstream that sends a piece of a stream, flushed, for each step that the test lets it take.
func stepping(t *testing.T, head map[string]string, pieces ...string) (url string, step chan struct{}) {
	t.Helper()
	step = make(chan struct{})
	return provider(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		for name, value := range head {
			w.Header().Set(name, value)
		}
		w.(http.Flusher).Flush()
		for _, piece := range append(pieces, "") {
			select {
			case <-step:
			case <-r.Context().Done():
				return
			}
			_, _ = io.WriteString(w, piece)
			w.(http.Flusher).Flush()
		}
	}), step
}

// open asks for a stream and returns what reads it.
func (e *edge) open(c *http.Client, path string) *bufio.Reader {
	e.t.Helper()
	got, err := c.Get(e.url + path) //nolint:noctx // ends with the upstream
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { got.Body.Close() })
	return bufio.NewReader(got.Body)
}

// reads checks what comes next.
func reads(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v, want %q", got[:n], err, want)
	}
}

// A silent stream gets comments before its first event and between events, over HTTP/1.1 and HTTP/2.
func TestSilentStreamsGetComments(t *testing.T) {
	f := func(with ...func(*httptest.Server)) {
		t.Helper()
		up, step := stepping(t, nil, "data: a\n\n", "data: b\r\n\r\n")
		e := start(t, kept(up, 2*time.Millisecond), with...)
		c := client(t)
		if len(with) > 0 {
			c = e.server.Client()
		}
		r := e.open(c, "/up/x")
		reads(t, r, keepAlive+keepAlive)
		for _, event := range []string{"data: a\n\n", "data: b\r\n\r\n"} {
			step <- struct{}{}
			skipComments(t, r)
			reads(t, r, event)
			reads(t, r, keepAlive+keepAlive)
		}
		step <- struct{}{}
		skipComments(t, r)
		if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
			t.Errorf("the end: got %q, %v", rest, err)
		}
	}
	f()
	f((*httptest.Server).StartTLS)
}

// skipComments reads comments until something else comes.
func skipComments(t *testing.T, r *bufio.Reader) {
	t.Helper()
	for {
		if next, err := r.Peek(1); err != nil || next[0] != ':' {
			return
		}
		reads(t, r, keepAlive)
	}
}

// No comment comes within an event, behind the end mark of OpenAI's streams, into an answer of known length or one that is
// encoded, nor where none are configured.
func TestCommentsComeNowhereElse(t *testing.T) {
	const long = 20 * time.Millisecond // many times the silence that is allowed
	f := func(every time.Duration, head map[string]string, first, second, want string) {
		t.Helper()
		up, step := stepping(t, head, first, second)
		e := start(t, kept(up, every))
		r := e.open(client(t), "/up/x")
		for range 2 {
			step <- struct{}{}
			<-time.After(long)
		}
		step <- struct{}{}
		text, err := io.ReadAll(r)
		got := strings.ReplaceAll(string(text), keepAlive, "#")
		got = regexp.MustCompile(`^#+|#+$`).ReplaceAllString(regexp.MustCompile("#+").ReplaceAllString(got, "#"), "")
		if every == 0 || head != nil {
			got = string(text)
		}
		if strings.HasSuffix(want, "[DONE]\n\n") && strings.HasSuffix(string(text), keepAlive) || err != nil || got != want {
			t.Errorf("got %q, %v, want %q", text, err, want)
		}
	}
	exact := func(every time.Duration, head map[string]string, first, second string) {
		t.Helper()
		f(every, head, first, second, first+second)
	}
	exact(time.Millisecond, nil, "data: a", "b\n\n")
	exact(time.Millisecond, nil, "data: a\n", "\n")
	exact(time.Millisecond, nil, "data: a\r\n\r", "\n")
	exact(time.Millisecond, nil, "data: a\n\nid: 7\n", "data: b\n\n")
	exact(time.Millisecond, nil, "data: a\n", "\ndata: [DONE]\n\n")
	exact(time.Millisecond, map[string]string{"Content-Length": "18"}, "data: a\n\n", "data: b\n\n")
	exact(time.Millisecond, map[string]string{"Content-Encoding": "gzip"}, "data: a\n\n", "data: b\n\n")
	exact(time.Millisecond, map[string]string{"Content-Type": "application/x-ndjson"}, "{}\n\n", "{}\n\n")
	exact(0, nil, "data: a\n\n", "data: b\n\n")
	f(time.Millisecond, nil, "data: a\n\n", "data: b\n\n", "data: a\n\n#data: b\n\n") // the check itself
}

// Comments do not put off the stream's idle timeout.
func TestCommentsDoNotHideASilentProvider(t *testing.T) {
	up, _ := stepping(t, nil, "")
	e := start(t, kept(up, 2*time.Millisecond, func(_ *proxy.Config, p *proxy.Provider) { p.StreamIdleTimeout = 200 * time.Millisecond }))
	got, err := io.ReadAll(e.open(client(t), "/up/x"))
	if err == nil || !strings.HasPrefix(string(got), keepAlive) {
		t.Errorf("got %q, %v, want comments and an end that is none", got, err)
	}
	if !eventually(func() bool { return e.sum("edge_rejected_total", `reason="upstream_timeout"`) == 1 }) {
		t.Error("no upstream_timeout was counted")
	}
}

// TestHammerKeepAlive sends streams whose events are cut at random, with pauses at random. They arrive byte for byte, with
// comments between them only.
func TestHammerKeepAlive(t *testing.T) {
	ends := []string{"\n", "\r\n"}
	stream := func(seed uint64) (pieces []string) {
		random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's
		var whole strings.Builder
		for i := range 20 + random.IntN(20) {
			end := ends[random.IntN(len(ends))]
			for range 1 + random.IntN(3) {
				fmt.Fprintf(&whole, "data: %d %s%s", i, strings.Repeat("x", random.IntN(30)), end)
			}
			whole.WriteString(end)
		}
		for text := whole.String(); text != ""; {
			n := min(len(text), 1+random.IntN(40))
			pieces, text = append(pieces, text[:n]), text[n:]
		}
		return pieces
	}
	up := provider(t, func(w http.ResponseWriter, r *http.Request) {
		var seed uint64
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &seed)
		random := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // a test's
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		for _, piece := range stream(seed) {
			_, _ = io.WriteString(w, piece)
			w.(http.Flusher).Flush()
			if random.IntN(3) > 0 {
				<-time.After(time.Duration(random.IntN(600)) * time.Microsecond)
			}
		}
	})
	streams := 60
	if testing.Short() {
		streams = 12
	}
	for _, with := range [][]func(*httptest.Server){nil, {(*httptest.Server).StartTLS}} {
		e := start(t, kept(up, 100*time.Microsecond), with...)
		c := client(t)
		if with != nil {
			c = e.server.Client()
		}
		var all sync.WaitGroup
		var comments [4]int
		for worker := range comments {
			all.Go(func() {
				for i := range streams / len(comments) {
					seed := uint64(worker*streams + i)
					got, err := c.Get(fmt.Sprintf("%s/up/%d", e.url, seed)) //nolint:noctx // ends by itself
					if err != nil {
						t.Error(err)
						return
					}
					text, err := io.ReadAll(got.Body)
					got.Body.Close()
					if err != nil {
						t.Error(err)
					}
					comments[worker] += withoutComments(t, string(text), strings.Join(stream(seed), ""))
				}
			})
		}
		all.Wait()
		if n := comments[0] + comments[1] + comments[2] + comments[3]; n == 0 {
			t.Error("there was no comment")
		}
	}
}

// withoutComments checks that got is want with comments between events, and returns how many.
func withoutComments(t *testing.T, got, want string) (comments int) {
	at := 0
	for got != "" {
		between := at == 0 || strings.HasSuffix(want[:at], "\n\n") || strings.HasSuffix(want[:at], "\r\n\r\n")
		if rest, ok := strings.CutPrefix(got, keepAlive); ok && between {
			got = rest
			comments++
			continue
		}
		if at == len(want) || got[0] != want[at] {
			t.Errorf("behind %q: got %q", want[max(0, at-40):at], got[:min(len(got), 60)])
			return comments
		}
		got = got[1:]
		at++
	}
	if at < len(want) {
		t.Errorf("got %d bytes, want %d", at, len(want))
	}
	return comments
}
