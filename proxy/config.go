package proxy

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config is everything a Proxy is made from. The zero value of a field whose range does not hold 0 means
// its default, so a literal needs only what differs.
//
// Tags: json is the key in a configuration document, section the object around it, env the variable after
// EDGE_, range what Validate accepts. The unit of a Duration or a Size in a document is its key's ending.
type Config struct {
	// InitialPoolSize is how many requests the arena can carry without touching the heap: that many
	// exchange records, header blocks (4 KiB) and body slots (16 KiB) are made at start, and a 32nd as many
	// long blocks (128 KiB).
	InitialPoolSize int `json:"initial_pool_size" section:"client" env:"INITIAL_POOL_SIZE" range:"1..1000000"`

	// DropExcessRequests answers 503 queue_full at once when a provider's queue is full. Otherwise such
	// callers wait, unread, until there is a place for them.
	DropExcessRequests bool `json:"drop_excess_requests" section:"client" env:"DROP_EXCESS_REQUESTS"`

	// QueueTimeout is the longest that a request waits for its turn; then it is answered 503 queue_timeout.
	QueueTimeout time.Duration `json:"queue_timeout_in_seconds" section:"client" env:"QUEUE_TIMEOUT" range:"1ms..24h"`

	// MaxBlocked is how many callers beyond buffer_size may wait for a place when excess requests are not
	// dropped. One more is answered 503 queue_full.
	MaxBlocked int `json:"max_blocked" section:"client" env:"MAX_BLOCKED" range:"0..100000"`

	// MaxRequestBody is the largest request body that is accepted; a larger one is answered 413.
	MaxRequestBody Size `json:"max_request_body_size_mb" section:"client" env:"MAX_REQUEST_BODY_SIZE" range:"1..1TiB"`

	// MaxBuffered bounds the request bodies held in memory, all of them together; beyond it a request is
	// answered 503 memory.
	MaxBuffered Size `json:"max_buffered_mb" section:"client" env:"MAX_BUFFERED" range:"1..1TiB"`

	// MaxHeader bounds a request's head; a larger one is answered 431.
	MaxHeader Size `json:"max_header_kb" section:"client" env:"MAX_HEADER" range:"1KiB..16MiB"`

	// HeaderTimeout is how long a caller may take to send a request's head.
	HeaderTimeout time.Duration `json:"header_timeout_in_seconds" section:"client" env:"HEADER_TIMEOUT" range:"1ms..24h"`

	// IdleTimeout is how long a caller's connection may stay open between two requests.
	IdleTimeout time.Duration `json:"idle_timeout_in_seconds" section:"client" env:"IDLE_TIMEOUT" range:"1ms..24h"`

	// BodyTimeout is how long a request body may stand still, not how long it may take; then it is answered
	// 408 body_timeout.
	BodyTimeout time.Duration `json:"body_timeout_in_seconds" section:"client" env:"BODY_TIMEOUT" range:"1ms..24h"`

	// WriteTimeout is how long a caller may read nothing of its answer; then its connection is aborted.
	WriteTimeout time.Duration `json:"write_timeout_in_seconds" section:"client" env:"WRITE_TIMEOUT" range:"1ms..24h"`

	// DrainDelay is how long Edge goes on serving after SIGTERM, with /readyz at 503, before it closes its
	// listeners: the time a load balancer needs to look elsewhere.
	DrainDelay time.Duration `json:"drain_delay_in_seconds" section:"client" env:"DRAIN_DELAY" range:"0s..1h"`

	// DrainTimeout is how long requests and streams may take to end once the listeners are closed.
	DrainTimeout time.Duration `json:"drain_timeout_in_seconds" section:"client" env:"DRAIN_TIMEOUT" range:"0s..24h"`

	// TrustedProxies are the networks (CIDR or address) whose X-Forwarded-For names the caller in logs.
	TrustedProxies []string `json:"trusted_proxies" section:"client" env:"TRUSTED_PROXIES"`

	// Takeover is an experiment: Edge's own code, in place of net/http's, serves callers' connections of plain HTTP/1.1
	// after their first request. It costs less CPU and leaves net/http's parser, limits and shutdown. Linux only.
	Takeover bool `json:"takeover" section:"client" env:"TAKEOVER"`

	// Auth is what callers must present.
	Auth Auth `json:"auth" envPrefix:"AUTH_"`

	// Providers are the upstreams by name: lower-case letters, digits, '-', '_' and '.', at most 64.
	Providers map[string]Provider `json:"providers" envPrefix:"PROVIDERS_"`

	// Routes are the configured routes, beside the built-in ones.
	Routes []Route `json:"routes" envPrefix:"ROUTES"`

	// Plugins are the WASM modules that routes and providers name.
	Plugins []Plugin `json:"plugins" envPrefix:"PLUGINS"`

	// CacheDir is a folder where compiled plugins are kept between two starts; it is made when it is missing.
	// None, or one that cannot be written, means memory only.
	CacheDir string `json:"cache_dir" env:"CACHE_DIR"`

	// PluginLoaded is called after each plugin that New and Reload have compiled: how many of how many are done. It may
	// be called by several goroutines at once.
	PluginLoaded func(name string, done, of int) `json:"-"`

	// Keys gives each request its provider's key. Nil means the keys in Providers.
	Keys KeySource `json:"-"`

	// ForwardProxy chooses the forward proxy for a request to a provider, as http.ProxyFromEnvironment does.
	// Nil means none.
	ForwardProxy func(*http.Request) (*url.URL, error) `json:"-"`

	// Version is what edge_build_info and Status say. None means the module's own.
	Version string `json:"-"`

	// Logger takes what the proxy has to say. Nil means slog.Default.
	Logger *slog.Logger `json:"-"`
}

// Auth is what callers must present.
type Auth struct {
	// Tokens are accepted as Authorization: Bearer, x-api-key, api-key or ?key=. They never go upstream.
	Tokens []Secret `json:"tokens" env:"TOKENS"`

	// Open serves callers without a token although provider keys are configured.
	Open bool `json:"open" env:"OPEN"`
}

// Provider is one upstream with its own limits.
type Provider struct {
	// Keys are the provider's credentials. Without any, what the caller sent is passed on.
	Keys []Key `json:"keys" envPrefix:"KEYS"`

	// BaseURL is put before each request's path. Default: the known provider's own.
	BaseURL string `json:"base_url" section:"network_config" env:"BASE_URL"`

	// Timeout is how long an attempt may take from its permit to the first byte of the answer; then it is
	// answered 504 upstream_timeout. 0 means no limit.
	Timeout time.Duration `json:"default_request_timeout_in_seconds" section:"network_config" env:"TIMEOUT" range:"0s..24h"`

	// StreamIdleTimeout is how long an answer may stand still after its first byte; then the caller's
	// connection is aborted. 0 means no limit.
	StreamIdleTimeout time.Duration `json:"stream_idle_timeout_in_seconds" section:"network_config" env:"STREAM_IDLE_TIMEOUT" range:"0s..24h"`

	// MaxConnsPerHost bounds the connections to the provider. 0 means concurrency is the only bound.
	MaxConnsPerHost int `json:"max_conns_per_host" section:"network_config" env:"MAX_CONNS_PER_HOST" range:"0..65536"`

	// HTTP2 offers HTTP/2 to a provider over TLS, which then chooses. It costs more CPU time a request than HTTP/1.1.
	HTTP2 bool `json:"enforce_http2" section:"network_config" env:"ENFORCE_HTTP2"`

	// MaxRetries is how often a failed attempt is repeated. This version sends every request once.
	MaxRetries int `json:"max_retries" section:"network_config" env:"MAX_RETRIES" range:"0..10"`

	// RetryBackoffInitial is the wait before the first retry.
	RetryBackoffInitial time.Duration `json:"retry_backoff_initial_ms" section:"network_config" env:"RETRY_BACKOFF_INITIAL" range:"0s..10m" alias:"retry_backoff_initial"`

	// RetryBackoffMax is the longest wait between retries.
	RetryBackoffMax time.Duration `json:"retry_backoff_max_ms" section:"network_config" env:"RETRY_BACKOFF_MAX" range:"0s..10m" alias:"retry_backoff_max"`

	// ExtraHeaders are set on every request to the provider, in place of the caller's of that name.
	ExtraHeaders map[string]string `json:"extra_headers" section:"network_config" env:"EXTRA_HEADERS"`

	// CACertPEM are the only roots trusted for the provider's certificate. Default: the system's.
	CACertPEM string `json:"ca_cert_pem" section:"network_config" env:"CA_CERT_PEM"`

	// Concurrency is the most requests in flight to the provider at once, streams included.
	//
	// Raise it until the provider starts to answer 429, then step back.
	Concurrency int `json:"concurrency" section:"concurrency_and_buffer_size" env:"CONCURRENCY" range:"1..65536"`

	// BufferSize is how many requests may wait for a permit.
	BufferSize int `json:"buffer_size" section:"concurrency_and_buffer_size" env:"BUFFER_SIZE" range:"0..900000"`

	// ScalingMode is static: limits stay as configured. This version knows no other.
	ScalingMode string `json:"mode" section:"scaling" env:"MODE" range:"static"`

	// MinConcurrency bounds self-tuning from below.
	MinConcurrency int `json:"min_concurrency" section:"scaling" env:"MIN_CONCURRENCY" range:"1..65536"`

	// MaxConcurrency bounds self-tuning from above.
	MaxConcurrency int `json:"max_concurrency" section:"scaling" env:"MAX_CONCURRENCY" range:"1..65536"`

	// MaxBufferSize bounds the queue that self-tuning sets.
	MaxBufferSize int `json:"max_buffer_size" section:"scaling" env:"MAX_BUFFER_SIZE" range:"0..900000"`

	// Fallbacks are the providers tried when this one fails. This version sends every request once.
	Fallbacks []string `json:"fallbacks" env:"FALLBACKS"`

	// Plugins run after admission, around this provider: the first sees the request first and the answer last.
	Plugins []string `json:"plugins" env:"PLUGINS"`
}

// Key is one credential of a provider.
type Key struct {
	// Name tells keys apart in messages.
	Name string `json:"name" env:"NAME"`

	// Value is the credential itself.
	Value Secret `json:"value" env:"VALUE"`

	// Weight is the key's share of the requests among the keys that fit.
	Weight float64 `json:"weight" env:"WEIGHT" range:"0..1000000"`

	// Models are the models the key may be used for; none means all.
	Models []string `json:"models" env:"MODELS"`
}

// Route sends what matches Host and Path to a provider.
type Route struct {
	// Host is the host the route answers to, without port. None means all.
	Host string `json:"host" env:"HOST"`

	// Path is matched byte for byte; with /* at its end, so is everything below it.
	Path string `json:"path" env:"PATH"`

	// StripPrefix is cut from the front of the target.
	StripPrefix string `json:"strip_prefix" env:"STRIP_PREFIX"`

	// Provider is where the request goes. None adds the plugins to the built-in route that the request matches.
	Provider string `json:"provider" env:"PROVIDER"`

	// Plugins run before admission: the first sees the request first and the answer last.
	Plugins []string `json:"plugins" env:"PLUGINS"`
}

// KeySource gives a request its provider's key.
type KeySource interface {
	// Key returns the credential for one request to provider; model is empty when it is not known.
	// No credential ("" and nil) passes on what the caller sent; an error is answered 503
	// provider_unavailable. It is called by many goroutines at once and must not block.
	Key(provider, model string) (Secret, error)
}

const maxNameBytes = 64 // of a provider or a plugin

// DefaultConfig returns the configuration of the balanced profile, without providers.
func DefaultConfig() Config {
	return Config{
		InitialPoolSize: 1000,
		QueueTimeout:    30 * time.Second,
		MaxBlocked:      10000,
		MaxRequestBody:  100 << 20,
		MaxBuffered:     256 << 20,
		MaxHeader:       64 << 10,
		HeaderTimeout:   10 * time.Second,
		IdleTimeout:     120 * time.Second,
		BodyTimeout:     30 * time.Second,
		WriteTimeout:    30 * time.Second,
		DrainTimeout:    30 * time.Second,
	}
}

// DefaultProvider returns a provider's values before anything is configured.
func DefaultProvider() Provider {
	return Provider{
		Timeout:             300 * time.Second,
		StreamIdleTimeout:   60 * time.Second,
		RetryBackoffInitial: 500 * time.Millisecond,
		RetryBackoffMax:     5 * time.Second,
		Concurrency:         50,
		BufferSize:          500,
		ScalingMode:         "static",
		MinConcurrency:      1,
		MaxConcurrency:      200,
		MaxBufferSize:       1000,
	}
}

// DefaultKey returns a key's values before anything is configured.
func DefaultKey() Key { return Key{Weight: 1} }

// Clone returns a deep copy.
func (p Provider) Clone() Provider {
	p.Keys = slices.Clone(p.Keys)
	for i := range p.Keys {
		p.Keys[i].Models = slices.Clone(p.Keys[i].Models)
	}
	p.ExtraHeaders = maps.Clone(p.ExtraHeaders)
	p.Fallbacks = slices.Clone(p.Fallbacks)
	p.Plugins = slices.Clone(p.Plugins)
	return p
}

// Fault is one thing wrong with a Config.
type Fault struct {
	Path string // the key, as providers.openai.concurrency_and_buffer_size.concurrency
	Got  string // the value, quoted where it is a string; never a secret
	Want string
}

func (f Fault) String() string {
	if f.Got == "" {
		return f.Path + ": " + f.Want
	}
	return f.Path + ": got " + f.Got + ", want " + f.Want
}

// ConfigError is all that is wrong with a Config.
type ConfigError struct{ Faults []Fault }

func (e *ConfigError) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.String()
	}
	return "proxy: config: " + strings.Join(lines, "; ")
}

// Validate returns nil or a *ConfigError with every fault.
func (c Config) Validate() error {
	faults := rangeFaults("", reflect.ValueOf(c))
	for i, network := range c.TrustedProxies {
		if _, err := netip.ParsePrefix(network); err != nil {
			if _, err := netip.ParseAddr(network); err != nil {
				faults = append(faults, Fault{fmt.Sprintf("client.trusted_proxies[%d]", i), strconv.Quote(network), "a network such as 10.0.0.0/8 or an address"})
			}
		}
	}
	if c.Takeover && !watchesUnread {
		faults = append(faults, Fault{"client.takeover", "true", "false: on this system Edge cannot see that a caller has left whose connection nobody reads"})
	}
	for i, token := range c.Auth.Tokens {
		if !visibleASCII(token.Reveal()) {
			faults = append(faults, Fault{fmt.Sprintf("auth.tokens[%d]", i), "", "want visible ASCII characters, at least one (the value is not shown)"})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Providers)) {
		faults = append(faults, providerFaults("providers."+name, name, c.Providers[name], c.Providers)...)
	}
	seen := map[string]int{}
	for i, r := range c.Routes {
		faults = append(faults, routeFaults(fmt.Sprintf("routes[%d]", i), r, c.Providers)...)
		id := strings.ToLower(r.Host) + " " + r.Path
		if first, ok := seen[id]; ok {
			faults = append(faults, Fault{fmt.Sprintf("routes[%d]", i), strconv.Quote(r.Host + r.Path), fmt.Sprintf("a host and path that routes[%d] does not have", first)})
		} else {
			seen[id] = i
		}
	}
	faults = append(faults, pluginFaults(c)...)
	if len(faults) == 0 {
		return nil
	}
	return &ConfigError{faults}
}

func providerFaults(path, name string, p Provider, all map[string]Provider) (faults []Fault) {
	add := func(key, got, want string) { faults = append(faults, Fault{path + key, got, want}) }
	if !ProviderName(name) {
		add("", strconv.Quote(name), "a name of lower-case letters, digits, '-', '_' and '.', at most 64, not v1")
	}
	if p.BaseURL == "" {
		if _, known := Known(name); !known {
			add(".network_config.base_url", `""`, "the provider's URL, since "+strconv.Quote(name)+" is not a known provider")
		}
	} else if u, err := url.Parse(p.BaseURL); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		add(".network_config.base_url", "", "want http:// or https:// with a host and perhaps a path, without user, query or fragment (the value is not shown)")
	}
	for i, k := range p.Keys {
		if !visibleASCII(k.Value.Reveal()) {
			add(fmt.Sprintf(".keys[%d].value", i), "", "want visible ASCII characters, at least one (the value is not shown)")
		}
	}
	set := map[string]string{}
	for _, header := range slices.Sorted(maps.Keys(p.ExtraHeaders)) {
		name := http.CanonicalHeaderKey(header)
		if first, twice := set[name]; twice {
			add(".network_config.extra_headers", strconv.Quote(header), "a header that "+strconv.Quote(first)+" does not set already")
		}
		set[name] = header
		if !headerName(header) {
			add(".network_config.extra_headers", strconv.Quote(header), "header names")
		} else if hopByHop(name) || strings.EqualFold(header, "Host") || strings.EqualFold(header, "Content-Length") {
			add(".network_config.extra_headers", strconv.Quote(header), "no header that Edge itself sets")
		} else if !headerValue(p.ExtraHeaders[header]) {
			add(".network_config.extra_headers."+header, "", "want no control characters (the value is not shown)")
		}
	}
	if p.CACertPEM != "" {
		if _, err := rootsOf(p.CACertPEM); err != nil {
			add(".network_config.ca_cert_pem", "", "want at least one PEM certificate")
		}
	}
	if p.MinConcurrency > p.MaxConcurrency {
		add(".scaling.min_concurrency", strconv.Itoa(p.MinConcurrency), fmt.Sprintf("at most max_concurrency, %d", p.MaxConcurrency))
	}
	for i, other := range p.Fallbacks {
		if _, ok := all[other]; !ok {
			add(fmt.Sprintf(".fallbacks[%d]", i), strconv.Quote(other), "a configured provider"+nearest(other, slices.Sorted(maps.Keys(all))))
		}
	}
	return faults
}

func routeFaults(path string, r Route, providers map[string]Provider) (faults []Fault) {
	add := func(key, got, want string) { faults = append(faults, Fault{path + key, got, want}) }
	if !strings.HasPrefix(r.Path, "/") || strings.ContainsAny(r.Path, "?# ") || strings.Contains(strings.TrimSuffix(r.Path, "/*"), "*") {
		add(".path", strconv.Quote(r.Path), "a path that begins with /, without query, with * only as its last /*")
	}
	if strings.ContainsAny(r.Host, "/:* ") {
		add(".host", strconv.Quote(r.Host), "a host name without port")
	}
	if r.StripPrefix != "" && !strings.HasPrefix(strings.TrimSuffix(r.Path, "*"), r.StripPrefix) {
		add(".strip_prefix", strconv.Quote(r.StripPrefix), "the beginning of path, "+strconv.Quote(r.Path))
	}
	if _, ok := providers[r.Provider]; r.Provider == "" {
		if len(r.Plugins) == 0 {
			add(".provider", `""`, "a configured provider, since the route has no plugins")
		}
	} else if !ok {
		add(".provider", strconv.Quote(r.Provider), "a configured provider"+nearest(r.Provider, slices.Sorted(maps.Keys(providers))))
	}
	return faults
}
