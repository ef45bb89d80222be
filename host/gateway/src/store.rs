//! The store: everything that must outlive the process. A trait with one implementation per database.
//!
//! The promises that the rest of the gateway builds on:
//! - each method is one transaction, durable when it returns `Ok`;
//! - accepting an event or a message commits the row and the work that makes it go on together;
//! - work stands in lanes ([`key::Lane`]), which never wait for each other; it is claimed for a node, with a fencing token.
//!   Finishing it with an outdated token changes nothing and answers [`StoreError::LeaseLost`];
//! - whoever commits work may claim it in the same commit (*hot*) and go on without reading it;
//! - the claims of a node that died come back once the others give it up, or at once when the embedded store is opened
//!   again;
//! - messages with an ordering key stand in line: only the first of a key has work, and who ends it sets the next in motion
//!   in the same commit.
//!
//! What is configured are typed resources (`resource`, `typed`), changed by `write`; what flows has types of its own (`flow`).
//! Lists are read in pages (`page`, `filter`). Only this folder knows SQL.

mod error;
pub mod evidence;
mod filter;
pub mod flow;
#[cfg(test)]
mod in_flight;
pub mod key;
mod page;
pub mod postgres;
pub mod query;
pub mod resource;
pub mod sqlite;
pub mod trail;
mod typed;
mod used;
mod write;

use std::collections::BTreeMap;

use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::{
    audit::Entry,
    clock::Timestamp,
    id::{AppId, AttemptId, CallId, DeadLetterId, EndpointId, EventId, MessageId, PluginId, RolloutId, VersionId},
    quota::Owned,
    rollout::tally::{Health, ShadowCounts, ShadowResult, Tally},
};
pub use error::{Result, StoreError};
use evidence::{OutputParts, RecordedCall, RecordedFilter};
pub use filter::{AttemptFilter, CallFilter, EventFilter, MessageFilter};
use flow::{
    Admitted, Attempt, AttemptDone, AttemptEnd, Call, Claim, DeadLetter, Delivery, DeliveryCounts, DeliveryState,
    EndpointHealth, Event, Expired, Expiry, FanOutDone, FanOutEnd, Held, Idempotency, Job, LaneHead, MappingEnd,
    MatchRow, Message, NewEvent, ReplayFilter, Replayed, Rescheduled, Usage, Want, WorkKind,
};
use key::{Key, Lane};
pub use page::{Order, Page, PageRequest, Position};
use resource::{Document, ResourceKind};
use trail::{Answer, Begun, Question};
pub use typed::{delete, document_of, insert, read, require, update};
pub use write::Write;

/// Lanes that one look for work finds at most.
const LANES_MAX: usize = 1_000;

/// The store. See the module's head for what it promises.
#[async_trait]
pub trait Store: Send + Sync {
    /// Makes several changes of configuration in one commit.
    async fn write(&self, writes: Vec<Write>, now: Timestamp) -> Result<()>;
    /// The document with this id or, within the tenant, this uid.
    async fn document(&self, kind: ResourceKind, app: Option<&AppId>, id_or_uid: &str) -> Result<Option<Document>>;
    /// A page of the tenant's documents of a kind (`app` none: the instance's).
    async fn documents(&self, kind: ResourceKind, app: Option<&AppId>, page: PageRequest) -> Result<Page<Document>>;
    /// The document that a secret's digest finds, and when it stops to find it; none of a tenant that is gone.
    async fn document_by_handle(
        &self,
        kind: ResourceKind,
        digest: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<(Document, Option<Timestamp>)>>;
    /// A component's bytes.
    async fn component(&self, digest: &str) -> Result<Option<Vec<u8>>>;

    /// Says that this node lives, or registers it anew if it was given up for dead.
    async fn heartbeat(&self) -> Result<NodeState>;
    /// Gives up nodes that show no sign of life, and sets free what they had claimed. Answers how many pieces.
    async fn sweep(&self) -> Result<u64>;
    /// News from other nodes. The embedded store has none.
    fn bell(&self) -> broadcast::Receiver<Ring>;
    /// Whose configuration changed after this epoch (`None`: the instance's), and the epoch to ask from next time.
    async fn config_changes(&self, after: i64) -> Result<(i64, Vec<Option<AppId>>)>;
    /// Whether the store can commit now.
    async fn ready(&self) -> Result<()>;
    /// A value that the gateway keeps about itself.
    async fn meta(&self, key: &str) -> Result<Option<Vec<u8>>>;
    /// Keeps a value; false if it was to be kept only where none was, and there is one.
    async fn set_meta(&self, key: &str, value: &[u8], only_if_absent: bool) -> Result<bool>;

    /// Accepts an inbound event together with the work to map it, claimed for this node if `hot`; recognizes repeats.
    /// If its tenant is gone: [`StoreError::Changed`].
    async fn accept_event(&self, event: NewEvent, hot: bool) -> Result<Admitted<EventId>>;
    /// Accepts a message together with the work to fan it out, claimed for this node if `hot`; recognizes repeats. A
    /// repeated uid is [`StoreError::Exists`]. If its tenant is gone: [`StoreError::Changed`].
    async fn accept_message(
        &self,
        message: Message,
        idempotency: Option<Idempotency>,
        hot: bool,
    ) -> Result<Admitted<MessageId>>;
    /// Accepts a message that one endpoint gets, whatever it subscribes to, and no other.
    async fn accept_message_for(&self, message: Message, endpoint: &EndpointId) -> Result<Admitted<MessageId>>;
    /// Moves a message that waits for its time to another one, or cancels it (`at` none), while none of its deliveries was
    /// ever claimed.
    async fn reschedule(
        &self,
        app: &AppId,
        message: &MessageId,
        at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Rescheduled>;

    /// Lanes with unclaimed work of this kind, due or not, in their order, from after `after` on. Costs a look at each
    /// lane, however long it is.
    async fn lanes(&self, kind: WorkKind, after: Option<Lane>, limit: usize) -> Result<Vec<LaneHead>>;
    /// Claims what is due in these lanes, the oldest of each first.
    async fn claim(&self, wants: Vec<Want>, now: Timestamp) -> Result<Vec<Claim>>;
    /// What claimed work needs, in the order of the claims.
    async fn jobs(&self, claims: &[Claim]) -> Result<Vec<Job>>;
    /// Gives work back, to be due again at the times beside it. What was lost meanwhile is passed over.
    async fn give_back(&self, claims: Vec<(Claim, Timestamp)>) -> Result<()>;
    /// What this node has claimed, as far as it fits in one answer; what it was given back or finished is not among it.
    async fn claimed(&self) -> Result<Vec<Held>>;
    /// Sets free what this node has claimed and nobody works on, with a new fencing token; it stays due when it was. Answers
    /// how many pieces.
    async fn free(&self, claims: Vec<Held>) -> Result<u64>;
    /// Gives up on work whose subject no longer exists, or ends work that has no other end.
    async fn abandon(&self, claim: &Claim) -> Result<()>;
    /// Ends the mapping of an event. Answers the work to fan its messages out, as far as it is claimed for this node: if
    /// `hot`.
    async fn finish_mapping(&self, claim: &Claim, end: MappingEnd, hot: bool) -> Result<Vec<Claim>>;
    /// Ends the fan-out of a message. A message that was cancelled meanwhile gets cancelled deliveries.
    async fn finish_fan_out(&self, claim: &Claim, end: FanOutEnd, now: Timestamp) -> Result<FanOutDone>;
    /// Ends an attempt; `attempt` is none where none was made. An attempt that was made is recorded even if the lease is
    /// lost, since it happened; the delivery then stays as whoever has it now leaves it.
    async fn finish_attempt(
        &self,
        claim: &Claim,
        attempt: Option<Attempt>,
        end: AttemptEnd,
        now: Timestamp,
    ) -> Result<AttemptDone>;
    /// Ends at most `limit` waiting deliveries of an endpoint that nobody has in hand; answers how many.
    async fn end_waiting(
        &self,
        endpoint: &EndpointId,
        state: DeliveryState,
        reason: &str,
        limit: usize,
        now: Timestamp,
    ) -> Result<usize>;
    /// An endpoint's failures in a row.
    async fn health_of(&self, endpoint: &EndpointId) -> Result<EndpointHealth>;

    /// Counts one compared call of a shadow, and others that were left out. Nothing happens if its counts are gone.
    async fn observe_shadow(&self, id: &RolloutId, result: Option<ShadowResult>, skipped: u64) -> Result<()>;
    /// The counts of a watch or canary.
    async fn tally(&self, id: &RolloutId) -> Result<Option<Tally>>;
    /// The counts of a shadow.
    async fn shadow_counts(&self, id: &RolloutId) -> Result<Option<ShadowCounts>>;
    /// A version's failures in a row.
    async fn health(&self, version: &VersionId) -> Result<Health>;
    /// The digests of a tenant's versions, also of those that were removed.
    async fn version_digests(
        &self,
        app: &AppId,
        versions: Vec<VersionId>,
    ) -> Result<BTreeMap<VersionId, VersionDigests>>;
    /// Sets at most `limit` dead letters of the plugin that a release is about in motion, the oldest first, in one commit
    /// with its progress; the work is due again at `next`, or done.
    async fn release(&self, claim: &Claim, limit: usize, now: Timestamp, next: Timestamp) -> Result<Released>;
    /// Ends a release before its end: what is held stays held.
    async fn stop_release(&self, claim: &Claim) -> Result<()>;

    /// Erases a small part of what was removed, so that no commit takes long. True if it was the last one; the work is done
    /// then, and is still claimed otherwise.
    async fn erase(&self, claim: &Claim) -> Result<bool>;

    /// Sets a held event to be mapped again, in the replay lane. None if it isn't held.
    async fn reprocess_event(&self, app: &AppId, event: &EventId, now: Timestamp) -> Result<Option<LaneHead>>;
    /// Sets the held deliveries of a message to be reshaped again, in the replay lane. None if none is held.
    async fn reprocess_message(&self, app: &AppId, message: &MessageId, now: Timestamp) -> Result<Option<LaneHead>>;
    /// Sends a delivery's bytes once more, in the replay lane. None if there is no such delivery, or it has nothing to
    /// send. One that stands in line in its endpoint's order stays there.
    async fn resend(
        &self,
        app: &AppId,
        message: &MessageId,
        endpoint: &EndpointId,
        now: Timestamp,
    ) -> Result<Option<LaneHead>>;
    /// Takes a delivery that ended or is held out of its endpoint's order, so that the next one goes on. Answers whether it
    /// stood in line, and who goes on.
    async fn skip(
        &self,
        app: &AppId,
        message: &MessageId,
        endpoint: &EndpointId,
        now: Timestamp,
    ) -> Result<(bool, Option<LaneHead>)>;
    /// How many deliveries a replay would set in motion, counted up to `max`.
    async fn count_replay(&self, app: &AppId, filter: &ReplayFilter, max: usize) -> Result<usize>;
    /// One step of a replay: sets about `limit` deliveries in motion (whole messages; `missing` ones through fan-out), the
    /// oldest first. The work is due again at `next`, or done. A step that finds little ends early, after it has looked at
    /// some thousand messages.
    async fn replay(
        &self,
        claim: &Claim,
        filter: &ReplayFilter,
        after: Option<MessageId>,
        limit: usize,
        now: Timestamp,
        next: Timestamp,
    ) -> Result<Replayed>;
    /// Removes a message's content and every copy of it; what still waits of it is cancelled. False if there is no such
    /// message.
    async fn expunge_message(&self, app: &AppId, message: &MessageId, now: Timestamp) -> Result<bool>;
    /// Removes what a receiver answered to an attempt. False if there is no such attempt.
    async fn expunge_attempt(&self, app: &AppId, message: &MessageId, attempt: &AttemptId) -> Result<bool>;
    /// Begins to carry out a request that may be repeated, unless that was begun or done before. Another request under the
    /// same key is [`StoreError::KeyReused`].
    async fn begin_answer(&self, question: &Question, now: Timestamp) -> Result<Begun>;
    /// Keeps what a request was answered; none: it may be tried anew.
    async fn end_answer(&self, question: &Question, answer: Option<Answer>) -> Result<()>;
    /// A page of the audit log of a tenant (none: of the instance).
    async fn audit(&self, app: Option<&AppId>, page: PageRequest) -> Result<Page<Entry>>;
    /// Looks at a few times `limit` rows that are older than `before`, from behind `after` on, and removes at most about `limit`,
    /// in one small commit. Nothing that still waits is removed: it is passed over.
    async fn expire(&self, what: Expiry, before: Timestamp, after: Option<Key>, limit: usize) -> Result<Expired>;
    /// What a tenant has in the store, and what it used.
    async fn usage(&self, app: &AppId) -> Result<Usage>;
    /// What a tenant has configured.
    async fn owned(&self, app: &AppId) -> Result<Owned>;

    /// An event with its body.
    async fn event(&self, app: &AppId, id: &EventId) -> Result<Option<Event>>;
    /// A page of a tenant's events, newest first, without their bodies.
    async fn events(&self, app: &AppId, filter: EventFilter, page: PageRequest) -> Result<Page<Event>>;
    /// What an event's matches came to.
    async fn matches(&self, event: &EventId) -> Result<Vec<MatchRow>>;
    /// A tenant's message by its id or uid.
    async fn message(&self, app: &AppId, id_or_uid: &str) -> Result<Option<Message>>;
    /// A page of a tenant's messages; without content the payloads are empty.
    async fn messages(
        &self,
        app: &AppId,
        filter: MessageFilter,
        page: PageRequest,
        content: bool,
    ) -> Result<Page<Message>>;
    /// How many deliveries an endpoint has in each state, of messages published from the first time on and before the second.
    async fn delivery_counts(
        &self,
        app: &AppId,
        endpoint: &EndpointId,
        between: (Timestamp, Timestamp),
    ) -> Result<DeliveryCounts>;
    /// A message's deliveries.
    async fn deliveries(&self, app: &AppId, message: &MessageId) -> Result<Vec<Delivery>>;
    /// One attempt at a message.
    async fn attempt(&self, app: &AppId, message: &MessageId, id: &AttemptId) -> Result<Option<Attempt>>;
    /// A page of attempts.
    async fn attempts(&self, app: &AppId, filter: AttemptFilter, page: PageRequest) -> Result<Page<Attempt>>;
    /// One call.
    async fn call(&self, app: &AppId, id: &CallId) -> Result<Option<Call>>;
    /// A page of calls.
    async fn calls(&self, app: &AppId, filter: CallFilter, page: PageRequest) -> Result<Page<Call>>;
    /// One call with all that is left of what it was made with.
    async fn recorded_call(&self, app: &AppId, id: &CallId) -> Result<Option<RecordedCall>>;
    /// What may still hold a call's output: rows that later work may have replaced, to be checked by its digest.
    async fn output_parts(&self, app: &AppId, id: &CallId) -> Result<OutputParts>;
    /// The ids of a tenant's recorded inputs, the newest first.
    async fn recorded(&self, app: &AppId, filter: RecordedFilter) -> Result<Vec<String>>;
    /// One dead letter.
    async fn dead_letter(&self, app: &AppId, id: &DeadLetterId) -> Result<Option<DeadLetter>>;
    /// A page of dead letters, of one plugin if named.
    async fn dead_letters(&self, app: &AppId, plugin: Option<PluginId>, page: PageRequest) -> Result<Page<DeadLetter>>;
}

impl dyn Store + '_ {
    /// Claims at most `limit` pieces of work that are due, those due first, as evenly over the lanes as it goes.
    ///
    /// # Errors
    /// As [`Store::claim`].
    pub async fn claim_due(&self, kind: WorkKind, now: Timestamp, limit: usize) -> Result<Vec<Claim>> {
        let mut due = self.lanes(kind, None, LANES_MAX).await?;
        due.retain(|head| head.due <= now);
        due.sort_by_key(|head| head.due);
        due.truncate(limit);
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let each = limit / due.len();
        let want = |head: LaneHead| Want { kind, lane: head.lane, limit: each };
        self.claim(due.into_iter().map(want).collect(), now).await
    }
}

/// What this node is to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// Its number; grows with every registration.
    pub id: i64,
    /// It was registered anew just now: what it held before is lost to it.
    pub fresh: bool,
    /// How many nodes are alive, this one included.
    pub alive: usize,
}

/// News from other nodes.
#[derive(Clone, Debug, PartialEq)]
pub enum Ring {
    /// A lane has work.
    Lane(LaneHead),
    /// Configuration changed: ask [`Store::config_changes`].
    Config,
    /// News were lost: look at everything.
    Lagged,
}

/// What names a version for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionDigests {
    /// Of component, contract and settings.
    pub version: String,
    /// Of the component's bytes.
    pub component: String,
}

/// What one step of a release set in motion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Events to map.
    pub events: usize,
    /// Messages to fan out.
    pub messages: usize,
    /// Nothing is left.
    pub done: bool,
}
