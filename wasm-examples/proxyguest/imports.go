//go:build wasip1

package proxyguest

import "unsafe"

// The functions of the host. A string travels as a pointer and a length, and so does what a *uint32 pair receives: the
// address of memory that the host has allocated by memoryAllocate, and its size.

//go:wasmimport env proxy_log
func proxyLog(level uint32, message string) Status

//go:wasmimport env proxy_get_current_time_nanoseconds
func proxyGetCurrentTime(nanoseconds *uint64) Status

//go:wasmimport env proxy_set_tick_period_milliseconds
func proxySetTickPeriod(milliseconds uint32) Status

//go:wasmimport env proxy_get_buffer_bytes
func proxyGetBufferBytes(buffer, start, limit uint32, address, size *uint32) Status

//go:wasmimport env proxy_get_buffer_status
func proxyGetBufferStatus(buffer uint32, length, flags *uint32) Status

//go:wasmimport env proxy_set_buffer_bytes
func proxySetBufferBytes(buffer, start, size uint32, content unsafe.Pointer, length uint32) Status

//go:wasmimport env proxy_get_header_map_pairs
func proxyGetHeaderMapPairs(kind uint32, address, size *uint32) Status

//go:wasmimport env proxy_set_header_map_pairs
func proxySetHeaderMapPairs(kind uint32, pairs unsafe.Pointer, length uint32) Status

//go:wasmimport env proxy_get_header_map_value
func proxyGetHeaderMapValue(kind uint32, name string, address, size *uint32) Status

//go:wasmimport env proxy_add_header_map_value
func proxyAddHeaderMapValue(kind uint32, name, value string) Status

//go:wasmimport env proxy_replace_header_map_value
func proxyReplaceHeaderMapValue(kind uint32, name, value string) Status

//go:wasmimport env proxy_remove_header_map_value
func proxyRemoveHeaderMapValue(kind uint32, name string) Status

//go:wasmimport env proxy_continue_stream
func proxyContinueStream(stream uint32) Status

//go:wasmimport env proxy_close_stream
func proxyCloseStream(stream uint32) Status

//go:wasmimport env proxy_send_local_response
func proxySendLocalResponse(status uint32, details string, body unsafe.Pointer, length uint32, pairs unsafe.Pointer, pairsLength uint32, grpcStatus int32) Status

//go:wasmimport env proxy_http_call
func proxyHTTPCall(upstream string, pairs unsafe.Pointer, pairsLength uint32, body unsafe.Pointer, length uint32,
	trailers unsafe.Pointer, trailersLength, milliseconds uint32, call *uint32) Status

//go:wasmimport env proxy_set_effective_context
func proxySetEffectiveContext(context uint32) Status

//go:wasmimport env proxy_get_property
func proxyGetProperty(path string, address, size *uint32) Status

//go:wasmimport env proxy_set_property
func proxySetProperty(path string, value unsafe.Pointer, length uint32) Status

//go:wasmimport env proxy_get_shared_data
func proxyGetSharedData(key string, address, size, version *uint32) Status

//go:wasmimport env proxy_set_shared_data
func proxySetSharedData(key string, value unsafe.Pointer, length, version uint32) Status

//go:wasmimport env proxy_define_metric
func proxyDefineMetric(kind uint32, name string, metric *uint32) Status

//go:wasmimport env proxy_increment_metric
func proxyIncrementMetric(metric uint32, by int64) Status

//go:wasmimport env proxy_record_metric
func proxyRecordMetric(metric uint32, value uint64) Status

//go:wasmimport env proxy_get_metric
func proxyGetMetric(metric uint32, value *uint64) Status
