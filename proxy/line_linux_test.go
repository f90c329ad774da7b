package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// This file measures the line alone: net/http's server and the steps of proxy, between a caller and a provider that
// allocate nothing themselves.

// lineCaller is a connection that sends one request over and over.
type lineCaller struct {
	conn    net.Conn
	request []byte
	buffer  []byte
}

const lineContent = 1 << 10 // bytes, both ways

func lineRequest(method string, content int, more ...string) []byte {
	head := method + " /up/v1/chat/completions HTTP/1.1\r\nHost: edge.local\r\nUser-Agent: bench\r\nAccept: application/json\r\n" +
		"Authorization: Bearer of-the-caller\r\n" + strings.Join(more, "")
	if content > 0 {
		head += "Content-Type: application/json\r\nContent-Length: " + strconv.Itoa(content) + "\r\n"
	}
	return append([]byte(head+"\r\n"), bytes.Repeat([]byte("x"), content)...)
}

// call sends the request and reads an answer whose content has a known length.
func (c *lineCaller) call() error {
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	have, want := 0, -1
	for want < 0 || have < want {
		n, err := c.conn.Read(c.buffer[have:])
		if err != nil {
			return err
		}
		have += n
		if want >= 0 {
			continue
		}
		end := bytes.Index(c.buffer[:have], []byte("\r\n\r\n"))
		if end < 0 {
			continue
		}
		if !bytes.HasPrefix(c.buffer, []byte("HTTP/1.1 200 ")) {
			return fmt.Errorf("got %q", c.buffer[:have])
		}
		name := []byte("\r\nContent-Length: ")
		at := bytes.Index(c.buffer[:end], name)
		if at < 0 {
			return fmt.Errorf("no length in %q", c.buffer[:end])
		}
		length := 0
		for _, digit := range c.buffer[at+len(name):] {
			if digit < '0' || digit > '9' {
				break
			}
			length = length*10 + int(digit-'0')
		}
		want = end + 4 + length
	}
	return nil
}

// lineProvider answers what comes on each connection with the same bytes, and allocates nothing.
func lineProvider(tb testing.TB, length int, more ...string) (address string) {
	tb.Helper()
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(length) +
		"\r\nX-Request-Id: of-the-provider\r\n" + strings.Join(more, "") + "\r\n" + strings.Repeat("y", length))
	return lineListen(tb, func(conn net.Conn) {
		buffer := make([]byte, 64<<10)
		have := 0
		for {
			n, err := conn.Read(buffer[have:])
			if err != nil {
				return
			}
			have += n
			end := bytes.Index(buffer[:have], []byte("\r\n\r\n"))
			if end < 0 {
				continue
			}
			if bytes.HasPrefix(buffer, []byte("POST")) && have < end+4+lineContent {
				continue
			}
			have = 0
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	})
}

func lineListen(tb testing.TB, talk func(net.Conn)) (address string) {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback
	if err != nil {
		tb.Fatal(err)
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	var conns []net.Conn
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			all.Go(func() {
				defer conn.Close()
				talk(conn)
			})
		}
	})
	tb.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for _, conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return listener.Addr().String()
}

// wire is a client that allocates nothing and believes what it reads.
type wire struct {
	address    string
	length     int // of answers
	lengthText string
	mu         sync.Mutex
	idle       []*wireConn
}

type wireConn struct {
	of     *wire
	conn   net.Conn
	buffer [8 << 10]byte
	out    []byte
	body   []byte // what of the content came with the head
	left   int    // of the content, behind that
	a      *upstream.Response
}

func (w *wire) take() (*wireConn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.idle); n > 0 {
		c := w.idle[n-1]
		w.idle = w.idle[:n-1]
		return c, nil
	}
	conn, err := net.Dial("tcp", w.address) //nolint:noctx // loopback
	return &wireConn{of: w, conn: conn}, err
}

func (w *wire) Do(ctx context.Context, q *upstream.Request, a *upstream.Response) error {
	c, err := w.take()
	if err != nil {
		return err
	}
	ender, ok := ctx.(upstream.Ender)
	if ok {
		ender.OnEnd(c)
		defer ender.OnEnd(nil)
	}
	out := append(c.out[:0], q.Method...)
	out = append(out, ' ')
	out = append(out, q.Target...)
	out = append(out, " HTTP/1.1\r\nHost: up\r\n"...)
	for _, field := range q.Fields {
		out = append(append(append(append(out, field.Name...), ": "...), field.Value...), "\r\n"...)
	}
	if q.Length > 0 {
		out = strconv.AppendInt(append(out, "Content-Length: "...), q.Length, 10)
		out = append(out, "\r\n"...)
	}
	c.out = append(out, "\r\n"...)
	if q.Body != nil {
		if to, ok := q.Body.(io.WriterTo); ok {
			_, err = to.WriteTo(c)
		} else {
			n := 0
			for err == nil {
				c.out = c.out[:cap(c.out)]
				n, err = q.Body.Read(c.buffer[:])
				c.out = append(c.out[:len(out)+2], c.buffer[:n]...)
				out = c.out[:len(c.out)-2]
			}
			if errors.Is(err, io.EOF) {
				err = nil
			}
		}
		q.Body.Close()
		if err != nil {
			return err
		}
	}
	if _, err := c.conn.Write(c.out); err != nil {
		return err
	}
	n, err := c.conn.Read(c.buffer[:])
	if err != nil {
		return err
	}
	end := bytes.Index(c.buffer[:n], []byte("\r\n\r\n"))
	if end < 0 || n > end+4+w.length {
		return fmt.Errorf("got %q", c.buffer[:n])
	}
	a.Status, a.Length, a.Trailer = http.StatusOK, int64(w.length), noTrailer
	a.Fields = append(a.Fields[:0], upstream.Field{Name: "Content-Type", Value: "application/json"},
		upstream.Field{Name: "Content-Length", Value: w.lengthText}, upstream.Field{Name: "X-Request-Id", Value: "of-the-provider"})
	c.body, c.left, c.a, a.Body = c.buffer[end+4:n], w.length-(n-end-4), a, c
	return nil
}

func (w *wire) Close() {}

func (c *wireConn) Break() { c.conn.Close() }

// Write puts content behind the head.
func (c *wireConn) Write(p []byte) (int, error) {
	c.out = append(c.out, p...)
	return len(p), nil
}

func (c *wireConn) Read(into []byte) (int, error) {
	n := copy(into, c.body)
	if c.body = c.body[n:]; n == 0 && c.left > 0 {
		var err error
		if n, err = c.conn.Read(into[:min(len(into), c.left)]); err != nil {
			return n, err
		}
		c.left -= n
	}
	if len(c.body) == 0 && c.left == 0 {
		return n, io.EOF
	}
	return n, nil
}

func (c *wireConn) Close() error {
	if c.a != nil {
		c.a = nil
		c.of.mu.Lock()
		c.of.idle = append(c.of.idle, c)
		c.of.mu.Unlock()
	}
	return nil
}

// ownClient stands for the client that the proxy makes itself.
var ownClient upstream.Client = &instant{}

// line serves a proxy to the raw provider on a loopback port.
//
// client stands in for the one that speaks to it; nil is one that allocates nothing.
func line(tb testing.TB, client upstream.Client, length int, plugins ...Plugin) (address string, p *Proxy) {
	tb.Helper()
	up := lineProvider(tb, length)
	if client == nil {
		client = &wire{address: up, length: length, lengthText: strconv.Itoa(length)}
	}
	return lineTo(tb, client, up, plugins...)
}

// lineTo is line to a provider that is there.
func lineTo(tb testing.TB, client upstream.Client, up string, plugins ...Plugin) (address string, p *Proxy) {
	tb.Helper()
	c := DefaultConfig()
	c.Logger = slog.New(slog.DiscardHandler)
	provider := DefaultProvider()
	provider.BaseURL = "http://" + up
	provider.Keys = []Key{{Name: "main", Value: "the-providers-key", Weight: 1}}
	c.Plugins = plugins
	for _, plugin := range plugins {
		provider.Plugins = append(provider.Plugins, plugin.Name)
	}
	c.Providers = map[string]Provider{"up": provider}
	p, err := New(c)
	if err != nil {
		tb.Fatal(err)
	}
	if client != ownClient {
		p.current.Load().endpoints["up"].replicas[0].client = client
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback
	if err != nil {
		tb.Fatal(err)
	}
	server := p.Server(false)
	go func() { _ = server.Serve(p.Listener(listener)) }() // until it is closed
	tb.Cleanup(func() {
		server.Close()
		p.Close()
	})
	return listener.Addr().String(), p
}

func lineCall(tb testing.TB, address, method string) *lineCaller {
	tb.Helper()
	conn, err := net.Dial("tcp", address) //nolint:noctx // loopback
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	content := 0
	if method == http.MethodPost {
		content = lineContent
	}
	return &lineCaller{conn: conn, request: lineRequest(method, content), buffer: make([]byte, 8<<10)}
}

// BenchmarkDownload is an answer of 1 MiB.
func BenchmarkDownload(b *testing.B) {
	address, _ := line(b, nil, 1<<20)
	b.SetParallelism(8 / runtime.GOMAXPROCS(0))
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	began := processTime(b)
	defer func() { b.ReportMetric(float64((processTime(b)-began).Nanoseconds())/float64(b.N), "cpu-ns/op") }()
	b.RunParallel(func(pb *testing.PB) {
		caller := lineCall(b, address, http.MethodGet)
		caller.buffer = make([]byte, 1<<20+8<<10)
		for pb.Next() {
			if err := caller.call(); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkLine is a whole request over loopback connections. The time is that of all four: caller, proxy, provider and
// the kernel.
func BenchmarkLine(b *testing.B) {
	for _, c := range []struct {
		name   string
		client upstream.Client
	}{{"without", nil}, {"with", ownClient}} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			b.Run(c.name+" client/"+method, func(b *testing.B) {
				address, _ := line(b, c.client, lineContent)
				b.SetParallelism(32 / runtime.GOMAXPROCS(0))
				b.ReportAllocs()
				began := processTime(b)
				defer func() { b.ReportMetric(float64((processTime(b)-began).Nanoseconds())/float64(b.N), "cpu-ns/op") }()
				b.RunParallel(func(pb *testing.PB) {
					caller := lineCall(b, address, method)
					for pb.Next() {
						if err := caller.call(); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}

// sdkFields are what OpenAI's library for Python says beside what lineRequest does, sdkAnswer what its API answers.
const (
	sdkFields = "Accept-Encoding: gzip, deflate\r\nX-Stainless-Lang: python\r\nX-Stainless-Package-Version: 1.99.1\r\n" +
		"X-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\nX-Stainless-Runtime-Version: 3.12.3\r\n" +
		"X-Stainless-Async: false\r\nx-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\n"
	sdkAnswer = "Date: Wed, 04 Mar 2026 05:06:07 GMT\r\nConnection: keep-alive\r\nServer: cloudflare\r\n" +
		"openai-organization: demo\r\nopenai-processing-ms: 45\r\nopenai-version: 2020-10-01\r\n" +
		"x-ratelimit-limit-requests: 10000000\r\nx-ratelimit-limit-tokens: 30000000\r\nx-ratelimit-remaining-requests: 9999999\r\n" +
		"x-ratelimit-remaining-tokens: 29999999\r\nx-ratelimit-reset-requests: 6ms\r\nx-ratelimit-reset-tokens: 0s\r\n" +
		"strict-transport-security: max-age=31536000; includeSubDomains; preload\r\n"
)

// BenchmarkLineSDK is BenchmarkLine with the fields of a library and of an API that people use, rate limits among them.
func BenchmarkLineSDK(b *testing.B) {
	address, _ := lineTo(b, ownClient, lineProvider(b, lineContent, sdkAnswer))
	b.SetParallelism(32 / runtime.GOMAXPROCS(0))
	b.ReportAllocs()
	began := processTime(b)
	defer func() { b.ReportMetric(float64((processTime(b)-began).Nanoseconds())/float64(b.N), "cpu-ns/op") }()
	b.RunParallel(func(pb *testing.PB) {
		caller := lineCall(b, address, http.MethodPost)
		caller.request = lineRequest(http.MethodPost, lineContent, sdkFields)
		copy(caller.request[len(caller.request)-lineContent:], `{"model":"gpt-4o","messages":[{"role":"user","content":"`)
		copy(caller.request[len(caller.request)-4:], `"}]}`)
		for pb.Next() {
			if err := caller.call(); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// processTime is what the processors have spent on this process.
func processTime(tb testing.TB) time.Duration {
	tb.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// While a request of any kind waits for its provider, nobody reads its connection.
func TestNothingIsReadInTheBackground(t *testing.T) {
	const tries = 20 // that of a request without content may begin before the handler does
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for try := 1; ; try++ {
			if quiet := quietWhileServed(t, method); quiet {
				break
			} else if method == http.MethodPost || try == tries {
				t.Fatalf("%s: net/http reads in the background", method)
			}
		}
	}
}

func quietWhileServed(t *testing.T, method string) (quiet bool) {
	t.Helper()
	hold, held := make(chan struct{}), make(chan struct{}, 1)
	address, _ := line(t, &waiting{hold: hold, held: held}, 0)
	caller := lineCall(t, address, method)
	ended := make(chan error, 1)
	go func() { ended <- caller.call() }()
	<-held
	stacks := make([]byte, 1<<20)
	for until := time.Now().Add(time.Second); !quiet && time.Now().Before(until); runtime.Gosched() {
		quiet = !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("connReader).backgroundRead"))
	}
	close(hold)
	if err := <-ended; err != nil {
		t.Errorf("%s: %v", method, err)
	}
	return quiet
}

// waiting is a provider that answers when it is told to.
type waiting struct {
	instant
	hold, held chan struct{}
}

func (w *waiting) Do(ctx context.Context, q *upstream.Request, a *upstream.Response) error {
	err := w.instant.Do(ctx, q, a)
	a.Fields = append(a.Fields, upstream.Field{Name: "Content-Length", Value: "0"})
	w.held <- struct{}{}
	<-w.hold
	return err
}
