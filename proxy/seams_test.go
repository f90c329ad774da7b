package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// A caller's models are looked at for what a fallback is really asked: the request's own model where the fallback names
// none, also after a fallback that names another.
func TestFallbackIsJudgedByTheModelThatItIsAsked(t *testing.T) {
	f := func(models []string, path string, fallbacks []string, wantStatus int) {
		t.Helper()
		last := steps(status(200))
		c := one(provider(t, status(503)))
		up := c.Providers["up"]
		up.Fallbacks = fallbacks
		second, third := c.Providers["up"], c.Providers["up"]
		second.BaseURL, third.BaseURL = provider(t, status(503)), provider(t, last.ServeHTTP)
		c.Providers = map[string]proxy.Provider{"up": up, "second": second, "third": third}
		c.Auth.Tokens = []proxy.Token{{Value: "token", Models: models}}
		e := start(t, c)
		got, text := call(t, client(t), "POST", e.url+path, `{"model":"dear"}`, "Content-Type", "application/json", "X-Api-Key", "token")
		if got.StatusCode != wantStatus {
			t.Errorf("%v, %s, %v: got %d %s, want %d", models, path, fallbacks, got.StatusCode, text, wantStatus)
		}
		if seen := len(last.seen()); seen != 0 && wantStatus == 503 {
			t.Errorf("%v, %s, %v: the last fallback was asked", models, path, fallbacks)
		}
	}
	f([]string{"up/dear", "cheap"}, "/up/x", []string{"second/cheap", "third"}, 503)
	f([]string{"dear"}, "/up/x", []string{"second", "third"}, 200)
	f([]string{"dear"}, "/up/x", []string{"third"}, 200)
	f([]string{"dear", "cheap"}, "/up/x", []string{"second/cheap", "third"}, 200)
}

// A retry that nobody admits in time ends with the answer that there is.
func TestLastAnswerIsPassedOnWhenItsRetryIsNotAdmittedInTime(t *testing.T) {
	for _, buffer := range []int{1, 0} { // the wait is one for a permit, or for a place
		var once atomic.Bool
		e := start(t, one(provider(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if strings.HasSuffix(r.URL.Path, "/occupied") || !once.CompareAndSwap(false, true) {
				<-r.Context().Done()
				return
			}
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(503)
			fmt.Fprint(w, "busy")
		}), func(c *proxy.Config, p *proxy.Provider) {
			c.QueueTimeout, p.MaxRetries, p.Concurrency, p.BufferSize = 300*time.Millisecond, 1, 1, buffer
		}))
		done := make(chan struct{})
		go func() {
			defer close(done)
			got, text := call(t, client(t), "POST", e.url+"/up/x", "content")
			if got.StatusCode != 503 || text != "busy" || got.Header.Get("X-Edge-Reason") != "" {
				t.Errorf("got %d %q, reason %q, want the provider's own 503", got.StatusCode, text, got.Header.Get("X-Edge-Reason"))
			}
		}()
		if !settles(5*time.Second, func() bool { return once.Load() && e.sum("edge_in_flight") == 0 }) {
			t.Fatal("the first attempt does not end")
		}
		occupied(t, e, "up")
		<-done
	}
}

// A retry is over when its answer begins: streams that came of one do not use up the budget.
func TestRetriedStreamsLeaveTheBudget(t *testing.T) {
	var mu sync.Mutex
	refusedOnce := map[string]bool{}
	e := start(t, one(provider(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		again := refusedOnce[r.URL.Path]
		refusedOnce[r.URL.Path] = true
		mu.Unlock()
		if !again {
			w.WriteHeader(503)
			return
		}
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}), retrying(1)))
	c := client(t)
	for n := range 5 {
		got, err := c.Get(e.url + "/up/" + fmt.Sprint(n)) //nolint:noctx // loopback
		if err != nil {
			t.Fatal(err)
		}
		defer got.Body.Close()
		if got.StatusCode != 200 {
			t.Errorf("request %d: got %d, want 200 by a retry", n, got.StatusCode)
		}
	}
}

// The log says of an answer that was kept whose it is.
func TestLogTellsOfTheKeptAnswer(t *testing.T) {
	lines := new(logLines)
	c := one(provider(t, status(503)), func(c *proxy.Config, p *proxy.Provider) {
		c.DropExcessRequests, c.AccessLog, c.AccessFormat, p.Fallbacks = true, lines, "json", []string{"other/cheap"}
	})
	other := c.Providers["up"]
	other.BaseURL, other.Fallbacks, other.Concurrency, other.BufferSize = provider(t, steps(never).ServeHTTP), nil, 1, 0
	c.Providers["other"] = other
	e := start(t, c)
	occupied(t, e, "other")
	call(t, client(t), "POST", e.url+"/v1/x", `{"model":"up/dear"}`, "Content-Type", "application/json")
	if !settles(2*time.Second, func() bool { return strings.Contains(lines.String(), `"provider":"up","model":"dear","status":503`) }) {
		t.Errorf("the log says %s", lines.String())
	}
}

// Content is kept until the last attempt, and not until the end of its answer.
func TestContentIsNotKeptWhileTheAnswerPasses(t *testing.T) {
	let := make(chan struct{})
	defer close(let)
	e := start(t, pair(provider(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		<-let
	}), provider(t, steps(never).ServeHTTP), retrying(2)))
	got, err := client(t).Post(e.url+"/up/x", "text/plain", strings.NewReader(strings.Repeat("x", 300<<10))) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if !settles(2*time.Second, func() bool { return e.sum("edge_buffered_bytes") == 0 }) {
		t.Errorf("%v bytes are held while the answer passes", e.sum("edge_buffered_bytes"))
	}
}

// What could not be sent has spent nothing of a quota.
func TestRequestThatWasNotSentSpendsNoQuota(t *testing.T) {
	server := httptest.NewServer(status(200, "X-Ratelimit-Limit-Requests", "100", "X-Ratelimit-Remaining-Requests", "50", "X-Ratelimit-Reset-Requests", "1h"))
	t.Cleanup(server.Close)
	e := start(t, one(server.URL))
	c := client(t)
	for range 2 {
		call(t, c, "POST", e.url+"/up/x", `{"model":"m"}`)
	}
	remaining := func() float64 { return e.sum("edge_quota_remaining", "requests") }
	before := remaining()
	server.CloseClientConnections()
	server.Close()
	for range 4 {
		if got, _ := call(t, c, "POST", e.url+"/up/x", `{"model":"m"}`); got.StatusCode != 502 {
			t.Fatalf("got %d, want 502", got.StatusCode)
		}
	}
	if after := remaining(); after < before {
		t.Errorf("%v of the quota are left after failed connections, want the %v of before", after, before)
	}
}

// A refusal whose content does not come is no reason to wait for it, when another provider may be asked.
func TestRefusalWithoutItsContentGoesToTheFallback(t *testing.T) {
	e := start(t, pair(provider(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "100")
		w.WriteHeader(429)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}), provider(t, status(200)), func(_ *proxy.Config, p *proxy.Provider) { p.StreamIdleTimeout = 3 * time.Second }))
	if got, text := call(t, client(t), "POST", e.url+"/up/x", "content"); got.StatusCode != 200 {
		t.Errorf("got %d %s, want the fallback's 200", got.StatusCode, text)
	}
}

// When the time for all attempts is over, nobody else is asked.
func TestNoFallbackIsAskedAfterTheTotalTimeout(t *testing.T) {
	for _, n := range []int{1, 2} {
		other := steps(status(200))
		c := pair(provider(t, steps(never).ServeHTTP), provider(t, other.ServeHTTP), func(_ *proxy.Config, p *proxy.Provider) { p.TotalTimeout = 100 * time.Millisecond })
		if n == 2 {
			p := c.Providers["up"]
			p.Fallbacks = []string{"other", "other/m"}
			c.Providers["up"] = p
		}
		e := start(t, c)
		got, text := call(t, client(t), "POST", e.url+"/up/x", `{"model":"x"}`)
		refused(t, got, text, 504, "upstream_timeout")
		if seen := other.seen(); len(seen) != 0 || got.Header.Get("X-Edge-Attempts") != "1" {
			t.Errorf("%d fallbacks: %d requests came after the time, and X-Edge-Attempts is %s", n, len(seen), got.Header.Get("X-Edge-Attempts"))
		}
	}
}

// Who still waits for its turn when the total timeout passes is told so.
func TestTotalTimeoutBoundsTheQueue(t *testing.T) {
	for _, retries := range []int{0, 1} {
		for _, buffer := range []int{0, 1} {
			c := one(provider(t, steps(never).ServeHTTP), func(_ *proxy.Config, p *proxy.Provider) {
				p.MaxRetries, p.Concurrency, p.BufferSize = retries, 1, buffer
			})
			e := start(t, c)
			occupied(t, e, "up") // and that has no end
			up := c.Providers["up"]
			up.TotalTimeout = 200 * time.Millisecond
			c.Providers = map[string]proxy.Provider{"up": up}
			if err := e.Reload(c); err != nil {
				t.Fatal(err)
			}
			got, text := call(t, client(t), "POST", e.url+"/up/x", "content")
			refused(t, got, text, 504, "upstream_timeout")
		}
	}
}

// A slow upload ends with the total timeout, as everything else.
func TestTotalTimeoutBoundsAnUpload(t *testing.T) {
	for _, retries := range []int{0, 1} {
		for _, path := range []string{"/up/x", "/v1/x"} {
			e := start(t, one(provider(t, mirror), func(_ *proxy.Config, p *proxy.Provider) {
				p.TotalTimeout, p.MaxRetries = 200*time.Millisecond, retries
			}))
			conn, reader := raw(t, e.url, "POST "+path+" HTTP/1.1\r\nHost: edge\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n{")
			_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			got, text := next(t, reader)
			refused(t, got, text, 504, "upstream_timeout")
		}
	}
}

// The queue timeout is one for all providers of a request, but where there is room nobody waits.
func TestQueueTimeoutOfSeveralProvidersIsOne(t *testing.T) {
	last := steps(status(200))
	c := one(provider(t, steps(never).ServeHTTP), func(c *proxy.Config, p *proxy.Provider) {
		c.QueueTimeout, p.Concurrency, p.BufferSize, p.Fallbacks = 300*time.Millisecond, 1, 3, []string{"second", "third", "fourth"}
	})
	second, third, fourth := c.Providers["up"], c.Providers["up"], c.Providers["up"]
	second.Fallbacks, third.Fallbacks, fourth.Fallbacks = nil, nil, nil
	second.BufferSize = 0
	third.BaseURL = provider(t, last.ServeHTTP)
	c.Providers["second"], c.Providers["third"], c.Providers["fourth"] = second, third, fourth
	e := start(t, c)
	occupied(t, e, "up")
	occupied(t, e, "second")
	got, text := call(t, client(t), "POST", e.url+"/up/x", "content")
	if got.StatusCode != 200 || got.Header.Get("X-Edge-Attempts") != "3" || len(last.seen()) != 1 {
		t.Errorf("got %d %s after %s attempts, want 200 after 3", got.StatusCode, text, got.Header.Get("X-Edge-Attempts"))
	}
}

// A quota that is spent for longer than there is time sends a request to the fallback at once, also one that comes with
// a retry.
func TestSpentQuotaGoesToTheFallback(t *testing.T) {
	up := steps(status(429, "Retry-After", "3600"))
	e := start(t, pair(provider(t, up.ServeHTTP), provider(t, status(200)), retrying(3)))
	c := client(t)
	for i, attempts := range []string{"2", "2", "2"} {
		got, text := call(t, c, "POST", e.url+"/up/x", `{"model":"m"}`)
		if got.StatusCode != 200 || got.Header.Get("X-Edge-Attempts") != attempts {
			t.Errorf("request %d: got %d %s after %s attempts, want 200 after %s", i, got.StatusCode, text, got.Header.Get("X-Edge-Attempts"), attempts)
		}
	}
	if n := len(up.seen()); n != 1 {
		t.Errorf("the spent provider got %d requests, want 1", n)
	}
}

// A retry after 429 takes the key that can serve, at once.
func TestRetryAfter429TakesTheOtherKey(t *testing.T) {
	var keys []string
	e := start(t, one(provider(t, func(w http.ResponseWriter, r *http.Request) {
		keys = append(keys, r.Header.Get("Authorization"))
		if len(keys) == 1 {
			status(429, "Retry-After", "3600")(w, r)
		}
	}), keyed, retrying(1)))
	got, _ := call(t, client(t), "POST", e.url+"/up/x", `{"model":"m"}`)
	if got.StatusCode != 200 || len(keys) != 2 || keys[0] == keys[1] {
		t.Errorf("got %d with the keys %q, want 200 with two", got.StatusCode, keys)
	}
}

// perProviderKeys is a KeySource that panics when it is asked for a provider called trap.
type perProviderKeys struct{}

func (perProviderKeys) Key(provider, _ string) (proxy.Secret, error) {
	switch provider {
	case "trap":
		panic("a bug of the key source")
	case "empty":
		return "", errors.New("no key")
	}
	return proxy.Secret("key-of-" + provider), nil
}

func TestKeySourceGivesEachProviderItsOwnKey(t *testing.T) {
	var keys [2]string
	c := one(provider(t, func(w http.ResponseWriter, r *http.Request) {
		keys[0] = r.Header.Get("Authorization")
		w.WriteHeader(503)
	}), func(_ *proxy.Config, p *proxy.Provider) { p.Fallbacks = []string{"empty", "other"} })
	c.Keys = perProviderKeys{}
	none, other := c.Providers["up"], c.Providers["up"]
	none.Fallbacks, other.Fallbacks = nil, nil
	other.BaseURL = provider(t, func(_ http.ResponseWriter, r *http.Request) { keys[1] = r.Header.Get("Authorization") })
	c.Providers["empty"], c.Providers["other"] = none, other
	e := start(t, c)
	got, text := call(t, client(t), "POST", e.url+"/up/x", "content", "Authorization", "Bearer own")
	if got.StatusCode != 200 || keys != [2]string{"Bearer key-of-up", "Bearer key-of-other"} || got.Header.Get("X-Edge-Attempts") != "3" {
		t.Errorf("got %d %s with %q", got.StatusCode, text, keys)
	}
}

// The name that metrics have for requests without a provider is no provider's.
func TestProviderIsNotCalledNone(t *testing.T) {
	c := one("http://127.0.0.1:1")
	c.Providers = map[string]proxy.Provider{"none": c.Providers["up"]}
	if _, err := proxy.New(c); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("got %v, want a fault", err)
	}
}

// A bug ends one request, and gives back what its attempts held: start's end looks at the books.
func TestBugInAnAttemptLeavesNothing(t *testing.T) {
	c := one(provider(t, status(503)), func(_ *proxy.Config, p *proxy.Provider) { p.Fallbacks = []string{"trap"} })
	c.Keys = perProviderKeys{}
	trap := c.Providers["up"]
	trap.Fallbacks = nil
	c.Providers["trap"] = trap
	e := start(t, c)
	got, text := call(t, client(t), "POST", e.url+"/up/x", "content")
	refused(t, got, text, 500, "internal")
	if !settles(2*time.Second, func() bool { return e.sum("edge_buffered_bytes") == 0 && e.sum("edge_arena_slots_in_use") == 0 }) {
		t.Error("something is held after it")
	}
}

// The total timeout ends an upgraded connection, too.
func TestTotalTimeoutEndsAnUpgradedConnection(t *testing.T) {
	e := start(t, pair(upgrading(t), provider(t, steps(never).ServeHTTP), retrying(1), func(_ *proxy.Config, p *proxy.Provider) { p.TotalTimeout = 300 * time.Millisecond }))
	conn, reader := raw(t, e.url, "GET /up/x HTTP/1.1\r\nHost: edge\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	got, err := http.ReadResponse(reader, nil)
	if err != nil || got.StatusCode != 101 || got.Header.Get("X-Edge-Attempts") != "2" {
		t.Fatalf("got %+v and %v, want 101 after 2 attempts", got, err)
	}
	defer got.Body.Close()
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprint(conn, "ping\n")
	if line, err := reader.ReadString('\n'); line != "ping\n" {
		t.Fatalf("got %q and %v, want ping", line, err)
	}
	if _, err := reader.ReadByte(); err == nil || errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		t.Errorf("got %v, want the end of the connection", err)
	}
}

func isTimeout(err error) bool {
	var failed net.Error
	return errors.As(err, &failed) && failed.Timeout()
}

// upgrading refuses the first request and upgrades the others to an echo.
func upgrading(t *testing.T) (url string) {
	t.Helper()
	var n atomic.Int64
	return speaking(t, func(conn net.Conn) {
		reader := bufio.NewReader(conn)
		for {
			request, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			if n.Add(1) == 1 {
				fmt.Fprint(conn, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", request.Header.Get("Upgrade"))
			_, _ = io.Copy(conn, reader)
			return
		}
	})
}

// A route's filter through which the content goes is no reason not to repeat a request.
func TestRequestThroughARoutesFilterIsRepeated(t *testing.T) {
	for _, mode := range []string{"observe", "upper"} {
		for _, size := range []int{10, 60 << 10} {
			up := steps(status(503), status(200))
			e := start(t, one(provider(t, up.ServeHTTP), before(filter(t, "f", mode, requestOnly)), retrying(1)))
			content := strings.Repeat("X", size)
			got, text := call(t, client(t), "POST", e.url+"/up/x", content)
			seen := up.seen()
			if got.StatusCode != 200 || len(seen) != 2 || seen[0] != seen[1] || len(seen[0]) != size {
				t.Errorf("%s, %d bytes: got %d %s after %d requests, want 200 after two alike", mode, size, got.StatusCode, text, len(seen))
			}
		}
	}
}
