package proxywasm

import (
	"context"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/edge-proxy/edge/plugins"
)

// Support is how much of a function of the ABI works.
type Support uint8

// The degrees of support.
const (
	Done          Support = iota
	Limited               // works, but not as in Envoy; the note says how
	Unimplemented         // a hostcall is there and answers UNIMPLEMENTED; a callback is never called
)

func (s Support) String() string { return [...]string{"done", "limited", "unimplemented"}[s] }

// Hostcall is a function that the host offers to guests, in the module env.
type Hostcall struct {
	Name    string
	Params  string // i for an i32, I for an i64
	Support Support
	Note    string
}

// hostcall is a Hostcall and what it does. The parameters are in stack.
type hostcall struct {
	Hostcall
	do func(g *guest, mem api.Memory, stack []uint64) status
}

// hostModule is where all hostcalls live.
const hostModule = "env"

// memoryGrowth is the one hostcall without a result.
const memoryGrowth = "emscripten_notify_memory_growth"

// hostcalls is the ABI: what is linked, and what documents say.
var hostcalls = []hostcall{
	{Hostcall{"proxy_log", "iii", Done, ""}, log},
	{Hostcall{"proxy_get_log_level", "i", Done, ""}, getLogLevel},
	{Hostcall{"proxy_get_current_time_nanoseconds", "i", Done, ""}, getCurrentTime},
	{Hostcall{"proxy_set_tick_period_milliseconds", "i", Done, "at least 1 ms; each instance ticks for itself"}, setTickPeriod},
	{Hostcall{"proxy_get_configuration", "ii", Done, "ABI 0.1.0"}, getConfiguration},

	{Hostcall{"proxy_get_buffer_bytes", "iiiii", Done, ""}, getBufferBytes},
	{Hostcall{"proxy_get_buffer_status", "iii", Done, "flags are 0"}, getBufferStatus},
	{Hostcall{"proxy_set_buffer_bytes", "iiiii", Done, "up to max_body, then INTERNAL_FAILURE"}, setBufferBytes},

	{Hostcall{"proxy_get_header_map_size", "ii", Done, ""}, getHeaderMapSize},
	{Hostcall{"proxy_get_header_map_pairs", "iii", Done, ""}, getHeaderMapPairs},
	{Hostcall{"proxy_set_header_map_pairs", "iii", Done, "pseudo headers that are not given stay"}, setHeaderMapPairs},
	{Hostcall{"proxy_get_header_map_value", "iiiii", Done, "several values are joined with commas"}, getHeaderMapValue},
	{Hostcall{"proxy_add_header_map_value", "iiiii", Limited, "no effect after the headers went on, nor on :scheme"}, addHeaderMapValue},
	{Hostcall{"proxy_replace_header_map_value", "iiiii", Limited, "no effect after the headers went on, nor on :scheme"}, replaceHeaderMapValue},
	{Hostcall{"proxy_remove_header_map_value", "iii", Limited, "no effect after the headers went on; not for pseudo headers"}, removeHeaderMapValue},

	{Hostcall{"proxy_continue_stream", "i", Done, "UNIMPLEMENTED for TCP streams"}, continueStream},
	{Hostcall{"proxy_continue_request", "", Done, "ABI 0.1.0"}, continueRequest},
	{Hostcall{"proxy_continue_response", "", Done, "ABI 0.1.0"}, continueResponse},
	{Hostcall{"proxy_close_stream", "i", Done, "resets the exchange; UNIMPLEMENTED for TCP streams"}, closeStream},
	{Hostcall{"proxy_clear_route_cache", "", Limited, "OK, but a route is chosen once"}, clearRouteCache},
	{Hostcall{"proxy_send_local_response", "iiiiiiii", Done, "until response headers went on, then BAD_ARGUMENT"}, sendLocalResponse},
	{Hostcall{"proxy_set_effective_context", "i", Done, ""}, setEffectiveContext},
	{Hostcall{"proxy_done", "", Done, ""}, done},

	{Hostcall{"proxy_http_call", "iiiiiiiiii", Done, "to configured providers, by name or as outbound|port||name.dns"}, httpCall},
	{Hostcall{"proxy_get_status", "iii", Limited, "of the call-out in its callback: 0, 4 for a timeout, 14 for any other failure"}, getStatus},
	{Hostcall{"proxy_grpc_call", "iiiiiiiiiiii", Unimplemented, ""}, noGRPC},
	{Hostcall{"proxy_grpc_stream", "iiiiiiiii", Unimplemented, ""}, noGRPC},
	{Hostcall{"proxy_grpc_send", "iiii", Unimplemented, ""}, noGRPC},
	{Hostcall{"proxy_grpc_cancel", "i", Unimplemented, ""}, noGRPC},
	{Hostcall{"proxy_grpc_close", "i", Unimplemented, ""}, noGRPC},

	{Hostcall{"proxy_set_shared_data", "iiiii", Done, "by vm_id, bounded in bytes, then INTERNAL_FAILURE"}, setSharedData},
	{Hostcall{"proxy_get_shared_data", "iiiii", Done, ""}, getSharedData},
	{Hostcall{"proxy_register_shared_queue", "iii", Done, ""}, registerSharedQueue},
	{Hostcall{"proxy_resolve_shared_queue", "iiiii", Done, ""}, resolveSharedQueue},
	{Hostcall{"proxy_enqueue_shared_queue", "iii", Done, "bounded in bytes and items, then INTERNAL_FAILURE"}, enqueueSharedQueue},
	{Hostcall{"proxy_dequeue_shared_queue", "iii", Done, ""}, dequeueSharedQueue},

	{Hostcall{"proxy_define_metric", "iiii", Done, "at most 1000; names get _ for what is not a letter, digit, _ or :"}, defineMetric},
	{Hostcall{"proxy_record_metric", "iI", Done, "adds to a counter, as in Envoy"}, recordMetric},
	{Hostcall{"proxy_increment_metric", "iI", Done, "not for histograms"}, incrementMetric},
	{Hostcall{"proxy_get_metric", "ii", Done, "not for histograms"}, getMetric},

	{Hostcall{"proxy_get_property", "iiii", Limited, "what the exchange knows, in Envoy's encodings"}, getProperty},
	{Hostcall{"proxy_set_property", "iiii", Limited, "any path, for the stream and this plugin"}, setProperty},
	{Hostcall{"proxy_call_foreign_function", "iiiiii", Limited, "get_log_level, clear_route_cache; else NOT_FOUND"}, callForeignFunction},

	{Hostcall{"proxy_redis_init", "iiiiiii", Limited, "ABI 0.2.100; UNIMPLEMENTED without a Redis"}, redisInit},
	{Hostcall{"proxy_redis_call", "iiiii", Limited, "ABI 0.2.100; UNIMPLEMENTED without a Redis"}, redisCall},
	{Hostcall{"proxy_inject_encoded_data_to_filter_chain", "iii", Limited, "ABI 0.2.100; what comes after the last chunk goes on when the guest resumes or ends"}, injectEncodedData},
	{Hostcall{"proxy_get_upstream_hosts", "ii", Unimplemented, "ABI 0.2.100"}, unimplemented},
	{Hostcall{"proxy_set_upstream_override_host", "ii", Unimplemented, "ABI 0.2.100"}, unimplemented},

	{Hostcall{memoryGrowth, "i", Done, "emscripten; does nothing"}, unimplemented},
}

// Hostcalls lists the functions that guests may import from env, for documents. What is linked comes from the same list.
func Hostcalls() []Hostcall {
	list := make([]Hostcall, len(hostcalls))
	for i := range hostcalls {
		list[i] = hostcalls[i].Hostcall
	}
	return list
}

// Call implements api.GoModuleFunction.
func (h *hostcall) Call(ctx context.Context, mod api.Module, stack []uint64) {
	in := plugins.InstanceOf(ctx)
	g := in.State().(*guest)
	if g.in == nil { // a start function runs
		g.in = in
	}
	for i := range min(len(h.Params), len(stack)) { // some that are not implemented have fewer in old modules
		if h.Params[i] == 'i' { // the upper half of an i32's slot may hold anything
			stack[i] = uint64(uint32(stack[i]))
		}
	}
	st := h.do(g, mod.Memory(), stack)
	if h.Name != memoryGrowth {
		stack[0] = uint64(st)
	}
}

// hostModules returns what instantiates env for a module. Functions that are not implemented have the parameters
// that the module believes in: those of gRPC differ between versions of the ABI.
func hostModules(in plugins.Info) func(context.Context, wazero.Runtime) error {
	return func(ctx context.Context, rt wazero.Runtime) error {
		b := rt.NewHostModuleBuilder(hostModule)
		for i := range hostcalls {
			h := &hostcalls[i]
			params, results := valueTypes(h.Params), []api.ValueType{api.ValueTypeI32}
			if h.Name == memoryGrowth {
				results = nil
			} else if h.Support == Unimplemented {
				for _, im := range in.Imports {
					if im.Module == hostModule && im.Name == h.Name && im.Kind == api.ExternTypeFunc && len(im.Results) == 1 {
						params = im.Params
					}
				}
			}
			b.NewFunctionBuilder().WithGoModuleFunction(h, params, results).Export(h.Name)
		}
		_, err := b.Instantiate(ctx)
		return err
	}
}

func valueTypes(params string) []api.ValueType {
	types := make([]api.ValueType, len(params))
	for i := range params {
		types[i] = api.ValueTypeI32
		if strings.HasPrefix(params[i:], "I") {
			types[i] = api.ValueTypeI64
		}
	}
	return types
}

func unimplemented(*guest, api.Memory, []uint64) status { return statusUnimplemented }
