"""Joins a plugin with the contract (``wit/plugin.wit``). Imported only while a component is built, before the plugin.

``wit_world`` are the bindings that the compiler generates; they are there only then.
"""

from __future__ import annotations

import gc
import json
import logging
import time
import types
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar

import wit_world  # type: ignore[import-not-found]
from componentize_py_types import Err  # type: ignore[import-not-found]
from wit_world.imports import host, types as wit  # type: ignore[import-not-found]

import hookloom_plugin as sdk

Answer = TypeVar("Answer")

LEVELS = (
    (logging.ERROR, host.Level.ERROR),
    (logging.WARNING, host.Level.WARN),
    (logging.INFO, host.Level.INFO),
    (0, host.Level.DEBUG),
)


def reshape(message: wit.Message) -> wit.Reshaped:
    return call(
        "reshaper",
        reshaped,
        sdk.Message(
            payload_text=message.payload,
            event_type=message.event_type,
            id=message.id,
            created_at=message.created_at,
            origin=message.origin.name.lower(),
            medium=message.medium,
            channels=message.channels,
        ),
    )


def reshaped(answer: sdk.Reshaped) -> wit.Reshaped:
    match answer:
        case sdk.Unchanged():
            return wit.Reshaped_Unchanged()
        case sdk.Replaced(body):
            return wit.Reshaped_Replaced(text(body))
        case sdk.ReplacedText(body):
            return wit.Reshaped_Replaced(string(body))
        case sdk.Dropped(reason):
            return wit.Reshaped_Dropped(string(reason))
    raise TypeError("return Unchanged(), Replaced(body), ReplacedText(text) or Dropped(reason)")


def map_event(event: wit.InboundEvent, rules: list[wit.Rule]) -> list[wit.RuleMatch]:
    source = event.source
    return call(
        "mapper",
        matches,
        sdk.Event(
            payload_text=event.payload,
            id=event.id,
            source=sdk.Source(source.id, source.name, source.profile),
            received_at=event.received_at,
            headers=[sdk.Header(header.name, header.value) for header in event.headers],
        ),
        [sdk.Rule(rule.key, rule.name, rule.trigger) for rule in rules],
    )


def matches(answer: Iterable[sdk.RuleMatch]) -> list[wit.RuleMatch]:
    if not isinstance(answer, Iterable):
        raise TypeError(f"return a list of RuleMatch, not {answer!r}")
    return [rule_match(match) for match in answer]


def rule_match(match: sdk.RuleMatch) -> wit.RuleMatch:
    if not isinstance(match, sdk.RuleMatch):
        raise TypeError(f"return a list of RuleMatch, not of {match!r}")
    return wit.RuleMatch(string(match.rule), contact(match.contact), text(match.variables))


def contact(contact: sdk.Contact) -> wit.Contact:
    return wit.Contact(told(contact.id), told(contact.name), told(contact.phone), told(contact.email))


def told(value: str | None) -> str | None:
    """A field of a contact; an empty one tells nothing."""
    return string(value) if value else None


def string(value: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text is needed here, not {value!r}")
    # Half of a surrogate pair has no form in the contract: this raises, which tells more than the trap that it would be.
    value.encode()
    return value


def text(value: Any) -> str:
    return string(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def call(kind: str, convert: Callable[[Any], Answer], *arguments: Any) -> Answer:
    """Calls the plugin; what it answers must have a form in the contract, or the call is as broken as one that raises."""
    try:
        return convert(sdk._plugin[kind](*arguments, sdk.Context(json.loads(host.settings()))))
    except sdk.InvalidPayload as error:
        raise Err(wit.Failure_InvalidPayload(well_formed(str(error)))) from error
    except Exception as error:
        raise Err(wit.Failure_Broken(well_formed(f"{type(error).__name__}: {error}{place(error)}"))) from error


def well_formed(text: str) -> str:
    """A text of which nothing is left that has no form in the contract: halves of surrogate pairs are written out."""
    return text.encode(errors="backslashreplace").decode()


def place(error: Exception) -> str:
    """The innermost line of the plugin's own."""
    found, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "/hookloom_plugin/" not in file and "/python3." not in file:
            found = f" at {file.lstrip('/').partition('/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


class Log(logging.Handler):
    """Log records become lines in the log of the call."""

    def emit(self, record: logging.LogRecord) -> None:
        level = next(level for least, level in LEVELS if record.levelno >= least)
        host.log(level, well_formed(self.line(record)))

    def line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception as error:
            # Arguments that don't fit the text, or an object that can't say what it is: a line of a log must not end the call.
            said = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
            return f"{said} (not filled in: {type(error).__name__})"


def without_clock(*_: Any) -> NoReturn:
    raise RuntimeError("a plugin has no clock: use created_at of the message, or received_at of the event")


def prepare() -> None:
    """What a call can't have says so, as far as the language lets it; logging works without a clock, a process and threads."""
    logging.time = types.SimpleNamespace(time=lambda: 0.0, time_ns=lambda: 0)  # type: ignore[attr-defined]
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.logAsyncioTasks = False  # type: ignore[attr-defined]
    logging.basicConfig(level=logging.DEBUG, handlers=[Log()], format="%(message)s")
    for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep"):
        setattr(time, name, without_clock)


def warm_up(kind: str) -> None:
    """Goes the way of a call often enough for the interpreter to specialize it; it then writes less in each call, which costs copies.

    The plugin's own function is not called: it may refuse what we have, or remember it.
    """
    global host
    own, gateway = dict(sdk._plugin), host
    host = types.SimpleNamespace(settings=lambda: "{}")
    sdk._plugin["reshaper"] = lambda message, context: sdk.Replaced({"payload": message.payload})
    sdk._plugin["mapper"] = lambda event, rules, context: [
        sdk.RuleMatch(rule.key, variables=event.payload) for rule in sdk.rules_for(rules, "paid")
    ]
    payload = '{"name":"Ann","paid":true,"amount":2.5,"items":[1,null],"note":"\\u00e9"}'
    for _ in range(100):
        if kind == "reshaper":
            reshape(wit.Message("", "", "", wit.Origin.HUMAN, "sms", ["support"], payload))
        else:
            event = wit.InboundEvent("", wit.Source("", "", ""), "", [wit.Header("", "")], payload)
            map_event(event, [wit.Rule("thanks", "Thanks", "paid")])
    host = gateway
    sdk._plugin.clear()
    sdk._plugin.update(own)


def freeze(kind: str) -> None:
    """The last act before the snapshot: what is there now is never collected, and a call is too short to collect anything."""
    warm_up(kind)
    gc.collect()
    gc.freeze()
    gc.disable()


class Reshaping:
    def reshape(self, message: wit.Message) -> wit.Reshaped:
        return reshape(message)


class Mapping:
    def map(self, event: wit.InboundEvent, rules: list[wit.Rule]) -> list[wit.RuleMatch]:
        return map_event(event, rules)


prepare()
