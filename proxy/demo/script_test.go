package demo

import (
	"net/http"
	"strings"
	"testing"
)

// FuzzScript reads what a header may hold. A script that is taken says of every request what its step says, and of
// those after its end that they are served.
func FuzzScript(f *testing.F) {
	for _, seed := range []string{"", "ok", "503*2,reset,ok", " 429 , close*3", "503*0", "503*", "*", ",", "ok*1000000", "nothing"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseScript(text)
		if err != nil || text == "" {
			if s != nil {
				t.Fatalf("%q: got %v and %v", text, s, err)
			}
			return
		}
		texts, n := strings.Split(text, ","), 0
		if len(s) != len(texts) {
			t.Fatalf("%q: got %d steps, want %d", text, len(s), len(texts))
		}
		for i, step := range s {
			what, _, _ := strings.Cut(strings.TrimSpace(texts[i]), "*")
			want, _ := parseFailure(what)
			if what == "ok" {
				want = failure{}
			}
			if first, last := s.at(n), s.at(n+step.times-1); step.times < 1 || first != want || last != want {
				t.Fatalf("%q: step %d: got %v and %v, want %v", text, i, first, last, want)
			}
			n += step.times
		}
		if got := s.at(n); got != (failure{}) {
			t.Fatalf("%q: after its end: got %v", text, got)
		}
	})
}

// FuzzRetryAfter sends each form that is taken; net/http must be able to.
func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "2", "date:2s", "date:-1h", "date:9223372036s", "ms:1", "x-ms:", "date:", "\r\nX: y"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, form string) {
		if !goodRetryAfter(form) {
			return
		}
		h := http.Header{"Retry-After": {"1"}, "Retry-After-Ms": {"1"}}
		setRetryAfter(h, form)
		if len(h) != 1 {
			t.Fatalf("%q: got %v, want one field", form, h)
		}
		if strings.HasPrefix(form, "date:") {
			if _, err := http.ParseTime(h.Get("Retry-After")); err != nil {
				t.Fatalf("%q: got %v: %v", form, h, err)
			}
		}
	})
}
