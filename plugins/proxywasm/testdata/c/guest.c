// A guest without an SDK. Each of the guests in these folders does the same.
//
//	clang --target=wasm32 -nostdlib -fno-builtin -O2 -Wl,--no-entry -o guest.wasm guest.c

typedef unsigned int u32;
typedef unsigned char u8;

#define HOST(name) __attribute__((import_module("env"), import_name("proxy_" #name))) u32 name
#define GUEST(name) __attribute__((export_name("proxy_" #name)))

HOST(log)(u32 level, const char *p, u32 n);
HOST(get_buffer_bytes)(u32 buffer, u32 start, u32 max, char **p, u32 *n);
HOST(set_buffer_bytes)(u32 buffer, u32 start, u32 size, const char *p, u32 n);
HOST(get_header_map_value)(u32 map, const char *k, u32 kn, char **p, u32 *n);
HOST(add_header_map_value)(u32 map, const char *k, u32 kn, const char *v, u32 vn);
HOST(replace_header_map_value)(u32 map, const char *k, u32 kn, const char *v, u32 vn);
HOST(remove_header_map_value)(u32 map, const char *k, u32 kn);
HOST(get_header_map_pairs)(u32 map, char **p, u32 *n);
HOST(send_local_response)(u32 code, const char *d, u32 dn, const char *b, u32 bn, const char *h, u32 hn, u32 grpc);
HOST(http_call)(const char *up, u32 n, const char *h, u32 hn, const char *b, u32 bn, const char *t, u32 tn, u32 ms, u32 *id);
HOST(continue_stream)(u32 stream);
HOST(set_effective_context)(u32 id);
HOST(get_property)(const char *path, u32 n, char **p, u32 *size);
HOST(set_property)(const char *path, u32 n, const char *v, u32 vn);
HOST(define_metric)(u32 type, const char *name, u32 n, u32 *id);
HOST(increment_metric)(u32 id, long long by);
HOST(set_tick_period_milliseconds)(u32 ms);
HOST(get_shared_data)(const char *k, u32 kn, char **p, u32 *n, u32 *cas);
HOST(set_shared_data)(const char *k, u32 kn, const char *v, u32 vn, u32 cas);

#define S(s) s, sizeof(s) - 1
#define MUST(call) do { if ((call) != 0) __builtin_trap(); } while (0)

static u8 heap[1 << 20];
static u32 used;

GUEST(on_memory_allocate) void *allocate(u32 n) {
  if (n > sizeof heap / 2) return 0;
  if (used + n > sizeof heap) used = 0; // what was there is long done with
  void *p = heap + used;
  used += (n + 15) & ~15u;
  return p;
}

static char greeting[64];
static u32 greeting_size, requests, pending[64];

static int same(const char *p, u32 n, const char *q, u32 m) {
  if (n != m) return 0;
  for (u32 i = 0; i < n; i++) if (p[i] != q[i]) return 0;
  return 1;
}

// pairs writes a map of the ABI's: count, lengths, then names and values with a NUL each.
static u32 pairs(char *out, u32 count, const char **s) {
  u32 *w = (u32 *)out;
  char *at = out + 4 + 8 * count;
  *w++ = count;
  for (u32 i = 0; i < 2 * count; i++) {
    u32 n = 0;
    for (; s[i][n]; n++) *at++ = s[i][n];
    *at++ = 0;
    *w++ = n;
  }
  return at - out;
}

GUEST(abi_version_0_2_1) void version(void) {}

GUEST(on_configure) u32 on_configure(u32 root, u32 size) {
  char *p;
  u32 n;
  MUST(get_buffer_bytes(7, 0, size, &p, &n));
  if (n == 0 || n > sizeof greeting) {
    log(5, S("no config"));
    return 0;
  }
  for (u32 i = 0; i < n; i++) greeting[i] = p[i];
  greeting_size = n;
  MUST(define_metric(0, S("sdk.requests"), &requests));
  MUST(set_tick_period_milliseconds(1));
  return 1;
}

GUEST(on_tick) void on_tick(u32 root) {
  char *p, dots[3];
  u32 n = 0, cas = 0;
  get_shared_data(S("ticks"), &p, &n, &cas);
  for (u32 i = 0; i < n && i < 2; i++) dots[i] = p[i];
  if (n < 3) dots[n++] = '.';
  MUST(set_shared_data(S("ticks"), dots, n, cas));
  if (n == 3) {
    MUST(set_tick_period_milliseconds(0));
    log(2, S("ticked"));
  }
}

GUEST(on_request_headers) u32 on_request_headers(u32 id, u32 count, u32 end) {
  char *p, map[256], digits[2];
  u32 n, call;
  MUST(increment_metric(requests, 1));
  MUST(get_header_map_value(0, S(":path"), &p, &n));
  if (same(p, n, S("/deny"))) {
    const char *h[] = {"x-why", "test"};
    MUST(send_local_response(403, S("denied"), S("denied"), map, pairs(map, 1, h), -1));
    return 1;
  }
  if (same(p, n, S("/call"))) {
    const char *h[] = {":method", "GET", ":path", "/check", ":authority", "auth"};
    MUST(http_call(S("auth"), map, pairs(map, 3, h), S("question"), 0, 0, 1000, &call));
    pending[call % 64] = id;
    return 1;
  }
  if (same(p, n, S("/trap"))) __builtin_trap();
  MUST(get_header_map_pairs(0, &p, &n));
  digits[0] = '0' + *(u32 *)p % 10;
  MUST(replace_header_map_value(0, S("x-count"), digits, 1));
  MUST(replace_header_map_value(0, S("x-greeting"), greeting, greeting_size));
  MUST(get_property(S("request\0method"), &p, &n));
  MUST(set_property(S("sdk\0method"), p, n));
  return 0;
}

GUEST(on_http_call_response) void on_http_call_response(u32 root, u32 call, u32 headers, u32 size, u32 trailers) {
  char *p;
  u32 n;
  MUST(get_buffer_bytes(4, 0, size, &p, &n));
  MUST(set_effective_context(pending[call % 64]));
  MUST(add_header_map_value(0, S("x-auth"), p, n));
  MUST(continue_stream(0));
}

GUEST(on_request_body) u32 on_request_body(u32 id, u32 size, u32 end) {
  char *p;
  u32 n;
  if (!end) return 1;
  MUST(get_buffer_bytes(0, 0, size, &p, &n));
  for (u32 i = 0; i < n; i++) if (p[i] >= 'a' && p[i] <= 'z') p[i] -= 'a' - 'A';
  MUST(set_buffer_bytes(0, 0, size, p, n));
  MUST(set_buffer_bytes(0, -1, 0, S("!")));
  return 0;
}

GUEST(on_response_headers) u32 on_response_headers(u32 id, u32 count, u32 end) {
  char *p;
  u32 n;
  if (get_property(S("sdk\0method"), &p, &n) == 0) MUST(add_header_map_value(2, S("x-method"), p, n));
  MUST(remove_header_map_value(2, S("server")));
  return 0;
}

GUEST(on_response_body) u32 on_response_body(u32 id, u32 size, u32 end) {
  if (size > 0) MUST(set_buffer_bytes(1, 0, 0, S(">")));
  return 0;
}

GUEST(on_response_trailers) u32 on_response_trailers(u32 id, u32 count) {
  MUST(add_header_map_value(3, S("x-tail"), S("seen")));
  return 0;
}

GUEST(on_log) void on_log(u32 id) { log(2, S("bye")); }
