package httpwasm

import (
	"context"
	"log/slog"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/edge-proxy/edge/plugins"
)

// hostModule is the import module of the ABI.
const hostModule = "http_handler"

// hostFunction is one function of the host module.
type hostFunction struct {
	name    string
	params  []api.ValueType
	results []api.ValueType
	early   bool // may be called while the instance starts
	do      func(g *guest, mem api.Memory, stack []uint64)
}

// Call implements api.GoModuleFunction.
func (h *hostFunction) Call(ctx context.Context, mod api.Module, stack []uint64) {
	g := plugins.StateOf(ctx).(*guest)
	g.at = h
	if g.in == nil {
		g.in = plugins.InstanceOf(ctx)
	}
	if g.exchange == nil && !h.early {
		g.trap("may be called in handle_request and handle_response only, not while the guest starts")
	}
	h.do(g, mod.Memory(), stack)
}

var (
	none  = []api.ValueType{}
	one   = []api.ValueType{api.ValueTypeI32}
	two   = []api.ValueType{api.ValueTypeI32, api.ValueTypeI32}
	three = []api.ValueType{api.ValueTypeI32, api.ValueTypeI32, api.ValueTypeI32}
	five  = []api.ValueType{api.ValueTypeI32, api.ValueTypeI32, api.ValueTypeI32, api.ValueTypeI32, api.ValueTypeI32}
	long  = []api.ValueType{api.ValueTypeI64}
)

// hostFunctions is the ABI.
var hostFunctions = []hostFunction{
	{name: "enable_features", params: one, results: one, early: true, do: enableFeatures},
	{name: "get_config", params: two, results: one, early: true, do: getConfig},
	{name: "log_enabled", params: one, results: one, early: true, do: logEnabled},
	{name: "log", params: three, results: none, early: true, do: log},
	{name: "get_method", params: two, results: one, do: getMethod},
	{name: "set_method", params: two, results: none, do: setMethod},
	{name: "get_uri", params: two, results: one, do: getURI},
	{name: "set_uri", params: two, results: none, do: setURI},
	{name: "get_protocol_version", params: two, results: one, do: getProtocolVersion},
	{name: "get_source_addr", params: two, results: one, do: getSourceAddr},
	{name: "get_header_names", params: three, results: long, do: getHeaderNames},
	{name: "get_header_values", params: five, results: long, do: getHeaderValues},
	{name: "set_header_value", params: five, results: none, do: setHeaderValue},
	{name: "add_header_value", params: five, results: none, do: addHeaderValue},
	{name: "remove_header", params: three, results: none, do: removeHeader},
	{name: "read_body", params: three, results: long, do: readBody},
	{name: "write_body", params: three, results: none, do: writeBody},
	{name: "get_status_code", params: none, results: one, do: getStatusCode},
	{name: "set_status_code", params: one, results: none, do: setStatusCode},
}

// instantiateHost makes the host module in rt. What it works on comes with the context of each call.
func instantiateHost(ctx context.Context, rt wazero.Runtime) error {
	b := rt.NewHostModuleBuilder(hostModule)
	for i := range hostFunctions {
		h := &hostFunctions[i]
		b.NewFunctionBuilder().WithGoModuleFunction(h, h.params, h.results).Export(h.name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

// enableFeatures: (features) -> features enabled.
func enableFeatures(g *guest, _ api.Memory, stack []uint64) {
	wanted := features(stack[0]) & allFeatures
	switch g.phase {
	case starting:
		g.features |= wanted
		g.enabled = g.features
	case request:
		keep := wanted&^g.enabled&bufferRequest != 0
		g.enabled |= wanted
		if keep {
			g.exchange.KeepRequestBody(true)
		}
	default: // an answer that was streamed cannot be buffered any more
	}
	stack[0] = uint64(g.enabled)
}

// getConfig: (buf, limit) -> len.
func getConfig(g *guest, mem api.Memory, stack []uint64) {
	stack[0] = g.write(mem, g.plugin.settings, stack[0], stack[1])
}

// logEnabled: (level) -> 0 or 1.
func logEnabled(g *guest, _ api.Memory, stack []uint64) {
	level, ok := slogLevel(stack[0])
	stack[0] = 0
	if ok && g.in.LogEnabled(level) {
		stack[0] = 1
	}
}

// log: (level, message, len).
func log(g *guest, mem api.Memory, stack []uint64) {
	message := g.read(mem, "message", stack[1], stack[2])
	if level, ok := slogLevel(stack[0]); ok && g.in.LogEnabled(level) {
		g.in.Log(level, message)
	}
}

// slogLevel maps the ABI's -1 debug, 0 info, 1 warn, 2 error; 3 is none.
func slogLevel(level uint64) (slog.Level, bool) {
	switch int32(level) {
	case -1:
		return slog.LevelDebug, true
	case 0:
		return slog.LevelInfo, true
	case 1:
		return slog.LevelWarn, true
	case 2:
		return slog.LevelError, true
	default:
		return 0, false
	}
}
