//! What a mapper gets: one event that a third party sent, with its payload as the author's own type.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bindings::mapper::hookloom::plugin::types::InboundEvent;
use crate::{Failure, Header, Source};

/// One accepted request to a source.
///
/// `Payload` is any type that serde can read from JSON; `serde_json::Value` takes whatever comes. A body that doesn't fit it
/// never reaches the plugin's function: the call ends as [`Failure::InvalidPayload`] with serde's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<Payload = Value> {
    /// Its id, `evt_…`.
    pub id: String,
    /// Where it arrived.
    pub source: Source,
    /// When it was accepted: UTC as RFC 3339 with milliseconds.
    pub received_at: String,
    /// The headers that the source is configured to hand on, in the order of arrival; never a credential.
    pub headers: Vec<Header>,
    /// The body.
    pub payload: Payload,
}

impl<Payload> Event<Payload> {
    /// The value of the first header of that name; the case of the name doesn't matter.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value.as_str())
    }
}

impl<Payload: DeserializeOwned> TryFrom<InboundEvent> for Event<Payload> {
    type Error = Failure;

    fn try_from(raw: InboundEvent) -> Result<Self, Failure> {
        let payload = serde_json::from_str(&raw.payload)?;
        Ok(Event { id: raw.id, source: raw.source, received_at: raw.received_at, headers: raw.headers, payload })
    }
}
