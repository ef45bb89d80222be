// A shop tells each change of an order's status. The one that means "the customer has it" asks for a review.
import { defineMapper, InvalidPayload, rulesFor } from "@hookloom/plugin";

/**
 * What the shop sends. More fields may come.
 * @typedef {{ id: number | string, number: string, status: string, customer?: Customer, items?: Item[], total?: string, currency?: string }} Order
 * @typedef {{ id?: number | string, first_name?: string, last_name?: string, phone?: string, email?: string }} Customer
 * @typedef {{ name: string, quantity?: number, gift_card?: boolean }} Item
 *
 * Which status makes which rules match: `{ "triggers": { "delivered": "order_delivered" } }`.
 * @typedef {{ triggers?: Record<string, string> }} Settings
 */

const TRIGGERS = { delivered: "order_delivered", picked_up: "order_delivered" };

export default defineMapper((event, rules, context) => {
  /** @type {Settings} */
  const { triggers = TRIGGERS } = context.settings;
  const order = parse(event.payload);
  const trigger = Object.hasOwn(triggers, order.status) ? triggers[/** @type {keyof typeof triggers} */ (order.status)] : undefined;
  if (trigger === undefined) {
    console.debug(`nothing to do for the status ${order.status}`);
    return [];
  }
  // Nobody reviews a gift card.
  const items = (order.items ?? []).filter((item) => !item.gift_card);
  if (items.length === 0) {
    return [];
  }
  const variables = {
    order: { id: String(order.id), number: order.number, total: order.total, currency: order.currency },
    items: summary(items),
    itemCount: items.reduce((count, item) => count + (item.quantity ?? 1), 0),
    firstName: order.customer?.first_name,
  };
  return rulesFor(rules, trigger).map(({ key }) => ({ rule: key, contact: contact(order.customer), variables }));
});

/**
 * @param {any} payload
 * @returns {Order}
 */
function parse(payload) {
  const order = payload.order ?? payload;
  for (const field of ["id", "number", "status"]) {
    if (order[field] === undefined || order[field] === null) {
      throw new InvalidPayload(`missing field \`${field}\` of the order`);
    }
  }
  return order;
}

/** @param {Customer} [customer] */
function contact(customer = {}) {
  const name = [customer.first_name, customer.last_name].filter(Boolean).join(" ");
  const id = customer.id === undefined ? undefined : String(customer.id);
  return { id, name, phone: customer.phone?.replace(/[^\d+]/g, ""), email: customer.email?.toLowerCase() };
}

/**
 * "A lamp", "a lamp and a chair", "a lamp, a chair and 2 more".
 * @param {Item[]} items
 */
function summary(items) {
  const names = items.map((item) => item.name);
  if (names.length > 3) {
    return `${names.slice(0, 2).join(", ")} and ${names.length - 2} more`;
  }
  return [names.slice(0, -1).join(", "), names.at(-1)].filter(Boolean).join(" and ");
}
