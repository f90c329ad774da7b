package demo_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edge-proxy/edge/proxy/demo"
)

// pipes is a network inside a synctest bubble: net/http serves and calls over it, and time is the bubble's.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	p.conns <- far
	return near, nil
}

// bubble runs f with a provider behind c, and client calls that take no time of their own.
func bubble(t *testing.T, c demo.Config, f func(t *testing.T, p *demo.Provider, client *http.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		p := demo.New(c)
		server := &http.Server{Handler: p}
		transport := &http.Transport{DialContext: network.dial, DisableKeepAlives: true}
		go func() { _ = server.Serve(network) }()
		defer func() {
			transport.CloseIdleConnections()
			_ = server.Close()
		}()
		f(t, p, &http.Client{Transport: transport})
	})
}

// newPost takes an URL, or a path where the host does not matter.
func newPost(ctx context.Context, url, body string, header ...string) *http.Request {
	if url[0] == '/' {
		url = "http://demo" + url
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

// do returns the status, the headers and the body of one call.
func do(t *testing.T, client *http.Client, url, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	resp, err := client.Do(newPost(t.Context(), url, body, header...))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

func TestDelayComesBeforeTheAnswer(t *testing.T) {
	bubble(t, demo.Config{Delay: 250 * time.Millisecond}, func(t *testing.T, _ *demo.Provider, client *http.Client) {
		f := func(want time.Duration, status int, path, body string, header ...string) {
			t.Helper()
			start := time.Now()
			got, _, text := do(t, client, path, body, header...)
			if took := time.Since(start); took != want || got != status {
				t.Errorf("took %v, status %d: %s; want %v, status %d", took, got, text, want, status)
			}
		}
		f(250*time.Millisecond, 200, chatPath, hello)
		f(250*time.Millisecond, 200, embeddingsPath, `{"model":"m","input":"x","dimensions":2}`)
		f(2*time.Second, 200, chatPath, hello, "X-Demo-Delay", "2s")
		f(0, 200, chatPath, hello, "X-Demo-Delay", "0s")
		f(250*time.Millisecond, 503, chatPath, hello, "X-Demo-Status", "503")
		f(0, 400, chatPath, `{}`)
		f(0, 404, "/v1/nothing", `{}`)
	})
}

func TestStreamKeepsItsPace(t *testing.T) {
	f := func(path, body, token string, header ...string) {
		t.Helper()
		bubble(t, demo.Config{Delay: time.Second, TokensPerSecond: 20, Tokens: 5}, func(t *testing.T, _ *demo.Provider, client *http.Client) {
			start := time.Now()
			resp, err := client.Do(newPost(t.Context(), path, body, header...))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if took := time.Since(start); took != time.Second {
				t.Errorf("first byte after %v, want 1s", took)
			}
			var at []time.Duration
			for buf := make([]byte, 4096); ; {
				n, err := resp.Body.Read(buf)
				for range strings.Count(string(buf[:n]), token) {
					at = append(at, time.Since(start)-time.Second)
				}
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			want := []time.Duration{0, 50e6, 100e6, 150e6, 200e6}
			if fmt.Sprint(at) != fmt.Sprint(want) {
				t.Errorf("%s: tokens at %v, want %v", path, at, want)
			}
		})
	}
	f(chatPath, strings.Replace(hello, "{", `{"stream":true,`, 1), `"delta":{"content":`)
	f(messagesPath, strings.Replace(hello, "{", `{"stream":true,"max_tokens":9,`, 1), `"text_delta"`)
}

func TestCancelledRequestStopsAtOnce(t *testing.T) {
	f := func(name string, c demo.Config, body string) {
		t.Helper()
		bubble(t, c, func(t *testing.T, p *demo.Provider, client *http.Client) {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				if resp, err := client.Do(newPost(ctx, chatPath, body)); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}()
			time.Sleep(10 * time.Second) // in the bubble: until the request is under way
			if got := p.Stats(); got.InFlight != 1 || got.Cancelled != 0 {
				t.Fatalf("%s: before: %+v", name, got)
			}
			start := time.Now()
			cancel()
			<-ended
			synctest.Wait()
			got, want := p.Stats(), demo.Stats{Requests: 1, MaxInFlight: 1, Cancelled: 1}
			got.MaxStreams = 0
			if got != want || time.Since(start) != 0 {
				t.Errorf("%s: %v later: %+v, want %+v at once", name, time.Since(start), got, want)
			}
		})
	}
	stream := strings.Replace(hello, "{", `{"stream":true,`, 1)
	f("delay", demo.Config{Delay: time.Hour}, hello)
	f("delay of a stream", demo.Config{Delay: time.Hour}, stream)
	f("stream", demo.Config{TokensPerSecond: 0.001}, stream)
}

func TestMaxInFlight(t *testing.T) {
	bubble(t, demo.Config{Delay: time.Second, TokensPerSecond: 32}, func(t *testing.T, p *demo.Provider, client *http.Client) {
		var calls sync.WaitGroup
		run := func(n int, body string) {
			for range n {
				calls.Go(func() { do(t, client, chatPath, body) })
			}
		}
		run(5, hello)
		run(3, strings.Replace(hello, "{", `{"stream":true,`, 1))
		time.Sleep(1500 * time.Millisecond)
		want := demo.Stats{Requests: 8, InFlight: 3, MaxInFlight: 8, Streams: 3, MaxStreams: 3}
		if got := p.Stats(); got != want {
			t.Errorf("while the streams run: %+v, want %+v", got, want)
		}
		p.ResetMax()
		want.MaxInFlight = 3
		if got := p.Stats(); got != want {
			t.Errorf("after ResetMax: %+v, want %+v", got, want)
		}
		calls.Wait()
		want.InFlight, want.Streams = 0, 0
		if got := p.Stats(); got != want {
			t.Errorf("at the end: %+v, want %+v", got, want)
		}
		p.ResetMax()
		if got := p.Stats(); got.MaxInFlight != 0 || got.MaxStreams != 0 {
			t.Errorf("after ResetMax of an idle provider: %+v", got)
		}
	})
}
