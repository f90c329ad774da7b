package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/demo"
)

// TestSDKBrokenConnection: where the SDK without edge meets a broken connection, with edge it meets 502, and tries
// again as often.
func TestSDKBrokenConnection(t *testing.T) {
	everySDK(t, func(t *testing.T, s sdk) {
		p := newPair(t, s, demo.Config{})
		f := func(fault string, tries int) {
			t.Helper()
			for retries := range tries {
				fields := []string{"X-Demo-Fault", fault}
				want := p.try(bounded(t), p.directly(), manner{retries: retries}, fields...)
				got := p.try(bounded(t), p.throughEdge(), manner{retries: retries}, fields...)
				p.served()
				attempts := "0"
				if retries == 1 {
					attempts = "0 0"
				}
				if want.failure != "broken" || want.attempts != attempts {
					t.Errorf("%s, directly: got %+v", fault, want)
				}
				if got.failure != "answer" || got.status != http.StatusBadGateway || got.attempts != strings.ReplaceAll(attempts, "0", "502") || got.requests != want.requests {
					t.Errorf("%s, %d retries:\nthrough edge %+v\ndirectly     %+v", fault, retries, got, want)
				}
			}
		}
		f("reset", 2)
		f("head-close", 2)
		for _, fault := range []string{"close", "not-http", "bad-status", "bad-field", "bad-length", "head-reset", "endless-head"} {
			f(fault, 1)
		}
		p.same(manner{}, "X-Demo-Fault", "both-lengths") // chunks win, as RFC 9112, 6.3 lets a proxy choose
	})
}

// TestSDKBrokenAnswer: an answer that breaks off is an error to the SDK, never a clean end, with the text that came
// before.
func TestSDKBrokenAnswer(t *testing.T) {
	everySDK(t, func(t *testing.T, s sdk) {
		p := newPair(t, s, demo.Config{})
		f := func(fault string, stream bool) {
			t.Helper()
			got := p.same(manner{stream: stream}, "X-Demo-Fault", fault)
			p.served()
			if got.failure != "broken" || got.requests != 1 || stream != (got.text != "") {
				t.Errorf("%s, stream %t: got %+v, want an error, and the text before it", fault, stream, got)
			}
		}
		for _, fault := range []string{"body-reset", "short", "short-chunked"} {
			f(fault, false)
			f(fault, true)
		}
		p.edge.settles(6, "edge_rejected_total", `reason="upstream_error"`)
		p.edge.settles(0, "edge_in_flight")

		// These end as HTTP does. What the SDK makes of them is its own affair; it is the same through edge.
		for _, stream := range []bool{false, true} {
			p.same(manner{stream: stream}, "X-Demo-Fault", "cut-event")
			if got := p.same(manner{stream: stream}, "X-Demo-Fault", "error-event"); stream && got.failure == "" {
				t.Errorf("error-event: got %+v, want an error", got)
			}
			if got := p.same(manner{stream: stream}, "X-Demo-Fault", "trickle", "X-Demo-Trickle", "0s", "X-Demo-Tokens", "8"); got.failure != "" {
				t.Errorf("trickle: got %+v, want a whole answer", got)
			}
		}
	})
}

// TestSDKTimeout: the SDK's own deadline ends a call that the provider never answers. The provider sees each attempt
// go.
func TestSDKTimeout(t *testing.T) {
	const short = 500 * time.Millisecond
	everySDK(t, func(t *testing.T, s sdk) {
		p := newPair(t, s, demo.Config{})
		gone := int64(0)
		f := func(fault string, how manner) {
			t.Helper()
			got := p.same(how, "X-Demo-Fault", fault)
			if got.failure != "deadline" || got.requests < 1 {
				t.Errorf("%s: got %+v, want a deadline", fault, got)
			}
			gone += 2 * got.requests
			p.left(gone)
			p.served()
		}
		f("silence", manner{timeout: short})
		f("silence", manner{timeout: short, stream: true})
		f("silence", manner{timeout: short, retries: 1}) // one SDK tries again, the other does not
		f("slow-head", manner{timeout: short})

		// A context's end is for the whole call.
		for _, at := range []place{p.directly(), p.throughEdge()} {
			ctx, cancel := context.WithTimeout(t.Context(), short)
			defer cancel()
			if got := p.try(ctx, at, manner{retries: 2}, "X-Demo-Fault", "silence"); got.failure != "deadline" || got.requests != 1 {
				t.Errorf("%s: got %+v", at.base, got)
			}
			gone++
			p.left(gone)
		}
	})
}

// left waits until so many calls in all were cancelled at the provider, and all that they held is free.
func (p *pair) left(cancelled int64) {
	p.t.Helper()
	const soon = 2 * time.Second // as in freed
	var s demo.Stats
	if !until(soon, func() bool { s = p.provider.Provider.Stats(); return s.Cancelled == cancelled && s.InFlight == 0 }) {
		p.t.Errorf("provider: got %d cancelled and %d in flight after %v, want %d and 0", s.Cancelled, s.InFlight, soon, cancelled)
	}
	p.edge.settles(0, "edge_in_flight")
}

// TestSDKSilentProvider: edge ends the wait for a silent provider with 504, which the SDK retries by itself.
func TestSDKSilentProvider(t *testing.T) {
	everySDK(t, func(t *testing.T, s sdk) {
		timeout := "EDGE_PROVIDERS_" + strings.ToUpper(s.name) + "_TIMEOUT=500ms"
		idle := "EDGE_PROVIDERS_" + strings.ToUpper(s.name) + "_STREAM_IDLE_TIMEOUT=500ms"
		p := newPair(t, s, demo.Config{}, timeout, idle)
		gone := int64(0)
		f := func(fault string, how manner, attempts string) {
			t.Helper()
			got := p.try(bounded(t), p.throughEdge(), how, "X-Demo-Fault", fault, "X-Demo-Id", "x")
			if got.failure != "answer" || got.status != http.StatusGatewayTimeout || got.attempts != attempts || got.requests != int64(len(strings.Fields(attempts))) {
				t.Errorf("%s: got %+v, want 504 and the attempts %s", fault, got, attempts)
			}
			gone += got.requests
			p.left(gone)
			p.served()
		}
		f("silence", manner{}, "504")
		f("silence", manner{stream: true}, "504")
		f("silence", manner{retries: 1}, "504 504")
		f("slow-head", manner{}, "504")

		// One that falls silent in mid-answer is cut off.
		for _, stream := range []bool{false, true} {
			got := p.try(bounded(t), p.throughEdge(), manner{stream: stream}, "X-Demo-Fault", "stall")
			if got.failure != "broken" || stream != (got.text != "") {
				t.Errorf("stall, stream %t: got %+v, want an error, and the text before it", stream, got)
			}
			gone++
			p.left(gone)
		}
	})
}

// TestSDKCancelledStream: a caller that leaves in mid-stream ends it at the provider, too.
func TestSDKCancelledStream(t *testing.T) {
	everySDK(t, func(t *testing.T, s sdk) {
		p := newPair(t, s, demo.Config{})
		for i, at := range []place{p.directly(), p.throughEdge()} {
			ctx, cancel := context.WithCancel(bounded(t))
			got := p.try(ctx, at, manner{stream: true, retries: 2, began: cancel}, "X-Demo-Fault", "stall")
			cancel()
			if got.failure != "cancelled" || got.text == "" || got.requests != 1 {
				t.Errorf("%s: got %+v, want some text and a cancelled stream", at.base, got)
			}
			p.left(int64(i + 1))
		}
		p.edge.settles(1, "edge_client_gone_total", `stage="streaming"`)
		if got := p.same(manner{}); got.failure != "" {
			t.Errorf("the next call: got %+v", got)
		}
	})
}
