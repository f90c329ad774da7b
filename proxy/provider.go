package proxy

import (
	"maps"
	"slices"
	"time"
)

// Provider is one upstream with its own limits.
type Provider struct {
	// Keys are the provider's credentials. Without any, what the caller sent is passed on.
	Keys []Key `json:"keys" envPrefix:"KEYS"`

	// BaseURL is put before each request's path. Default: the known provider's own.
	BaseURL string `json:"base_url" section:"network_config" env:"BASE_URL"`

	// BaseURLs are further addresses of the same API. Of two that are chosen at random, the one with fewer requests in
	// flight gets the next; one that fails is left out until it answers again.
	BaseURLs []string `json:"base_urls" section:"network_config" env:"BASE_URLS"`

	// ConnectTimeout is how long a new connection may take, and its TLS handshake as long again.
	ConnectTimeout time.Duration `json:"connect_timeout_in_seconds" section:"network_config" env:"CONNECT_TIMEOUT" range:"1ms..10m"`

	// Timeout is how long an attempt may take from its permit to the first byte of the answer; then it is
	// answered 504 upstream_timeout. 0 means no limit.
	Timeout time.Duration `json:"default_request_timeout_in_seconds" section:"network_config" env:"TIMEOUT" range:"0s..24h"`

	// StreamIdleTimeout is how long an answer may stand still after its first byte; then the caller's
	// connection is aborted. 0 means no limit.
	StreamIdleTimeout time.Duration `json:"stream_idle_timeout_in_seconds" section:"network_config" env:"STREAM_IDLE_TIMEOUT" range:"0s..24h"`

	// StreamKeepalive is how long a stream of server-sent events may be silent before Edge sends the caller a comment, for
	// load balancers that cut silence. 0 means never.
	StreamKeepalive time.Duration `json:"stream_keepalive_in_seconds" section:"network_config" env:"STREAM_KEEPALIVE" range:"0s..1h"`

	// TotalTimeout is how long a request may take from its arrival to the last byte of its answer, streams included. 0
	// means no limit.
	TotalTimeout time.Duration `json:"total_timeout_in_seconds" section:"network_config" env:"TOTAL_TIMEOUT" range:"0s..24h"`

	// MaxConnsPerHost bounds the connections to the provider. 0 means concurrency is the only bound.
	MaxConnsPerHost int `json:"max_conns_per_host" section:"network_config" env:"MAX_CONNS_PER_HOST" range:"0..65536"`

	// HTTP2 offers HTTP/2 to a provider over TLS, which then chooses. It costs more CPU time a request than HTTP/1.1.
	HTTP2 bool `json:"enforce_http2" section:"network_config" env:"ENFORCE_HTTP2"`

	// MaxRetries is how often a failed attempt is repeated, while the caller has seen nothing and the time lasts: after a
	// connection that could not be made, 429, 502, 503, 504 and 529.
	MaxRetries int `json:"max_retries" section:"network_config" env:"MAX_RETRIES" range:"0..10"`

	// RetryBackoffInitial is the wait before the first retry, if the provider does not say how long; each further one is
	// twice as long. The waits are shortened at random, by up to half.
	RetryBackoffInitial time.Duration `json:"retry_backoff_initial_ms" section:"network_config" env:"RETRY_BACKOFF_INITIAL" range:"0s..10m" alias:"retry_backoff_initial"`

	// RetryBackoffMax is the longest wait between retries, if the provider does not say how long.
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

	// Fallbacks are tried, one after the other, when this provider's attempts have failed or it admits nobody: other
	// providers that speak alike, as <provider>, or <provider>/<model> for another model.
	Fallbacks []string `json:"fallbacks" env:"FALLBACKS"`

	// Plugins run after admission, around this provider: the first sees the request first and the answer last.
	Plugins []string `json:"plugins" env:"PLUGINS"`

	// Dialect is which API the provider speaks. Default: the known provider's, by its name or the host of its base_url,
	// else openai.
	Dialect string `json:"dialect" env:"DIALECT" range:"|openai|anthropic|gemini|cohere|azure"`

	// KeyForm is how the provider takes its key: in Authorization as Bearer, in x-api-key, api-key or x-goog-api-key, or
	// in the query as key. Default: as its dialect has it.
	KeyForm string `json:"key_form" env:"KEY_FORM" range:"|bearer|x-api-key|api-key|x-goog-api-key|query"`

	// StickyKeys gives a caller the same key each time, as long as that serves: providers keep their caches by key.
	StickyKeys bool `json:"sticky_keys" env:"STICKY_KEYS"`

	// ModelFamilies are the beginnings of model names by which tokens are counted; the longest that fits a model is its
	// family, and what fits none is other.
	ModelFamilies []string `json:"model_families" env:"MODEL_FAMILIES"`

	// APIVersion is what an azure provider's deployments are asked with, as ?api-version=. With it, requests on /v1 go to
	// the path of their model's deployment; without it to Azure's own /openai/v1.
	APIVersion string `json:"api_version" env:"API_VERSION"`

	// Deployments are the names of an azure provider's deployments by model; a model that is not there is its own
	// deployment's name.
	Deployments map[string]string `json:"deployments" env:"DEPLOYMENTS"`
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

	// Enabled is false for a key that is not to be used. Nil means true.
	Enabled *bool `json:"enabled" env:"ENABLED"`
}

// DefaultProvider returns a provider's values before anything is configured.
func DefaultProvider() Provider {
	return Provider{
		Timeout:             300 * time.Second,
		StreamIdleTimeout:   60 * time.Second,
		ConnectTimeout:      10 * time.Second,
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
	p.ExtraHeaders, p.Deployments = maps.Clone(p.ExtraHeaders), maps.Clone(p.Deployments)
	for _, list := range []*[]string{&p.Fallbacks, &p.Plugins, &p.BaseURLs, &p.ModelFamilies} {
		*list = slices.Clone(*list)
	}
	return p
}

// enabled reports whether the key may be used.
func (k *Key) enabled() bool { return k.Enabled == nil || *k.Enabled }

// familyOther is the family of models that belong to none of a provider's model_families.
const familyOther = "other"
