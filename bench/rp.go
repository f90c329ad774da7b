package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"runtime"
	"sync"
)

const (
	rpCommand = "rp"

	rpIdleConns   = 16 << 10 // above what any workload opens
	rpBufferBytes = 32 << 10
)

// serveRP is a reverse proxy of the standard library, tuned as far as its own settings go, on a loopback port until
// ctx ends. A second port has its heap counters.
func serveRP(ctx context.Context, upstream string, stdout io.Writer) error {
	target, err := url.Parse("http://" + upstream)
	if err != nil {
		return err
	}
	listener, err := listenLoopback(ctx)
	if err != nil {
		return err
	}
	control, err := listenLoopback(ctx)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(stdout).Encode(addresses{listener.Addr().String(), control.Addr().String()}); err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() { failed <- serve(ctx, control, http.HandlerFunc(writeHeapCounters)) }()
	go func() { failed <- serve(ctx, listener, newReverseProxy(target)) }()
	return <-failed
}

func newReverseProxy(target *url.URL) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			if r.Out.Body != nil {
				r.Out.Body = &endedBody{ReadCloser: r.Out.Body}
			}
		},
		FlushInterval: -1, // each event as it comes
		Transport:     &http.Transport{MaxIdleConnsPerHost: rpIdleConns, DisableCompression: true},
		BufferPool:    &copyBuffers{sync.Pool{New: func() any { return new([rpBufferBytes]byte) }}},
	}
}

// endedBody goes on to answer io.EOF once the body has ended. http.Transport reads once more behind the last byte, when
// the upstream may have begun to answer already; net/http's server closes a request's body when the answer begins, and
// then that read fails, at which Transport drops the connection in the midst of a stream (https://go.dev/issue/40747).
// Without this, W4a loses a stream within the first second.
type endedBody struct {
	io.ReadCloser
	ended bool
}

func (b *endedBody) Read(p []byte) (int, error) {
	if b.ended {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p)
	b.ended = errors.Is(err, io.EOF)
	return n, err
}

// copyBuffers is a httputil.BufferPool.
type copyBuffers struct{ free sync.Pool }

func (b *copyBuffers) Get() []byte { return b.free.Get().(*[rpBufferBytes]byte)[:] }
func (b *copyBuffers) Put(p []byte) {
	b.free.Put((*[rpBufferBytes]byte)(p))
}

// writeHeapCounters writes them under the names that edge's /metrics has.
func writeHeapCounters(w http.ResponseWriter, _ *http.Request) {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	fmt.Fprintf(w, "%s %d\n%s %d\n", mallocsMetric, stats.Mallocs, allocatedMetric, stats.TotalAlloc)
	fmt.Fprintf(w, "%s %d\n%s %d\n", heapMetric, stats.HeapInuse, stackMetric, stats.StackInuse)
}
