//! The embedded store: SQLite in WAL mode, every commit synchronous.
//!
//! One thread writes. It takes the operations that wait, runs each in a savepoint of one transaction, commits once
//! (group commit: under load many operations share a sync; an idle store commits a lone operation at once), and answers
//! only then. Reads run beside it on a few connections of their own.

mod accept;
mod components;
mod erase;
mod evidence;
mod lists;
mod resources;
mod rollouts;
mod rows;
mod work;

use std::{
    collections::BTreeMap,
    fs::{File, TryLockError},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Mutex,
    thread::JoinHandle,
    time::Duration,
};

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags, Transaction};
use tokio::sync::{mpsc, oneshot};

use crate::{
    clock::Timestamp,
    id::{AppId, AttemptId, CallId, DeadLetterId, EndpointId, EventId, MessageId, PluginId, RolloutId, VersionId},
    rollout::tally::{Health, ShadowCounts, ShadowResult, Tally},
    store::{
        AttemptFilter, CallFilter, EventFilter, MessageFilter, Page, PageRequest, Released, Result, Store, StoreError,
        VersionDigests, Write,
        evidence::{OutputParts, RecordedCall, RecordedFilter},
        flow::{
            Accepted, Attempt, AttemptEnd, Call, Claim, DeadLetter, Delivery, DeliveryJob, Event, FanOutEnd,
            Idempotency, MappingEnd, MatchRow, Message, NewEvent, WorkKind,
        },
        resource::{Document, ResourceKind},
    },
};

/// The statements that bring a store from version N to N + 1, in order. Never edited once released.
const MIGRATIONS: &[&str] = &[include_str!("migrations/sqlite_0001.sql")];

/// Operations that wait for the writer; more make the callers wait.
const QUEUE_MAX: usize = 1024;

/// Operations that share one commit.
const GROUP_MAX: usize = 256;

/// Connections that read single rows, and as many that read lists.
const READERS: usize = 4;

/// Gets the transaction, or why there is none.
type Operation = Box<dyn FnOnce(Result<&Transaction<'_>>) -> Finish + Send>;

/// Answers the caller once it is known whether the commit succeeded.
type Finish = Box<dyn FnOnce(std::result::Result<(), String>) + Send>;

/// The embedded store.
pub struct SqliteStore {
    // Taken on drop, so that the writer sees the queue's end before it is joined.
    writes: Option<mpsc::Sender<Operation>>,
    writer: Option<JoinHandle<()>>,
    readers: Readers,
    // Lists may read a lot: they never hold up what accepting and delivering read.
    list_readers: Readers,
    // Held until the store is closed.
    _lock: Option<File>,
}

impl SqliteStore {
    /// Opens the store in the file `path`, creates or migrates it, and sets free what a dead process had claimed.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the file can't be opened, is in use by another process, or was written by a newer
    /// version.
    pub fn open(path: &Path, now: Timestamp) -> Result<Self> {
        // One process works on an embedded store: claims of a dead one can be told from live ones only so.
        let lock = lock(path)?;
        let connection = connect_writer(path)?;
        work::release_all(&connection, now).map_err(unavailable)?;
        Self::run(path, connection, Some(lock))
    }

    /// Opens the store beside the process that works on it, for changes of configuration from the command line.
    ///
    /// # Errors
    /// As [`open`](Self::open), except that the store may be in use.
    pub fn attach(path: &Path) -> Result<Self> {
        Self::run(path, connect_writer(path)?, None)
    }

    fn run(path: &Path, connection: Connection, lock: Option<File>) -> Result<Self> {
        let (readers, list_readers) = (Readers::open(path)?, Readers::open(path)?);
        let (writes, queue) = mpsc::channel(QUEUE_MAX);
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write_loop(connection, queue))
            .map_err(unavailable)?;
        Ok(Self { writes: Some(writes), writer: Some(writer), readers, list_readers, _lock: lock })
    }

    async fn transact<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let operation: Operation = Box::new(move |transaction| {
            let result = transaction.and_then(|transaction| run_in_savepoint(transaction, operation));
            Box::new(move |committed| {
                let result = match committed {
                    Ok(()) => result,
                    Err(detail) => Err(StoreError::Unavailable { detail }),
                };
                // The caller may have hung up; what is committed stays committed.
                let _ = reply.send(result);
            })
        });
        let stopped = || StoreError::Unavailable { detail: "the store is closed".into() };
        self.writes.as_ref().ok_or_else(stopped)?.send(operation).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
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

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.writes.take();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer thread panicked");
        }
    }
}

/// A few connections that only read, handed out in turn.
struct Readers {
    idle: std::sync::Arc<Mutex<Vec<Connection>>>,
    free: std::sync::Arc<tokio::sync::Semaphore>,
}

impl Readers {
    fn open(path: &Path) -> Result<Self> {
        let open = || connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let idle = (0..READERS).map(|_| open()).collect::<Result<Vec<_>>>()?;
        let free = std::sync::Arc::new(tokio::sync::Semaphore::new(READERS));
        Ok(Self { idle: std::sync::Arc::new(Mutex::new(idle)), free })
    }

    async fn run<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let closed = |_| StoreError::Unavailable { detail: "the store is closed".into() };
        let permit = self.free.clone().acquire_owned().await.map_err(closed)?;
        let idle = self.idle.clone();
        tokio::task::spawn_blocking(move || {
            let lock = || idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let connection = lock().pop().expect("a permit stands for an idle connection");
            let result = catch_unwind(AssertUnwindSafe(|| query(&connection)));
            lock().push(connection);
            drop(permit);
            match result {
                Ok(result) => result.map_err(store_error),
                Err(_) => Err(StoreError::Inconsistent { detail: "a query panicked".into() }),
            }
        })
        .await
        .map_err(unavailable)?
    }
}

fn write_loop(mut connection: Connection, mut queue: mpsc::Receiver<Operation>) {
    while let Some(first) = queue.blocking_recv() {
        let (finishes, committed) = write_group(&mut connection, first, &mut queue);
        if let Err(detail) = &committed {
            tracing::error!(detail, operations = finishes.len(), "the store could not commit");
        }
        for finish in finishes {
            finish(committed.clone());
        }
    }
}

/// Runs the first operation and those that wait behind it, and commits them together.
fn write_group(
    connection: &mut Connection,
    first: Operation,
    queue: &mut mpsc::Receiver<Operation>,
) -> (Vec<Finish>, std::result::Result<(), String>) {
    let transaction = match connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate) {
        Ok(transaction) => transaction,
        Err(error) => return (vec![first(Err(error.into()))], Ok(())),
    };
    let mut finishes = vec![first(Ok(&transaction))];
    // A full disk may undo the whole transaction: nothing more may run in it then, since it would commit by itself.
    while finishes.len() < GROUP_MAX && !transaction.is_autocommit() {
        let Ok(operation) = queue.try_recv() else { break };
        finishes.push(operation(Ok(&transaction)));
    }
    let undone = transaction.is_autocommit();
    let committed = transaction.commit().map_err(|error| error.to_string());
    (finishes, if undone { Err("the transaction was undone".to_owned()) } else { committed })
}

/// Runs one operation so that its failure, even a panic, undoes only itself.
fn run_in_savepoint<T>(
    transaction: &Transaction<'_>,
    operation: impl FnOnce(&Transaction<'_>) -> Result<T>,
) -> Result<T> {
    transaction.execute_batch("SAVEPOINT operation").map_err(store_error)?;
    let result = catch_unwind(AssertUnwindSafe(|| operation(transaction)))
        .unwrap_or_else(|_| Err(StoreError::Inconsistent { detail: "a store operation panicked".into() }));
    let end = if result.is_ok() { "RELEASE operation" } else { "ROLLBACK TO operation; RELEASE operation" };
    transaction.execute_batch(end).map_err(store_error)?;
    result
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
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 67108864;")
        .map_err(unavailable)?;
    migrate(&mut connection)?;
    Ok(connection)
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| StoreError::Unavailable { detail: format!("{}: {error}", path.display()) })?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(unavailable)?;
    connection.set_prepared_statement_cache_capacity(128);
    connection.pragma_update(None, "cache_size", -16_384).map_err(unavailable)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> Result<()> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(unavailable)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(unavailable)?;
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done > MIGRATIONS.len() {
        return Err(StoreError::Unavailable {
            detail: format!("the store has schema version {version}, this program knows {}: upgrade", MIGRATIONS.len()),
        });
    }
    for migration in &MIGRATIONS[done..] {
        transaction.execute_batch(migration).map_err(unavailable)?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64).map_err(unavailable)?;
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
        self.transact(move |tx| resources::write(tx, writes, now)).await
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
    ) -> Result<Option<Document>> {
        self.read(move |c| resources::document_by_handle(c, kind, &digest, now)).await
    }

    async fn component(&self, digest: &str) -> Result<Option<Vec<u8>>> {
        let digest = digest.to_owned();
        // Megabytes: not with the connections of live reads.
        self.list(move |c| components::read(c, &digest)).await
    }

    async fn accept_event(&self, event: NewEvent) -> Result<Accepted<EventId>> {
        self.transact(move |tx| accept::event(tx, &event)).await
    }

    async fn accept_message(&self, message: Message, idempotency: Option<Idempotency>) -> Result<Accepted<MessageId>> {
        self.transact(move |tx| accept::message(tx, &message, idempotency.as_ref())).await
    }

    async fn claim(&self, kind: WorkKind, now: Timestamp, lease: Duration, limit: usize) -> Result<Vec<Claim>> {
        self.transact(move |tx| work::claim(tx, kind, now, now.after(lease), limit)).await
    }

    async fn next_due(&self, kind: WorkKind) -> Result<Option<Timestamp>> {
        self.read(move |c| work::next_due(c, kind)).await
    }

    async fn renew(&self, claim: &Claim, until: Timestamp) -> Result<()> {
        let claim = claim.clone();
        self.transact(move |tx| work::renew(tx, &claim, until)).await
    }

    async fn postpone(&self, claim: &Claim, due: Timestamp) -> Result<()> {
        let claim = claim.clone();
        self.transact(move |tx| work::postpone(tx, &claim, due)).await
    }

    async fn abandon(&self, claim: &Claim) -> Result<()> {
        let claim = claim.clone();
        self.transact(move |tx| work::done(tx, &claim)).await
    }

    async fn finish_mapping(&self, claim: &Claim, end: MappingEnd) -> Result<()> {
        let claim = claim.clone();
        self.transact(move |tx| work::finish_mapping(tx, &claim, &end)).await
    }

    async fn finish_fan_out(&self, claim: &Claim, end: FanOutEnd, now: Timestamp) -> Result<()> {
        let claim = claim.clone();
        self.transact(move |tx| work::finish_fan_out(tx, &claim, &end, now)).await
    }

    async fn finish_attempt(
        &self,
        claim: &Claim,
        attempt: Option<Attempt>,
        end: AttemptEnd,
        now: Timestamp,
    ) -> Result<()> {
        let claim = claim.clone();
        self.transact(move |tx| work::finish_attempt(tx, &claim, attempt.as_ref(), &end, now)).await
    }

    async fn observe_shadow(&self, id: &RolloutId, result: Option<ShadowResult>, skipped: u64) -> Result<()> {
        let id = id.clone();
        self.transact(move |tx| rollouts::observe_shadow(tx, &id, result, skipped)).await
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
        self.transact(move |tx| rollouts::release_some(tx, &claim, limit, now, next)).await
    }

    async fn stop_release(&self, claim: &Claim) -> Result<()> {
        let claim = claim.clone();
        self.transact(move |tx| rollouts::stop_release(tx, &claim)).await
    }

    async fn erase(&self, claim: &Claim) -> Result<bool> {
        let claim = claim.clone();
        self.transact(move |tx| erase::erase(tx, &claim)).await
    }

    async fn reprocess_event(&self, event: &EventId, now: Timestamp) -> Result<bool> {
        let event = event.clone();
        self.transact(move |tx| work::reprocess_event(tx, &event, now)).await
    }

    async fn reprocess_message(&self, message: &MessageId, now: Timestamp) -> Result<bool> {
        let message = message.clone();
        self.transact(move |tx| work::reprocess_message(tx, &message, now)).await
    }

    async fn resend(&self, message: &MessageId, endpoint: &EndpointId, now: Timestamp) -> Result<bool> {
        let (message, endpoint) = (message.clone(), endpoint.clone());
        self.transact(move |tx| work::resend(tx, &message, &endpoint, now)).await
    }

    async fn event(&self, id: &EventId) -> Result<Option<Event>> {
        let id = id.clone();
        self.read(move |c| lists::event(c, &id)).await
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

    async fn deliveries(&self, message: &MessageId) -> Result<Vec<Delivery>> {
        let message = message.clone();
        self.read(move |c| lists::deliveries(c, &message)).await
    }

    async fn delivery_job(&self, number: i64) -> Result<Option<DeliveryJob>> {
        self.read(move |c| lists::delivery_job(c, number)).await
    }

    async fn attempt(&self, app: &AppId, id: &AttemptId) -> Result<Option<Attempt>> {
        let (app, id) = (app.clone(), id.clone());
        self.read(move |c| lists::attempt(c, &app, &id)).await
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
        self.list(move |c| Ok(evidence::recorded(c, &app, &filter))).await?
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
