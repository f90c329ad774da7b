package proxy

import (
	"io"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// BenchmarkDeadline is a whole request through one of the examples, with each way to bound its time: what deadline costs
// of a plugin that does real work.
func BenchmarkDeadline(b *testing.B) {
	chat := `{"model":"fast","messages":[{"role":"user","content":"` + strings.Repeat("write to bob@example.com about it, ", 28) + `"}]}`
	for _, example := range []struct{ name, config, content string }{
		{"stamp-header", "", ""},
		{"check-key", `{"header":"x-plugin-key","keys":["first","second"]}`, ""},
		{"redact-json", `{"fields":["password"],"emails":true}`, chat},
		{"pick-model", `{"rules":[{"model":"fast","use":"small"}]}`, chat},
	} {
		module, err := os.ReadFile("../wasm-examples/" + example.name + "/" + example.name + ".wasm")
		if err != nil {
			b.Fatal(err)
		}
		for _, deadline := range []string{"none", "rewrite", "context"} {
			b.Run(example.name+"/"+deadline, func(b *testing.B) {
				plugin := DefaultPlugin()
				plugin.Name, plugin.Module, plugin.Config, plugin.Deadline = "p", module, Settings(example.config), deadline
				plugin.Phases = []string{phaseRequest}
				provider, serve := chained(b, plugin)
				w := &discard{header: map[string][]string{}}
				r := httptest.NewRequestWithContext(b.Context(), "POST", "/up/v1/chat/completions", nil)
				r.Header.Set("X-Plugin-Key", "first")
				content := strings.NewReader("")
				r.ContentLength, r.Body = int64(len(example.content)), io.NopCloser(content)
				one := func() {
					content.Reset(example.content)
					clear(w.header)
					serve(w, r)
				}
				one()
				if provider.got == nil {
					b.Fatal("the provider was not reached")
				}
				b.ReportAllocs()
				for b.Loop() {
					one()
				}
			})
		}
	}
}
