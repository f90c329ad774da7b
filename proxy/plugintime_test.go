package proxy_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// What plugins take of a request is counted once for each phase that they run in, whichever ABI they speak.
func TestPluginTimesAreCounted(t *testing.T) {
	plugin := func(name string, module []byte, phases ...string) proxy.Plugin {
		p := proxy.DefaultPlugin()
		p.Name, p.Module, p.Phases = name, module, phases
		return p
	}
	e := start(t, one(provider(t, mirror), around(
		plugin("words", proxy.StampGuest(), "request", "response"),
		plugin("streams", proxy.FilterGuest(), "request", "response"),
		plugin("answers", proxy.StampGuest(), "response"),
		filter(t, "content", "upper"),
	)))
	const requests = 3
	for range requests {
		call(t, client(t), "POST", e.url+"/up/", "hello")
	}
	f := func(plugin, phase string, want float64) {
		t.Helper()
		labels := []string{`plugin="` + plugin + `"`, `phase="` + phase + `"`}
		if got := e.sum("edge_plugin_duration_seconds_count", labels...); got != want {
			t.Errorf("%s, %s: got %v counted, want %v", plugin, phase, got, want)
		}
		if got := e.sum("edge_plugin_duration_seconds_sum", labels...); (got > 0) != (want > 0) {
			t.Errorf("%s, %s: got %v seconds", plugin, phase, got)
		}
	}
	f("words", "request", requests)
	f("words", "response", requests)
	f("streams", "request", requests)
	f("streams", "response", requests)
	f("answers", "request", 0)
	f("answers", "response", requests)
	f("content", "request", requests)
	f("content", "response", requests)
}

// What a guest waits for is none of its time: a caller that rests in the midst of its content, or never sends the rest.
func TestPluginTimesAreNotTheCallers(t *testing.T) {
	const rest = time.Second // far more than a guest's call takes on any machine
	f := func(mode string, first int, whole bool, status int, counted float64) {
		t.Helper()
		next := proxy.DefaultPlugin()
		next.Name, next.Module, next.Phases = "next", proxy.StampGuest(), []string{"request"}
		e := start(t, one(provider(t, mirror), before(filter(t, "f", mode), next), func(c *proxy.Config, _ *proxy.Provider) {
			if !whole {
				c.BodyTimeout = rest
			}
		}))
		conn, reader := raw(t, e.url, "POST /up/ HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n"+strings.Repeat("x", first))
		if whole {
			<-time.After(rest)
			if _, err := conn.Write(make([]byte, 40000-first)); err != nil {
				t.Fatal(err)
			}
		}
		answer, err := http.ReadResponse(reader, nil)
		if err != nil || answer.StatusCode != status {
			t.Fatalf("%s: got %v, %v; want %d", mode, answer, err, status)
		}
		answer.Body.Close()
		for _, name := range []string{"f", "next"} {
			labels := []string{`plugin="` + name + `"`, `phase="request"`}
			if got := e.sum("edge_plugin_duration_seconds_count", labels...); got != counted {
				t.Errorf("%s, %s: got %v counted, want %v", mode, name, got, counted)
			}
			if got := e.sum("edge_plugin_duration_seconds_sum", labels...); got >= rest.Seconds()/2 {
				t.Errorf("%s, %s: got %v seconds, with the caller's rest in it", mode, name, got)
			}
		}
	}
	f("upper", 5, true, 200, 1)
	f("hold-request", 5, true, 200, 1)
	f("hold-request", 20_000, true, 200, 1) // so much that the rest comes when the guest has seen the head
	f("upper", 5, false, 408, 0)
}
