// The mapper of a new project, with its types written out.
import { type Contact, defineMapper, InvalidPayload, type RuleMatch, rulesFor } from "@hookloom/plugin";

interface Payload {
  event_type?: string;
  name?: string;
  phone?: string;
  email?: string;
}

export default defineMapper<Payload>((event, rules): RuleMatch[] => {
  const { event_type: type, name, phone, email, ...variables } = event.payload;
  if (type === undefined) {
    throw new InvalidPayload("missing field `event_type`");
  }
  const contact: Contact = { name, phone, email };
  return rulesFor(rules, type).map(({ key }) => ({ rule: key, contact, variables }));
});
