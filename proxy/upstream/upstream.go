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
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/url"
)

// Config is what a Standard client is made from.
type Config struct {
	BaseURL  string // http or https, a host, perhaps a port; its path is put before each Target
	MaxConns int    // connections at a time; 0 means no bound

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
	// and that may be after Do returned (http.RoundTripper).
	Body io.ReadCloser

	// Again gives the content anew, for a connection that turned out to be dead before a byte was sent.
	// Nil means that the content cannot be had twice.
	Again func() (io.ReadCloser, error)

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
	// returns when that is done.
	Body io.ReadCloser

	// Upgraded is the connection after a 101; Body is then empty. The caller must close it.
	Upgraded io.ReadWriteCloser

	TrailerNames []string // announced, in canonical form

	// Trailer returns the trailer section, once Body has returned io.EOF.
	Trailer func() Fields
}

// ErrTarget says that a request's target cannot be sent as it is.
var ErrTarget = errors.New("upstream: target cannot be sent unchanged")
