// The page behind a portal link: a tenant's people look after their endpoints and see what was delivered. It asks the same API as
// everybody else, with the link's token, which never leaves this tab but for that. Whatever comes from the API is shown as text.
"use strict";

(() => {
  const PAGE_ROWS = 50;
  const byId = (id) => document.getElementById(id);

  /** What the link carries, from its fragment or, after a reload, from this tab. */
  function access() {
    const link = new URLSearchParams(location.hash.slice(1));
    for (const name of ["token", "app"]) {
      if (link.has(name)) sessionStorage.setItem(name, link.get(name));
    }
    // Neither a bookmark nor a picture of the screen is to hold the token.
    if (location.hash) history.replaceState(null, "", location.pathname + location.search);
    return { token: sessionStorage.getItem("token"), app: sessionStorage.getItem("app") };
  }

  const { token, app } = access();

  /** Asks the API; throws what a person can act on. */
  async function ask(method, path, body) {
    const headers = { authorization: `Bearer ${token}` };
    if (body !== undefined) headers["content-type"] = "application/json";
    const response = await fetch(`api/v1/${path}`, { method, headers, body: body && JSON.stringify(body) });
    const text = await response.text();
    const answer = text ? JSON.parse(text) : null;
    if (response.ok) return answer;
    if (response.status === 401) throw new Error("This link is no longer good: ask for a new one.");
    if (response.status === 403) throw new Error("Your role may not see or do this.");
    const detail = answer?.detail;
    throw new Error(Array.isArray(detail) ? detail.map(objection).join("; ") : (detail ?? `The answer was ${response.status}.`));
  }

  const objection = (item) => `${item.loc.slice(1).join(".")}: ${item.msg}`;
  const ofApp = (path) => `app/${encodeURIComponent(app)}/${path}`;
  const ofEndpoint = (endpoint, path = "") => ofApp(`endpoint/${encodeURIComponent(endpoint.id)}${path}`);

  /** An element; strings among its children become text. */
  function element(tag, properties, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  function say(text, refused = false) {
    byId("notice").textContent = text;
    byId("notice").className = refused ? "refused" : "";
  }

  /** Does something that may be refused, and says so. */
  async function attempt(work) {
    say("");
    try {
      await work();
    } catch (error) {
      say(error.message, true);
    }
  }

  function button(label, work) {
    const made = element("button", { type: "button" }, label);
    made.addEventListener("click", async () => {
      made.disabled = true;
      await attempt(() => work(made));
      made.disabled = false;
    });
    return made;
  }

  /** A button that asks once more before it does something that can't be undone. */
  function twice(label, question, work) {
    let asked = false;
    return button(label, async (made) => {
      made.textContent = asked ? label : question;
      asked = !asked;
      if (!asked) await work();
    });
  }

  /** A list of the API as a table that grows page by page. */
  async function table(path, columns, row) {
    const body = element("tbody");
    const head = element("tr", {}, ...columns.map((column) => element("th", {}, column)));
    const place = element("div", {}, element("table", {}, element("thead", {}, head), body));
    let iterator = null;
    const more = button("More", () => next());
    async function next() {
      const page = await ask("GET", `${path}${path.includes("?") ? "&" : "?"}limit=${PAGE_ROWS}${
        iterator ? `&iterator=${encodeURIComponent(iterator)}` : ""}`);
      iterator = page.iterator;
      body.append(...page.data.map(row));
      if (!body.hasChildNodes() && page.done) place.append(element("p", {}, "There is nothing yet."));
      if (page.done) more.remove();
      else place.append(more);
    }
    await next();
    return place;
  }

  const cell = (...children) => element("td", {}, ...children);
  const status = (row) => element("td", { className: row.statusText }, row.hookloomState ?? row.statusText);

  let views = 0;

  /** Shows what a view comes to, unless another one was opened meanwhile. */
  async function show(make) {
    views += 1;
    const view = views;
    const parts = await make();
    if (view === views) byId("view").replaceChildren(...parts);
  }

  const names = (list) => (list?.length ? list.join(", ") : "all");

  // Endpoints

  const endpoints = () => show(async () => {
    const list = await table(ofApp("endpoint"), ["Address", "Event types", "State", ""], endpointRow);
    return [element("h2", {}, "Endpoints"), creation(), list];
  });

  function creation() {
    const field = (name, label, properties) => element("label", {}, label, element("input", { name, ...properties }));
    const form = element("form", {},
      field("url", "Address", { type: "url", required: true, placeholder: "https://example.com/webhooks" }),
      field("eventTypes", "Event types, separated by commas; none for all", {}),
      field("description", "Description", {}),
      element("button", {}, "Add endpoint"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      attempt(async () => {
        const given = new FormData(form);
        const eventTypes = given.get("eventTypes").split(",").map((name) => name.trim()).filter(Boolean);
        const body = { url: given.get("url"), description: given.get("description") };
        const made = await ask("POST", ofApp("endpoint"), eventTypes.length ? { ...body, eventTypes } : body);
        await endpoints();
        // Where secrets are shown once, this is where.
        say(made.secret ? `Added. Its secret, shown only now: ${made.secret}` : "Added.");
      });
    });
    return form;
  }

  function endpointRow(endpoint) {
    const secret = element("pre", { hidden: true });
    const reveal = (text) => {
      secret.textContent = text;
      secret.hidden = false;
    };
    const change = async () => {
      Object.assign(endpoint, await ask("PATCH", ofEndpoint(endpoint), { disabled: !endpoint.disabled }));
      row.replaceWith(endpointRow(endpoint));
    };
    const row = element("tr", {},
      cell(endpoint.url, endpoint.description ? element("div", {}, endpoint.description) : null, secret),
      cell(names(endpoint.eventTypes ?? endpoint.filterTypes)),
      element("td", { className: endpoint.disabled ? "fail" : "success" }, endpoint.disabled ? "off" : "on"),
      element("td", { className: "actions" },
        button("Deliveries", () => deliveries(endpoint)),
        button(endpoint.disabled ? "Switch on" : "Switch off", change),
        button("Show secret", async () => reveal((await ask("GET", ofEndpoint(endpoint, "/secret"))).key)),
        twice("New secret", "Really a new secret?", async () =>
          reveal((await ask("POST", ofEndpoint(endpoint, "/secret/rotate"), {})).key))));
    return row;
  }

  // Deliveries

  const deliveries = (endpoint) => show(async () => {
    const path = ofEndpoint(endpoint, "/msg?with_content=false");
    const list = await table(path, ["Time", "Event type", "State", ""], (message) => messageRow(message, endpoint));
    return [element("h2", {}, `Deliveries to ${endpoint.url}`), list];
  });

  const messages = () => show(async () => {
    const list = await table(ofApp("msg?with_content=false"), ["Time", "Event type", ""], (message) => messageRow(message));
    return [element("h2", {}, "Messages"), list];
  });

  function messageRow(message, endpoint) {
    return element("tr", {},
      cell(message.timestamp),
      cell(message.eventType),
      endpoint ? status(message) : null,
      element("td", { className: "actions" },
        button("Details", () => details(message)),
        endpoint ? button("Send again", () => again(message, endpoint.id)) : null));
  }

  async function again(message, endpointId) {
    const path = `msg/${encodeURIComponent(message.id)}/endpoint/${encodeURIComponent(endpointId)}/resend`;
    await ask("POST", ofApp(path));
    say("It is sent again.");
  }

  const details = ({ id }) => show(async () => {
    const message = await ask("GET", ofApp(`msg/${encodeURIComponent(id)}`));
    const path = ofApp(`attempt/msg/${encodeURIComponent(id)}`);
    const list = await table(path, ["Time", "Address", "State", "Answer", ""], (attempted) => element("tr", {},
      cell(attempted.timestamp),
      cell(attempted.url),
      status(attempted),
      cell(`${attempted.responseStatusCode || "none"} in ${attempted.responseDurationMs} ms`,
        attempted.response ? element("pre", {}, attempted.response) : null),
      element("td", { className: "actions" }, button("Send again", () => again(message, attempted.endpointId)))));
    return [
      element("h2", {}, `${message.eventType} · ${message.id}`),
      element("pre", {}, JSON.stringify(message.payload, null, 2)),
      element("h2", {}, "Attempts"),
      list,
    ];
  });

  // Event types

  const eventTypes = () => show(async () => {
    const list = await table("event-type?with_content=true", ["Name", "Description"], (type) =>
      element("tr", {}, cell(type.name), cell(type.description)));
    return [element("h2", {}, "Event types"), list];
  });

  async function leave() {
    sessionStorage.clear();
    await ask("POST", "auth/logout");
    byId("views").replaceChildren();
    await show(() => []);
    say("You have left; the link is no longer good.");
  }

  const menu = { Endpoints: endpoints, Messages: messages, "Event types": eventTypes, Leave: leave };

  function open(name) {
    for (const other of byId("views").children) {
      if (other.textContent === name) other.setAttribute("aria-current", "page");
      else other.removeAttribute("aria-current");
    }
    byId("view").replaceChildren();
    return menu[name]();
  }

  if (token && app) {
    byId("views").append(...Object.keys(menu).map((name) => button(name, () => open(name))));
    attempt(() => open("Endpoints"));
  } else {
    say("This page is opened by a link of your platform.", true);
  }
})();
