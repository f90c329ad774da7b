package main_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

func TestAccessLogGoesToStderr(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	p := serve(t, []string{"EDGE_PROVIDERS_UP_BASE_URL=" + up.url, "EDGE_LOG_ACCESS=json"})
	ask(t, client(t), http.MethodPost, p.url+"/up/x?key=sk-of-the-caller", `{}`).served(t)
	<-up.seen
	p.idle()
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	found := 0
	for line := range strings.Lines(p.stderr.String()) {
		var got map[string]any
		if json.Unmarshal([]byte(line), &got) == nil && got["path"] == "/up/x" && got["provider"] == "up" && got["status"] == 200. {
			found++
		}
	}
	if found != 1 || strings.Contains(p.stderr.String(), "sk-") {
		t.Errorf("want one line of the access log without the key, got\n%s", p.stderr.String())
	}

	q := serve(t, []string{"EDGE_PROVIDERS_UP_BASE_URL=" + up.url})
	ask(t, client(t), http.MethodPost, q.url+"/up/x", `{}`).served(t)
	<-up.seen
	q.idle()
	q.signal(syscall.SIGTERM)
	if q.exit(); strings.Contains(q.stderr.String(), "/up/x") {
		t.Errorf("an access log that nobody asked for:\n%s", q.stderr.String())
	}
}
