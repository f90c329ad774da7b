package proxywasm

import (
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero/api"

	"github.com/edge-proxy/edge/plugins"
)

// callback is a function of the guest's that the host calls.
type callback uint8

const (
	onContextCreate callback = iota
	onVMStart
	onConfigure
	onTick
	onQueueReady
	onRequestHeaders
	onRequestBody
	onRequestTrailers
	onResponseHeaders
	onResponseBody
	onResponseTrailers
	onHTTPCallResponse
	onRedisCallResponse
	onDone
	onLog
	onDelete
	onMemoryAllocate
	malloc
	called // callbacks from here on are never called
)

// Callback is a function that a guest may export.
type Callback struct {
	Name    string
	Params  int     // the most a guest may declare; it gets as many as it declares
	Support Support // Done, or Unimplemented for one that is never called
	Note    string
}

var callbacks = []Callback{
	onContextCreate:     {Name: "proxy_on_context_create", Params: 2, Note: "for the plugin in each instance, and for each stream"},
	onVMStart:           {Name: "proxy_on_vm_start", Params: 2, Note: "once in each instance; 0 fails the plugin"},
	onConfigure:         {Name: "proxy_on_configure", Params: 2, Note: "once in each instance; 0 fails the plugin"},
	onTick:              {Name: "proxy_on_tick", Params: 1, Note: "every tick period, in each instance that set one"},
	onQueueReady:        {Name: "proxy_on_queue_ready", Params: 2, Note: "for each item, in one instance of the plugin that registered the queue last"},
	onRequestHeaders:    {Name: "proxy_on_request_headers", Params: 3},
	onRequestBody:       {Name: "proxy_on_request_body", Params: 3, Note: "chunk by chunk; the size is that of all bytes held"},
	onRequestTrailers:   {Name: "proxy_on_request_trailers", Params: 2},
	onResponseHeaders:   {Name: "proxy_on_response_headers", Params: 3, Note: "on local replies too"},
	onResponseBody:      {Name: "proxy_on_response_body", Params: 3, Note: "chunk by chunk; the size is that of all bytes held"},
	onResponseTrailers:  {Name: "proxy_on_response_trailers", Params: 2},
	onHTTPCallResponse:  {Name: "proxy_on_http_call_response", Params: 5},
	onRedisCallResponse: {Name: "proxy_on_redis_call_response", Params: 4},
	onDone:              {Name: "proxy_on_done", Params: 1, Note: "0 waits for proxy_done, as long as a pause may take"},
	onLog:               {Name: "proxy_on_log", Params: 1},
	onDelete:            {Name: "proxy_on_delete", Params: 1},
	onMemoryAllocate:    {Name: "proxy_on_memory_allocate", Params: 1, Note: "when a hostcall returns bytes"},
	malloc:              {Name: "malloc", Params: 1, Note: "when there is no proxy_on_memory_allocate"},

	called:      {Name: "proxy_on_request_metadata", Params: 2, Support: Unimplemented, Note: "HTTP/2 METADATA does not pass"},
	called + 1:  {Name: "proxy_on_response_metadata", Params: 2, Support: Unimplemented, Note: "HTTP/2 METADATA does not pass"},
	called + 2:  {Name: "proxy_on_grpc_receive_initial_metadata", Params: 3, Support: Unimplemented, Note: "no gRPC calls"},
	called + 3:  {Name: "proxy_on_grpc_receive", Params: 3, Support: Unimplemented, Note: "no gRPC calls"},
	called + 4:  {Name: "proxy_on_grpc_receive_trailing_metadata", Params: 3, Support: Unimplemented, Note: "no gRPC calls"},
	called + 5:  {Name: "proxy_on_grpc_close", Params: 3, Support: Unimplemented, Note: "no gRPC calls"},
	called + 6:  {Name: "proxy_on_new_connection", Params: 1, Support: Unimplemented, Note: "TCP filters only"},
	called + 7:  {Name: "proxy_on_downstream_data", Params: 3, Support: Unimplemented, Note: "TCP filters only"},
	called + 8:  {Name: "proxy_on_upstream_data", Params: 3, Support: Unimplemented, Note: "TCP filters only"},
	called + 9:  {Name: "proxy_on_downstream_connection_close", Params: 2, Support: Unimplemented, Note: "TCP filters only"},
	called + 10: {Name: "proxy_on_upstream_connection_close", Params: 2, Support: Unimplemented, Note: "TCP filters only"},
	called + 11: {Name: "proxy_on_foreign_function", Params: 3, Support: Unimplemented, Note: "no foreign function calls back"},
	called + 12: {Name: "proxy_validate_configuration", Params: 2, Support: Unimplemented, Note: "proxy_on_configure decides"},
}

// Callbacks lists the functions that a guest may export, for documents.
func Callbacks() []Callback {
	list := make([]Callback, len(callbacks))
	copy(list, callbacks)
	return list
}

// checkCallbacks names all exports of the ABI that cannot be called.
func checkCallbacks(in plugins.Info) error {
	var wrong []string
	for _, c := range callbacks[:called] {
		e, ok := in.Export(c.Name)
		if !ok {
			continue
		}
		plain := e.Kind == api.ExternTypeFunc && len(e.Params) <= c.Params && len(e.Results) <= 1
		for _, t := range append(append([]api.ValueType{}, e.Params...), e.Results...) {
			plain = plain && t == api.ValueTypeI32
		}
		if !plain {
			wrong = append(wrong, fmt.Sprintf("%s with at most %d i32 and one i32 as its result", c.Name, c.Params))
		}
	}
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("the module must export %s", strings.Join(wrong, "; "))
}

// exportsAny reports whether the module has one of the callbacks.
func exportsAny(in plugins.Info, list ...callback) bool {
	for _, c := range list {
		if _, ok := in.Export(callbacks[c].Name); ok {
			return true
		}
	}
	return false
}
