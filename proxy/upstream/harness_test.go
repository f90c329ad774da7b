package upstream_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// maker is a client under test.
type maker struct {
	name string
	make func(upstream.Config) (upstream.Client, error)

	// own is true for Edge's own client. The other is held to what net/http promises; where that is less, the test
	// says why.
	own bool
}

// clients are all that the tests are run against.
var clients = []maker{
	{name: "standard", make: func(c upstream.Config) (upstream.Client, error) { return upstream.NewStandard(c) }},
	{name: "direct", make: func(c upstream.Config) (upstream.Client, error) { return upstream.NewDirect(c) }, own: true},
}

// each runs f against all clients.
func each(t *testing.T, f func(t *testing.T, m maker)) {
	t.Helper()
	for _, m := range clients {
		t.Run(m.name, func(t *testing.T) { f(t, m) })
	}
}

// own runs f against Edge's own client only. The text says what net/http does.
func own(t *testing.T, _ string, f func(t *testing.T, m maker)) {
	t.Helper()
	for _, m := range clients {
		if m.own {
			t.Run(m.name, func(t *testing.T) { f(t, m) })
		}
	}
}

var errField = upstream.ErrField

const (
	patience = 5 * time.Second        // whoever waits longer waits for ever
	soon     = 100 * time.Millisecond // in which a server must see that a request was given up
)

var errStuck = errors.New("test: nothing has happened for 5 s")

// TestMain fails when goroutines are left over, as net/http's own tests do.
func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // net/http says there what it finds on idle connections
	code := m.Run()
	if code == 0 && !settles(patience, func() bool { return runtime.NumGoroutine() <= 3 }) {
		stacks := make([]byte, 1<<20)
		fmt.Fprintf(os.Stderr, "goroutines are left over:\n%s\n", stacks[:runtime.Stack(stacks, true)])
		code = 1
	}
	os.Exit(code)
}

// settles waits until a condition holds.
func settles(within time.Duration, holds func() bool) bool {
	deadline := time.Now().Add(within)
	for tries := 0; !holds(); tries++ {
		if time.Now().After(deadline) {
			return false
		}
		if runtime.Gosched(); tries > 50 {
			<-time.After(time.Millisecond / 4)
		}
	}
	return true
}

// receive waits for what comes from a channel.
func receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(2 * patience): // a context's end comes first, and says more
		t.Fatal(errStuck)
		panic("unreachable")
	}
}

// client makes a client for s, and closes it when the test ends.
func (m maker) client(t testing.TB, s *server, with ...func(*upstream.Config)) upstream.Client {
	t.Helper()
	config := upstream.Config{BaseURL: s.url}
	for _, w := range with {
		w(&config)
	}
	client, err := m.make(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// get is the simplest request.
func get(target string) *upstream.Request { return &upstream.Request{Method: "GET", Target: target} }

// post is a request with content of a known length.
func post(body io.ReadCloser, length int64) *upstream.Request {
	return &upstream.Request{Method: "POST", Target: "/", Body: body, Length: length}
}

// result is an answer that was read to its end.
type result struct {
	upstream.Response
	early   []string
	content string
	trailer upstream.Fields
	err     error // what Do returned
	broken  error // what ended the content, nil for io.EOF
}

// do sends q, and reads the answer to its end.
func do(t testing.TB, client upstream.Client, q *upstream.Request) (r result) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errStuck)
	defer cancel()
	r = start(ctx, client, q).wait(t)
	if errors.Is(r.err, errStuck) || errors.Is(r.broken, errStuck) {
		t.Errorf("%s %s: %v", q.Method, q.Target, errStuck)
	}
	return r
}

func doWith(ctx context.Context, client upstream.Client, q *upstream.Request) (r result) {
	if q.Early == nil {
		q.Early = func(status int, fields upstream.Fields) {
			r.early = append(r.early, fmt.Sprintf("%d\n%s", status, written(fields)))
		}
	}
	if r.err = client.Do(ctx, q, &r.Response); r.err == nil {
		r.finish()
	}
	return r
}

// finish reads the content and what follows.
func (r *result) finish() {
	content, err := io.ReadAll(r.Body)
	if r.content, r.broken = string(content), err; err == nil {
		r.trailer = r.Trailer()
	}
	r.Body.Close()
}

// failure is what went wrong.
func (r *result) failure() error { return cmp.Or(r.err, r.broken) }

// String writes the answer so that two can be compared: fields by name, without those that net/http keeps to itself.
func (r result) String() string {
	if r.err != nil {
		return "failed: " + r.err.Error()
	}
	var b strings.Builder
	for _, early := range r.early {
		b.WriteString(early)
	}
	fmt.Fprintf(&b, "%d, length %d\n%s", r.Status, r.Length, written(r.Fields))
	if r.Upgraded != nil {
		b.WriteString("upgraded\n")
	}
	if len(r.TrailerNames) > 0 {
		fmt.Fprintf(&b, "trailer %s\n", strings.Join(slices.Sorted(slices.Values(r.TrailerNames)), ", "))
	}
	fmt.Fprintf(&b, "%q\n%s", r.content, written(r.trailer))
	if r.broken != nil {
		fmt.Fprintf(&b, "broken: %v\n", r.broken)
	}
	return b.String()
}

func written(fields upstream.Fields) string {
	var b strings.Builder
	sorted := slices.Clone(fields)
	slices.SortStableFunc(sorted, func(x, y upstream.Field) int { return cmp.Compare(x.Name, y.Name) })
	for _, f := range sorted {
		if f.Name != "Transfer-Encoding" && f.Name != "Trailer" { // net/http takes them out
			fmt.Fprintf(&b, "%s: %s\n", f.Name, f.Value)
		}
	}
	return b.String()
}

// want reports an answer that is not as it should be.
func want(t testing.TB, got result, status int, content string) {
	t.Helper()
	if err := got.failure(); err != nil {
		t.Errorf("failed: %v", err)
	} else if got.Status != status || got.content != content {
		t.Errorf("got %d with %.200q, want %d with %.200q", got.Status, got.content, status, content)
	}
}

// reuses reports a client that has used its connections too seldom. Not all of them can be used again: on a busy machine,
// what has sent a content may not have said so when the answer ends.
func (s *server) reuses(t testing.TB, requests int) {
	t.Helper()
	if n := int(s.accepted.Load()); n > 1+requests/3 {
		t.Errorf("%d connections for %d requests, want 1", n, requests)
	}
}

// call is a request that goes on.
type call struct {
	result
	done chan struct{}
}

// start sends q in a goroutine of its own.
func start(ctx context.Context, client upstream.Client, q *upstream.Request) *call {
	c := &call{done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.result = doWith(ctx, client, q)
	}()
	return c
}

// wait returns the answer.
func (c *call) wait(t testing.TB) result {
	t.Helper()
	receive(t, c.done)
	return c.result
}

// upload is a request's content in pieces, as they are put into it.
type upload struct {
	pieces  chan string
	failure error         // ends it in place of io.EOF
	deaf    bool          // Close does not end a Read
	gone    chan struct{} // closed by the first Close
	over    chan struct{} // closed by the end of the test
	reads   atomic.Int64  // bytes
	closed  atomic.Int32
	rest    string
}

var errClosedUpload = errors.New("test: read from a closed upload")

// uploading returns a content that is open at its end. The test fails if it is not closed exactly once.
func uploading(t testing.TB, pieces ...string) *upload {
	u := &upload{pieces: make(chan string, 1024), gone: make(chan struct{}), over: make(chan struct{})}
	for _, piece := range pieces {
		u.pieces <- piece
	}
	t.Cleanup(func() {
		close(u.over)
		if !settles(patience, func() bool { return u.closed.Load() != 0 }) || u.closed.Load() != 1 {
			t.Errorf("the content was closed %d times, want once", u.closed.Load())
		}
	})
	return u
}

// content returns a content of these pieces.
func content(t testing.TB, pieces ...string) *upload {
	u := uploading(t, pieces...)
	close(u.pieces)
	return u
}

// Read gives what is there of one piece.
func (u *upload) Read(p []byte) (int, error) {
	gone := u.gone
	if u.deaf {
		gone = nil
	}
	if u.rest == "" {
		select {
		case piece, more := <-u.pieces:
			if !more {
				return 0, cmp.Or(u.failure, io.EOF)
			}
			u.rest = piece
		case <-gone:
			return 0, errClosedUpload
		case <-u.over:
			return 0, errClosedUpload
		}
	}
	n := copy(p, u.rest)
	u.rest = u.rest[n:]
	u.reads.Add(int64(n))
	return n, nil
}

// Close counts.
func (u *upload) Close() error {
	if u.closed.Add(1) == 1 {
		close(u.gone)
	}
	return nil
}

// wantClosed waits until a content was closed. A goroutine may do that, after Do has returned.
func wantClosed(t testing.TB, u *upload) {
	t.Helper()
	if !settles(patience, func() bool { return u.closed.Load() == 1 }) {
		t.Errorf("the content was closed %d times, want once", u.closed.Load())
	}
}

// open sends q and returns the head of the answer, which must be 200.
func open(t testing.TB, client upstream.Client, q *upstream.Request) *upstream.Response {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*patience, errStuck)
	t.Cleanup(cancel)
	var a upstream.Response
	if err := client.Do(ctx, q, &a); err != nil {
		t.Fatal(err)
	}
	if a.Status != 200 {
		a.Body.Close()
		t.Fatalf("got %d, want 200", a.Status)
	}
	return &a
}

// read reads n bytes of a content.
func read(t testing.TB, from io.Reader, n int) string {
	t.Helper()
	content := make([]byte, n)
	got, err := io.ReadFull(from, content)
	if err != nil {
		t.Errorf("got %q, %v, want %d bytes", content[:got], err, n)
	}
	return string(content[:got])
}

func mustParse(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return u
}
