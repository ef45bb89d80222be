// Drives every resource that Svix's JavaScript client has and the document lists, against the gateway that the environment
// names. Called by `tests/tests/clients.rs`. Ends with 0 if all of it held.

import assert from "node:assert/strict";
import { Svix } from "svix";

const { SVIX_SERVER_URL: serverUrl, SVIX_TOKEN: token, RECEIVER_URL: receiver } = process.env;
const svix = new Svix(token, { serverUrl });

async function refused(status, code, call) {
  const error = await call().then(() => assert.fail(`not refused with ${status}`), (error) => error);
  assert.equal(error.code, status, error);
  if (code) assert.equal(error.body.code, code);
}

async function until(look) {
  // The gateway delivers beside us; each look is a request of its own.
  const end = Date.now() + 60_000;
  while (Date.now() < end) {
    const found = await look();
    if (found) return found;
  }
  assert.fail("it did not come about within a minute");
}

await svix.health.get();

const app = await svix.application.create({ name: "One", uid: "js-1" });
assert.equal((await svix.application.getOrCreate({ name: "Other", uid: "js-1" })).id, app.id);
assert.equal((await svix.application.get("js-1")).id, app.id);
assert.equal((await svix.application.patch("js-1", { name: "Renamed" })).name, "Renamed");
assert.ok((await svix.application.list({ limit: 1 })).iterator);
await refused(409, "conflict", () => svix.application.create({ name: "Two", uid: "js-1" }));
await refused(404, "not_found", () => svix.application.get("nobody"));

const schemas = { 1: { type: "object", examples: [{ n: 1 }] } };
await svix.eventType.create({ name: "js.made", description: "Made", schemas });
assert.equal((await svix.eventType.get("js.made")).description, "Made");
assert.equal((await svix.eventType.patch("js.made", { deprecated: true })).deprecated, true);
assert.ok((await svix.eventType.list({ withContent: true })).data.some((row) => row.name === "js.made"));

const endpointIn = { url: `${receiver}/ok`, uid: "ep-js", eventTypes: ["js.made"], channels: ["c1"] };
const endpoint = await svix.endpoint.create("js-1", endpointIn, { idempotencyKey: "js-endpoint" });
const repeated = await svix.endpoint.create("js-1", endpointIn, { idempotencyKey: "js-endpoint" });
assert.deepEqual(repeated, endpoint);
assert.equal((await svix.endpoint.get("js-1", "ep-js")).id, endpoint.id);
assert.equal((await svix.endpoint.patch("js-1", "ep-js", { description: "d" })).description, "d");
assert.equal((await svix.endpoint.list("js-1")).data.length, 1);
await svix.endpoint.patchHeaders("js-1", "ep-js", { headers: { "X-A": "1" } });
assert.deepEqual((await svix.endpoint.getHeaders("js-1", "ep-js")).headers, { "X-A": "1" });
await svix.endpoint.rotateSecret("js-1", "ep-js", {});
assert.match((await svix.endpoint.getSecret("js-1", "ep-js")).key, /^whsec_/);
await refused(422, undefined, () => svix.endpoint.create("js-1", { url: "nonsense" }));

const message = await svix.message.create("js-1", { eventType: "js.made", eventId: "o-1", payload: { n: 1 } });
await refused(409, "event_exists", () => svix.message.create("js-1", { eventType: "js.made", eventId: "o-1", payload: {} }));
assert.deepEqual((await svix.message.get("js-1", "o-1", { withContent: true })).payload, { n: 1 });
assert.equal((await svix.message.list("js-1", { eventTypes: ["js.made"], before: new Date(Date.now() + 60_000) })).data.length, 1);
const attempt = await until(async () => (await svix.messageAttempt.listByMsg("js-1", message.id)).data[0]);
assert.equal(attempt.responseStatusCode, 200);
assert.equal((await svix.messageAttempt.get("js-1", message.id, attempt.id)).id, attempt.id);
assert.equal((await svix.messageAttempt.listByEndpoint("js-1", endpoint.id, { status: 0 })).data.length, 1);
assert.equal((await svix.messageAttempt.listAttemptedMessages("js-1", endpoint.id)).data[0].id, message.id);
assert.equal((await svix.messageAttempt.listAttemptedDestinations("js-1", message.id)).data[0].id, endpoint.id);
await svix.messageAttempt.resend("js-1", message.id, endpoint.id);
await until(async () => (await svix.messageAttempt.listByMsg("js-1", message.id)).data.length === 2);
await svix.messageAttempt.expungeContent("js-1", message.id, attempt.id);
assert.equal((await svix.endpoint.getStats("js-1", endpoint.id)).success, 1);
assert.deepEqual((await svix.endpoint.sendExample("js-1", endpoint.id, { eventType: "js.made" })).payload, { n: 1 });
assert.equal((await svix.endpoint.recover("js-1", endpoint.id, { since: new Date(0) })).task, "endpoint.recover");
await svix.message.expungeContent("js-1", message.id);
assert.deepEqual((await svix.message.get("js-1", message.id, { withContent: true })).payload, { expired: true });

const access = await svix.authentication.appPortalAccess("js-1", {});
const portal = new Svix(access.token, { serverUrl });
assert.equal((await portal.application.get(app.id)).id, app.id);
await portal.authentication.logout();
await refused(401, "authentication_failed", () => portal.application.get(app.id));

await svix.endpoint.delete("js-1", "ep-js");
await svix.eventType.delete("js.made");
await svix.application.delete("js-1");
console.log("all of it held");
