package proxy_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

func TestResetOfAnAnswerGivesAllBack(t *testing.T) {
	f := func(reset, inner proxy.Plugin) {
		t.Helper()
		e := start(t, one(provider(t, mirror), around(reset, inner)))
		request, err := http.NewRequestWithContext(t.Context(), "POST", e.url+"/up/", strings.NewReader("content"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := client(t).Do(request); err == nil {
			got.Body.Close()
			t.Errorf("got %d, want no answer", got.StatusCode)
		}
		e.balanced()
	}
	f(filter(t, "reset", "reset-response"), filter(t, "inner", "hold-response"))
	f(filter(t, "reset", "reset-response"), script(t, "inner", "i: features 2"))
	f(filter(t, "reset", "reset-response", skipping), script(t, "inner", "q: write 0 other\nq: write 1 before"))
}

func TestFilterThatEndsAnUpgradeClosesTheProvidersConnection(t *testing.T) {
	for mode, status := range map[string]int{"reply-response": 451, "trap-response": 500, "reset-response": 0} {
		ended := make(chan error, 1)
		up := speaking(t, func(conn net.Conn) {
			buffer := make([]byte, 4096)
			_, _ = conn.Read(buffer)
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
			_, err := conn.Read(buffer)
			ended <- err
		})
		e := start(t, one(up, around(filter(t, "f", mode))))
		_, reader := raw(t, e.url, "GET /up/socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		if status != 0 {
			if got, _ := next(t, reader); got.StatusCode != status {
				t.Errorf("%s: got %d, want %d", mode, got.StatusCode, status)
			}
		}
		if err := <-ended; !errors.Is(err, io.EOF) {
			t.Errorf("%s: the provider's connection ended with %v", mode, err)
		}
	}
}

func TestProviderThatStallsOrBreaksOffBehindAHoldingPlugin(t *testing.T) {
	plugins := []proxy.Plugin{script(t, "g", "i: features 2"), filter(t, "f", "hold-response"), filter(t, "f", "hold-response", skipping)}
	for _, plugin := range plugins {
		for _, breaks := range []bool{false, true} {
			up := provider(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", "100")
				_, _ = io.WriteString(w, "part")
				_ = http.NewResponseController(w).Flush()
				if breaks {
					panic(http.ErrAbortHandler)
				}
				select {
				case <-r.Context().Done():
				case <-time.After(5 * time.Second):
				}
			})
			e := start(t, one(up, around(plugin), func(_ *proxy.Config, p *proxy.Provider) { p.StreamIdleTimeout = 100 * time.Millisecond }))
			answer, text := call(t, client(t), "GET", e.url+"/up/", "")
			if breaks {
				refused(t, answer, text, 502, "upstream_error")
			} else {
				refused(t, answer, text, 504, "upstream_timeout")
			}
		}
	}
}

func TestFilterCannotSayHowItsAnswerIsFramed(t *testing.T) {
	e := start(t, one(provider(t, mirror), around(filter(t, "f", "reply-length"))))
	answer, got := call(t, client(t), "GET", e.url+"/up/", "")
	if answer.StatusCode != 451 || got != "not this answer" || answer.ContentLength != 15 || answer.Header.Get("X-Own") != "yes" {
		t.Errorf("got %d %q %v", answer.StatusCode, got, answer.Header)
	}
}
