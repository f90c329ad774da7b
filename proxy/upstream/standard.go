package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	dialTimeout     = 10 * time.Second
	keepAlive       = 30 * time.Second
	idleConnTimeout = 90 * time.Second // below the 100 s and more after which providers close
	continueTimeout = time.Second      // RFC 9110, section 10.1.1: a client must not wait for 100 for ever
	maxHeadBytes    = 1 << 20          // of an answer
	maxEarly        = 16               // 1xx answers to one request; net/http has no bound when somebody listens
	maxIdleConns    = 65536            // a gate's largest limit: there are never more than were in flight
)

// Standard speaks through an http.Transport. It is safe for concurrent use.
type Standard struct {
	transport *http.Transport
	base      url.URL
	absolute  bool // plain HTTP through a forward proxy: the request line names the host (RFC 9112, 3.2.2)
}

// New returns a client for the upstream at c.BaseURL: a Direct one, or a Standard one where HTTP/2 is wanted, a forward
// proxy is in the way, or the URL is unusual.
func New(c Config) (Client, error) {
	base, err := parseBase(c.BaseURL)
	if err != nil {
		return nil, err
	}
	through := false
	if c.Proxy != nil {
		proxy, err := c.Proxy(&http.Request{URL: base})
		through = err != nil || proxy != nil
	}
	if !through && !c.HTTP2 {
		if d, err := NewDirect(c); err == nil {
			return d, nil
		}
	}
	return NewStandard(c)
}

// NewStandard returns a client that speaks through an http.Transport.
func NewStandard(c Config) (*Standard, error) {
	base, err := parseBase(c.BaseURL)
	if err != nil {
		return nil, err
	}
	timeout := cmp.Or(c.ConnectTimeout, dialTimeout)
	dialer := &net.Dialer{Timeout: timeout, KeepAlive: keepAlive}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(c.HTTP2)
	absolute := false
	if c.Proxy != nil && base.Scheme == "http" {
		through, err := c.Proxy(&http.Request{URL: base})
		absolute = err == nil && through != nil
	}
	return &Standard{base: *base, absolute: absolute, transport: &http.Transport{
		Proxy: c.Proxy,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dial(ctx, dialer, network, address)
		},
		TLSClientConfig:        &tls.Config{RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    timeout,
		Protocols:              protocols,
		DisableCompression:     true, // what the caller accepts is the caller's to say
		MaxIdleConns:           0,
		MaxIdleConnsPerHost:    maxIdleConns,
		MaxConnsPerHost:        c.MaxConns,
		IdleConnTimeout:        idleConnTimeout,
		ExpectContinueTimeout:  continueTimeout,
		MaxResponseHeaderBytes: maxHeadBytes,
	}}, nil
}

// Close closes the connections that carry no request, and the others when theirs has ended.
func (s *Standard) Close() { s.transport.CloseIdleConnections() }

// Do sends q and fills in a. The error is the transport's; when ctx has ended, its cause.
func (s *Standard) Do(ctx context.Context, q *Request, a *Response) error {
	u, err := s.url(q.Target)
	if err != nil {
		if q.Body != nil {
			q.Body.Close()
		}
		return err
	}
	early := &earlyAnswers{call: q.Early, left: maxEarly}
	var connected atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	if q.Early != nil {
		trace.Got1xxResponse = early.got
	}
	ctx = httptrace.WithClientTrace(ctx, trace)
	request := (&http.Request{
		Method: q.Method, URL: u, Host: cmp.Or(q.Host, s.base.Host),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: q.Fields.header(), Body: q.Body, GetBody: q.Again, ContentLength: q.Length, Trailer: q.Trailer,
	}).WithContext(ctx)
	if q.Body == nil {
		request.Body, request.ContentLength = nil, 0
	}
	if _, has := request.Header["User-Agent"]; !has {
		request.Header["User-Agent"] = []string{""} // net/http sends its own name otherwise
	}
	answer, err := s.transport.RoundTrip(request) //nolint:bodyclose // it becomes a.Body, the caller's to close
	early.end()
	if err != nil {
		if cause := causeOf(ctx); cause != nil {
			return cause
		}
		if !connected.Load() {
			return fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		return err
	}
	if answer.StatusCode < 200 && answer.StatusCode != http.StatusSwitchingProtocols {
		answer.Body.Close()
		return fmt.Errorf("upstream: status %d", answer.StatusCode)
	}
	a.Status, a.Length = answer.StatusCode, answer.ContentLength
	a.Fields = a.Fields[:0].AppendHeader(answer.Header)
	a.Trailer = func() Fields { return Fields(nil).AppendHeader(answer.Trailer) }
	a.TrailerNames = slices.AppendSeq(a.TrailerNames[:0], maps.Keys(answer.Trailer))
	a.Body, a.Upgraded = answer.Body, nil
	if a.Status == http.StatusSwitchingProtocols {
		conn, ok := answer.Body.(io.ReadWriteCloser)
		if !ok {
			answer.Body.Close()
			return fmt.Errorf("upstream: 101 with a body of type %T", answer.Body)
		}
		a.Body, a.Upgraded = http.NoBody, conn
	}
	return nil
}

// url returns the URL that makes net/http put base path and target on the request line byte for byte.
func (s *Standard) url(target string) (*url.URL, error) {
	u := &url.URL{Scheme: s.base.Scheme, Host: s.base.Host}
	path, query, hasQuery := strings.Cut(s.base.EscapedPath()+target, "?")
	u.RawQuery, u.ForceQuery = query, hasQuery
	if s.absolute {
		u.Opaque = "//" + s.base.Host + path
		return u, nil
	}
	if !strings.HasPrefix(path, "//") {
		u.Opaque = path
		return u, nil
	}
	// net/http would send an Opaque that begins with // in absolute form: the target would name a host.
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return nil, ErrTarget
	}
	u.Path, u.RawPath = decoded, path
	if u.RequestURI() != s.base.EscapedPath()+target {
		return nil, ErrTarget
	}
	return u, nil
}

// earlyAnswers passes 1xx answers on, from the transport's goroutine, until Do is about to return.
type earlyAnswers struct {
	mu    sync.Mutex
	call  func(int, Fields)
	left  int
	ended bool
}

var errEarly = errors.New("upstream: too many 1xx answers")

func (e *earlyAnswers) got(status int, header textproto.MIMEHeader) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.left--; e.left < 0 {
		return errEarly
	}
	if !e.ended && status != http.StatusContinue {
		e.call(status, Fields(nil).AppendHeader(http.Header(header)))
	}
	return nil
}

func (e *earlyAnswers) end() {
	e.mu.Lock()
	e.ended = true
	e.mu.Unlock()
}
