// A chat message becomes one line of text. Messages of other types go out as they are.
import { defineReshaper, InvalidPayload, replaced, unchanged } from "@hookloom/plugin";

/**
 * What the platform says of a chat message. More fields may come.
 * @typedef {{ name?: string, message?: string }} Chat
 */

export default defineReshaper((message) => {
  if (message.eventType !== "message.inbound") {
    return unchanged();
  }
  /** @type {Chat} */
  const chat = message.payload;
  if (typeof chat.name !== "string" || typeof chat.message !== "string") {
    throw new InvalidPayload("a chat message needs `name` and `message`");
  }
  return replaced({ text: `${chat.name}: ${chat.message}` });
});
