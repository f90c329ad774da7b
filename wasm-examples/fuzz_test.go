package examples_test

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// bodies are where the fuzz targets begin, beside the cases.
var bodies = []string{
	`{"model":"auto","messages":[{"role":"user","content":"joe@example.com"}],"password":"x"}`,
	`[{"ssn":[1,"a",{"b":"c"}]},"\u0040\ud83d\ude00\"\\","a\u0040b.cc",-0.5e+10,true,false,null,{},[]]`,
	`{"p\u0061ssword":"\u006a","model":"f\u0061st","a":"x@y.z.example-1.org.","b":"a@b@c.dd"}`,
	strings.Repeat(`[`, 300) + strings.Repeat(`]`, 300),
	`{"model":1}`, "{\"model\x83\":\"\"}", `{"a":01}`, "\"\x00\"", "\xef\xbb\xbf{}", `{"a":"\ud83d"}`, ` `, `nul`, `1.`, `"\u00"`,
}

// fuzzGuest lets f see what an example makes of any body; it returns the request that reaches the upstream and the answer.
func fuzzGuest(f *testing.F, example, config string) func(t *testing.T, body []byte) (string, *httptest.ResponseRecorder) {
	f.Helper()
	for _, body := range bodies {
		f.Add([]byte(body))
	}
	for _, c := range readCases(f, example) {
		f.Add([]byte(c.request.body))
	}
	wasm, err := fs.ReadFile(folder, example+"/"+example+".wasm")
	if err != nil {
		f.Fatal(err)
	}
	var seen []byte
	host := &guestHost{config: config, send: func(r *http.Request) (*http.Response, error) {
		var err error
		seen, err = io.ReadAll(r.Body)
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, err
	}}
	host.runtime, host.compiled = compile(f, wasm)
	return func(t *testing.T, body []byte) (string, *httptest.ResponseRecorder) {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/demo/v1", bytes.NewReader(body))
		w := httptest.NewRecorder()
		host.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Fatalf("status %d; log:\n%s", w.Code, &host.logs)
		}
		return string(seen), w
	}
}

// tokens returns what a JSON text consists of.
func tokens(t *testing.T, text string) (list []json.Token) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		list = append(list, token)
	}
}

// depth returns how deep a text nests, counting brackets inside strings too: at least as deep as it does.
func depth(text []byte) int {
	return bytes.Count(text, []byte("[")) + bytes.Count(text, []byte("{"))
}

// FuzzRedactJSON compares redact-json with encoding/json: what is not JSON passes as it is, and of what is, only
// strings change, and no address is left.
func FuzzRedactJSON(f *testing.F) {
	redact := fuzzGuest(f, "redact-json", "")
	address := regexp.MustCompile(`[A-Za-z0-9._%+'-]@([A-Za-z0-9][A-Za-z0-9-]*\.)+[A-Za-z][A-Za-z0-9-]*[A-Za-z0-9]`)
	f.Fuzz(func(t *testing.T, body []byte) {
		got, _ := redact(t, body)
		if !json.Valid(body) {
			if got != string(body) {
				t.Fatalf("not JSON: got %q, want %q", got, body)
			}
			return
		}
		if depth(body) > 512 {
			return
		}
		before, after := tokens(t, string(body)), tokens(t, got)
		if len(before) != len(after) {
			t.Fatalf("got %q, want the shape of %q", got, body)
		}
		for i := range before {
			text, isText := after[i].(string)
			if before[i] != after[i] && (!isText || !strings.Contains(text, "[redacted]")) {
				t.Fatalf("got %q for %q in %q", after[i], before[i], body)
			}
		}
		for _, value := range values(t, got) {
			if address.MatchString(value) {
				t.Fatalf("%q is left of %q", value, body)
			}
		}
	})
}

// values returns the strings in a JSON text that are not names.
func values(t *testing.T, text string) (list []string) {
	t.Helper()
	var walk func(any)
	walk = func(value any) {
		switch value := value.(type) {
		case string:
			list = append(list, value)
		case []any:
			for _, v := range value {
				walk(v)
			}
		case map[string]any:
			for _, v := range value {
				walk(v)
			}
		}
	}
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	walk(value)
	return list
}

// FuzzPickModel compares pick-model with encoding/json: it changes the model of an object that names one, and no other
// byte.
func FuzzPickModel(f *testing.F) {
	pick := fuzzGuest(f, "pick-model", `{"rules":[{"use":"picked"}]}`)
	f.Fuzz(func(t *testing.T, body []byte) {
		got, w := pick(t, body)
		var object map[string]json.RawMessage
		var model string
		valid := json.Unmarshal(body, &object) == nil && object["model"] != nil && json.Unmarshal(object["model"], &model) == nil && object["model"][0] == '"'
		picked := w.Header().Get("X-Picked-Model") == "picked"
		if picked && !valid {
			t.Fatalf("picked in %q", body)
		}
		if !picked {
			if got != string(body) {
				t.Fatalf("nothing picked: got %q, want %q", got, body)
			}
			if valid && depth(body) < 256 && strings.Count(string(body), "model") == 1 {
				t.Fatalf("nothing picked in %q", body)
			}
			return
		}
		if err := json.Unmarshal([]byte(got), &object); err != nil || string(object["model"]) != `"picked"` {
			t.Fatalf("got %q of %q", got, body)
		}
		if !strings.HasSuffix(string(body), got[strings.LastIndex(got, `"picked"`)+len(`"picked"`):]) {
			t.Fatalf("got %q, want the rest of %q", got, body)
		}
	})
}
