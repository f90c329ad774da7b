package examples_test

import (
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestLargeBodies sends bodies of megabytes, several to one instance, with as much to change as there can be.
func TestLargeBodies(t *testing.T) {
	f := func(example, config, body, want string) {
		t.Helper()
		wasm, err := fs.ReadFile(folder, example+"/"+example+".wasm")
		if err != nil {
			t.Fatal(err)
		}
		var seen []byte
		host := &guestHost{config: config, send: func(r *http.Request) (*http.Response, error) {
			var err error
			seen, err = io.ReadAll(r.Body)
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, err
		}}
		host.runtime, host.compiled = compile(t, wasm)
		for range 5 {
			w := httptest.NewRecorder()
			host.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/demo/v1", strings.NewReader(body)))
			if w.Code != http.StatusOK || string(seen) != want {
				t.Fatalf("%s: got status %d and %d bytes, want 200 and %d\n%s", example, w.Code, len(seen), len(want), &host.logs)
			}
		}
		if len(host.free) != 1 {
			t.Fatalf("%s: %d instances served, want 1", example, len(host.free))
		}
		t.Logf("%s: %d bytes of memory for a body of %d", example, host.free[0].Memory().Size(), len(body))
	}
	members := `{"password":"x","a":"` + strings.Repeat(`me a@b.cc `, 200_000) + `"}`
	redacted := strings.ReplaceAll(members, "a@b.cc", "[redacted]")
	redacted = strings.ReplaceAll(redacted, `"x"`, `"[redacted]"`)
	f("redact-json", "", members, redacted)
	f("redact-json", "", strings.Repeat("a", 4<<20), strings.Repeat("a", 4<<20))
	f("redact-json", "", `"`+strings.Repeat("a@", 1<<20)+`"`, `"`+strings.Repeat("a@", 1<<20)+`"`)
	prompt := `"messages":[` + strings.Repeat(`{"content":"\u0041\n"},`, 430_000) + `0]}`
	f("pick-model", `{"rules":[{"over_bytes":4000000,"use":"large"}]}`, `{"model":"auto",`+prompt, `{"model":"large",`+prompt)
	f("pick-model", `{"rules":[{"use":"large"}]}`, `{"model":"`+strings.Repeat(`\n`, 1<<20)+`"}`, `{"model":"large"}`)
	f("pick-model", `{"rules":[{"use":"large"}]}`, `{`+strings.Repeat(`"a":"",`, 300_000)+`"model":"auto"}`, `{`+strings.Repeat(`"a":"",`, 300_000)+`"model":"large"}`)
}
