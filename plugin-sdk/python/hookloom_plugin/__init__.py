"""Hookloom plugins in Python: a function over a message or an event becomes a WebAssembly component.

A plugin's module is ``plugin.py``, and has one function under ``@reshaper`` or ``@mapper``. ``hookloom plugin build`` makes a
component of it. Nothing in here touches the gateway, so the function is an ordinary one, under any test runner.

What holds for every call: it is a pure function of its arguments; there is no clock, no randomness, no file and no network; nothing
is kept from one call to the next. What is done at import is done once, when the component is built.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar

__all__ = [
    "Contact",
    "Context",
    "Dropped",
    "Event",
    "Header",
    "InvalidPayload",
    "Message",
    "Origin",
    "Replaced",
    "ReplacedText",
    "Reshaped",
    "Rule",
    "RuleMatch",
    "Source",
    "Unchanged",
    "mapper",
    "reshaper",
    "rules_for",
]

Origin = Literal["human", "bot", "ai", "automation", "system"]
"""Who wrote a message."""


class InvalidPayload(Exception):
    """The payload is invalid or not meant for this plugin: the sender's fault. Any other exception is the author's."""


@dataclass(frozen=True)
class Context:
    """What a call has besides its argument."""

    settings: Any = field(default_factory=dict)
    """The settings of this version, ``{}`` where there are none."""


@dataclass(frozen=True)
class Message:
    """One outbound message, before it is signed and delivered."""

    payload_text: str
    """What would be delivered without a plugin: a JSON object, as text."""
    event_type: str = "message.inbound"
    """For example ``message.inbound``."""
    id: str = "msg_test"
    created_at: str = "2026-01-01T00:00:00.000Z"
    """When it was published: UTC as RFC 3339 with milliseconds."""
    origin: Origin = "system"
    medium: str | None = None
    """How it travelled, for example ``sms`` or ``textchat``, where the platform says so."""
    channels: Sequence[str] = ()
    """The channels that it was published to; empty means all."""

    @cached_property
    def payload(self) -> Any:
        """The payload, parsed when it is first looked at."""
        return json.loads(self.payload_text)


@dataclass(frozen=True)
class Unchanged:
    """Deliver the message as it is."""


@dataclass(frozen=True)
class Replaced:
    """Deliver this object instead."""

    body: Mapping[str, Any]


@dataclass(frozen=True)
class ReplacedText:
    """Deliver this JSON text instead, byte for byte."""

    text: str


@dataclass(frozen=True)
class Dropped:
    """Don't deliver the message; the text says why, for the tenant's eyes."""

    reason: str


Reshaped = Unchanged | Replaced | ReplacedText | Dropped
"""What becomes of a message."""


@dataclass(frozen=True)
class Header:
    """One HTTP header of the sender's request; one that came several times is several."""

    name: str
    """In lower case."""
    value: str


@dataclass(frozen=True)
class Source:
    """The inbound connection at which an event arrived."""

    id: str = "src_test"
    name: str = "test"
    profile: str = "standard"
    """The webhook system that it follows."""


@dataclass(frozen=True)
class Event:
    """One accepted request to a source."""

    payload_text: str
    """The body as it was sent: a JSON object or array, as text."""
    id: str = "evt_test"
    source: Source = Source()
    received_at: str = "2026-01-01T00:00:00.000Z"
    """When it was accepted: UTC as RFC 3339 with milliseconds."""
    headers: Sequence[Header] = ()
    """The headers that the source is configured to hand on; never a credential."""

    @cached_property
    def payload(self) -> Any:
        """The payload, parsed when it is first looked at."""
        return json.loads(self.payload_text)


@dataclass(frozen=True)
class Rule:
    """An enabled automation rule of the tenant."""

    key: str
    """What a match names; unique within the tenant."""
    name: str
    trigger: str
    """The event type that the rule waits for, for example ``job_completed``."""


@dataclass(frozen=True)
class Contact:
    """The person whom an event is about. Leave out what the payload doesn't tell."""

    id: str | None = None
    """The sender's own id for the person."""
    name: str | None = None
    phone: str | None = None
    """Best in E.164 (``+18883213212``); the gateway checks it where a rule needs one."""
    email: str | None = None


@dataclass(frozen=True)
class RuleMatch:
    """One rule that an event matches, and what its message is about."""

    rule: str
    """The key of a rule."""
    contact: Contact = Contact()
    variables: Mapping[str, Any] = field(default_factory=dict)
    """What the rule's condition and message may use."""


Reshape = Callable[[Message, Context], Reshaped]
Map = Callable[[Event, Sequence[Rule], Context], "list[RuleMatch]"]

_Reshape = TypeVar("_Reshape", bound=Reshape)
_Map = TypeVar("_Map", bound=Map)

_plugin: dict[str, Callable[..., Any]] = {}
"""What the decorators found; ``component.py`` calls it."""


def reshaper(function: _Reshape) -> _Reshape:
    """Makes a function the plugin's: it reshapes outbound messages."""
    _plugin["reshaper"] = function
    return function


def mapper(function: _Map) -> _Map:
    """Makes a function the plugin's: it maps inbound events to the tenant's rules."""
    _plugin["mapper"] = function
    return function


def rules_for(rules: Iterable[Rule], trigger: str) -> list[Rule]:
    """The rules that wait for an event type."""
    return [rule for rule in rules if rule.trigger == trigger]
