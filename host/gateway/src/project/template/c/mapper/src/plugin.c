// Every rule that waits for the payload's event type matches.
#include <hookloom.h>

// A field of the contact, if the payload tells it.
static hookloom_optional_text told(hookloom_text payload, const char *pointer) {
  hookloom_text field;
  bool is_told = hookloom_find_string(payload, pointer, &field) && field.len > 0;
  return is_told ? hookloom_some(field) : (hookloom_optional_text){0};
}

static bool is_of_the_contact(hookloom_text name) {
  return hookloom_equal(name, "event_type") || hookloom_equal(name, "name") || hookloom_equal(name, "phone") ||
         hookloom_equal(name, "email");
}

// All else, as an object.
static hookloom_text details(hookloom_text payload) {
  hookloom_members members = hookloom_members_of(payload);
  hookloom_text name, value;
  hookloom_writer object = {0};
  const char *before = "{";
  while (hookloom_next_member(&members, &name, &value)) {
    if (!is_of_the_contact(name)) {
      hookloom_write(&object, before);
      hookloom_write_string(&object, name);
      hookloom_write(&object, ":");
      hookloom_write_text(&object, value);
      before = ",";
    }
  }
  hookloom_write(&object, object.text.len == 0 ? "{}" : "}");
  return object.text;
}

hookloom_result hookloom_map(const hookloom_event *event, const hookloom_rules *rules) {
  hookloom_text type;
  if (!hookloom_find_string(event->payload, "/event_type", &type)) {
    return hookloom_invalid_payload("missing field `event_type`");
  }
  hookloom_matches matches = {0};
  for (size_t index = 0; index < rules->len; index++) {
    hookloom_rule rule = rules->ptr[index];
    if (hookloom_same(rule.trigger, type)) {
      hookloom_match *match = hookloom_add_match(&matches, rule.key);
      match->contact.name = told(event->payload, "/name");
      match->contact.phone = told(event->payload, "/phone");
      match->contact.email = told(event->payload, "/email");
      match->variables = details(event->payload);
    }
  }
  return hookloom_mapped(matches);
}
