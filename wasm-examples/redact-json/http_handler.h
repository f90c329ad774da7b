// What an http-wasm host gives to its guests, as far as redact-json needs it; https://http-wasm.io/http-handler-abi/
// has the rest. Pointers are offsets in the guest's memory; where they are wrong, the host ends the guest.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define HOST(name) __attribute__((import_module("http_handler"), import_name(#name))) extern
#define EXPORT(name) __attribute__((export_name(#name)))

enum kind { REQUEST, RESPONSE };
enum level { DEBUG = -1, INFO, WARN, ERROR };
enum feature { BUFFER_REQUEST = 1, BUFFER_RESPONSE = 2 };

// Asks for features, for all requests in _initialize and for one in handle_request; returns those that are on.
HOST(enable_features) uint32_t enable_features(uint32_t features);

// Returns the length of the configuration, and writes it if that is at most limit.
HOST(get_config) uint32_t get_config(uint8_t *buffer, uint32_t limit);

HOST(log) void host_log(int32_t level, const char *text, uint32_t length);

HOST(set_header_value) void set_header_value(uint32_t kind, const char *name, uint32_t name_length, const char *value, uint32_t value_length);

// Reads on in the body: the length is in the lower half of the result, and the upper is 1 at the end.
HOST(read_body) uint64_t read_body(uint32_t kind, uint8_t *buffer, uint32_t limit);

// Replaces the body at the first call, appends at the next.
HOST(write_body) void write_body(uint32_t kind, const uint8_t *content, uint32_t length);
