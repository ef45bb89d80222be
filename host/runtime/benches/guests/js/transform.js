// The work of the benches in JavaScript, which the native engine runs too.
export function transform(event) {
  const data = event.data;
  return {
    id: event.id,
    eventType: event.event,
    contact: { name: data.name, phone: data.phone },
    body: data.message,
    channel: data.source.toLowerCase(),
    received_at: data.createdAt,
    thread: data.customerId,
    business: { id: data.businessId, name: data.businessName },
    attributes: data.attributes,
  };
}
