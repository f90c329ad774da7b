package proxywasm

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edge-proxy/edge/plugins"
)

func testPropertyCalls(t *testing.T) {
	x := newExchange()
	began := time.Unix(1_700_000_000, 5)
	x.attributes = map[string]any{
		"source.address": "1.2.3.4:567", "request.time": began, "request.duration": 5 * time.Millisecond,
		"request.size": int64(7), "connection.mtls": true, "request.protocol": "HTTP/2", "a.int": 3, "a.uint": uint64(4),
		"a.bytes": []byte("raw"), "a.float": 1.5, "a.odd": struct{}{}, "a.false": false,
	}
	x.lists[RequestHeaders].list = append(x.lists[RequestHeaders].list, Field{"User-Agent", "ua"}, Field{"X-Request-Id", "rid"})
	p := load(t, streamer("0_2_1"), plugins.Config{}, Options{RootID: "my_root", VMID: "vm"})
	s := open(t, p, x)
	path := func(segments ...string) string { return strings.Join(segments, "\x00") }
	within(t, p, s, func(v *vm) {
		for name, want := range map[string]string{
			"plugin_name": "guest", "plugin_root_id": "my_root", "plugin_vm_id": "vm", "plugin_root_id\x00": "my_root",
			path("request", "path"): "/chat?a=1", path("request", "url_path"): "/chat", path("request", "query"): "a=1",
			path("request", "host"): "example.org", path("request", "scheme"): "https", path("request", "method"): "POST",
			path("request", "useragent"): "ua", path("request", "id"): "rid", path("request", "headers", "x-two"): "1,2",
			path("source", "address"): "1.2.3.4:567", path("source", "port"): le64(567), "source.address": "1.2.3.4:567",
			path("request", "time"): le64(began.UnixNano()), path("request", "duration"): le64(int64(5 * time.Millisecond)),
			path("request", "size"): le64(7), path("connection", "mtls"): "\x01", path("a", "false"): "\x00",
			path("request", "protocol"): "HTTP/2", path("a", "int"): le64(3), path("a", "uint"): le64(4),
			path("a", "bytes"): "raw", path("a", "float"): le64(int64(math.Float64bits(1.5))), "x_request_id": "id-1",
		} {
			v.wantOut(want, "proxy_get_property", name)
		}
		v.want(statusOK, "proxy_get_property", path("request", "headers"), outPtr, outSize)
		mustContain(t, v.out(), "content-type\x00text/plain")
		for _, name := range []string{
			"", "nope", path("request", "referer"), path("request", "headers", "x"), path("response", "code"),
			path("destination", "port"), path("a", "odd"),
		} {
			v.want(statusNotFound, "proxy_get_property", name, outPtr, outSize)
		}
		v.want(statusInvalidMemory, "proxy_get_property", wild, 3, outPtr, outSize)
		v.want(statusInvalidMemory, "proxy_get_property", "plugin_name", wild, outSize)
		v.want(statusOK, "proxy_set_property", path("my", "state"), "v1")
		v.want(statusOK, "proxy_set_property", path("my", "state"), "v2")
		v.wantOut("v2", "proxy_get_property", path("my", "state"))
		v.want(statusBadArgument, "proxy_set_property", "", "v")
		v.want(statusInvalidMemory, "proxy_set_property", wild, 3, "v")
		v.want(statusInternal, "proxy_set_property", "big", 0, maxStreamBytes) // all of it
		for range 50 {                                                         // what is replaced does not count
			v.want(statusOK, "proxy_set_property", "counter", 0, maxStreamBytes/2)
		}
	})
	if got, ok := s.Property("my.state"); string(got) != "v2" || !ok {
		t.Errorf("Property: %q, %v", got, ok)
	}
	other := open(t, p, newExchange())
	within(t, p, other, func(v *vm) { v.want(statusNotFound, "proxy_get_property", path("my", "state"), outPtr, outSize) })
	if _, err := s.ResponseHeaders(false); err != nil {
		t.Fatal(err)
	}
	within(t, p, s, func(v *vm) {
		v.wantOut(le64(200), "proxy_get_property", path("response", "code"))
		v.wantOut("up", "proxy_get_property", path("response", "headers", "server"))
		v.want(statusNotFound, "proxy_get_property", path("response", "trailers"), outPtr, outSize)
	})
	within(t, p, nil, func(v *vm) {
		v.want(statusOK, "proxy_set_property", "root state", "r")
		v.wantOut("r", "proxy_get_property", "root state")
		v.want(statusInternal, "proxy_set_property", "root state", 0, maxStreamBytes)
		v.wantOut("r", "proxy_get_property", "root state")
		v.wantOut("my_root", "proxy_get_property", "plugin_root_id")
		v.want(statusNotFound, "proxy_get_property", path("request", "path"), outPtr, outSize)
	})
}

func testSharedData(t *testing.T) {
	p := load(t, streamer("0_2_1"), plugins.Config{}, Options{Instances: 2, Store: NewStore(2000)})
	within(t, p, nil, func(v *vm) {
		v.want(statusNotFound, "proxy_get_shared_data", "k", outPtr, outSize, outNum)
		v.want(statusOK, "proxy_set_shared_data", "k", "one", 0)
		v.want(statusOK, "proxy_get_shared_data", "k", outPtr, outSize, outNum)
		cas := int(v.word(outNum))
		if v.out() != "one" || cas == 0 {
			t.Errorf("got %q, cas %d", v.out(), cas)
		}
		v.want(statusCASMismatch, "proxy_set_shared_data", "k", "two", cas+1)
		v.want(statusOK, "proxy_set_shared_data", "k", "two", cas)
		v.want(statusCASMismatch, "proxy_set_shared_data", "k", "three", cas)
		v.want(statusOK, "proxy_set_shared_data", "k", "", 0)
		v.want(statusOK, "proxy_get_shared_data", "k", outPtr, outSize, outNum)
		if v.out() != "" || v.word(outPtr) != 0 {
			t.Errorf("empty value: %q at %d", v.out(), v.word(outPtr))
		}
		v.want(statusInternal, "proxy_set_shared_data", "k2", strings.Repeat("x", 2000), 0)
		v.want(statusInternal, "proxy_set_shared_data", "k", strings.Repeat("x", 2000), 0)
		v.want(statusInvalidMemory, "proxy_set_shared_data", wild, 1, "x", 0)
		v.want(statusInvalidMemory, "proxy_set_shared_data", "k", wild, 1, 0)
		v.want(statusInvalidMemory, "proxy_get_shared_data", wild, 1, outPtr, outSize, outNum)
		v.want(statusInvalidMemory, "proxy_get_shared_data", "k", outPtr, outSize, wild)
		v.want(statusInvalidMemory, "proxy_get_shared_data", "k", wild, outSize, outNum)
	})
}

func testQueueCalls(t *testing.T) {
	store := NewStore(1 << 12)
	p := load(t, streamer("0_2_1"), plugins.Config{}, Options{Store: store, VMID: "a"})
	within(t, p, nil, func(v *vm) {
		v.want(statusNotFound, "proxy_resolve_shared_queue", "a", "q", outNum)
		v.want(statusOK, "proxy_register_shared_queue", "q", outNum)
		q := int(v.word(outNum))
		v.want(statusOK, "proxy_register_shared_queue", "q", outNum)
		if int(v.word(outNum)) != q || q == 0 {
			t.Errorf("registered again: %d, want %d", v.word(outNum), q)
		}
		for _, vm := range []string{"a", ""} {
			v.want(statusOK, "proxy_resolve_shared_queue", vm, "q", outNum)
			if int(v.word(outNum)) != q {
				t.Errorf("resolved %d, want %d", v.word(outNum), q)
			}
		}
		v.want(statusNotFound, "proxy_resolve_shared_queue", "b", "q", outNum)
		v.want(statusOK, "proxy_enqueue_shared_queue", q, "one")
		v.want(statusOK, "proxy_enqueue_shared_queue", q, "")
		v.want(statusInvalidMemory, "proxy_dequeue_shared_queue", q, wild, outSize)
		v.want(statusInvalidMemory, "proxy_dequeue_shared_queue", q, outPtr, wild)
		v.wantOut("one", "proxy_dequeue_shared_queue", q)
		v.wantOut("", "proxy_dequeue_shared_queue", q)
		v.want(statusEmpty, "proxy_dequeue_shared_queue", q, outPtr, outSize)
		v.want(statusNotFound, "proxy_dequeue_shared_queue", q+1, outPtr, outSize)
		v.want(statusNotFound, "proxy_enqueue_shared_queue", 0, "x")
		v.want(statusInternal, "proxy_enqueue_shared_queue", q, strings.Repeat("x", 1<<12))
		v.want(statusInvalidMemory, "proxy_enqueue_shared_queue", q, wild, 2)
		v.want(statusInvalidMemory, "proxy_register_shared_queue", wild, 2, outNum)
		v.want(statusInvalidMemory, "proxy_register_shared_queue", "q", wild)
		v.want(statusInvalidMemory, "proxy_resolve_shared_queue", "a", wild, 2, outNum)
	})
}

func testMetricCalls(t *testing.T) {
	p := load(t, streamer("0_2_1"), plugins.Config{}, Options{})
	within(t, p, nil, func(v *vm) {
		define := func(kind int, name string) int {
			t.Helper()
			v.want(statusOK, "proxy_define_metric", kind, name, outNum)
			return int(v.word(outNum))
		}
		value := func(id int, want int64) {
			t.Helper()
			v.want(statusOK, "proxy_get_metric", id, outLong)
			if got := int64(v.long()); got != want {
				t.Errorf("metric %d: %d, want %d", id, got, want)
			}
		}
		c, g, h := define(0, "my.count-er"), define(1, "gauge"), define(2, "9times")
		if again := define(0, "my.count-er"); again != c {
			t.Errorf("defined again: %d, want %d", again, c)
		}
		v.want(statusBadArgument, "proxy_define_metric", 1, "my.count-er", outNum)
		v.want(statusBadArgument, "proxy_define_metric", 3, "x", outNum)
		v.want(statusBadArgument, "proxy_define_metric", 0, "", outNum)
		v.want(statusBadArgument, "proxy_define_metric", 0, strings.Repeat("x", maxMetricName+1), outNum)
		v.want(statusInvalidMemory, "proxy_define_metric", 0, "x", wild)
		v.want(statusInvalidMemory, "proxy_define_metric", 0, wild, 1, outNum)
		v.want(statusOK, "proxy_increment_metric", c, int64(3))
		v.want(statusOK, "proxy_record_metric", c, int64(4))
		v.want(statusBadArgument, "proxy_increment_metric", c, int64(-1))
		value(c, 7)
		v.want(statusOK, "proxy_record_metric", g, int64(10))
		v.want(statusOK, "proxy_increment_metric", g, int64(-3))
		value(g, 7)
		for _, n := range []int64{1, 7, 1 << 40} {
			v.want(statusOK, "proxy_record_metric", h, n)
		}
		v.want(statusBadArgument, "proxy_increment_metric", h, int64(1))
		v.want(statusBadArgument, "proxy_get_metric", h, outLong)
		v.want(statusNotFound, "proxy_get_metric", 99, outLong)
		v.want(statusNotFound, "proxy_record_metric", 0, int64(1))
		v.want(statusNotFound, "proxy_increment_metric", -1, int64(1))
		v.want(statusInvalidMemory, "proxy_get_metric", c, wild)
		for i := range maxMetrics - 3 {
			define(0, fmt.Sprint("m", i))
		}
		v.want(statusInternal, "proxy_define_metric", 0, "one too many", outNum)
	})
	all := p.Stats().Metrics
	if len(all) != maxMetrics || all[0].Name != "_9times" || !slices.IsSortedFunc(all, func(a, b Metric) int { return strings.Compare(a.Name, b.Name) }) {
		t.Fatalf("%d metrics, the first %+v", len(all), all[0])
	}
	if h := all[0]; h.Count != 3 || h.Sum != 8+1<<40 || h.Buckets[0] != 1 || h.Buckets[2] != 2 || h.Buckets[len(Bounds)-1] != 2 {
		t.Errorf("histogram %+v", h)
	}
	i := slices.IndexFunc(all, func(m Metric) bool { return m.Name == "my_count_er" })
	if i < 0 || all[i].Value != 7 || all[i].Type != Counter {
		t.Errorf("counter at %d of %v", i, all[:3])
	}
}

func testHTTPCall(t *testing.T) {
	headers := serial(":method", "POST", ":path", "/check", ":authority", "a.example", "x-a", "1")
	none := load(t, streamer("0_2_1"), plugins.Config{}, Options{})
	within(t, none, nil, func(v *vm) {
		v.want(statusBadArgument, "proxy_http_call", "auth", headers, "", "", 1000, outNum)
	})
	sv := newServices()
	p := load(t, streamer("0_2_1"), plugins.Config{}, Options{Services: sv, MaxCallouts: 5, MaxCalloutsPerStream: 3, MaxBody: 1000})
	x := newExchange()
	s := open(t, p, x)
	within(t, p, s, func(v *vm) {
		v.want(statusOK, "proxy_http_call", "outbound|443||auth.dns", headers, "body", serial("t", "1"), 1500, outNum)
		id := v.word(outNum)
		c := sv.take()
		if c.Upstream != "auth" || c.Cluster != "outbound|443||auth.dns" || c.From != x || c.Method != "POST" || c.Path != "/check" ||
			c.Authority != "a.example" || string(c.Body) != "body" || c.Timeout != 1500*time.Millisecond ||
			!slices.Equal(c.Fields, []Field{{"X-A", "1"}}) || !slices.Equal(c.Trailers, []Field{{"T", "1"}}) {
			t.Errorf("call %+v", c.Call)
		}
		v.want(statusBadArgument, "proxy_http_call", "nowhere", headers, "", "", 1000, outNum)
		for _, bad := range []string{
			"", serial(":method", "GET", ":path", "/"), serial(":path", "/", ":authority", "a"), serial(":method", "GET", ":authority", "a"),
			serial(":method", "G T", ":path", "/", ":authority", "a"), serial(":method", "GET", ":path", "/ x", ":authority", "a"),
			headers[:20], serial(":method", "GET", ":path", "/", ":authority", "a", "a b", "c"),
			serial(":method", "GET", ":path", "/", ":authority", "a", ":odd", "c"),
		} {
			v.want(statusBadArgument, "proxy_http_call", "auth", bad, "", "", 1000, outNum)
		}
		v.want(statusBadArgument, "proxy_http_call", "auth", headers, "", "\x01", 1000, outNum)
		v.want(statusInternal, "proxy_http_call", "auth", headers, strings.Repeat("x", 1000), "", 1000, outNum)
		v.want(statusInvalidMemory, "proxy_http_call", wild, 2, headers, "", "", 1000, outNum)
		v.want(statusInvalidMemory, "proxy_http_call", "auth", wild, 2, "", "", 1000, outNum)
		v.want(statusInvalidMemory, "proxy_http_call", "auth", headers, wild, 2, "", 1000, outNum)
		v.want(statusInvalidMemory, "proxy_http_call", "auth", headers, "", wild, 2, 1000, outNum)
		v.want(statusInvalidMemory, "proxy_http_call", "auth", headers, "", "", 1000, wild)
		v.want(statusOK, "proxy_http_call", "auth", headers, "", "", 1000, outNum)
		if v.word(outNum) == id || v.word(outNum) == 0 {
			t.Errorf("second call has the id %d", v.word(outNum))
		}
		sv.err = ErrNoPermit
		v.want(statusInternal, "proxy_http_call", "auth", headers, "", "", 1000, outNum)
		sv.err = nil
		v.want(statusOK, "proxy_http_call", "auth", headers, "", "", 1000, outNum)
		v.want(statusInternal, "proxy_http_call", "auth", headers, "", "", 1000, outNum) // the stream's fourth
	})
	within(t, p, nil, func(v *vm) {
		v.want(statusOK, "proxy_http_call", "auth", headers, "", "", 1000, outNum)
		v.want(statusOK, "proxy_http_call", "auth", headers, "", "", 1000, outNum)
		v.want(statusInternal, "proxy_http_call", "auth", headers, "", "", 1000, outNum) // the plugin's sixth
	})
	if st := p.Stats(); st.InFlight != 5 || st.Callouts != 5 || st.Refused != 3 {
		t.Errorf("stats %+v", st)
	}
}

func testRedisCalls(t *testing.T) {
	none := load(t, streamer("0_2_100"), plugins.Config{}, Options{Services: newServices()})
	within(t, none, nil, func(v *vm) {
		v.want(statusUnimplemented, "proxy_redis_init", "r", "", "", 100)
		v.want(statusUnimplemented, "proxy_redis_call", "r", "q", outNum)
	})
	sv := newServices()
	r := &fakeRedis{}
	sv.redis = r
	p := load(t, streamer("0_2_100"), plugins.Config{}, Options{Services: sv})
	within(t, p, nil, func(v *vm) {
		v.want(statusOK, "proxy_redis_init", "r?db=1", "user", "secret", 100)
		v.want(statusBadArgument, "proxy_redis_init", "nowhere", "", "", 100)
		v.want(statusInvalidMemory, "proxy_redis_init", "r", "", wild, 3, 100)
		v.want(statusOK, "proxy_redis_call", "r", "q", outNum)
		v.want(statusBadArgument, "proxy_redis_call", "nowhere", "q", outNum)
		v.want(statusBadArgument, "proxy_redis_call", "garbled", "q", outNum)
		v.want(statusInvalidMemory, "proxy_redis_call", "r", wild, 3, outNum)
		v.want(statusInvalidMemory, "proxy_redis_call", "r", "q", wild)
		v.want(statusInternal, "proxy_redis_call", "r", 0, 1<<20+1, outNum)
	})
	if want := (RedisCluster{"r?db=1", "user", "secret", 100 * time.Millisecond}); !slices.Equal(r.inits, []RedisCluster{want}) {
		t.Errorf("inits %+v", r.inits)
	}
	eventually(t, "the reply is delivered", func() bool { return p.Stats().InFlight == 0 })
}

func testUnimplemented(t *testing.T) {
	var out logs
	p := load(t, streamer("0_2_100"), plugins.Config{Logger: out.logger()}, Options{})
	within(t, p, nil, func(v *vm) {
		for range 2 {
			for _, h := range hostcalls {
				if h.Support == Unimplemented {
					args := make([]any, len(h.Params))
					for i := range args {
						args[i] = wild
					}
					v.want(statusUnimplemented, h.Name, args...)
				}
			}
		}
	})
	if n := strings.Count(out.String(), "gRPC"); n != 1 {
		t.Errorf("%d lines about gRPC, want 1: %s", n, out.String())
	}
}
