// Command higress is a guest that uses Higress's Go SDK. Each of the guests in these folders does the same.
package main

import (
	"bytes"
	"strconv"

	"github.com/higress-group/proxy-wasm-go-sdk/proxywasm"
	"github.com/higress-group/proxy-wasm-go-sdk/proxywasm/types"
)

func main() {}

func init() { proxywasm.SetVMContext(&vm{}) }

type vm struct{ types.DefaultVMContext }

func (*vm) NewPluginContext(uint32) types.PluginContext { return &plugin{} }

type plugin struct {
	types.DefaultPluginContext
	greeting string
	requests proxywasm.MetricCounter
}

func (p *plugin) OnPluginStart(int) types.OnPluginStartStatus {
	config, err := proxywasm.GetPluginConfiguration()
	if err != nil || len(config) == 0 {
		proxywasm.LogCritical("no config")
		return types.OnPluginStartStatusFailed
	}
	p.greeting = string(config)
	p.requests = proxywasm.DefineCounterMetric("sdk.requests")
	if err := proxywasm.SetTickPeriodMilliSeconds(1); err != nil {
		panic(err)
	}
	return types.OnPluginStartStatusOK
}

func (p *plugin) OnTick() {
	value, cas, err := proxywasm.GetSharedData("ticks")
	if err != nil && err != types.ErrorStatusNotFound {
		panic(err)
	}
	_ = proxywasm.SetSharedData("ticks", append(value, '.'), cas)
	if len(value) == 2 {
		_ = proxywasm.SetTickPeriodMilliSeconds(0)
		proxywasm.LogInfo("ticked")
	}
}

func (p *plugin) NewHttpContext(uint32) types.HttpContext { return &stream{plugin: p} }

type stream struct {
	types.DefaultHttpContext
	plugin *plugin
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (s *stream) OnHttpRequestHeaders(n int, end bool) types.Action {
	s.plugin.requests.Increment(1)
	path, err := proxywasm.GetHttpRequestHeader(":path")
	must(err)
	switch path {
	case "/deny":
		must(proxywasm.SendHttpResponse(403, [][2]string{{"x-why", "test"}}, []byte("denied"), -1))
		return types.ActionPause
	case "/call":
		_, err := proxywasm.DispatchHttpCall("auth", [][2]string{{":method", "GET"}, {":path", "/check"}, {":authority", "auth"}},
			[]byte("question"), nil, 1000, func(n, size, trailers int) {
				body, err := proxywasm.GetHttpCallResponseBody(0, size)
				must(err)
				must(proxywasm.AddHttpRequestHeader("x-auth", string(body)))
				must(proxywasm.ResumeHttpRequest())
			})
		must(err)
		return types.ActionPause
	case "/trap":
		panic("as asked")
	}
	all, err := proxywasm.GetHttpRequestHeaders()
	must(err)
	must(proxywasm.ReplaceHttpRequestHeader("x-count", strconv.Itoa(len(all))))
	must(proxywasm.ReplaceHttpRequestHeader("x-greeting", s.plugin.greeting))
	method, err := proxywasm.GetProperty([]string{"request", "method"})
	must(err)
	must(proxywasm.SetProperty([]string{"sdk", "method"}, method))
	if end {
		return types.ActionContinue
	}
	return types.ActionContinue
}

func (s *stream) OnHttpRequestBody(size int, end bool) types.Action {
	if !end {
		return types.ActionPause
	}
	body, err := proxywasm.GetHttpRequestBody(0, size)
	must(err)
	must(proxywasm.ReplaceHttpRequestBody(bytes.ToUpper(body)))
	must(proxywasm.AppendHttpRequestBody([]byte("!")))
	return types.ActionContinue
}

func (s *stream) OnHttpResponseHeaders(int, bool) types.Action {
	method, err := proxywasm.GetProperty([]string{"sdk", "method"})
	if err == nil {
		must(proxywasm.AddHttpResponseHeader("x-method", string(method)))
	}
	must(proxywasm.RemoveHttpResponseHeader("server"))
	return types.ActionContinue
}

func (s *stream) OnHttpResponseBody(size int, _ bool) types.Action {
	if size > 0 {
		must(proxywasm.PrependHttpResponseBody([]byte(">")))
	}
	return types.ActionContinue
}

func (s *stream) OnHttpResponseTrailers(int) types.Action {
	must(proxywasm.AddHttpResponseTrailer("x-tail", "seen"))
	return types.ActionContinue
}

func (s *stream) OnHttpStreamDone() { proxywasm.LogInfo("bye") }
