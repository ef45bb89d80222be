"""The SDK's joint with the contract, with bindings and a host of the test's own."""

import subprocess
import sys
import unittest
from pathlib import Path

# A program of its own: the joint takes away the clock of the process that it is imported into.
BEGINNING = """
import datetime, sys, types
from dataclasses import make_dataclass

class Err(Exception):
    def __init__(self, value):
        self.value = value

wit = types.SimpleNamespace(
    Reshaped=None, Message=None, InboundEvent=None, Rule=None, Failure=None,
    Contact=make_dataclass("Contact", ["id", "name", "phone", "email"]),
    RuleMatch=make_dataclass("RuleMatch", ["rule", "contact", "variables"]),
    Reshaped_Unchanged=make_dataclass("Unchanged", []),
    Reshaped_Replaced=make_dataclass("Replaced", ["value"]),
    Reshaped_Dropped=make_dataclass("Dropped", ["value"]),
    Failure_Broken=make_dataclass("Broken", ["value"]),
    Failure_InvalidPayload=make_dataclass("InvalidPayload", ["value"]),
)
levels = types.SimpleNamespace(ERROR=3, WARN=2, INFO=1, DEBUG=0)
host = types.SimpleNamespace(Level=levels, settings=lambda: "{}", log=lambda level, line: None)
sys.modules["wit_world"] = types.SimpleNamespace()
sys.modules["wit_world.imports"] = types.SimpleNamespace(host=host, types=wit)
sys.modules["componentize_py_types"] = types.SimpleNamespace(Err=Err)

import hookloom_plugin as sdk
from hookloom_plugin import component, Contact, Dropped, InvalidPayload, Replaced, ReplacedText, RuleMatch, Unchanged

def told(call):
    try:
        return repr(call())
    except Err as error:
        return repr(error.value)

def reshaped(answer):
    sdk._plugin["reshaper"] = lambda message, context: answer() if callable(answer) else answer
    origin = types.SimpleNamespace(name="HUMAN")
    message = types.SimpleNamespace(
        payload="{}", event_type="a.b", id="", created_at="", origin=origin, medium=None, channels=[]
    )
    print(told(lambda: component.reshape(message)))

def mapped(answer):
    sdk._plugin["mapper"] = lambda event, rules, context: answer
    source = types.SimpleNamespace(id="", name="", profile="")
    event = types.SimpleNamespace(payload="{}", id="", source=source, received_at="", headers=[])
    print(told(lambda: component.map_event(event, [])))

"""


class Joint(unittest.TestCase):
    def told(self, answer: str) -> str:
        command = [sys.executable, "-c", BEGINNING + answer]
        ran = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
        self.assertEqual(ran.stderr, "", answer)
        return ran.stdout.strip()

    def test_an_answer_takes_the_form_of_the_contract(self) -> None:
        for answer, expected in (
            ("Unchanged()", "Unchanged()"),
            ("Replaced({'name': 'Zo\\u00eb'})", "Replaced(value='{\"name\":\"Zoë\"}')"),
            ("ReplacedText('{}')", "Replaced(value='{}')"),
            ("Dropped('internal')", "Dropped(value='internal')"),
        ):
            self.assertEqual(self.told(f"reshaped({answer})"), expected)
        contact = "Contact(id=None, name='Ann', phone=None, email=None)"
        expected = f"[RuleMatch(rule='thanks', contact={contact}, variables='{{\"total\":5}}')]"
        for answer in ("[{0}]", "({0},)", "({0} for _ in [1])"):
            match = "RuleMatch('thanks', Contact(name='Ann', email=''), {'total': 5})"
            self.assertEqual(self.told(f"mapped({answer.format(match)})"), expected)

    def test_an_answer_without_a_form_in_the_contract_is_told_as_the_plugins_own_failure(self) -> None:
        for answer, problem in (
            ("reshaped(Replaced({'on': datetime.date(2026, 1, 1)}))", "Object of type date is not JSON serializable"),
            ("reshaped(Replaced({'total': float('nan')}))", "Out of range float values"),
            ("mapped([RuleMatch('a', variables={'b': {1, 2}})])", "Object of type set is not JSON serializable"),
            ("mapped([RuleMatch('a', variables={'b': float('nan')})])", "Out of range float values"),
            ("mapped([RuleMatch('a', Contact(id=7))])", "a text is needed here, not 7"),
            ("mapped(None)", "return a list of RuleMatch, not None"),
            ("mapped('ab')", "return a list of RuleMatch, not of 'a'"),
            ("reshaped(ReplacedText(b'{}'))", "a text is needed here, not b'{}'"),
            ("reshaped(None)", "return Unchanged(), Replaced(body), ReplacedText(text) or Dropped(reason)"),
        ):
            told = self.told(answer)
            self.assertRegex(told, r"^Broken\(value=.(Type|Value)Error: ", answer)
            self.assertIn(problem, told.replace("\\'", "'"))

    def test_what_a_plugin_refuses_is_the_senders_fault(self) -> None:
        refuse = "def refuse():\n    raise InvalidPayload('no name')\n"
        self.assertEqual(self.told(refuse + "reshaped(refuse)"), "InvalidPayload(value='no name')")

    def test_a_line_of_the_log_that_can_not_be_written_does_not_end_the_call(self) -> None:
        plugin = """
import logging

class Odd:
    def __str__(self):
        raise ValueError(self)

def total():
    logging.info("total %d", 7)
    logging.info("total %d", "x")
    logging.warning(Odd())
    return Unchanged()

host.log = lambda level, line: print(level, line)
reshaped(total)
"""
        expected = "1 total 7\n1 total %d (not filled in: TypeError)\n2 Odd (not filled in: ValueError)\nUnchanged()"
        self.assertEqual(self.told(plugin), expected)

    def test_half_of_a_surrogate_pair_ends_no_call_without_a_word(self) -> None:
        for answer in (
            r"Replaced({'a': '\ud800'})",
            r"ReplacedText('\ud800')",
            r"Dropped('\ud800')",
        ):
            self.assertIn("surrogates not allowed", self.told(f"reshaped({answer})"))
        refuse = r"""
import logging

def refuse():
    logging.info("no %s", "\ud800")
    raise InvalidPayload("no \ud800")

host.log = lambda level, line: print(level, line)
reshaped(refuse)
"""
        self.assertEqual(self.told(refuse), r"1 no \ud800" + "\n" + r"InvalidPayload(value='no \\ud800')")


if __name__ == "__main__":
    unittest.main()
