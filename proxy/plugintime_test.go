package proxy_test

import (
	"testing"

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
