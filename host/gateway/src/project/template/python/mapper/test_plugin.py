import unittest

from hookloom_plugin import Context, Event, InvalidPayload, Rule

from plugin import matches

RULES = [Rule("thank-you", "Thank you", "job_completed")]


class Matches(unittest.TestCase):
    def test_a_rule_that_waits_for_the_event_type_matches(self) -> None:
        found = matches(Event('{"event_type":"job_completed"}'), RULES, Context())
        self.assertEqual([match.rule for match in found], ["thank-you"])
        self.assertEqual(matches(Event('{"event_type":"truck_washed"}'), RULES, Context()), [])

    def test_a_payload_without_event_type_is_refused(self) -> None:
        with self.assertRaises(InvalidPayload):
            matches(Event('{"name":"Ada"}'), RULES, Context())
