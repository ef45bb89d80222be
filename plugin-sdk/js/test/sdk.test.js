// The SDK as an author's own tests use it, and its joint with the contract, with a host of the test's own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { defineMapper, defineReshaper, dropped, InvalidPayload, replaced, replacedText, rulesFor, unchanged } from "../index.js";
import { place, table } from "../lines.js";

const clock = Date.now;
const log = console.log;
const { component } = await import("../component.js");

const LINES = [["src/plugin.js"], [0, [0, 7]]];
const MESSAGE = { id: "msg_1", eventType: "message.inbound", createdAt: "2026-01-01T00:00:00.000Z", origin: "human", channels: [], payload: '{"name":"Ann"}' };
const EVENT = { id: "evt_1", source: { id: "src_1", name: "shop", profile: "standard" }, receivedAt: "2026-01-01T00:00:00.000Z", headers: [], payload: '{"type":"paid"}' };

function host(settings = "{}") {
  const lines = [];
  return { lines, settings: () => settings, log: (level, line) => lines.push([level, line]) };
}

function reshape(plugin, settings) {
  return component(defineReshaper(plugin), host(settings), LINES).reshaping.reshape(MESSAGE);
}

function map(plugin) {
  return component(defineMapper(plugin), host(), LINES).mapping.map(EVENT, [{ key: "thanks", name: "Thanks", trigger: "paid" }]);
}

function thrown(run) {
  try {
    run();
  } catch (error) {
    return error;
  }
  return assert.fail("nothing was thrown");
}

test("a reshaper gets the payload parsed, and its settings", () => {
  const plugin = ({ payload, eventType }, { settings }) => replaced({ hello: payload.name, eventType, type: settings.type });
  assert.deepEqual(reshape(plugin, '{"type":"note"}'), { tag: "replaced", val: '{"hello":"Ann","eventType":"message.inbound","type":"note"}' });
});

test("what becomes of a message is said in one of four ways", () => {
  assert.deepEqual(reshape(() => unchanged()), { tag: "unchanged" });
  assert.deepEqual(reshape(() => dropped("internal")), { tag: "dropped", val: "internal" });
  assert.deepEqual(reshape((message) => replacedText(message.payloadText)), { tag: "replaced", val: '{"name":"Ann"}' });
  assert.match(thrown(() => reshape(() => ({ name: "Ann" }))).val, /return unchanged\(\), replaced\(body\) or dropped\(reason\)/);
  assert.match(thrown(() => reshape(() => replaced("text"))).val, /replaced\(\) takes an object, not "text"/);
});

test("a mapper's matches have a contact without empty fields, and variables", () => {
  const plugin = ({ payload }, rules) => rulesFor(rules, payload.type).map(({ key }) => ({ rule: key, contact: { name: "Ann", phone: null, email: "" }, variables: { total: 5 } }));
  const contact = { id: undefined, name: "Ann", phone: undefined, email: undefined };
  assert.deepEqual(map(plugin), [{ rule: "thanks", contact, variables: '{"total":5}' }]);
  assert.deepEqual(map(() => [{ rule: "thanks" }])[0].variables, "{}");
  assert.match(thrown(() => map(() => undefined)).val, /return an array of matches/);
  assert.match(thrown(() => map(() => [{}])).val, /a match needs the key of its rule/);
});

test("a payload is the sender's fault only where the plugin says so", () => {
  const invalid = () => { throw new InvalidPayload("missing field `name`"); };
  assert.deepEqual(thrown(() => reshape(invalid)), { tag: "invalid-payload", val: "missing field `name`" });
  assert.deepEqual(thrown(() => reshape(() => { throw "a word"; })), { tag: "broken", val: "thrown: a word" });
  assert.equal(thrown(() => reshape(({ payload }) => payload.contact.name)).tag, "broken");
});

test("a call has neither clock nor randomness, and a log instead of a terminal", () => {
  assert.notEqual(Date.now, clock);
  assert.notEqual(console.log, log);
  for (const [run, what] of [[() => Date.now(), "clock"], [() => new Date(), "clock"], [() => Math.random(), "randomness"]]) {
    assert.throws(run, new RegExp(`a plugin has no ${what}`));
  }
  assert.equal(new Date("2026-01-01T00:00:00.000Z").getUTCFullYear(), 2026);
  const gateway = host();
  const plugin = defineReshaper(() => { console.warn("odd:", { a: 1 }, new TypeError("x")); return unchanged(); });
  component(plugin, gateway, LINES).reshaping.reshape(MESSAGE);
  assert.deepEqual(gateway.lines, [["warn", 'odd: {"a":1} TypeError: x']]);
});

test("what has no form in JSON can be logged and thrown", () => {
  const itself = {};
  itself.itself = itself;
  const bare = Object.assign(Object.create(null), { count: 10n });
  const odd = Object.defineProperty(new Error(), "message", { get: () => { throw new Error("never"); } });
  const gateway = host();
  const plugin = defineReshaper(() => { console.log(10n, itself, undefined, bare, odd); return unchanged(); });
  component(plugin, gateway, LINES).reshaping.reshape(MESSAGE);
  assert.deepEqual(gateway.lines, [["info", "10 [object Object] undefined [object] [object]"]]);
  assert.deepEqual(thrown(() => reshape(() => { throw bare; })), { tag: "broken", val: "thrown: [object]" });
  assert.deepEqual(thrown(() => reshape(() => { throw 10n; })), { tag: "broken", val: "thrown: 10" });
});

test("what a cut leaves of a surrogate pair ends no call", () => {
  const half = "Hi 😀".slice(0, 4);
  const gateway = host();
  const plugin = defineReshaper(() => { console.log(half, "😀"); return dropped(half); });
  const answer = component(plugin, gateway, LINES).reshaping.reshape(MESSAGE);
  assert.deepEqual([gateway.lines, answer.val], [[["info", "Hi \ufffd 😀"]], "Hi \ufffd"]);
  for (const fault of [new InvalidPayload(half), new Error(half), half]) {
    assert.match(thrown(() => reshape(() => { throw fault; })).val, /Hi \ufffd/);
  }
  const plain = map((_, rules) => [{ rule: rules[0].key, contact: { name: half } }]);
  assert.equal(plain[0].contact.name, "Hi \ufffd");
});

test("a place in the bundle is told as the author's file and line", () => {
  // Line 1 is of the SDK, lines 2 and 3 are lines 7 and 9 of the plugin.
  const map = { sources: ["sdk.js", "src/plugin.js"], mappings: "AAAA;ACMA,EAAE;AAEF" };
  const lines = table(map, (source) => source === "src/plugin.js");
  assert.deepEqual(lines, [map.sources, [0, [1, 7], [1, 9]]]);
  assert.equal(place("    at read (bundle:1:5)\n    at reshape (bundle:3:9)\n", lines), " at src/plugin.js:9");
  assert.equal(place(undefined, lines), "");
});
