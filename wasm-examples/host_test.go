package examples_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// guestHost serves one plugin in front of an upstream and is no part of Edge: it does what the http-wasm ABI says and
// ends the guest wherever the ABI lets a host refuse. It is slow and holds bodies whole.
type guestHost struct {
	send     func(*http.Request) (*http.Response, error)
	config   string
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	logs     output
	mu       sync.Mutex
	free     []guestInstance
}

type guestInstance struct {
	api.Module
	features uint32 // that it enabled when it started
}

// compile prepares a plugin for any number of hosts.
func compile(t testing.TB, wasm []byte) (wazero.Runtime, wazero.CompiledModule) {
	t.Helper()
	ctx := context.Background()
	runtime := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithMemoryLimitPages(1024))
	t.Cleanup(func() { _ = runtime.Close(ctx) })
	wasi_snapshot_preview1.MustInstantiate(ctx, runtime)
	builder := runtime.NewHostModuleBuilder("http_handler")
	for name, f := range hostFunctions {
		builder.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, m api.Module, stack []uint64) {
			x := ctx.Value(exchangeKey{}).(*guestExchange)
			x.memory = m.Memory()
			for i := range f.params {
				stack[i] = uint64(api.DecodeU32(stack[i])) // the upper half may hold anything
			}
			f.call(x, stack)
		}), types(f.params), types(f.result)).Export(name)
	}
	if _, err := builder.Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	compiled, err := runtime.CompileModule(ctx, wasm)
	if err != nil {
		t.Fatal(err)
	}
	return runtime, compiled
}

func types(letters string) []api.ValueType {
	list := []api.ValueType{}
	for _, letter := range letters {
		list = append(list, map[rune]api.ValueType{'i': api.ValueTypeI32, 'I': api.ValueTypeI64}[letter])
	}
	return list
}

func (h *guestHost) instance() (guestInstance, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if last := len(h.free) - 1; last >= 0 {
		instance := h.free[last]
		h.free = h.free[:last]
		return instance, nil
	}
	x := &guestExchange{host: h}
	module, err := h.runtime.InstantiateModule(context.WithValue(context.Background(), exchangeKey{}, x), h.compiled,
		wazero.NewModuleConfig().WithName("").WithStartFunctions("_initialize", "_start").WithStderr(&h.logs))
	return guestInstance{module, x.features}, err
}

func (h *guestHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	instance, err := h.instance()
	if err != nil {
		fmt.Fprintln(&h.logs, err)
		http.Error(w, "", http.StatusInternalServerError)
		return
	}
	x := &guestExchange{
		host: h, features: instance.features, phase: beforeNext, req: r, reqHeader: r.Header.Clone(), method: r.Method, uri: r.RequestURI,
		status: http.StatusOK, header: http.Header{}, content: [2]io.Reader{r.Body, nil},
	}
	x.reqHeader.Set("Host", r.Host)
	if err := x.run(context.WithValue(r.Context(), exchangeKey{}, x), instance); err != nil {
		fmt.Fprintln(&h.logs, err)
		_ = instance.Close(context.Background())
		http.Error(w, "", http.StatusInternalServerError)
		return
	}
	h.mu.Lock()
	h.free = append(h.free, instance)
	h.mu.Unlock()
	maps.Copy(w.Header(), x.header)
	w.WriteHeader(x.status)
	_, _ = w.Write(x.answer)
}

type phase int

const (
	starting phase = iota
	beforeNext
	afterNext
)

// Features and kinds of the ABI.
const (
	bufferRequest = 1 << iota
	bufferResponse
)

type exchangeKey struct{}

// guestExchange is one request on its way through the plugin.
type guestExchange struct {
	host        *guestHost
	memory      api.Memory
	features    uint32
	phase       phase
	req         *http.Request
	reqHeader   http.Header
	method, uri string
	status      int
	header      http.Header
	content     [2]io.Reader    // what read_body reads, of request and answer
	read        [2]bytes.Buffer // what it has read
	written     [2]bytes.Buffer // what write_body has written
	wrote       [2]bool
	answer      []byte
}

// run calls the guest, the upstream and the guest again.
func (x *guestExchange) run(ctx context.Context, module api.Module) error {
	results, err := module.ExportedFunction("handle_request").Call(ctx)
	if err != nil {
		return err
	}
	x.phase, x.answer = afterNext, x.written[1].Bytes()
	if uint32(results[0]) == 0 {
		return nil
	}
	if x.wrote[1] {
		return errors.New("the guest goes on after it has written an answer: not known to this host")
	}
	resp, err := x.forward(ctx)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for name, values := range resp.Header {
		if _, ours := x.header[name]; !ours && name != "Content-Length" {
			x.header[name] = values
		}
	}
	x.status, x.content[1] = resp.StatusCode, resp.Body
	if _, err := module.ExportedFunction("handle_response").Call(ctx, results[0]>>32, 0); err != nil {
		return err
	}
	if x.wrote[1] {
		x.answer = x.written[1].Bytes()
		return nil
	}
	x.answer, err = io.ReadAll(io.MultiReader(&x.read[1], resp.Body))
	return err
}

// forward sends the request as the guest left it, and does what Edge does to it on its own: the prefix of the provider
// demo is cut from the path, and from the model on /v1.
func (x *guestExchange) forward(ctx context.Context) (*http.Response, error) {
	body := io.Reader(&x.written[0])
	if !x.wrote[0] {
		body = x.req.Body
		if x.features&bufferRequest != 0 {
			body = io.MultiReader(&x.read[0], body)
		}
	}
	content, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	uri, direct := strings.CutPrefix(x.uri, "/demo")
	if !direct {
		content = bytes.Replace(content, []byte(`"demo/`), []byte(`"`), 1)
	}
	req, err := http.NewRequestWithContext(ctx, x.method, "http://upstream.test"+uri, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	req.Header = x.reqHeader.Clone()
	req.Host = req.Header.Get("Host")
	req.Header.Del("Host")
	return x.host.send(req)
}

func (x *guestExchange) trap(format string, args ...any) { panic(fmt.Errorf(format, args...)) }

func (x *guestExchange) want(ok bool, what string) {
	if !ok {
		x.trap("the guest must not: %s", what)
	}
}

func (x *guestExchange) text(pointer, length uint64) string {
	b, ok := x.memory.Read(uint32(pointer), uint32(length))
	x.want(ok, "point outside its memory")
	return string(b)
}

// give writes a value if it fits and returns its length.
func (x *guestExchange) give(value string, pointer, limit uint64) uint64 {
	if uint64(len(value)) <= limit {
		x.want(x.memory.Write(uint32(pointer), []byte(value)), "point outside its memory")
	}
	return uint64(len(value))
}

func (x *guestExchange) giveList(values []string, pointer, limit uint64) uint64 {
	var text strings.Builder
	for _, value := range values {
		text.WriteString(value + "\x00")
	}
	return uint64(len(values))<<32 | x.give(text.String(), pointer, limit)
}

func (x *guestExchange) headers(kind uint64, changes bool) http.Header {
	x.want(x.phase != starting, "use headers before there is a request")
	x.want(kind <= 1, "use trailers here")
	if kind == 0 {
		x.want(!changes || x.phase == beforeNext, "change a request that was sent")
		return x.reqHeader
	}
	x.want(!changes || x.phase == beforeNext || x.features&bufferResponse != 0, "change an answer without buffer_response")
	return x.header
}

func (x *guestExchange) name(pointer, length uint64) string {
	x.want(length > 0, "use an empty header name")
	return http.CanonicalHeaderKey(x.text(pointer, length))
}

// hostFunctions are the functions of the ABI; i is an i32 and I an i64.
var hostFunctions = map[string]struct {
	params, result string
	call           func(x *guestExchange, s []uint64)
}{
	"enable_features": {"i", "i", func(x *guestExchange, s []uint64) {
		x.features |= uint32(s[0]) & (bufferRequest | bufferResponse)
		s[0] = uint64(x.features)
	}},
	"get_config":  {"ii", "i", func(x *guestExchange, s []uint64) { s[0] = x.give(x.host.config, s[0], s[1]) }},
	"log_enabled": {"i", "i", func(_ *guestExchange, s []uint64) { s[0] = 1 }},
	"log":         {"iii", "", func(x *guestExchange, s []uint64) { fmt.Fprintln(&x.host.logs, x.text(s[1], s[2])) }},
	"get_method":  {"ii", "i", func(x *guestExchange, s []uint64) { s[0] = x.give(x.method, s[0], s[1]) }},
	"set_method": {"ii", "", func(x *guestExchange, s []uint64) {
		x.want(x.phase == beforeNext && s[1] > 0, "set this method now")
		x.method = x.text(s[0], s[1])
	}},
	"get_uri": {"ii", "i", func(x *guestExchange, s []uint64) { s[0] = x.give(x.uri, s[0], s[1]) }},
	"set_uri": {"ii", "", func(x *guestExchange, s []uint64) {
		x.want(x.phase == beforeNext, "set the URI now")
		x.uri = x.text(s[0], s[1])
	}},
	"get_protocol_version": {"ii", "i", func(x *guestExchange, s []uint64) { s[0] = x.give(x.req.Proto, s[0], s[1]) }},
	"get_source_addr":      {"ii", "i", func(x *guestExchange, s []uint64) { s[0] = x.give(x.req.RemoteAddr, s[0], s[1]) }},
	"get_header_names": {"iii", "I", func(x *guestExchange, s []uint64) {
		var names []string
		for _, name := range slices.Sorted(maps.Keys(x.headers(s[0], false))) {
			names = append(names, strings.ToLower(name))
		}
		s[0] = x.giveList(names, s[1], s[2])
	}},
	"get_header_values": {"iiiii", "I", func(x *guestExchange, s []uint64) {
		s[0] = x.giveList(x.headers(s[0], false)[x.name(s[1], s[2])], s[3], s[4])
	}},
	"set_header_value": {"iiiii", "", func(x *guestExchange, s []uint64) {
		x.headers(s[0], true).Set(x.name(s[1], s[2]), x.text(s[3], s[4]))
	}},
	"add_header_value": {"iiiii", "", func(x *guestExchange, s []uint64) {
		x.headers(s[0], true).Add(x.name(s[1], s[2]), x.text(s[3], s[4]))
	}},
	"remove_header": {"iii", "", func(x *guestExchange, s []uint64) { x.headers(s[0], true).Del(x.name(s[1], s[2])) }},
	"read_body":     {"iii", "I", func(x *guestExchange, s []uint64) { s[0] = x.readBody(s[0], s[1], s[2]) }},
	"write_body":    {"iii", "", func(x *guestExchange, s []uint64) { x.writeBody(s[0], s[1], s[2]) }},
	"get_status_code": {"", "i", func(x *guestExchange, s []uint64) {
		x.want(x.phase == beforeNext || x.features&bufferResponse != 0, "read the status without buffer_response")
		s[0] = uint64(x.status)
	}},
	"set_status_code": {"i", "", func(x *guestExchange, s []uint64) {
		x.want(x.phase == beforeNext || x.features&bufferResponse != 0, "set the status without buffer_response")
		x.status = int(uint32(s[0]))
	}},
}

func (x *guestExchange) readBody(kind, pointer, limit uint64) uint64 {
	x.want(limit > 0 && kind <= 1, "read nothing")
	x.want(kind == 1 || x.phase == beforeNext || x.features&bufferRequest != 0, "read a body that was sent")
	x.want(kind == 0 || x.phase == afterNext && x.features&bufferResponse != 0, "read an answer without buffer_response")
	b, ok := x.memory.Read(uint32(pointer), uint32(limit))
	x.want(ok, "point outside its memory")
	n, err := io.ReadFull(x.content[kind], b)
	x.read[kind].Write(b[:n])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		x.trap("read: %w", err)
	}
	if err != nil {
		return 1<<32 | uint64(n)
	}
	return uint64(n)
}

func (x *guestExchange) writeBody(kind, pointer, length uint64) {
	x.want(kind <= 1 && (x.phase == beforeNext || kind == 1 && x.features&bufferResponse != 0), "write this body now")
	x.wrote[kind] = true
	x.written[kind].WriteString(x.text(pointer, length))
}
