package upstream_test

import (
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// BenchmarkClient sends 1 KB and takes 1 KB, one request at a time for each processor, to a net/http server in the same
// process: its part is in all figures.
func BenchmarkClient(b *testing.B) {
	content := strings.Repeat("x", 1<<10)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, content)
	})
	for _, c := range []struct {
		name       string
		own, http2 bool
		start      func(*httptest.Server)
	}{
		{"direct/plain", true, false, (*httptest.Server).Start},
		{"standard/plain", false, false, (*httptest.Server).Start},
		{"direct/TLS", true, false, (*httptest.Server).StartTLS},
		{"standard/TLS", false, false, (*httptest.Server).StartTLS},
		{"standard/TLS/HTTP2", false, true, (*httptest.Server).StartTLS},
	} {
		b.Run(c.name, func(b *testing.B) {
			server := httptest.NewUnstartedServer(handler)
			server.EnableHTTP2 = c.http2
			c.start(server)
			defer server.Close()
			config := upstream.Config{BaseURL: server.URL, HTTP2: c.http2, RootCAs: x509.NewCertPool()}
			if certificate := server.Certificate(); certificate != nil {
				config.RootCAs.AddCert(certificate)
			}
			client, err := upstream.New(config)
			if !c.own {
				client, err = upstream.NewStandard(config)
			}
			if err != nil {
				b.Fatal(err)
			}
			defer client.Close()
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				var a upstream.Response
				scratch := make([]byte, 4<<10)
				for pb.Next() {
					q := &upstream.Request{Method: http.MethodPost, Target: "/", Body: held{strings.NewReader(content)}, Length: 1 << 10, Scratch: scratch}
					if err := client.Do(b.Context(), q, &a); err != nil {
						b.Error(err)
						return
					}
					if n, err := io.Copy(io.Discard, a.Body); n != 1<<10 || err != nil {
						b.Errorf("got %d bytes, %v", n, err)
						return
					}
					a.Body.Close()
				}
			})
		})
	}
}

// held is content in memory.
type held struct{ *strings.Reader }

func (held) Close() error { return nil }
func (held) Exact() bool  { return true }
