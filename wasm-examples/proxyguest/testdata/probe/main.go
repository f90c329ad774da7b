//go:build wasip1

// Probe uses all of package proxyguest, for its test.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	guest "github.com/edge-proxy/edge/wasm-examples/proxyguest"
)

func init() {
	guest.Configure(func(config []byte) (guest.Plugin, error) {
		if string(config) == "refuse" {
			return guest.Plugin{}, errors.New("refused as asked")
		}
		if err := guest.SetTickPeriod(10 * time.Millisecond); err != nil {
			return guest.Plugin{}, err
		}
		streams, err := guest.NewCounter("probe_streams")
		gauge, err2 := guest.NewGauge("probe_gauge")
		sizes, err3 := guest.NewHistogram("probe_sizes")
		p := &probe{config: config, streams: streams, gauge: gauge, sizes: sizes}
		return guest.Plugin{Stream: p.stream, Tick: p.tick}, errors.Join(err, err2, err3)
	})
}

func main() {}

type probe struct {
	config                []byte
	streams, gauge, sizes guest.Metric
	ticked                bool
}

func (p *probe) tick() {
	if !p.ticked {
		guest.Log(guest.Info, "probe: ticked")
	}
	p.ticked = true
}

func (p *probe) stream() guest.Stream {
	x := &exchange{probe: p}
	_ = p.streams.Add(1)
	_ = p.gauge.Record(7)
	_ = p.gauge.Add(-2)
	return guest.Stream{
		RequestHeaders: x.requestHeaders, RequestBody: x.requestBody, RequestTrailers: x.requestTrailers,
		ResponseHeaders: x.responseHeaders, ResponseBody: x.responseBody, ResponseTrailers: x.responseTrailers, End: x.end,
	}
}

type exchange struct {
	*probe
	said []string
}

func (x *exchange) say(format string, args ...any) {
	x.said = append(x.said, fmt.Sprintf(format, args...))
}

func (x *exchange) requestHeaders(end bool) guest.Action {
	h := guest.RequestHeaders
	if h.Get("x-stop") != "" {
		if err := guest.Reply(418, []guest.Field{{Name: "x-a", Value: "1"}, {Name: "x-b", Value: ""}}, []byte("stopped")); err != nil {
			panic(err)
		}
		return guest.Pause
	}
	if h.Get("x-reset") != "" {
		_ = guest.Reset(guest.Request)
		return guest.Pause
	}
	x.say("%s %s %s %s end %t", h.Get(":method"), h.Get(":path"), h.Get(":authority"), h.Get(":scheme"), end)
	_, has := h.Lookup("x-none")
	empty, hasEmpty := h.Lookup("x-empty")
	x.say("none %t empty %q %t list %q", has, empty, hasEmpty, h.Get("X-List"))
	all, err := h.All()
	x.say("%d fields %v", len(all), err)
	_ = h.Remove("x-gone")
	_ = h.Add("x-list", "three")
	_ = h.Set("x-config", fmt.Sprint(len(x.config)))
	if h.Get("x-replace") != "" {
		_ = h.Replace([]guest.Field{{Name: ":method", Value: "PUT"}, {Name: ":path", Value: "/replaced"}, {Name: ":authority", Value: "r.test"}, {Name: "x-only", Value: "1"}})
		return guest.Continue
	}
	source, known := guest.Property("source", "address")
	x.say("source %s %t", source, known)
	err = guest.SetProperty([]byte("set"), "probe", "own")
	own, _ := guest.Property("probe", "own")
	x.say("own %s %v", own, err)
	x.say("now %t", time.Since(guest.Now()).Abs() < time.Minute)
	x.share()
	_, none := guest.CallBody.Bytes()
	x.say("no call: %v, bad name: %v", none, h.Set("", ""))
	if h.Get("x-call") != "" {
		return x.call(h.Get("x-call"))
	}
	return guest.Continue
}

func (x *exchange) share() {
	_, _, err := guest.SharedData("unknown")
	if _, _, err := guest.SharedData("shared"); err != nil {
		_ = guest.SetSharedData("shared", []byte("value"), 0)
	}
	value, version, _ := guest.SharedData("shared")
	again := guest.SetSharedData("shared", value, version)
	x.say("shared %s %v %v %v", value, err, again, guest.SetSharedData("shared", nil, version))
}

func (x *exchange) call(upstream string) guest.Action {
	fields := []guest.Field{{Name: ":method", Value: "POST"}, {Name: ":path", Value: "/call"}, {Name: ":authority", Value: "call.test"}, {Name: "x-from", Value: "probe"}}
	err := guest.Call(upstream, fields, []byte("question"), 1000, func(ok bool) {
		body, err := guest.CallBody.Bytes()
		_ = guest.RequestHeaders.Set("x-called", fmt.Sprintf("%t %s %s %v", ok, guest.CallHeaders.Get(":status"), body, err))
		_ = guest.Resume(guest.Request)
	})
	if err != nil {
		_ = guest.RequestHeaders.Set("x-called", err.Error())
		return guest.Continue
	}
	return guest.Pause
}

func (x *exchange) requestBody(size int, end bool) guest.Action {
	if !end {
		return guest.Pause
	}
	b := guest.RequestBody
	body, err := b.Bytes()
	n, err2 := b.Len()
	part, err3 := b.Slice(1, 2)
	x.say("body %d %d %d %q %v", size, len(body), n, part, errors.Join(err, err2, err3))
	_ = x.sizes.Record(uint64(n))
	_ = b.Set(bytes.ToUpper(body))
	_ = b.Prepend([]byte("<"))
	_ = b.Append([]byte(">"))
	return guest.Continue
}

func (x *exchange) requestTrailers() guest.Action {
	guest.Log(guest.Info, "probe: request trailers "+guest.RequestTrailers.Get("x-trailer"))
	return guest.Continue
}

func (x *exchange) responseHeaders(end bool) guest.Action {
	x.say("status %s", guest.ResponseHeaders.Get(":status"))
	_ = guest.ResponseHeaders.Set(":status", "201")
	_ = guest.ResponseHeaders.Set("x-said", strings.Join(x.said, "; "))
	return guest.Continue
}

// responseBody drops spaces: a chunk may have nothing left.
func (x *exchange) responseBody(size int, end bool) guest.Action {
	body, _ := guest.ResponseBody.Bytes()
	_ = guest.ResponseBody.Set(bytes.ReplaceAll(body, []byte(" "), nil))
	if end {
		_ = guest.ResponseTrailers.Add("x-end", "1")
	}
	return guest.Continue
}

func (x *exchange) responseTrailers() guest.Action {
	_ = guest.ResponseTrailers.Set("x-seen", "1")
	return guest.Continue
}

func (x *exchange) end() {
	value, _ := x.streams.Value()
	guest.Log(guest.Info, fmt.Sprintf("probe: end %s, %d streams", guest.ResponseHeaders.Get(":status"), value))
}
