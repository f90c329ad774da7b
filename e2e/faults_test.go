package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// What each fault is met with.
const (
	faultOrders  = 1000
	faultCallers = 64
	faultRelays  = 6 // base URLs of the provider that has the fault
)

// fault is what is wrong with a provider: one way for each of its base URLs, with the address behind it and a source of
// what is random in it.
type fault struct {
	name    string
	toxics  func(random *rand.Rand) []toxic
	behind  func(t *testing.T, f *faultRun) string // nil: the provider itself
	during  func(f *faultRun, over <-chan struct{})
	hardly  bool // requests are slow, and no more than that
	timeout time.Duration
}

// faultKinds are the twelve.
var faultKinds = []fault{
	{name: "latency", hardly: true, toxics: func(*rand.Rand) []toxic {
		return []toxic{bad("latency", `"latency":15,"jitter":15`), bad("latency", `"latency":15,"jitter":15`).requests()}
	}},
	{name: "bandwidth", hardly: true, toxics: func(*rand.Rand) []toxic {
		return []toxic{bad("bandwidth", `"rate":400`), bad("bandwidth", `"rate":1000`).requests()}
	}},
	{name: "slow close", hardly: true, toxics: func(*rand.Rand) []toxic {
		return []toxic{bad("slow_close", `"delay":100`), bad("slow_close", `"delay":100`).requests()}
	}},
	{name: "timeout", timeout: 300 * time.Millisecond, toxics: func(random *rand.Rand) []toxic {
		return []toxic{bad("timeout", `"timeout":%d`, random.IntN(2)*(100+random.IntN(400)))}
	}},
	{name: "reset peer", toxics: func(random *rand.Rand) []toxic {
		return []toxic{bad("reset_peer", `"timeout":%d`, random.IntN(40))}
	}},
	{name: "limit data", toxics: func(random *rand.Rand) []toxic {
		most := []int{1, 100, 1000, 10_000, 100_000}[random.IntN(5)]
		return []toxic{bad("limit_data", `"bytes":%d`, random.IntN(most))}
	}},
	{name: "slicer", hardly: true, toxics: func(random *rand.Rand) []toxic {
		size := 2 + random.IntN(1000)
		cut := bad("slicer", `"average_size":%d,"size_variation":%d,"delay":20`, size, size/2)
		return []toxic{cut, cut.requests()}
	}},
	{name: "down", during: flap},
	{name: "mixed", timeout: 400 * time.Millisecond, toxics: func(random *rand.Rand) []toxic {
		all := []toxic{
			bad("latency", `"latency":10,"jitter":10`), bad("slicer", `"average_size":500,"size_variation":200,"delay":10`),
			bad("limit_data", `"bytes":%d`, random.IntN(20_000)), bad("reset_peer", `"timeout":%d`, random.IntN(50)),
			bad("timeout", `"timeout":%d`, random.IntN(300)), bad("limit_data", `"bytes":%d`, random.IntN(50_000)).requests(),
		}
		for i := range all {
			all[i].share = .3
		}
		return all
	}},
	{name: "cut requests", toxics: func(random *rand.Rand) []toxic {
		if random.IntN(2) == 0 {
			return []toxic{bad("reset_peer", `"timeout":%d`, random.IntN(20)).requests()}
		}
		return []toxic{bad("limit_data", `"bytes":%d`, random.IntN([]int{200, 120_000}[random.IntN(2)])).requests()}
	}},
	{name: "half-open", timeout: 300 * time.Millisecond, behind: func(t *testing.T, f *faultRun) string { return halfOpen(t, f.address) }},
	{name: "malformed answers", behind: func(t *testing.T, f *faultRun) string { return garble(t, &f.up.sightings) }},
}

// TestFaults meets each fault with many requests at once. Edge accounts for each that it lets in, as answered or as one whose
// caller left; what callers take for a whole answer is theirs and is whole; no provider is asked twice to do what it may
// have done; and all that was taken comes back.
func TestFaults(t *testing.T) {
	for i, kind := range faultKinds {
		before, _ := goroutines("")
		t.Run(kind.name, func(t *testing.T) { newFaultRun(t, kind, uint64(i)).run() })
		after, stacks := 0, ""
		if !until(patience, func() bool { after, stacks = goroutines(""); return after <= before }) {
			t.Errorf("%s: %d goroutines before, %d after:\n%s", kind.name, before, after, stacks)
		}
	}
}

// faultRun is one fault and the edge that meets it.
type faultRun struct {
	t       *testing.T
	kind    fault
	seed    uint64
	books   *ledger
	config  proxy.Config
	p       *proxy.Proxy
	url     string
	up      *echo
	other   *echo
	address string // of up
	relays  []*relay
	client  *http.Client
}

func newFaultRun(t *testing.T, kind fault, seed uint64) *faultRun {
	t.Helper()
	f := &faultRun{t: t, kind: kind, seed: seed, books: newLedger(), up: &echo{}, other: &echo{}}
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's
	f.address = serving(t, f.up)
	behind := f.address
	if kind.behind != nil {
		behind = kind.behind(t, f)
	}
	var bases []string
	for range faultRelays {
		var toxics []toxic
		if kind.toxics != nil {
			toxics = kind.toxics(random)
		}
		r := newRelay(t, behind, toxics...)
		f.relays, bases = append(f.relays, r), append(bases, "http://"+r.listen)
	}
	f.config = proxy.DefaultConfig()
	f.config.InitialPoolSize, f.config.QueueTimeout, f.config.DropExcessRequests = 100, 2*time.Second, seed%2 == 0
	f.config.Logger = slog.New(f.books)
	up, other := proxy.DefaultProvider(), proxy.DefaultProvider()
	up.BaseURL, up.BaseURLs, up.Fallbacks, up.MaxRetries = bases[0], bases[1:], []string{"other"}, 2
	up.RetryBackoffInitial, up.RetryBackoffMax = 5*time.Millisecond, 50*time.Millisecond
	up.Timeout, up.StreamIdleTimeout, up.Concurrency, up.BufferSize = 2*time.Second, 500*time.Millisecond, 32, 200
	if kind.timeout > 0 {
		up.Timeout = kind.timeout
	}
	other.BaseURL, other.Concurrency, other.BufferSize, other.MaxRetries = "http://"+serving(t, f.other), 8, 8, 1
	other.RetryBackoffInitial, other.RetryBackoffMax = up.RetryBackoffInitial, up.RetryBackoffMax
	f.config.Providers = map[string]proxy.Provider{"up": up, "other": other}
	f.serve()
	return f
}

// serve starts edge in this process.
func (f *faultRun) serve() {
	f.t.Helper()
	p, err := proxy.New(f.config)
	if err != nil {
		f.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback
	if err != nil {
		f.t.Fatal(err)
	}
	server := p.Server(false)
	server.Handler = f.books.before(server.Handler)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(p.Listener(listener)) }() // until Close
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: faultCallers}
	f.p, f.url, f.client = p, "http://"+listener.Addr().String(), &http.Client{Transport: transport}
	f.t.Cleanup(func() {
		p.Abort()
		server.Close()
		transport.CloseIdleConnections()
		<-ended
		if err := p.Close(); err != nil {
			f.t.Error(err)
		}
	})
}

// run meets the fault, ends it, and checks what is left.
func (f *faultRun) run() {
	over := make(chan struct{})
	var faulty sync.WaitGroup
	if f.kind.during != nil {
		faulty.Go(func() { f.kind.during(f, over) })
	}
	sights := f.ask()
	close(over)
	faulty.Wait()
	f.check(sights)
	f.heal()
	f.idle()
}

// ask sends all orders, and halfway turns from dropping excess requests to blocking them or back.
func (f *faultRun) ask() map[*order]sight {
	orders := make(chan *order)
	sights := make(map[*order]sight, faultOrders)
	var mu sync.Mutex
	var all sync.WaitGroup
	for range faultCallers {
		all.Go(func() {
			for o := range orders {
				got := f.send(o)
				mu.Lock()
				sights[o] = got
				mu.Unlock()
			}
		})
	}
	random := rand.New(rand.NewPCG(f.seed, 1)) //nolint:gosec // a test's
	for i := range faultOrders {
		if i == faultOrders/2 {
			f.config.DropExcessRequests = !f.config.DropExcessRequests
			if err := f.p.Reload(f.config); err != nil {
				f.t.Error(err)
			}
		}
		orders <- newOrder(fmt.Sprintf("%02d-%04d-%016x", f.seed, i, random.Uint64()), random)
	}
	close(orders)
	all.Wait()
	return sights
}

// sight is what a caller has seen of its request.
type sight struct {
	status int  // 0: no head came
	whole  bool // the answer seems complete
	all    bool // its content has come, whatever its end
	left   bool // the caller has left
	err    error
}

// send sends one request, and checks an answer that seems complete.
func (f *faultRun) send(o *order) (got sight) {
	ctx, cancel := context.WithTimeout(f.t.Context(), 4*patience)
	defer cancel()
	if o.leaves {
		defer time.AfterFunc(o.leaving, cancel).Stop()
	}
	url := fmt.Sprintf("%s/up/?lines=%d&stream=%t", f.url, o.lines, o.stream)
	request, err := http.NewRequestWithContext(ctx, o.method, url, strings.NewReader(o.body))
	if err != nil {
		f.t.Error(err)
		return got
	}
	request.Header.Set("X-Id", o.id)
	request.Header.Set("X-Request-Id", o.id)
	if o.key {
		request.Header.Set("Idempotency-Key", o.id)
	}
	answer, err := f.client.Do(request)
	if err != nil {
		return sight{err: err, left: ctx.Err() != nil}
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	got = sight{status: answer.StatusCode, whole: err == nil, all: string(text) == o.want(), left: err != nil && ctx.Err() != nil, err: err}
	f.compare(o, answer, string(text), err == nil)
	return got
}

// compare checks that an answer is o's, as far as it has come.
func (f *faultRun) compare(o *order, answer *http.Response, text string, whole bool) {
	own := answer.Header.Get("X-Edge-Reason") != ""
	want := o.want()
	switch {
	case own:
		want = text
	case answer.StatusCode != 200:
		want = o.id
	}
	if id := answer.Header.Get("X-Edge-Request-Id"); id != o.id || !own && answer.Header.Get("X-Id") != o.id {
		f.t.Errorf("%s: got an answer to %q and %q", o.id, id, answer.Header["X-Id"])
	}
	if !strings.HasPrefix(want, text) || whole && text != want {
		f.t.Errorf("%s: got %d %v and %d bytes, whole %v, that are not the %d wanted: %.100q ... %q", o.id, answer.StatusCode, answer.Header,
			len(text), whole, len(want), text, text[max(0, len(text)-100):])
	}
}

// check compares what callers have seen with edge's books and with what the providers have.
func (f *faultRun) check(sights map[*order]sight) {
	accepted, accounted := 0, 0
	if !until(patience, func() bool { accepted, accounted = f.books.totals(); return accepted == accounted }) {
		f.t.Errorf("%d requests were let in, %d are accounted for", accepted, accounted)
	}
	answered, gone := f.sum("edge_requests_total"), f.sum("edge_client_gone_total")
	if answered+gone != float64(accepted) {
		f.t.Errorf("%d requests were let in; edge counts %v answered and %v gone", accepted, answered, gone)
	}
	var whole, broken, left, again int
	classes := map[int]int{}
	for o, got := range sights {
		switch {
		case got.left:
			left++
		case got.whole:
			whole++
			classes[got.status/100]++
		default:
			broken++
		}
		if f.checkOne(o, got) > 1 {
			again++
		}
	}
	f.books.mu.Lock()
	defer f.books.mu.Unlock()
	for _, text := range f.books.panics {
		f.t.Errorf("panic: %s", text)
	}
	f.t.Logf("%d let in: %d whole answers %v, %d that broke off, %d callers left; %v counted as gone, %d asked more than once, %v retries, %v fallbacks",
		accepted, whole, classes, broken, left, gone, again, f.sum("edge_retries_total"), f.sum("edge_fallbacks_total"))
	if left == 0 || classes[2] == 0 || !f.kind.hardly && again < 20 {
		f.t.Error("the fault was hardly met")
	}
}

// checkOne checks the books on one request, and returns how many attempts there were.
func (f *faultRun) checkOne(o *order, got sight) (attempts int) {
	f.books.mu.Lock()
	accepted, entries := f.books.accepted[o.id], f.books.entries[o.id]
	f.books.mu.Unlock()
	if accepted != len(entries) || accepted > 1 || accepted == 0 && !got.left {
		f.t.Errorf("%s: let in %d times, accounted for %d times", o.id, accepted, len(entries))
	}
	if len(entries) == 0 {
		return 0
	}
	e := entries[0]
	ended := o.stream && got.all // the end mark of OpenAI's streams has come
	switch {
	case e.status == 499 && !got.left:
		f.t.Errorf("%s: counted as gone, but got %+v", o.id, got)
	case got.whole && (e.status != got.status || got.status == 200 && e.reason != ""):
		f.t.Errorf("%s: counted as %+v, but got %+v", o.id, e, got)
	case !got.whole && !got.left && (got.status == 0 || e.reason == "" && !ended):
		f.t.Errorf("%s: counted as %+v, but got %+v", o.id, e, got)
	}
	if o.method == http.MethodPost && !o.key {
		for name, seen := range map[string]*sightings{"up": &f.up.sightings, "other": &f.other.sightings} {
			if n := seen.of(o.id); n > 1 {
				f.t.Errorf("%s: has no Idempotency-Key, and %s was asked %d times; %+v", o.id, name, n, e)
			}
		}
	}
	return e.attempts
}

// heal ends the fault, after which all breakers close.
func (f *faultRun) heal() {
	for _, r := range f.relays {
		r.stop()
		r.to = f.address
		r.start()
	}
	if !until(6*patience, func() bool {
		o := newOrder("healing", rand.New(rand.NewPCG(f.seed, 2))) //nolint:gosec // a test's
		o.leaves = false
		f.send(o)
		for _, of := range f.p.Status().Providers {
			for _, r := range of.Replicas {
				if r.Failures > 0 {
					return false
				}
			}
		}
		return true
	}) {
		f.t.Errorf("breakers are still open: %+v", f.p.Status().Providers)
	}
}

// idle checks that edge holds nothing any more, once callers and providers have gone.
func (f *faultRun) idle() {
	f.client.CloseIdleConnections()
	for _, name := range []string{"edge_in_flight", "edge_waiting", "edge_blocked", "edge_arena_slots_in_use", "edge_buffered_bytes"} {
		if !until(patience, func() bool { return f.sum(name) == 0 }) {
			f.t.Errorf("%s: got %v, want 0", name, f.sum(name))
		}
	}
	for _, of := range []string{"edge/proxy.(*Proxy).ServeHTTP", "edge/proxy/upstream."} {
		left, stacks := 0, ""
		if !until(patience, func() bool { left, stacks = goroutines(of); return left == 0 }) {
			f.t.Errorf("%d goroutines are left in %s:\n%s", left, of, stacks)
		}
	}
	for _, of := range f.p.Status().Providers {
		for _, r := range of.Replicas {
			if r.InFlight != 0 {
				f.t.Errorf("%s: got %d in flight at %s, want 0", of.Name, r.InFlight, r.BaseURL)
			}
		}
	}
}

// sum adds up the samples of one metric.
func (f *faultRun) sum(name string) (total float64) {
	var out bytes.Buffer
	f.p.WriteMetrics(&out)
	for line := range strings.SplitSeq(out.String(), "\n") {
		if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == '{' || rest[0] == ' ') {
			value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
			if err != nil {
				f.t.Errorf("sample %q: %v", line, err)
			}
			total += value
		}
	}
	return total
}

// flap takes the relays down and up again, at random.
func flap(f *faultRun, over <-chan struct{}) {
	random := rand.New(rand.NewPCG(f.seed, 3)) //nolint:gosec // a test's
	for {
		r := f.relays[random.IntN(len(f.relays))]
		r.stop()
		if !waits(over, time.Duration(random.IntN(20))*time.Millisecond) {
			r.start()
			return
		}
		r.start()
		if !waits(over, time.Duration(random.IntN(10))*time.Millisecond) {
			return
		}
	}
}

// waits reports whether d has passed before over is closed.
func waits(over <-chan struct{}, d time.Duration) bool {
	select {
	case <-over:
		return false
	case <-time.After(d):
		return true
	}
}
