//! What goes into a call and what a mapper returns, as plain data.
//!
//! The records mirror `wit/v1.0/plugin.wit`, item by item, and are what embedders build, store and replay; `bindings.rs` lends
//! them to the component. Nothing here knows wasmtime. In JSON the names are in camelCase.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Limits;

/// One call: what is asked, with which settings, under which limits.
#[derive(Clone, Debug)]
pub struct Request {
    /// The arguments; they also say which export is called.
    pub input: Input,
    /// The settings of the plugin's version as JSON text, `{}` where there are none. Handed out as they are.
    pub settings: Arc<str>,
    /// What the call may use.
    pub limits: Limits,
}

/// The arguments of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Input {
    /// An inbound event for the plugin's mapper.
    Map(MapInput),
    /// An outbound message for the plugin's reshaper.
    Reshape(Message),
}

/// The arguments of a mapper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MapInput {
    /// What arrived.
    pub event: InboundEvent,
    /// The tenant's enabled rules.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// One accepted request to a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InboundEvent {
    /// Its id, `evt_…`.
    pub id: String,
    /// Where it arrived.
    pub source: Source,
    /// When it was accepted: UTC as RFC 3339 with milliseconds.
    pub received_at: String,
    /// The headers that the source is configured to hand on, in the order of arrival.
    #[serde(default)]
    pub headers: Vec<Header>,
    /// The body as it was sent: a JSON object or array.
    pub payload: String,
}

/// The inbound connection at which an event arrived.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Its id, `src_…`.
    pub id: String,
    /// The name that the tenant gave it.
    pub name: String,
    /// The profile that it follows, for example `standard`.
    pub profile: String,
}

/// One HTTP header of the sender's request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// The name in lower case.
    pub name: String,
    /// The value as it was sent.
    pub value: String,
}

/// An enabled automation rule of the tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// What a match names; unique within the tenant.
    pub key: String,
    /// The name that the tenant gave it.
    pub name: String,
    /// The event type that the rule waits for.
    pub trigger: String,
}

/// One rule that an event matches, and what its message is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleMatch {
    /// The key that the plugin named. Whether the tenant has such a rule is not checked here.
    pub rule: String,
    /// The person whom the event is about.
    pub contact: Contact,
    /// The text of a JSON object, checked (depth, duplicate keys) and kept byte for byte.
    pub variables: String,
}

/// The person whom an event is about. What the payload doesn't tell is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Contact {
    /// The sender's own id for the person.
    pub id: Option<String>,
    /// Full name.
    pub name: Option<String>,
    /// Phone number, as the plugin wrote it.
    pub phone: Option<String>,
    /// Email address, as the plugin wrote it.
    pub email: Option<String>,
}

/// One outbound message, before it is signed and delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Its id, `msg_…`.
    pub id: String,
    /// Its event type, for example `message.inbound`.
    pub event_type: String,
    /// When it was published: UTC as RFC 3339 with milliseconds.
    pub created_at: String,
    /// Who wrote it.
    #[serde(default)]
    pub origin: Origin,
    /// How it traveled, for example `sms`, where the platform says so.
    #[serde(default)]
    pub medium: Option<String>,
    /// The channels that it was published to; empty means all.
    #[serde(default)]
    pub channels: Vec<String>,
    /// What would be delivered without a plugin: a JSON object.
    pub payload: String,
}

/// Who wrote a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A person.
    Human,
    /// A scripted bot.
    Bot,
    /// An AI agent.
    Ai,
    /// A rule of the tenant.
    Automation,
    /// The platform itself, or unknown.
    #[default]
    System,
}

impl Input {
    /// The bytes of all texts that the plugin is handed: what [`Limits::input_bytes_max`] bounds.
    pub fn bytes_len(&self) -> usize {
        match self {
            Input::Map(input) => input.bytes_len(),
            Input::Reshape(message) => message.bytes_len(),
        }
    }
}

impl MapInput {
    fn bytes_len(&self) -> usize {
        let event = &self.event;
        let source = &event.source;
        let texts = [&event.id, &event.received_at, &event.payload, &source.id, &source.name, &source.profile];
        let headers = event.headers.iter().flat_map(|header| [&header.name, &header.value]);
        let rules = self.rules.iter().flat_map(|rule| [&rule.key, &rule.name, &rule.trigger]);
        texts.into_iter().chain(headers).chain(rules).map(String::len).sum()
    }
}

impl Message {
    fn bytes_len(&self) -> usize {
        let texts = [&self.id, &self.event_type, &self.created_at, &self.payload];
        texts.into_iter().chain(&self.medium).chain(&self.channels).map(String::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_says_its_kind_and_uses_camel_case() {
        let text = r#"{"kind":"reshape","id":"msg_1","eventType":"message.inbound","createdAt":"2026-06-30T17:40:00.000Z","payload":"{}"}"#;
        let input: Input = serde_json::from_str(text).unwrap();
        let Input::Reshape(message) = &input else { panic!("{input:?}") };
        assert_eq!((message.origin, message.medium.as_deref()), (Origin::System, None));
        let again = serde_json::to_string(&input).unwrap();
        assert!(again.contains(r#""origin":"system""#), "{again}");
        assert_eq!(serde_json::from_str::<Input>(&again).unwrap(), input);
    }

    #[test]
    fn the_size_of_an_input_counts_every_text() {
        let text = r#"{"kind":"map","event":{"id":"12","source":{"id":"1","name":"1","profile":"1"},"receivedAt":"123",
            "headers":[{"name":"1","value":"1"}],"payload":"{}"},"rules":[{"key":"1","name":"1","trigger":"1"}]}"#;
        let input: Input = serde_json::from_str(text).unwrap();
        assert_eq!(input.bytes_len(), 15);
    }
}
