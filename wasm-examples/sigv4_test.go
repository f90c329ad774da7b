package examples_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	sigv4Key    = "AKIDEXAMPLE"
	sigv4Secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

// sigv4Fault recomputes the signature of a request as AWS would, from nothing but what has arrived, and says what is wrong
// with it. It shares no code with the plugin.
func sigv4Fault(r *http.Request, body []byte, service, token string) error {
	value, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if all := r.Header.Values("Authorization"); !ok || len(all) != 1 {
		return fmt.Errorf("the authorization is %q", all)
	}
	parts := map[string]string{}
	for part := range strings.SplitSeq(value, ", ") {
		name, value, _ := strings.Cut(part, "=")
		parts[name] = value
	}
	stamp := r.Header.Get("X-Amz-Date")
	at, err := time.Parse("20060102T150405Z", stamp)
	if age := time.Since(at).Abs(); err != nil || age > 5*time.Minute {
		return fmt.Errorf("the time %q is %v off: %w", stamp, age, err)
	}
	scope := []string{at.Format("20060102"), "us-east-1", service, "aws4_request"}
	if want := sigv4Key + "/" + strings.Join(scope, "/"); parts["Credential"] != want {
		return fmt.Errorf("the credential is %q, want %q", parts["Credential"], want)
	}
	if got := r.Header.Get("X-Amz-Security-Token"); got != token {
		return fmt.Errorf("the token is %q, want %q", got, token)
	}

	signed := strings.Split(parts["SignedHeaders"], ";")
	if !slices.IsSorted(signed) {
		return fmt.Errorf("the signed fields %q are not sorted", signed)
	}
	for name := range r.Header {
		name = strings.ToLower(name)
		if (strings.HasPrefix(name, "x-amz-") || name == "content-type") && !slices.Contains(signed, name) {
			return fmt.Errorf("%s is not signed", name)
		}
	}
	payload := fmt.Sprintf("%x", sha256.Sum256(body))
	if got := r.Header.Get("X-Amz-Content-Sha256"); got != payload {
		return fmt.Errorf("the content's hash is %q, want %q", got, payload)
	}
	canonical, err := sigv4Canonical(r, signed, payload)
	if err != nil {
		return err
	}
	toSign := fmt.Sprintf("AWS4-HMAC-SHA256\n%s\n%s\n%x", stamp, strings.Join(scope, "/"), sha256.Sum256([]byte(canonical)))
	key := []byte("AWS4" + sigv4Secret)
	for _, text := range append(scope, toSign) {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(text))
		key = mac.Sum(nil)
	}
	if want := fmt.Sprintf("%x", key); parts["Signature"] != want {
		return fmt.Errorf("the signature is %s, want %s of\n%s", parts["Signature"], want, canonical)
	}
	return nil
}

// sigv4Canonical is the canonical form of a request of which those fields are signed.
func sigv4Canonical(r *http.Request, signed []string, payload string) (string, error) {
	header := r.Header.Clone()
	header.Set("Host", r.Host)
	fields := ""
	for _, name := range signed {
		values := header.Values(name)
		if len(values) == 0 {
			return "", fmt.Errorf("%s is signed and not there", name)
		}
		for i, value := range values {
			values[i] = strings.Join(strings.Fields(value), " ")
		}
		fields += name + ":" + strings.Join(values, ",") + "\n"
	}

	wirePath, wireQuery, _ := strings.Cut(r.RequestURI, "?")
	segments := strings.Split(path.Clean(wirePath), "/")
	for i := range segments {
		segments[i] = url.QueryEscape(segments[i])
	}
	canonicalPath := strings.Join(segments, "/")
	if strings.HasSuffix(wirePath, "/") && canonicalPath != "/" {
		canonicalPath += "/"
	}
	query, err := url.ParseQuery(wireQuery)
	if err != nil {
		return "", err
	}
	var pairs []string
	for name, values := range query {
		for _, value := range values {
			pairs = append(pairs, strings.ReplaceAll(url.QueryEscape(name)+"="+url.QueryEscape(value), "+", "%20"))
		}
	}
	slices.Sort(pairs) // as long as no name is the beginning of another
	return strings.Join([]string{r.Method, canonicalPath, strings.Join(pairs, "&"), fields, strings.Join(signed, ";"), payload}, "\n"), nil
}

// signedAttempt is what a signedUpstream remembers of a request.
type signedAttempt struct{ host, authorization string }

// signedUpstream refuses what is not signed well, as AWS does, and then what refuse says. Else it answers as a caseUpstream.
type signedUpstream struct {
	*caseUpstream
	service, token string
	refuse         func(*http.Request) bool

	mu       sync.Mutex
	faults   []error
	attempts map[string][]signedAttempt // by exchange
}

func startSigned(t *testing.T, service, token string) *signedUpstream {
	t.Helper()
	u := &signedUpstream{caseUpstream: &caseUpstream{}, service: service, token: token, attempts: map[string][]signedAttempt{}}
	u.Server = httptest.NewServer(u)
	t.Cleanup(u.Close)
	return u
}

func (u *signedUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = sigv4Fault(r, body, u.service, u.token)
	}
	id := r.Header.Get(exchangeHeader)
	u.mu.Lock()
	u.attempts[id] = append(u.attempts[id], signedAttempt{r.Host, r.Header.Get("Authorization")})
	if err != nil {
		u.faults = append(u.faults, fmt.Errorf("%s %s: %w", r.Method, r.RequestURI, err))
	}
	u.mu.Unlock()
	switch {
	case err != nil:
		w.WriteHeader(http.StatusForbidden)
	case u.refuse != nil && u.refuse(r):
		w.WriteHeader(http.StatusServiceUnavailable)
	default:
		r.Body = io.NopCloser(bytes.NewReader(body))
		u.caseUpstream.ServeHTTP(w, r)
	}
}

// expect sends a request to edge, whole and in chunks, and expects it to arrive signed. target is what it is to arrive with.
func (u *signedUpstream) expect(t *testing.T, edge *process, line, target, body string, headers ...string) {
	t.Helper()
	method, _, _ := strings.Cut(line, " ")
	answer := parseMessage(defaultAnswer)
	c := testCase{
		request: message{line + " HTTP/1.1", headers, body}, upstream: answer, wantResponse: &answer,
		wantRequest: &message{first: method + " " + target + " HTTP/1.1", body: "*"},
	}
	for _, split := range []bool{false, true} {
		if err := u.exchange(c, edge.address, split); err != nil {
			t.Errorf("%s (in chunks: %t): %v", line, split, err)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, fault := range u.faults {
		t.Error(fault)
	}
	u.faults = nil
}

// TestSigV4 sends requests through edge and the plugin to an upstream that checks their signatures.
func TestSigV4(t *testing.T) {
	u := startSigned(t, "bedrock", "")
	edge := start(t, build(t), "aws-sigv4", readConfig(t, "aws-sigv4", testCase{}), u.URL)
	if edge.address == "" {
		t.Fatalf("edge does not serve:\n%s", &edge.stderr)
	}
	f := func(line, body string, headers ...string) {
		t.Helper()
		_, target, _ := strings.Cut(line, " /demo")
		u.expect(t, edge, line, target, body, headers...)
	}
	f("GET /demo/", "")
	f("GET /demo/model/m", "")
	f("DELETE /demo/model/m", "")
	f("POST /demo/model/m/invoke", "")
	f("POST /demo/model/m/invoke", `{"a":1}`, "Content-Type: application/json")
	f("POST /demo/model/m/invoke", strings.Repeat("0123456789", 5000), "Content-Type: application/octet-stream") // longer than a slot
	f("POST /demo/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse", "{}", "Content-Type: application/json;   charset=utf-8")
	f("POST /demo/model/anthropic.claude-3-haiku-20240307-v1:0/converse", "{}", "Content-Type: a/b", "Content-Type: c/d")
	f("POST /demo/model/arn%3aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fp/invoke", "{}")
	f("GET /demo/a;b=c,d@e!$&'()*+~-._/%E1%88%B4/ሴ/%25", "")
	f("GET /demo//x/./y/../z//", "")
	f("GET /demo/a?z=1&b=2&a=&flag&z=0&B=3", "")
	f("GET /demo/a?q=%2f+x%20y%2B/~&%C3%BC=ü&m='()*!", "")
	f("GET /demo/a?", "")
	f("POST /demo/a", "{}", "Authorization: AWS4-HMAC-SHA256 Credential=other", "X-Amz-Date: 20150830T123600Z",
		"X-Amz-Security-Token: other", "X-Amz-Content-Sha256: UNSIGNED-PAYLOAD", "x-amz-acl: public-read", "X-Amz-Acl: private")
	f("POST /demo/a", "{}", "Authorization: Bearer x", "Authorization: Bearer y", "Via: 1.0 other", "TE: trailers", "X-Forwarded-For: 1.2.3.4",
		"Connection: X-Amz-Meta, Content-Type", "X-Amz-Meta: x", "Content-Type: text/plain")
}

// TestSigV4BasePathAndRetries has a provider with two addresses, a path in both, a plugin that changes the content before
// it is signed, and temporary credentials. Each attempt is at another address than the one before, so that it must be
// signed for that.
func TestSigV4BasePathAndRetries(t *testing.T) {
	u := startSigned(t, "execute-api", "a/token==")
	second := httptest.NewServer(u)
	t.Cleanup(second.Close)
	u.refuse = func(r *http.Request) bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		return r.Header.Get("X-Refused-Times") > fmt.Sprint(len(u.attempts[r.Header.Get(exchangeHeader)])-1)
	}
	config := readConfig(t, "aws-sigv4", testCase{config: `{"access_key_id":"` + sigv4Key + `","secret_access_key":"env.TEST_SECRET",
		"session_token":"a/token==","region":"us-east-1","service":"execute-api","base_path":"/stage%2F1/x/","keep_headers":["X-Amz-Target"]}`})
	config.Plugins[0]["max_body_mb"], config.Plugins[0]["timeout_ms"] = 1, 10_000 // wazero's interpreter takes its time
	redact, err := filepath.Abs("redact-json/redact-json.wasm")
	if err != nil {
		t.Fatal(err)
	}
	config.Plugins = append(config.Plugins, map[string]any{"name": "redact-json", "path": redact, "phases": []string{"request"}, "timeout_ms": 10_000})
	edge := start(t, build(t), "aws-sigv4", config, u.URL+"/stage%2F1/x/", "TEST_SECRET="+sigv4Secret,
		"EDGE_PROVIDERS_DEMO_PLUGINS=redact-json,aws-sigv4", "EDGE_PROVIDERS_DEMO_BASE_URLS="+second.URL+"/stage%2F1/x",
		"EDGE_PROVIDERS_DEMO_MAX_RETRIES=3", "EDGE_PROVIDERS_DEMO_RETRY_BACKOFF_INITIAL=1")
	if edge.address == "" {
		t.Fatalf("edge does not serve:\n%s", &edge.stderr)
	}
	u.expect(t, edge, "GET /demo/", "/stage%2F1/x/", "")
	u.expect(t, edge, "GET /demo/../%3A?a=b", "/stage%2F1/x/../%3A?a=b", "")
	u.expect(t, edge, "POST /demo/", "/stage%2F1/x/", "{}", "X-Amz-Target: T.One", "X-Amz-Target: T.Two", "X-Amz-Other: x")
	u.expect(t, edge, "POST /demo/y", "/stage%2F1/x/y", `{"password":"x","to":"joe@example.com"}`, "Content-Type: application/json")

	u.mu.Lock()
	before := len(u.attempts)
	u.mu.Unlock()
	for range 2 { // four exchanges: a fifth failure in a row would take an address out
		u.expect(t, edge, "POST /demo/y", "/stage%2F1/x/y", strings.Repeat(`"me a@b.cc", `, 3000), "X-Refused-Times: 2")
	}
	u.mu.Lock()
	for id, attempts := range u.attempts {
		if len(attempts) == 1 {
			continue
		}
		before++
		if len(attempts) != 3 || attempts[0].host == attempts[1].host || attempts[0].authorization == attempts[1].authorization ||
			attempts[1].host == attempts[2].host || attempts[1].authorization == attempts[2].authorization {
			t.Errorf("exchange %s: got the attempts %q, want three at changing addresses, each signed anew", id, attempts)
		}
	}
	if before != len(u.attempts) {
		t.Errorf("%d exchanges had several attempts, want 4", before-len(u.attempts)+4)
	}
	u.mu.Unlock()

	large := testCase{
		request:      message{"POST /demo/y HTTP/1.1", nil, strings.Repeat("x", 1<<20+1)},
		wantNone:     true,
		wantResponse: &message{"HTTP/1.1 413 Request Entity Too Large", []string{"X-Edge-Reason: body_too_large"}, "*"},
	}
	if err := u.exchange(large, edge.address, false); err != nil {
		t.Errorf("content beyond max_body_mb: %v", err)
	}
	if strings.Contains(edge.stderr.String(), sigv4Secret) {
		t.Error("the secret is in the log")
	}
}

// TestSigV4KeepsItsSecret starts edge with wrong configurations: it refuses them, and shows no secret.
func TestSigV4KeepsItsSecret(t *testing.T) {
	f := func(config, want string) {
		t.Helper()
		edge := start(t, build(t), "aws-sigv4", readConfig(t, "aws-sigv4", testCase{config: config}), "http://127.0.0.1:1")
		if edge.address != "" || !strings.Contains(edge.stderr.String(), "aws-sigv4: configuration: "+want) {
			t.Errorf("%s: got\n%s\nwant %q", config, &edge.stderr, want)
		}
		if strings.Contains(edge.stderr.String(), "wJalrX") {
			t.Errorf("%s: the secret is in the log:\n%s", config, &edge.stderr)
		}
	}
	f(`{"access_key_id":"A","secret_access_key":"`+sigv4Secret+`","region":"`+sigv4Secret+`"}`, "region: want")
	f(`{"access_key_id":"A","secret_access_key":"`+sigv4Secret+`","regoin":"us-east-1"}`, "no key is called")
}
