"""Appointments of two scheduling tools in one form, so that one set of rules serves both.

The one (Calendly's kind) sends ``{"event": "invitee.created", "payload": {…}}`` with times in UTC, the other (Acuity's kind)
``{"action": "scheduled", …}`` with times of the place and a phone number as it was typed.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from hookloom_plugin import Contact, Context, Event, InvalidPayload, Rule, RuleMatch, mapper, rules_for

log = logging.getLogger(__name__)

TRIGGERS = {
    "invitee.created": "appointment_scheduled",
    "invitee.canceled": "appointment_canceled",
    "scheduled": "appointment_scheduled",
    "rescheduled": "appointment_rescheduled",
    "canceled": "appointment_canceled",
}


@dataclass
class Appointment:
    """What both have in common."""

    trigger: str
    id: str
    service: str
    starts: datetime
    contact: Contact


@mapper
def appointments(event: Event, rules: Sequence[Rule], context: Context) -> list[RuleMatch]:
    payload = event.payload
    try:
        appointment = reader_for(payload)(payload, context.settings.get("defaultCountryCode", "1"))
    except KeyError as missing:
        raise InvalidPayload(f"missing field {missing}") from missing
    if appointment is None:
        return []
    starts = appointment.starts.astimezone(timezone.utc)
    received = datetime.fromisoformat(event.received_at)
    variables = {
        "appointment": {"id": appointment.id, "service": appointment.service, "startsAt": f"{starts:%Y-%m-%dT%H:%M:%SZ}"},
        # A plugin has no clock: the time of the event is the only now that it knows.
        "hoursAhead": max(0, int((starts - received).total_seconds() // 3600)),
    }
    return [RuleMatch(rule.key, appointment.contact, variables) for rule in rules_for(rules, appointment.trigger)]


def reader_for(payload: Any) -> Callable[[Mapping[str, Any], str], Appointment | None]:
    match payload:
        case {"event": str(), "payload": dict()}:
            return from_invitee
        case {"action": str(), "id": _}:
            return from_action
    raise InvalidPayload("neither an invitee's event nor an appointment's action")


def from_invitee(payload: Mapping[str, Any], country_code: str) -> Appointment | None:
    trigger = trigger_for(payload["event"])
    if trigger is None:
        return None
    invitee = payload["payload"]
    meeting = invitee["scheduled_event"]
    return Appointment(
        trigger=trigger,
        # The last part of the resource's address.
        id=invitee["uri"].rsplit("/", 1)[-1],
        service=meeting["name"],
        starts=time(meeting["start_time"]),
        contact=Contact(
            name=invitee.get("name"),
            email=invitee.get("email"),
            phone=e164(invitee.get("text_reminder_number"), country_code),
        ),
    )


def from_action(payload: Mapping[str, Any], country_code: str) -> Appointment | None:
    trigger = trigger_for(payload["action"])
    if trigger is None:
        return None
    return Appointment(
        trigger=trigger,
        id=str(payload["id"]),
        service=payload["type"],
        starts=time(payload["datetime"]),
        contact=Contact(
            name=f"{payload.get('firstName', '')} {payload.get('lastName', '')}".strip(),
            email=payload.get("email"),
            phone=e164(payload.get("phone"), country_code),
        ),
    )


def trigger_for(event: str) -> str | None:
    if event not in TRIGGERS:
        log.info("nothing to do for %s", event)
    return TRIGGERS.get(event)


def time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidPayload(f"no time: {text}") from error
    if found.tzinfo is None:
        raise InvalidPayload(f"a time without its distance from UTC: {text}")
    return found


def e164(phone: str | None, country_code: str) -> str | None:
    """A number that begins with `+` is kept; another one is of the country."""
    digits = re.sub(r"\D", "", phone or "")
    if not digits:
        return None
    if phone and phone.strip().startswith("+"):
        return f"+{digits}"
    return f"+{country_code}{digits.removeprefix('0')}"
