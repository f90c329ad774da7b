package proxy

import "time"

// Plugin is one WASM module with its settings. Routes and providers name it; one file may be several plugins, each
// with settings of its own.
type Plugin struct {
	// Name is what routes, providers, logs and metrics call it: lower-case letters, digits, '-', '_' and '.', at most 64.
	Name string `json:"name" env:"NAME"`

	// Path is the module, a .wasm file of at most 256 MiB. A relative path that a JSON file gives begins at that file's
	// folder; one that comes from a variable, at the working directory.
	Path string `json:"path" env:"PATH"`

	// Module is the module itself, as the file has it. edge reads Path into it; a user of the package may set it alone.
	Module []byte `json:"-"`

	// SHA256 is what the module must hash to: 64 hexadecimal digits. None means no check.
	SHA256 string `json:"sha256" env:"SHA256"`

	// ABI is what the guest speaks; auto looks at its imports and exports.
	ABI string `json:"abi" env:"ABI" range:"auto|http-wasm|proxy-wasm"`

	// Config is what the guest reads as its configuration: a string's own bytes, otherwise the JSON text of the
	// value. In a variable it is taken as it is. It is never shown.
	Config Settings `json:"config" env:"CONFIG"`

	// Phases are request, response or both. With request alone a plugin sees no answers, and its instances are back
	// before the request waits for its turn.
	Phases []string `json:"phases" env:"PHASES"`

	// MemoryLimit bounds the memory of each instance; beyond it memory.grow fails, as the guest sees it.
	MemoryLimit Size `json:"memory_limit_mb" env:"MEMORY_LIMIT" range:"64KiB..4GiB"`

	// Timeout bounds each call of the guest. Waiting for a caller's content is not counted.
	Timeout time.Duration `json:"timeout_ms" env:"TIMEOUT" range:"1ms..10m"`

	// Deadline is how the timeout is enforced. rewrite puts a check into the module when it is loaded and costs a few
	// per cent; context uses wazero's own, which costs several times as much; none does not enforce it: then a guest
	// that loops hangs the process.
	Deadline string `json:"deadline" env:"DEADLINE" range:"rewrite|context|none"`

	// OnError is what happens to a request whose plugin fails: fail answers 500 plugin_error, skip goes on without the
	// plugin, with the request as it was before.
	OnError string `json:"on_error" env:"ON_ERROR" range:"fail|skip"`

	// MaxInstances bounds the instances. Of http-wasm, each serves one request at a time, and 0 means: the concurrency of
	// all providers that name the plugin together, and 8 for each processor when routes name it; a plugin of a route that
	// sees answers needs a number. Of Proxy-Wasm, each serves many, at most 64 are allowed, and 0 means one for each
	// processor, at most 4.
	MaxInstances int `json:"max_instances" env:"MAX_INSTANCES" range:"0..65536"`

	// MaxBody bounds the content that is held for the plugin, each way: a larger request is answered 413
	// body_too_large, a larger answer 502 plugin_body_too_large.
	MaxBody Size `json:"max_body_mb" env:"MAX_BODY" range:"1..1TiB"`

	// PauseTimeout bounds each wait of a request or an answer that a Proxy-Wasm guest has paused.
	PauseTimeout time.Duration `json:"pause_timeout_ms" env:"PAUSE_TIMEOUT" range:"1ms..10m"`

	// MaxCallouts is how many requests of its own a Proxy-Wasm guest may have in flight for one request.
	MaxCallouts int `json:"max_callouts" env:"MAX_CALLOUTS" range:"1..1000"`

	// RootID is what a Proxy-Wasm guest reads as plugin_root_id; modules that hold several plugins choose by it.
	RootID string `json:"root_id" env:"ROOT_ID"`

	// VMID names the data and queues that Proxy-Wasm plugins share; those with the same one see the same. None means
	// the plugin's name.
	VMID string `json:"vm_id" env:"VM_ID"`

	// VMConfig is what a Proxy-Wasm guest reads when it starts, in the forms that config has.
	VMConfig Settings `json:"vm_config" env:"VM_CONFIG"`

	// RedisURL is the Redis that a Proxy-Wasm guest of ABI 0.2.100 reaches: redis://[user:password@]host[:port][/db], or
	// rediss:// for TLS. None means that the guest is told there is no such call. It is never shown.
	RedisURL Secret `json:"redis_url" env:"REDIS_URL"`

	// LogLinesPerSecond bounds what the guest writes to the log; lines beyond it are counted and dropped.
	LogLinesPerSecond int `json:"log_lines_per_second" env:"LOG_LINES_PER_SECOND" range:"1..1000000"`
}

// DefaultPlugin returns a plugin's values before anything is configured.
func DefaultPlugin() Plugin {
	return Plugin{
		ABI:               "auto",
		Phases:            []string{phaseRequest, phaseResponse},
		MemoryLimit:       64 << 20,
		Timeout:           100 * time.Millisecond,
		Deadline:          "rewrite",
		OnError:           onErrorFail,
		MaxBody:           10 << 20,
		PauseTimeout:      5 * time.Second,
		MaxCallouts:       16,
		LogLinesPerSecond: 100,
	}
}

// Words of a plugin's configuration.
const (
	phaseRequest  = "request"
	phaseResponse = "response"
	onErrorFail   = "fail"
	onErrorSkip   = "skip"
)
