"""What the reference library says of each delivery: null is no objection."""
import json
import sys

from standardwebhooks.webhooks import Webhook

said = []
for case in json.load(sys.stdin.buffer):
    try:
        Webhook(case["secret"]).verify(case["body"], dict(case["headers"]))
        said.append(None)
    except Exception as error:  # whatever it is, it is an objection
        said.append(repr(error))
print(json.dumps(said))
