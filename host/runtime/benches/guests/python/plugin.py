"""The work of the benches in Python."""

from hookloom_plugin import Context, Message, Replaced, Reshaped, reshaper


@reshaper
def reshape(message: Message, context: Context) -> Reshaped:
    event = message.payload
    data = event["data"]
    return Replaced(
        {
            "id": event["id"],
            "eventType": event["event"],
            "contact": {"name": data["name"], "phone": data["phone"]},
            "body": data["message"],
            "channel": data["source"].lower(),
            "received_at": data["createdAt"],
            "thread": data["customerId"],
            "business": {"id": data["businessId"], "name": data["businessName"]},
            "attributes": data["attributes"],
        }
    )
