// Finds values in JSON text and writes JSON text. It reads text that a parser has accepted before; on any other it finds nothing,
// or nothing of use, and stays within the text.
#include "hookloom.h"
#include <stdlib.h>
#include <string.h>

// What is left to read.
typedef struct {
  const uint8_t *at;
  const uint8_t *end;
} reader;

static void skip_blanks(reader *json) {
  while (json->at < json->end && (*json->at == ' ' || *json->at == '\n' || *json->at == '\r' || *json->at == '\t')) {
    json->at++;
  }
}

// Takes a character, after blanks. False where another one comes.
static bool take(reader *json, uint8_t character) {
  skip_blanks(json);
  if (json->at == json->end || *json->at != character) {
    return false;
  }
  json->at++;
  return true;
}

static void skip_string(reader *json) {
  for (json->at++; json->at < json->end; json->at++) {
    if (*json->at == '\\') {
      if (++json->at == json->end) {
        return;
      }
    } else if (*json->at == '"') {
      json->at++;
      return;
    }
  }
}

// Takes a value, after blanks. Arrays and objects are passed over by their depth, not by recursion.
static hookloom_text take_value(reader *json) {
  skip_blanks(json);
  const uint8_t *start = json->at;
  size_t depth = 0;
  while (json->at < json->end) {
    uint8_t character = *json->at;
    if (character == '"') {
      skip_string(json);
      if (depth == 0) {
        break;
      }
      continue;
    }
    if (character == '{' || character == '[') {
      depth++;
    } else if (character == '}' || character == ']') {
      if (depth == 0) {
        break;
      }
      if (--depth == 0) {
        json->at++;
        break;
      }
    } else if (depth == 0 && (character == ',' || character <= ' ')) {
      break;
    }
    json->at++;
  }
  return (hookloom_text){(uint8_t *)start, (size_t)(json->at - start)};
}

static int digit_of(uint8_t character) {
  if (character >= '0' && character <= '9') {
    return character - '0';
  }
  uint8_t lower = character | 0x20;
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// Takes the four digits of `\uXXXX`; -1 where there are none.
static int32_t take_unit(reader *json) {
  if (json->end - json->at < 4) {
    return -1;
  }
  int32_t unit = 0;
  for (int index = 0; index < 4; index++) {
    int digit = digit_of(*json->at++);
    if (digit < 0) {
      return -1;
    }
    unit = unit * 16 + digit;
  }
  return unit;
}

static uint8_t *write_character(uint8_t *to, uint32_t character) {
  if (character < 0x80) {
    *to++ = character;
  } else if (character < 0x800) {
    *to++ = 0xC0 | character >> 6;
    *to++ = 0x80 | (character & 0x3F);
  } else if (character < 0x10000) {
    *to++ = 0xE0 | character >> 12;
    *to++ = 0x80 | (character >> 6 & 0x3F);
    *to++ = 0x80 | (character & 0x3F);
  } else {
    *to++ = 0xF0 | character >> 18;
    *to++ = 0x80 | (character >> 12 & 0x3F);
    *to++ = 0x80 | (character >> 6 & 0x3F);
    *to++ = 0x80 | (character & 0x3F);
  }
  return to;
}

// A character that may be written as two units. Half of a pair becomes the replacement character, since UTF-8 has no halves.
static bool take_escaped_character(reader *json, uint32_t *character) {
  const uint32_t replacement = 0xFFFD;
  int32_t unit = take_unit(json);
  if (unit < 0) {
    return false;
  }
  *character = (uint32_t)unit;
  if (unit < 0xD800 || unit > 0xDFFF) {
    return true;
  }
  *character = replacement;
  bool has_second = unit < 0xDC00 && json->end - json->at >= 6 && json->at[0] == '\\' && json->at[1] == 'u';
  if (!has_second) {
    return true;
  }
  reader ahead = {json->at + 2, json->end};
  int32_t second = take_unit(&ahead);
  if (second >= 0xDC00 && second <= 0xDFFF) {
    *character = 0x10000 + ((uint32_t)(unit - 0xD800) << 10) + (uint32_t)(second - 0xDC00);
    json->at = ahead.at;
  }
  return true;
}

// The text of a JSON string, quotes included, without its escapes. The result is never longer.
static bool decode(hookloom_text string, hookloom_text *decoded) {
  if (string.len < 2 || string.ptr[0] != '"' || string.ptr[string.len - 1] != '"') {
    return false;
  }
  reader json = {string.ptr + 1, string.ptr + string.len - 1};
  decoded->ptr = malloc(string.len);
  uint8_t *to = decoded->ptr;
  while (json.at < json.end) {
    uint8_t character = *json.at++;
    if (character != '\\') {
      *to++ = character;
      continue;
    }
    if (json.at == json.end) {
      return false;
    }
    uint32_t escaped;
    switch (*json.at++) {
    case '"': escaped = '"'; break;
    case '\\': escaped = '\\'; break;
    case '/': escaped = '/'; break;
    case 'b': escaped = '\b'; break;
    case 'f': escaped = '\f'; break;
    case 'n': escaped = '\n'; break;
    case 'r': escaped = '\r'; break;
    case 't': escaped = '\t'; break;
    case 'u':
      if (!take_escaped_character(&json, &escaped)) {
        return false;
      }
      break;
    default: return false;
    }
    to = write_character(to, escaped);
  }
  decoded->len = (size_t)(to - decoded->ptr);
  return true;
}

// One step of a pointer, up to the next `/`, with `~1` and `~0` undone.
static hookloom_text take_step(const char **pointer) {
  const char *from = *pointer;
  hookloom_text step = {malloc(strlen(from)), 0};
  while (*from != 0 && *from != '/') {
    char character = *from++;
    if (character == '~' && (*from == '0' || *from == '1')) {
      character = *from++ == '1' ? '/' : '~';
    }
    step.ptr[step.len++] = (uint8_t)character;
  }
  *pointer = from;
  return step;
}

static bool has_escape(hookloom_text string) {
  for (size_t index = 0; index < string.len; index++) {
    if (string.ptr[index] == '\\') {
      return true;
    }
  }
  return false;
}

hookloom_members hookloom_members_of(hookloom_text object) {
  reader json = {object.ptr, object.ptr + object.len};
  bool is_object = take(&json, '{');
  return (hookloom_members){.at = is_object ? json.at : json.end, .end = json.end};
}

bool hookloom_next_member(hookloom_members *members, hookloom_text *name, hookloom_text *value) {
  reader json = {members->at, members->end};
  hookloom_text key = take_value(&json);
  if (key.len < 2 || key.ptr[0] != '"' || !take(&json, ':')) {
    return false;
  }
  *name = (hookloom_text){key.ptr + 1, key.len - 2};
  if (has_escape(key) && !decode(key, name)) {
    return false;
  }
  *value = take_value(&json);
  take(&json, ',');
  members->at = json.at;
  return true;
}

// The last member of that name, as most parsers have it.
static bool find_member(hookloom_text object, hookloom_text name, hookloom_text *value) {
  hookloom_members members = hookloom_members_of(object);
  hookloom_text found_name, found_value;
  bool found = false;
  while (hookloom_next_member(&members, &found_name, &found_value)) {
    if (hookloom_same(found_name, name)) {
      *value = found_value;
      found = true;
    }
  }
  return found;
}

// An index has no leading zeros (RFC 6901 §4). No input has so many elements that theirs needs more than nine digits, and with them
// a position could wrap around.
static bool find_element(reader json, hookloom_text index, hookloom_text *value) {
  if (index.len == 0 || index.len > 9 || (index.len > 1 && index.ptr[0] == '0')) {
    return false;
  }
  size_t position = 0;
  for (size_t at = 0; at < index.len; at++) {
    if (index.ptr[at] < '0' || index.ptr[at] > '9') {
      return false;
    }
    position = position * 10 + (index.ptr[at] - '0');
  }
  for (size_t at = 0;; at++) {
    *value = take_value(&json);
    if (value->len == 0) {
      return false;
    }
    if (at == position) {
      return true;
    }
    if (!take(&json, ',')) {
      return false;
    }
  }
  return false;
}

bool hookloom_find(hookloom_text json, const char *pointer, hookloom_text *value) {
  reader whole = {json.ptr, json.ptr + json.len};
  *value = take_value(&whole);
  while (*pointer == '/') {
    pointer++;
    hookloom_text step = take_step(&pointer);
    reader elements = {value->ptr, value->ptr + value->len};
    bool found = take(&elements, '[') ? find_element(elements, step, value) : find_member(*value, step, value);
    if (!found) {
      return false;
    }
  }
  return value->len > 0;
}

bool hookloom_find_string(hookloom_text json, const char *pointer, hookloom_text *string) {
  hookloom_text value;
  return hookloom_find(json, pointer, &value) && decode(value, string);
}

// Makes room for more bytes, and returns where they go.
static uint8_t *extend(hookloom_writer *writer, size_t bytes) {
  size_t length = writer->text.len + bytes;
  if (length > writer->capacity) {
    writer->capacity = length < 128 ? 256 : length * 2;
    writer->text.ptr = realloc(writer->text.ptr, writer->capacity);
  }
  uint8_t *to = writer->text.ptr + writer->text.len;
  writer->text.len = length;
  return to;
}

void hookloom_write_text(hookloom_writer *writer, hookloom_text text) {
  memcpy(extend(writer, text.len), text.ptr, text.len);
}

void hookloom_write(hookloom_writer *writer, const char *characters) {
  hookloom_write_text(writer, hookloom_literal(characters));
}

void hookloom_write_string(hookloom_writer *writer, hookloom_text text) {
  static const char digits[] = "0123456789abcdef";
  *extend(writer, 1) = '"';
  for (size_t index = 0; index < text.len; index++) {
    uint8_t character = text.ptr[index];
    if (character == '"' || character == '\\') {
      uint8_t *to = extend(writer, 2);
      to[0] = '\\';
      to[1] = character;
    } else if (character < ' ') {
      uint8_t *to = extend(writer, 6);
      memcpy(to, "\\u00", 4);
      to[4] = (uint8_t)digits[character >> 4];
      to[5] = (uint8_t)digits[character & 15];
    } else {
      *extend(writer, 1) = character;
    }
  }
  *extend(writer, 1) = '"';
}
