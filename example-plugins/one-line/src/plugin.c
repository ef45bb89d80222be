// A chat message becomes `{"text":"NAME: MESSAGE"}`, which chat tools take. What has no text is not sent.
#include <hookloom.h>

hookloom_result hookloom_reshape(const hookloom_message *message) {
  hookloom_text name, chat;
  if (!hookloom_find_string(message->payload, "/message", &chat) || chat.len == 0) {
    return hookloom_dropped("there is no text to send");
  }
  if (!hookloom_find_string(message->payload, "/name", &name)) {
    name = hookloom_literal("unknown");
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
