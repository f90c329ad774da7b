package admin_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/proxy/admin"
)

func TestProfilesAreWhole(t *testing.T) {
	srv := httptest.NewServer(newPlane(t, admin.DefaultConfig(), &fakeSource{}))
	defer srv.Close()
	for _, path := range []string{"/debug/pprof/heap", "/debug/pprof/profile?seconds=1", "/debug/pprof/trace?seconds=0.01"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/octet-stream" {
			t.Fatalf("%s: %d %s, error %v: %q", path, resp.StatusCode, resp.Header.Get("Content-Type"), err, body)
		}
		if strings.HasPrefix(path, "/debug/pprof/trace") {
			if !bytes.HasPrefix(body, []byte("go 1.")) {
				t.Errorf("%s: begins with %.16q", path, body)
			}
			continue
		}
		zr, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		profile, err := io.ReadAll(zr)
		unit := map[bool]string{true: "inuse_space", false: "nanoseconds"}[strings.HasSuffix(path, "heap")]
		if err != nil || !bytes.Contains(profile, []byte(unit)) { // a string of its table
			t.Errorf("%s: %d bytes without %q, error %v", path, len(profile), unit, err)
		}
	}
}

func TestProfileSecondsAreBounded(t *testing.T) {
	h := newPlane(t, admin.DefaultConfig(), &fakeSource{})
	for _, path := range []string{"profile", "trace", "heap", "goroutine"} {
		for _, seconds := range []string{"121", "120.5", "0", "-1", "1e9", "NaN", "Inf", "5s", "99999999999999999999"} {
			w := do(t, h, request(t, "GET /debug/pprof/"+path+"?seconds="+seconds))
			if w.Code != 400 || code(t, w) != "bad_request" {
				t.Errorf("%s, seconds=%s: %d: %s", path, seconds, w.Code, w.Body)
			}
		}
	}
	// A second value is not the one that counts.
	if w := do(t, h, request(t, "GET /debug/pprof/heap?seconds=121&seconds=1")); w.Code != 400 {
		t.Errorf("two values: %d", w.Code)
	}
}

func TestProfileReadsNoFormFromTheBody(t *testing.T) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	if err := form.WriteField("seconds", "3600"); err != nil {
		t.Fatal(err)
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/debug/pprof/heap", &body)
	r.Host = "127.0.0.1"
	r.Header.Set("Content-Type", form.FormDataContentType())
	unread := body.Len()
	if w := do(t, newPlane(t, admin.DefaultConfig(), &fakeSource{}), r); w.Code != 200 || body.Len() != unread {
		t.Errorf("%d, %d of %d bytes of the body left: %s", w.Code, body.Len(), unread, w.Body)
	}
}

func TestSymbol(t *testing.T) {
	h := newPlane(t, admin.DefaultConfig(), &fakeSource{})
	pc := reflect.ValueOf(TestSymbol).Pointer()
	f := func(body, want string) {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/debug/pprof/symbol", strings.NewReader(body))
		r.Host = "127.0.0.1"
		if w := do(t, h, r); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%d: %.200q", w.Code, w.Body)
		}
	}
	f(fmt.Sprintf("%#x", pc), "TestSymbol")
	f(strings.Repeat("0x0+", 1<<19), "request body too large")
}
