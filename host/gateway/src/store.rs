//! The store: everything that must outlive the process. A trait with one implementation per database.
//!
//! The promises that the rest of the gateway builds on:
//! - each method is one transaction, durable when it returns `Ok`;
//! - accepting an event or a message commits the row and the work that makes it go on together;
//! - work is claimed under a lease with a fencing token; finishing it with an outdated token changes nothing and answers
//!   [`StoreError::LeaseLost`];
//! - a claim whose process died comes back when its lease ends, or at once when the embedded store is opened again.
//!
//! Only this folder knows SQL.

pub mod evidence;
pub mod flow;
pub mod resource;
pub mod sqlite;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;

use crate::{
    clock::Timestamp,
    id::{
        AppId, AttemptId, CallId, DeadLetterId, EndpointId, EventId, MessageId, PluginId, RolloutId, SourceId,
        VersionId,
    },
    rollout::tally::{Health, ShadowCounts, ShadowResult, Tally},
};
use evidence::{OutputParts, RecordedCall, RecordedFilter};
use flow::{
    Accepted, Attempt, AttemptEnd, Call, Claim, DeadLetter, Delivery, DeliveryJob, DeliveryState, Event, EventState,
    FanOutEnd, Idempotency, MappingEnd, MatchRow, Message, NewEvent, WorkKind,
};
use resource::{Document, Resource, ResourceKind, Stored};

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
    /// Adds a document. A tenant's needs its tenant: else it is [`StoreError::Changed`].
    Insert(Document),
    /// Replaces a document that still has the given revision.
    Update(Document),
    /// Removes a document; nothing happens if it is gone. The component of a last version goes with it.
    Delete {
        /// Its kind.
        kind: ResourceKind,
        /// Its id.
        id: String,
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
        /// On what.
        subject: String,
        /// When.
        due: Timestamp,
    },
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
    /// Sets all that a plugin holds at this commit in motion, bit by bit; a release that is going on begins anew.
    Release {
        /// Whose.
        app: AppId,
        /// The plugin.
        plugin: PluginId,
    },
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
    /// The document that a secret's digest finds; none of a tenant that is gone.
    async fn document_by_handle(
        &self,
        kind: ResourceKind,
        digest: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<Document>>;
    /// A component's bytes.
    async fn component(&self, digest: &str) -> Result<Option<Vec<u8>>>;

    /// Accepts an inbound event together with the work to map it; recognizes repeats. If its tenant is gone:
    /// [`StoreError::Changed`].
    async fn accept_event(&self, event: NewEvent) -> Result<Accepted<EventId>>;
    /// Accepts a message together with the work to fan it out; recognizes repeats. A repeated uid is
    /// [`StoreError::Exists`]. If its tenant is gone: [`StoreError::Changed`].
    async fn accept_message(&self, message: Message, idempotency: Option<Idempotency>) -> Result<Accepted<MessageId>>;

    /// Claims at most `limit` pieces of work that are due, until `now + lease`.
    async fn claim(&self, kind: WorkKind, now: Timestamp, lease: Duration, limit: usize) -> Result<Vec<Claim>>;
    /// When the next unclaimed work of this kind is due.
    async fn next_due(&self, kind: WorkKind) -> Result<Option<Timestamp>>;
    /// Holds on to claimed work for longer.
    async fn renew(&self, claim: &Claim, until: Timestamp) -> Result<()>;
    /// Gives work back, to be due again at `due`.
    async fn postpone(&self, claim: &Claim, due: Timestamp) -> Result<()>;
    /// Gives up on work whose subject no longer exists.
    async fn abandon(&self, claim: &Claim) -> Result<()>;
    /// Ends the mapping of an event.
    async fn finish_mapping(&self, claim: &Claim, end: MappingEnd) -> Result<()>;
    /// Ends the fan-out of a message.
    async fn finish_fan_out(&self, claim: &Claim, end: FanOutEnd, now: Timestamp) -> Result<()>;
    /// Ends an attempt; `attempt` is none where none was made. An attempt that was made is recorded even if the lease is
    /// lost, since it happened; the delivery then stays as whoever has it now leaves it.
    async fn finish_attempt(
        &self,
        claim: &Claim,
        attempt: Option<Attempt>,
        end: AttemptEnd,
        now: Timestamp,
    ) -> Result<()>;

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

    /// Sets a held event to be mapped again. False if it isn't held.
    async fn reprocess_event(&self, event: &EventId, now: Timestamp) -> Result<bool>;
    /// Sets the held deliveries of a message to be reshaped again. False if none is held.
    async fn reprocess_message(&self, message: &MessageId, now: Timestamp) -> Result<bool>;
    /// Sends a delivery's bytes once more. False if there is no such delivery, or it has nothing to send.
    async fn resend(&self, message: &MessageId, endpoint: &EndpointId, now: Timestamp) -> Result<bool>;

    /// An event with its body.
    async fn event(&self, id: &EventId) -> Result<Option<Event>>;
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
    /// A message's deliveries.
    async fn deliveries(&self, message: &MessageId) -> Result<Vec<Delivery>>;
    /// What an attempt needs; none if the delivery is gone.
    async fn delivery_job(&self, number: i64) -> Result<Option<DeliveryJob>>;
    /// One attempt.
    async fn attempt(&self, app: &AppId, id: &AttemptId) -> Result<Option<Attempt>>;
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
        Ok(Page { rows: page.rows.into_iter().map(read).collect::<Result<_>>()?, done: page.done })
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

    /// The resource that a secret's digest finds.
    ///
    /// # Errors
    /// As [`Store::document_by_handle`].
    pub async fn find_by_handle<T: Resource>(&self, digest: [u8; 32], now: Timestamp) -> Result<Option<Stored<T>>> {
        self.document_by_handle(T::KIND, digest, now).await?.map(read).transpose()
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
    Write::Delete { kind: T::KIND, id: value.id().to_owned() }
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

fn read<T: Resource>(document: Document) -> Result<Stored<T>> {
    let value = serde_json::from_str(&document.data).map_err(|error| StoreError::Inconsistent {
        detail: format!("{} {}: {error}", document.kind.as_str(), document.id),
    })?;
    Ok(Stored { value, revision: document.revision })
}
