package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

func TestGuestReadsContentThatPassesAFilter(t *testing.T) {
	e := start(t, one(provider(t, giveBack), before(filter(t, "r", "observe")),
		around(filter(t, "f", "upper"), script(t, "g", "q: upper 0"), script(t, "k", "i: features 1"))))
	for _, size := range []int{100, 40 << 10} {
		answer, got := call(t, client(t), "POST", e.url+"/up/", strings.Repeat("x", size))
		if answer.StatusCode != 200 || got != strings.Repeat("X", size) {
			t.Errorf("%d bytes: got %d %.200s", size, answer.StatusCode, got)
		}
	}
}

func TestGuestReadsBothContentsWithTheAnswer(t *testing.T) {
	var log logged
	e := start(t, one(provider(t, giveBack), around(script(t, "g", "i: features 3\ns: upper 1\ns: log <{body}>")),
		func(c *proxy.Config, _ *proxy.Provider) { c.Logger = log.logger() }))
	if _, got := call(t, client(t), "POST", e.url+"/up/", "content"); got != "CONTENT" || !strings.Contains(log.String(), "<content>") {
		t.Errorf("got %q, %s", got, log.String())
	}
}

func TestGuestMakesAGetAHead(t *testing.T) {
	for _, steps := range []string{"q: method HEAD", "i: features 2\nq: method HEAD"} {
		e := start(t, one(provider(t, mirror), around(script(t, "g", steps))))
		if answer, got := call(t, client(t), "GET", e.url+"/up/", ""); answer.StatusCode != 200 || got != "" {
			t.Errorf("got %d %q %v", answer.StatusCode, got, answer.Header)
		}
	}
}

func TestGuestLooksForTrailersBeforeTheyAreThere(t *testing.T) {
	up := provider(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, r.Trailer["X-Sum"])
	})
	e := start(t, one(up, around(script(t, "g", "i: features 4\nq: log {2:x-sum}"))))
	body := strings.Repeat("x", 40<<10)
	_, reader := raw(t, e.url, fmt.Sprintf("POST /up/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n%x\r\n%s\r\n0\r\nX-Sum: 3\r\n\r\n", len(body), body))
	if _, text := next(t, reader); text != "[3]" {
		t.Errorf("got %q", text)
	}
}

func TestRouteGuestSetsATarget(t *testing.T) {
	for uri, want := range map[string]string{"/up/a": "/a", "/upload/a?b": "/upload/a?b", "/up?b": "/?b", "/up": "/"} {
		e := start(t, one(provider(t, mirror), before(script(t, "g", "q: uri "+uri, requestOnly))))
		if _, got := call(t, client(t), "GET", e.url+"/up/x", ""); !strings.HasPrefix(got, "GET "+want+"\n") {
			t.Errorf("%s: got %.40s, want %s", uri, got, want)
		}
	}
}

// A wait that took all the time there was ends the exchange, whether the plugin may be skipped or not.
func TestBusyPluginThatMayBeSkipped(t *testing.T) {
	hold := make(chan struct{})
	up := provider(t, func(http.ResponseWriter, *http.Request) { <-hold })
	e := start(t, one(up, before(script(t, "few", "q: set 0 x-a b", instances(1), skipping)), func(c *proxy.Config, _ *proxy.Provider) {
		c.QueueTimeout = 100 * time.Millisecond
	}))
	defer close(hold)
	go func() {
		request, _ := http.NewRequestWithContext(t.Context(), "GET", e.url+"/up/", nil)
		if got, err := client(t).Do(request); err == nil {
			got.Body.Close()
		}
	}()
	if !settles(5*time.Second, func() bool { return e.sum("edge_in_flight") == 1 }) {
		t.Fatal("the first request is not in flight")
	}
	answer, got := call(t, client(t), "GET", e.url+"/up/", "")
	refused(t, answer, got, 503, "plugin_busy")
}
