import assert from "node:assert/strict";
import { test } from "node:test";
import plugin from "../src/plugin.js";

const RULES = [{ key: "thank-you", name: "Thank you", trigger: "job_completed" }];

const map = (payload) => plugin.map({ payload }, RULES, { settings: {} });

test("a rule that waits for the event type matches", () => {
  assert.deepEqual(map({ event_type: "job_completed" }).map(({ rule }) => rule), ["thank-you"]);
  assert.deepEqual(map({ event_type: "truck_washed" }), []);
});

test("a payload without event type is refused", () => {
  assert.throws(() => map({ name: "Ada" }), { name: "InvalidPayload" });
});
