package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// stepwise is an upstream that does one thing after the other, the last again and again.
type stepwise struct {
	mu     sync.Mutex
	script []http.HandlerFunc
	bodies []string
	times  []time.Time
}

func steps(all ...http.HandlerFunc) *stepwise { return &stepwise{script: all} }

func (s *stepwise) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	step := s.script[0]
	if len(s.script) > 1 {
		s.script = s.script[1:]
	}
	s.bodies, s.times = append(s.bodies, string(body)), append(s.times, time.Now())
	s.mu.Unlock()
	step(w, r)
}

// seen returns the contents that have arrived.
func (s *stepwise) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.bodies...)
}

// status answers with a status, its number as content, and fields.
func status(code int, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(fields); i += 2 {
			w.Header().Set(fields[i], fields[i+1])
		}
		w.WriteHeader(code)
		fmt.Fprint(w, code)
	}
}

// reset breaks the connection off once the request has come.
func reset(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
}

// never does not answer before the caller leaves.
func never(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// retrying has up to so many retries, one right after the other.
func retrying(retries int) func(*proxy.Config, *proxy.Provider) {
	return func(_ *proxy.Config, p *proxy.Provider) {
		p.MaxRetries, p.RetryBackoffInitial, p.RetryBackoffMax = retries, time.Millisecond, time.Millisecond
	}
}

func TestRetries(t *testing.T) {
	const body = `{"a":1}`
	f := func(name string, all []http.HandlerFunc, header []string, wantStatus, wantAttempts int) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			up := steps(all...)
			e := start(t, one(provider(t, up.ServeHTTP), retrying(2)))
			got, text := call(t, client(t), "POST", e.url+"/up/x", body, header...)
			if got.StatusCode != wantStatus || got.Header.Get("X-Edge-Attempts") != fmt.Sprint(wantAttempts) {
				t.Errorf("got %d %q after %s attempts, want %d after %d", got.StatusCode, text, got.Header.Get("X-Edge-Attempts"), wantStatus, wantAttempts)
			}
			if got.Header.Get("X-Edge-Reason") == "" && text != fmt.Sprint(wantStatus) {
				t.Errorf("got content %q, want that of the last answer", text)
			}
			for _, seen := range up.seen() {
				if seen != body {
					t.Errorf("the provider got %q, want %q", seen, body)
				}
			}
			if got := len(up.seen()); got != wantAttempts {
				t.Errorf("the provider got %d requests, want %d", got, wantAttempts)
			}
			if got := e.sum("edge_retries_total"); got != float64(wantAttempts-1) {
				t.Errorf("edge_retries_total: got %v, want %d", got, wantAttempts-1)
			}
		})
	}
	do := func(all ...http.HandlerFunc) []http.HandlerFunc { return all }
	for _, code := range []int{429, 502, 503, 504, 529} {
		f(fmt.Sprint(code), do(status(code), status(200)), nil, 200, 2)
	}
	for _, code := range []int{200, 400, 401, 404, 408, 500, 501} {
		f(fmt.Sprint(code, " is final"), do(status(code), status(200)), nil, code, 1)
	}
	f("the last answer is passed on", do(status(503)), nil, 503, 3)
	f("several kinds", do(status(429), status(529), status(201)), nil, 201, 3)
	f("a reset", do(reset, status(200)), nil, 502, 1)
	f("a reset, with a key", do(reset, status(200)), []string{"Idempotency-Key", "k"}, 200, 2)
	f("the provider says not to", do(status(503, "X-Should-Retry", "false"), status(200)), nil, 503, 1)
	f("a wait of a year", do(status(429, "Retry-After", "31536000"), status(200)), nil, 429, 1)
	f("a wait that is no number", do(status(429, "Retry-After", "NaN"), status(200)), nil, 200, 2)
	f("a negative wait", do(status(429, "Retry-After", "-5"), status(200)), nil, 200, 2)
	f("a wait in milliseconds comes first", do(status(429, "Retry-After", "31536000", "Retry-After-Ms", "2"), status(200)), nil, 200, 2)
	f("a date that has passed", do(status(503, "Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT"), status(200)), nil, 200, 2)
}

func TestRetryWaitsAsLongAsTheProviderSays(t *testing.T) {
	up := steps(status(429, "Retry-After-Ms", "150.5"), status(200))
	e := start(t, one(provider(t, up.ServeHTTP), retrying(1)))
	done := make(chan answer)
	go func() {
		got, _ := call(t, client(t), "GET", e.url+"/up/x", "")
		done <- got
	}()
	if !settles(5*time.Second, func() bool { return len(up.seen()) == 1 && e.sum("edge_in_flight") == 0 }) {
		t.Error("the permit was not given back before the wait")
	}
	if got := <-done; got.StatusCode != 200 {
		t.Errorf("got %d, want 200", got.StatusCode)
	}
	up.mu.Lock()
	defer up.mu.Unlock()
	if waited := up.times[1].Sub(up.times[0]); waited < 150*time.Millisecond {
		t.Errorf("the second attempt came after %v, want 150.5 ms at the least", waited)
	}
}

func TestConnectFailuresAreRetried(t *testing.T) {
	refusing, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	refusing.Close()
	e := start(t, one("http://"+refusing.Addr().String(), retrying(3)))
	got, body := call(t, client(t), "POST", e.url+"/up/x", "content")
	refused(t, got, body, http.StatusBadGateway, "upstream_error")
	if got.Header.Get("X-Edge-Attempts") != "4" {
		t.Errorf("got %s attempts, want 4", got.Header.Get("X-Edge-Attempts"))
	}
}

func TestCallerLeavesBeforeARetry(t *testing.T) {
	up := steps(status(503, "Retry-After", "20"))
	e := start(t, one(provider(t, up.ServeHTTP), retrying(3)))
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		settles(5*time.Second, func() bool { return len(up.seen()) == 1 })
		cancel()
	}()
	request, _ := http.NewRequestWithContext(ctx, "GET", e.url+"/up/x", nil)
	if _, err := client(t).Do(request); err == nil { //nolint:bodyclose // there is none
		t.Fatal("got an answer")
	}
	if !settles(2*time.Second, func() bool { return e.sum("edge_client_gone_total", `stage="queued"`) == 1 }) {
		t.Error("the caller is not counted as gone")
	}
	if n := len(up.seen()); n != 1 {
		t.Errorf("the provider got %d requests, want 1", n)
	}
}

func TestRetryBudget(t *testing.T) {
	up := steps(status(503, "Retry-After", "1"))
	e := start(t, one(provider(t, up.ServeHTTP), retrying(1)))
	var all sync.WaitGroup
	c := client(t)
	for range 10 {
		all.Go(func() { call(t, c, "GET", e.url+"/up/x", "") })
	}
	all.Wait()
	if got := e.sum("edge_retries_total"); got < 1 || got > 3 {
		t.Errorf("got %v retries of 10 requests at once, want 3 at most", got)
	}
}

// pair is a configuration with a provider called up whose fallback is one called other.
func pair(up, other string, change ...func(*proxy.Config, *proxy.Provider)) proxy.Config {
	c := one(up, append(change, func(_ *proxy.Config, p *proxy.Provider) { p.Fallbacks = []string{"other"} })...)
	p := proxy.DefaultProvider()
	p.BaseURL, p.Keys = other, []proxy.Key{{Value: "key-of-other", Weight: 1}}
	c.Providers["other"] = p
	return c
}

func TestFallbacks(t *testing.T) {
	f := func(name string, all []http.HandlerFunc, wantStatus, wantAttempts int, change ...func(*proxy.Config, *proxy.Provider)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			var key string
			other := steps(func(w http.ResponseWriter, r *http.Request) {
				key = r.Header.Get("Authorization")
				status(200)(w, r)
			})
			e := start(t, pair(provider(t, steps(all...).ServeHTTP), provider(t, other.ServeHTTP), change...))
			got, text := call(t, client(t), "POST", e.url+"/up/x", "content", "Authorization", "Bearer own")
			if got.StatusCode != wantStatus || got.Header.Get("X-Edge-Attempts") != fmt.Sprint(wantAttempts) {
				t.Errorf("got %d %q after %s attempts, want %d after %d", got.StatusCode, text, got.Header.Get("X-Edge-Attempts"), wantStatus, wantAttempts)
			}
			if seen := other.seen(); wantStatus == 200 && wantAttempts > 1 && (len(seen) != 1 || seen[0] != "content" || key != "Bearer key-of-other") {
				t.Errorf("the fallback got %q with %q", seen, key)
			}
			if got, want := e.sum("edge_fallbacks_total", `provider="other"`), float64(len(other.seen())); got != want {
				t.Errorf("edge_fallbacks_total: got %v, want %v", got, want)
			}
		})
	}
	do := func(all ...http.HandlerFunc) []http.HandlerFunc { return all }
	f("none is needed", do(status(201)), 201, 1)
	f("429", do(status(429, "Retry-After", "31536000")), 200, 2)
	f("503", do(status(503)), 200, 2)
	f("after the retries", do(status(503)), 200, 3, retrying(1))
	f("a reset", do(reset), 200, 2)
	f("500 is the provider's answer", do(status(500)), 500, 1)
	f("no first byte in time", do(never), 200, 2, func(_ *proxy.Config, p *proxy.Provider) { p.Timeout = 50 * time.Millisecond })
	f("the provider says not to retry", do(status(503, "X-Should-Retry", "false")), 200, 2, retrying(3))
}

// occupied takes the one permit of a provider until the test ends.
func occupied(t *testing.T, e *edge, name string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, "GET", e.url+"/"+name+"/occupied", nil)
	if err != nil {
		t.Fatal(err)
	}
	c := client(t)
	go func() {
		if got, err := c.Do(request); err == nil {
			got.Body.Close()
		}
	}()
	if !settles(5*time.Second, func() bool { return e.sum("edge_in_flight", `provider="`+name+`"`) == 1 }) {
		t.Fatal("the permit is not taken")
	}
}

func TestFallbackWhenTheProviderAdmitsNobody(t *testing.T) {
	narrow := func(_ *proxy.Config, p *proxy.Provider) { p.Concurrency, p.BufferSize = 1, 0 }
	f := func(name string, change func(*proxy.Config, *proxy.Provider)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			other := steps(status(200))
			e := start(t, pair(provider(t, never), provider(t, other.ServeHTTP), narrow, change))
			occupied(t, e, "up")
			if got, text := call(t, client(t), "POST", e.url+"/up/x", "content"); got.StatusCode != 200 {
				t.Errorf("got %d %s, want 200", got.StatusCode, text)
			}
		})
	}
	f("queue_full", func(c *proxy.Config, _ *proxy.Provider) { c.DropExcessRequests = true })
	f("queue_timeout, for a place", func(c *proxy.Config, _ *proxy.Provider) { c.QueueTimeout = time.Second })
	f("queue_timeout, for a permit", func(c *proxy.Config, p *proxy.Provider) { c.QueueTimeout, p.BufferSize = time.Second, 5 })
}

// admitsNobody is a configuration whose fallback has its one permit taken.
func admitsNobody(t *testing.T, up http.HandlerFunc) *edge {
	t.Helper()
	c := pair(provider(t, up), provider(t, never))
	other := c.Providers["other"]
	other.Concurrency, other.BufferSize = 1, 0
	c.Providers["other"], c.DropExcessRequests = other, true
	e := start(t, c)
	occupied(t, e, "other")
	return e
}

func TestLastAnswerIsPassedOnWhenNobodyElseAdmits(t *testing.T) {
	e := admitsNobody(t, status(429, "Retry-After", "31536000", "X-Own", "yes", "Content-Type", "text/x-own"))
	got, text := call(t, client(t), "POST", e.url+"/up/x", "content")
	if got.StatusCode != 429 || text != "429" || got.Header.Get("X-Own") != "yes" || got.Header.Get("Retry-After") != "31536000" || got.Header.Get("Content-Type") != "text/x-own" {
		t.Errorf("got %d %q %v, want the provider's 429", got.StatusCode, text, got.Header)
	}
	if got.Header.Get("X-Edge-Reason") != "" || got.Header.Get("X-Edge-Attempts") != "2" {
		t.Errorf("got reason %q after %s attempts, want none after 2", got.Header.Get("X-Edge-Reason"), got.Header.Get("X-Edge-Attempts"))
	}
}

// TestKeptAnswerThatIsTooLongIsCutOff: what was not kept must not look like the end.
func TestKeptAnswerThatIsTooLongIsCutOff(t *testing.T) {
	e := admitsNobody(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(503)
		fmt.Fprint(w, strings.Repeat("x", 200<<10))
	})
	got, err := client(t).Post(e.url+"/up/x", "text/plain", strings.NewReader("content")) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if got.StatusCode != 503 || err == nil || len(text) != 64<<10 {
		t.Errorf("got %d, %d bytes and %v, want 503 that breaks off after 64 KiB", got.StatusCode, len(text), err)
	}
}

func TestBodiesThatDoNotFitAreSentOnce(t *testing.T) {
	up := steps(status(503))
	e := start(t, one(provider(t, up.ServeHTTP), retrying(2), func(c *proxy.Config, _ *proxy.Provider) { c.MaxBuffered = 64 << 10 }))
	body := strings.Repeat("0123456789abcdef", 32<<10)
	got, _ := call(t, client(t), "POST", e.url+"/up/x", body)
	if seen := up.seen(); got.StatusCode != 503 || len(seen) != 1 || seen[0] != body {
		t.Errorf("got %d, and the provider %d requests, want 503 and the whole content once", got.StatusCode, len(seen))
	}
	if e.sum("edge_retries_total") != 0 {
		t.Error("it was sent again")
	}
}

func TestTotalTimeout(t *testing.T) {
	trickle := func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := io.WriteString(w, "data: x\n\n"); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	e := start(t, one(provider(t, trickle), func(_ *proxy.Config, p *proxy.Provider) { p.TotalTimeout = 200 * time.Millisecond }))
	got, err := client(t).Get(e.url + "/up/x") //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if _, err := io.Copy(io.Discard, got.Body); err == nil {
		t.Error("the stream ended well, want it to break off")
	}
	if !settles(2*time.Second, func() bool { return e.sum("edge_rejected_total", `reason="upstream_timeout"`) == 1 }) {
		t.Error("no upstream_timeout is counted")
	}
	e = start(t, one(provider(t, never), func(_ *proxy.Config, p *proxy.Provider) { p.TotalTimeout = 100 * time.Millisecond }))
	answer, body := call(t, client(t), "GET", e.url+"/up/x", "")
	refused(t, answer, body, http.StatusGatewayTimeout, "upstream_timeout")
}

func TestBreaker(t *testing.T) {
	var mu sync.Mutex
	ill, arrived := true, 0
	up := func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		arrived++
		if ill {
			w.WriteHeader(500)
		}
	}
	e := start(t, one(provider(t, up)))
	c := client(t)
	for range 5 {
		if got, _ := call(t, c, "GET", e.url+"/up/x", ""); got.StatusCode != 500 {
			t.Fatalf("got %d, want 500", got.StatusCode)
		}
	}
	got, body := call(t, c, "GET", e.url+"/up/x", "")
	refused(t, got, body, http.StatusServiceUnavailable, "provider_unavailable")
	if got.Header.Get("Retry-After") != "1" || arrived != 5 {
		t.Errorf("got Retry-After %q and %d requests, want 1 and 5", got.Header.Get("Retry-After"), arrived)
	}
	mu.Lock()
	ill = false
	mu.Unlock()
	if !settles(5*time.Second, func() bool { got, _ := call(t, c, "GET", e.url+"/up/x", ""); return got.StatusCode == 200 }) {
		t.Error("the provider is not asked again")
	}
	for range 10 {
		if got, _ := call(t, c, "GET", e.url+"/up/x", ""); got.StatusCode != 200 {
			t.Errorf("got %d, want 200", got.StatusCode)
		}
	}
}

func TestReplicas(t *testing.T) {
	serve := func(code int) (*stepwise, string) {
		s := steps(status(code))
		server := httptest.NewServer(s)
		t.Cleanup(server.Close)
		return s, server.URL
	}
	first, firstURL := serve(200)
	second, secondURL := serve(200)
	broken, brokenURL := serve(503)
	e := start(t, one(firstURL, retrying(2), func(_ *proxy.Config, p *proxy.Provider) { p.BaseURLs = []string{secondURL, brokenURL} }))
	c := client(t)
	for range 100 {
		if got, _ := call(t, c, "GET", e.url+"/up/x", ""); got.StatusCode != 200 {
			t.Errorf("got %d, want 200", got.StatusCode)
		}
	}
	if len(first.seen()) < 20 || len(second.seen()) < 20 {
		t.Errorf("got %d and %d of 100 requests, want a fair share each", len(first.seen()), len(second.seen()))
	}
	if n := len(broken.seen()); n < 1 || n > 10 {
		t.Errorf("the broken one got %d of 100 requests, want a few", n)
	}
}
