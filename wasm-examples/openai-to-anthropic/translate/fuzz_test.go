package translate

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// seed adds the sections of the golden files that begin so.
func seed(f *testing.F, what string) {
	f.Helper()
	files, _ := filepath.Glob("testdata/*.txt")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		_, after, _ := strings.Cut(string(data), "-- "+what)
		_, given, _ := strings.Cut(after, " --\n")
		if given, _, ok := strings.Cut(given, "\n-- "); ok {
			f.Add([]byte(given+"\n"), uint8(len(given)))
		}
	}
}

// FuzzStream wants the same of events however they are cut, and nothing but events with JSON in them.
func FuzzStream(f *testing.F) {
	seed(f, "events")
	f.Fuzz(func(t *testing.T, text []byte, size uint8) {
		chat := Chat{IncludeUsage: size%2 == 0}
		want := string(NewStream(chat, created).Translate(nil, text, true))
		if got := inChunks(string(text), int(size)+1, chat); got != want {
			t.Fatalf("chunks of %d: got %q, want %q", int(size)+1, got, want)
		}
		if got := inChunks(string(text), 1, chat); got != want {
			t.Fatalf("single bytes: got %q, want %q", got, want)
		}
		for event := range strings.SplitSeq(strings.TrimSuffix(want, "\n\n"), "\n\n") {
			data, ok := strings.CutPrefix(event, "data: ")
			if !ok || data != "[DONE]" && !json.Valid([]byte(data)) {
				t.Fatalf("%q: no event: %q", text, event)
			}
		}
	})
}

// FuzzRequest wants JSON or an *Error of any body, and the same whether long strings are lifted or not.
func FuzzRequest(f *testing.F) {
	seed(f, "request")
	f.Add([]byte(`{"model":"m","messages":[{"role":"user","content":"~"},{"role":"user","content":[{"type":"text","text":"a~\\u00e4~"},`+
		`{"type":"image_url","image_url":{"url":"data:image/png;base64,~"}}]},{"role":"tool","tool_call_id":"~","content":"~"}],"user":"~"}`), uint8(1))
	long := []byte(strings.Repeat("long", minLift/4))
	f.Fuzz(func(t *testing.T, body []byte, limit uint8) {
		body = bytes.ReplaceAll(body, []byte("~"), long)
		messages, _, err := Request(body, int(limit)+1)
		if err != nil {
			messages = ErrorBody(err)
		}
		if !json.Valid(messages) {
			t.Fatalf("%q: got %q", body, messages)
		}
		want, _, wantErr := request(body, int(limit)+1)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: got %v, want %v", body, err, wantErr)
		}
		var same, as any
		if err == nil && (json.Unmarshal(messages, &same) != nil || json.Unmarshal(want, &as) != nil || !reflect.DeepEqual(same, as)) {
			t.Fatalf("%q: got %q, want %q", body, messages, want)
		}
	})
}

// FuzzAnswer wants JSON or an *Error of any answer, and failures and lists that are none to pass as they are.
func FuzzAnswer(f *testing.F) {
	seed(f, "answer")
	seed(f, "failure")
	seed(f, "list")
	f.Fuzz(func(t *testing.T, body []byte, _ uint8) {
		completion, err := Answer(body, created)
		if err != nil {
			completion = ErrorBody(err)
		}
		if !json.Valid(completion) {
			t.Fatalf("%q: got %q", body, completion)
		}
		for _, same := range [][]byte{Failure(body), Models(body)} {
			if !bytes.Equal(same, body) && !json.Valid(same) {
				t.Fatalf("%q: got %q", body, same)
			}
		}
	})
}

// FuzzLift wants a text back as it was, and one that is JSON if and only if the whole is.
func FuzzLift(f *testing.F) {
	seed(f, "request")
	long := strings.Repeat("QUJD", minLift)
	f.Add([]byte(`[{"url":"data:image/png;base64,?","text" : "?\\n\\u00e4?","content":"\\"?"},"a;base64,?\\"]`), uint8(0))
	f.Add([]byte(`{"text":"?`+"\x00"+`","content":"?`+"\xff"+`"}`), uint8(1))
	f.Add([]byte(`"lifted.0.1.?`), uint8(1))
	f.Fuzz(func(t *testing.T, body []byte, cut uint8) {
		body = bytes.ReplaceAll(body, []byte("?"), []byte(long)) // the fuzzer does not find long ones itself
		body = body[:len(body)-min(int(cut)%16, len(body))]
		text, l := lift(body)
		if got := l.restore(text); !bytes.Equal(got, body) {
			t.Fatalf("got %q, want %q", got, body)
		}
		if json.Valid(text) != json.Valid(body) {
			t.Fatalf("%q became %q", body, text)
		}
	})
}
