// Command guest is an http-wasm guest that does what its configuration says, for the tests of package proxy. Each line
// is one step: when (i: at start, q: with the request, s: with the answer), what, and words. It is built with
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared
package main

import (
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

//go:wasmimport http_handler enable_features
func enableFeatures(features uint32) uint32

//go:wasmimport http_handler get_config
func getConfig(buf unsafe.Pointer, limit uint32) uint32

//go:wasmimport http_handler log
func logLine(level int32, p unsafe.Pointer, n uint32)

//go:wasmimport http_handler get_method
func getMethod(buf unsafe.Pointer, limit uint32) uint32

//go:wasmimport http_handler set_method
func setMethod(p unsafe.Pointer, n uint32)

//go:wasmimport http_handler get_uri
func getURI(buf unsafe.Pointer, limit uint32) uint32

//go:wasmimport http_handler set_uri
func setURI(p unsafe.Pointer, n uint32)

//go:wasmimport http_handler get_protocol_version
func getProtocol(buf unsafe.Pointer, limit uint32) uint32

//go:wasmimport http_handler get_header_values
func getValues(kind uint32, name unsafe.Pointer, nameLen uint32, buf unsafe.Pointer, limit uint32) uint64

//go:wasmimport http_handler set_header_value
func setHeader(kind uint32, name unsafe.Pointer, nameLen uint32, value unsafe.Pointer, valueLen uint32)

//go:wasmimport http_handler add_header_value
func addHeader(kind uint32, name unsafe.Pointer, nameLen uint32, value unsafe.Pointer, valueLen uint32)

//go:wasmimport http_handler remove_header
func removeHeader(kind uint32, name unsafe.Pointer, nameLen uint32)

//go:wasmimport http_handler read_body
func readBody(kind uint32, buf unsafe.Pointer, limit uint32) uint64

//go:wasmimport http_handler write_body
func writeBody(kind uint32, p unsafe.Pointer, n uint32)

//go:wasmimport http_handler get_status_code
func getStatus() uint32

//go:wasmimport http_handler set_status_code
func setStatus(code uint32)

func ptr(s string) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.StringData(s)), uint32(len(s))
}

var (
	steps  = map[byte][][]string{}
	buffer = make([]byte, 64<<10)
	kept   [][]byte
	failed bool
)

func text(get func(unsafe.Pointer, uint32) uint32) string {
	n := get(unsafe.Pointer(&buffer[0]), uint32(len(buffer)))
	return string(buffer[:n])
}

func init() {
	for line := range strings.SplitSeq(text(getConfig), "\n") {
		when, words, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok {
			steps[when[0]] = append(steps[when[0]], strings.Fields(words))
		}
	}
	run('i')
}

//go:wasmexport handle_request
func handleRequest() uint64 {
	if run('q') {
		return 0
	}
	return 7<<32 | 1
}

//go:wasmexport handle_response
func handleResponse(context, isError uint32) {
	failed = isError != 0
	if context != 7 {
		panic("context")
	}
	run('s')
}

// run does the steps of one time and reports whether the request is answered.
func run(when byte) (stop bool) {
	for _, step := range steps[when] {
		if step[0] == "stop" {
			stop = true
			continue
		}
		do(step)
	}
	return stop
}

func do(step []string) {
	number := func(i int) uint32 { n, _ := strconv.Atoi(step[i]); return uint32(n) }
	rest := func(i int) string { return strings.Join(step[i:], " ") }
	switch step[0] {
	case "features":
		enableFeatures(number(1))
	case "method":
		setMethod(ptr(step[1]))
	case "uri":
		setURI(ptr(step[1]))
	case "set", "add":
		name, n := ptr(step[2])
		value, v := ptr(expand(rest(3)))
		if step[0] == "set" {
			setHeader(number(1), name, n, value, v)
		} else {
			addHeader(number(1), name, n, value, v)
		}
	case "del":
		name, n := ptr(step[2])
		removeHeader(number(1), name, n)
	case "write": // kind text
		p, n := ptr(expand(rest(2)))
		writeBody(number(1), p, n)
	case "literal": // kind text, as it stands
		p, n := ptr(rest(2))
		writeBody(number(1), p, n)
	case "fill": // kind bytes
		p, n := ptr(strings.Repeat("z", int(number(2))))
		writeBody(number(1), p, n)
	case "upper": // kind: the whole content in capitals
		all := strings.ToUpper(content(number(1)))
		p, n := ptr(all)
		writeBody(number(1), p, n)
	case "read": // kind bytes: reads so much and forgets it
		readBody(number(1), unsafe.Pointer(&buffer[0]), number(2))
	case "status":
		setStatus(number(1))
	case "log":
		p, n := ptr(expand(rest(1)))
		logLine(0, p, n)
	case "print":
		println(rest(1))
	case "trap":
		panic("the guest's own words")
	case "exit":
		os.Exit(3)
	case "loop":
		for i := 0; ; i++ {
			if i < 0 {
				return
			}
		}
	case "sleep":
		time.Sleep(time.Duration(number(1)) * time.Millisecond)
	case "grow":
		for {
			kept = append(kept, make([]byte, 1<<20))
		}
	case "oob":
		writeBody(0, unsafe.Pointer(uintptr(0xfffffff0)), 1000)
	}
}

// content reads a whole content.
func content(kind uint32) string {
	var all []byte
	for {
		got := readBody(kind, unsafe.Pointer(&buffer[0]), uint32(len(buffer)))
		all = append(all, buffer[:uint32(got)]...)
		if got>>32 != 0 {
			return string(all)
		}
	}
}

// expand replaces words in braces: {method}, {uri}, {protocol}, {status}, {failed}, {body} and a field's name with its
// kind, as {0:x-name}.
func expand(s string) string {
	for {
		before, rest, ok := strings.Cut(s, "{")
		if !ok {
			return s
		}
		word, after, _ := strings.Cut(rest, "}")
		value := ""
		switch word {
		case "method":
			value = text(getMethod)
		case "uri":
			value = text(getURI)
		case "protocol":
			value = text(getProtocol)
		case "status":
			value = strconv.Itoa(int(getStatus()))
		case "failed":
			value = strconv.FormatBool(failed)
		case "body":
			value = content(0)
		default:
			kind, name, _ := strings.Cut(word, ":")
			k, _ := strconv.Atoi(kind)
			p, n := ptr(name)
			got := getValues(uint32(k), p, n, unsafe.Pointer(&buffer[0]), uint32(len(buffer)))
			value = strings.TrimSuffix(strings.ReplaceAll(string(buffer[:uint32(got)]), "\x00", ","), ",")
		}
		s = before + value + after
	}
}

func main() {}
