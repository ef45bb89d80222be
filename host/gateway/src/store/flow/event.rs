//! Inbound events: accepted, mapped, and what each match came to.

use hookloom_runtime::{Contact, Header};

use super::{Call, DeadLetter, EventState, MatchState, Message};
use crate::{
    clock::Timestamp,
    id::{AppId, EventId, MessageId, PluginId, SourceId, VersionId},
    rollout::tally::Observation,
};

/// A request to accept an inbound event.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Its id, unless it is a repeat.
    pub id: EventId,
    /// The tenant.
    pub app: AppId,
    /// Where it arrived.
    pub source: SourceId,
    /// When.
    pub received_at: Timestamp,
    /// The headers kept.
    pub headers: Vec<Header>,
    /// The body as sent; UTF-8 JSON.
    pub body: Vec<u8>,
    /// What marks a repeat within the source, if anything does.
    pub dedupe_key: Option<String>,
}

impl NewEvent {
    /// The event as it is right after it was accepted.
    pub fn accepted(self) -> Event {
        Event {
            id: self.id,
            app: self.app,
            source: self.source,
            received_at: self.received_at,
            headers: self.headers,
            body: String::from_utf8_lossy(&self.body).into_owned(),
            state: EventState::Accepted,
            reason: None,
            version: None,
        }
    }
}

/// An accepted inbound event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// The tenant.
    pub app: AppId,
    /// Where it arrived.
    pub source: SourceId,
    /// When.
    pub received_at: Timestamp,
    /// The headers kept.
    pub headers: Vec<Header>,
    /// The body as sent.
    pub body: String,
    /// How far it has come.
    pub state: EventState,
    /// Why it stands there, where that needs words.
    pub reason: Option<String>,
    /// The version that mapped it.
    pub version: Option<VersionId>,
}

/// What one rule match came to; the answer to "why did my rule not fire".
#[derive(Clone, Debug, PartialEq)]
pub struct MatchRow {
    /// The key that the plugin named, or the rule's.
    pub rule_key: String,
    /// The person.
    pub contact: Contact,
    /// The variables: JSON object text.
    pub variables: String,
    /// Sent or skipped.
    pub state: MatchState,
    /// Code of the reason for a skip, for example `missing_phone`.
    pub reason_code: Option<String>,
    /// The reason in words.
    pub reason: Option<String>,
    /// The message that it sent.
    pub message: Option<MessageId>,
    /// The version that made the match; none without a mapper.
    pub version: Option<VersionId>,
}

/// What mapping came to; one commit.
#[derive(Clone, Debug)]
pub struct MappingEnd {
    /// The event's state from now on.
    pub state: EventState,
    /// Why, where that needs words.
    pub reason: Option<String>,
    /// The version that mapped it.
    pub version: Option<VersionId>,
    /// What each match came to.
    pub matches: Vec<MatchRow>,
    /// The messages that the matches send.
    pub messages: Vec<Message>,
    /// The plugin's run.
    pub call: Option<Call>,
    /// For a held event.
    pub dead_letter: Option<DeadLetter>,
    /// What the call says of its version.
    pub observed: Option<Observation>,
    /// At which revision the plugin was read that was asked.
    pub seen: Option<(PluginId, i64)>,
}

impl MappingEnd {
    /// The state alone: no version, no match, no message, nothing to record.
    pub fn new(state: EventState) -> Self {
        Self {
            state,
            reason: None,
            version: None,
            matches: Vec::new(),
            messages: Vec::new(),
            call: None,
            dead_letter: None,
            observed: None,
            seen: None,
        }
    }
}
