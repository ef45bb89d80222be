import assert from "node:assert/strict";
import { test } from "node:test";
import { replaced } from "@hookloom/plugin";
import plugin from "../src/plugin.js";

const reshape = (payload) => plugin.reshape({ eventType: "message.inbound", payload }, { settings: {} });

test("a chat message becomes one line", () => {
  assert.deepEqual(reshape({ name: "Ada", message: "Hi" }), replaced({ text: "Ada: Hi" }));
});

test("a message without a name is refused", () => {
  assert.throws(() => reshape({ message: "Hi" }), { name: "InvalidPayload" });
});
