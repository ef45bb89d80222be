//! What flows: accepted events, their matches, messages, deliveries, attempts, calls, dead letters, and the work queue
//! that drives them. Bodies are kept once; the other rows refer to them.

use std::{sync::Arc, time::Duration};

use hookloom_runtime::{Contact, Failure, Header, Logs, Origin, Outcome, Report};
use serde::{Deserialize, Serialize};

use super::evidence::NewEvidence;
use crate::{
    clock::Timestamp,
    id::{AppId, AttemptId, CallId, DeadLetterId, EndpointId, EventId, MessageId, PluginId, SourceId, VersionId},
    rollout::tally::Observation,
};

/// A state enum whose text stands in the store and, in part, on the wire.
macro_rules! states {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant,)* }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word that stands in the store.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Reads the word that stands in the store.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|state| state.as_str() == text)
            }
        }
    )*};
}

states! {
    /// How far an inbound event has come.
    EventState {
        /// Accepted, not mapped yet.
        Accepted = "accepted",
        /// Mapped; the matches tell what came of it.
        Mapped = "mapped",
        /// The mapper called the payload invalid: the sender's fault.
        Rejected = "rejected",
        /// The mapper failed and the binding says hold.
        Held = "held",
        /// The mapper failed and the binding says drop.
        Dropped = "dropped",
    }

    /// How far a delivery (one message for one endpoint) has come.
    DeliveryState {
        /// Its next attempt is due or scheduled.
        Waiting = "waiting",
        /// The receiver confirmed.
        Delivered = "delivered",
        /// The reshaper failed and the binding says hold.
        Held = "held",
        /// The reshaper dropped it, or failed and the binding says drop.
        Dropped = "dropped",
        /// No attempt is left, or none makes sense any more.
        Dead = "dead",
        /// The endpoint is gone.
        Cancelled = "cancelled",
    }

    /// What made an attempt happen.
    Trigger {
        /// The schedule.
        Scheduled = "scheduled",
        /// A person or program asked for it.
        Manual = "manual",
    }

    /// What a piece of work is.
    WorkKind {
        /// Map an event; the subject is an event id.
        Map = "map",
        /// Fan a message out; the subject is a message id.
        FanOut = "fan_out",
        /// Make an attempt; the subject is a delivery number.
        Deliver = "deliver",
        /// Run a part of a backtest; the subject is its id.
        Backtest = "backtest",
        /// Decide what follows from a plugin's failures; the subject is a plugin id.
        Review = "review",
        /// Let go on what a plugin held; the subject is a plugin id.
        Release = "release",
        /// Erase what was removed; the subject is an app id, or the store's number of a component.
        Erase = "erase",
    }

    /// How a call of a plugin ended.
    CallOutcome {
        /// It named rule matches, perhaps none.
        Mapped = "mapped",
        /// It leaves the message as it is.
        Unchanged = "unchanged",
        /// It wrote another body.
        Replaced = "replaced",
        /// It doesn't want the message delivered.
        Dropped = "dropped",
        /// It refused the payload: the sender's fault.
        InvalidPayload = "invalid_payload",
        /// It failed: the author's fault.
        Failed = "failed",
    }

    /// What became of a rule match.
    MatchState {
        /// It sent a message.
        Fired = "fired",
        /// It sent nothing, for the reason beside it.
        Skipped = "skipped",
    }
}

impl CallOutcome {
    /// The runtime's word for it, see `Outcome::kind`.
    pub fn runtime_kind(self) -> &'static str {
        match self {
            Self::InvalidPayload => "invalidPayload",
            other => other.as_str(),
        }
    }
}

/// A piece of work that this process holds until its lease ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Row of the queue.
    pub work: i64,
    /// What to do.
    pub kind: WorkKind,
    /// Whose it is.
    pub app: AppId,
    /// On what.
    pub subject: String,
    /// Fencing token: whoever claims the work after the lease ended gets a higher one, and ours is worth nothing then.
    pub token: i64,
    /// How often it was claimed, this time included.
    pub tries: u32,
}

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

/// A key by which a repeated request is recognized for 24 hours.
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// The caller's key.
    pub key: String,
    /// Digest of the request: another request under the same key is a conflict.
    pub request: [u8; 32],
}

/// The answer to an accept.
#[derive(Clone, Debug, PartialEq)]
pub enum Accepted<I> {
    /// It is new and committed.
    New(I),
    /// It is a repeat of this one.
    Repeat(I),
}

impl<I> Accepted<I> {
    /// The id, new or old.
    pub fn id(&self) -> &I {
        match self {
            Self::New(id) | Self::Repeat(id) => id,
        }
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// The tenant.
    pub app: AppId,
    /// The platform's own id; a second one with the same is refused.
    pub uid: Option<String>,
    /// Its event type.
    pub event_type: String,
    /// Its channels.
    pub channels: Vec<String>,
    /// Who wrote it.
    pub origin: Origin,
    /// How it travelled.
    pub medium: Option<String>,
    /// When it was published.
    pub created_at: Timestamp,
    /// When it may first be sent.
    pub deliver_at: Option<Timestamp>,
    /// The inbound event that it comes from.
    pub event: Option<EventId>,
    /// A message of the gateway itself: it goes only to endpoints that name its type, and is never reshaped.
    pub operational: bool,
    /// The payload: JSON object text; empty where a list was asked for without content.
    pub payload: String,
}

/// What is sent to an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum DeliveryBody {
    /// The message's payload.
    Original,
    /// The bytes that a reshaper made.
    Replaced(Arc<str>),
}

/// The outcome of fan-out for one endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct NewDelivery {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Waiting, held or dropped.
    pub state: DeliveryState,
    /// Why it is held or dropped.
    pub reason: Option<String>,
    /// What is sent.
    pub body: DeliveryBody,
    /// The version that reshaped it.
    pub version: Option<VersionId>,
    /// When the first attempt is due.
    pub due: Timestamp,
}

/// One message for one endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Its number; it never leaves the gateway.
    pub number: i64,
    /// The tenant.
    pub app: AppId,
    /// The message.
    pub message: MessageId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// How far it has come.
    pub state: DeliveryState,
    /// Why it stands there, where that needs words.
    pub reason: Option<String>,
    /// Attempts made since it was last set to wait.
    pub attempts: u32,
    /// When the next attempt is due.
    pub next_attempt: Option<Timestamp>,
    /// The version that reshaped it.
    pub version: Option<VersionId>,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Everything that an attempt needs.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryJob {
    /// The delivery.
    pub delivery: Delivery,
    /// The message's event type.
    pub event_type: String,
    /// The exact bytes.
    pub body: Vec<u8>,
    /// What makes the attempt happen.
    pub trigger: Trigger,
}

/// One HTTP try.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Its id.
    pub id: AttemptId,
    /// The tenant.
    pub app: AppId,
    /// The message.
    pub message: MessageId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The address that was called.
    pub url: String,
    /// The receiver confirmed.
    pub succeeded: bool,
    /// The status that it answered, if it answered.
    pub status_code: Option<u16>,
    /// The start of its answer, or what happened instead.
    pub response: String,
    /// From the first byte sent to the last byte read.
    pub duration: Duration,
    /// What made it happen.
    pub trigger: Trigger,
    /// When it began.
    pub created_at: Timestamp,
}

/// What becomes of a delivery after an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptEnd {
    /// The state from now on.
    pub state: DeliveryState,
    /// Why, where that needs words.
    pub reason: Option<String>,
    /// When the next attempt is due, for a waiting delivery.
    pub next: Option<Timestamp>,
}

/// One run of a plugin, as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Its id.
    pub id: CallId,
    /// The tenant.
    pub app: AppId,
    /// The plugin.
    pub plugin: PluginId,
    /// The version that ran.
    pub version: VersionId,
    /// The event that it mapped.
    pub event: Option<EventId>,
    /// The message that it reshaped.
    pub message: Option<MessageId>,
    /// Outcome, fuel, time, memory and logs.
    pub record: CallRecord,
    /// What it was made with, to be kept with it. None in what the store gives back: `Store::recorded_call` reads it.
    pub evidence: Option<Box<NewEvidence>>,
    /// When it ran.
    pub created_at: Timestamp,
}

/// What is kept of a call's report, and told of it: all but the output, which is kept where it is used (as matches, or
/// as a delivery's bytes).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallRecord {
    /// How it ended.
    pub outcome: CallOutcome,
    /// Why a reshaper dropped the message, or what is wrong with the payload.
    pub detail: Option<String>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Rule matches that it named.
    pub matches: Option<usize>,
    /// Size of the body that it wrote, in bytes.
    pub output_bytes: Option<usize>,
    /// Fuel used.
    pub fuel_used: u64,
    /// Time taken, in microseconds.
    pub duration_us: u64,
    /// Most memory that it had, in bytes.
    pub memory_peak_bytes: u64,
    /// What it logged.
    pub logs: Logs,
}

impl From<&Report> for CallRecord {
    fn from(report: &Report) -> Self {
        let mut record = Self {
            outcome: CallOutcome::Unchanged,
            detail: None,
            failure: None,
            matches: None,
            output_bytes: None,
            fuel_used: report.fuel_used,
            duration_us: u64::try_from(report.duration.as_micros()).unwrap_or(u64::MAX),
            memory_peak_bytes: report.memory_peak_bytes,
            logs: report.logs.clone(),
        };
        match &report.outcome {
            Outcome::Unchanged => {}
            Outcome::Mapped(matches) => {
                record.outcome = CallOutcome::Mapped;
                record.matches = Some(matches.len());
            }
            Outcome::Replaced(text) => {
                record.outcome = CallOutcome::Replaced;
                record.output_bytes = Some(text.len());
            }
            Outcome::Dropped(reason) => {
                record.outcome = CallOutcome::Dropped;
                record.detail = Some(reason.clone());
            }
            Outcome::InvalidPayload(detail) => {
                record.outcome = CallOutcome::InvalidPayload;
                record.detail = Some(detail.clone());
            }
            Outcome::Failed(failure) => {
                record.outcome = CallOutcome::Failed;
                record.failure = Some(failure.clone());
            }
        }
        record
    }
}

/// Something held because its plugin failed.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Its id.
    pub id: DeadLetterId,
    /// The tenant.
    pub app: AppId,
    /// The held event, or
    pub event: Option<EventId>,
    /// the held message.
    pub message: Option<MessageId>,
    /// The plugin that failed.
    pub plugin: PluginId,
    /// The version that failed; none if no version was active.
    pub version: Option<VersionId>,
    /// The call that failed, to look up its logs.
    pub call: Option<CallId>,
    /// Code of the failure, for example `fuel_exhausted`.
    pub code: String,
    /// The failure in words.
    pub detail: String,
    /// How often it has failed.
    pub failures: u32,
    /// When it first failed.
    pub created_at: Timestamp,
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

/// What fan-out came to; one commit.
#[derive(Clone, Debug, Default)]
pub struct FanOutEnd {
    /// The outcome per endpoint. An endpoint that the message already has a delivery for keeps it, unless that is held.
    pub deliveries: Vec<NewDelivery>,
    /// The plugins' runs.
    pub calls: Vec<Call>,
    /// For held deliveries, one a plugin. The message's dead letters of other plugins are settled by this.
    pub dead_letters: Vec<DeadLetter>,
    /// What the calls say of their versions.
    pub observed: Vec<Observation>,
    /// At which revisions the plugins were read that were asked.
    pub seen: Vec<(PluginId, i64)>,
}
