"""Every rule that waits for the payload's event type matches."""

from collections.abc import Sequence

from hookloom_plugin import Contact, Context, Event, InvalidPayload, Rule, RuleMatch, mapper, rules_for

# All else becomes the variables.
NO_VARIABLES = {"event_type", "name", "phone", "email"}


@mapper
def matches(event: Event, rules: Sequence[Rule], context: Context) -> list[RuleMatch]:
    payload = event.payload
    match payload:
        case {"event_type": str(event_type)}:
            contact = Contact(name=payload.get("name"), phone=payload.get("phone"), email=payload.get("email"))
            details = {name: value for name, value in payload.items() if name not in NO_VARIABLES}
            return [RuleMatch(rule.key, contact, details) for rule in rules_for(rules, event_type)]
    raise InvalidPayload("missing field `event_type`")
