// redact-json replaces e-mail addresses, and what members of certain names hold, in JSON bodies. Nothing but the inside
// of strings changes; what is not JSON passes as it is.
#include "http_handler.h"
#include "json.h"

#define PAGE 65536u
#define CONFIG_LIMIT 8192u
#define FIELDS_LIMIT 64u
#define NAME_LIMIT 256u // a longer name is none of ours
#define LOG(level, text) host_log(level, "redact-json: " text, sizeof("redact-json: " text) - 1)

struct span {
  const uint8_t *text;
  uint32_t length;
};

static struct {
  struct span fields[FIELDS_LIMIT]; // names, unescaped
  uint32_t field_count;
  struct span mask; // as it stands in JSON
  bool emails, response;
} config;

static _Noreturn void refuse(const char *why, uint32_t length) {
  host_log(ERROR, why, length);
  __builtin_trap();
}
#define REFUSE(text) refuse("redact-json: " text, sizeof("redact-json: " text) - 1)

static uint8_t lower(uint8_t c) { return c >= 'A' && c <= 'Z' ? c | 0x20 : c; }
static bool is_letter(uint32_t c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; }
static bool is_digit(uint32_t c) { return c >= '0' && c <= '9'; }

// unescape writes a string as UTF-8 and returns its length, or NAME_LIMIT + 1 if it is too long.
static uint32_t unescape(const uint8_t *text, uint32_t at, uint32_t end, uint8_t *out) {
  uint32_t n = 0;
  while (at < end) {
    bool raw;
    uint32_t c = json_char(text, &at, &raw);
    if (n + 4 > NAME_LIMIT) return NAME_LIMIT + 1;
    if (raw || c < 0x80) {
      out[n++] = c;
    } else if (c < 0x800) {
      out[n++] = 0xc0 | c >> 6;
      out[n++] = 0x80 | (c & 0x3f);
    } else if (c < 0x10000) {
      out[n++] = 0xe0 | c >> 12;
      out[n++] = 0x80 | (c >> 6 & 0x3f);
      out[n++] = 0x80 | (c & 0x3f);
    } else {
      out[n++] = 0xf0 | c >> 18;
      out[n++] = 0x80 | (c >> 12 & 0x3f);
      out[n++] = 0x80 | (c >> 6 & 0x3f);
      out[n++] = 0x80 | (c & 0x3f);
    }
  }
  return n;
}

static bool same(const uint8_t *text, uint32_t length, const char *word) {
  for (uint32_t i = 0; i < length; i++)
    if (text[i] != (uint8_t)word[i]) return false; // word has its NUL at its end
  return word[length] == 0;
}

static bool is_field(const uint8_t *text, uint32_t start, uint32_t end) {
  uint8_t name[NAME_LIMIT];
  uint32_t length = unescape(text, start, end, name);
  for (uint32_t f = 0; f < config.field_count; f++) {
    uint32_t i = 0;
    while (i < length && length == config.fields[f].length && lower(name[i]) == lower(config.fields[f].text[i])) i++;
    if (i == length && length == config.fields[f].length) return true;
  }
  return false;
}

// skip_email returns the end of the address whose @ is just before at, or 0. A domain has a dot, and its last part
// begins with a letter and has two characters or more.
static uint32_t skip_email(const uint8_t *text, uint32_t at, uint32_t end) {
  uint32_t last = 0, part = 0;
  bool dot = false, letter = false, raw;
  while (at < end) {
    uint32_t c = json_char(text, &at, &raw);
    if (c == '.' && part > 0) {
      dot = true;
      part = 0;
    } else if (is_letter(c) || is_digit(c) || (c == '-' && part > 0)) {
      letter = part == 0 ? is_letter(c) : letter;
      part++;
      if (dot && letter && part >= 2 && c != '-') last = at;
    } else {
      break;
    }
  }
  return last;
}

// A run goes twice through a body: once to see that it is JSON and whether anything in it is ours, and once more, if
// so, to write it.
struct run {
  struct json json;
  const uint8_t *text;
  enum kind kind;
  bool writes, found;
  bool field;            // the value that comes is a field's
  uint32_t field_depth;  // all inside this depth is a field's; 0 is none
  bool stream, streamed; // "stream" stands before the value that comes; it was true
  uint32_t copied;       // text before this has been written
};

static uint8_t buffer[16384]; // what write_body gets next: calls cost more than bytes
static uint32_t buffered;

static void flush(enum kind kind) {
  write_body(kind, buffer, buffered);
  buffered = 0;
}

static void put(enum kind kind, const uint8_t *text, uint32_t length) {
  while (length > 0) {
    if (buffered == sizeof buffer) flush(kind);
    uint32_t n = sizeof buffer - buffered < length ? sizeof buffer - buffered : length;
    __builtin_memcpy(buffer + buffered, text, n);
    buffered += n, text += n, length -= n;
  }
}

static void mask(struct run *r, uint32_t start, uint32_t end) {
  r->found = true;
  if (!r->writes) return;
  put(r->kind, r->text + r->copied, start - r->copied);
  put(r->kind, config.mask.text, config.mask.length);
  r->copied = end;
}

static void mask_emails(struct run *r, uint32_t at, uint32_t end) {
  uint32_t local = end; // where the part before an @ begins, if there is one
  while (at < end) {
    uint32_t here = at, email;
    bool raw;
    uint32_t c = json_char(r->text, &at, &raw);
    if (is_letter(c) || is_digit(c) || c == '.' || c == '_' || c == '%' || c == '+' || c == '-' || c == '\'') {
      if (local == end) local = here;
      continue;
    }
    if (c == '@' && local != end && (email = skip_email(r->text, at, end)) != 0) {
      mask(r, local, email);
      at = email;
    }
    local = end;
  }
}

// feed takes the bytes up to end; false means that they are not JSON.
static bool feed(struct run *r, uint32_t from, uint32_t end) {
  for (uint32_t at = from; at < end; at++) {
    enum json_event event = json_feed(&r->json, r->text[at], at);
    if (event == JSON_NOTHING) continue;
    uint32_t start = r->json.start, depth = r->json.depth;
    switch (event) {
    case JSON_INVALID: return false;
    case JSON_NAME:
      r->field = is_field(r->text, start, at);
      r->stream = depth == 1 && same(r->text + start, at - start, "stream");
      continue;
    case JSON_OPEN:
      if (r->field && r->field_depth == 0) r->field_depth = depth;
      break;
    case JSON_CLOSE:
      if (depth < r->field_depth) r->field_depth = 0;
      break;
    case JSON_STRING:
      if (r->field || r->field_depth > 0) {
        if (at > start) mask(r, start, at);
      } else if (config.emails) {
        mask_emails(r, start, at);
      }
      break;
    default:
      r->streamed = r->streamed || (r->stream && event == JSON_TRUE);
    }
    r->field = r->stream = false;
  }
  return true;
}

extern uint8_t __heap_base; // the linker's: memory from here on is free

// room makes sure that memory reaches to end.
static void room(uintptr_t end) {
  uintptr_t have = __builtin_wasm_memory_size(0) * PAGE;
  if (end > have && __builtin_wasm_memory_grow(0, (end - have + PAGE - 1) / PAGE) == (uintptr_t)-1)
    REFUSE("the body does not fit into memory_limit_mb");
}

// redact rewrites a body if it is JSON and has anything to hide. It says whether the caller asks for a stream.
static bool redact(enum kind kind) {
  struct run look = {.text = &__heap_base, .kind = kind};
  uint32_t length = 0;
  for (bool eof = false; !eof;) {
    room((uintptr_t)look.text + length + PAGE);
    uint64_t result = read_body(kind, &__heap_base + length, PAGE);
    eof = result >> 32;
    if (!feed(&look, length, length + (uint32_t)result)) {
      LOG(DEBUG, "not JSON, passed as it is");
      return false;
    }
    length += (uint32_t)result;
  }
  if (json_complete(&look.json) && look.found) {
    struct run write = {.text = look.text, .kind = kind, .writes = true};
    feed(&write, 0, length);
    put(kind, write.text + write.copied, length - write.copied);
    flush(kind);
  }
  return look.streamed;
}

// configure reads {"fields": ["name", ...], "emails": true, "mask": "text", "response": false}.
static void configure(const uint8_t *text, uint32_t length) {
  static uint8_t names[FIELDS_LIMIT][NAME_LIMIT];
  struct json json = {0};
  enum { NONE, FIELDS, EMAILS, MASK, RESPONSE_TOO } member = NONE;
  for (uint32_t at = 0; at < length; at++) {
    enum json_event event = json_feed(&json, text[at], at);
    const uint8_t *word = text + json.start;
    uint32_t word_length = at - json.start, f;
    switch (event) {
    case JSON_NOTHING: continue;
    case JSON_NAME:
      member = same(word, word_length, "fields")     ? FIELDS
               : same(word, word_length, "emails")   ? EMAILS
               : same(word, word_length, "mask")     ? MASK
               : same(word, word_length, "response") ? RESPONSE_TOO
                                                     : NONE;
      if (member != NONE && json.depth == 1) continue;
      break;
    case JSON_OPEN:
      if (json.depth == 1 && text[at] == '{') continue;
      if (json.depth == 2 && text[at] == '[' && member == FIELDS) {
        config.field_count = 0;
        continue;
      }
      break;
    case JSON_CLOSE: continue;
    case JSON_STRING:
      if (json.depth == 1 && member == MASK) {
        config.mask = (struct span){word, word_length};
        continue;
      }
      f = config.field_count;
      if (json.depth == 2 && f < FIELDS_LIMIT) {
        uint32_t n = unescape(text, json.start, at, names[f]);
        if (n == 0 || n > NAME_LIMIT) break;
        config.fields[f] = (struct span){names[f], n};
        config.field_count++;
        continue;
      }
      break;
    case JSON_TRUE:
    case JSON_FALSE:
      if (json.depth == 1 && (member == EMAILS || member == RESPONSE_TOO)) {
        *(member == EMAILS ? &config.emails : &config.response) = event == JSON_TRUE;
        continue;
      }
      break;
    default: break;
    }
    goto wrong;
  }
  if (json_complete(&json)) return;
wrong:
  REFUSE("configuration: want {\"fields\": [\"name\", ...], \"emails\": true, \"mask\": \"text\", \"response\": false}, "
         "at most 64 names of 252 bytes");
}

EXPORT(_initialize) void initialize(void) {
  static uint8_t text[CONFIG_LIMIT];
  config.fields[0] = (struct span){(const uint8_t *)"password", 8};
  config.fields[1] = (struct span){(const uint8_t *)"ssn", 3};
  config.field_count = 2;
  config.mask = (struct span){(const uint8_t *)"[redacted]", 10};
  config.emails = true;
  uint32_t length = get_config(text, sizeof text);
  if (length > sizeof text) REFUSE("configuration: longer than 8192 bytes");
  if (length > 0) configure(text, length);
  if (!(enable_features(BUFFER_REQUEST) & BUFFER_REQUEST)) REFUSE("the host does not buffer requests");
}

// The upper half of the result is handed to handle_response: 1 if the answer is ours too.
EXPORT(handle_request) uint64_t handle_request(void) {
  bool streamed = redact(REQUEST);
  if (!config.response || streamed) return 1;
  if (!(enable_features(BUFFER_RESPONSE) & BUFFER_RESPONSE)) REFUSE("the host does not buffer answers");
  set_header_value(REQUEST, "accept-encoding", 15, "identity", 8); // what is compressed cannot be read here
  return (uint64_t)1 << 32 | 1;
}

EXPORT(handle_response) void handle_response(uint32_t ours, uint32_t failed) {
  if (ours && !failed) redact(RESPONSE);
}
