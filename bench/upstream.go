package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
)

const upstreamCommand = "upstream"

// addresses is what a child that serves says on its first line, as JSON.
type addresses struct {
	Serving string `json:"serving"`
	Control string `json:"control,omitempty"` // of its heap counters
}

// serveUpstream answers all workloads on a loopback port until ctx ends.
func serveUpstream(ctx context.Context, stdout io.Writer) error {
	listener, err := listenLoopback(ctx)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(stdout).Encode(addresses{Serving: listener.Addr().String()}); err != nil {
		return err
	}
	return serve(ctx, listener, upstreamHandler())
}

func listenLoopback(ctx context.Context) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
}

// serve ends without error when ctx does. It sets no timeouts: only this program's own processes call.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(listener); ctx.Err() == nil {
		return err
	}
	return nil
}

// upstreamHandler answers with constants, and 400 to a body that did not arrive whole: a proxy may not gain by losing
// bytes.
func upstreamHandler() http.Handler {
	mux := http.NewServeMux()
	for _, w := range workloads {
		answer := w.plain
		if w.events > 0 {
			answer = w.stream
		}
		send := answer()
		mux.HandleFunc(w.method+" "+w.path(), func(rw http.ResponseWriter, r *http.Request) {
			if n, err := io.Copy(io.Discard, r.Body); err != nil || n != int64(w.bodyBytes) {
				http.Error(rw, fmt.Sprintf("got a body of %d bytes (%v), want %d", n, err, w.bodyBytes), http.StatusBadRequest)
				return
			}
			send(rw)
		})
	}
	return mux
}

// plain answers at once, with Content-Length.
func (w workload) plain() func(http.ResponseWriter) {
	content := jsonOf(w.answerBytes)
	kind, length := []string{"application/json"}, []string{strconv.Itoa(len(content))}
	return func(rw http.ResponseWriter) {
		rw.Header()["Content-Type"], rw.Header()["Content-Length"] = kind, length
		_, _ = rw.Write(content) // the client sees what is missing
	}
}

// stream answers event by event, each flushed, back to back.
func (w workload) stream() func(http.ResponseWriter) {
	one := event()
	kind := []string{"text/event-stream"}
	return func(rw http.ResponseWriter) {
		rw.Header()["Content-Type"] = kind
		flush := http.NewResponseController(rw).Flush
		for range w.events {
			if _, err := rw.Write(one); err != nil || flush() != nil {
				return // the client sees what is missing
			}
		}
	}
}
