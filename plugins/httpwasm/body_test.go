package httpwasm

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/plugins"
)

func TestReadBody(t *testing.T) {
	f := func(want, upstream string, change func(*fake), steps ...step) {
		t.Helper()
		x := newFake()
		if change != nil {
			change(x)
		}
		p := mustLoad(t, newHost(t), plugins.Config{Module: interpreter()}, both)
		if got := visit(t, p, x, steps, nil); got != want {
			t.Errorf("%v: got %s, want %s", steps, got, want)
		}
		if got := x.body(RequestBody); got != upstream {
			t.Errorf("%v: the upstream gets %q, want %q", steps, got, upstream)
		}
		p.Close()
	}
	read := func(n int) step { return do("read_body", 0, space(n)) }
	f(`1/11 "hello world"`, "", nil, read(12))
	f(`0/11 "hello world"`, "", nil, read(11))
	f(`0/11 "hello world", 1/0`, "", nil, read(11), read(1))
	f(`1/11 "hello world"`, "", func(x *fake) { x.early = true }, read(11))
	f(`0/1 "h", 0/4 "ello", 1/6 " world"`, "", nil, read(1), read(4), read(100))
	f(`0/5 "hello"`, " world", nil, read(5)) // not drained: the rest goes on
	f(`1/0`, "", func(x *fake) { x.sources[RequestBody] = nil }, read(5))
	f(`1/0, 1/0`, "", func(x *fake) { x.sources[RequestBody] = nil }, read(5), read(5))
	f(`1/0`, "hello world", nil, do("read_body", 1, space(5))) // there is no answer yet

	f(`1, 0/5 "hello"`, "hello world", nil, do("enable_features", 1), read(5))
	f(`0/5 "hello", 1, 0/3 " wo"`, " world", nil, read(5), do("enable_features", 1), read(3))
	f(`1, 0/5 "hello", 1, 0/3 " wo"`, "hello world", nil, do("enable_features", 1), read(5), do("enable_features", 1), read(3))

	f(`trap: http_handler.read_body: limit is 0`, "hello world", nil, read(0))
	f(`trap: http_handler.read_body: unknown body kind 2: want 0 or 1`, "hello world", nil, do("read_body", 2, space(5)))
	f(`trap: http_handler.read_body: buf at 131070, 3 bytes, is out of bounds: the memory has 131072 bytes`, "hello world", nil, do("read_body", 0, at{memorySize - 2, 3}))
	f(`trap: http_handler.read_body: buf at 131070, 3 bytes, is out of bounds: the memory has 131072 bytes`, "hello world", nil, do("read_body", 1, at{memorySize - 2, 3}))
	f(`error: gone`, "", func(x *fake) { x.err = errors.New("gone") }, read(100))
	f(`0/11 "hello world"`, "", func(x *fake) { x.err = errors.New("gone") }, read(11))
	f(`error: `+io.ErrNoProgress.Error(), "hello world", func(x *fake) { x.endless = true }, read(100))
}

func TestWriteBody(t *testing.T) {
	f := func(want string, kind BodyKind, change func(*fake), steps ...step) {
		t.Helper()
		x := newFake()
		if change != nil {
			change(x)
		}
		p := mustLoad(t, newHost(t), plugins.Config{Module: interpreter()}, both)
		got := visit(t, p, x, steps, nil)
		if strings.Trim(got, ", ") == "" {
			got = x.body(kind)
		}
		if got != want {
			t.Errorf("%v: got %s, want %s", steps, got, want)
		}
		p.Close()
	}
	f("new", RequestBody, nil, do("write_body", 0, "new"))
	f("newer", RequestBody, nil, do("write_body", 0, "new"), do("write_body", 0, "er"))
	f("new", RequestBody, nil, do("write_body", 0, ""), do("write_body", 0, "new"))
	f("", RequestBody, nil, do("write_body", 0, ""))
	f("", RequestBody, nil, do("write_body", 0, at{0xffffffff, 0}))
	f("new", RequestBody, nil, do("write_body", 0, "new"), do("write_body", 0, ""))
	f("mine", ResponseBody, nil, do("write_body", 1, "mi"), do("write_body", 0, "other"), do("write_body", 1, "ne"))
	f("answer", ResponseBody, nil, do("write_body", 0, "other"))

	f("trap: http_handler.write_body: unknown body kind 2: want 0 or 1", 0, nil, do("write_body", 2, "new"))
	f("trap: http_handler.write_body: body at 131070, 3 bytes, is out of bounds: the memory has 131072 bytes", 0, nil, do("write_body", 0, at{memorySize - 2, 3}))
	f("error: over the cap", 0, func(x *fake) { x.err = errors.New("over the cap") }, do("write_body", 1, "new"))
}

// An error of the exchange comes back as it is, and takes the instance with it.
func TestExchangeErrors(t *testing.T) {
	gone := errors.New("caller gone")
	p := mustLoad(t, newHost(t), plugins.Config{Module: interpreter()}, both)
	in, _, _ := prepare(t, p, []step{do("read_body", 0, space(100))}, nil)
	x := newFake()
	x.err = gone
	var c Call
	if next, err := c.Request(t.Context(), p, x); next || err != gone { //nolint:errorlint // unwrapped is what is promised
		t.Errorf("got %v, %v, want false, %v", next, err, gone)
	}
	if !in.Dead() {
		t.Error("the instance is alive, want dead")
	}
	if c.WantsResponse() || c.BuffersResponse() {
		t.Error("a failed call wants a response")
	}

	prepare(t, p, nil, []step{do("write_body", 1, "new")})
	x = newFake()
	x.err = gone
	if _, err := c.Request(t.Context(), p, x); err != nil {
		t.Fatal(err)
	}
	want := "trap: http_handler.write_body: the response body may be changed in handle_response only with the feature buffer_response"
	if err := c.Response(t.Context(), x, false); errorText(err) != want {
		t.Errorf("got %v", err)
	}
	prepare(t, p, []step{do("enable_features", 2)}, []step{do("write_body", 1, "new")})
	if _, err := c.Request(t.Context(), p, x); err != nil {
		t.Fatal(err)
	}
	if err := c.Response(t.Context(), x, false); err != gone { //nolint:errorlint // unwrapped is what is promised
		t.Errorf("got %v, want %v", err, gone)
	}
}

func TestResponsePhase(t *testing.T) {
	f := sequences(t)
	read0, read1 := do("read_body", 0, space(4)), do("read_body", 1, space(4))
	buffer := func(features int) []step { return []step{do("enable_features", features)} }

	// Reading what is there is always allowed.
	f(` | 3 "GET", 14, 8, 11, 200, 3/16, 1/12`, newFake(), []step{}, []step{
		do("get_method", space(9)), do("get_uri", space(0)), do("get_protocol_version", space(0)), do("get_source_addr", space(0)),
		do("get_status_code"), do("get_header_names", 0, space(0)), do("get_header_values", 0, "host", space(0)),
	})
	x := newFake()
	x.status = 503
	x.fields[ResponseHeader] = list{{"X-A", "1"}}
	f(` | 503, 1/2 "1\x00"`, x, []step{}, []step{do("get_status_code"), do("get_header_values", 1, "x-a", space(9))})

	// The bodies only with their features.
	f(`trap: http_handler.read_body: the request body may be read in handle_response only with the feature buffer_request`, newFake(), buffer(6), []step{read0})
	f(`1 | 0/4 "hell", 0/4 "o wo"`, newFake(), buffer(1), []step{read0, read0})
	f(`1, 0/4 "hell" | 0/4 "o wo"`, newFake(), append(buffer(1), read0), []step{read0})
	f(`trap: http_handler.read_body: the response body may be read only with the feature buffer_response`, newFake(), buffer(5), []step{read1})
	f(`2 | 0/4 "answ", 1/2 "er"`, newFake(), buffer(2), []step{read1, read1})

	// What belongs to the request is past.
	late := func(what string) string { return "the " + what + " may be changed in handle_request only" }
	for want, s := range map[string]step{
		"trap: http_handler.set_method: " + late("method"):                                      do("set_method", "PUT"),
		"trap: http_handler.set_uri: " + late("URI"):                                            do("set_uri", "/"),
		"trap: http_handler.set_header_value: " + late("request header"):                        do("set_header_value", 0, "a", "b"),
		"trap: http_handler.add_header_value: " + late("request trailer"):                       do("add_header_value", 2, "a", "b"),
		"trap: http_handler.remove_header: " + late("request header"):                           do("remove_header", 0, "a"),
		"trap: http_handler.write_body: " + late("request body"):                                do("write_body", 0, "a"),
		"trap: http_handler.read_body: limit is 0":                                              do("read_body", 0, space(0)),
		"trap: http_handler.set_status_code: 1 is not the status of an answer: want 200 to 999": do("set_status_code", 1),
	} {
		f(want, newFake(), buffer(7), []step{s})
	}
	// What belongs to the answer is on its way, unless it was buffered.
	streamed := func(what string) string {
		return "the " + what + " may be changed in handle_response only with the feature buffer_response"
	}
	for want, s := range map[string]step{
		"trap: http_handler.set_status_code: " + streamed("status code"):       do("set_status_code", 404),
		"trap: http_handler.set_header_value: " + streamed("response header"):  do("set_header_value", 1, "a", "b"),
		"trap: http_handler.add_header_value: " + streamed("response trailer"): do("add_header_value", 3, "a", "b"),
		"trap: http_handler.remove_header: " + streamed("response header"):     do("remove_header", 1, "a"),
		"trap: http_handler.write_body: " + streamed("response body"):          do("write_body", 1, "a"),
	} {
		f(want, newFake(), buffer(5), []step{s})
	}
	x = newFake()
	x.fields[ResponseHeader] = list{{"X-A", "1"}, {"X-C", "2"}}
	f(`6 | , , , , , , `, x, buffer(6), []step{
		do("set_status_code", 404), do("set_header_value", 1, "x-a", "b"), do("add_header_value", 3, "x-t", "b"),
		do("remove_header", 1, "x-c"), do("write_body", 1, ""), do("write_body", 1, "ne"), do("write_body", 1, "w"),
	})
	if got, want := x.String(), "GET /v1/chat?x=%26 404 [Host: example.com; X-B: 1; Accept: */*; X-B: ; X-B: 3] [X-A: b] [X-Sum: abc] [X-Done: 1; X-T: b]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := x.body(ResponseBody); got != "new" {
		t.Errorf("got %q, want new", got)
	}
	// A body written in both phases: the first write of each replaces.
	x = newFake()
	f(`2,  | , `, x, append(buffer(2), do("write_body", 1, "early")), []step{do("write_body", 1, "la"), do("write_body", 1, "te")})
	if got := x.body(ResponseBody); got != "late" {
		t.Errorf("got %q, want late", got)
	}
}

func TestTrailersNeedTheirFeature(t *testing.T) {
	f := sequences(t)
	want := "trap: http_handler.set_header_value: trailers may be changed only with the feature trailers"
	f(want, newFake(), []step{do("set_header_value", 2, "a", "b")}, nil)
	f(want, newFake(), []step{do("set_header_value", 3, "a", "b")}, nil)
	f(`2 | 0/0, 0/0`, newFake(), []step{do("enable_features", 2)}, []step{do("get_header_names", 3, space(9)), do("get_header_values", 3, "x-done", space(9))})
	f(want, newFake(), []step{do("enable_features", 2)}, []step{do("set_header_value", 3, "a", "b")})
}
