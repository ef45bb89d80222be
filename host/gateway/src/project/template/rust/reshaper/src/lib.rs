//! A chat message becomes one line of text. Messages of other types go out as they are.

use hookloom_plugin::{Failure, Message, Reshaped};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the platform says of a chat message. More fields may come.
#[derive(Deserialize)]
struct Chat {
    name: String,
    message: String,
}

/// What the receiver gets.
#[derive(Serialize)]
struct Text {
    text: String,
}

#[hookloom_plugin::reshaper]
fn reshape(message: Message<Value>) -> Result<Reshaped, Failure> {
    if message.event_type != "message.inbound" {
        return Ok(Reshaped::Unchanged);
    }
    // Only now, since a message of another type has another payload. One that doesn't fit is refused, in serde's words.
    let chat: Chat = serde_json::from_value(message.payload)?;
    Reshaped::replaced(&Text { text: format!("{}: {}", chat.name, chat.message) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixtures_hold() {
        hookloom_plugin::testing::check_reshaper("fixtures", reshape);
    }

    #[test]
    fn a_message_without_a_name_is_refused() {
        let message = hookloom_plugin::testing::message("message.inbound", &serde_json::json!({ "message": "Hi" }));
        let Err(Failure::InvalidPayload(text)) = reshape(message) else { panic!("it was taken") };
        assert!(text.contains("missing field `name`"), "{text}");
    }
}
