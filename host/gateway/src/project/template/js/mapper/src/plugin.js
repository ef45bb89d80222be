// Every rule that waits for the payload's event type matches.
import { defineMapper, InvalidPayload, rulesFor } from "@hookloom/plugin";

/**
 * What the other system sends. More fields may come.
 * @typedef {{ event_type?: string, name?: string, phone?: string, email?: string }} Payload
 */

export default defineMapper((event, rules) => {
  /** @type {Payload} */
  const payload = event.payload;
  const { event_type: type, name, phone, email, ...variables } = payload;
  if (typeof type !== "string") {
    throw new InvalidPayload("missing field `event_type`");
  }
  return rulesFor(rules, type).map(({ key }) => ({ rule: key, contact: { name, phone, email }, variables }));
});
