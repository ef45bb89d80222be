// The work of the benches in JavaScript. `transform` is what the native engine runs too.
export function transform(payload) {
  const event = JSON.parse(payload);
  const data = event.data;
  return JSON.stringify({
    id: event.id,
    eventType: event.event,
    contact: { name: data.name, phone: data.phone },
    body: data.message,
    channel: data.source.toLowerCase(),
    received_at: data.createdAt,
    thread: data.customerId,
    business: { id: data.businessId, name: data.businessName },
    attributes: data.attributes,
  });
}

export const reshaping = {
  reshape(message) {
    return { tag: "replaced", val: transform(message.payload) };
  },
};
