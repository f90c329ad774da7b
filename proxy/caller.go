package proxy

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// credential says in which form a caller's token came. It is removed before the request goes on.
type credential uint8

const (
	noCredential credential = iota
	inAuthorization
	inXAPIKey
	inAPIKey
	inQuery
)

// credentialHeaders are the forms that are headers.
var credentialHeaders = [...]string{inAuthorization: "Authorization", inXAPIKey: "X-Api-Key", inAPIKey: "Api-Key"}

// authorize finds out whether the caller may use Edge, and in which form its token came.
func (a *arrival) authorize() error {
	for _, via := range a.r.Header["Via"] {
		if strings.Contains(via, a.p.via) {
			return errLoop
		}
	}
	if a.gen.open {
		if !a.gen.config.Auth.Open && a.r.Header.Get("Sec-Fetch-Site") == "cross-site" {
			return worded(errForbidden, "a web page of another site may not use this Edge, which has no tokens; set auth.tokens or auth.open")
		}
		return nil
	}
	if got, ok := bearerToken(a.r.Header.Get("Authorization")); ok && a.known(got) {
		a.token = inAuthorization
	} else if a.known(a.r.Header.Get("X-Api-Key")) {
		a.token = inXAPIKey
	} else if a.known(a.r.Header.Get("Api-Key")) {
		a.token = inAPIKey
	} else if key, ok := queryKey(rawTarget(a.r)); ok && a.known(key) {
		a.token = inQuery
	} else {
		return errUnauthorized
	}
	return nil
}

// known compares got with every token, each in constant time.
func (a *arrival) known(got string) bool {
	found := false
	for _, token := range a.gen.config.Auth.Tokens {
		found = token.equal(got) || found
	}
	return found
}

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
		if name, value, _ := strings.Cut(pair, "="); name == "key" {
			decoded, err := url.QueryUnescape(value)
			return decoded, err == nil
		}
	}
	return "", false
}

// appendWithoutKey appends a target to dst without its key parameters, and each other byte as it is.
func appendWithoutKey(dst []byte, target string) []byte {
	path, query, has := strings.Cut(target, "?")
	dst = append(dst, path...)
	if !has {
		return dst
	}
	separator, dropped := byte('?'), false
	for pair := range strings.SplitSeq(query, "&") {
		if name, _, _ := strings.Cut(pair, "="); name == "key" {
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

// credentials takes the caller's credentials out of what goes upstream and puts the provider's key in. The
// key goes in last, so that nothing else ever sees it.
func (x *exchange) credentials(q *upstream.Request) error {
	key, err := x.gen.keys.Key(x.end.name, x.model)
	if err != nil {
		return worded(errKeySource, "there is no key for %s", x.end.name)
	}
	switch {
	case key != "": // replaces all four forms
		for _, name := range credentialHeaders[inAuthorization:] {
			q.Fields.Del(name)
		}
		x.dropQueryKey(q)
		q.Fields.Set(x.end.manners.KeyHeader, x.end.manners.KeyPrefix+key.Reveal())
	case x.token == inQuery:
		x.dropQueryKey(q)
	case x.token != noCredential:
		q.Fields.Del(credentialHeaders[x.token])
	}
	return nil
}

// dropQueryKey takes the key parameters out of the target, which it writes anew in the header block.
func (x *exchange) dropQueryKey(q *upstream.Request) {
	if strings.Contains(q.Target, "key") {
		q.Target = string(appendWithoutKey(x.head.P()[:0], q.Target))
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

// hopByHop are the fields that concern one connection only (RFC 9110, section 7.6.1), in canonical form.
var hopByHop = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Connection": true, "Proxy-Authenticate": true,
	"Proxy-Authorization": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
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
