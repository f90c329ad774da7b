package demo

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// say returns the whole answer to text.
func say(t *testing.T, text string, tokens int) string {
	t.Helper()
	a := newAnswer(text, tokens)
	b := []byte{'"'}
	for words := 0; a.more(); words++ {
		if words == tokens {
			t.Fatalf("more than %d words", tokens)
		}
		was := len(b)
		b = a.appendWord(b)
		if n := len(b) - was; n == 0 || n > 6*maxWord+32 {
			t.Fatalf("a word of %d bytes", n)
		}
	}
	var out string
	if err := json.Unmarshal(append(b, '"'), &out); err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	return out
}

func TestAnswer(t *testing.T) {
	const who = "I am Edge's demo provider and repeat what I hear, one word at a time."
	f := func(text string, tokens int, want string) {
		t.Helper()
		if got := say(t, text, tokens); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	f("", 20, "You said nothing. "+who+" 19 20")
	f(" \n", 3, "You said nothing.")
	f("hi", 1, "You")
	f("hi", 21, "You said: “hi”. "+who+" 19 20 21")
	f(" a\tb\u00a0c\n", 5, "You said: “a b c”.")
	f("a \"b\" \\ \x01 <é>", 7, "You said: “a \"b\" \\ \x01 <é>”.")
	f(strings.Repeat("x ", 9), 20, "You said: “x x x x x x x x …”. I am Edge's demo provider and repeat what I hear,")
	f(strings.Repeat("x ", 9), 26, "You said: “x x x x x x x x x”. "+who)
	f(strings.Repeat("x", 64), 3, "You said: “"+strings.Repeat("x", 64)+"”.")
	f(strings.Repeat("x", 63)+"é", 3, "You said: “"+strings.Repeat("x", 63)+"…”.")
	f(strings.Repeat("é", maxEcho), 3, "You said: “"+strings.Repeat("é", 32)+"… …”.")
}

func FuzzAnswer(f *testing.F) {
	f.Add("hello there", uint16(32))
	f.Add("\"\\\n\x7f\u2028\xff", uint16(9))
	f.Add(strings.Repeat("é", 40), uint16(3))
	f.Fuzz(func(t *testing.T, text string, tokens uint16) {
		var got string
		if err := json.Unmarshal(appendString(nil, text), &got); err != nil || got != strings.ToValidUTF8(text, "\ufffd") &&
			utf8.ValidString(text) {
			t.Fatalf("%q became %q: %v", text, got, err)
		}
		say(t, text, int(tokens)+1)
	})
}

// FuzzRequest sends arbitrary bodies everywhere; what comes back is JSON, or a stream with a proper end.
func FuzzRequest(f *testing.F) {
	for _, body := range []string{
		`{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"\ud800 hi"}]}],"max_tokens":3,"stream":true}`,
		`{"model":"m","messages":[{"role":"assistant","content":null}],"max_tokens":3,"system":"s","n":1}`,
		`{"model":"m","input":["a","b"],"dimensions":3,"encoding_format":"base64"}`,
		`{"model":"m","input":[[1,2],[-3]],"dimensions":3}`,
	} {
		f.Add([]byte(body))
	}
	p := New(Config{Tokens: 3})
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, path := range []string{"/v1/chat/completions", "/v1/messages", "/v1/embeddings"} {
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(string(body)))
			p.ServeHTTP(w, r)
			reply := w.Body.String()
			if w.Header().Get("Content-Type") == "application/json" {
				if !json.Valid([]byte(reply)) || w.Code != 200 && w.Code != 400 {
					t.Fatalf("%s: %d %s", path, w.Code, reply)
				}
				continue
			}
			if !strings.HasSuffix(reply, "data: [DONE]\n\n") && !strings.HasSuffix(reply, "\"message_stop\"}\n\n") {
				t.Fatalf("%s: %s", path, reply)
			}
			for line := range strings.Lines(reply) {
				if data, ok := strings.CutPrefix(line, "data: "); ok && data != "[DONE]\n" && !json.Valid([]byte(data)) {
					t.Fatalf("%s: %s", path, line)
				}
			}
		}
		if s := p.Stats(); s.InFlight != 0 || s.Streams != 0 {
			t.Fatalf("%+v", s)
		}
	})
}

// TestQuotaIsExact spends and refills at both ends of the range.
func TestQuotaIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		minute := func(limit int64) *quotas {
			return newQuotas([]bound{{name: "tokens", limit: limit, window: time.Minute}})
		}
		q := minute(maxPerMinute)
		f := func(cost int, ok bool, remaining int64, wait time.Duration) {
			t.Helper()
			v := q.take("k", 0, cost)
			l := &v.levels[0]
			if v.refused == nil != ok || l.remaining() != remaining || v.refused != nil && l.wait() != wait {
				t.Errorf("ok %v, %d left, wait %v; want %v, %d, %v", v.refused == nil, l.remaining(), l.wait(), ok, remaining, wait)
			}
		}
		f(maxPerMinute, true, 0, 0)
		f(1, false, 0, 600)
		time.Sleep(599)
		f(1, false, 0, 1)
		time.Sleep(time.Nanosecond)
		f(1, true, 0, 0)
		f(maxPerMinute, false, 0, time.Minute)
		f(maxPerMinute+1, false, 0, forever)
		time.Sleep(time.Hour)
		f(0, true, maxPerMinute, 0)

		q = minute(7) // does not divide a minute
		f(7, true, 0, 0)
		start := time.Now()
		for range 7 * 60 {
			v := q.take("k", 0, 1)
			if v.refused == nil {
				t.Fatal("more than the limit")
			}
			time.Sleep(v.refused.wait())
			f(1, true, 0, 0)
		}
		if took := time.Since(start); took != time.Hour {
			t.Errorf("an hour's quota took %v", took)
		}
	})
}

func TestReachable(t *testing.T) {
	f := func(listening, want string) {
		t.Helper()
		addr, err := net.ResolveTCPAddr("tcp", listening)
		if err != nil {
			t.Fatal(err)
		}
		if got := reachable(addr); got != want {
			t.Errorf("%s: got %s, want %s", listening, got, want)
		}
	}
	f("127.0.0.1:80", "127.0.0.1:80")
	f("[::1]:80", "[::1]:80")
	f("0.0.0.0:80", "localhost:80")
	f("[::]:80", "localhost:80")
}
