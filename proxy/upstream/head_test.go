package upstream

import (
	"bytes"
	"net/http"
	"testing"
)

// BenchmarkHeads makes a request's head as a library for an API sends it, and reads such an API's answer.
func BenchmarkHeads(b *testing.B) {
	b.Run("request", func(b *testing.B) {
		d := &Direct{host: "api.openai.com"}
		q := &Request{Method: http.MethodPost, Target: "/v1/chat/completions", Body: http.NoBody, Length: 1024}
		for _, f := range [...][2]string{
			{"Accept", "application/json"},
			{"Accept-Encoding", "gzip, deflate"},
			{"Authorization", "Bearer sk-0123456789abcdef0123456789abcdef0123456789abcdef"},
			{"Content-Type", "application/json"},
			{"User-Agent", "OpenAI/Python 1.99.1"},
			{"X-Stainless-Arch", "x64"},
			{"X-Stainless-Async", "false"},
			{"X-Stainless-Lang", "python"},
			{"X-Stainless-Os", "Linux"},
			{"X-Stainless-Package-Version", "1.99.1"},
			{"X-Stainless-Read-Timeout", "600"},
			{"X-Stainless-Retry-Count", "0"},
			{"X-Stainless-Runtime", "CPython"},
			{"X-Stainless-Runtime-Version", "3.12.3"},
			{"Via", "1.1 edge-01234567"},
		} {
			q.Fields.Add(f[0], f[1])
		}
		scratch := make([]byte, 0, ownScratch)
		b.ReportAllocs()
		for b.Loop() {
			if err := d.check(q); err != nil {
				b.Fatal(err)
			}
			d.appendHead(scratch, q)
			q.closes()
		}
	})
	b.Run("answer", func(b *testing.B) {
		head := []byte("HTTP/1.1 200 OK\r\nDate: Wed, 04 Mar 2026 05:06:07 GMT\r\nContent-Type: application/json\r\nContent-Length: 1024\r\n" +
			"Connection: keep-alive\r\nServer: cloudflare\r\nX-Request-Id: req_0123456789abcdef0123456789abcdef\r\n" +
			"openai-organization: demo\r\nopenai-processing-ms: 45\r\nopenai-version: 2020-10-01\r\n" +
			"x-ratelimit-limit-requests: 10000000\r\nx-ratelimit-limit-tokens: 30000000\r\nx-ratelimit-remaining-requests: 9999999\r\n" +
			"x-ratelimit-remaining-tokens: 29999999\r\nx-ratelimit-reset-requests: 6ms\r\nx-ratelimit-reset-tokens: 0s\r\n" +
			"strict-transport-security: max-age=31536000; includeSubDomains; preload\r\n\r\n")
		fields, scratch := make(Fields, 0, 48), bytes.Clone(head)
		b.ReportAllocs()
		for b.Loop() {
			copy(scratch, head)
			end, _, err := headEnd(scratch, 0, 0)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := parseHead(scratch[:end], fields); err != nil {
				b.Fatal(err)
			}
		}
	})
}
