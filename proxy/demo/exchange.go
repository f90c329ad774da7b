package demo

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxBody     = 128 << 20
	maxRetained = 256 << 10 // a larger buffer is left to the collector
	firstRead   = 4 << 10
)

// errGone ends a request whose caller has left.
var errGone = errors.New("demo: the caller has left")

// exchange is one request and its answer. Its two buffers serve one request after another.
type exchange struct {
	p         *Provider
	w         http.ResponseWriter
	r         *http.Request
	settings  settings
	seq       uint64 // number of the request since New
	anthropic bool   // errors and limits are worded as Anthropic's

	deployment string // the model, by Azure's path

	inFlight bool // still counted; see Stats.InFlight
	stream   *http.ResponseController
	started  time.Time // first byte of a stream
	err      error     // what ended the stream early
	timer    *time.Timer

	fault      fault    // that will strike in the body
	untilFault int      // bytes of it
	conn       net.Conn // hijacked, to be closed

	body, out []byte
}

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

func (p *Provider) begin(w http.ResponseWriter, r *http.Request) *exchange {
	x := exchanges.Get().(*exchange)
	*x = exchange{
		p: p, w: w, r: r, settings: p.config.settings(), seq: uint64(p.requests.Add(1)),
		inFlight: true, body: x.body[:0], out: x.out[:0],
	}
	raise(&p.maxInFlight, p.inFlight.Add(1))
	return x
}

// end gives the exchange back, however it went.
func (x *exchange) end() {
	x.leave()
	if x.timer != nil {
		x.timer.Stop()
	}
	if x.conn != nil {
		_ = x.conn.Close()
		if closed, ok := x.r.Context().Value(closedKey{}).(func()); ok {
			closed()
		}
	}
	body, out := x.body, x.out
	if cap(body) > maxRetained {
		body = nil
	}
	if cap(out) > maxRetained {
		out = nil
	}
	*x = exchange{body: body, out: out}
	exchanges.Put(x)
}

// leave takes the exchange out of the counts. A second call does nothing.
func (x *exchange) leave() {
	if !x.inFlight {
		return
	}
	x.inFlight = false
	if x.stream != nil {
		x.p.streams.Add(-1)
	}
	x.p.inFlight.Add(-1)
}

// nameAnswer sets the request id.
func (x *exchange) nameAnswer() {
	var buf [32]byte
	id := []string{string(x.appendID(buf[:0], "req_"))}
	x.w.Header()["X-Request-Id"] = id
	if x.anthropic {
		x.w.Header()["Request-Id"] = id
	}
}

// authorize checks the caller's key.
func (x *exchange) authorize() error {
	want, more := x.p.config.APIKey, x.p.config.Keys
	if want == "" && len(more) == 0 {
		return nil
	}
	key := x.key()
	good := want != "" && subtle.ConstantTimeCompare([]byte(key), []byte(want)) == 1
	for i := range more {
		good = subtle.ConstantTimeCompare([]byte(key), []byte(more[i].Value)) == 1 || good
	}
	if good {
		return nil
	}
	return keyError(key == "")
}

// key returns the caller's key, "" without one.
func (x *exchange) key() string {
	if x.anthropic {
		if key := x.r.Header.Get("X-Api-Key"); key != "" {
			return key
		}
	}
	scheme, key, _ := strings.Cut(x.r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(key)
	}
	if x.anthropic {
		return ""
	}
	if key := x.r.Header.Get("Api-Key"); key != "" {
		return key
	}
	if key := x.r.Header.Get("X-Goog-Api-Key"); key != "" || x.r.URL.RawQuery == "" {
		return key
	}
	return x.r.URL.Query().Get("key")
}

// read decodes the request body into v.
func (x *exchange) read(v any) error {
	if x.r.ContentLength > maxBody {
		return bodySizeError()
	}
	// To the very end, even of a body of known length: only then net/http watches for a caller that leaves.
	for {
		if len(x.body) == cap(x.body) {
			grown := make([]byte, len(x.body), min(max(firstRead, 2*cap(x.body)), maxBody+1))
			copy(grown, x.body)
			x.body = grown
		}
		n, err := x.r.Body.Read(x.body[len(x.body):cap(x.body)])
		x.body = x.body[:len(x.body)+n]
		if len(x.body) > maxBody {
			return bodySizeError()
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return errGone
		}
	}
	if err := json.Unmarshal(x.body, v); err != nil {
		return decodeError(err)
	}
	if cap(x.body) > maxRetained {
		x.body = nil // a long stream need not hold on to it
	}
	return nil
}

// admit spends one request of a prompt and an answer of so many tokens of the caller's quota, and announces what is
// left of it.
func (x *exchange) admit(prompt, answer int) error {
	if x.p.quotas == nil {
		return nil
	}
	v := x.p.quotas.take(x.key(), prompt, answer)
	if announce := x.style().announce; announce != nil {
		announce(x.w.Header(), v)
	}
	if v.refused == nil {
		return nil
	}
	x.p.rateLimited.Add(1)
	return rateError(v)
}

// hold is the time a model takes to begin, and the failures it may end in.
func (x *exchange) hold() error {
	f := x.fate()
	if x.settings.delay > 0 {
		if err := x.sleepUntil(time.Now().Add(x.settings.delay)); err != nil {
			return err
		}
	}
	if f == (failure{}) {
		return nil
	}
	x.p.failures.Add(1)
	switch {
	case f.status != 0:
		e := statusError(f.status)
		e.retryForm = x.p.config.RetryAfter
		return e
	case f.fault.inBody():
		x.fault, x.untilFault = f.fault, x.settings.faultAfter
		return nil
	}
	return x.strikeHead(f.fault)
}

// reply writes a whole answer.
func (x *exchange) reply(status int, body []byte) error {
	h := x.w.Header()
	h["Content-Type"] = contentJSON
	if x.fault == errorEvent {
		x.fault = noFault // there is no stream
	}
	if x.fault != noFault {
		x.frame(len(body))
	} else if len(body) >= 2048 { // below, net/http counts the bytes itself, for less
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	x.w.WriteHeader(status)
	if err := x.write(body[:len(body)-1]); err != nil {
		return err
	}
	x.leave()
	return x.write(body[len(body)-1:])
}

func (x *exchange) write(b []byte) error {
	if x.fault != noFault {
		return x.writeFaulty(b)
	}
	return x.writeWhole(b)
}

func (x *exchange) writeWhole(b []byte) error {
	if _, err := x.w.Write(b); err != nil {
		return errGone
	}
	return nil
}

// The values of headers that are always the same; nobody writes to them.
var (
	contentJSON   = []string{"application/json"}
	contentStream = []string{"text/event-stream; charset=utf-8"}
	noCache       = []string{"no-cache"}
)

// openStream begins a streamed answer.
func (x *exchange) openStream() {
	h := x.w.Header()
	h["Content-Type"] = contentStream
	h["Cache-Control"] = noCache
	x.started = time.Now()
	x.stream = http.NewResponseController(x.w)
	if x.fault != noFault {
		x.frame(0)
	}
	raise(&x.p.maxStreams, x.p.streams.Add(1))
}

// event sends b on its way, unless the stream has failed before.
func (x *exchange) event(b []byte) {
	if x.err != nil {
		return
	}
	if x.r.Context().Err() != nil {
		x.err = errGone
	} else if x.err = x.write(b); x.err == nil && x.stream.Flush() != nil {
		x.err = errGone
	}
}

// lastEvent is event for the one that tells the caller that no other follows. It returns the stream's error.
func (x *exchange) lastEvent(b []byte) error {
	switch x.fault {
	case noFault:
	case trickle:
		x.event(b[:len(b)-1])
		b = b[len(b)-1:]
	default:
		x.untilFault = 0 // now or never
		x.event(b)
		return x.err
	}
	if x.err == nil {
		x.leave()
	}
	x.event(b)
	return x.err
}

// pace waits until token i of the stream is due and reports whether the stream goes on.
func (x *exchange) pace(i int) bool {
	if x.err == nil && x.settings.tokensPerSecond > 0 {
		due := time.Duration(float64(i) / x.settings.tokensPerSecond * float64(time.Second))
		x.err = x.sleepUntil(x.started.Add(due))
	}
	return x.err == nil
}

func (x *exchange) sleepUntil(t time.Time) error {
	d := time.Until(t)
	if d <= 0 {
		return nil
	}
	if x.timer == nil {
		x.timer = time.NewTimer(d)
	} else {
		x.timer.Reset(d)
	}
	select {
	case <-x.timer.C:
		return nil
	case <-x.r.Context().Done():
		return errGone
	}
}

// appendID appends an id that no other request of this provider has.
func (x *exchange) appendID(dst []byte, prefix string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, prefix...)
	id := mix(x.p.config.Seed + x.seq)
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, digits[id>>shift&15])
	}
	return dst
}

// mix is SplitMix64 (https://prng.di.unimi.it/splitmix64.c): distinct arguments have distinct results.
func mix(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}
