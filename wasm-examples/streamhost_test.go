package examples_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/edge-proxy/edge/plugins"
	"github.com/edge-proxy/edge/plugins/proxywasm"
)

// isProxyWasm says whether a module speaks Proxy-Wasm, and not http-wasm.
func isProxyWasm(t testing.TB, wasm []byte) bool {
	t.Helper()
	info, err := plugins.Inspect(wasm)
	if err != nil {
		t.Fatal(err)
	}
	return info.ABI == plugins.ProxyWasm
}

// streamHost serves one Proxy-Wasm plugin in front of an upstream: plugins/proxywasm, with little of Edge around it. Every
// second exchange goes through the plugin byte by byte.
type streamHost struct {
	send    func(*http.Request) (*http.Response, error)
	options proxywasm.Options
	plugin  *proxywasm.Plugin
	logs    output
	served  atomic.Int64
}

// pluginHost is one for all tests, so that each module is compiled once. It lives as long as they do.
var pluginHost = sync.OnceValues(func() (*plugins.Host, error) {
	return plugins.NewHost(plugins.HostConfig{Logger: slog.New(slog.DiscardHandler)})
})

// load prepares a plugin with a configuration. It stays loaded.
func (h *streamHost) load(wasm []byte, config string) error {
	host, err := pluginHost()
	if err != nil {
		return err
	}
	h.options.Instances, h.options.MaxBody = 2, 32<<20
	lines := slog.New(slog.NewTextHandler(&h.logs, &slog.HandlerOptions{Level: slog.LevelInfo}))
	h.plugin, err = proxywasm.Load(context.Background(), host, plugins.Config{
		Name: "example", Module: wasm, Settings: []byte(config), Logger: lines, LogLinesPerSecond: 10000, Timeout: patience,
	}, h.options)
	return err
}

// runStreams runs the cases of an example that speaks Proxy-Wasm.
func runStreams(t *testing.T, upstream *caseUpstream, example string, wasm []byte) {
	t.Helper()
	hosts := map[string]*streamHost{}
	for _, c := range readCases(t, example) {
		config := guestConfig(t, readConfig(t, example, c).Plugins[0]["config"])
		host := hosts[config]
		if host == nil {
			host = &streamHost{send: upstream.send}
			if err := host.load(wasm, config); err != nil {
				t.Fatalf("%s: %v\n%s", c.name, err, &host.logs)
			}
			t.Cleanup(host.plugin.Close)
			hosts[config] = host
		}
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(host)
			defer server.Close()
			run(t, upstream, c, server.Listener.Addr().String(), &host.logs)
		})
	}
}

func (h *streamHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	size := 1 << 20
	if h.served.Add(1)%2 == 0 {
		size = 1
	}
	x := newStreamExchange(r)
	err := x.run(r.Context(), h, size)
	if err != nil {
		fmt.Fprintln(&h.logs, err)
		http.Error(w, "", http.StatusInternalServerError)
		return
	}
	for _, f := range x.lists[proxywasm.ResponseHeaders].all {
		w.Header().Add(f.Name, f.Value)
	}
	w.WriteHeader(x.status)
	_, _ = w.Write(x.answer)
}

// streamExchange is one request on its way through a plugin. It is the plugin's Exchange.
type streamExchange struct {
	method, path, authority string
	status                  int
	source                  string
	lists                   [4]fieldList
	body, answer            []byte
	charged                 int64
}

// newStreamExchange does what Edge does on its own: the prefix of the provider demo is cut from the path, and from the
// model on /v1.
func newStreamExchange(r *http.Request) *streamExchange {
	x := &streamExchange{method: r.Method, authority: r.Host, source: r.RemoteAddr}
	x.body, _ = io.ReadAll(r.Body)
	var direct bool
	if x.path, direct = strings.CutPrefix(r.RequestURI, "/demo"); !direct {
		x.body = bytes.Replace(x.body, []byte(`"demo/`), []byte(`"`), 1)
	}
	x.lists[proxywasm.RequestHeaders].from(r.Header)
	return x
}

func (x *streamExchange) run(ctx context.Context, h *streamHost, size int) error {
	s, err := h.plugin.Open(x)
	if err != nil {
		return err
	}
	defer s.Close()
	verdict, err := s.RequestHeaders(len(x.body) == 0)
	if err == nil && verdict == proxywasm.PausedAll {
		verdict, err = s.Await(ctx, false)
	}
	if err == nil && verdict != proxywasm.Replied && len(x.body) > 0 {
		x.body, verdict, err = pump(x.body, size, s.RequestBody)
	}
	if err != nil {
		return err
	}
	reply := verdict == proxywasm.Replied
	switch {
	case reply:
		x.local(s.Reply())
	case verdict != proxywasm.Continue:
		return fmt.Errorf("the request is %v", verdict)
	default:
		if err := x.forward(ctx, h); err != nil {
			return err
		}
	}
	if verdict, err = s.ResponseHeaders(len(x.answer) == 0); err != nil {
		return err
	}
	if verdict != proxywasm.Replied && len(x.answer) > 0 {
		x.answer, verdict, err = pump(x.answer, size, s.ResponseBody)
	}
	if verdict == proxywasm.Replied && !reply {
		x.local(s.Reply())
		verdict = proxywasm.Continue
	}
	if err == nil && verdict != proxywasm.Continue {
		err = fmt.Errorf("the answer is %v", verdict)
	}
	return err
}

// pump sends a body through a callback in chunks, and returns what goes on and the last verdict.
func pump(body []byte, size int, callback func([]byte, bool) ([]byte, proxywasm.Verdict, error)) (out []byte, v proxywasm.Verdict, err error) {
	for chunk := range slices.Chunk(body, size) {
		var part []byte
		if part, v, err = callback(chunk, false); err != nil || v == proxywasm.Replied || v == proxywasm.Closed {
			return nil, v, err
		}
		out = append(out, part...)
	}
	part, v, err := callback(nil, true)
	return append(out, part...), v, err
}

func (x *streamExchange) local(r *proxywasm.LocalReply) {
	x.status, x.answer = r.Status, r.Body
	x.lists[proxywasm.ResponseHeaders] = fieldList{r.Fields}
}

func (x *streamExchange) forward(ctx context.Context, h *streamHost) error {
	req, err := http.NewRequestWithContext(ctx, x.method, "http://upstream.test"+x.path, bytes.NewReader(x.body))
	if err != nil {
		return err
	}
	for _, f := range x.lists[proxywasm.RequestHeaders].all {
		req.Header.Add(f.Name, f.Value)
	}
	req.Host = x.authority
	resp, err := h.send(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	x.status = resp.StatusCode
	x.lists[proxywasm.ResponseHeaders].from(resp.Header)
	x.answer, err = io.ReadAll(resp.Body)
	x.lists[proxywasm.ResponseHeaders].Del("Content-Length")
	return err
}

func (x *streamExchange) Method() string          { return x.method }
func (x *streamExchange) SetMethod(method string) { x.method = method }
func (x *streamExchange) Path() string            { return x.path }
func (x *streamExchange) Authority() string       { return x.authority }
func (x *streamExchange) SetAuthority(a string)   { x.authority = a }
func (x *streamExchange) Scheme() string          { return "http" }
func (x *streamExchange) Status() int             { return x.status }
func (x *streamExchange) SetStatus(code int)      { x.status = code }
func (x *streamExchange) RequestID() string       { return "" }

func (x *streamExchange) Charge(n int64) error { x.charged += n; return nil }

func (x *streamExchange) Attribute(name string) (any, bool) {
	return x.source, name == "source.address"
}

func (x *streamExchange) Fields(k proxywasm.MapKind) proxywasm.Fields { return &x.lists[k] }

func (x *streamExchange) SetPath(path string) error {
	if !strings.HasPrefix(path, "/") {
		return errors.New("no path")
	}
	x.path = path
	return nil
}

// fieldList is a list of headers in order.
type fieldList struct{ all []proxywasm.Field }

func (l *fieldList) from(header http.Header) {
	for name, values := range header {
		for _, value := range values {
			l.Add(name, value)
		}
	}
}

func (l *fieldList) Len() int                  { return len(l.all) }
func (l *fieldList) At(i int) (string, string) { return l.all[i].Name, l.all[i].Value }

func (l *fieldList) Add(name, value string) {
	l.all = append(l.all, proxywasm.Field{Name: textproto.CanonicalMIMEHeaderKey(name), Value: value})
}

func (l *fieldList) Set(name, value string) {
	l.Del(name)
	l.Add(name, value)
}

func (l *fieldList) Del(name string) {
	l.all = slices.DeleteFunc(l.all, func(f proxywasm.Field) bool { return strings.EqualFold(f.Name, name) })
}
