// What a plugin's author uses. Nothing in here touches the gateway, so that a plugin also runs in Node, under any test runner.

/** The payload is invalid or not meant for this plugin: the sender's fault. Anything else that is thrown is the author's. */
export class InvalidPayload extends Error {
  name = "InvalidPayload";
}

/** A plugin that reshapes outbound messages; the module's default export. */
export function defineReshaper(reshape) {
  return { reshape };
}

/** A plugin that maps inbound events to the tenant's rules; the module's default export. */
export function defineMapper(map) {
  return { map };
}

/** Deliver the message as it is. */
export function unchanged() {
  return { kind: "unchanged" };
}

/** Deliver this object instead. */
export function replaced(body) {
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw new TypeError(`replaced() takes an object, not ${JSON.stringify(body)}`);
  }
  return { kind: "replaced", text: JSON.stringify(body) };
}

/** Deliver this JSON text instead, byte for byte: for numbers beyond 2^53, which JavaScript would round. */
export function replacedText(text) {
  return { kind: "replaced", text };
}

/** Don't deliver the message; the text says why, for the tenant's eyes. */
export function dropped(reason) {
  return { kind: "dropped", reason };
}

/** The rules that wait for an event type. */
export function rulesFor(rules, trigger) {
  return rules.filter((rule) => rule.trigger === trigger);
}
