//go:build wasip1

// Command limit is a Proxy-Wasm guest of ABI 0.2.100 that counts each caller's requests in Redis and refuses those beyond a
// limit, for the tests of package proxy. Its configuration is a cluster's name and the limit. A request with the field
// x-redis is answered with the raw reply to the commands in it, which ; separates.
package main

import (
	"strconv"
	"strings"
	"unsafe"
)

//go:wasmimport env proxy_redis_init
func redisInit(cluster, user, password string, milliseconds uint32) uint32

//go:wasmimport env proxy_redis_call
func redisCall(cluster, query string, id *uint32) uint32

//go:wasmimport env proxy_get_buffer_bytes
func getBuffer(buffer, start, limit uint32, address, size *uint32) uint32

//go:wasmimport env proxy_get_header_map_value
func getHeader(kind uint32, name string, address, size *uint32) uint32

//go:wasmimport env proxy_add_header_map_value
func addHeader(kind uint32, name, value string) uint32

//go:wasmimport env proxy_continue_stream
func continueStream(stream uint32) uint32

//go:wasmimport env proxy_send_local_response
func sendLocalResponse(status uint32, details, body string, pairs unsafe.Pointer, length uint32, grpc int32) uint32

//go:wasmimport env proxy_set_effective_context
func setEffectiveContext(context uint32) uint32

// The host writes here: a Go stack may move while a hostcall asks for memory.
var address, size, number uint32

var (
	lent    = map[uint32][]byte{}
	cluster string
	limit   int
	calls   = map[uint32]call{}
)

// call is a query under way.
type call struct {
	context uint32
	raw     bool
}

const (
	redisReply = 9
	pause      = 4
)

func main() {}

//go:wasmexport proxy_abi_version_0_2_100
func abiVersion() {}

//go:wasmexport proxy_on_memory_allocate
func allocate(n uint32) uint32 {
	b := make([]byte, max(n, 1))
	at := uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
	lent[at] = b[:n]
	return at
}

// taken returns what the host has written, if it says that it has.
func taken(status uint32) string {
	if status != 0 {
		return ""
	}
	b := lent[address]
	delete(lent, address)
	return string(b)
}

//go:wasmexport proxy_on_context_create
func contextCreate(uint32, uint32) {}

//go:wasmexport proxy_on_configure
func configure(uint32, uint32) uint32 {
	words := strings.Fields(taken(getBuffer(7, 0, 1<<20, &address, &size)))
	cluster = words[0]
	limit, _ = strconv.Atoi(words[1])
	if redisInit(cluster, "nobody", "not the password", 1000) != 0 {
		return 0
	}
	return 1
}

//go:wasmexport proxy_on_request_headers
func requestHeaders(context, _, _ uint32) uint32 {
	commands := taken(getHeader(0, "x-redis", &address, &size))
	query, raw := command("INCR", "calls:"+taken(getHeader(0, "x-caller", &address, &size))), commands != ""
	if raw {
		query = ""
		for one := range strings.SplitSeq(commands, ";") {
			query += command(strings.Fields(one)...)
		}
	}
	if status := redisCall(cluster, query, &number); status != 0 {
		reply(503, "not called: "+strconv.Itoa(int(status)))
		return pause
	}
	calls[number] = call{context, raw}
	return pause
}

//go:wasmexport proxy_on_redis_call_response
func redisResponse(_, id, status, _ uint32) {
	c := calls[id]
	delete(calls, id)
	if setEffectiveContext(c.context) != 0 {
		return
	}
	text := taken(getBuffer(redisReply, 0, 1<<30, &address, &size))
	count, err := strconv.Atoi(strings.Trim(text, ":\r\n"))
	switch {
	case status != 0:
		reply(503, "no reply: "+strconv.Itoa(int(status)))
	case c.raw:
		reply(200, text)
	case err != nil:
		reply(503, text)
	case count > limit:
		reply(429, "too many: "+strconv.Itoa(count))
	default:
		addHeader(0, "x-count", strconv.Itoa(count))
		continueStream(0)
	}
}

//go:wasmexport proxy_on_done
func done(uint32) uint32 { return 1 }

//go:wasmexport proxy_on_delete
func deleted(context uint32) {
	for id, c := range calls {
		if c.context == context {
			delete(calls, id)
		}
	}
}

func reply(status uint32, body string) {
	sendLocalResponse(status, "", body, nil, 0, -1)
}

// command writes a command as Redis reads it.
func command(words ...string) string {
	text := "*" + strconv.Itoa(len(words)) + "\r\n"
	for _, word := range words {
		text += "$" + strconv.Itoa(len(word)) + "\r\n" + word + "\r\n"
	}
	return text
}
