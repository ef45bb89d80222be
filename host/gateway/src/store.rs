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
//! Only this folder knows SQL.

pub mod evidence;
pub mod flow;
#[cfg(test)]
mod in_flight;
pub mod key;
pub mod postgres;
pub mod query;
pub mod resource;
pub mod sqlite;
pub mod trail;

use std::collections::BTreeMap;

use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::{
    audit::Entry,
    clock::Timestamp,
    id::{
        AppId, AttemptId, CallId, DeadLetterId, EndpointId, EventId, MessageId, PluginId, RolloutId, SourceId,
        VersionId,
    },
    quota::{Exceeded, Owned},
    rollout::tally::{Health, ShadowCounts, ShadowResult, Tally},
};
use evidence::{OutputParts, RecordedCall, RecordedFilter};
use flow::{
    Admitted, Attempt, AttemptDone, AttemptEnd, Call, Claim, DeadLetter, Delivery, DeliveryCounts, DeliveryState,
    EndpointHealth, Event, EventState, Expired, Expiry, FanOutDone, FanOutEnd, Held, Idempotency, Job, LaneHead,
    MappingEnd, MatchRow, Message, NewEvent, ReplayFilter, Replayed, Rescheduled, Usage, Want, WorkKind,
};
use key::{Key, Lane, Subject};
use resource::{Document, Resource, ResourceKind, Stored};
use trail::{Answer, Begun, Question};

/// Lanes that one look for work finds at most.
const LANES_MAX: usize = 1_000;

/// How a store operation can fail.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another row of the same kind has this id or name already.
    #[error("a {kind} `{name}` exists already")]
    Exists {
        /// What exists.
        kind: &'static str,
        /// Under which name.
        name: String,
    },
    /// The tenant has as many of the kind as it may.
    #[error("there are {max} already, and no more are possible: remove one first ({kind})")]
    Full {
        /// Of what.
        kind: &'static str,
        /// How many.
        max: usize,
    },
    /// The tenant has as much as its operator allows it.
    #[error(transparent)]
    OverQuota(Exceeded),
    /// The row was changed or deleted since it was read.
    #[error("the {kind} `{name}` was changed at the same time: read it again and repeat the change")]
    Changed {
        /// What was changed.
        kind: &'static str,
        /// Its id.
        name: String,
    },
    /// The same idempotency key came with another request.
    #[error("this Idempotency-Key was used for another request within the last 24 hours")]
    KeyReused,
    /// The work was claimed by another process since, or is done.
    #[error("the lease of work {work} is lost")]
    LeaseLost {
        /// Row of the queue.
        work: i64,
    },
    /// The database can't be used now: locked, full, gone.
    #[error("the store is unavailable: {detail}")]
    Unavailable {
        /// What it said.
        detail: String,
    },
    /// The database holds what this version can't read, or refused our statement: our bug.
    #[error("the store is inconsistent: {detail}")]
    Inconsistent {
        /// What is wrong.
        detail: String,
    },
}

/// What a store operation returns.
pub type Result<T> = std::result::Result<T, StoreError>;

/// One change of configuration; several are committed together.
#[derive(Clone, Debug)]
pub enum Write {
    /// Adds a document. A tenant's needs its tenant: else it is [`StoreError::Changed`]; and it must fit the tenant's quota:
    /// else it is [`StoreError::OverQuota`].
    Insert(Document),
    /// Replaces a document that still has the given revision.
    Update(Document),
    /// Removes a document; nothing happens if it is gone. The component of a last version goes with it.
    Delete {
        /// Its kind.
        kind: ResourceKind,
        /// Its id.
        id: String,
        /// Whose it was; none for what belongs to the instance.
        app: Option<AppId>,
    },
    /// Changes nothing, and fails as [`StoreError::Changed`] if this document is gone: what is committed with it names it.
    Require {
        /// Its kind.
        kind: ResourceKind,
        /// Its id.
        id: String,
    },
    /// Removes a tenant: from this commit on it is not there, and nothing more of it is accepted. The work that comes with it
    /// erases what belongs to it, see [`Store::erase`].
    DeleteApp(AppId),
    /// Makes a document findable by the digest of a secret (an API key, a source's token).
    Handle {
        /// SHA-256 of the secret.
        digest: [u8; 32],
        /// The document's kind.
        kind: ResourceKind,
        /// The document's id.
        id: String,
    },
    /// Ends all handles of a document, at once or after an overlap.
    ExpireHandles {
        /// The document's id.
        id: String,
        /// When they stop to work.
        at: Timestamp,
    },
    /// Keeps a component's bytes under their digest, once.
    Component {
        /// `sha256:…`
        digest: String,
        /// The bytes as uploaded.
        bytes: Vec<u8>,
    },
    /// Adds work, or makes the work on this subject due again.
    Work {
        /// What to do.
        kind: WorkKind,
        /// Whose.
        app: AppId,
        /// On what. Events and deliveries have ways of their own.
        subject: Subject,
        /// When.
        due: Timestamp,
    },
    /// Adds an entry to the audit log.
    Audit(Box<Entry>),
    /// Publishes a message of the gateway's own, with the work to fan it out.
    Message(Box<Message>),
    /// Keeps exactly these counts of a plugin: new ones begin at zero, others go.
    Counting {
        /// Whose.
        app: AppId,
        /// Of what.
        plugin: PluginId,
        /// The counts to keep.
        ids: Vec<RolloutId>,
    },
    /// Forgets a version's failures in a row.
    ForgetHealth(VersionId),
    /// Forgets an endpoint's failures in a row.
    ForgetEndpointHealth(EndpointId),
    /// Sets all that a plugin holds at this commit in motion, bit by bit; a release that is going on begins anew.
    Release {
        /// Whose.
        app: AppId,
        /// The plugin.
        plugin: PluginId,
    },
}

impl Write {
    /// Whose configuration it changes: `Some(None)` is the instance's, `None` no configuration at all.
    pub fn configures(&self) -> Option<Option<AppId>> {
        match self {
            Self::Insert(document) | Self::Update(document) => Some(match document.kind {
                ResourceKind::App => document.id.parse().ok(),
                _ => document.app.clone(),
            }),
            Self::Delete { app, .. } => Some(app.clone()),
            Self::DeleteApp(app) => Some(Some(app.clone())),
            // Handles change together with the document that they find.
            Self::Require { .. }
            | Self::Handle { .. }
            | Self::ExpireHandles { .. }
            | Self::Component { .. }
            | Self::Work { .. }
            | Self::Audit(_)
            | Self::Message(_)
            | Self::Counting { .. }
            | Self::ForgetHealth(_)
            | Self::ForgetEndpointHealth(_)
            | Self::Release { .. } => None,
        }
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

/// The order of a list by id, which is the order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first.
    Descending,
}

/// Where a page of a list begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// At the list's start.
    Start,
    /// After this id, in the list's order.
    After(String),
    /// Before this id: the page that precedes it, still in the list's order.
    Before(String),
}

/// Which part of a list is wanted.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// At most this many rows.
    pub limit: usize,
    /// Where it begins.
    pub position: Position,
    /// In which order.
    pub order: Order,
}

impl PageRequest {
    /// The first `limit` rows, newest first.
    pub fn newest(limit: usize) -> Self {
        Self { limit, position: Position::Start, order: Order::Descending }
    }

    /// The first `limit` rows, oldest first.
    pub fn oldest(limit: usize) -> Self {
        Self { limit, position: Position::Start, order: Order::Ascending }
    }
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The rows, in the wanted order.
    pub rows: Vec<T>,
    /// Nothing lies beyond, in the direction of reading.
    pub done: bool,
    /// The last row that was looked at, where the page ended before it was full: behind it the look goes on.
    pub stopped_at: Option<String>,
}

impl<T> Page<T> {
    /// A page that is full, or the last one.
    pub fn new(rows: Vec<T>, done: bool) -> Self {
        Self { rows, done, stopped_at: None }
    }
}

/// Which messages a list holds. Empty lists and `None` mean any.
#[derive(Clone, Debug, Default)]
pub struct MessageFilter {
    /// With this channel.
    pub channel: Option<String>,
    /// Of one of these event types.
    pub event_types: Vec<String>,
    /// Published before.
    pub before: Option<Timestamp>,
    /// Published after.
    pub after: Option<Timestamp>,
    /// With a delivery to this endpoint, and
    pub endpoint: Option<EndpointId>,
    /// that delivery in one of these states.
    pub states: Vec<DeliveryState>,
}

/// Which attempts a list holds. `None` means any.
#[derive(Clone, Debug, Default)]
pub struct AttemptFilter {
    /// To this endpoint.
    pub endpoint: Option<EndpointId>,
    /// Of this message.
    pub message: Option<MessageId>,
    /// Confirmed by the receiver, or not.
    pub succeeded: Option<bool>,
    /// Status codes from this one on …
    pub status_code_min: Option<u16>,
    /// … and below this one.
    pub status_code_below: Option<u16>,
    /// Of messages with this channel.
    pub channel: Option<String>,
    /// Of messages of one of these event types.
    pub event_types: Vec<String>,
    /// Begun before.
    pub before: Option<Timestamp>,
    /// Begun after.
    pub after: Option<Timestamp>,
}

/// Which inbound events a list holds. `None` means any.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Of this source.
    pub source: Option<SourceId>,
    /// In this state.
    pub state: Option<EventState>,
    /// Received before.
    pub before: Option<Timestamp>,
    /// Received after.
    pub after: Option<Timestamp>,
}

/// Which calls a list holds. `None` means any.
#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    /// Of this plugin.
    pub plugin: Option<PluginId>,
    /// For this event.
    pub event: Option<EventId>,
    /// For this message.
    pub message: Option<MessageId>,
    /// Only those that failed.
    pub failed: bool,
}

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
    /// The resource with this id or, within the tenant, this uid.
    ///
    /// # Errors
    /// As [`Store::document`].
    pub async fn find<T: Resource>(&self, app: Option<&AppId>, id_or_uid: &str) -> Result<Option<Stored<T>>> {
        self.document(T::KIND, app, id_or_uid).await?.map(read).transpose()
    }

    /// A page of resources.
    ///
    /// # Errors
    /// As [`Store::documents`].
    pub async fn list<T: Resource>(&self, app: Option<&AppId>, page: PageRequest) -> Result<Page<Stored<T>>> {
        let page = self.documents(T::KIND, app, page).await?;
        Ok(Page::new(page.rows.into_iter().map(read).collect::<Result<_>>()?, page.done))
    }

    /// All resources of a tenant, in pages of 500. For kinds with a bound on their number
    /// ([`ResourceKind::owned_max`]).
    ///
    /// # Errors
    /// As [`Store::documents`].
    pub async fn all<T: Resource>(&self, app: &AppId) -> Result<Vec<T>> {
        let mut all: Vec<T> = Vec::new();
        let mut request = PageRequest::oldest(500);
        loop {
            let page = self.list::<T>(Some(app), request.clone()).await?;
            all.extend(page.rows.into_iter().map(|stored| stored.value));
            match all.last() {
                Some(last) if !page.done => request.position = Position::After(last.id().to_owned()),
                _ => break,
            }
        }
        Ok(all)
    }

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

    /// The resource that a secret's digest finds, and when it stops to find it.
    ///
    /// # Errors
    /// As [`Store::document_by_handle`].
    pub async fn find_by_handle<T: Resource>(
        &self,
        digest: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<(Stored<T>, Option<Timestamp>)>> {
        let found = self.document_by_handle(T::KIND, digest, now).await?;
        found.map(|(document, until)| Ok((read(document)?, until))).transpose()
    }
}

/// A resource as a new document.
pub fn insert<T: Resource>(value: &T) -> Write {
    Write::Insert(document(value, 1))
}

/// A changed resource as an update of what was read.
pub fn update<T: Resource>(value: &T, revision: i64) -> Write {
    Write::Update(document(value, revision))
}

/// That a resource is still there.
pub fn require<T: Resource>(id: &(impl ToString + ?Sized)) -> Write {
    Write::Require { kind: T::KIND, id: id.to_string() }
}

/// The removal of a resource.
pub fn delete<T: Resource>(value: &T) -> Write {
    Write::Delete { kind: T::KIND, id: value.id().to_owned(), app: value.app().cloned() }
}

/// A resource as the store sees a new one.
pub fn document_of<T: Resource>(value: &T) -> Document {
    document(value, 1)
}

fn document<T: Resource>(value: &T, revision: i64) -> Document {
    Document {
        kind: T::KIND,
        id: value.id().to_owned(),
        app: value.app().cloned(),
        uid: value.uid().map(str::to_owned),
        data: serde_json::to_string(value).expect("resources have string keys and no failing serializers"),
        revision,
    }
}

/// The typed resource of a document.
///
/// # Errors
/// [`StoreError::Inconsistent`] if it can't be read as that.
pub fn read<T: Resource>(document: Document) -> Result<Stored<T>> {
    let value = serde_json::from_str(&document.data).map_err(|error| StoreError::Inconsistent {
        detail: format!("{} {}: {error}", document.kind.as_str(), document.id),
    })?;
    Ok(Stored { value, revision: document.revision })
}
