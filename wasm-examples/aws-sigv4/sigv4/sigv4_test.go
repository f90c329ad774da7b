package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

// The credentials, the scope and the time of AWS's test suite for Signature Version 4, which AWS publishes with its SDKs:
// https://github.com/awslabs/aws-c-auth/tree/main/tests/aws-signing-test-suite/v4
var (
	suite = Config{
		AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", Region: "us-east-1", Service: "service",
	}
	suiteTime = time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
)

const suiteStamp = "20150830T123600Z"

// TestSuite signs the requests of AWS's test suite that concern services other than S3, and expects its signatures. In the
// suite's files a path is not encoded yet.
func TestSuite(t *testing.T) {
	s := NewSigner(suite)
	f := func(name, line, body, signature string, fields ...string) {
		t.Helper()
		method, target, _ := strings.Cut(line, " ")
		r := Request{Method: method, Target: target, Fields: []Field{{"host", "example.amazonaws.com"}, {fieldDate, suiteStamp}}}
		names := map[string]bool{"host": true, fieldDate: true}
		for _, field := range fields {
			name, value, _ := strings.Cut(field, ":")
			r.Fields = append(r.Fields, Field{name, value})
			names[name] = true
		}
		digest := sha256.Sum256([]byte(body))
		got := s.authorization(r, suiteStamp, hex.EncodeToString(digest[:]))
		before, signed, _ := strings.Cut(got, ", SignedHeaders=")
		signed, after, _ := strings.Cut(signed, ", Signature=")
		if before != "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request" || after != signature {
			t.Errorf("%s: got %s, want the signature %s", name, got, signature)
		}
		last := ""
		for field := range strings.SplitSeq(signed, ";") {
			if !names[field] || field <= last {
				t.Errorf("%s: got the fields %s, which are others or out of order", name, signed)
			}
			last = field
			delete(names, field)
		}
		if len(names) > 0 {
			t.Errorf("%s: got the fields %s, without %v", name, signed, names)
		}
	}

	const vanilla = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
	f("get-vanilla", "GET /", "", vanilla)
	f("get-vanilla-query", "GET /", "", vanilla)
	f("get-vanilla-empty-query-key", "GET /?Param1=value1", "", "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb")
	f("get-vanilla-query-order-key-case", "GET /?Param2=value2&Param1=value1", "", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500")
	f("get-vanilla-query-order-encoded", "GET /?Param-3=Value3&Param=Value2&%E1%88%B4=Value1", "", "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac")
	f("get-vanilla-query-unreserved", "GET /?"+unreserved+"="+unreserved, "", "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197")
	f("get-vanilla-utf8-query", "GET /?ሴ=bar", "", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04")
	f("get-vanilla-with-session-token", "GET /", "", "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
		fieldToken+":6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267")
	f("get-unreserved", "GET /"+unreserved, "", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f")
	f("get-utf8", "GET /ሴ", "", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85")
	f("get-space-normalized", "GET /example space/", "", "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741")
	f("get-relative-normalized", "GET /example/..", "", vanilla)
	f("get-relative-relative-normalized", "GET /example1/example2/../..", "", vanilla)
	f("get-slash-normalized", "GET //", "", vanilla)
	f("get-slash-dot-slash-normalized", "GET /./", "", vanilla)
	f("get-slash-pointless-dot-normalized", "GET /./example", "", "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5")
	f("get-slashes-normalized", "GET //example//", "", "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84")
	f("get-header-value-trim", "GET /", "", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
		"my-header1: value1", `my-header2: "a   b   c"`)
	f("get-header-key-duplicate", "GET /", "", "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
		"my-header1:value2", "my-header1:value2", "my-header1:value1")
	f("post-vanilla", "POST /", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b")
	f("post-vanilla-query", "POST /?Param1=value1", "", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11")
	f("post-sts-header-before", "POST /", "", "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead", fieldToken+":"+suiteToken)
	const content = "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e"
	f("post-x-www-form-urlencoded", "POST /", "Param1=value1", "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
		"content-type:application/x-www-form-urlencoded", "content-length:13", fieldContent+":"+content)
	f("post-x-www-form-urlencoded-parameters", "POST /", "Param1=value1", "328d1b9eaadca9f5818ef05e8392801e091653bafec24fcab71e7344e7f51422",
		"content-type:application/x-www-form-urlencoded; charset=utf-8", "content-length:13", fieldContent+":"+content)
}

const (
	unreserved = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	suiteToken = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/" +
		"qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64" +
		"lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)

// TestCanonical checks what the suite does not: paths that are encoded on the wire, and queries in all spellings.
func TestCanonical(t *testing.T) {
	path := func(wire, want string) {
		t.Helper()
		if got := string(appendPath(nil, wire)); got != want {
			t.Errorf("%s: got %s, want %s", wire, got, want)
		}
	}
	// As AWS's answers to wrong signatures have it: https://github.com/higress-group/higress/issues/2396.
	path("/model/anthropic.claude-3-5-sonnet-20240620-v1%3A0/converse", "/model/anthropic.claude-3-5-sonnet-20240620-v1%253A0/converse")
	path("/model/anthropic.claude-3-5-sonnet-20240620-v1:0/converse", "/model/anthropic.claude-3-5-sonnet-20240620-v1%3A0/converse")
	path("/model/arn%3aaws%3Abedrock%2Fx/invoke", "/model/arn%253aaws%253Abedrock%252Fx/invoke")
	path("/%E1%88%B4", "/%25E1%2588%25B4")
	path("/a/../../b/./c//", "/b/c/")
	path("/a/.%2e/b", "/a/.%252e/b")
	path("/a;b=c,d@e!$&'()*+#", "/a%3Bb%3Dc%2Cd%40e%21%24%26%27%28%29%2A%2B%23")
	path("", "/")

	query := func(wire, want string) {
		t.Helper()
		if got := string(appendQuery(nil, wire)); got != want {
			t.Errorf("%s: got %s, want %s", wire, got, want)
		}
	}
	query("", "")
	query("b&a=&c=1=2", "a=&b=&c=1%3D2")
	query("a=2&a=1&a=%31&a", "a=&a=1&a=1&a=2")
	query("a=%2f%2F/&%61=x+y%20z%2b", "a=%2F%2F%2F&a=x%20y%20z%2B")
	query("&&a=b&", "a=b")
	query("a=100%&b=%zz&c=%4", "a=100%25&b=%25zz&c=%254")
	query("a-b=1&a=1", "a=1&a-b=1")
}

func TestSign(t *testing.T) {
	f := func(what string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	c := suite
	c.SessionToken, c.BasePath = "a-token", "/base"
	s := NewSigner(c)
	r := Request{Method: "POST", Target: "/x?y=z", Fields: []Field{{"host", "h"}, {"content-type", "text/plain"}}, Payload: sha256.Sum256([]byte("body"))}
	sign := func(at time.Time) map[string]string {
		values := map[string]string{}
		for _, field := range s.Sign(r, at) {
			values[field.Name] = field.Value
		}
		return values
	}
	first := sign(suiteTime.In(time.FixedZone("", 3600)))
	f("fields", len(first), 4)
	f("date", first[fieldDate], suiteStamp)
	f("content", first[fieldContent], "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5")
	f("token", first[fieldToken], "a-token")
	all := append(r.Fields[:2:2], Field{fieldDate, suiteStamp}, Field{fieldContent, first[fieldContent]}, Field{fieldToken, "a-token"})
	whole := Request{Method: "POST", Target: "/base/x?y=z", Fields: all}
	f("authorization", first["authorization"], NewSigner(c).authorization(whole, suiteStamp, first[fieldContent]))
	f("signed fields", strings.Contains(first["authorization"],
		"SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-security-token,"), true)
	f("a second one of the same second", sign(suiteTime)["authorization"], first["authorization"])
	next := sign(suiteTime.Add(24 * time.Hour))
	f("the next day's scope", strings.Contains(next["authorization"], "/20150831/"), true)
	whole.Fields[2].Value = next[fieldDate]
	f("the next day", next["authorization"], NewSigner(c).authorization(whole, "20150831T123600Z", first[fieldContent]))
	f("the day before again", sign(suiteTime)["authorization"], first["authorization"])
	f("the request's own fields", len(r.Fields), 2)
}
