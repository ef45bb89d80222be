// Joins a plugin with the contract (`wit/plugin.wit`). `build.js` puts it in front of the plugin's own modules, so that what it
// changes about the language holds for their first line already.
import { InvalidPayload } from "./index.js";
import { place } from "./lines.js";

/** The gateway's side, once a call runs; while the component is built there is none. */
let gateway;

guard();

/** What the component exports for a plugin: the contract's interfaces, by their names. `host` is the contract's, `lines` the places of `lines.js`. */
export function component(plugin, host, lines) {
  const call = (run) => {
    gateway = host;
    try {
      return run({ settings: JSON.parse(host.settings()) });
    } catch (error) {
      throw failure(error, lines);
    }
  };
  return {
    reshaping: {
      reshape: (message) => call((context) => reshaped(plugin.reshape(withPayload(message), context))),
    },
    mapping: {
      map: (event, rules) => call((context) => matches(plugin.map(withPayload(event), rules, context))),
    },
  };
}

/** The record as authors know it: the payload's text, and the payload, parsed when it is first looked at. */
function withPayload(record) {
  const { payload: payloadText, ...rest } = record;
  let payload;
  return {
    ...rest,
    payloadText,
    get payload() {
      payload ??= JSON.parse(payloadText);
      return payload;
    },
  };
}

function reshaped(result) {
  switch (result?.kind) {
    case "unchanged":
      return { tag: "unchanged" };
    case "replaced":
      return { tag: "replaced", val: String(result.text) };
    case "dropped":
      return { tag: "dropped", val: wellFormed(String(result.reason)) };
    default:
      throw new TypeError("return unchanged(), replaced(body) or dropped(reason)");
  }
}

function matches(result) {
  if (!Array.isArray(result)) {
    throw new TypeError("return an array of matches: { rule, contact, variables }");
  }
  return result.map(({ rule, contact, variables }) => {
    if (typeof rule !== "string") {
      throw new TypeError("a match needs the key of its rule: { rule: \"…\" }");
    }
    const { id, name, phone, email } = contact ?? {};
    return {
      rule,
      contact: { id: told(id), name: told(name), phone: told(phone), email: told(email) },
      variables: JSON.stringify(variables ?? {}),
    };
  });
}

/** A field of a contact: none, or a text. */
function told(value) {
  return value === undefined || value === null || value === "" ? undefined : wellFormed(String(value));
}

/** A text without halves of surrogate pairs, as cutting leaves them: they have no form in the contract, and would end the call as a trap. */
function wellFormed(text) {
  return text.replace(/[\ud800-\udfff]/gu, "\ufffd");
}

function failure(error, lines) {
  if (error instanceof InvalidPayload) {
    return { tag: "invalid-payload", val: wellFormed(error.message) };
  }
  if (!(error instanceof Error)) {
    return { tag: "broken", val: wellFormed(`thrown: ${text(error)}`) };
  }
  return { tag: "broken", val: wellFormed(`${error.name}: ${error.message}${place(error.stack, lines)}`) };
}

/** What a call can't have says so, instead of ending the call without a word; `console` writes into the log of the call. */
function guard() {
  const missing = (what, instead) => () => {
    throw new Error(`a plugin has no ${what}: ${instead}`);
  };
  const clock = missing("clock", "use createdAt of the message, or receivedAt of the event");
  Date.now = clock;
  globalThis.Date = new Proxy(Date, {
    apply: clock,
    construct: (target, values, made) => (values.length === 0 ? clock() : Reflect.construct(target, values, made)),
  });
  Math.random = missing("randomness", "the same input gives the same output");
  globalThis.console = {
    debug: logger("debug"),
    log: logger("info"),
    info: logger("info"),
    warn: logger("warn"),
    error: logger("error"),
  };
}

function logger(level) {
  return (...values) => gateway?.log(level, wellFormed(values.map(text).join(" ")));
}

/** A value in words. Whatever it is: a line of a log must not end the call. */
function text(value) {
  if (typeof value === "string") {
    return value;
  }
  try {
    return value instanceof Error ? `${value.name}: ${value.message}` : (JSON.stringify(value) ?? String(value));
  } catch {
    return plain(value);
  }
}

/** What has no form in JSON, as a BigInt or what holds itself. */
function plain(value) {
  try {
    return String(value);
  } catch {
    // It has no prototype, or one that fails.
    return `[${typeof value}]`;
  }
}
