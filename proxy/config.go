package proxy

import (
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
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

	// WriteTimeout is how long a caller may take nothing of its answer, not how long it may take for all of it; then, or up to
	// as long again later, its connection is aborted. Where Edge cannot see what it takes, under HTTP/2 and on other systems
	// than Linux, this is the time for a piece of it.
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

	// AccessLog gets a line for each request when that has ended, one Write each, from one goroutine. Nil means none. It
	// may be slow: up to 4,096 lines wait for it, more are dropped and counted by edge_access_log_dropped_total. Close
	// waits up to a second for what is left. As with Logger, that of New counts.
	AccessLog io.Writer `json:"-"`

	// AccessFormat is that of a line: json, which "" means too, or common, the NCSA common log format. docs/logs.md has
	// the members.
	AccessFormat string `json:"-"`
}

// Auth is what callers must present.
type Auth struct {
	// Tokens are accepted as Authorization: Bearer, x-api-key, api-key or ?key=. They never go upstream. An element may be
	// the value alone.
	Tokens []Token `json:"tokens" envPrefix:"TOKENS" short:"value"`

	// Open serves callers without a token although provider keys are configured.
	Open bool `json:"open" env:"OPEN"`
}

// Token is what one caller presents, and what that caller may do. Callers take turns where requests wait, so that none
// of them can keep the others out.
type Token struct {
	// Name tells callers apart in logs. Default: the token's place in the list, as token-0.
	Name string `json:"name" env:"NAME"`

	// Value is the token itself.
	Value Secret `json:"value" env:"VALUE"`

	// Providers are those that the caller may use; none means all. Another is answered 403 forbidden.
	Providers []string `json:"providers" env:"PROVIDERS"`

	// Models are those that the caller may ask for, as <model> or <provider>/<model>, with * at the end for all that begin
	// so; none means all. Another is answered 403 forbidden. Edge then reads the model in requests of every route.
	Models []string `json:"models" env:"MODELS"`

	// Concurrency is how many requests the caller may have at once, those that wait included; one more is answered 429
	// caller_quota. 0 means no limit.
	Concurrency int `json:"concurrency" env:"CONCURRENCY" range:"0..65536"`

	// RequestsPerMinute is how many requests the caller may make, that many at once and then evenly; one more is answered
	// 429 caller_quota with the wait for the next. 0 means no limit.
	RequestsPerMinute int `json:"requests_per_minute" env:"REQUESTS_PER_MINUTE" range:"0..10000000"`
}

// name is how the token at place i is called.
func (t *Token) name(i int) string {
	if t.Name != "" {
		return t.Name
	}
	return "token-" + strconv.Itoa(i)
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
