package proxywasm

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/plugins"
)

const wild = 0x7fff_fff0 // a pointer outside of all memory

// streamer is a guest with all callbacks for streams, which do nothing.
func streamer(marker string) *module {
	m := newModule(marker)
	for _, f := range []callback{
		onRequestHeaders, onRequestBody, onRequestTrailers, onResponseHeaders, onResponseBody, onResponseTrailers,
	} {
		m.on(callbacks[f].Name, callbacks[f].Params, func(*code) {})
	}
	return m
}

// TestHostcalls has vectors for each hostcall; the last subtest finds those that were left out.
func TestHostcalls(t *testing.T) {
	t.Run("maps", testMapCalls)
	t.Run("pseudo headers", testPseudoHeaders)
	t.Run("buffers", testBufferCalls)
	t.Run("control", testControlCalls)
	t.Run("telling", testTellingCalls)
	t.Run("properties", testPropertyCalls)
	t.Run("shared data", testSharedData)
	t.Run("queues", testQueueCalls)
	t.Run("metrics", testMetricCalls)
	t.Run("http call", testHTTPCall)
	t.Run("redis", testRedisCalls)
	t.Run("unimplemented", testUnimplemented)
	t.Run("all", func(t *testing.T) {
		for _, h := range Hostcalls() {
			if _, ok := seen.Load(h.Name); !ok {
				t.Errorf("no vector for %s", h.Name)
			}
		}
	})
}

func testMapCalls(t *testing.T) {
	x := newExchange()
	p := load(t, streamer("0_2_1"), plugins.Config{}, Options{})
	s := open(t, p, x)
	within(t, p, s, func(v *vm) {
		v.wantOut("text/plain", "proxy_get_header_map_value", 0, "content-type")
		v.wantOut("text/plain", "proxy_get_header_map_value", 0, "Content-Type")
		v.wantOut("1,2", "proxy_get_header_map_value", 0, "x-two")
		v.want(statusNotFound, "proxy_get_header_map_value", 0, "x-none", outPtr, outSize)
		v.want(statusNotFound, "proxy_get_header_map_value", 2, "server", outPtr, outSize) // there is no answer yet
		v.want(statusNotFound, "proxy_get_header_map_value", 6, "server", outPtr, outSize)
		for _, kind := range []int{8, 100, -1} {
			v.want(statusBadArgument, "proxy_get_header_map_value", kind, "a", outPtr, outSize)
			v.want(statusBadArgument, "proxy_get_header_map_size", kind, outNum)
		}
		for _, kind := range []int{1, 3, 4, 5, 7} {
			v.want(statusNotFound, "proxy_get_header_map_pairs", kind, outPtr, outSize)
		}
		v.want(statusInvalidMemory, "proxy_get_header_map_value", 0, wild, 5, outPtr, outSize)
		v.want(statusInvalidMemory, "proxy_get_header_map_value", 0, "x-two", wild, outSize)
		v.want(statusInvalidMemory, "proxy_get_header_map_value", 0, "x-two", outPtr, wild)
		v.want(statusInvalidMemory, "proxy_get_header_map_size", 0, wild)

		all := []string{
			":authority", "example.org", ":path", "/chat?a=1", ":method", "POST", ":scheme", "https",
			"content-type", "text/plain", "x-two", "1", "x-two", "2",
		}
		v.wantOut(serial(all...), "proxy_get_header_map_pairs", 0)
		v.want(statusOK, "proxy_get_header_map_size", 0, outNum)
		if got := v.word(outNum); got != uint32(len(serial(all...))) {
			t.Errorf("size %d, want %d", got, len(serial(all...)))
		}

		v.want(statusOK, "proxy_add_header_map_value", 0, "x-two", "3")
		v.wantOut("1,2,3", "proxy_get_header_map_value", 0, "x-two")
		v.want(statusOK, "proxy_replace_header_map_value", 0, "X-TWO", "only")
		v.wantOut("only", "proxy_get_header_map_value", 0, "x-two")
		v.want(statusOK, "proxy_replace_header_map_value", 0, "x-new", "")
		v.wantOut("", "proxy_get_header_map_value", 0, "x-new")
		v.want(statusOK, "proxy_remove_header_map_value", 0, "x-two")
		v.want(statusOK, "proxy_remove_header_map_value", 0, "x-two")
		v.want(statusBadArgument, "proxy_add_header_map_value", 0, "", "v")
		v.want(statusBadArgument, "proxy_add_header_map_value", 0, "a b", "v")
		v.want(statusBadArgument, "proxy_add_header_map_value", 0, "a", "v\r\nx: y")
		v.want(statusBadArgument, "proxy_replace_header_map_value", 0, "a", "\x00")
		v.want(statusBadArgument, "proxy_remove_header_map_value", 0, "a\n")
		v.want(statusInvalidMemory, "proxy_add_header_map_value", 0, "a", wild, 1)
		v.want(statusInvalidMemory, "proxy_remove_header_map_value", 0, wild, 1)
		v.want(statusNotFound, "proxy_add_header_map_value", 2, "a", "b")

		for _, bad := range []string{"\x01", "\xff\xff\xff\xff", serial("a", "b")[:9], serial("a b", "c"), serial("a", "b\n"), serial(":nope", "c")} {
			v.want(statusBadArgument, "proxy_set_header_map_pairs", 0, bad)
		}
		v.want(statusInvalidMemory, "proxy_set_header_map_pairs", 0, wild, 10)
		v.want(statusOK, "proxy_set_header_map_pairs", 0, serial(":path", "/new", "x-a", "1", "X-A", "2"))
		v.want(statusInternal, "proxy_set_header_map_pairs", 0, 0, 20*65536-8192) // zeros: no pair, but a lot of them
	})
	if got, want := x.lists[RequestHeaders].String(), "X-A: 1\nX-A: 2\n"; got != want || x.path != "/new" || x.method != "POST" {
		t.Errorf("after set pairs: %q, path %q, method %q", got, x.path, x.method)
	}
	for _, c := range []*stream{nil, s.c} { // the plugin has no maps, nor has a stream that the proxy is not in
		within(t, p, nil, func(v *vm) {
			v.g.effective = c
			v.want(statusNotFound, "proxy_get_header_map_pairs", 0, outPtr, outSize)
			v.want(statusNotFound, "proxy_add_header_map_value", 0, "a", "b")
		})
	}
}

func testPseudoHeaders(t *testing.T) {
	x := newExchange()
	p := load(t, streamer("0_2_1"), plugins.Config{}, Options{})
	s := open(t, p, x)
	within(t, p, s, func(v *vm) {
		for name, want := range map[string]string{
			":authority": "example.org", "host": "example.org", ":path": "/chat?a=1", ":method": "POST", ":scheme": "https",
		} {
			v.wantOut(want, "proxy_get_header_map_value", 0, name)
		}
		v.want(statusNotFound, "proxy_get_header_map_value", 0, ":status", outPtr, outSize)
		v.want(statusOK, "proxy_replace_header_map_value", 0, ":path", "/x")
		v.want(statusOK, "proxy_replace_header_map_value", 0, ":method", "GET")
		v.want(statusOK, "proxy_replace_header_map_value", 0, "host", "b.example")
		v.want(statusOK, "proxy_add_header_map_value", 0, ":scheme", "http")
		v.want(statusBadArgument, "proxy_replace_header_map_value", 0, ":path", "nope")
		v.want(statusBadArgument, "proxy_replace_header_map_value", 0, ":path", "")
		v.want(statusBadArgument, "proxy_replace_header_map_value", 0, ":method", "G T")
		v.want(statusBadArgument, "proxy_replace_header_map_value", 0, ":status", "200")
		v.want(statusBadArgument, "proxy_remove_header_map_value", 0, ":path")
		v.want(statusBadArgument, "proxy_remove_header_map_value", 0, "host")
	})
	if x.path != "/x" || x.method != "GET" || x.authority != "b.example" {
		t.Errorf("got %q %q %q", x.path, x.method, x.authority)
	}
	if _, err := s.ResponseHeaders(true); err != nil {
		t.Fatal(err)
	}
	s.c.left[ResponseHeaders] = false
	within(t, p, s, func(v *vm) {
		v.wantOut("200", "proxy_get_header_map_value", 2, ":status")
		v.want(statusOK, "proxy_replace_header_map_value", 2, ":status", "418")
		for _, bad := range []string{"", "abc", "99", "1000", "101"} {
			v.want(statusBadArgument, "proxy_replace_header_map_value", 2, ":status", bad)
		}
		v.wantOut(serial(":status", "418", "server", "up"), "proxy_get_header_map_pairs", 2)
		v.c.left[ResponseHeaders] = true
		v.want(statusOK, "proxy_replace_header_map_value", 2, ":status", "500") // without effect
		v.want(statusOK, "proxy_remove_header_map_value", 2, "server")
		v.want(statusOK, "proxy_set_header_map_pairs", 2, "")
		v.wantOut(serial(":status", "418", "server", "up"), "proxy_get_header_map_pairs", 2)
	})

	old := load(t, streamer("0_1_0"), plugins.Config{}, Options{})
	within(t, old, open(t, old, newExchange()), func(v *vm) {
		v.wantOut("", "proxy_get_header_map_value", 0, "x-none") // 0.1.0 has no NOT_FOUND
	})
}

func testBufferCalls(t *testing.T) {
	p := load(t, streamer("0_2_1"), plugins.Config{Settings: []byte("settings")}, Options{VMConfig: []byte("vm"), MaxBody: 20})
	s := open(t, p, newExchange())
	within(t, p, s, func(v *vm) {
		v.wantOut("vm", "proxy_get_buffer_bytes", 6, 0, 100)
		v.wantOut("settings", "proxy_get_buffer_bytes", 7, 0, 100)
		v.wantOut("tting", "proxy_get_buffer_bytes", 7, 2, 5)
		v.wantOut("", "proxy_get_buffer_bytes", 7, 8, 5)
		v.wantOut("s", "proxy_get_buffer_bytes", 7, 7, -1)
		v.want(statusBadArgument, "proxy_get_buffer_bytes", 7, 9, 5, outPtr, outSize)
		v.want(statusInvalidMemory, "proxy_get_buffer_bytes", 7, 0, 5, wild, outSize)
		v.wantOut("settings", "proxy_get_configuration")
		v.want(statusOK, "proxy_get_buffer_status", 7, outNum, outNum+4)
		if v.word(outNum) != 8 || v.word(outNum+4) != 0 {
			t.Errorf("buffer status %d %d", v.word(outNum), v.word(outNum+4))
		}
		v.want(statusInvalidMemory, "proxy_get_buffer_status", 7, outNum, wild)
		for _, missing := range []int{0, 1, 2, 3, 4, 5, 8, 9} {
			v.want(statusNotFound, "proxy_get_buffer_bytes", missing, 0, 1, outPtr, outSize)
			v.want(statusNotFound, "proxy_get_buffer_status", missing, outNum, outNum+4)
			v.want(statusNotFound, "proxy_set_buffer_bytes", missing, 0, 1, "x")
		}
		for _, unknown := range []int{10, 255, -1} {
			v.want(statusBadArgument, "proxy_get_buffer_bytes", unknown, 0, 1, outPtr, outSize)
		}
		v.want(statusBadArgument, "proxy_set_buffer_bytes", 7, 0, 1, "x")
		v.want(statusBadArgument, "proxy_inject_encoded_data_to_filter_chain", "x", 0) // there is no answer
		v.want(statusInvalidMemory, "proxy_inject_encoded_data_to_filter_chain", wild, 1, 0)

		for _, owned := range []bool{false, true} {
			edit := func(start, size int, with, want string) {
				t.Helper()
				b := &v.c.bodies[request]
				*b = body{calling: true, chunk: []byte("0123456789")}
				if owned {
					if err := b.keep(v.c); err != nil {
						t.Fatal(err)
					}
				}
				v.want(statusOK, "proxy_set_buffer_bytes", 0, start, size, with)
				v.wantOut(want, "proxy_get_buffer_bytes", 0, 0, 100)
			}
			edit(0, 0, "ab", "ab0123456789")
			edit(0, -1, "new", "new")
			edit(0, 10, "", "")
			edit(10, 0, "cd", "0123456789cd")
			edit(100, 5, "cd", "0123456789cd")
			edit(2, 3, "XY", "01XY56789")
			edit(2, 3, "XYZ", "01XYZ56789")
			edit(2, 3, "WXYZ", "01WXYZ56789")
			edit(8, 100, "", "01234567")
			edit(0, 0, "0123456789", "01234567890123456789")
			v.want(statusInternal, "proxy_set_buffer_bytes", 0, 0, 0, "x") // over MaxBody
			v.want(statusInvalidMemory, "proxy_set_buffer_bytes", 0, 0, 0, wild, 1)
		}
		v.c.bodies[request].take(v.c)
		v.c.bodies[request].calling = false
	})
}

func testControlCalls(t *testing.T) {
	p := load(t, streamer("0_2_1"), plugins.Config{}, Options{MaxBody: 100})
	s := open(t, p, newExchange())
	within(t, p, nil, func(v *vm) {
		v.want(statusBadArgument, "proxy_continue_stream", 0)
		v.want(statusBadArgument, "proxy_continue_request")
		v.want(statusBadArgument, "proxy_close_stream", 1)
		v.want(statusBadArgument, "proxy_send_local_response", 403, "", "", "", -1)
		v.want(statusNotFound, "proxy_done")
		v.want(statusBadArgument, "proxy_set_effective_context", 99)
		v.want(statusOK, "proxy_set_effective_context", int(s.c.id))
		v.want(statusOK, "proxy_continue_response")
		v.want(statusOK, "proxy_set_effective_context", rootID)
		v.want(statusBadArgument, "proxy_continue_response")
	})
	within(t, p, s, func(v *vm) {
		v.want(statusOK, "proxy_continue_stream", 0)
		v.want(statusOK, "proxy_continue_stream", 1)
		v.want(statusUnimplemented, "proxy_continue_stream", 2)
		v.want(statusUnimplemented, "proxy_continue_stream", 3)
		v.want(statusBadArgument, "proxy_continue_stream", 4)
		v.want(statusOK, "proxy_continue_request")
		v.want(statusOK, "proxy_continue_response")
		v.want(statusUnimplemented, "proxy_close_stream", 2)
		v.want(statusBadArgument, "proxy_close_stream", 4)
		v.want(statusOK, "proxy_clear_route_cache")
		v.want(statusNotFound, "proxy_done")
		const reply = "proxy_send_local_response"
		v.want(statusInvalidMemory, reply, 403, wild, 1, "", "", -1)
		v.want(statusInvalidMemory, reply, 403, "", wild, 1, "", -1)
		v.want(statusInvalidMemory, reply, 403, "", "", wild, 4, -1)
		v.want(statusBadArgument, reply, 0, "", "", "", -1)
		v.want(statusBadArgument, reply, 1000, "", "", "", -1)
		v.want(statusBadArgument, reply, 403, "", "", "\xff\xff\xff\xff", -1)
		v.want(statusBadArgument, reply, 403, "", "", serial("a", "\n"), -1)
		v.want(statusInternal, reply, 403, "", strings.Repeat("x", 101), "", -1)
		v.c.left[ResponseHeaders] = true
		v.want(statusBadArgument, reply, 403, "", "", "", -1)
		v.c.left[ResponseHeaders] = false
		v.want(statusOK, reply, 403, "why", "no", serial(":status", "200", "x-a", "1"), 7)
		v.want(statusOK, reply, 404, "", "", "", -1)
	})
	got := fmt.Sprintf("%+v", *s.Reply())
	if want := "{Status:403 Details:why Body:[110 111] Fields:[{Name:X-A Value:1}] GRPCStatus:7}"; got != want {
		t.Errorf("reply %s, want %s", got, want)
	}
	other := open(t, p, newExchange())
	within(t, p, other, func(v *vm) { v.want(statusOK, "proxy_close_stream", 0) })
	if v, err := other.RequestHeaders(true); v != Closed || err != nil {
		t.Errorf("after close_stream: %v, %v", v, err)
	}
}

func testTellingCalls(t *testing.T) {
	var out logs
	p := load(t, streamer("0_2_1"), plugins.Config{Logger: out.logger()}, Options{})
	within(t, p, nil, func(v *vm) {
		for level := range 6 {
			v.want(statusOK, "proxy_log", level, fmt.Sprintf("line-%d", level))
		}
		v.want(statusBadArgument, "proxy_log", 6, "x")
		v.want(statusInvalidMemory, "proxy_log", 2, wild, 1)
		v.want(statusOK, "proxy_get_log_level", outNum)
		if v.word(outNum) != 1 {
			t.Errorf("log level %d, want 1", v.word(outNum))
		}
		v.want(statusInvalidMemory, "proxy_get_log_level", wild)
		v.wantOut(le32(1), "proxy_call_foreign_function", "get_log_level", "")
		v.wantOut("", "proxy_call_foreign_function", "clear_route_cache", "")
		v.want(statusNotFound, "proxy_call_foreign_function", "unknown", "args", outPtr, outSize)
		v.want(statusInvalidMemory, "proxy_call_foreign_function", wild, 3, "args", outPtr, outSize)
		v.want(statusInvalidMemory, "proxy_call_foreign_function", "get_log_level", wild, 3, outPtr, outSize)
		v.want(statusOK, "proxy_get_current_time_nanoseconds", outLong)
		if d := time.Since(time.Unix(0, int64(v.long()))); d < 0 || d > time.Minute {
			t.Errorf("current time is %v off", d)
		}
		v.want(statusInvalidMemory, "proxy_get_current_time_nanoseconds", wild)
		v.want(statusOK, "proxy_set_tick_period_milliseconds", 1000)
		v.want(statusOK, "proxy_set_tick_period_milliseconds", 0)
		v.want(statusNotFound, "proxy_get_status", outNum, outPtr, outSize)
		v.do(memoryGrowth, 0)
	})
	text := out.String()
	mustContain(t, text, "DEBUG", "line-1", "INFO", "line-2", "WARN", "line-3", "ERROR", "line-4", "line-5", "plugin=guest")
	if strings.Contains(text, "line-0") {
		t.Errorf("trace is in the log: %s", text)
	}
}

// TestLogLevelFollowsLogger wants get_log_level to say what reaches the log.
func TestLogLevelFollowsLogger(t *testing.T) {
	f := func(level slog.Level, want uint32) {
		t.Helper()
		logger := slog.New(slog.NewTextHandler(&logs{}, &slog.HandlerOptions{Level: level}))
		p := load(t, streamer("0_2_1"), plugins.Config{Logger: logger}, Options{})
		within(t, p, nil, func(v *vm) {
			v.want(statusOK, "proxy_get_log_level", outNum)
			if got := v.word(outNum); got != want {
				t.Errorf("%v: level %d, want %d", level, got, want)
			}
		})
	}
	f(slog.LevelDebug-4, 0)
	f(slog.LevelInfo, 2)
	f(slog.LevelWarn, 3)
	f(slog.LevelError, 4)
	f(slog.LevelError+4, 5)
}

// TestOldGRPCSignatures: those of ABI 0.1.0 have fewer parameters.
func TestOldGRPCSignatures(t *testing.T) {
	m := streamer("0_1_0")
	m.params = map[string]string{"proxy_grpc_call": "iiiiiiiiii", "proxy_grpc_stream": "iiiiiii"}
	p := load(t, m, plugins.Config{}, Options{})
	within(t, p, nil, func(v *vm) {
		v.want(statusUnimplemented, "proxy_grpc_call", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
		v.want(statusUnimplemented, "proxy_grpc_stream", 1, 2, 3, 4, 5, 6, 7)
	})
	m.params = map[string]string{"proxy_log": "iiii"}
	_, err := try(t, m.bytes(), plugins.Config{}, Options{})
	if err == nil {
		t.Fatal("loaded with another proxy_log")
	}
	mustContain(t, err.Error(), "env.proxy_log")
}

func TestProviderNames(t *testing.T) {
	f := func(cluster, want string) {
		t.Helper()
		if got := provider(cluster); got != want {
			t.Errorf("%q: %q, want %q", cluster, got, want)
		}
	}
	f("auth", "auth")
	f("outbound|443||auth.dns", "auth")
	f("outbound|80||qwen.static", "qwen")
	f("outbound|80|v1|svc.ns.svc.cluster.local", "svc.ns.svc.cluster.local")
	f("", "")
	f("outbound|", "")
}
