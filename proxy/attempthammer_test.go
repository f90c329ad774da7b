package proxy_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// moody is a provider that answers at random: with the sum of what it got, with a status after which a request may come
// again, with a reset, or not at all. Before that it checks what plugins have made of the request.
type moody struct {
	t     *testing.T
	marks []string // of its plugins, and of the route's before them
}

func (m *moody) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	id := r.Header.Get("X-Request-Id")
	if got := r.Header["X-Mark"]; !slices.Equal(got, m.marks) {
		m.t.Errorf("%s: the plugins left the marks %v, want %v", id, got, m.marks)
	}
	status := 200
	switch n := rand.IntN(64); {
	case n < 8:
		status = 429
	case n < 14:
		status = 503
	case n < 18:
		reset(w, r)
		return
	case n < 19:
		never(w, r)
		return
	}
	w.WriteHeader(status)
	fmt.Fprint(w, moodyAnswer(id, string(content)))
}

func moodyAnswer(id, content string) string {
	sum := sha256.Sum256([]byte(content))
	return strings.Repeat(id+" "+hex.EncodeToString(sum[:])+"\n", 100)
}

// moodyConfig is a configuration with two moody providers and plugins of both ABIs around them and before them.
func moodyConfig(t *testing.T) proxy.Config {
	t.Helper()
	mark := func(name, more string, change ...func(*proxy.Plugin)) proxy.Plugin {
		return script(t, name, "q: add 0 x-mark "+name+"\nq: upper 0\nq: write 0 ("+name+")\n"+more, append(change, instances(3))...)
	}
	c := pair(
		provider(t, (&moody{t, []string{"r", "p"}}).ServeHTTP), provider(t, (&moody{t, []string{"r", "o"}}).ServeHTTP),
		before(mark("r", "", requestOnly), filter(t, "rf", "observe")), around(mark("p", "s: add 1 x-back p"), filter(t, "pf", "whole")),
		func(c *proxy.Config, p *proxy.Provider) {
			c.InitialPoolSize, c.MaxBlocked, c.QueueTimeout = 24, 20, 500*time.Millisecond
			p.MaxRetries, p.RetryBackoffInitial, p.RetryBackoffMax = 2, time.Millisecond, 5*time.Millisecond
			p.Timeout, p.Concurrency, p.BufferSize = 300*time.Millisecond, 8, 16
		})
	other := c.Providers["other"]
	other.Concurrency, other.BufferSize, other.Timeout, other.MaxRetries = 4, 8, 300*time.Millisecond, 1
	other.RetryBackoffInitial, other.RetryBackoffMax = time.Millisecond, 5*time.Millisecond
	c.Providers["other"] = other
	return behind(c, filter(t, "of", "upper"), script(t, "o", "q: add 0 x-mark o\nq: write 0 mine", instances(3)))
}

// moodyWant are the answers that a request with this content may get, of the one provider and of the other.
func moodyWant(id, content string) [2]string {
	left := strings.ToUpper(content) + "(R)(p)"
	return [2]string{"[" + moodyAnswer(id, "["+left+"]") + "]", strings.ToUpper(moodyAnswer(id, "mine"))}
}

// TestHammerAttempts sends requests through plugins of both ABIs to providers that fail in all ways, while callers leave and
// the configuration is reloaded. No answer is another's; each attempt starts from what the plugins of the route have left,
// which the providers check; and in the end nothing is missing from the books (start checks them).
func TestHammerAttempts(t *testing.T) {
	c := moodyConfig(t)
	e := start(t, c)
	began := time.Now()
	total := *hammerRequests / 16
	if testing.Short() {
		total /= 2
	}
	ended := make(chan struct{})
	var reloads sync.WaitGroup
	reloads.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-ended:
				return
			case <-time.After(20 * time.Millisecond):
			}
			next := c
			next.DropExcessRequests = i%2 == 0
			if err := e.Reload(next); err != nil {
				t.Error(err)
			}
		}
	})
	var sent, whole, again, failed, left atomic.Int64
	var all sync.WaitGroup
	for worker := range 24 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 2)) //nolint:gosec // a test's
			c := client(t)
			for sent.Add(1) <= int64(total) {
				switch status, attempts := attemptOnce(t, e, c, random); {
				case status == 0:
					left.Add(1)
				case status != 200:
					failed.Add(1)
				case attempts != "1":
					again.Add(1)
				default:
					whole.Add(1)
				}
			}
		})
	}
	all.Wait()
	close(ended)
	reloads.Wait()
	t.Logf("%v: %d answered at once, %d after more attempts, %d not, %d callers left; %v retries, %v fallbacks",
		time.Since(began), whole.Load(), again.Load(), failed.Load(), left.Load(), e.sum("edge_retries_total"), e.sum("edge_fallbacks_total"))
	if whole.Load() == 0 || again.Load() == 0 || failed.Load() == 0 || left.Load() == 0 {
		t.Error("the hammer missed: want some of each kind")
	}
	if !settles(5*time.Second, func() bool { return e.sum("edge_plugin_streams") == 0 }) {
		t.Errorf("%v streams of plugins are left", e.sum("edge_plugin_streams"))
	}
}

// attemptOnce sends one request and returns the answer's status, or 0 when it was abandoned, and how many attempts it took.
func attemptOnce(t *testing.T, e *edge, c *http.Client, random *rand.Rand) (status int, attempts string) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if random.IntN(5) == 0 {
		defer time.AfterFunc(time.Duration(random.IntN(40_000))*time.Microsecond, cancel).Stop()
	}
	content := strings.Repeat(fmt.Sprintf("%x,", random.Uint64()), []int{1, 10, 1000, 4000}[random.IntN(4)])
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url+"/up/x", strings.NewReader(content))
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	id := fmt.Sprintf("%016X", random.Uint64())
	request.Header.Set("X-Request-Id", id)
	if random.IntN(2) == 0 {
		request.Header.Set("Idempotency-Key", id)
	}
	answer, err := c.Do(request)
	if err != nil {
		if ctx.Err() == nil {
			t.Errorf("%s: %v", id, err)
		}
		return 0, ""
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		if ctx.Err() == nil {
			t.Errorf("%s: %d breaks off: %v", id, answer.StatusCode, err)
		}
		return 0, ""
	}
	want, got := moodyWant(id, content), string(text)
	switch {
	case answer.Header.Get("X-Edge-Request-Id") != id:
		t.Errorf("%s: got the answer to %q", id, answer.Header.Get("X-Edge-Request-Id"))
	case answer.StatusCode == 200 && got != want[0] && got != want[1]:
		t.Errorf("%s: got %d bytes that are not the answer to %d: %.120q", id, len(got), len(content), got)
	case answer.StatusCode != 200 && answer.Header.Get("X-Edge-Reason") == "" && strings.Count(got, id) != 100:
		t.Errorf("%s: got %d %.120q", id, answer.StatusCode, got)
	case answer.Header.Get("X-Edge-Reason") == "internal" || answer.Header.Get("X-Edge-Reason") == "plugin_error":
		t.Errorf("%s: got %d %s", id, answer.StatusCode, got)
	}
	return answer.StatusCode, answer.Header.Get("X-Edge-Attempts")
}
