package translate

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// created is when all answers of the tests are made.
const created = 1792567680

// TestGolden translates what testdata/*.txt give, and compares. The first section of a file says what it is.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			comment, given, what, want := parseGolden(t, string(data))
			name, got := golden(t, what, given)
			if *update {
				text := comment + "-- " + what + " --\n" + given + "\n-- " + name + " --\n" + got
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want != "-- "+name+" --\n"+got {
				t.Errorf("got\n-- %s --\n%s\nwant\n%s", name, got, want)
			}
		})
	}
}

func parseGolden(t *testing.T, text string) (comment, given, what, want string) {
	t.Helper()
	at := strings.Index(text, "-- ")
	if at < 0 {
		t.Fatal("no section")
	}
	comment = text[:at]
	head, rest, _ := strings.Cut(text[at:], "\n")
	what = strings.TrimSuffix(strings.TrimPrefix(head, "-- "), " --")
	given, want, _ = strings.Cut(rest, "\n-- ")
	if want != "" {
		want = "-- " + want
	}
	return comment, given, what, want
}

// golden translates a section, and returns the name and the content of the other.
func golden(t *testing.T, what, given string) (name, got string) {
	t.Helper()
	result := func(name string, body []byte, err error) (string, string) {
		t.Helper()
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("got %v, want an *Error", err)
			}
			name, body = "error", ErrorBody(err)
		}
		var b bytes.Buffer
		if json.Indent(&b, body, "", "  ") != nil {
			return name, string(body) + "\n"
		}
		return name, b.String() + "\n"
	}
	switch what {
	case "request":
		body, _, err := Request([]byte(given), 4096)
		return result("messages", body, err)
	case "answer":
		body, err := Answer([]byte(given), created)
		return result("completion", body, err)
	case "failure":
		return result("error", Failure([]byte(given)), nil)
	case "list":
		return result("models", Models([]byte(given)), nil)
	case "events", "events, usage":
		return "chunks", streamed(t, given+"\n", Chat{Stream: true, IncludeUsage: what == "events, usage"})
	}
	t.Fatalf("nothing is called %q", what)
	return "", ""
}

// streamed translates events whole and in chunks of all small sizes, with each of the line ends, and wants the same of all.
func streamed(t *testing.T, events string, chat Chat) string {
	t.Helper()
	want := string(NewStream(chat, created).Translate(nil, []byte(events), true))
	for _, lineEnd := range []string{"\n", "\r\n", "\r"} {
		events := strings.ReplaceAll(events, "\n", lineEnd)
		for size := 1; size < 70; size++ {
			if got := inChunks(events, size, chat); got != want {
				t.Fatalf("line ends %q, chunks of %d: got\n%s\nwant\n%s", lineEnd, size, got, want)
			}
		}
	}
	return want
}

// inChunks translates text as it comes in chunks of a size, with an empty one at the end.
func inChunks(text string, size int, chat Chat) string {
	s := NewStream(chat, created)
	var got []byte
	for len(text) > 0 {
		n := min(size, len(text))
		part := []byte(text[:n])
		got = s.Translate(got, part, false)
		clear(part) // it belongs to the caller again
		text = text[n:]
	}
	return string(s.Translate(got, nil, true))
}

// TestStreamIsNotWithheld wants each event's translation with its last byte.
func TestStreamIsNotWithheld(t *testing.T) {
	s := NewStream(Chat{}, created)
	f := func(events, want string) {
		t.Helper()
		if got := string(s.Translate(nil, []byte(events), false)); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\"}}\n", "")
	f("\n", `"delta":{"role":"assistant","content":""}`)
	f("data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"now\"}}\n\n", `"delta":{"content":"now"}`)
	f(": comment\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n", "")
	f("data: {\"type\":\"message_stop\"}\n\n", "data: [DONE]\n\n")
	f("data: {\"type\":\"message_stop\"}\n\ndata: no JSON\n\n", "")
	if got := s.Translate(nil, nil, true); len(got) > 0 {
		t.Errorf("after the end: got %q", got)
	}
}

// TestEventsAreBounded wants an error for lines and events that do not end.
func TestEventsAreBounded(t *testing.T) {
	f := func(text string) {
		t.Helper()
		s := NewStream(Chat{}, created)
		var got []byte
		for range maxEvent/len(text) + 2 {
			got = s.Translate(got, []byte(text), false)
		}
		if !strings.Contains(string(got), errEventTooLarge.Error()) || strings.Count(string(got), "\n\n") != 1 {
			t.Errorf("%.20q again and again: got %.300q", text, got)
		}
	}
	f(strings.Repeat("x", 1<<16))
	f("data: " + strings.Repeat("x", 1<<16) + "\n")
}

// TestStreamBreaksOff wants the caller to hear of an answer without an end, also in the middle of an event.
func TestStreamBreaksOff(t *testing.T) {
	whole := "data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\"}}\n\ndata: {\"type\":\"message_stop\"}\n\n"
	for n := range len(whole) {
		got := inChunks(whole[:n], 5, Chat{})
		if !strings.HasSuffix(got, "it broke off.\",\"type\":\"server_error\",\"param\":null,\"code\":\"bad_answer\"}}\n\n") {
			t.Fatalf("after %q: got %q", whole[:n], got)
		}
	}
}

// TestLongRequest wants long strings as they were, in pictures as in texts, and as they mean in arguments of tools.
func TestLongRequest(t *testing.T) {
	f := func(text string) {
		t.Helper()
		data := strings.Repeat("QUJD", 1000)
		body := `{"model":"m","messages":[{"role":"system" , "content" : "` + text + `"},{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + data + `"}},` +
			`{"type":"text","text":"` + text + `"},{"type":"image_url","image_url":{"url":"https://` + data + `"}}]},` +
			`{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"text\":\"` + data + `\"}"}}]}]}`
		want := `{"model":"m","max_tokens":5,"system":"` + text + `","messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + data + `"}},` +
			`{"type":"text","text":"` + text + `"},{"type":"image","source":{"type":"url","url":"https://` + data + `"}}]},` +
			`{"role":"assistant","content":[{"type":"tool_use","id":"c","name":"f","input":{"text":"` + data + `"}}]}]}`
		if got, _, err := Request([]byte(body), 5); err != nil || string(got) != want {
			t.Errorf("%.50s: got %.500q %v", text, got, err)
		}
		if got, _, err := Request([]byte(body[:len(body)-1]), 5); err == nil {
			t.Errorf("%.50s: cut off: got %.100q", text, got)
		}
	}
	f("short")
	f(strings.Repeat("long", 1000))
	f(strings.Repeat(`\n\u00e4\"\\ä`, 1000))
	f("lifted.0.0." + strings.Repeat("a", 2000))
	f("lifted.0.0. lifted.1.1." + strings.Repeat("a", 2000))
	f("data:,a" + strings.Repeat("a", 2000))
	f("data:image/png;base64," + strings.Repeat(`\/`, 2000))
}
