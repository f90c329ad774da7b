//go:build wasip1

package proxyguest

// Action is what becomes of headers, a part of a body, or trailers after a callback.
type Action uint32

const (
	// Continue passes them on, and what was paused before them.
	Continue Action = 0

	// Pause holds them, until a later callback of the same side continues or Resume is called. A body that is paused
	// grows: the next callback sees all of it. Headers may be paused to be changed with the body at hand; Envoy lets body
	// callbacks come after that only with allow_on_headers_stop_iteration.
	Pause Action = 1
)

// Plugin is what a configuration makes. Callbacks that are nil do nothing.
type Plugin struct {
	Stream func() Stream // begins an exchange; nil lets all pass
	Tick   func()        // every SetTickPeriod
}

// Stream has the callbacks of one exchange, in the order they come. Those that are nil let pass. size is that of the
// buffer; end says that nothing follows, but trailers may still follow a body.
type Stream struct {
	RequestHeaders   func(end bool) Action
	RequestBody      func(size int, end bool) Action
	RequestTrailers  func() Action
	ResponseHeaders  func(end bool) Action // of answers that a plugin made, too
	ResponseBody     func(size int, end bool) Action
	ResponseTrailers func() Action
	End              func() // the exchange is over, however it went; its headers can still be read
}

// Configure names the function that makes a plugin of its configuration, usually JSON, as the operator wrote it; empty if
// there is none. An error is logged, and the host does not start the plugin. It is called in an init function.
func Configure(f func(config []byte) (Plugin, error)) { configure = f }

var (
	configure = func([]byte) (Plugin, error) { return Plugin{}, nil }
	roots     = map[uint32]*Plugin{}
	streams   = map[uint32]*stream{}
)

// stream is an exchange under way.
type stream struct {
	Stream
	root uint32
}

// current is the context whose callback is running.
var current uint32

//go:wasmexport proxy_abi_version_0_2_1
func abiVersion() {}

//go:wasmexport proxy_on_context_create
func contextCreate(id, root uint32) {
	current = id
	if root == 0 {
		roots[id] = &Plugin{}
		return
	}
	s := &stream{root: root}
	if p := roots[root]; p != nil && p.Stream != nil {
		s.Stream = p.Stream()
	}
	streams[id] = s
}

//go:wasmexport proxy_on_vm_start
func vmStart(uint32, uint32) uint32 { return 1 }

//go:wasmexport proxy_on_configure
func onConfigure(root, size uint32) uint32 {
	current = root
	var config []byte
	if size > 0 {
		var err error
		if config, err = pluginConfig.Bytes(); err != nil {
			Log(Error, "configuration: "+err.Error())
			return 0
		}
	}
	p, err := configure(config)
	if err != nil {
		Log(Error, "configuration: "+err.Error())
		return 0
	}
	roots[root] = &p
	return 1
}

//go:wasmexport proxy_on_tick
func onTick(root uint32) {
	current = root
	if p := roots[root]; p != nil && p.Tick != nil {
		p.Tick()
	}
}

// of returns the exchange and makes it the current one; one without callbacks if it is not known.
func of(id uint32) *Stream {
	current = id
	if s := streams[id]; s != nil {
		return &s.Stream
	}
	return &Stream{}
}

//go:wasmexport proxy_on_request_headers
func onRequestHeaders(id, _, end uint32) Action { return headers(of(id).RequestHeaders, end) }

//go:wasmexport proxy_on_request_body
func onRequestBody(id, size, end uint32) Action { return body(of(id).RequestBody, size, end) }

//go:wasmexport proxy_on_request_trailers
func onRequestTrailers(id, _ uint32) Action { return trailers(of(id).RequestTrailers) }

//go:wasmexport proxy_on_response_headers
func onResponseHeaders(id, _, end uint32) Action { return headers(of(id).ResponseHeaders, end) }

//go:wasmexport proxy_on_response_body
func onResponseBody(id, size, end uint32) Action { return body(of(id).ResponseBody, size, end) }

//go:wasmexport proxy_on_response_trailers
func onResponseTrailers(id, _ uint32) Action { return trailers(of(id).ResponseTrailers) }

func headers(f func(end bool) Action, end uint32) Action {
	if f == nil {
		return Continue
	}
	return f(end != 0)
}

func body(f func(size int, end bool) Action, size, end uint32) Action {
	if f == nil {
		return Continue
	}
	return f(int(size), end != 0)
}

func trailers(f func() Action) Action {
	if f == nil {
		return Continue
	}
	return f()
}

//go:wasmexport proxy_on_done
func onDone(uint32) uint32 { return 1 }

//go:wasmexport proxy_on_log
func onLog(id uint32) {
	if end := of(id).End; end != nil {
		end()
	}
}

//go:wasmexport proxy_on_delete
func onDelete(id uint32) {
	delete(streams, id)
	delete(roots, id)
	for call, c := range calls {
		if c.context == id {
			delete(calls, call)
		}
	}
}
