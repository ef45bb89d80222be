// Joins the plugin's function with the generated bindings.
#include "hookloom.h"
#include <stdlib.h>
#include <string.h>

hookloom_text hookloom_literal(const char *text) {
  return (hookloom_text){(uint8_t *)text, strlen(text)};
}

hookloom_optional_text hookloom_some(hookloom_text text) {
  return (hookloom_optional_text){true, text};
}

bool hookloom_same(hookloom_text text, hookloom_text other) {
  return text.len == other.len && memcmp(text.ptr, other.ptr, text.len) == 0;
}

bool hookloom_equal(hookloom_text text, const char *literal) {
  return hookloom_same(text, hookloom_literal(literal));
}

hookloom_text hookloom_settings(void) {
  hookloom_text settings;
  hookloom_plugin_host_settings(&settings);
  return settings;
}

void hookloom_log(hookloom_plugin_host_level_t level, const char *line) {
  hookloom_text text = hookloom_literal(line);
  hookloom_plugin_host_log(level, &text);
}

hookloom_result hookloom_invalid_payload(const char *what) {
  hookloom_result result = {.is_err = true};
  result.val.err.tag = HOOKLOOM_PLUGIN_TYPES_FAILURE_INVALID_PAYLOAD;
  result.val.err.val.invalid_payload = hookloom_literal(what);
  return result;
}

hookloom_result hookloom_broken(const char *what) {
  hookloom_result result = {.is_err = true};
  result.val.err.tag = HOOKLOOM_PLUGIN_TYPES_FAILURE_BROKEN;
  result.val.err.val.broken = hookloom_literal(what);
  return result;
}

#ifdef HOOKLOOM_MAPPER

hookloom_match *hookloom_add_match(hookloom_matches *matches, hookloom_text rule) {
  matches->ptr = realloc(matches->ptr, (matches->len + 1) * sizeof(hookloom_match));
  hookloom_match *match = &matches->ptr[matches->len++];
  *match = (hookloom_match){.rule = rule, .variables = hookloom_literal("{}")};
  return match;
}

hookloom_result hookloom_mapped(hookloom_matches matches) {
  hookloom_result result = {.is_err = false};
  result.val.ok = matches;
  return result;
}

bool exports_hookloom_plugin_mapping_map(hookloom_event *event, hookloom_rules *rules, hookloom_matches *matches,
                                         exports_hookloom_plugin_mapping_failure_t *failure) {
  hookloom_result result = hookloom_map(event, rules);
  if (result.is_err) {
    *failure = result.val.err;
  } else {
    *matches = result.val.ok;
  }
  return !result.is_err;
}

#else

hookloom_result hookloom_unchanged(void) {
  hookloom_result result = {.is_err = false};
  result.val.ok.tag = HOOKLOOM_PLUGIN_TYPES_RESHAPED_UNCHANGED;
  return result;
}

hookloom_result hookloom_replaced(hookloom_text body) {
  hookloom_result result = {.is_err = false};
  result.val.ok.tag = HOOKLOOM_PLUGIN_TYPES_RESHAPED_REPLACED;
  result.val.ok.val.replaced = body;
  return result;
}

hookloom_result hookloom_dropped(const char *why) {
  hookloom_result result = {.is_err = false};
  result.val.ok.tag = HOOKLOOM_PLUGIN_TYPES_RESHAPED_DROPPED;
  result.val.ok.val.dropped = hookloom_literal(why);
  return result;
}

bool exports_hookloom_plugin_reshaping_reshape(hookloom_message *message,
                                               exports_hookloom_plugin_reshaping_reshaped_t *reshaped,
                                               exports_hookloom_plugin_reshaping_failure_t *failure) {
  hookloom_result result = hookloom_reshape(message);
  if (result.is_err) {
    *failure = result.val.err;
  } else {
    *reshaped = result.val.ok;
  }
  return !result.is_err;
}

#endif

// The bindings ask for the object file that would hold the component's type; `hookloom plugin build` adds that itself.
void __component_type_object_force_link_contract(void) {
}
