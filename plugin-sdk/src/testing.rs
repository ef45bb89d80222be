//! For native tests of a plugin: arguments, a stand-in for the gateway, and fixtures.
//!
//! Settings and log are those of the current thread, and the test harness gives each test a thread of its own.
//!
//! ```
//! # use hookloom_plugin::{Failure, Message, Reshaped, testing};
//! # use serde_json::{Value, json};
//! # fn reshape(message: Message<Value>) -> Result<Reshaped, Failure> {
//! #     hookloom_plugin::info!("a message");
//! #     Reshaped::replaced(&json!({"text": message.payload["message"]}))
//! # }
//! let message = testing::message("message.inbound", &json!({"message": "Hi"}));
//! let reshaped = reshape(message).unwrap();
//! assert_eq!(reshaped, Reshaped::Replaced(r#"{"text":"Hi"}"#.to_owned()));
//! assert_eq!(testing::take_logs()[0].message, "a message");
//! ```
//!
//! # Fixtures
//!
//! [`check_mapper`] and [`check_reshaper`] run every folder of a folder, by custom `fixtures/NAME/`, each with
//!
//! | file | what |
//! |---|---|
//! | `input.json` | the payload alone, or the whole input of a call, with `"kind": "map"` or `"kind": "reshape"` |
//! | `expect.json` | how the call must end |
//! | `settings.json` | the settings; without the file `{}` |
//! | `rules.json` | for a mapper: the tenant's rules, `[{"key", "trigger", "name"}]`, where the input has none; `name` may be missing |
//!
//! The whole input is what the gateway keeps of a call, so that a recorded call can be a fixture as it is:
//!
//! ```json
//! {"kind": "map", "event": {"id", "source": {"id", "name", "profile"}, "receivedAt", "headers": [{"name", "value"}], "payload"}, "rules": []}
//! {"kind": "reshape", "id", "eventType", "createdAt", "origin", "medium", "channels", "payload"}
//! ```
//!
//! `payload` is the JSON text in a string, or the JSON itself. All but `payload` (and, in a map, `event`) may be missing.
//! A payload alone becomes an event or message with an event type from its field `eventType`, else `message.inbound`.
//!
//! `expect.json` is one of
//!
//! ```json
//! {"kind": "mapped", "value": [{"rule": "key", "contact": {"phone": "+1…"}, "variables": {}}]}
//! {"kind": "unchanged"}
//! {"kind": "replaced", "value": {}}
//! {"kind": "dropped", "value": "the reason"}
//! {"kind": "invalidPayload", "value": "a part of the text"}
//! {"kind": "failed", "value": {"code": "broken", "detail": "a part of the text"}}
//! ```
//!
//! JSON is compared by value: neither blanks nor the order of keys matter. With `HOOKLOOM_BLESS=1` the files are written from
//! what the plugin does, to be read and committed.

mod fixture;
pub(crate) mod host;

pub use fixture::{check_mapper, check_reshaper};
pub use host::{LogLine, set_settings, take_logs};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::mapper::hookloom::plugin::types::{InboundEvent, Message as RawMessage};
use crate::{Event, Message, Origin, Rule, Source};

/// The time at which everything happens in tests.
const NOW: &str = "2026-06-30T17:40:00.000Z";

/// An event with that payload, at a source of the profile `standard`, without headers.
///
/// # Panics
/// When the payload doesn't fit the type, with serde's text.
pub fn event<Payload: DeserializeOwned>(payload: &impl Serialize) -> Event<Payload> {
    Event::try_from(raw_event(json_text(payload))).expect("the payload fits its type")
}

/// A message of the platform with that payload, to all channels.
///
/// # Panics
/// When the payload doesn't fit the type, with serde's text.
pub fn message<Payload: DeserializeOwned>(event_type: &str, payload: &impl Serialize) -> Message<Payload> {
    Message::try_from(raw_message(event_type, json_text(payload))).expect("the payload fits its type")
}

/// An enabled rule that is called like its key.
pub fn rule(key: &str, trigger: &str) -> Rule {
    Rule { key: key.to_owned(), name: key.to_owned(), trigger: trigger.to_owned() }
}

fn json_text(payload: &impl Serialize) -> String {
    serde_json::to_string(payload).expect("the payload can be written as JSON")
}

fn raw_event(payload: String) -> InboundEvent {
    let source = Source { id: "src_test".to_owned(), name: "test".to_owned(), profile: "standard".to_owned() };
    InboundEvent { id: "evt_test".to_owned(), source, received_at: NOW.to_owned(), headers: Vec::new(), payload }
}

fn raw_message(event_type: &str, payload: String) -> RawMessage {
    RawMessage {
        id: "msg_test".to_owned(),
        event_type: event_type.to_owned(),
        created_at: NOW.to_owned(),
        origin: Origin::System,
        medium: None,
        channels: Vec::new(),
        payload,
    }
}
