package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// peer is one way from the clients to the upstream.
type peer struct {
	address  string
	prefix   string   // before the upstream's paths
	process  *process // nil without a proxy
	counters string   // URL of the proxy's heap counters
}

// The columns of the table.
const (
	directPeer = iota
	rpPeer
	edgePeer
	peers
)

var peerNames = [peers]string{"direct", "rp", "edge"}

const (
	edgeProvider = "up"
	readyTimeout = 10 * time.Second
	readyPoll    = 10 * time.Millisecond

	mallocsMetric   = "go_memstats_mallocs_total"
	allocatedMetric = "go_memstats_alloc_bytes_total"

	maxMetricsBytes = 4 << 20
)

// buildEdge builds edge as the Makefile does, and returns the binary's path.
func buildEdge(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "edge")
	cmd := command(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./cmd/edge")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build ../cmd/edge: %w\n%s", err, output)
	}
	return binary, nil
}

// startPeers starts both proxies afresh; the caller stops them. direct is the upstream itself.
func startPeers(ctx context.Context, binary, upstream string) ([peers]*peer, error) {
	all := [peers]*peer{directPeer: {address: upstream}}
	process, at, err := startSelf(ctx, rpCommand, upstream)
	if err != nil {
		return all, err
	}
	all[rpPeer] = &peer{address: at.Serving, process: process, counters: "http://" + at.Control + "/"}
	if all[edgePeer], err = startEdge(ctx, binary, upstream); err != nil {
		process.stop()
	}
	return all, err
}

// startEdge returns when edge is ready.
func startEdge(ctx context.Context, binary, upstream string) (*peer, error) {
	ports, err := freeAddresses(ctx, 2)
	if err != nil {
		return nil, err
	}
	process, err := start(ctx, binary, edgeEnvironment(os.Environ(), upstream, ports[0], ports[1]), "run")
	if err != nil {
		return nil, err
	}
	if err := awaitReady(ctx, process, "http://"+ports[1]+"/readyz"); err != nil {
		process.stop()
		return nil, err
	}
	return &peer{address: ports[0], prefix: "/" + edgeProvider, process: process, counters: "http://" + ports[1] + "/metrics"}, nil
}

// edgeEnvironment is environ without what would configure edge, and with what shall: one provider whose limits no
// workload reaches.
func edgeEnvironment(environ []string, upstream, listen, admin string) []string {
	environ = slices.DeleteFunc(slices.Clone(environ), func(variable string) bool { return strings.HasPrefix(variable, "EDGE_") })
	return append(environ,
		"EDGE_LISTEN="+listen,
		"EDGE_ADMIN_LISTEN="+admin,
		"EDGE_PROFILE=high-throughput",
		"EDGE_CONCURRENCY=200",
		"EDGE_LOG_LEVEL=warn",
		"EDGE_PROVIDERS_UP_BASE_URL=http://"+upstream)
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

func awaitReady(ctx context.Context, p *process, url string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		if _, err := fetch(ctx, url); err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("edge ended before it was ready (%s); its log is above", p.how)
		case <-ctx.Done():
			return fmt.Errorf("edge: not ready after %v", readyTimeout)
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

// usage is what a proxy has used since its start.
type usage struct {
	cpu            time.Duration
	mallocs, bytes float64
}

// heapUsage and cpuUsage fill in one part each, so that reading the first, which costs the proxy CPU time, can come
// before the second when a turn begins and behind it at its end.
func (p *peer) heapUsage(ctx context.Context, u *usage) error {
	text, err := fetch(ctx, p.counters)
	if err != nil {
		return err
	}
	mallocs, err := metricValue(string(text), mallocsMetric)
	allocated, err2 := metricValue(string(text), allocatedMetric)
	u.mallocs, u.bytes = mallocs, allocated
	return errors.Join(err, err2)
}

func (p *peer) cpuUsage(u *usage) error {
	t, err := cpuTimeOf(p.process.pid)
	u.cpu = t.own
	return err
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
