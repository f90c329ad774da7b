package proxy

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// credentialHeaders are the forms of a token, beside ?key=, in canonical form.
var credentialHeaders = [...]string{"Authorization", "X-Api-Key", "Api-Key"}

// authorize finds out who the caller is and whether it may use Edge.
func (a *arrival) authorize() error {
	for _, via := range a.r.Header["Via"] {
		if strings.Contains(via, a.p.via) {
			return errLoop
		}
	}
	if a.gen.open {
		if !a.gen.config.Auth.Open && headerOf(a.r.Header, "Sec-Fetch-Site") == "cross-site" {
			return worded(errForbidden, "a web page of another site may not use this Edge, which has no tokens; set auth.tokens or auth.open")
		}
		return nil
	}
	for _, name := range credentialHeaders {
		if a.caller = a.callerBy(name, headerOf(a.r.Header, name)); a.caller != nil {
			return nil
		}
	}
	if key, ok := queryKey(rawTarget(a.r)); ok {
		a.caller = a.callerOf(key)
	}
	if a.caller == nil {
		return errUnauthorized
	}
	return nil
}

// headerOf is http.Header.Get for a name in canonical form, which Get makes of it each time.
func headerOf(h http.Header, canonical string) string {
	if values := h[canonical]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// callerBy returns whose token a header field is, or nil.
func (a *arrival) callerBy(name, value string) *caller {
	if name == "Authorization" {
		token, ok := bearerToken(value)
		if !ok {
			return nil
		}
		return a.callerOf(token)
	}
	return a.callerOf(value)
}

// callerOf compares got with every token, each in constant time, and returns whose it is, or nil.
func (a *arrival) callerOf(got string) (found *caller) {
	for i := range a.gen.callers {
		if c := &a.gen.callers[i]; c.token.Value.equal(got) {
			found = c
		}
	}
	return found
}

// known reports whether got is one of Edge's tokens.
func (a *arrival) known(got string) bool { return a.callerOf(got) != nil }

func bearerToken(value string) (string, bool) {
	const scheme = "Bearer "
	if len(value) < len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return "", false
	}
	return strings.TrimSpace(value[len(scheme):]), true
}

// queryKey returns the decoded value of the target's first key parameter.
func queryKey(target string) (string, bool) {
	_, query, _ := strings.Cut(target, "?")
	for pair := range strings.SplitSeq(query, "&") {
		if value, ok := keyParameter(pair); ok {
			return value, true
		}
	}
	return "", false
}

// keyParameter returns the decoded value of a parameter called key, however its name is written.
func keyParameter(pair string) (value string, ok bool) {
	name, value, _ := strings.Cut(pair, "=")
	if decoded, err := url.QueryUnescape(name); err != nil || decoded != "key" {
		return "", false
	}
	decoded, err := url.QueryUnescape(value)
	return decoded, err == nil
}

// appendWithoutKeys appends a target to dst without those of its key parameters that drop wants dropped, and
// each other byte as it is.
func appendWithoutKeys(dst []byte, target string, drop func(value string) bool) []byte {
	path, query, has := strings.Cut(target, "?")
	dst = append(dst, path...)
	if !has {
		return dst
	}
	separator, dropped := byte('?'), false
	for pair := range strings.SplitSeq(query, "&") {
		if value, ok := keyParameter(pair); ok && drop(value) {
			dropped = true
			continue
		}
		dst = append(append(dst, separator), pair...)
		separator = '&'
	}
	if separator == '?' && !dropped { // an empty query
		dst = append(dst, '?')
	}
	return dst
}

// withoutTokens takes out of q what the caller has shown to Edge and is not for the provider.
func (x *exchange) withoutTokens(q *upstream.Request) {
	if x.key != "" { // replaces the caller's own in all four forms
		for _, name := range credentialHeaders {
			q.Fields.Del(name)
		}
		x.dropKeys(q, func(string) bool { return true })
	} else if !x.gen.open { // Edge's tokens stay here, what else the caller sent is the provider's
		q.Fields = slices.DeleteFunc(q.Fields, func(f upstream.Field) bool {
			return slices.Contains(credentialHeaders[:], f.Name) && x.callerBy(f.Name, f.Value) != nil
		})
		x.dropKeys(q, x.known)
	}
}

// withKey sets the configured fields and puts the provider's key in. It comes last, so that nothing else ever sees
// them.
func (x *exchange) withKey(q *upstream.Request) {
	for _, field := range x.end.extra {
		q.Fields.Set(field.Name, field.Value)
	}
	x.end.putKey(q, x.key)
}

// putKey puts a key in as the provider takes it.
func (e *endpoint) putKey(q *upstream.Request, key Secret) {
	switch {
	case key == "":
	case e.manners.KeyQuery != "":
		q.Target = withQuery(q.Target, e.manners.KeyQuery, key.Reveal())
	default:
		q.Fields.Set(e.manners.KeyHeader, e.keyField(key))
	}
}

// withQuery adds a parameter to a target's query.
func withQuery(target, name, value string) string {
	separator := "?"
	if strings.Contains(target, "?") {
		separator = "&"
	}
	return target + separator + name + "=" + url.QueryEscape(value)
}

// keyField is the value of the field by which the provider takes its key. Those used last are kept: a provider has few.
func (e *endpoint) keyField(key Secret) string {
	kept := &e.keyFields[(len(key)+int(key[len(key)-1]))%len(e.keyFields)]
	if of := kept.Load(); of != nil && of.key == key {
		return of.value
	}
	of := &keyField{key, e.manners.KeyPrefix + key.Reveal()}
	kept.Store(of)
	return of.value
}

// dropKeys takes key parameters out of the target, which it writes anew in the header block.
func (x *exchange) dropKeys(q *upstream.Request, drop func(value string) bool) {
	if strings.Contains(q.Target, "?") {
		q.Target = string(appendWithoutKeys(x.head.P()[:0], q.Target, drop))
	}
}

// headerName and headerValue report what may stand in a header (RFC 9110, section 5).
func headerName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

func headerValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// hopByHop reports whether a field, in canonical form, concerns one connection only (RFC 9110, section 7.6.1).
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// forwarding are the fields by which a caller could pretend to be another; a provider gets none of them.
func forwarding(name string) bool {
	return name == "Forwarded" || name == "X-Real-Ip" || strings.HasPrefix(name, "X-Forwarded-")
}

// upgradeOf returns the protocol that a Connection: Upgrade asks for (RFC 9110, section 7.8), or "".
func upgradeOf(h http.Header) string {
	for _, value := range h["Connection"] {
		for token := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(token), "upgrade") {
				return h.Get("Upgrade")
			}
		}
	}
	return ""
}
