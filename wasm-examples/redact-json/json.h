// A JSON reader that is fed byte by byte and keeps no text: bodies may come in pieces of any size.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define JSON_DEPTH 512 // deeper nesting counts as invalid

// What a byte has ended or begun.
enum json_event {
  JSON_NOTHING,
  JSON_NAME,   // of a member; it is text[start, at)
  JSON_STRING, // a value; it is text[start, at)
  JSON_TRUE,
  JSON_FALSE,
  JSON_OTHER, // null, or the beginning of a number
  JSON_OPEN,  // an object or array, which is counted in depth
  JSON_CLOSE, // which is not any more
  JSON_INVALID,
};

struct json {
  uint8_t state;        // all zero is a new reader
  uint8_t digits;       // of \uXXXX, still to come
  bool name;            // the string is a member's name
  const char *literal;  // what must follow of true, false or null
  enum json_event ends; // what the end of the literal is
  uint32_t depth;
  uint32_t start;                  // of the string
  uint8_t objects[JSON_DEPTH / 8]; // one bit for each level: it is an object, not an array
};

// Takes the byte c, which is the one at position at. After JSON_INVALID the reader is of no more use.
enum json_event json_feed(struct json *j, uint8_t c, uint32_t at);

// Says whether what came so far is one whole JSON text.
bool json_complete(const struct json *j);

// Returns the character of a string at position at, and moves at behind it: escapes are one character, and so are two
// that are a surrogate pair. Bytes from 0x80 on are returned one by one, with *raw set. The string must be valid.
uint32_t json_char(const uint8_t *text, uint32_t *at, bool *raw);
