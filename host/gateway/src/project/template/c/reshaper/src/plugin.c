// A chat message becomes one line of text. Messages of other types go out as they are.
#include <hookloom.h>

hookloom_result hookloom_reshape(const hookloom_message *message) {
  if (!hookloom_equal(message->event_type, "message.inbound")) {
    return hookloom_unchanged();
  }
  hookloom_text name, chat;
  if (!hookloom_find_string(message->payload, "/name", &name) ||
      !hookloom_find_string(message->payload, "/message", &chat)) {
    return hookloom_invalid_payload("a chat message needs `name` and `message`");
  }
  hookloom_writer line = {0};
  hookloom_write_text(&line, name);
  hookloom_write(&line, ": ");
  hookloom_write_text(&line, chat);
  hookloom_writer body = {0};
  hookloom_write(&body, "{\"text\":");
  hookloom_write_string(&body, line.text);
  hookloom_write(&body, "}");
  return hookloom_replaced(body.text);
}
