// The reshaper of a new project, with its types written out.
import { defineReshaper, InvalidPayload, type Message, replaced, type Reshaped, unchanged } from "@hookloom/plugin";

interface Chat {
  name?: string;
  message?: string;
}

function line({ name, message }: Chat): string {
  if (name === undefined || message === undefined) {
    throw new InvalidPayload("a chat message needs `name` and `message`");
  }
  return `${name}: ${message}`;
}

export default defineReshaper((message: Message<Chat>): Reshaped => {
  return message.eventType === "message.inbound" ? replaced({ text: line(message.payload) }) : unchanged();
});
