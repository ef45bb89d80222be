//! What a reshaper gets and what it decides.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bindings::mapper::hookloom::plugin::types::Message as RawMessage;
use crate::{Failure, Origin, Reshaped};

/// One outbound message, before it is signed and delivered.
///
/// `Payload` is any type that serde can read from JSON; `serde_json::Value` takes whatever comes. A payload that doesn't fit
/// it never reaches the plugin's function: the call ends as [`Failure::InvalidPayload`] with serde's text.
///
/// The payload may borrow from the text that came, which spares copies:
///
/// ```
/// use hookloom_plugin::{Failure, Message, Reshaped};
/// use serde::{Deserialize, Serialize};
/// use serde_json::value::RawValue;
///
/// #[derive(Deserialize, Serialize)]
/// struct Chat<'a> {
///     phone: &'a str,
///     #[serde(borrow)]
///     attributes: &'a RawValue,
/// }
///
/// #[hookloom_plugin::reshaper]
/// fn reshape(message: Message<Chat<'_>>) -> Result<Reshaped, Failure> {
///     Reshaped::replaced(&message.payload)
/// }
/// ```
///
/// A `&str` can't hold a text with escapes in it; where there may be some, use `#[serde(borrow)] Cow<'_, str>`.
///
/// Numbers: serde_json's `Value` holds what doesn't fit 64 bits as a floating-point number. Where such a number has to come
/// out as it went in, let the field be a `Box<serde_json::value::RawValue>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<Payload = Value> {
    /// Its id, `msg_…`.
    pub id: String,
    /// Its event type, for example `message.inbound`.
    pub event_type: String,
    /// When it was published: UTC as RFC 3339 with milliseconds.
    pub created_at: String,
    /// Who wrote it.
    pub origin: Origin,
    /// How it traveled, for example `sms` or `textchat`, where the platform says so.
    pub medium: Option<String>,
    /// The channels that it was published to; empty means all.
    pub channels: Vec<String>,
    /// What would be delivered without a plugin.
    pub payload: Payload,
}

impl<Payload: DeserializeOwned> TryFrom<RawMessage> for Message<Payload> {
    type Error = Failure;

    fn try_from(raw: RawMessage) -> Result<Self, Failure> {
        Ok(Message {
            payload: serde_json::from_str(&raw.payload)?,
            id: raw.id,
            event_type: raw.event_type,
            created_at: raw.created_at,
            origin: raw.origin,
            medium: raw.medium,
            channels: raw.channels,
        })
    }
}

impl Reshaped {
    /// Deliver `body` instead. It is sent byte for byte as it is written here.
    ///
    /// # Errors
    /// [`Failure::Broken`] when `body` can't be written as JSON, or is no JSON object.
    pub fn replaced(body: &impl Serialize) -> Result<Reshaped, Failure> {
        object_text(body).map(Reshaped::Replaced)
    }

    /// Don't deliver the message; `reason` is shown to the tenant.
    pub fn dropped(reason: impl Into<String>) -> Reshaped {
        Reshaped::Dropped(reason.into())
    }
}

/// `value` as JSON text, which must be an object: whatever goes out is one.
pub(crate) fn object_text(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string(value).map_err(Failure::broken)?;
    if text.starts_with('{') {
        return Ok(text);
    }
    Err(Failure::broken("the output must be a JSON object"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_an_object_replaces_a_message() {
        assert_eq!(Reshaped::replaced(&json!({"a": 1})), Ok(Reshaped::Replaced(r#"{"a":1}"#.to_owned())));
        assert_eq!(Reshaped::replaced(&[1]), Err(Failure::broken("the output must be a JSON object")));
    }
}
