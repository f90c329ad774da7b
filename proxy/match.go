package proxy

import (
	"net"
	"net/http"
	"strings"
)

// builtinModels is the built-in route /v1/*.
var builtinModels = route{path: "/v1/", below: true, byModel: true}

// greeting answers GET /.
const greeting = "Edge: a proxy for HTTP APIs. Its admin page is on the admin listener (admin.listen, 127.0.0.1:9090 unless configured).\n"

// maxChoices is how many names an error lists.
const maxChoices = 40

// match finds where the request goes: its route, its target and, unless the body must be read for it, its
// provider.
func (a *arrival) match() error {
	raw := rawTarget(a.r)
	if !printable(raw) { // HTTP/2's :path may hold what would end an HTTP/1.1 request line
		return worded(errBadRequest, "the target holds a space or a control character")
	}
	if !passedOn(a.r.Method) {
		return worded(errBadRequest, "%s is not passed on", a.r.Method)
	}
	path, _, _ := strings.Cut(raw, "?")
	host := hostname(a.r.Host)
	configured := a.gen.routes.match(host, path)
	built, end, rest := a.builtin(raw, path)
	switch {
	case configured != nil && (built == nil || len(configured.path) >= len(built.path)):
		a.route, a.end, a.plugins = configured, configured.end, configured.plugins
		a.target = configured.targetOf(raw)
	case built != nil:
		a.route, a.end, a.target = built, end, rest
		if adds := a.gen.added.match(host, path); adds != nil {
			a.plugins = adds.plugins
		}
	default:
		return a.noRoute(path)
	}
	return nil
}

// passedOn reports whether requests of a method go to providers. TRACE would show the caller the provider's key (RFC
// 9110, section 9.3.8), CONNECT asks for a tunnel.
func passedOn(method string) bool { return method != http.MethodTrace && method != http.MethodConnect }

// targetOf returns what follows the base URL when raw is asked for: raw without the prefix that the route strips. What a
// plugin has made of the path may be none of the route's: that stays as it is.
func (r *route) targetOf(raw string) string {
	target := raw
	if path, _, _ := strings.Cut(raw, "?"); r.covers(path) {
		target = strings.TrimPrefix(raw, r.strip)
	}
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	return target
}

// builtin matches /<provider>/<rest> and /v1/*.
func (a *arrival) builtin(raw, path string) (*route, *endpoint, string) {
	name, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if name == "v1" && strings.HasPrefix(path, "/v1/") {
		return &builtinModels, nil, raw
	}
	end := a.gen.endpoints[name]
	if end == nil || !strings.HasPrefix(path, "/") {
		return nil, nil, ""
	}
	return &end.builtin, end, end.builtin.targetOf(raw)
}

func (a *arrival) noRoute(path string) error {
	if path == "/" && (a.r.Method == http.MethodGet || a.r.Method == http.MethodHead) {
		return errGreeting
	}
	if len(a.gen.names) == 0 {
		return worded(errNotFound, "no provider is configured")
	}
	choices := []string{"/v1/*"}
	for _, name := range a.names() {
		choices = append(choices, "/"+name+"/*")
	}
	for _, r := range a.gen.routes.routes {
		if a.caller.mayReach(r.end.name) != nil {
			continue
		}
		pattern := r.host + r.path
		if r.below {
			pattern += "*"
		}
		choices = append(choices, pattern)
	}
	if len(choices) > maxChoices {
		choices = append(choices[:maxChoices], "...")
	}
	return worded(errNotFound, "no route matches; there are %s", strings.Join(choices, ", "))
}

// rawTarget is the path and query as they stood on the request line (HTTP/2: in :path).
func rawTarget(r *http.Request) string {
	raw := r.RequestURI
	if raw == "" { // a request that was not parsed by a server, as httptest.NewRequest's clones
		raw = r.URL.RequestURI()
	}
	if strings.HasPrefix(raw, "/") {
		return raw
	}
	if _, after, ok := strings.Cut(raw, "://"); ok { // absolute form (RFC 9112, section 3.2.2)
		if slash := strings.IndexAny(after, "/?"); slash >= 0 {
			return "/" + strings.TrimPrefix(after[slash:], "/")
		}
		return "/"
	}
	return raw
}

func printable(target string) bool {
	for i := range len(target) {
		if target[i] <= ' ' || target[i] == 0x7f {
			return false
		}
	}
	return true
}

// hostname is a Host field without its port.
func hostname(host string) string {
	if strings.IndexByte(host, ':') < 0 {
		return host // SplitHostPort would allocate an error
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return host
}
