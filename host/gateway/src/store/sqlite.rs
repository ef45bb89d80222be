//! The embedded store: SQLite in WAL mode, every commit synchronous.
//!
//! One thread writes (`writer`; group commit: under load many operations share a sync, an idle store commits a lone
//! operation at once). Another one copies what was committed from the log into the file (`checkpoint`). Reads run beside
//! them on a few connections of their own (`readers`).

mod accept;
mod again;
mod backlog;
mod backup;
mod checkpoint;
mod components;
mod content;
mod erase;
mod evidence;
mod expire;
mod finish;
mod lists;
mod order;
mod place;
mod queue;
mod readers;
#[cfg(test)]
mod releases;
mod replay;
mod resources;
mod rollouts;
mod rows;
mod trail;
mod writer;

use std::{
    collections::BTreeMap,
    fs::{File, TryLockError},
    path::Path,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags, config::DbConfig, params};
use tokio::sync::broadcast;

use crate::{
    audit::Entry,
    clock::Timestamp,
    id::{AppId, AttemptId, CallId, DeadLetterId, EndpointId, EventId, MessageId, PluginId, RolloutId, VersionId},
    quota::Owned,
    rollout::tally::{Health, ShadowCounts, ShadowResult, Tally},
    store::{
        AttemptFilter, CallFilter, EventFilter, MessageFilter, NodeState, Page, PageRequest, Released, Result, Ring,
        Store, StoreError, VersionDigests, Write,
        evidence::{OutputParts, RecordedCall, RecordedFilter},
        flow::{
            Admitted, Attempt, AttemptDone, AttemptEnd, Call, Claim, DeadLetter, Delivery, DeliveryCounts,
            DeliveryState, EndpointHealth, Event, Expired, Expiry, FanOutDone, FanOutEnd, Held, Idempotency, Job,
            LaneHead, MappingEnd, MatchRow, Message, NewEvent, ReplayFilter, Replayed, Rescheduled, Usage, Want,
            WorkKind,
        },
        key::{Key, Lane, key},
        resource::{Document, ResourceKind},
        trail::{Answer, Begun, Question},
    },
};
pub use backup::{backup, restore};

use backlog::Rank;
use checkpoint::{Checkpointer, Log, PACE, Pace};
use readers::Readers;
use writer::{Turn, Writer};

/// The statements that bring a store from version N to N + 1, in order. Never edited once released.
const MIGRATIONS: &[&str] = &[include_str!("migrations/sqlite_0001.sql")];

/// How long a connection waits for another process that has the database locked.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a commit may take before the store counts as not ready.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// The embedded store.
pub struct SqliteStore {
    writer: Writer,
    // Stops before the writer closes the file. None in a process that only changes configuration.
    _checkpointer: Option<Checkpointer>,
    readers: Readers,
    // Lists may read a lot: they never hold up what accepting and delivering read.
    list_readers: Readers,
    node: i64,
    // Nobody else works on the store: it never rings.
    bell: broadcast::Sender<Ring>,
    // Held until the store is closed.
    _lock: Option<File>,
}

impl SqliteStore {
    /// Opens the store in the file `path`, creates or migrates it, and sets free what a dead process had claimed.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the file can't be opened, is in use by another process, was written by a newer
    /// version, or lies on a network file system.
    pub fn open(path: &Path, now: Timestamp) -> Result<Self> {
        place::check(path)?;
        Self::open_anywhere(path, now)
    }

    /// As [`open`](Self::open), also on a network file system, where what was answered as kept may be lost.
    ///
    /// # Errors
    /// As [`open`](Self::open) otherwise.
    pub fn open_anywhere(path: &Path, now: Timestamp) -> Result<Self> {
        // One process works on an embedded store: claims of a dead one can be told from live ones only so.
        let lock = lock(path)?;
        let connection = connect_writer(path)?;
        queue::free_all(&connection).map_err(unavailable)?;
        connection.execute("DELETE FROM node", []).map_err(unavailable)?;
        Self::run(path, connection, now, Some(lock), PACE)
    }

    /// Opens the store beside the process that works on it, for changes of configuration from the command line.
    ///
    /// # Errors
    /// As [`open`](Self::open), except that the store may be in use.
    pub fn attach(path: &Path, now: Timestamp) -> Result<Self> {
        Self::run(path, connect_writer(path)?, now, None, PACE)
    }

    fn run(path: &Path, connection: Connection, now: Timestamp, lock: Option<File>, pace: Pace) -> Result<Self> {
        let node = register(&connection, now).map_err(unavailable)?;
        let (readers, list_readers) = (Readers::open(path)?, Readers::open(path)?);
        let log = Arc::new(Log::default());
        if lock.is_some() {
            connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(unavailable)?;
        }
        let writer = Writer::start(path, connection, node, log.clone())?;
        let checkpointer = match &lock {
            Some(_) => Some(Checkpointer::start(path, log, pace, writer.waker())?),
            None => None,
        };
        let bell = broadcast::channel(1).0;
        Ok(Self { writer, _checkpointer: checkpointer, readers, list_readers, node, bell, _lock: lock })
    }

    /// Changes something for a tenant, in its turn.
    async fn change<T: Send + 'static>(
        &self,
        app: &AppId,
        operation: impl FnMut(&Turn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writer.transact(Rank::Turn(key(app)), operation).await
    }

    /// Changes something for the gateway itself, in its turn.
    async fn transact<T: Send + 'static>(
        &self,
        operation: impl FnMut(&Turn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writer.transact(Rank::Turn([0; 16]), operation).await
    }

    /// Changes what can wait.
    async fn upkeep<T: Send + 'static>(
        &self,
        operation: impl FnMut(&Turn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writer.transact(Rank::Upkeep, operation).await
    }

    async fn list<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.list_readers.run(query).await
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.readers.run(query).await
    }
}

/// A number for this process that no other ever had. It lives while it holds the store's lock.
fn register(c: &Connection, now: Timestamp) -> rusqlite::Result<i64> {
    c.execute(
        "INSERT INTO node (name, started_ms) VALUES (?, ?)",
        params![format!("process {}", std::process::id()), now.as_millis()],
    )?;
    Ok(c.last_insert_rowid())
}

/// Makes this process the one that works on the store.
fn lock(path: &Path) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed =
        |error: &dyn std::fmt::Display| StoreError::Unavailable { detail: format!("{}: {error}", path.display()) };
    let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(failed(&"another hookloom process works on this store")),
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}

fn connect_writer(path: &Path) -> Result<Connection> {
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    prepare_writer(&connection).map_err(unavailable)?;
    migrate(&mut connection, MIGRATIONS)?;
    Ok(connection)
}

/// Another connection for the writer of a store that is open, after a failure.
fn reconnect_writer(path: &Path) -> Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    prepare_writer(&connection).map_err(unavailable)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(unavailable)?;
    Ok(connection)
}

fn prepare_writer(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 67108864;
         PRAGMA cache_size = -65536;",
    )
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| StoreError::Unavailable { detail: format!("{}: {error}", path.display()) })?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(unavailable)?;
    connection.set_prepared_statement_cache_capacity(128);
    // Without this, a statement whose plan may depend on a value (`kind = ?` beside an index for one kind) is compiled anew
    // each time it is run.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(unavailable)?;
    connection.pragma_update(None, "cache_size", -16_384).map_err(unavailable)?;
    Ok(connection)
}

/// Brings the schema up to date, in one commit; several processes that open the store at once do it one after the other.
fn migrate(connection: &mut Connection, migrations: &[&str]) -> Result<()> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(unavailable)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(unavailable)?;
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done > migrations.len() {
        return Err(StoreError::Unavailable {
            detail: format!("the store has schema version {version}, this program knows {}: upgrade", migrations.len()),
        });
    }
    for migration in &migrations[done..] {
        transaction.execute_batch(migration).map_err(unavailable)?;
    }
    transaction.pragma_update(None, "user_version", migrations.len() as i64).map_err(unavailable)?;
    transaction.commit().map_err(unavailable)
}

fn read_counts<T: serde::de::DeserializeOwned>(text: Option<String>) -> Result<Option<T>> {
    text.map(|text| serde_json::from_str(&text)).transpose().map_err(accept::inconsistent)
}

fn unavailable(error: impl ToString) -> StoreError {
    StoreError::Unavailable { detail: error.to_string() }
}

/// Tells a database that can't be used now from one that we use wrongly.
fn store_error(error: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, ReadOnly, SystemIoFailure};
    let detail = error.to_string();
    match error.sqlite_error_code() {
        Some(DatabaseBusy | DatabaseLocked | DiskFull | SystemIoFailure | CannotOpen | ReadOnly) => {
            StoreError::Unavailable { detail }
        }
        _ => StoreError::Inconsistent { detail },
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        store_error(error)
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn write(&self, writes: Vec<Write>, now: Timestamp) -> Result<()> {
        self.transact(move |tx| resources::write(tx, &writes, now)).await
    }

    async fn document(&self, kind: ResourceKind, app: Option<&AppId>, id_or_uid: &str) -> Result<Option<Document>> {
        let (app, name) = (app.cloned(), id_or_uid.to_owned());
        self.read(move |c| resources::document(c, kind, app.as_ref(), &name)).await
    }

    async fn documents(&self, kind: ResourceKind, app: Option<&AppId>, page: PageRequest) -> Result<Page<Document>> {
        let app = app.cloned();
        self.read(move |c| resources::documents(c, kind, app.as_ref(), &page)).await
    }

    async fn document_by_handle(
        &self,
        kind: ResourceKind,
        digest: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<(Document, Option<Timestamp>)>> {
        self.read(move |c| resources::document_by_handle(c, kind, &digest, now)).await
    }

    async fn component(&self, digest: &str) -> Result<Option<Vec<u8>>> {
        let digest = digest.to_owned();
        // Megabytes: not with the connections of live reads.
        self.list(move |c| components::read(c, &digest)).await
    }

    async fn heartbeat(&self) -> Result<NodeState> {
        Ok(NodeState { id: self.node, fresh: false, alive: 1 })
    }

    async fn sweep(&self) -> Result<u64> {
        Ok(0)
    }

    fn bell(&self) -> broadcast::Receiver<Ring> {
        self.bell.subscribe()
    }

    async fn config_changes(&self, after: i64) -> Result<(i64, Vec<Option<AppId>>)> {
        self.read(move |c| resources::changes(c, after)).await
    }

    async fn ready(&self) -> Result<()> {
        // A commit that writes: one that changes nothing succeeds on a full disk.
        let turn = self.transact(|tx| resources::set_meta(tx, "ready", &tx.number().to_be_bytes(), false).map(drop));
        tokio::time::timeout(READY_WITHIN, turn).await.map_err(unavailable)?
    }

    async fn meta(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let key = key.to_owned();
        self.read(move |c| resources::meta(c, &key)).await
    }

    async fn set_meta(&self, key: &str, value: &[u8], only_if_absent: bool) -> Result<bool> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.transact(move |tx| resources::set_meta(tx, &key, &value, only_if_absent)).await
    }

    async fn accept_event(&self, event: NewEvent, hot: bool) -> Result<Admitted<EventId>> {
        let app = event.app.clone();
        self.change(&app, move |tx| accept::event(tx, &event, hot)).await
    }

    async fn accept_message(
        &self,
        message: Message,
        idempotency: Option<Idempotency>,
        hot: bool,
    ) -> Result<Admitted<MessageId>> {
        let app = message.app.clone();
        self.change(&app, move |tx| accept::message(tx, &message, idempotency.as_ref(), hot)).await
    }

    async fn accept_message_for(&self, message: Message, endpoint: &EndpointId) -> Result<Admitted<MessageId>> {
        let (app, endpoint) = (message.app.clone(), endpoint.clone());
        self.change(&app, move |tx| content::accept_for(tx, &message, &endpoint)).await
    }

    async fn reschedule(
        &self,
        app: &AppId,
        message: &MessageId,
        at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Rescheduled> {
        let (app, message) = (app.clone(), message.clone());
        self.change(&app.clone(), move |tx| again::reschedule(tx, &app, &message, at, now)).await
    }

    async fn lanes(&self, kind: WorkKind, after: Option<Lane>, limit: usize) -> Result<Vec<LaneHead>> {
        self.read(move |c| queue::lanes(c, kind, after, limit)).await
    }

    async fn claim(&self, wants: Vec<Want>, now: Timestamp) -> Result<Vec<Claim>> {
        self.transact(move |tx| queue::claim(tx, &wants, now)).await
    }

    async fn jobs(&self, claims: &[Claim]) -> Result<Vec<Job>> {
        let claims = claims.to_vec();
        self.read(move |c| lists::jobs(c, &claims)).await
    }

    async fn give_back(&self, claims: Vec<(Claim, Timestamp)>) -> Result<()> {
        self.transact(move |tx| queue::give_back(tx, &claims)).await
    }

    async fn claimed(&self) -> Result<Vec<Held>> {
        let node = self.node;
        self.read(move |c| queue::claimed(c, node)).await
    }

    async fn free(&self, claims: Vec<Held>) -> Result<u64> {
        self.transact(move |tx| queue::free(tx, &claims)).await
    }

    async fn abandon(&self, claim: &Claim) -> Result<()> {
        let claim = claim.clone();
        self.transact(move |tx| queue::done(tx, &claim)).await
    }

    async fn finish_mapping(&self, claim: &Claim, end: MappingEnd, hot: bool) -> Result<Vec<Claim>> {
        let (app, claim) = (claim.app.clone(), claim.clone());
        self.change(&app, move |tx| finish::mapping(tx, &claim, &end, hot)).await
    }

    async fn finish_fan_out(&self, claim: &Claim, end: FanOutEnd, now: Timestamp) -> Result<FanOutDone> {
        let (app, claim) = (claim.app.clone(), claim.clone());
        self.change(&app, move |tx| finish::fan_out(tx, &claim, &end, now)).await
    }

    async fn finish_attempt(
        &self,
        claim: &Claim,
        attempt: Option<Attempt>,
        end: AttemptEnd,
        now: Timestamp,
    ) -> Result<AttemptDone> {
        let (app, claim) = (claim.app.clone(), claim.clone());
        self.change(&app, move |tx| finish::attempt(tx, &claim, attempt.as_ref(), &end, now)).await
    }

    async fn end_waiting(
        &self,
        endpoint: &EndpointId,
        state: DeliveryState,
        reason: &str,
        limit: usize,
        now: Timestamp,
    ) -> Result<usize> {
        let (endpoint, reason) = (endpoint.clone(), reason.to_owned());
        self.upkeep(move |tx| again::end_waiting(tx, &endpoint, state, &reason, limit, now)).await
    }

    async fn health_of(&self, endpoint: &EndpointId) -> Result<EndpointHealth> {
        let endpoint = endpoint.clone();
        self.read(move |c| finish::health(c, &endpoint)).await
    }

    async fn observe_shadow(&self, id: &RolloutId, result: Option<ShadowResult>, skipped: u64) -> Result<()> {
        let id = id.clone();
        self.transact(move |tx| rollouts::observe_shadow(tx, &id, result.clone(), skipped)).await
    }

    async fn tally(&self, id: &RolloutId) -> Result<Option<Tally>> {
        let id = id.clone();
        read_counts(self.read(move |c| rollouts::counts(c, &id)).await?)
    }

    async fn shadow_counts(&self, id: &RolloutId) -> Result<Option<ShadowCounts>> {
        let id = id.clone();
        read_counts(self.read(move |c| rollouts::counts(c, &id)).await?)
    }

    async fn health(&self, version: &VersionId) -> Result<Health> {
        let version = version.clone();
        self.read(move |c| rollouts::health(c, &version)).await
    }

    async fn version_digests(
        &self,
        app: &AppId,
        versions: Vec<VersionId>,
    ) -> Result<BTreeMap<VersionId, VersionDigests>> {
        let app = app.clone();
        self.read(move |c| rollouts::digests(c, &app, &versions)).await
    }

    async fn release(&self, claim: &Claim, limit: usize, now: Timestamp, next: Timestamp) -> Result<Released> {
        let claim = claim.clone();
        self.upkeep(move |tx| rollouts::release_some(tx, &claim, limit, now, next)).await
    }

    async fn stop_release(&self, claim: &Claim) -> Result<()> {
        let claim = claim.clone();
        self.transact(move |tx| rollouts::stop_release(tx, &claim)).await
    }

    async fn erase(&self, claim: &Claim) -> Result<bool> {
        let claim = claim.clone();
        self.upkeep(move |tx| erase::erase(tx, &claim)).await
    }

    async fn reprocess_event(&self, app: &AppId, event: &EventId, now: Timestamp) -> Result<Option<LaneHead>> {
        let (app, event) = (app.clone(), event.clone());
        self.change(&app.clone(), move |tx| again::event(tx, &app, &event, now)).await
    }

    async fn reprocess_message(&self, app: &AppId, message: &MessageId, now: Timestamp) -> Result<Option<LaneHead>> {
        let (app, message) = (app.clone(), message.clone());
        self.change(&app.clone(), move |tx| again::message(tx, &app, &message, now)).await
    }

    async fn resend(
        &self,
        app: &AppId,
        message: &MessageId,
        endpoint: &EndpointId,
        now: Timestamp,
    ) -> Result<Option<LaneHead>> {
        let (app, message, endpoint) = (app.clone(), message.clone(), endpoint.clone());
        self.change(&app.clone(), move |tx| again::resend(tx, &app, &message, &endpoint, now)).await
    }

    async fn skip(
        &self,
        app: &AppId,
        message: &MessageId,
        endpoint: &EndpointId,
        now: Timestamp,
    ) -> Result<(bool, Option<LaneHead>)> {
        let (app, message, endpoint) = (app.clone(), message.clone(), endpoint.clone());
        self.change(&app.clone(), move |tx| again::skip(tx, &app, &message, &endpoint, now)).await
    }

    async fn count_replay(&self, app: &AppId, filter: &ReplayFilter, max: usize) -> Result<usize> {
        let (app, filter) = (app.clone(), filter.clone());
        self.list(move |c| replay::count(c, &app, &filter, max)).await
    }

    async fn replay(
        &self,
        claim: &Claim,
        filter: &ReplayFilter,
        after: Option<MessageId>,
        limit: usize,
        now: Timestamp,
        next: Timestamp,
    ) -> Result<Replayed> {
        let (claim, filter) = (claim.clone(), filter.clone());
        self.upkeep(move |tx| replay::step(tx, &claim, &filter, after.as_ref(), limit, (now, next))).await
    }

    async fn expire(&self, what: Expiry, before: Timestamp, after: Option<Key>, limit: usize) -> Result<Expired> {
        self.upkeep(move |tx| expire::expire(tx, &what, before, after, limit)).await
    }

    async fn owned(&self, app: &AppId) -> Result<Owned> {
        let app = app.clone();
        self.read(move |c| resources::owned(c, &app)).await
    }

    async fn expunge_message(&self, app: &AppId, message: &MessageId, now: Timestamp) -> Result<bool> {
        let (app, message) = (app.clone(), message.clone());
        self.change(&app.clone(), move |tx| content::expunge(tx, &app, &message, now)).await
    }

    async fn expunge_attempt(&self, app: &AppId, message: &MessageId, attempt: &AttemptId) -> Result<bool> {
        let (app, message, attempt) = (app.clone(), message.clone(), attempt.clone());
        self.change(&app.clone(), move |tx| content::expunge_attempt(tx, &app, &message, &attempt)).await
    }

    async fn begin_answer(&self, question: &Question, now: Timestamp) -> Result<Begun> {
        let question = question.clone();
        let owner = crate::store::trail::owner(question.app.as_ref());
        self.change(&owner, move |tx| trail::begin(tx, &question, now)).await
    }

    async fn end_answer(&self, question: &Question, answer: Option<Answer>) -> Result<()> {
        let question = question.clone();
        let owner = crate::store::trail::owner(question.app.as_ref());
        self.change(&owner, move |tx| trail::end(tx, &question, answer.as_ref())).await
    }

    async fn audit(&self, app: Option<&AppId>, page: PageRequest) -> Result<Page<Entry>> {
        let app = app.cloned();
        self.list(move |c| trail::entries(c, app.as_ref(), &page)).await
    }

    async fn usage(&self, app: &AppId) -> Result<Usage> {
        let app = app.clone();
        self.read(move |c| lists::usage(c, &app)).await
    }

    async fn event(&self, app: &AppId, id: &EventId) -> Result<Option<Event>> {
        let (app, id) = (app.clone(), id.clone());
        self.read(move |c| lists::event(c, &app, &id)).await
    }

    async fn events(&self, app: &AppId, filter: EventFilter, page: PageRequest) -> Result<Page<Event>> {
        let app = app.clone();
        self.list(move |c| lists::events(c, &app, &filter, &page)).await
    }

    async fn matches(&self, event: &EventId) -> Result<Vec<MatchRow>> {
        let event = event.clone();
        self.read(move |c| lists::matches(c, &event)).await
    }

    async fn message(&self, app: &AppId, id_or_uid: &str) -> Result<Option<Message>> {
        let (app, name) = (app.clone(), id_or_uid.to_owned());
        self.read(move |c| lists::message(c, &app, &name)).await
    }

    async fn messages(
        &self,
        app: &AppId,
        filter: MessageFilter,
        page: PageRequest,
        content: bool,
    ) -> Result<Page<Message>> {
        let app = app.clone();
        self.list(move |c| lists::messages(c, &app, &filter, &page, content)).await
    }

    async fn delivery_counts(
        &self,
        app: &AppId,
        endpoint: &EndpointId,
        between: (Timestamp, Timestamp),
    ) -> Result<DeliveryCounts> {
        let (app, endpoint) = (app.clone(), endpoint.clone());
        self.list(move |c| content::stats(c, &app, &endpoint, between)).await
    }

    async fn deliveries(&self, app: &AppId, message: &MessageId) -> Result<Vec<Delivery>> {
        let (app, message) = (app.clone(), message.clone());
        self.read(move |c| lists::deliveries(c, &app, &message)).await
    }

    async fn attempt(&self, app: &AppId, message: &MessageId, id: &AttemptId) -> Result<Option<Attempt>> {
        let (app, message, id) = (app.clone(), message.clone(), id.clone());
        self.read(move |c| lists::attempt(c, &app, &message, &id)).await
    }

    async fn attempts(&self, app: &AppId, filter: AttemptFilter, page: PageRequest) -> Result<Page<Attempt>> {
        let app = app.clone();
        self.list(move |c| lists::attempts(c, &app, &filter, &page)).await
    }

    async fn call(&self, app: &AppId, id: &CallId) -> Result<Option<Call>> {
        let (app, id) = (app.clone(), id.clone());
        self.read(move |c| lists::call(c, &app, &id)).await
    }

    async fn calls(&self, app: &AppId, filter: CallFilter, page: PageRequest) -> Result<Page<Call>> {
        let app = app.clone();
        self.list(move |c| lists::calls(c, &app, &filter, &page)).await
    }

    async fn recorded_call(&self, app: &AppId, id: &CallId) -> Result<Option<RecordedCall>> {
        let (app, id) = (app.clone(), id.clone());
        self.list(move |c| evidence::recorded_call(c, &app, &id)).await
    }

    async fn output_parts(&self, app: &AppId, id: &CallId) -> Result<OutputParts> {
        let (app, id) = (app.clone(), id.clone());
        self.list(move |c| evidence::output_parts(c, &app, &id)).await
    }

    async fn recorded(&self, app: &AppId, filter: RecordedFilter) -> Result<Vec<String>> {
        let app = app.clone();
        self.list(move |c| evidence::recorded(c, &app, &filter)).await
    }

    async fn dead_letter(&self, app: &AppId, id: &DeadLetterId) -> Result<Option<DeadLetter>> {
        let (app, id) = (app.clone(), id.clone());
        self.read(move |c| lists::dead_letter(c, &app, &id)).await
    }

    async fn dead_letters(&self, app: &AppId, plugin: Option<PluginId>, page: PageRequest) -> Result<Page<DeadLetter>> {
        let app = app.clone();
        self.list(move |c| lists::dead_letters(c, &app, plugin.as_ref(), &page)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    async fn fill(store: &SqliteStore, bytes: usize) -> Result<()> {
        store
            .transact(move |tx| {
                tx.execute("INSERT INTO body (message_id, bytes) VALUES (x'00', zeroblob(?))", [bytes as i64])?;
                Ok(())
            })
            .await
    }

    #[tokio::test]
    async fn the_log_stays_below_its_bound_under_constant_writing_with_readers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let (lock, connection) = (lock(&path).unwrap(), connect_writer(&path).unwrap());
        let pace = Pace { every: Duration::from_millis(20), frames_max: 100 };
        let store = Arc::new(SqliteStore::run(&path, connection, at(0), Some(lock), pace).unwrap());
        let reading = store.clone();
        let reader = tokio::spawn(async move {
            loop {
                let count = "SELECT count(*), sum(length(bytes)) FROM body";
                reading.list(move |c| c.query_row(count, [], |row| row.get::<_, i64>(0))).await.unwrap();
            }
        });
        let log = || std::fs::metadata(folder.path().join("store.db-wal")).map_or(0, |file| file.len());
        let (mut largest, mut written) = (0, 0);
        while written < 4_000_000 {
            fill(&store, 4_000).await.unwrap();
            written += 4_000;
            largest = largest.max(log());
        }
        reader.abort();
        // Every commit writes some pages, so that the log of all of them would be larger than what they hold.
        assert!(largest < written / 2, "the log had {largest} bytes of {written} that were written");
    }

    #[tokio::test]
    async fn a_backup_taken_under_load_restores_with_all_that_was_answered_before() {
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("store.db"), folder.path().join("copy.db"));
        let store = Arc::new(SqliteStore::open(&path, at(0)).unwrap());
        let (stop, answered) =
            (Arc::new(std::sync::atomic::AtomicBool::new(false)), Arc::new(std::sync::Mutex::new(0)));
        let load = tokio::spawn({
            let (store, stop, answered) = (store.clone(), stop.clone(), answered.clone());
            async move {
                for n in 1_i64.. {
                    store.set_meta(&format!("k{n}"), b"v", true).await.unwrap();
                    *answered.lock().unwrap() = n;
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                }
            }
        });
        while *answered.lock().unwrap() < 20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let before = *answered.lock().unwrap();
        let (from, to) = (path.clone(), copy.clone());
        tokio::task::spawn_blocking(move || backup(&from, &to, u64::MAX)).await.unwrap().unwrap();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        load.await.unwrap();
        assert!(backup(&path, &copy, u64::MAX).is_err(), "it overwrites nothing");
        assert!(restore(&copy, &path).is_err(), "a gateway works there");
        drop(store);
        assert!(restore(&copy, &path).is_err(), "there is a store");

        let restored = folder.path().join("restored.db");
        std::fs::write(folder.path().join("damaged.db"), b"nonsense").unwrap();
        assert!(restore(&folder.path().join("damaged.db"), &restored).is_err());
        restore(&copy, &restored).unwrap();
        let restored = SqliteStore::open(&restored, at(1)).unwrap();
        for n in 1..=before {
            assert!(restored.meta(&format!("k{n}")).await.unwrap().is_some(), "{n} of {before}");
        }
    }

    #[tokio::test]
    async fn after_a_full_disk_the_store_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("store.db"), at(0)).unwrap();
        let pages: i64 = store.read(|c| c.query_row("PRAGMA page_count", [], |row| row.get(0))).await.unwrap();
        let limit = async |pages: i64| {
            let pragma = format!("PRAGMA max_page_count = {pages}");
            store.transact(move |tx| Ok(tx.query_row(&pragma, [], |row| row.get::<_, i64>(0))?)).await.unwrap()
        };
        limit(pages + 1).await;
        let full = fill(&store, 100_000).await;
        assert!(matches!(full, Err(StoreError::Unavailable { .. })), "{full:?}");
        assert_eq!(store.meta("k").await.unwrap(), None, "it can be read");
        limit(1 << 30).await;
        fill(&store, 100_000).await.unwrap();
        store.ready().await.unwrap();
    }

    #[tokio::test]
    async fn after_a_commit_that_failed_another_connection_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("store.db"), at(0)).unwrap();
        // Whoever ends the transaction behind the writer's back does what a failing disk does.
        let undone = store.transact(|tx| Ok(tx.execute_batch("ROLLBACK")?)).await;
        assert!(matches!(undone, Err(StoreError::Unavailable { .. })), "{undone:?}");
        fill(&store, 10).await.unwrap();
        assert!(store.set_meta("k", b"v", true).await.unwrap());
    }

    #[tokio::test]
    async fn what_fails_in_the_middle_of_a_commit_leaves_nothing_behind_and_undoes_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("store.db"), at(0)).unwrap();
        // The first one holds the writer up until all others wait, so that they share a commit.
        let (open, gate) = std::sync::mpsc::sync_channel::<()>(1);
        let first = store.transact(move |_| {
            let _ = gate.recv();
            Ok(())
        });
        let release = async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(open);
        };
        let add = |key: &'static str, end: fn() -> Result<()>| {
            store.transact(move |tx| {
                resources::set_meta(tx, key, b"v", true)?;
                end()
            })
        };
        let (_, one, two, three, four, ()) = tokio::join!(
            first,
            add("one", || Ok(())),
            add("two", || Err(StoreError::KeyReused)),
            add("three", || panic!("in the middle")),
            add("four", || Ok(())),
            release
        );
        assert!(one.is_ok() && four.is_ok(), "{one:?} {four:?}");
        assert!(matches!(two, Err(StoreError::KeyReused)), "{two:?}");
        assert!(matches!(three, Err(StoreError::Inconsistent { .. })), "{three:?}");
        for (key, kept) in [("one", true), ("two", false), ("three", false), ("four", true)] {
            assert_eq!(store.meta(key).await.unwrap().is_some(), kept, "{key}");
        }
    }

    #[tokio::test]
    async fn upkeep_shares_a_commit_with_no_other_upkeep() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let store = SqliteStore::open(&path, at(0)).unwrap();
        // The first one holds the writer up until all others wait.
        let (open, gate) = std::sync::mpsc::sync_channel::<()>(1);
        let first = store.transact(move |_| {
            let _ = gate.recv();
            Ok(())
        });
        // Each looks, as a stranger, how many of the others are committed.
        let upkeep = |n: i64| {
            let path = path.clone();
            store.upkeep(move |tx| {
                tx.execute("INSERT INTO meta VALUES (?, x'00')", [format!("upkeep {n}")])?;
                let stranger = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
                let count = "SELECT count(*) FROM meta WHERE key LIKE 'upkeep%'";
                Ok(stranger.query_row(count, [], |row| row.get::<_, i64>(0))?)
            })
        };
        let release = async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(open);
        };
        let (first, one, two, three, ()) = tokio::join!(first, upkeep(1), upkeep(2), upkeep(3), release);
        first.unwrap();
        assert_eq!((one.unwrap(), two.unwrap(), three.unwrap()), (0, 1, 2));
    }
}
