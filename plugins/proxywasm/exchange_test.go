package proxywasm

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// fields is a list that implements Fields.
type fields struct{ list []Field }

func (f *fields) Len() int                  { return len(f.list) }
func (f *fields) At(i int) (string, string) { return f.list[i].Name, f.list[i].Value }
func (f *fields) Add(name, value string)    { f.list = append(f.list, Field{name, value}) }
func (f *fields) Del(name string) {
	f.list = slices.DeleteFunc(f.list, func(x Field) bool { return strings.EqualFold(x.Name, name) })
}

func (f *fields) Set(name, value string) {
	for i := range f.list {
		if strings.EqualFold(f.list[i].Name, name) {
			f.list[i].Value = value
			rest := f.list[i+1:]
			kept := slices.DeleteFunc(rest, func(x Field) bool { return strings.EqualFold(x.Name, name) })
			f.list = f.list[:i+1+len(kept)]
			return
		}
	}
	f.Add(name, value)
}

func (f *fields) String() string {
	var b strings.Builder
	for _, x := range f.list {
		b.WriteString(x.Name + ": " + x.Value + "\n")
	}
	return b.String()
}

// exchange is a whole one in memory. It is guarded by nothing: the race detector sees who uses it when.
type exchange struct {
	method, path, authority string
	status                  int
	lists                   [4]fields
	attributes              map[string]any
	charged                 int64
	limit                   int64 // of charged; 0 is none
	touched                 int
}

var errCharge = errors.New("no more memory")

func newExchange() *exchange {
	x := &exchange{method: "POST", path: "/chat?a=1", authority: "example.org", status: 200}
	x.lists[RequestHeaders].list = []Field{{"Content-Type", "text/plain"}, {"X-Two", "1"}, {"X-Two", "2"}}
	x.lists[ResponseHeaders].list = []Field{{"Server", "up"}}
	return x
}

func (x *exchange) Method() string          { x.touched++; return x.method }
func (x *exchange) SetMethod(method string) { x.method = method }
func (x *exchange) Path() string            { return x.path }
func (x *exchange) Authority() string       { return x.authority }
func (x *exchange) SetAuthority(a string)   { x.authority = a }
func (x *exchange) Scheme() string          { return "https" }
func (x *exchange) Status() int             { return x.status }
func (x *exchange) SetStatus(code int)      { x.status = code }
func (x *exchange) RequestID() string       { return "id-1" }
func (x *exchange) Fields(k MapKind) Fields { x.touched++; return &x.lists[k] }

func (x *exchange) SetPath(path string) error {
	if !strings.HasPrefix(path, "/") {
		return errors.New("no path")
	}
	x.path = path
	return nil
}

func (x *exchange) Attribute(name string) (any, bool) {
	v, ok := x.attributes[name]
	return v, ok
}

func (x *exchange) Charge(n int64) error {
	if x.limit > 0 && x.charged+n > x.limit {
		return errCharge
	}
	x.charged += n
	return nil
}

// services answers calls when a test says so.
type services struct {
	mu    sync.Mutex
	calls []pendingCall
	came  chan struct{} // one token for each call
	err   error
	redis Redis
}

type pendingCall struct {
	Call
	ctx  context.Context
	done func(CallResult)
}

func newServices() *services { return &services{came: make(chan struct{}, 1<<16)} }

func (s *services) Call(ctx context.Context, c Call, done func(CallResult)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case c.Upstream == "nowhere":
		return ErrUnknownUpstream
	}
	s.calls = append(s.calls, pendingCall{c, ctx, done})
	s.came <- struct{}{}
	return nil
}

func (s *services) Redis() Redis { return s.redis }

// take waits for the next call.
func (s *services) take() pendingCall {
	<-s.came
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[0]
	s.calls = s.calls[1:]
	return c
}

// fakeRedis answers at once.
type fakeRedis struct{ inits []RedisCluster }

func (r *fakeRedis) Init(c RedisCluster) error {
	if c.Cluster == "nowhere" {
		return ErrUnknownUpstream
	}
	r.inits = append(r.inits, c)
	return nil
}

func (r *fakeRedis) Call(_ context.Context, c RedisCall, done func(RedisResult)) error {
	switch c.Cluster {
	case "nowhere":
		return ErrUnknownUpstream
	case "garbled":
		return ErrBadCall
	case "late":
		go done(RedisResult{Err: context.DeadlineExceeded})
	default:
		go done(RedisResult{Reply: []byte("+" + string(c.Query))})
	}
	return nil
}

// soon is how long tests wait for what must come.
const soon = 10 * time.Second
