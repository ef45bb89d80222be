"""A chat message becomes one line of text. Messages of other types go out as they are."""

from hookloom_plugin import Context, InvalidPayload, Message, Replaced, Reshaped, Unchanged, reshaper


@reshaper
def reshape(message: Message, context: Context) -> Reshaped:
    if message.event_type != "message.inbound":
        return Unchanged()
    match message.payload:
        case {"name": str(name), "message": str(text)}:
            return Replaced({"text": f"{name}: {text}"})
    raise InvalidPayload("a chat message needs `name` and `message`")
