// Command goguest is a guest in plain Go, built by the tests with -buildmode=c-shared: main does not run, init does.
package main

import (
	"bytes"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

//go:wasmimport http_handler enable_features
func enableFeatures(features uint32) uint32

//go:wasmimport http_handler get_config
func getConfig(buf unsafe.Pointer, limit uint32) uint32

//go:wasmimport http_handler log
func log(level int32, message unsafe.Pointer, size uint32)

//go:wasmimport http_handler get_method
func getMethod(buf unsafe.Pointer, limit uint32) uint32

//go:wasmimport http_handler get_uri
func getURI(buf unsafe.Pointer, limit uint32) uint32

//go:wasmimport http_handler set_uri
func setURI(uri unsafe.Pointer, size uint32)

//go:wasmimport http_handler get_header_values
func getHeaderValues(kind uint32, name unsafe.Pointer, nameSize uint32, buf unsafe.Pointer, limit uint32) uint64

//go:wasmimport http_handler set_header_value
func setHeaderValue(kind uint32, name unsafe.Pointer, nameSize uint32, value unsafe.Pointer, valueSize uint32)

//go:wasmimport http_handler read_body
func readBody(kind uint32, buf unsafe.Pointer, limit uint32) uint64

//go:wasmimport http_handler write_body
func writeBody(kind uint32, body unsafe.Pointer, size uint32)

//go:wasmimport http_handler set_status_code
func setStatusCode(code uint32)

var (
	config  string
	visits  int
	methods = map[uint32]string{} // by reqCtx
)

func main() {}

func init() {
	enableFeatures(3)
	config = text(getConfig)
}

func text(get func(unsafe.Pointer, uint32) uint32) string {
	buf := make([]byte, 4)
	n := get(unsafe.Pointer(&buf[0]), uint32(len(buf)))
	if int(n) > len(buf) {
		buf = make([]byte, n)
		n = get(unsafe.Pointer(&buf[0]), n)
	}
	return string(buf[:n])
}

func ptr(s string) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.StringData(s)), uint32(len(s))
}

func header(kind uint32, name string) string {
	buf := make([]byte, 256)
	p, n := ptr(name)
	size := uint32(getHeaderValues(kind, p, n, unsafe.Pointer(&buf[0]), uint32(len(buf))))
	first, _, _ := bytes.Cut(buf[:size], []byte{0})
	return string(first)
}

func setHeader(kind uint32, name, value string) {
	p, n := ptr(name)
	v, m := ptr(value)
	setHeaderValue(kind, p, n, v, m)
}

func body(kind uint32) (b []byte) {
	buf := make([]byte, 7)
	for {
		got := readBody(kind, unsafe.Pointer(&buf[0]), uint32(len(buf)))
		b = append(b, buf[:uint32(got)]...)
		if got>>32 == 1 {
			return b
		}
	}
}

func write(kind uint32, s string) {
	p, n := ptr(s)
	writeBody(kind, p, n)
}

//go:wasmexport handle_request
func handleRequest() uint64 {
	visits++
	switch header(0, "x-test") {
	case "panic":
		panic("as asked")
	case "exit":
		syscall.Exit(3)
	case "spin":
		for i := 0; ; i++ {
			visits += i
		}
	case "sleep":
		time.Sleep(time.Hour)
	case "stop":
		setHeader(1, "x-config", config)
		write(1, "stopped ")
		setStatusCode(403)
		write(1, text(getURI))
		return 7 << 32
	}
	methods[uint32(visits)] = text(getMethod)
	p, n := ptr("/upper" + text(getURI))
	setURI(p, n)
	write(0, strings.ToUpper(string(body(0))))
	return uint64(visits)<<32 | 1
}

//go:wasmexport handle_response
func handleResponse(reqCtx, isError uint32) {
	message := methods[reqCtx] + " " + strconv.Itoa(len(methods))
	delete(methods, reqCtx)
	p, n := ptr(message)
	log(0, p, n)
	setHeader(1, "x-visit", strconv.Itoa(visits)+" "+message)
	if isError == 1 {
		setStatusCode(502)
		write(1, "no answer")
		return
	}
	write(1, "<"+string(body(1))+">")
}
