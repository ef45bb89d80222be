import unittest

from hookloom_plugin import Context, InvalidPayload, Message, Replaced

from plugin import reshape


class Reshape(unittest.TestCase):
    def test_a_chat_message_becomes_one_line(self) -> None:
        reshaped = reshape(Message('{"name":"Ada","message":"Hi"}'), Context())
        self.assertEqual(reshaped, Replaced({"text": "Ada: Hi"}))

    def test_a_message_without_a_name_is_refused(self) -> None:
        with self.assertRaises(InvalidPayload):
            reshape(Message('{"message":"Hi"}'), Context())
