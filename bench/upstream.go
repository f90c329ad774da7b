package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"
)

const (
	upstreamCommand = "upstream"
	stampedPath     = "/stamped" // says whether plugins do what they should
)

// addresses is what a child that serves says on its first line, as JSON.
type addresses struct {
	Serving string `json:"serving"`
	Control string `json:"control,omitempty"` // of its heap counters
}

// runUpstream answers all workloads on a loopback port until ctx ends.
func runUpstream(ctx context.Context, stdout io.Writer) error {
	listener, err := listenLoopback(ctx)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(stdout).Encode(addresses{Serving: listener.Addr().String()}); err != nil {
		return err
	}
	return serveUpstream(ctx, listener)
}

func listenLoopback(ctx context.Context) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
}

// serveUpstream ends without error when ctx does. It is no net/http server: it would take as much of the cores as a
// good proxy does, and what it takes, the proxies cannot show. It sets no timeouts: only this program's own proxies
// call.
func serveUpstream(ctx context.Context, listener net.Listener) error {
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	answers := map[string]answerer{}
	for _, w := range served() {
		answers[w.method+" "+w.path()] = w.answerer()
	}
	probe := workloads[0].answerer()
	probe.stamped = true
	answers[http.MethodGet+" "+stampedPath] = probe
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			answerAll(conn, answers)
		}()
	}
}

// answerer answers the requests of one workload.
type answerer struct {
	bodyBytes int
	stamped   bool // and wants the header that W9's plugins set
	delay     time.Duration
	send      func(io.Writer) error
}

func answerAll(conn net.Conn, answers map[string]answerer) {
	r := bufio.NewReaderSize(conn, readBytes)
	for {
		a, err := readRequest(r, answers)
		if err != nil {
			if !errors.Is(err, io.EOF) { // which is the end between two requests
				text := err.Error()
				fmt.Fprintf(conn, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
			}
			return
		}
		if a.delay > 0 {
			time.Sleep(a.delay)
		}
		if a.send(conn) != nil {
			return // the client sees what is missing
		}
	}
}

// readRequest wants a body that arrived whole: a proxy may not gain by losing bytes.
func readRequest(r *bufio.Reader, answers map[string]answerer) (answerer, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return answerer{}, err
	}
	what, version, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" HTTP/"))
	a, ok := answers[string(what)]
	if !ok || !bytes.Equal(version, []byte("1.1")) {
		return a, fmt.Errorf("got %q", line)
	}
	f, err := readFields(r)
	switch {
	case err != nil:
		return a, err
	case f.close:
		return a, errors.New("the connection is to be closed, want it kept")
	case a.stamped && !f.stamped:
		return a, errors.New("no plugin has set x-stamp: edge")
	case f.chunked:
		return a, takeChunks(r, a.bodyBytes, nil)
	case max(f.length, 0) != a.bodyBytes:
		return a, fmt.Errorf("got a body of %d bytes, want %d", f.length, a.bodyBytes)
	}
	return a, take(r, a.bodyBytes, nil)
}

func (w workload) answerer() answerer {
	a := answerer{bodyBytes: w.bodyBytes, delay: w.delay, send: w.plain()}
	if w.events > 0 {
		a.send = w.stream()
	}
	return a
}

// providerFields are what OpenAI answers beside what every server does.
const providerFields = "\r\nServer: cloudflare\r\nX-Request-Id: req_0123456789abcdef0123456789abcdef\r\n" +
	"Openai-Organization: user-0123456789abcdef\r\nOpenai-Processing-Ms: 45\r\nOpenai-Version: 2020-10-01\r\n" +
	"X-Ratelimit-Limit-Requests: 10000000\r\nX-Ratelimit-Limit-Tokens: 30000000\r\nX-Ratelimit-Remaining-Requests: 9999999\r\n" +
	"X-Ratelimit-Remaining-Tokens: 29999999\r\nX-Ratelimit-Reset-Requests: 6ms\r\nX-Ratelimit-Reset-Tokens: 0s\r\n" +
	"Strict-Transport-Security: max-age=31536000; includeSubDomains; preload\r\nX-Content-Type-Options: nosniff"

// answerHead has what every server says, so that no proxy has to add it.
func answerHead(kind, framing string) []byte {
	date := time.Now().UTC().Format(http.TimeFormat)
	return []byte("HTTP/1.1 200 OK\r\nDate: " + date + "\r\nContent-Type: " + kind + "\r\n" + framing + "\r\n\r\n")
}

// plain answers at once, with Content-Length.
func (w workload) plain() func(io.Writer) error {
	framing := "Content-Length: " + strconv.Itoa(w.answerBytes)
	if w.fields {
		framing += providerFields
	}
	whole := append(answerHead("application/json", framing), jsonOf(w.answerBytes)...)
	return func(conn io.Writer) error {
		_, err := conn.Write(whole)
		return err
	}
}

// stream answers event by event, each in a chunk and a write of its own. Those that come apart say when they were sent.
func (w workload) stream() func(io.Writer) error {
	head := answerHead("text/event-stream", "Transfer-Encoding: chunked")
	chunk := fmt.Appendf(nil, "%x\r\n%s\r\n", eventBytes, newEvent())
	return func(conn io.Writer) error {
		one := bytes.Clone(chunk)
		event := one[bytes.IndexByte(one, '\n')+1:][:eventBytes]
		next := time.Now()
		for i := range w.events {
			if w.apart > 0 {
				time.Sleep(time.Until(next))
				next = next.Add(w.apart)
				stamp(event, monotonic())
			}
			piece := one
			if i == 0 {
				piece = slices.Concat(head, one)
			}
			if _, err := conn.Write(piece); err != nil {
				return err
			}
		}
		_, err := io.WriteString(conn, "0\r\n\r\n")
		return err
	}
}

// serve is for the control port of a peer of our own, and for that peer. It ends without error when ctx does.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(listener); ctx.Err() == nil {
		return err
	}
	return nil
}
