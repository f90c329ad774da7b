package httpwasm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/plugins"
)

// vector runs one step in handle_request.
func vectors(t *testing.T) func(want, name string, args ...any) {
	h, guest := newHost(t), interpreter()
	return func(want, name string, args ...any) {
		t.Helper()
		p := mustLoad(t, h, plugins.Config{Module: guest, Settings: []byte("settings")}, both)
		if got := visit(t, p, newFake(), []step{do(name, args...)}, nil); got != want {
			t.Errorf("%s %v: got %s, want %s", name, args, got, want)
		}
		p.Close()
	}
}

// sequences runs steps in both phases, and tells what they came to and what became of the exchange.
func sequences(t *testing.T) func(want string, x *fake, request, response []step) {
	h, guest := newHost(t), interpreter()
	return func(want string, x *fake, request, response []step) {
		t.Helper()
		p := mustLoad(t, h, plugins.Config{Module: guest}, both)
		if got := visit(t, p, x, request, response); got != want {
			t.Errorf("%v, %v: got %s, want %s", request, response, got, want)
		}
		p.Close()
	}
}

func TestStringsAreWrittenWholeOrNotAtAll(t *testing.T) {
	f := vectors(t)
	f(`3 "GET"`, "get_method", space(100))
	f(`3 "GET"`, "get_method", space(3))
	f(`3`, "get_method", space(2))
	f(`3`, "get_method", at{0xffffffff, 0})
	f(`trap: http_handler.get_method: buf at 131070, 3 bytes, is out of bounds: the memory has 131072 bytes`, "get_method", at{memorySize - 2, 3})
	f(`3`, "get_method", at{memorySize - 3, 0xffffffff})
	f(`trap: http_handler.get_method: buf at 4294967295, 3 bytes, is out of bounds: the memory has 131072 bytes`, "get_method", at{0xffffffff, 0xffffffff})

	f(`14 "/v1/chat?x=%26"`, "get_uri", space(100))
	f(`14`, "get_uri", space(13))
	f(`8 "HTTP/1.1"`, "get_protocol_version", space(8))
	f(`8`, "get_protocol_version", space(0))
	f(`11 "1.2.3.4:567"`, "get_source_addr", space(11))
	f(`11`, "get_source_addr", space(10))
	f(`8 "settings"`, "get_config", space(8))
	f(`8`, "get_config", space(7))
	f(`trap: http_handler.get_config: buf at 200000, 8 bytes, is out of bounds: the memory has 131072 bytes`, "get_config", at{200000, 8})
	f(`200`, "get_status_code")
}

func TestSetters(t *testing.T) {
	f := func(want, name string, args ...any) {
		t.Helper()
		x := newFake()
		p := mustLoad(t, newHost(t), plugins.Config{Module: interpreter()}, both)
		got := visit(t, p, x, []step{do(name, args...)}, nil)
		p.Close()
		if got == "" {
			got = x.String()
		}
		if got != want {
			t.Errorf("%s %q: got %s, want %s", name, args, got, want)
		}
	}
	head := `[Host: example.com; X-B: 1; Accept: */*; X-B: ; X-B: 3] [] [X-Sum: abc] [X-Done: 1]`
	f(`POST /v1/chat?x=%26 200 `+head, "set_method", "POST")
	f(`trap: http_handler.set_method: "" is not a method`, "set_method", "")
	f(`trap: http_handler.set_method: "GET /" is not a method`, "set_method", "GET /")
	f(`trap: http_handler.set_method: method at 131071, 2 bytes, is out of bounds: the memory has 131072 bytes`, "set_method", at{memorySize - 1, 2})
	f(`GET /a%2Fb?c=d 200 `+head, "set_uri", "/a%2Fb?c=d")
	f(`GET / 200 `+head, "set_uri", "")
	f(`GET / 200 `+head, "set_uri", at{0xffffffff, 0})
	f(`trap: http_handler.set_uri: "x": a URI begins with a slash`, "set_uri", "x")
	f(`trap: http_handler.set_uri: "/a b" is not a URI: it has a space or a control character`, "set_uri", "/a b")
	f(`trap: http_handler.set_uri: "/\r\nX: y" is not a URI: it has a space or a control character`, "set_uri", "/\r\nX: y")
	f(`GET /v1/chat?x=%26 404 `+head, "set_status_code", 404)
	for _, bad := range []int{0, 100, 101, 199, 1000, -1} {
		f(fmt.Sprintf("trap: http_handler.set_status_code: %d is not the status of an answer: want 200 to 999", uint32(bad)), "set_status_code", bad)
	}
}

func TestFields(t *testing.T) {
	f := func(want string, kind Kind, steps ...step) {
		t.Helper()
		x := newFake()
		p := mustLoad(t, newHost(t), plugins.Config{Module: interpreter()}, both)
		got := visit(t, p, x, append([]step{do("enable_features", 4)}, steps...), nil)
		p.Close()
		if got = strings.TrimPrefix(got, "4, "); got == strings.Repeat(", ", len(steps)-1) {
			got = x.fields[kind].String()
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", steps, got, want)
		}
	}
	all := "Host: example.com; X-B: 1; Accept: */*; X-B: ; X-B: 3"
	f("Host: example.com; X-B: v; Accept: */*", 0, do("set_header_value", 0, "x-b", "v"))
	f("Host: example.com; X-B: ; Accept: */*", 0, do("set_header_value", 0, "X-b", ""))
	f(all+"; X-New: v\tw", 0, do("set_header_value", 0, "X-NEW", "v\tw"))
	f(all+"; X-New: \xc3\xa9", 0, do("add_header_value", 0, "x-new", "é"))
	f(all+"; X-B: 4", 0, do("add_header_value", 0, "x-b", "4"))
	f("Host: example.com; Accept: */*", 0, do("remove_header", 0, "x-B"))
	f(all, 0, do("remove_header", 0, "x-absent"))
	f(all, 0, do("remove_header", 0, "not a name"))
	f("Host: other; X-B: 1; Accept: */*; X-B: ; X-B: 3", 0, do("set_header_value", 0, "host", "other"))
	f("X-A: 1; X-A: 2", 1, do("add_header_value", 1, "x-a", "1"), do("add_header_value", 1, "x-a", "2"))
	f("X-Sum: abc; X-A: 1", 2, do("set_header_value", 2, "x-a", "1"))
	f("X-Sum: abc; X-Sum: 2", 2, do("add_header_value", 2, "x-sum", "2"))
	f("", 3, do("remove_header", 3, "x-done"))

	for _, name := range []string{"set_header_value", "add_header_value"} {
		trap := "trap: http_handler." + name + ": "
		f(trap+"the name is empty", 0, do(name, 0, "", "v"))
		f(trap+`"a b" is not a field name`, 0, do(name, 0, "a b", "v"))
		f(trap+`":path" is not a field name`, 0, do(name, 0, ":path", "v"))
		f(trap+`"a\r\nb" is not a field name`, 0, do(name, 0, "a\r\nb", "v"))
		f(trap+`"é" is not a field name`, 0, do(name, 0, "é", "v"))
		f(trap+"the value for X-A has a control character", 0, do(name, 0, "x-a", "v\r\nX-B: w"))
		f(trap+"the value for X-A has a control character", 0, do(name, 0, "x-a", "v\x00"))
		f(trap+"the value for X-A has a control character", 0, do(name, 0, "x-a", "v\x7f"))
		f(trap+"the value for X-A has a control character", 0, do(name, 0, "x-a", strings.Repeat("v", 300)+"\n"))
		f(trap+"unknown header kind 4: want 0 to 3", 0, do(name, 4, "x-a", "v"))
		f(trap+"unknown header kind 4294967295: want 0 to 3", 0, do(name, -1, "x-a", "v"))
		f(trap+"name at 131070, 3 bytes, is out of bounds: the memory has 131072 bytes", 0, do(name, 0, at{memorySize - 2, 3}, "v"))
		f(trap+"value at 131070, 3 bytes, is out of bounds: the memory has 131072 bytes", 0, do(name, 0, "n", at{memorySize - 2, 3}))
	}
	f("trap: http_handler.remove_header: the name is empty", 0, do("remove_header", 0, ""))
	f("trap: http_handler.remove_header: unknown header kind 9: want 0 to 3", 0, do("remove_header", 9, "a"))
	f("trap: http_handler.remove_header: name at 4294967290, 9 bytes, is out of bounds: the memory has 131072 bytes", 0, do("remove_header", 0, at{0xfffffffa, 9}))
	long := do("set_header_value", 0, "x-a", at{dataAt, 65536})
	f("trap: http_handler.set_header_value: more than 1048576 bytes of fields, methods and URIs set in one call", 0,
		append([]step{do("set_header_value", 0, strings.Repeat("n", 300), strings.Repeat("v", 70000))}, repeat(long, 16)...)...)
}

func repeat(s step, n int) (steps []step) {
	for range n {
		steps = append(steps, s)
	}
	return steps
}

func TestNamesAndValues(t *testing.T) {
	f := vectors(t)
	f(`3/16 "accept\x00host\x00x-b\x00"`, "get_header_names", 0, space(16))
	f(`3/16`, "get_header_names", 0, space(15))
	f(`3/16`, "get_header_names", 0, space(0))
	f(`0/0`, "get_header_names", 1, space(10))
	f(`0/0`, "get_header_names", 2, space(10)) // trailers were not asked for
	f(`trap: http_handler.get_header_names: unknown header kind 4: want 0 to 3`, "get_header_names", 4, space(10))
	f(`trap: http_handler.get_header_names: buf at 131072, 16 bytes, is out of bounds: the memory has 131072 bytes`, "get_header_names", 0, at{memorySize, 16})

	f(`1/12 "example.com\x00"`, "get_header_values", 0, "host", space(12))
	f(`1/12 "example.com\x00"`, "get_header_values", 0, "HOST", space(100))
	f(`3/5 "1\x00\x003\x00"`, "get_header_values", 0, "x-b", space(5))
	f(`3/5`, "get_header_values", 0, "x-b", space(4))
	f(`0/0`, "get_header_values", 0, "x-absent", space(100))
	f(`0/0`, "get_header_values", 0, "not a name", space(100))
	f(`0/0`, "get_header_values", 1, "x-b", space(100))
	f(`0/0`, "get_header_values", 2, "x-sum", space(100))
	f(`0/0`, "get_header_values", 3, "x-done", space(100))
	f(`trap: http_handler.get_header_values: the name is empty`, "get_header_values", 0, "", space(100))
	f(`trap: http_handler.get_header_values: the name is empty`, "get_header_values", 3, "", space(100))
	f(`trap: http_handler.get_header_values: unknown header kind 4: want 0 to 3`, "get_header_values", 4, "x-b", space(100))
	f(`trap: http_handler.get_header_values: name at 131070, 3 bytes, is out of bounds: the memory has 131072 bytes`, "get_header_values", 0, at{memorySize - 2, 3}, space(100))
	f(`trap: http_handler.get_header_values: buf at 131070, 5 bytes, is out of bounds: the memory has 131072 bytes`, "get_header_values", 0, "x-b", at{memorySize - 2, 5})
	f(`3/5`, "get_header_values", 0, "x-b", at{dataAt, 5}) // over the name

	g := sequences(t)
	g(`4, 1/6 "x-sum\x00", 1/4 "abc\x00", 1/7 "x-done\x00", 1/2 "1\x00"`, newFake(), []step{
		do("enable_features", 4),
		do("get_header_names", 2, space(10)), do("get_header_values", 2, "X-SUM", space(10)),
		do("get_header_names", 3, space(10)), do("get_header_values", 3, "x-done", space(10)),
	}, nil)
}

// A caller chooses how many names there are: thousands must not cost their square.
func TestNamesOfAHugeHeader(t *testing.T) {
	x := newFake()
	for i := range 20000 {
		x.fields[RequestHeader].Add(fmt.Sprintf("X-%d", i%10007), "")
	}
	p := mustLoad(t, newHost(t), plugins.Config{Module: interpreter()}, both)
	got := visit(t, p, x, []step{do("get_header_names", 0, space(0))}, nil)
	size := len("accept host x-b ")
	for i := range 10007 {
		size += len(fmt.Sprintf("x-%d ", i))
	}
	if want := fmt.Sprintf("10010/%d", size); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	in, _, _ := prepare(t, p, nil, nil)
	if n := cap(in.State().(*guest).names); n > maxNames {
		t.Errorf("scratch space for %d names is kept", n)
	}
}

func TestLog(t *testing.T) {
	f := func(level string, want string, steps ...step) {
		t.Helper()
		logger, lines := recorder(level)
		p := mustLoad(t, newHost(t), plugins.Config{Module: interpreter(), Logger: logger, Name: "talker"}, both)
		text := visit(t, p, newFake(), steps, nil)
		p.Close()
		if got := text + lines(); got != want {
			t.Errorf("%v at %s: got %q, want %q", steps, level, got, want)
		}
	}
	line := func(level, text string) string {
		return "\n" + level + " plugin log [plugin=talker request_id=req-1 text=" + text + "]"
	}
	enabled := []step{do("log_enabled", -2), do("log_enabled", -1), do("log_enabled", 0), do("log_enabled", 1), do("log_enabled", 2), do("log_enabled", 3), do("log_enabled", 4)}
	f("DEBUG", "0, 1, 1, 1, 1, 0, 0", enabled...)
	f("WARN", "0, 0, 0, 1, 1, 0, 0", enabled...)
	f("DEBUG", line("DEBUG", "hello"), do("log", -1, "hello"))
	f("DEBUG", line("INFO", "hello"), do("log", 0, "hello"))
	f("DEBUG", line("WARN", "hello"), do("log", 1, "hello"))
	f("DEBUG", line("ERROR", "hello"), do("log", 2, "hello"))
	f("DEBUG", "", do("log", 3, "hello"))
	f("DEBUG", "", do("log", 4, "hello"))
	f("INFO", "", do("log", -1, "hello"))
	f("DEBUG", line("INFO", ""), do("log", 0, ""))
	f("DEBUG", line("INFO", ""), do("log", 0, at{0xffffffff, 0}))
	f("ERROR", "trap: http_handler.log: message at 4294967295, 1 bytes, is out of bounds: the memory has 131072 bytes", do("log", 0, at{0xffffffff, 1}))
}
