// The SDK for Hookloom plugins in C: one function over a message or an event becomes a component.
//
// A plugin defines `hookloom_reshape` or `hookloom_map`, as its `plugin.toml` says, and is built with `hookloom plugin build`.
// Every call runs in an instance of its own that ends with the call: nothing is kept, and nothing has to be freed. There is no
// clock, no randomness, no file and no network.
#ifndef HOOKLOOM_H
#define HOOKLOOM_H

#include "contract.h"

// UTF-8 text: `ptr` and `len` in bytes, without a zero at the end.
typedef contract_string_t hookloom_text;

// Text that may be missing: `is_some` and `val`.
typedef contract_option_string_t hookloom_optional_text;

// A literal, or another text that ends in a zero.
hookloom_text hookloom_literal(const char *text);

// A text that is there.
hookloom_optional_text hookloom_some(hookloom_text text);

// Whether two texts have the same bytes.
bool hookloom_same(hookloom_text text, hookloom_text other);

// The same with a literal.
bool hookloom_equal(hookloom_text text, const char *literal);

// What a function returns: what becomes of the message or event, or whose fault it is that nothing does. Made by the functions below.
#ifdef HOOKLOOM_MAPPER
typedef exports_hookloom_plugin_mapping_result_list_rule_match_failure_t hookloom_result;
#else
typedef exports_hookloom_plugin_reshaping_result_reshaped_failure_t hookloom_result;
#endif

// The payload is invalid or not meant for this plugin: the sender's fault. The text says what is wrong with it.
hookloom_result hookloom_invalid_payload(const char *what);

// The plugin is broken, or its settings are: the author's fault. The text says what happened.
hookloom_result hookloom_broken(const char *what);

#ifdef HOOKLOOM_MAPPER

// An inbound event: `id`, `source`, `received_at`, `headers`, and `payload`, which is JSON text.
typedef hookloom_plugin_types_inbound_event_t hookloom_event;

// An enabled rule of the tenant: `key`, `name`, and the `trigger` that it waits for.
typedef hookloom_plugin_types_rule_t hookloom_rule;

// The tenant's enabled rules: `ptr` and `len`.
typedef exports_hookloom_plugin_mapping_list_rule_t hookloom_rules;

// A rule that the event matches: `rule` (its key), `contact` (`id`, `name`, `phone`, `email`), and `variables`, a JSON object.
typedef hookloom_plugin_types_rule_match_t hookloom_match;

// The matches of an event; begins as `{0}`.
typedef exports_hookloom_plugin_mapping_list_rule_match_t hookloom_matches;

// Adds a match without a contact and with no variables, to be filled in. It moves when the next is added.
hookloom_match *hookloom_add_match(hookloom_matches *matches, hookloom_text rule);

// These rules match; none is a result too.
hookloom_result hookloom_mapped(hookloom_matches matches);

// Defined by the plugin.
hookloom_result hookloom_map(const hookloom_event *event, const hookloom_rules *rules);

#else

// An outbound message: `id`, `event_type`, `created_at`, `origin`, `medium`, `channels`, and `payload`, which is JSON text.
typedef hookloom_plugin_types_message_t hookloom_message;

// Deliver the message as it is.
hookloom_result hookloom_unchanged(void);

// Deliver this JSON object instead, byte for byte.
hookloom_result hookloom_replaced(hookloom_text body);

// Don't deliver the message. The text says why, for the tenant's eyes.
hookloom_result hookloom_dropped(const char *why);

// Defined by the plugin.
hookloom_result hookloom_reshape(const hookloom_message *message);

#endif

// The settings of this version: JSON text, `{}` where there are none.
hookloom_text hookloom_settings(void);

// Writes a line into the log of this call. `level` is `HOOKLOOM_PLUGIN_HOST_LEVEL_DEBUG`, `…_INFO`, `…_WARN` or `…_ERROR`.
void hookloom_log(hookloom_plugin_host_level_t level, const char *line);

// Looks for a value by its JSON Pointer (RFC 6901), such as "/contact/phones/0". `value` gets the value's own text, within `json`.
// False where there is none. `json` must be JSON, as payloads and settings are.
bool hookloom_find(hookloom_text json, const char *pointer, hookloom_text *value);

// Looks for a string and undoes its escapes. False where there is none, or another kind of value.
bool hookloom_find_string(hookloom_text json, const char *pointer, hookloom_text *string);

// The members of a JSON object, to go through.
typedef struct {
  const uint8_t *at;
  const uint8_t *end;
} hookloom_members;

// The members of an object; of another value, none.
hookloom_members hookloom_members_of(hookloom_text object);

// Takes the next member: its name without escapes, and its value's own text. False where there is none left.
bool hookloom_next_member(hookloom_members *members, hookloom_text *name, hookloom_text *value);

// A text that grows; begins as `{0}`.
typedef struct {
  hookloom_text text;
  size_t capacity;
} hookloom_writer;

// Writes characters as they are: punctuation and names of a JSON text.
void hookloom_write(hookloom_writer *writer, const char *characters);

// Writes a text as it is, such as a value that `hookloom_find` found.
void hookloom_write_text(hookloom_writer *writer, hookloom_text text);

// Writes a text as a JSON string, with quotes and escapes.
void hookloom_write_string(hookloom_writer *writer, hookloom_text text);

#endif
