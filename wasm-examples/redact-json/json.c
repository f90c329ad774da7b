#include "json.h"

enum state {
  VALUE,       // a value must come
  FIRST_VALUE, // or the end of the array
  MEMBER,      // a name must come
  FIRST_MEMBER,
  COLON,
  AFTER, // a value has ended: a comma, a bracket or nothing may come
  STRING,
  ESCAPE,
  UNICODE,
  LITERAL,
  MINUS,
  ZERO,
  INTEGER,
  POINT,
  FRACTION,
  EXPONENT,
  SIGN,
  POWER,
};

static bool is_digit(uint8_t c) { return c >= '0' && c <= '9'; }
static bool is_space(uint8_t c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static int hex(uint8_t c) {
  if (is_digit(c)) return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum json_event to(struct json *j, enum state state) {
  j->state = state;
  return JSON_NOTHING;
}

static enum json_event open(struct json *j, bool object) {
  if (j->depth == JSON_DEPTH) return JSON_INVALID;
  uint8_t bit = 1 << (j->depth & 7), *level = &j->objects[j->depth >> 3];
  *level = object ? *level | bit : *level & ~bit;
  j->depth++;
  j->state = object ? FIRST_MEMBER : FIRST_VALUE;
  return JSON_OPEN;
}

static bool in_object(const struct json *j) {
  return j->depth > 0 && j->objects[(j->depth - 1) >> 3] >> ((j->depth - 1) & 7) & 1;
}

static enum json_event close(struct json *j) {
  j->depth--;
  j->state = AFTER;
  return JSON_CLOSE;
}

static enum json_event string(struct json *j, bool name, uint32_t at) {
  j->name = name;
  j->start = at + 1;
  return to(j, STRING);
}

static enum json_event literal(struct json *j, const char *rest, enum json_event ends) {
  j->literal = rest;
  j->ends = ends;
  return to(j, LITERAL);
}

static enum json_event value(struct json *j, uint8_t c, uint32_t at) {
  if (is_digit(c) || c == '-') {
    j->state = c == '-' ? MINUS : c == '0' ? ZERO : INTEGER;
    return JSON_OTHER;
  }
  switch (c) {
  case '"': return string(j, false, at);
  case '{': return open(j, true);
  case '[': return open(j, false);
  case 't': return literal(j, "rue", JSON_TRUE);
  case 'f': return literal(j, "alse", JSON_FALSE);
  case 'n': return literal(j, "ull", JSON_OTHER);
  }
  return JSON_INVALID;
}

static enum json_event after(struct json *j, uint8_t c) {
  if (is_space(c)) return to(j, AFTER);
  if (j->depth == 0) return JSON_INVALID; // a second value
  if (c == ',') return to(j, in_object(j) ? MEMBER : VALUE);
  return c == (in_object(j) ? '}' : ']') ? close(j) : JSON_INVALID;
}

// in_string takes a byte of a string.
static enum json_event in_string(struct json *j, uint8_t c) {
  switch (j->state) {
  case STRING:
    if (c == '\\') return to(j, ESCAPE);
    if (c < 0x20) return JSON_INVALID;
    if (c != '"') return JSON_NOTHING;
    j->state = j->name ? COLON : AFTER;
    return j->name ? JSON_NAME : JSON_STRING;
  case ESCAPE:
    j->digits = 4;
    for (const char *known = "\"\\/bfnrt"; *known; known++)
      if (c == *known) return to(j, STRING);
    return c == 'u' ? to(j, UNICODE) : JSON_INVALID;
  default:
    if (hex(c) < 0) return JSON_INVALID;
    return --j->digits == 0 ? to(j, STRING) : JSON_NOTHING;
  }
}

// in_number takes a byte of a number, or the one behind it.
static enum json_event in_number(struct json *j, uint8_t c) {
  switch (j->state) {
  case MINUS: return is_digit(c) ? to(j, c == '0' ? ZERO : INTEGER) : JSON_INVALID;
  case POINT: return is_digit(c) ? to(j, FRACTION) : JSON_INVALID;
  case SIGN: return is_digit(c) ? to(j, POWER) : JSON_INVALID;
  case EXPONENT:
    if (c == '+' || c == '-') return to(j, SIGN);
    return is_digit(c) ? to(j, POWER) : JSON_INVALID;
  case INTEGER:
  case FRACTION:
  case POWER:
    if (is_digit(c)) return JSON_NOTHING;
  }
  if (j->state <= INTEGER && c == '.') return to(j, POINT);
  if (j->state <= FRACTION && (c | 0x20) == 'e') return to(j, EXPONENT);
  return after(j, c);
}

enum json_event json_feed(struct json *j, uint8_t c, uint32_t at) {
  if (j->state >= MINUS) return in_number(j, c);
  switch (j->state) {
  case STRING:
  case ESCAPE:
  case UNICODE: return in_string(j, c);
  case LITERAL:
    if (c != (uint8_t)*j->literal) return JSON_INVALID;
    if (*++j->literal) return JSON_NOTHING;
    j->state = AFTER;
    return j->ends;
  case AFTER: return after(j, c);
  }
  if (is_space(c)) return JSON_NOTHING;
  switch (j->state) {
  case FIRST_VALUE: return c == ']' ? close(j) : value(j, c, at);
  case FIRST_MEMBER:
    if (c == '}') return close(j);
    // fall through
  case MEMBER: return c == '"' ? string(j, true, at) : JSON_INVALID;
  case COLON: return c == ':' ? to(j, VALUE) : JSON_INVALID;
  }
  return value(j, c, at);
}

bool json_complete(const struct json *j) {
  switch (j->state) {
  case AFTER:
  case ZERO:
  case INTEGER:
  case FRACTION:
  case POWER: return j->depth == 0;
  }
  return false;
}

static uint32_t four_hex(const uint8_t *text) { return hex(text[0]) << 12 | hex(text[1]) << 8 | hex(text[2]) << 4 | hex(text[3]); }

uint32_t json_char(const uint8_t *text, uint32_t *at, bool *raw) {
  uint32_t c = text[(*at)++];
  *raw = c >= 0x80;
  if (c != '\\') return c;
  c = text[(*at)++];
  switch (c) {
  case 'b': return '\b';
  case 'f': return '\f';
  case 'n': return '\n';
  case 'r': return '\r';
  case 't': return '\t';
  case 'u': break;
  default: return c; // a quote, a backslash, a slash
  }
  c = four_hex(text + *at);
  *at += 4;
  // The string ends with a quote, so none of these reads beyond it.
  if (c >= 0xd800 && c < 0xdc00 && text[*at] == '\\' && text[*at + 1] == 'u') {
    uint32_t low = four_hex(text + *at + 2);
    if (low >= 0xdc00 && low < 0xe000) {
      *at += 6;
      c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
  }
  return c;
}
