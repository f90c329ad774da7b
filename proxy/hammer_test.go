package proxy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

var hammerRequests = flag.Int("hammer", 4000, "requests that TestHammerProxy sends")

// TestHammerProxy sends requests of all kinds, many of which their callers abandon at some stage. No answer
// may belong to another request, and in the end nothing may be missing from the books (start checks them).
func TestHammerProxy(t *testing.T) {
	e := start(t, one(provider(t, hammerUpstream), func(c *proxy.Config, p *proxy.Provider) {
		c.InitialPoolSize, c.MaxBlocked, p.Concurrency, p.BufferSize = 24, 20, 8, 16
		c.QueueTimeout = 200 * time.Millisecond
	}))
	total := *hammerRequests
	if testing.Short() {
		total /= 10
	}
	var sent, whole, refusals, abandoned atomic.Int64
	var all sync.WaitGroup
	for worker := range 48 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 1)) //nolint:gosec // a test's
			c := client(t)
			for sent.Add(1) <= int64(total) {
				switch hammerOnce(t, e, c, random) {
				case http.StatusOK:
					whole.Add(1)
				case 0:
					abandoned.Add(1)
				default:
					refusals.Add(1)
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d answered, %d abandoned, %d refused", whole.Load(), abandoned.Load(), refusals.Load())
	if whole.Load() == 0 || abandoned.Load() == 0 || refusals.Load() == 0 {
		t.Error("the hammer missed: want some of each kind")
	}
	if got := e.sum("edge_requests_total") + e.sum("edge_client_gone_total"); got > float64(total) {
		t.Errorf("got %v requests counted, want at most %d", got, total)
	}
}

// hammerOnce sends one request and returns its status, or 0 when it was abandoned.
func hammerOnce(t *testing.T, e *edge, c *http.Client, random *rand.Rand) int {
	body := make([]byte, []int{0, 0, 10, 3000, 16 << 10, 40 << 10, 200 << 10}[random.IntN(7)])
	for i := range body {
		body[i] = 'a' + byte(random.IntN(26))
	}
	path := []string{"/up/plain", "/up/stream", "/up/slow", "/v1/model"}[random.IntN(4)]
	if path == "/v1/model" {
		body = fmt.Appendf(nil, `{"p":"%s","model":"up/m"}`, body)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if random.IntN(3) == 0 {
		defer time.AfterFunc(time.Duration(random.IntN(20_000))*time.Microsecond, cancel).Stop()
	}
	var content io.Reader = bytes.NewReader(body)
	if random.IntN(3) == 0 {
		content = io.MultiReader(content)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url+path, content)
	if err != nil {
		t.Error(err)
		return 0
	}
	request.Header.Set("Content-Type", "application/json")
	id := fmt.Sprintf("%016x", random.Uint64())
	request.Header.Set("X-Request-Id", id)
	answer, err := c.Do(request)
	if err != nil {
		if ctx.Err() == nil {
			t.Errorf("%s: %v", path, err)
		}
		return 0
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if answer.Header.Get("X-Edge-Request-Id") != id {
		t.Errorf("%s: got the answer to %q, want %q", path, answer.Header.Get("X-Edge-Request-Id"), id)
	}
	if answer.StatusCode != http.StatusOK {
		if answer.Header.Get("X-Edge-Reason") == "" {
			t.Errorf("%s: got %d %q", path, answer.StatusCode, got)
		}
		return answer.StatusCode
	}
	want := hammerAnswer(id, bytes.Replace(body, []byte("up/m"), []byte("m"), 1), path == "/up/stream" || path == "/up/slow")
	switch {
	case err == nil && string(got) != want, !strings.HasPrefix(want, string(got)):
		t.Errorf("%s: got %d bytes that are not the answer to this request", path, len(got))
	case err != nil && ctx.Err() == nil:
		t.Errorf("%s: %v", path, err)
	case err != nil:
		return 0
	}
	return answer.StatusCode
}

// hammerAnswer is what the upstream answers: who asked and the sum of what it got, often in a stream.
func hammerAnswer(id string, body []byte, stream bool) string {
	sum := sha256.Sum256(body)
	line := id + " " + hex.EncodeToString(sum[:]) + "\n"
	if stream {
		return strings.Repeat(line, 300)
	}
	return line
}

func hammerUpstream(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	answer := hammerAnswer(r.Header.Get("X-Request-Id"), body, r.URL.Path == "/stream" || r.URL.Path == "/slow")
	for len(answer) > 0 {
		n := min(len(answer), 4000)
		if _, err := io.WriteString(w, answer[:n]); err != nil {
			return
		}
		answer = answer[n:]
		if r.URL.Path == "/slow" {
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}
}
