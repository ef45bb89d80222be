"""The SDK as an author's own tests use it: plain functions and values, without a gateway."""

import dataclasses
import unittest
from typing import get_args

from hookloom_plugin import (
    Context,
    Event,
    Message,
    Replaced,
    Reshaped,
    Rule,
    RuleMatch,
    Unchanged,
    mapper,
    reshaper,
    rules_for,
)


class Sdk(unittest.TestCase):
    def test_a_reshaper_is_still_the_function_that_it_was(self) -> None:
        @reshaper
        def reshape(message: Message, context: Context) -> Reshaped:
            if message.event_type != "message.inbound":
                return Unchanged()
            return Replaced({"hello": message.payload["name"], "type": context.settings.get("type")})

        self.assertEqual(
            reshape(Message('{"name":"Ann"}'), Context({"type": "note"})), Replaced({"hello": "Ann", "type": "note"})
        )
        self.assertEqual(reshape(Message("{}", event_type="typing.started"), Context()), Unchanged())

    def test_a_mapper_gets_the_rules_of_the_tenant(self) -> None:
        @mapper
        def matches(event: Event, rules: list[Rule], context: Context) -> list[RuleMatch]:
            return [RuleMatch(rule.key) for rule in rules_for(rules, event.payload["type"])]

        rules = [Rule("thanks", "Thanks", "paid"), Rule("remind", "Remind", "booked")]
        self.assertEqual(matches(Event('{"type":"paid"}'), rules, Context()), [RuleMatch("thanks")])

    def test_what_is_said_of_a_message_cant_be_changed_afterwards(self) -> None:
        for kind in get_args(Reshaped):
            self.assertTrue(dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen, kind)

    def test_a_payload_is_parsed_once(self) -> None:
        message = Message('{"amount":12345678901234567890}')
        self.assertIs(message.payload, message.payload)
        self.assertEqual(message.payload["amount"], 12345678901234567890)


if __name__ == "__main__":
    unittest.main()
