// Opens the page behind a portal link in jsdom, against the gateway that the environment names, and uses it as a person would.
// Called by `tests/tests/clients.rs`. Ends with 0 if all of it held.

import assert from "node:assert/strict";
import { JSDOM, VirtualConsole } from "jsdom";
import { Svix } from "svix";

const { SVIX_SERVER_URL: serverUrl, SVIX_TOKEN: operator, RECEIVER_URL: receiver } = process.env;
const svix = new Svix(operator, { serverUrl });
const SCRIPT = "<script>document.title = 'taken over'</script><img src=x onerror=alert(1)>";

/** What the page asked of the API. */
const asked = [];

/** What questions whose path has such a part wait for, and the last answer that had waited, read to its end. */
const held = new Map();
let late = null;

async function open(url) {
  const local = url.replace(/^[^/]*\/\/[^/]*/, serverUrl);
  const page = await fetch(local.split("#")[0]);
  assert.equal(page.status, 200);
  assert.match(page.headers.get("content-security-policy"), /default-src 'none'; script-src 'self'/);
  const virtualConsole = new VirtualConsole();
  virtualConsole.on("jsdomError", (error) => { throw error; });
  return new JSDOM(await page.text(), {
    url: local,
    runScripts: "dangerously",
    resources: "usable",
    virtualConsole,
    beforeParse(window) {
      window.fetch = (path, init) => {
        asked.push(`${init.method} ${path}`);
        const answer = async () => {
          const response = await fetch(new URL(path, window.document.baseURI), init);
          return new Response(response.status === 204 ? null : await response.text(), response);
        };
        const [, gate] = [...held].find(([part]) => path.includes(part)) ?? [];
        return gate ? (late = gate.then(answer)) : answer();
      };
    },
  }).window;
}

/** Waits until a look finds something. */
async function until(look, what) {
  for (const deadline = Date.now() + 60_000; Date.now() < deadline;) {
    const found = await look();
    if (found) return found;
    await new Promise((done) => setTimeout(done, 10));
  }
  throw new Error(`${what} did not come about within a minute`);
}

const text = (window) => window.document.body.textContent;
const buttons = (window, label) => [...window.document.querySelectorAll("button")].filter((it) => it.textContent === label);
const notice = (window) => window.document.getElementById("notice").textContent;
async function press(window, label) {
  (await until(() => buttons(window, label).find((it) => !it.disabled), `the button ${label}`)).click();
}

const app = await svix.application.create({ name: "Acme", uid: "acme" });
await svix.eventType.create({ name: "a.made", description: `Made ${SCRIPT}` });
const link = await svix.authentication.appPortalAccess("acme", {});
const window = await open(link.url);

// The link's token goes out of the address, and nothing is there yet.
await until(() => text(window).includes("There is nothing yet."), "an empty list");
assert.equal(window.location.hash, "");

// An endpoint is refused, added, switched off and on.
const form = () => window.document.querySelector("form");
const fill = (fields) => {
  for (const [name, value] of Object.entries(fields)) form().elements[name].value = value;
  form().dispatchEvent(new window.Event("submit", { cancelable: true }));
};
fill({ url: "ftp://nowhere" });
await until(() => notice(window).startsWith("url:"), "an objection");
fill({ url: `${receiver}/ok`, eventTypes: "a.made, a.gone", description: SCRIPT });
await until(() => text(window).includes(`${receiver}/ok`), "the endpoint");
const endpoints = async () => (await svix.endpoint.list("acme")).data;
assert.deepEqual((await endpoints())[0].eventTypes.sort(), ["a.gone", "a.made"]);
await press(window, "Switch off");
await until(() => buttons(window, "Switch on").length, "it is off");
assert.equal((await endpoints())[0].disabled, true);
await press(window, "Switch on");
await until(() => buttons(window, "Switch off").length, "it is on");
assert.equal((await endpoints())[0].disabled, false);

// Its secret is shown, and replaced when asked twice.
const { id } = (await endpoints())[0];
const first = (await svix.endpoint.getSecret("acme", id)).key;
assert.ok(!text(window).includes(first));
await press(window, "Show secret");
await until(() => text(window).includes(first), "the secret");
await press(window, "New secret");
await press(window, "Really a new secret?");
await until(() => !text(window).includes(first), "another secret");
assert.ok(text(window).includes((await svix.endpoint.getSecret("acme", id)).key));

// What was delivered, with its attempts and answers, and once more.
const message = await svix.message.create("acme", { eventType: "a.made", payload: { said: SCRIPT } });
const attempts = async () => (await svix.messageAttempt.listByMsg("acme", message.id)).data.length;
await until(async () => await attempts() >= 1, "an attempt");
await press(window, "Deliveries");
await press(window, "Details");
await until(() => text(window).includes("200 in "), "the attempt");
assert.ok(text(window).includes("said") && text(window).includes("onerror=alert(1)"), "the payload is shown as text");
await press(window, "Send again");
await until(() => notice(window) === "It is sent again.", "that it is sent again");
await until(async () => await attempts() >= 2, "another attempt");

await press(window, "Messages");
await until(() => text(window).includes("a.made") && buttons(window, "Details").length, "the messages");
await press(window, "Event types");
await until(() => text(window).includes(`Made ${SCRIPT}`), "the event types");
const marked = () => [...window.document.querySelectorAll("[aria-current=page]")].map((it) => it.textContent);
assert.deepEqual(marked(), ["Event types"]);

// A view that answers when another one was opened meanwhile does not take its place.
let answer;
held.set("/msg?", new Promise((done) => { answer = done; }));
await press(window, "Messages");
await press(window, "Event types");
await until(() => text(window).includes(`Made ${SCRIPT}`), "the event types");
answer();
await late;
// What the page does with it takes no further waiting.
await new Promise((done) => setTimeout(done));
assert.ok(text(window).includes(`Made ${SCRIPT}`) && !buttons(window, "Details").length, "the later view stays");
held.clear();

assert.equal(window.document.querySelectorAll("main script, main img").length, 0);
assert.equal(window.document.title, "Webhooks", "nothing that is shown runs");

// A page with another role says what it may not.
const asUser = await fetch(`${serverUrl}/api/v1/auth/app-portal-access/acme`, {
  method: "POST",
  headers: { authorization: `Bearer ${operator}`, "content-type": "application/json" },
  body: JSON.stringify({ role: "user" }),
});
const other = await open((await asUser.json()).url);
await until(() => notice(other) === "Your role may not see or do this.", "a refusal");
await press(other, "Messages");
await until(() => text(other).includes("a.made"), "what a user may see");

// A link that was left is worth nothing.
await press(window, "Leave");
await until(() => notice(window).startsWith("You have left"), "that it is over");
const again = await open(link.url);
await until(() => notice(again).startsWith("This link is no longer good"), "that it is over");

assert.ok(asked.every((it) => /^(GET|POST|PATCH) api\/v1\/(app\/|event-type|auth\/logout)/.test(it)), asked.join("\n"));
await svix.application.delete(app.id);
await svix.eventType.delete("a.made");
for (const page of [window, other, again]) page.close();
console.log("all of it held");
