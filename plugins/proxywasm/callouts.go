package proxywasm

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/tetratelabs/wazero/api"
)

var (
	// ErrUnknownUpstream is for Services.Call: there is no provider of that name. The guest gets BAD_ARGUMENT.
	ErrUnknownUpstream = errors.New("unknown upstream")
	// ErrBadCall is for Redis.Call: what is asked is no command. The guest gets BAD_ARGUMENT.
	ErrBadCall = errors.New("no command")
	// ErrNoPermit is for Services.Call: the provider has no permit to spare, or the stream holds one of its permits. The
	// guest gets INTERNAL_FAILURE, as for any other error.
	ErrNoPermit = errors.New("no permit for a call-out")
)

// Services is what a guest may use beyond its stream. The proxy implements it. Safe for concurrent use.
type Services interface {
	// Call starts a request to a provider and returns at once. If it returns nil, done is called once, from another
	// goroutine, when the answer is there, c.Timeout is over or ctx ends; if it returns an error, never. ctx ends with the
	// plugin's instance, not with the stream.
	Call(ctx context.Context, c Call, done func(CallResult)) error
	// Redis is what the Redis hostcalls use; nil when there is none.
	Redis() Redis
}

// Call is an HTTP request that a guest wants made. It shares no memory with the guest.
type Call struct {
	Upstream string   // the name of a provider: of outbound|443||name.dns it is name
	Cluster  string   // as the guest wrote it
	From     Exchange // whose stream asks; nil for the plugin itself. Only for use within Services.Call

	Method, Path, Authority, Scheme string // Scheme may be empty
	Fields                          []Field
	Body                            []byte
	Trailers                        []Field
	Timeout                         time.Duration // 0: what the host thinks fit
}

// CallResult is the answer to a Call. It belongs to the receiver.
type CallResult struct {
	Err      error // no whole answer: the guest sees a failed call, and a timeout if it is context.DeadlineExceeded
	Status   int
	Fields   []Field
	Body     []byte
	Trailers []Field
}

// Redis is a Redis for the hostcalls of ABI 0.2.100. Safe for concurrent use.
type Redis interface {
	// Init tells how a cluster of the guest's is to be reached. An error refuses: BAD_ARGUMENT.
	Init(c RedisCluster) error
	// Call sends a query and returns at once; done is called as in Services.Call.
	Call(ctx context.Context, c RedisCall, done func(RedisResult)) error
}

// RedisCluster is what a guest says in proxy_redis_init.
type RedisCluster struct {
	Cluster            string // as the guest wrote it: a name and, after ?, parameters such as db=1
	Username, Password string
	Timeout            time.Duration
}

// RedisCall is a command in the protocol of Redis (RESP).
type RedisCall struct {
	Cluster string
	Query   []byte
	From    Exchange // whose stream asks; nil for the plugin itself. Only for use within Redis.Call
}

// RedisResult is a reply in the protocol of Redis; one that begins with - is no Err.
type RedisResult struct {
	Err   error
	Reply []byte
}

// answer is what came back of a call-out.
type answer struct {
	id                uint32
	redis             bool
	code              uint32 // of proxy_get_status, which are those of gRPC
	message           string
	headers, trailers []Field
	body              []byte
}

// fail notes that there is no answer.
func (a *answer) fail(err error) {
	if a.code, a.message = 14, "failed"; errors.Is(err, context.DeadlineExceeded) {
		a.code, a.message = 4, "timeout"
	}
}

// ask begins a call-out: it counts it, and start sends it. The id goes to the guest's variable at out.
func (g *guest) ask(mem api.Memory, out uint64, start func(id uint32, from Exchange) error) status {
	p, c := g.plugin, g.effective
	if !mem.WriteUint32Le(uint32(out), 0) {
		return statusInvalidMemory
	}
	var owner uint32
	var from Exchange
	if c != nil {
		if owner = c.id; c.here() {
			from = c.x
		}
	}
	if c != nil && c.calls >= p.options.MaxCalloutsPerStream || g.retiring && c == nil {
		p.refused.Add(1)
		return statusInternal
	}
	if p.inFlight.Add(1) > int64(p.options.MaxCallouts) {
		p.inFlight.Add(-1)
		p.refused.Add(1)
		return statusInternal
	}
	for {
		g.lastCall++
		if _, taken := g.calls[g.lastCall]; g.lastCall != 0 && !taken {
			break
		}
	}
	id := g.lastCall
	g.calls[id] = owner
	if err := start(id, from); err != nil {
		delete(g.calls, id)
		p.inFlight.Add(-1)
		if errors.Is(err, ErrUnknownUpstream) || errors.Is(err, ErrBadCall) {
			return statusBadArgument
		}
		p.refused.Add(1)
		return statusInternal
	}
	p.callouts.Add(1)
	if c != nil {
		c.calls++
	}
	mem.WriteUint32Le(uint32(out), id)
	return statusOK
}

// answered takes the answer to a call-out. It waits for the stream that asked when the proxy is not in a call on it: its
// exchange must not be touched now.
func (g *guest) answered(a *answer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	owner, waiting := g.calls[a.id]
	if !waiting { // the instance is dead
		return
	}
	delete(g.calls, a.id)
	c := g.streams[owner]
	if c != nil {
		c.calls--
		if c.x != nil && !c.here() {
			c.answers = append(c.answers, a)
			return
		}
	}
	g.deliver(a)
}

// deliver calls the guest with an answer.
func (g *guest) deliver(a *answer) {
	g.plugin.inFlight.Add(-1)
	g.answer = a
	var err error
	if a.redis {
		_, err = g.run(onRedisCallResponse, nil, rootID, uint64(a.id), uint64(a.code), uint64(len(a.body)))
	} else {
		_, err = g.run(onHTTPCallResponse, nil, rootID, uint64(a.id),
			uint64(len(a.headers)), uint64(len(a.body)), uint64(len(a.trailers)))
	}
	g.answer = nil
	if err != nil {
		g.plugin.background(err)
	}
}

// httpCall: (upstream, n, headers, size, body, n, trailers, size, timeout, *id).
func httpCall(g *guest, mem api.Memory, stack []uint64) status {
	upstream, ok1 := read(mem, stack[0], stack[1])
	headers, ok2 := read(mem, stack[2], stack[3])
	body, ok3 := read(mem, stack[4], stack[5])
	trailers, ok4 := read(mem, stack[6], stack[7])
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return statusInvalidMemory
	}
	s := g.plugin.options.Services
	h, err1 := parsePairs(headers)
	t, err2 := parsePairs(trailers)
	if err1 != nil || err2 != nil || s == nil {
		return statusBadArgument
	}
	if int64(len(body)+len(headers)+len(trailers)) > g.plugin.options.MaxBody {
		return statusInternal
	}
	call := Call{
		Upstream: provider(string(upstream)), Cluster: string(upstream), Body: bytes.Clone(body),
		Timeout: time.Duration(uint32(stack[8])) * time.Millisecond,
	}
	if st := call.setFields(&g.words, h, t); st != statusOK {
		return st
	}
	return g.ask(mem, stack[9], func(id uint32, from Exchange) error {
		call.From = from
		return s.Call(g.ctx, call, func(r CallResult) {
			a := &answer{id: id, body: r.Body, trailers: r.Trailers}
			if r.Err != nil {
				*a = answer{id: id}
				a.fail(r.Err)
			} else {
				a.headers = append([]Field{{":status", statusText(r.Status)}}, r.Fields...)
			}
			g.answered(a)
		})
	})
}

// setFields sorts the headers of a call. :method, :path and :authority must be there.
func (c *Call) setFields(w *words, headers, trailers pairs) (st status) {
	all, st := fieldsOf(w, headers)
	if st != statusOK {
		return st
	}
	if c.Trailers, st = fieldsOf(w, trailers); st != statusOK {
		return st
	}
	c.Fields = all[:0]
	for _, f := range all {
		switch f.Name {
		case ":method":
			c.Method = f.Value
		case ":path":
			c.Path = f.Value
		case ":authority", "Host":
			c.Authority = f.Value
		case ":scheme":
			c.Scheme = f.Value
		default:
			if f.Name[0] == ':' {
				return statusBadArgument
			}
			c.Fields = append(c.Fields, f)
		}
	}
	if canonical([]byte(c.Method)) == "" || c.Path == "" || c.Authority == "" || strings.ContainsAny(c.Path, " \t") {
		return statusBadArgument
	}
	return statusOK
}

// provider makes a provider's name of a cluster's. Higress's are outbound|port|subset|host, where the host of a service
// from its registries ends in .dns or .static.
func provider(cluster string) string {
	rest, ok := strings.CutPrefix(cluster, "outbound|")
	if !ok {
		return cluster
	}
	host := rest[strings.LastIndexByte(rest, '|')+1:]
	for _, kind := range []string{".dns", ".static"} {
		if name, ok := strings.CutSuffix(host, kind); ok {
			return name
		}
	}
	return host
}

// redis returns the Redis of the hostcalls, nil when there is none.
func (g *guest) redis() Redis {
	if s := g.plugin.options.Services; s != nil {
		return s.Redis()
	}
	return nil
}

// redisInit: (cluster, n, username, n, password, n, timeout).
func redisInit(g *guest, mem api.Memory, stack []uint64) status {
	r := g.redis()
	if r == nil {
		return statusUnimplemented
	}
	cluster, ok1 := read(mem, stack[0], stack[1])
	username, ok2 := read(mem, stack[2], stack[3])
	password, ok3 := read(mem, stack[4], stack[5])
	if !ok1 || !ok2 || !ok3 {
		return statusInvalidMemory
	}
	if r.Init(RedisCluster{
		Cluster: string(cluster), Username: string(username), Password: string(password),
		Timeout: time.Duration(uint32(stack[6])) * time.Millisecond,
	}) != nil {
		return statusBadArgument
	}
	return statusOK
}

// redisCall: (cluster, n, query, n, *id).
func redisCall(g *guest, mem api.Memory, stack []uint64) status {
	r := g.redis()
	if r == nil {
		return statusUnimplemented
	}
	cluster, ok1 := read(mem, stack[0], stack[1])
	query, ok2 := read(mem, stack[2], stack[3])
	if !ok1 || !ok2 {
		return statusInvalidMemory
	}
	if int64(len(query)) > g.plugin.options.MaxBody {
		return statusInternal
	}
	c := RedisCall{Cluster: string(cluster), Query: bytes.Clone(query)}
	return g.ask(mem, stack[4], func(id uint32, from Exchange) error {
		c.From = from
		return r.Call(g.ctx, c, func(r RedisResult) {
			a := &answer{id: id, redis: true, body: r.Reply}
			if r.Err != nil {
				a.body = nil
				a.fail(r.Err)
			}
			g.answered(a)
		})
	})
}
