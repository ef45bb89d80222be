// A reshaper: a chat message becomes a note. Everything else, and what it can't read, tells what it is.
import host from "hookloom:plugin/host@1.0.0";

const TYPES = new Set(["message.inbound", "message.outbound"]);

// Counts calls, to show that no state survives one: it is 1 in every call.
let calls = 0;

export const reshaping = {
  reshape(message) {
    calls += 1;
    const settings = JSON.parse(host.settings());
    host.log("debug", `call ${calls} for ${message.eventType}`);
    if (!TYPES.has(message.eventType)) {
      return { tag: "unchanged" };
    }
    const chat = parse(message.payload);
    if (chat.internal === true) {
      return { tag: "dropped", val: "the message is marked as internal" };
    }
    if (typeof chat.message !== "string") {
      throw { tag: "invalid-payload", val: "missing field `message`" };
    }
    const note = {
      type: settings.type ?? "note",
      direction: message.eventType.split(".")[1],
      contact: { name: chat.name, phone: chat.phone },
      body: chat.message,
      calls,
    };
    return { tag: "replaced", val: JSON.stringify(note) };
  },
};

function parse(payload) {
  try {
    return JSON.parse(payload);
  } catch (error) {
    throw { tag: "invalid-payload", val: String(error) };
  }
}
