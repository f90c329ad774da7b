// Package upstream is how Edge speaks to a provider: a request as plain data goes in, an answer as plain
// data comes out.
//
//	client, err := upstream.New(upstream.Config{BaseURL: "https://api.openai.com"})
//	var answer upstream.Response
//	err = client.Do(ctx, &upstream.Request{Method: "GET", Target: "/v1/models"}, &answer)
//	defer answer.Body.Close()
//
// It sends a request once, follows no redirect and adds no header of its own beyond those that frame the
// message. Who may send, and how many at once, is the business of package limiter.
package upstream

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Client sends requests to one upstream. It is safe for concurrent use.
type Client interface {
	// Do sends q and fills in a. When ctx has ended, the error is its cause.
	Do(ctx context.Context, q *Request, a *Response) error

	// Close closes the connections that carry no request, and the others when theirs has ended.
	Close()
}

// Breaker is what holds a connection for a request.
type Breaker interface {
	// Break closes the connection at once, from any goroutine.
	Break()
}

// Ender is a context that breaks connections itself. A client uses it in place of context.AfterFunc, which
// allocates.
type Ender interface {
	context.Context

	// OnEnd makes the context call b.Break, once, when it ends: at once if it has. It replaces what was there
	// before. With nil, nothing is called any more, and no call is under way, once OnEnd has returned.
	OnEnd(b Breaker)

	// Cause is why it has ended, nil until then. context.Cause knows that of the standard library's contexts only.
	Cause() error
}

// Config is what a client is made from.
type Config struct {
	BaseURL  string // http or https, a host, perhaps a port; its path is put before each Target
	MaxConns int    // connections at a time; 0 means no bound
	HTTP2    bool   // offer HTTP/2, too, by ALPN over TLS

	ConnectTimeout time.Duration // for a connection, and as long again for its TLS handshake; 0 means 10 s

	RootCAs *x509.CertPool                        // nil means the system's
	Proxy   func(*http.Request) (*url.URL, error) // forward proxy to use; nil means none
}

// Request is one request to an upstream.
type Request struct {
	Method string
	Target string // path and query, byte for byte; begins with /
	Host   string // what Host says; empty means the host of the base URL
	Fields Fields // without Host and those that frame the message (Content-Length, Transfer-Encoding, Trailer)

	// Body is the message's content; nil means none. The client closes it exactly once, whatever happens,
	// and that may be after Do returned (http.RoundTripper). If it is an io.WriterTo, it is used as that: what
	// it writes must stay as it is during the Write only. Three more methods are used if it has them: Len() int is
	// how many bytes can be had without waiting, Next(most int) []byte takes a piece of those that stays until
	// Close, Exact() bool says that there are certainly no more than Length.
	// Where a client's Pipes says so, part of it may lie in a pipe: Piped() bool and Pipe() *socket.Pipe give that.
	Body io.ReadCloser

	// Scratch is memory for the heads of both messages, 4 KiB as a rule; more is the client's own. It is lent
	// until Do has returned an error, or Body of the Response has returned one or was closed. Nil means that the
	// client finds it.
	Scratch []byte

	// Again gives the content anew, for a connection that turned out to be dead before a byte was sent.
	// Nil means that the content cannot be had twice.
	Again func() (io.ReadCloser, error)

	// Sent is called, at most once and before Do returns, when the content has left as a whole and is certainly not
	// wanted again. A client need not call it. Break waits for it.
	Sent func()

	Length  int64       // bytes of content; -1 means unknown: it is sent chunked
	Trailer http.Header // names now; values may be filled in until Body has returned io.EOF

	// Early is called for each answer of class 1xx but 100 and 101, before Do returns and never after, one
	// at a time. The fields are its own.
	Early func(status int, fields Fields)
}

// Response is an upstream's answer.
type Response struct {
	Status int
	Fields Fields // as received, hop-by-hop fields included
	Length int64  // bytes of content; -1 means unknown

	// Body is never nil; the caller must close it. Closed before io.EOF, it closes the connection too, and
	// returns when that is done. It is for one goroutine at a time: a Read that goes on is ended by the context.
	// It may have a method Ready() bool that says whether Read returns without waiting.
	Body io.ReadCloser

	// Upgraded is the connection after a 101; Body is then empty. The caller must close it, which any goroutine
	// may do: the end of the context does not.
	Upgraded io.ReadWriteCloser

	TrailerNames []string // announced, in canonical form

	// Trailer returns the trailer section, once Body has returned io.EOF.
	Trailer func() Fields
}

// ErrNotSent says that no byte of the request has left: there was no connection for it, or it was dead. It may be sent
// anew whatever it asks for.
var ErrNotSent = errors.New("upstream: not sent")

// ErrTarget says that a request's target cannot be sent as it is.
var ErrTarget = errors.New("upstream: target cannot be sent unchanged")
