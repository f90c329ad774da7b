package sigv4

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

const secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

func TestParseConfig(t *testing.T) {
	f := func(text string, want Config) {
		t.Helper()
		if got, err := ParseConfig(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v and %v, want %+v", text, got, err, want)
		}
	}
	least := `"access_key_id":"AKID_1","secret_access_key":"` + secret + `","region":"eu-west-1"`
	f(`{`+least+`}`, Config{AccessKeyID: "AKID_1", SecretAccessKey: secret, Region: "eu-west-1", Service: "bedrock"})
	f(` {`+least+` , "service" : "execute-api" , "session_token" : "to\/k\u002b==", "base_path":"/a/b%20c/", "keep_headers":["X-Amz-Target"]}`+"\n",
		Config{
			AccessKeyID: "AKID_1", SecretAccessKey: secret, Region: "eu-west-1", Service: "execute-api", SessionToken: "to/k+==",
			BasePath: "/a/b%20c", KeepHeaders: []string{"x-amz-target"},
		})
	f(`{`+least+`,"session_token":"","base_path":"/","keep_headers":[]}`,
		Config{AccessKeyID: "AKID_1", SecretAccessKey: secret, Region: "eu-west-1", Service: "bedrock"})
}

// TestConfigFaults expects an error that says what is wrong and never shows a value.
func TestConfigFaults(t *testing.T) {
	f := func(text string, wants ...string) {
		t.Helper()
		_, err := ParseConfig(text)
		if err == nil {
			t.Fatalf("%s: got no error, want %q", text, wants)
		}
		for _, want := range wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %q, want %q", text, err, want)
			}
		}
		if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "wJal") {
			t.Errorf("%s: the secret is in %q", text, err)
		}
	}
	with := func(members string) string {
		return `{"access_key_id":"AKID","secret_access_key":"` + secret + `","region":"eu-west-1"` + members + `}`
	}
	f(``, "want a JSON object")
	f(`"`+secret+`"`, "want a JSON object")
	f(`["`+secret+`"]`, "want a JSON object")
	f(`{"secret_access_key":"`+secret, "secret_access_key: want a text")
	f(`{"secret_access_key":"`+secret+`"`, "want a JSON object")
	f(with("")+"x", "want a JSON object")
	f(with(`,`), "want a JSON object")
	f(`{}`, "access_key_id: want", "secret_access_key: want", "region: want")
	f(with(`,"secret":"`+secret+`"`), `no key is called "secret"`)
	f(with(`,"region":1`), "region: want a text")
	f(with(`,"region":null`), "region: want a text")
	f(with(`,"keep_headers":"x-amz-target"`), "keep_headers: want")
	f(with(`,"keep_headers":["x-amz-target",]`), "keep_headers: want")
	f(with(`,"keep_headers":["date"]`), "keep_headers: want names")
	f(with(`,"keep_headers":["x-amz-date"]`), "keep_headers: want names")
	f(with(`,"keep_headers":["x-amz-a b"]`), "keep_headers: want names")
	f(with(`,"region":"`+secret+`"`), "region: want")
	f(with(`,"access_key_id":"`+secret+`"`), "access_key_id: want")
	f(with(`,"access_key_id":""`), "access_key_id: want")
	f(with(`,"secret_access_key":"`+secret+`\n"`), "secret_access_key: want")
	f(with(`,"session_token":"`+secret+` x"`), "session_token: want")
	f(with(`,"service":"`+secret+`"`), "service: want")
	f(with(`,"service":"s3"`), "service: S3 has other rules")
	f(with(`,"base_path":"`+secret+`"`), "base_path: want")
	f(with(`,"base_path":"/a?b"`), "base_path: want")
}

func TestForeignAndSignedFields(t *testing.T) {
	c := Config{KeepHeaders: []string{"x-amz-target"}}
	f := func(name string, foreign, signed bool) {
		t.Helper()
		if c.Foreign(name) != foreign || c.Signed(name) != signed {
			t.Errorf("%s: got foreign %t, signed %t", name, c.Foreign(name), c.Signed(name))
		}
	}
	f("authorization", true, false)
	f("x-amz-date", true, false)
	f("x-amz-security-token", true, false)
	f("x-amz-acl", true, false)
	f("x-amz-target", false, true)
	f("x-amzn-bedrock-trace", false, false)
	f("host", false, true)
	f("content-type", false, true)
	f("via", false, false)
	f("content-length", false, false)
}

// FuzzParseConfig compares the reader with encoding/json: what is taken is JSON, and means the same there.
func FuzzParseConfig(f *testing.F) {
	f.Add(`{"access_key_id":"A","secret_access_key":"\ud83d\ude00\ud83d\u0041\/","region":"r","service":"b","base_path":"/p","keep_headers":["x-amz-a","x-amz-b"]}`)
	f.Add(`{ "access_key_id" : "A\u0041" , "session_token" : "\b\f\n\r\t\"\\" }`)
	f.Add(`{"a":1}`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseConfig(text)
		if err == nil && !json.Valid([]byte(text)) {
			t.Fatalf("%q was taken, and is no JSON", text)
		}
		var want struct {
			A *string  `json:"access_key_id"`
			S *string  `json:"secret_access_key"`
			T *string  `json:"session_token"`
			R *string  `json:"region"`
			K []string `json:"keep_headers"`
		}
		if err == nil {
			if e := json.Unmarshal([]byte(text), &want); e != nil {
				t.Fatalf("%q was taken: %v", text, e)
			}
			if *want.A != got.AccessKeyID || *want.S != got.SecretAccessKey || *want.R != got.Region || len(want.K) != len(got.KeepHeaders) {
				t.Fatalf("%q: got %+v", text, got)
			}
		}
		r, w := reader{text}, ""
		if s, ok := r.text(); ok && strings.TrimLeft(r.rest, " \t\r\n") == "" && utf8.ValidString(text) {
			if e := json.Unmarshal([]byte(text), &w); e != nil || w != s {
				t.Fatalf("%q: got %q, want %q and %v", text, s, w, e)
			}
		} else if json.Unmarshal([]byte(text), &w) == nil && strings.TrimLeft(text, " \t\r\n") != "null" && w != "" && !ok {
			t.Fatalf("%q: not read, want %q", text, w)
		}
	})
}

// FuzzCanonical: no target ends the process or gets into the lines of others.
func FuzzCanonical(f *testing.F) {
	f.Add("/a/../b?c=d&%zz=+", "a  b")
	f.Fuzz(func(t *testing.T, target, value string) {
		text, names := canonical(Request{Method: "GET", Target: target, Fields: []Field{{"host", value}, {"a", "1"}}}, "hash")
		if strings.ContainsAny(value, "\n") {
			return // Edge lets no such field in
		}
		if lines := strings.Split(string(text), "\n"); len(lines) != 8 || names != "a;host" || lines[3] != "a:1" || lines[1][0] != '/' {
			t.Fatalf("got %q", text)
		}
	})
}
