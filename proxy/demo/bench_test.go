//go:build !race

package demo

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
)

// nothing is a ResponseWriter that costs nothing.
type nothing struct{ header http.Header }

func (n nothing) Header() http.Header         { return n.header }
func (n nothing) WriteHeader(int)             {}
func (n nothing) Write(b []byte) (int, error) { return len(b), nil }

const small = `{"model":"gpt-4o","messages":[{"role":"system","content":"You are a helpful assistant."},` +
	`{"role":"user","content":"What is the capital of France, and why?"}],"temperature":0.7,"max_tokens":64}`

// TestChatAllocates pins what the short path allocates: 18 for reading the JSON, 2 for the request id, 1 for the
// turn. The request and the writer are the caller's. (Under the race detector sync.Pool forgets on purpose.)
func TestChatAllocates(t *testing.T) {
	p := New(Config{})
	body := strings.NewReader(small)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/chat/completions", body)
	w := nothing{http.Header{}}
	if n := testing.AllocsPerRun(1000, func() {
		body.Reset(small)
		p.ServeHTTP(w, r)
	}); n > 21 {
		t.Errorf("%v allocations a request", n)
	}
}

// BenchmarkChat compares the short path with the plain way: encoding/json for the answer too.
func BenchmarkChat(b *testing.B) {
	b.Run("provider", func(b *testing.B) { benchmarkHandler(b, New(Config{})) })
	b.Run("plain", func(b *testing.B) { benchmarkHandler(b, http.HandlerFunc(plain)) })
}

func plain(w http.ResponseWriter, r *http.Request) {
	var q chatRequest
	if json.NewDecoder(r.Body).Decode(&q) != nil {
		return
	}
	words := append([]string{"You said:"}, strings.Fields(q.Messages[1].Content.text)...)
	for i := len(words); i < 32; i++ {
		words = append(words, strconv.Itoa(i))
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"id": "chatcmpl-1", "object": "chat.completion", "created": time.Now().Unix(), "model": q.Model,
		"choices": []any{map[string]any{
			"index": 0, "message": map[string]any{"role": "assistant", "content": strings.Join(words, " ")}, "finish_reason": "stop",
		}},
		"usage": map[string]int{"prompt_tokens": 9, "completion_tokens": 32, "total_tokens": 41},
	})
}

func benchmarkHandler(b *testing.B, p http.Handler) {
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		body := strings.NewReader(small)
		r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/v1/chat/completions", body)
		w := nothing{http.Header{}}
		for pb.Next() {
			body.Reset(small)
			p.ServeHTTP(w, r)
		}
	})
}
