//! What flows: accepted events, their matches, messages, deliveries, attempts, calls, dead letters, and the work queue
//! that drives them. Bodies are kept once; the other rows refer to them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use hookloom_runtime::{Contact, Failure, Header, Logs, Origin, Outcome, Report};
use serde::{Deserialize, Serialize};

use super::{
    evidence::NewEvidence,
    key::{Key, Lane, Subject},
};
use crate::{
    clock::Timestamp,
    id::{AppId, AttemptId, CallId, DeadLetterId, EndpointId, EventId, MessageId, PluginId, SourceId, VersionId},
    rollout::tally::Observation,
    schema,
};

/// A state enum: its number stands in the store and is never given to another state, its text on the wire.
macro_rules! states {
    ($($(#[doc = $doc:literal])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal $text:literal,)* })*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant,)* }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                schema::words(concat!($($doc),*), Self::ALL.iter().map(|state| state.as_str()))
            }
        }

        impl utoipa::ToSchema for $name {}

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its word.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Reads its word.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|state| state.as_str() == text)
            }

            /// The number that stands in the store.
            pub fn code(self) -> i64 {
                match self { $(Self::$variant => $code,)* }
            }

            /// Reads the number that stands in the store.
            pub fn from_code(code: i64) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    )*};
}

states! {
    /// How far an inbound event has come.
    EventState {
        /// Accepted, not mapped yet.
        Accepted = 0 "accepted",
        /// Mapped; the matches tell what came of it.
        Mapped = 1 "mapped",
        /// The mapper called the payload invalid: the sender's fault.
        Rejected = 2 "rejected",
        /// The mapper failed and the binding says hold.
        Held = 3 "held",
        /// The mapper failed and the binding says drop.
        Dropped = 4 "dropped",
    }

    /// How far a delivery (one message for one endpoint) has come.
    DeliveryState {
        /// Its next attempt is due or scheduled, or waits for another message of its ordering key.
        Waiting = 0 "waiting",
        /// The receiver confirmed.
        Delivered = 1 "delivered",
        /// The reshaper failed and the binding says hold.
        Held = 2 "held",
        /// The reshaper dropped it, or failed and the binding says drop.
        Dropped = 3 "dropped",
        /// No attempt is left, or none makes sense any more.
        Dead = 4 "dead",
        /// The endpoint is gone, or the message was cancelled before its time.
        Cancelled = 5 "cancelled",
    }

    /// What made an attempt happen.
    Trigger {
        /// The schedule.
        Scheduled = 0 "scheduled",
        /// A person or program asked for it.
        Manual = 1 "manual",
    }

    /// What a piece of work is.
    WorkKind {
        /// Map an event.
        Map = 1 "map",
        /// Fan a message out.
        FanOut = 2 "fan_out",
        /// Make an attempt of a delivery.
        Deliver = 3 "deliver",
        /// Run a part of a backtest.
        Backtest = 4 "backtest",
        /// Decide what follows from a plugin's failures.
        Review = 5 "review",
        /// Let go on what a plugin held.
        Release = 6 "release",
        /// End the waiting deliveries of an endpoint that is switched off or gone.
        Drain = 7 "drain",
        /// Go on with a replay.
        Replay = 8 "replay",
        /// Remove what is older than it is kept.
        Keep = 9 "keep",
        /// Erase what was removed: a tenant's, or a component.
        Erase = 10 "erase",
        /// Encrypt secrets anew with the newest key.
        Reseal = 11 "reseal",
    }

    /// How a call of a plugin ended.
    CallOutcome {
        /// It named rule matches, perhaps none.
        Mapped = 0 "mapped",
        /// It leaves the message as it is.
        Unchanged = 1 "unchanged",
        /// It wrote another body.
        Replaced = 2 "replaced",
        /// It doesn't want the message delivered.
        Dropped = 3 "dropped",
        /// It refused the payload: the sender's fault.
        InvalidPayload = 4 "invalid_payload",
        /// It failed: the author's fault.
        Failed = 5 "failed",
    }

    /// What became of a rule match.
    MatchState {
        /// It sent a message.
        Fired = 0 "fired",
        /// It sent nothing, for the reason beside it.
        Skipped = 1 "skipped",
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

/// Claims of a node that are compared at once with what it works on.
pub const CLAIMED_MAX: i64 = 100_000;

/// A piece of work that this node holds until it finishes it, gives it back or dies.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Row of the queue.
    pub work: i64,
    /// What to do.
    pub kind: WorkKind,
    /// The queue that it stood in.
    pub lane: Lane,
    /// Whose it is.
    pub app: AppId,
    /// On what.
    pub subject: Subject,
    /// Fencing token: whoever claims the work after this node lost it gets a higher one, and ours is worth nothing then.
    pub token: i64,
    /// How often it was claimed, this time included.
    pub tries: u32,
}

impl Claim {
    /// What tells it from every other claim.
    pub fn held(&self) -> Held {
        Held { work: self.work, token: self.token }
    }

    /// The lane, for when the work is given back to be due at this time.
    pub fn head(&self, due: Timestamp) -> LaneHead {
        LaneHead { kind: self.kind, lane: self.lane, app: self.app.clone(), due }
    }
}

/// A claim, as the store tells it from every other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// Row of the queue.
    pub work: i64,
    /// Its fencing token.
    pub token: i64,
}

/// A lane that has unclaimed work.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneHead {
    /// The kind of work.
    pub kind: WorkKind,
    /// The lane.
    pub lane: Lane,
    /// Whose it is.
    pub app: AppId,
    /// When the first piece is due.
    pub due: Timestamp,
}

/// What is to be claimed of one lane.
#[derive(Clone, Debug, PartialEq)]
pub struct Want {
    /// The kind of work.
    pub kind: WorkKind,
    /// The lane.
    pub lane: Lane,
    /// At most so many pieces.
    pub limit: usize,
}

/// What claimed work needs, its bytes included.
#[derive(Clone, Debug, PartialEq)]
pub enum Job {
    /// The event to map.
    Event(Box<Event>),
    /// The message to fan out, with the deliveries that it has already.
    Message(Box<Message>, Vec<Delivery>),
    /// The delivery to attempt.
    Delivery(Box<DeliveryJob>),
    /// The subject no longer exists, or this kind of work has its own way to read what it needs.
    Gone,
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

/// The answer to an accept, with the work that it brought.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitted<I> {
    /// Whether it is new.
    pub accepted: Accepted<I>,
    /// The work that follows, claimed for this node in the same commit: because that was asked for, and it is new, due
    /// and not behind another one of its ordering key.
    pub claim: Option<Claim>,
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
    /// Messages of a tenant with the same key go on in the order in which they were accepted; at an endpoint, if it asks
    /// for it.
    pub ordering_key: Option<String>,
    /// Until when its content is kept, if that was asked for.
    pub content_until: Option<Timestamp>,
    /// The payload: JSON object text; empty where a list was asked for without content.
    pub payload: String,
}

/// What is sent to an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum DeliveryBody {
    /// The message's payload.
    Original,
    /// The bytes that a reshaper or the endpoint's profile made.
    Replaced(Arc<str>),
}

impl DeliveryBody {
    /// Whether both are the same text in memory: what was made once is kept once.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Original, Self::Original) => true,
            (Self::Replaced(one), Self::Replaced(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// The outcome of fan-out for one endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct NewDelivery {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Waiting, held, dropped or dead.
    pub state: DeliveryState,
    /// Why it is held, dropped or dead.
    pub reason: Option<String>,
    /// What is sent.
    pub body: DeliveryBody,
    /// The version that reshaped it.
    pub version: Option<VersionId>,
    /// When the first attempt is due; never before the message's own time.
    pub due: Timestamp,
    /// Claim the work for this node in the same commit, if it is due and first in its order.
    pub hot: bool,
    /// The message's ordering key, if this delivery takes its place in the endpoint's order: a waiting one, or a held one
    /// that the others are to wait for.
    pub ordering_key: Option<String>,
    /// What its reader should know of the bytes.
    pub note: Option<String>,
}

/// One message for one endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
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
    /// What its reader should know of the bytes.
    pub note: Option<String>,
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
    /// The message is one of the gateway itself.
    pub operational: bool,
    /// When it may first be sent.
    pub deliver_at: Option<Timestamp>,
    /// The exact bytes.
    pub body: Bytes,
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
    /// A delivery that ended keeps its place in its endpoint's order all the same: the others wait for a person.
    pub blocks: bool,
    /// What the attempt says of its endpoint; none if it says nothing.
    pub health: Option<HealthChange>,
    /// Messages of the gateway's own that tell of it, in the same commit.
    pub tell: Vec<Message>,
}

/// What an attempt says of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthChange {
    /// It works.
    Ok,
    /// It failed.
    Failed,
}

/// How an endpoint has done since its last success.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointHealth {
    /// Failed attempts in a row.
    pub failures: u32,
    /// When the first of them was.
    pub failing_since: Option<Timestamp>,
}

/// What the end of an attempt led to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttemptDone {
    /// The endpoint's health from now on.
    pub health: EndpointHealth,
    /// The next delivery of the same ordering key may go on.
    pub freed: Option<LaneHead>,
}

/// What the end of a fan-out led to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FanOutDone {
    /// The deliveries that were asked to be hot and are claimed for this node.
    pub claims: Vec<(EndpointId, Claim)>,
    /// The next message of the same ordering key may go on.
    pub next: Option<LaneHead>,
}

/// What became of the wish to move or cancel a scheduled message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rescheduled {
    /// It is moved, or cancelled.
    Done,
    /// A delivery was claimed before: it may be on its way.
    Begun,
    /// It has no time to wait for, or was cancelled.
    NotScheduled,
    /// There is no such message.
    Missing,
}

/// Which deliveries are sent again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplayFilter {
    /// Of this endpoint; none: of all.
    pub endpoint: Option<EndpointId>,
    /// In one of these states.
    #[serde(default)]
    pub states: Vec<DeliveryState>,
    /// Instead: messages that have no delivery for the endpoint, though they would match the event types and channels.
    #[serde(default)]
    pub missing: bool,
    /// Of one of these event types (`a.*`: all below); empty: of any.
    #[serde(default)]
    pub event_types: Vec<String>,
    /// With one of these channels; empty: any. For `missing`, a message without channels matches as well.
    #[serde(default)]
    pub channels: Vec<String>,
    /// Of messages published at this time or later.
    pub since: Timestamp,
    /// Of messages published before.
    pub until: Option<Timestamp>,
}

/// What one step of a replay came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replayed {
    /// Deliveries set in motion.
    pub moved: usize,
    /// Where the next step goes on.
    pub after: Option<MessageId>,
    /// Nothing is left.
    pub done: bool,
    /// The lanes that have work now.
    pub lanes: Vec<LaneHead>,
}

/// What is removed when it is old.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Events that are not held, with their matches and calls.
    Events(AppId),
    /// Messages of which no delivery waits or is held, with all that is theirs.
    Messages(AppId),
    /// Attempts of deliveries.
    Attempts(AppId),
    /// Calls of plugins.
    Calls(AppId),
    /// What is held: it is given up.
    DeadLetters(AppId),
    /// Idempotency keys of messages.
    Idempotency,
    /// Answers that repeated requests get.
    Answers,
    /// Contents of messages whose own time to be kept ended before.
    Contents(AppId),
    /// The audit log of a tenant; none: of the instance.
    Audit(Option<AppId>),
}

/// How many deliveries are in each state.
pub type DeliveryCounts = BTreeMap<DeliveryState, u64>;

/// What stands for an answer that was removed.
pub const EXPUNGED: &str = "EXPUNGED";

/// What one step of removing what is old came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Rows removed.
    pub removed: usize,
    /// Behind which row the next step goes on; none: there is no next one.
    pub after: Option<Key>,
}

impl Expired {
    /// Of a step that removed all that it looked at, which was `most` at most: the next one begins where this one did.
    pub fn all(removed: usize, most: usize) -> Self {
        Self { removed, after: (removed >= most).then_some(Key::default()) }
    }
}

/// What a tenant has in the store, and what it used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Inbound events.
    pub events: u64,
    /// Bytes of their bodies.
    pub event_bytes: u64,
    /// Messages.
    pub messages: u64,
    /// Bytes of their payloads.
    pub message_bytes: u64,
    /// Fuel that the calls of a day used, as far as they are committed,
    pub fuel: u64,
    /// and the day.
    pub fuel_day: i64,
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallRecord {
    /// How it ended.
    pub outcome: CallOutcome,
    /// Why a reshaper dropped the message, or what is wrong with the payload.
    pub detail: Option<String>,
    /// Why it failed.
    #[schema(value_type = Option<schema::Failure>)]
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
    #[schema(value_type = schema::Logs)]
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
    /// What plugins answered that no delivery holds as it is: kept as long as the message.
    pub outputs: Vec<Arc<str>>,
}
