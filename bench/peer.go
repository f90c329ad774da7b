package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// peer is one way from the clients to the upstream.
type peer struct {
	address   string
	prefixes  []string // before the upstream's paths; requests take them in turn
	process   *process // nil without a proxy
	upstream  *process // this peer's own, once it is in a race
	counters  string   // URL of the proxy's heap counters; "" if it has none
	idleBytes float64  // resident once it was ready
}

// The peers' names, which are the columns' heads.
const (
	directPeer  = "direct"
	rpPeer      = "rp"
	edgePeer    = "edge"
	nginxPeer   = "nginx"
	haproxyPeer = "haproxy"
	caddyPeer   = "caddy"
	vmauthPeer  = "vmauth"

	traefikPeer     = "traefik"
	traefikFastPeer = "traefik-fast" // with its experimental fastProxy

	takeoverPeer = "edge, takeover" // with client.takeover
)

// site is what peers need of a run.
type site struct {
	dir      string // for what they write; removed behind the run
	edge     string // the binary
	upstream string // its address
	files    int    // how many a process may open
}

// starter starts a peer afresh for a workload; the caller stops it.
type starter func(context.Context, *site, workload) (*peer, error)

const (
	readyTimeout = 20 * time.Second
	readyPoll    = 5 * time.Millisecond

	mallocsMetric   = "go_memstats_mallocs_total"
	allocatedMetric = "go_memstats_alloc_bytes_total"
	heapMetric      = "go_memstats_heap_inuse_bytes"
	stackMetric     = "go_memstats_stack_inuse_bytes"

	maxMetricsBytes = 4 << 20
)

func startDirect(_ context.Context, s *site, _ workload) (*peer, error) {
	return &peer{address: s.upstream, prefixes: []string{""}}, nil
}

func startRP(ctx context.Context, s *site, _ workload) (*peer, error) {
	process, at, err := startSelf(ctx, rpCommand, s.upstream)
	if err != nil {
		return nil, err
	}
	return ready(&peer{address: at.Serving, prefixes: []string{""}, process: process, counters: "http://" + at.Control + "/"})
}

// ready takes what a peer has resident before the first request, and stops it with an error.
func ready(p *peer) (*peer, error) {
	resident, err := p.process.resident(residentNow)
	if err != nil {
		p.stop()
		return nil, err
	}
	p.idleBytes = float64(resident)
	return p, nil
}

func (p *peer) stop() {
	if p.process != nil {
		p.process.stop()
	}
	if p.upstream != nil {
		p.upstream.stop()
	}
}

// blame adds to an error what the proxy and the upstream have to do with it.
func (p *peer) blame(err error) error {
	if p.process != nil {
		err = p.process.blame("the proxy", err)
	}
	if p.upstream != nil {
		err = p.upstream.blame("the upstream", err)
	}
	return err
}

// freeAddresses returns loopback addresses, all different, on which nobody listens yet.
func freeAddresses(ctx context.Context, count int) ([]string, error) {
	list := make([]string, count)
	for i := range list {
		listener, err := listenLoopback(ctx)
		if err != nil {
			return nil, err
		}
		defer listener.Close() // not before the last is found
		list[i] = listener.Addr().String()
	}
	return list, nil
}

// awaitReady returns when url answers 200.
func awaitReady(ctx context.Context, p *process, url string, poll time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		_, err := fetch(ctx, url)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return p.blame("the proxy", errors.New("not ready"))
		case <-ctx.Done():
			return p.blame("the proxy", fmt.Errorf("not ready after %v: %w", readyTimeout, err))
		case <-tick.C:
		}
	}
}

// control asks the proxies' control ports. It keeps no connection, which would be one more in the proxy.
var control = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: readyTimeout}

func fetch(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := control.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: got status %s, want 200", url, response.Status)
	}
	return io.ReadAll(io.LimitReader(response.Body, maxMetricsBytes))
}

// heap is what a Go proxy counts itself.
type heap struct {
	mallocs, allocated float64 // since its start
	inUse, stacks      float64 // bytes, now
}

func (p *peer) heap(ctx context.Context) (heap, error) {
	if p.counters == "" {
		return heap{}, nil
	}
	content, err := fetch(ctx, p.counters)
	if err != nil {
		return heap{}, err
	}
	text := string(content)
	mallocs, err := metricValue(text, mallocsMetric)
	allocated, err2 := metricValue(text, allocatedMetric)
	inUse, err3 := metricValue(text, heapMetric)
	stacks, err4 := metricValue(text, stackMetric)
	return heap{mallocs, allocated, inUse, stacks}, errors.Join(err, err2, err3, err4)
}

// metricValue reads a metric without labels from the Prometheus text format.
func metricValue(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(rest), 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}
