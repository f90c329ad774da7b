package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// A filter's callbacks come while the request is being sent, and after its end, too.
func TestFilterNeverSeesTheProvidersKey(t *testing.T) {
	for _, size := range []int{5, 100 << 10} {
		var log logged
		up := provider(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if r.URL.Path == "/hang" {
				<-r.Context().Done()
			}
		})
		e := start(t, one(up, around(filter(t, "f", "peek")), func(c *proxy.Config, p *proxy.Provider) {
			c.Logger = log.logger()
			p.Keys = []proxy.Key{{Value: "the-key", Weight: 1}}
			p.ExtraHeaders = map[string]string{"X-Extra": "the-extra"}
		}))
		call(t, client(t), "POST", e.url+"/up/", strings.Repeat("x", size), "X-Mark", "mine")
		leaving(t, e, "/up/hang", strings.Repeat("x", size), "X-Mark", "mine")
		if !settles(5*time.Second, func() bool { return strings.Count(log.String(), `text="end `) == 2 }) {
			t.Error("the guest was not told of the end")
		}
		for line := range strings.SplitSeq(log.String(), "\n") {
			if strings.Contains(line, "the-") {
				t.Errorf("a secret is seen: %s", line)
			}
			if strings.Contains(line, "authorization=") && !strings.Contains(line, "authorization= x-extra= :authority="+strings.TrimPrefix(up, "http://")+" x-mark=mine") {
				t.Errorf("other fields are not seen: %s", line)
			}
		}
	}
}

// leaving sends a request that gets no answer, and leaves.
func leaving(t *testing.T, e *edge, path, body string, header ...string) {
	t.Helper()
	ctx, leave := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer leave()
	request, err := http.NewRequestWithContext(ctx, "POST", e.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Add(header[i], header[i+1])
	}
	if got, err := client(t).Do(request); err == nil {
		got.Body.Close()
		t.Errorf("got %d, want no answer", got.StatusCode)
	}
}

// What the guest has taken beyond a slot is gone: without it the request must not go on.
func TestSkippedFilterNeverCutsContent(t *testing.T) {
	e := start(t, one(provider(t, giveBack), around(filter(t, "f", "trap-end", skipping))))
	for _, size := range []int{1000, 16 << 10, 20 << 10, 100 << 10} {
		for _, chunked := range []bool{false, true} {
			content := strings.Repeat("x", size)
			request, err := http.NewRequestWithContext(t.Context(), "POST", e.url+"/up/", strings.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			if chunked {
				request.Body, request.ContentLength = io.NopCloser(dribble{strings.NewReader(content)}), -1
			}
			got, err := client(t).Do(request)
			if err != nil {
				t.Fatal(err)
			}
			answer, text := whole(t, got)
			if size > 16<<10 {
				refused(t, answer, text, 500, "plugin_error")
			} else if answer.StatusCode != 200 || text != content {
				t.Errorf("%d bytes, chunked %v: got %d and %d bytes", size, chunked, answer.StatusCode, len(text))
			}
		}
	}
}

func TestAnswerBeforeTheContentWasFilteredIsWhole(t *testing.T) {
	const size = 60000
	up := speaking(t, func(conn net.Conn) {
		buffer := make([]byte, 64<<10)
		_, _ = conn.Read(buffer)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", size)
		for range size / 1000 {
			_, _ = io.WriteString(conn, strings.Repeat("y", 1000))
			time.Sleep(time.Millisecond)
		}
		_, _ = io.Copy(io.Discard, conn)
	})
	for _, mode := range []string{"observe", "upper", "keep-body"} {
		e := start(t, one(up, around(filter(t, "f", mode))))
		for range 5 { // the guest is busy with the request, or awaited, while the answer passes
			answer, got := call(t, client(t), "POST", e.url+"/up/", strings.Repeat("x", 200<<10))
			if answer.StatusCode != 200 || len(got) != size {
				t.Errorf("%s: got %d and %d bytes", mode, answer.StatusCode, len(got))
			}
		}
		if !settles(5*time.Second, func() bool { return e.sum("edge_plugin_streams") == 0 }) {
			t.Errorf("%s: streams are left", mode)
		}
	}
}

func TestCallerThatLeavesAWaitingPluginIsGone(t *testing.T) {
	up := provider(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "part")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	f := func(content string, with func(*proxy.Config, *proxy.Provider)) {
		t.Helper()
		e := start(t, one(up, with))
		leaving(t, e, "/up/", content)
		settles(5*time.Second, func() bool { return e.sum("edge_client_gone_total")+e.sum("edge_rejected_total") > 0 })
		if gone, rejected := e.sum("edge_client_gone_total"), e.sum("edge_rejected_total"); gone != 1 || rejected != 0 {
			t.Errorf("got %v gone and %v rejected, want 1 and 0", gone, rejected)
		}
	}
	long := strings.Repeat("x", 100<<10)
	f("", around(filter(t, "f", "pause")))
	f("", before(filter(t, "f", "pause")))
	f("abc", around(filter(t, "f", "keep-body")))
	f(long, around(filter(t, "f", "keep-body")))
	f(long, before(filter(t, "f", "keep-body")))
	f("abc", around(filter(t, "f", "hold-response")))
	f("abc", around(script(t, "g", "i: features 2")))
}

// A filter of a route fails or answers when its content is read by somebody else.
func TestRouteFilterEndsContentThatPasses(t *testing.T) {
	for _, path := range []string{"/up/", "/v1/x"} {
		for mode, want := range map[string]string{"trap-body": "500 plugin_error 1", "reply-body": "422  0"} {
			e := start(t, one(provider(t, giveBack), before(filter(t, "f", mode, requestOnly))))
			answer, _ := call(t, client(t), "POST", e.url+path, strings.Repeat("x", 100<<10))
			if got := fmt.Sprint(answer.StatusCode, " ", answer.Header.Get("X-Edge-Reason"), " ", e.sum("edge_rejected_total")); got != want {
				t.Errorf("%s: %s: got %s, want %s", path, mode, got, want)
			}
		}
	}
}

func TestUploadToAHoldingFilterIsBounded(t *testing.T) {
	e := start(t, one(provider(t, mirror), around(filter(t, "f", "hold-request")), func(c *proxy.Config, p *proxy.Provider) {
		c.QueueTimeout, p.Timeout, c.BodyTimeout = 200*time.Millisecond, 200*time.Millisecond, 10*time.Second
	}))
	conn, reader := raw(t, e.url, "POST /up/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 16<<10))
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	quit := make(chan struct{})
	defer close(quit)
	go func() {
		for {
			select {
			case <-quit:
				return
			case <-time.After(30 * time.Millisecond):
				_, _ = io.WriteString(conn, "y")
			}
		}
	}()
	answer, text := next(t, reader)
	refused(t, answer, text, 408, "body_timeout")
}
