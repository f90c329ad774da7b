package proxy

import (
	"crypto/x509"
	"errors"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/edge-proxy/edge/limiter"
	"github.com/edge-proxy/edge/proxy/upstream"
)

// generation is one configuration in force: immutable, swapped by one pointer, pinned by each exchange for
// its whole life. What must outlive it (gates, counters, arena, unchanged upstream connections) hangs on
// provider and Proxy instead.
type generation struct {
	config    Config
	keys      KeySource
	endpoints map[string]*endpoint
	names     []string // of the endpoints, sorted
	routes    table
	added     table // of the routes that add plugins to a built-in one
	plugins   map[string]*loadedPlugin
	pins      atomic.Int64  // who needs the plugins: being in force is one, each exchange another
	open      bool          // callers need no token
	callers   []caller      // by token
	longest   time.Duration // of the providers' timeouts
	trusted   []netip.Prefix

	longestTotal time.Duration // of the providers' total timeouts; 0: one has none
}

// endpoint is a provider as one generation configures it.
type endpoint struct {
	*provider
	config    Provider
	manners   KnownProvider
	replicas  []replica // at least one; the first is base_url
	ring      *keyRing
	fallbacks []destination
	extra     upstream.Fields
	plugins   []*loadedPlugin
	tokens    []tokenFamily   // model_families, and other
	builtin   route           // /<name>/*
	shares    *limiter.Shares // nil with one caller

	keyFields [8]atomic.Pointer[keyField]
}

// keyField is a key and the field's value that is made of it.
type keyField struct {
	key   Secret
	value string
}

// provider is what outlives generations, by name.
type provider struct {
	name   string
	gate   *limiter.Gate
	shares *limiter.Shares // nil until there were several callers; changed under Proxy.mu
	stats  *providerStats

	health   map[string]*health // by base URL; made by Reload, one at a time
	retrying atomic.Int64       // requests in their second attempt or a later one

	warned atomic.Uint64 // when a failure was logged last, as now tells it
	quota  quota
}

// newGeneration builds what c says, taking over from p what goes on unchanged. It makes the providers that
// are new; Reload resizes the gates of the others.
func (p *Proxy) newGeneration(c Config, loaded map[string]*loadedPlugin) (*generation, error) {
	g := &generation{
		config: c, keys: c.Keys, plugins: loaded,
		endpoints: map[string]*endpoint{}, names: slices.Sorted(maps.Keys(c.Providers)),
	}
	g.pins.Store(1)
	g.open = len(c.Auth.Tokens) == 0
	g.trusted = networks(c.TrustedProxies)
	for _, name := range g.names {
		end, err := p.newEndpoint(name, c.Providers[name])
		if err != nil {
			return nil, err
		}
		end.plugins = chain(loaded, end.config.Plugins)
		g.endpoints[name] = end
		g.longest = max(g.longest, end.config.Timeout)
	}
	for _, end := range g.endpoints {
		if g.longestTotal = max(g.longestTotal, end.config.TotalTimeout); end.config.TotalTimeout == 0 {
			g.longestTotal = 0
			break
		}
	}
	for name, end := range g.endpoints { // now that nothing can fail: what is made here is there to stay
		if p.providers[name] == nil {
			p.providers[name] = &provider{
				name: name, gate: limiter.New(limits(c, end.config)), stats: newProviderStats(p.sets, name), health: map[string]*health{},
			}
		}
		end.join(p.providers[name])
		end.ring = newKeyRing(end.config, &end.quota)
		if len(c.Auth.Tokens) > 1 {
			if end.provider.shares == nil {
				end.provider.shares = limiter.NewShares(callerLines)
			}
			end.shares = end.provider.shares
		}
		end.tokens = end.stats.tokens.of(end.config.ModelFamilies)
	}
	if g.keys == nil {
		g.keys = keyRings(g.endpoints)
	}
	for _, end := range g.endpoints {
		end.fallbacks = destinations(end.config.Fallbacks, g.endpoints)
	}
	g.callers = p.newCallers(c, g.names)
	g.routes, g.added = newTables(c.Routes, g.endpoints, loaded)
	return g, nil
}

// pin keeps the generation's plugins for an exchange, until unpin. It returns false when they are closed already:
// then there is a newer generation.
func (g *generation) pin() bool {
	if len(g.plugins) == 0 {
		return true
	}
	for {
		n := g.pins.Load()
		if n == 0 {
			return false
		}
		if g.pins.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// unpin ends one need of the generation's plugins.
func (g *generation) unpin() {
	if len(g.plugins) == 0 || g.pins.Add(-1) > 0 {
		return
	}
	for _, plugin := range g.plugins {
		plugin.release()
	}
}

func (p *Proxy) newEndpoint(name string, c Provider) (*endpoint, error) {
	end := &endpoint{config: c, manners: manners(name, c)}
	end.builtin = route{path: "/" + name + "/", below: true, strip: "/" + name, end: end}
	for _, name := range slices.Sorted(maps.Keys(c.ExtraHeaders)) {
		end.extra.Add(name, c.ExtraHeaders[name])
	}
	var before *endpoint
	if old := p.current.Load(); old != nil {
		before = old.endpoints[name]
	}
	for _, base := range append([]string{end.manners.BaseURL}, c.BaseURLs...) {
		r, err := p.newReplica(strings.TrimRight(base, "/"), c, before)
		if err != nil {
			return nil, err
		}
		end.replicas = append(end.replicas, r)
	}
	return end, nil
}

// newReplica makes what speaks to one base URL, or takes over the connections that before has to it.
func (p *Proxy) newReplica(base string, c Provider, before *endpoint) (replica, error) {
	r := replica{base: base}
	if u, err := url.Parse(base); err == nil {
		r.host, r.scheme = u.Host, u.Scheme
	}
	if before != nil && sameConnections(before.config, c) {
		for i := range before.replicas {
			if before.replicas[i].base == base {
				r.client = before.replicas[i].client
				return r, nil
			}
		}
	}
	wanted := upstream.Config{BaseURL: base, MaxConns: c.MaxConnsPerHost, ConnectTimeout: c.ConnectTimeout, HTTP2: c.HTTP2, Proxy: p.config.ForwardProxy}
	var err error
	if c.CACertPEM != "" {
		if wanted.RootCAs, err = rootsOf(c.CACertPEM); err != nil {
			return replica{}, err
		}
	}
	r.client, err = upstream.New(wanted)
	return r, err
}

// join makes e the endpoint of a provider, with the health of its replicas that is known.
func (e *endpoint) join(of *provider) {
	e.provider = of
	for i := range e.replicas {
		r := &e.replicas[i]
		if of.health[r.base] == nil {
			of.health[r.base] = new(health)
		}
		r.health = of.health[r.base]
	}
	maps.DeleteFunc(of.health, func(base string, _ *health) bool { return !e.has(base) })
}

// has reports whether a base URL is one of e's.
func (e *endpoint) has(base string) bool {
	return slices.ContainsFunc(e.replicas, func(r replica) bool { return r.base == base })
}

// closeExcept closes the connections of e that the endpoint after it, if there is one, does not go on with. What is in
// flight on them goes on.
func (e *endpoint) closeExcept(after *endpoint) {
	for i := range e.replicas {
		client := e.replicas[i].client
		if after == nil || !slices.ContainsFunc(after.replicas, func(r replica) bool { return r.client == client }) {
			client.Close()
		}
	}
}

// sameConnections reports whether two configurations of a provider can share their connections.
func sameConnections(a, b Provider) bool {
	return a.MaxConnsPerHost == b.MaxConnsPerHost && a.ConnectTimeout == b.ConnectTimeout && a.HTTP2 == b.HTTP2 && a.CACertPEM == b.CACertPEM
}

// limits is what a provider's gate is to hold.
func limits(c Config, p Provider) limiter.Config {
	l := limiter.Config{Limit: p.Concurrency, Buffer: p.BufferSize, Callers: callerLines}
	if !c.DropExcessRequests {
		l.MaxBlocked = c.MaxBlocked
	}
	return l
}

// rootsOf reads PEM certificates.
func rootsOf(pem string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(pem)) {
		return nil, errors.New("proxy: no PEM certificate")
	}
	return pool, nil
}

// table finds a request's configured route.
type table struct {
	routes []route // most specific first
}

// route is where requests of one kind go.
type route struct {
	host, path string
	below      bool // everything below path, which then ends with /
	strip      string
	end        *endpoint // nil: the provider is named by the request
	byModel    bool      // the body's model names it
	plugins    []*loadedPlugin
}

// newTables returns the routes to providers, and those that add plugins to built-in routes.
func newTables(configured []Route, endpoints map[string]*endpoint, loaded map[string]*loadedPlugin) (routes, added table) {
	for _, c := range configured {
		r := route{host: strings.ToLower(c.Host), path: c.Path, strip: c.StripPrefix, end: endpoints[c.Provider], plugins: chain(loaded, c.Plugins)}
		r.path, r.below = strings.CutSuffix(r.path, "*")
		r.byModel = r.path == "/v1" || strings.HasPrefix(r.path, "/v1/")
		if r.end == nil {
			added.routes = append(added.routes, r)
		} else {
			routes.routes = append(routes.routes, r)
		}
	}
	routes.sort()
	added.sort()
	return routes, added
}

// sort puts the most specific route first.
func (t table) sort() {
	slices.SortStableFunc(t.routes, func(a, b route) int {
		if longer := len(b.path) - len(a.path); longer != 0 {
			return longer
		}
		if a.below != b.below { // an exact path beats the same with /*
			if a.below {
				return 1
			}
			return -1
		}
		return len(b.host) - len(a.host) // a host beats none
	})
}

// match returns the most specific configured route for a host and a path, or nil.
func (t table) match(host, path string) *route {
	for i := range t.routes {
		r := &t.routes[i]
		if r.host != "" && !strings.EqualFold(r.host, host) {
			continue
		}
		if r.covers(path) {
			return r
		}
	}
	return nil
}

// covers reports whether a path is one of the route's.
func (r *route) covers(path string) bool {
	return path == r.path || r.below && (strings.HasPrefix(path, r.path) || path == strings.TrimSuffix(r.path, "/"))
}
