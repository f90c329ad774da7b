package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// guard decides who is served. Nothing in it changes after newGuard.
type guard struct {
	hasToken   bool
	tokenSum   [sha256.Size]byte
	listenHost string // the host of admin.listen; may be empty
}

func newGuard(c Config) guard {
	host, _, _ := net.SplitHostPort(c.Listen) // Validate has seen it
	return guard{c.Token != "", sha256.Sum256([]byte(c.Token.Reveal())), host}
}

// check returns nil when r may have what asks for a.
func (g *guard) check(r *http.Request, a access) *apiError {
	if a == byAll {
		return nil
	}
	for _, site := range r.Header.Values("Sec-Fetch-Site") {
		if strings.EqualFold(site, "cross-site") {
			return forbidden("a page of another site may not use the admin plane (Sec-Fetch-Site: cross-site)")
		}
	}
	for _, origin := range r.Header.Values("Origin") {
		if !strings.EqualFold(origin, "http://"+r.Host) && !strings.EqualFold(origin, "https://"+r.Host) {
			return forbidden("a page of another origin may not use the admin plane: Origin must be http:// or https:// and the Host")
		}
	}
	if g.tokenIn(r) {
		return nil
	}
	if g.hasToken && a == byToken {
		return &apiError{http.StatusUnauthorized, "unauthorized", "send the admin token as Authorization: Bearer"}
	}
	if !g.hostAllowed(r.Host) {
		return forbidden("without a token, Host must be an IP address, localhost or the name in admin.listen, lest a web page gets here by DNS rebinding")
	}
	return nil
}

// tokenIn reports whether r carries the token. Sums have one length, so the time of the comparison tells
// neither the token's length nor how much of it was right.
func (g *guard) tokenIn(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !g.hasToken || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	sum := sha256.Sum256([]byte(strings.TrimLeft(token, " ")))
	return subtle.ConstantTimeCompare(sum[:], g.tokenSum[:]) == 1
}

// hostAllowed reports whether hostport is not a name that another's DNS could point here.
func (g *guard) hostAllowed(hostport string) bool {
	u, err := url.Parse("http://" + hostport)
	if err != nil || u.Host != hostport { // "127.0.0.1:1@evil.example" is one that differs
		return false
	}
	host := u.Hostname()
	if host == "" {
		return false
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return strings.EqualFold(host, "localhost") || strings.EqualFold(host, g.listenHost)
}

func forbidden(message string) *apiError {
	return &apiError{http.StatusForbidden, "forbidden", message}
}
