//! The one thread that writes: it takes the operations that wait, runs each in a savepoint of one transaction, commits once,
//! and answers only then. Tenants take turns ([`Backlog`]).
//!
//! After a commit that failed the connection is closed and another one opened: a failed sync may have lost pages that SQLite
//! believes written.

use std::{
    cell::{Cell, RefCell},
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rusqlite::{Connection, Transaction, params};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{
    backlog::{Backlog, Rank},
    checkpoint::Log,
    reconnect_writer, store_error, unavailable,
};
use crate::{
    id::AppId,
    store::{
        Result, StoreError,
        key::{Key, key},
    },
};

/// Operations that wait for the writer; more make the callers wait.
const QUEUE_MAX: usize = 1024;

/// Pieces of upkeep that wait.
const UPKEEP_MAX: usize = 16;

/// Operations that share one commit.
const GROUP_MAX: usize = 256;

/// The number of a node stands in the ids of what it adds, above so many bits of its own count.
const COUNT_BITS: u32 = 40;

/// Gets the turn, or why there is none.
type Operation = Box<dyn FnOnce(Result<&Turn<'_>>) -> Finish + Send>;

/// Answers the caller once it is known whether the commit succeeded.
type Finish = Box<dyn FnOnce(std::result::Result<(), String>) + Send>;

/// What an operation works with: the transaction, and what this process knows beside it.
pub struct Turn<'a> {
    transaction: &'a Transaction<'a>,
    process: &'a Process,
    /// What changes in the tenants' usage; written once for all operations of the commit.
    used: RefCell<Vec<(Key, Used)>>,
}

/// This process, as the store knows it.
struct Process {
    node: i64,
    count: Cell<i64>,
}

/// A change of what a tenant has in the store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    pub events: i64,
    pub event_bytes: i64,
    pub messages: i64,
    pub message_bytes: i64,
    /// Fuel of calls,
    pub fuel: i64,
    /// made on this day.
    pub fuel_day: i64,
}

impl Turn<'_> {
    /// The number of this process.
    pub fn node(&self) -> i64 {
        self.process.node
    }

    /// A number that was never used before and is larger than all that this process made.
    pub fn number(&self) -> i64 {
        let count = self.process.count.get() + 1;
        self.process.count.set(count);
        self.process.node << COUNT_BITS | count
    }

    /// Counts what a tenant has more or less now.
    pub fn used(&self, app: &AppId, used: Used) {
        self.used.borrow_mut().push((key(app), used));
    }

    /// Runs one operation so that its failure, even a panic, undoes only itself.
    fn run<T>(&self, operation: impl FnOnce(&Turn<'_>) -> Result<T>) -> Result<T> {
        let counted = self.used.borrow().len();
        self.transaction.execute_batch("SAVEPOINT operation").map_err(store_error)?;
        let result = catch_unwind(AssertUnwindSafe(|| operation(self)))
            .unwrap_or_else(|_| Err(StoreError::Inconsistent { detail: "a store operation panicked".into() }));
        if result.is_err() {
            self.used.borrow_mut().truncate(counted);
        }
        let end = if result.is_ok() { "RELEASE operation" } else { "ROLLBACK TO operation; RELEASE operation" };
        self.transaction.execute_batch(end).map_err(store_error)?;
        result
    }

    fn write_usage(&self) -> rusqlite::Result<()> {
        let mut used = self.used.take();
        used.sort_by_key(|(app, _)| *app);
        let mut statement = self.transaction.prepare_cached(
            "INSERT INTO usage (app_id, events, event_bytes, messages, message_bytes, fuel, fuel_day)
             VALUES (?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (app_id) DO UPDATE SET events = events + excluded.events,
                 event_bytes = event_bytes + excluded.event_bytes, messages = messages + excluded.messages,
                 message_bytes = message_bytes + excluded.message_bytes,
                 fuel = CASE WHEN excluded.fuel_day > fuel_day THEN excluded.fuel
                             WHEN excluded.fuel_day = fuel_day THEN fuel + excluded.fuel ELSE fuel END,
                 fuel_day = max(fuel_day, excluded.fuel_day)",
        )?;
        for of_app in used.chunk_by(|(one, _), (other, _)| one == other) {
            let sum = |part: fn(&Used) -> i64| of_app.iter().map(|(_, used)| part(used)).sum::<i64>();
            let day = of_app.iter().map(|(_, used)| used.fuel_day).max().unwrap_or(0);
            let fuel: i64 = of_app.iter().filter(|(_, used)| used.fuel_day == day).map(|(_, used)| used.fuel).sum();
            statement.execute(params![
                of_app[0].0,
                sum(|used| used.events),
                sum(|used| used.event_bytes),
                sum(|used| used.messages),
                sum(|used| used.message_bytes),
                fuel,
                day,
            ])?;
        }
        Ok(())
    }
}

impl Deref for Turn<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.transaction
    }
}

/// The writing thread and the way to it.
pub struct Writer {
    waiting: Arc<Waiting>,
    free: Arc<Semaphore>,
    free_upkeep: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

/// What waits for the thread.
struct Waiting {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    backlog: Backlog<Queued>,
    closed: bool,
}

/// An operation and its place in the queue, which is free again when it is taken.
type Queued = (Operation, OwnedSemaphorePermit);

impl Writer {
    /// Starts the thread. It works as this node.
    pub fn start(path: &Path, connection: Connection, node: i64, log: Arc<Log>) -> Result<Self> {
        let state = Mutex::new(State { backlog: Backlog::new(), closed: false });
        let waiting = Arc::new(Waiting { state, changed: Condvar::new() });
        let process = Process { node, count: Cell::new(0) };
        let (connection, complained) = (Some(connection), Complained::default());
        let mut work = Work { path: path.to_owned(), connection, process, log, complained };
        let for_thread = waiting.clone();
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || work.run(&for_thread))
            .map_err(unavailable)?;
        let (free, free_upkeep) = (Arc::new(Semaphore::new(QUEUE_MAX)), Arc::new(Semaphore::new(UPKEEP_MAX)));
        Ok(Self { waiting, free, free_upkeep, thread: Some(thread) })
    }

    /// What wakes the thread, for somebody who asks it for something else than an operation.
    pub fn waker(&self) -> impl Fn() + Send + 'static {
        let waiting = self.waiting.clone();
        move || waiting.changed.notify_one()
    }

    /// Runs an operation and answers when it is committed.
    pub async fn transact<T: Send + 'static>(
        &self,
        rank: Rank,
        operation: impl FnOnce(&Turn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let operation: Operation = Box::new(move |turn| {
            let result = turn.and_then(|turn| turn.run(operation));
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
        let free = if rank == Rank::Upkeep { &self.free_upkeep } else { &self.free };
        let place = free.clone().acquire_owned().await.map_err(|_| stopped())?;
        self.waiting.lock().backlog.push(rank, (operation, place));
        self.waiting.changed.notify_one();
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.waiting.lock().closed = true;
        self.waiting.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer thread panicked");
        }
    }
}

/// What the thread is to do next.
enum Next {
    Operation(Operation, bool),
    RestartLog,
    Stop,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the first operation of a commit, and whether it is upkeep.
    fn first(&self, log: &Log) -> Next {
        let mut state = self.lock();
        loop {
            if log.is_too_long() {
                return Next::RestartLog;
            }
            if let Some((operation, _)) = state.backlog.next() {
                return Next::Operation(operation, false);
            }
            if let Some((operation, _)) = state.backlog.upkeep() {
                return Next::Operation(operation, true);
            }
            if state.closed {
                return Next::Stop;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next operation of a commit that goes on.
    fn more(&self, group: &Group) -> Option<(Operation, bool)> {
        let mut state = self.lock();
        if group.finishes.len() < GROUP_MAX
            && let Some((operation, _)) = state.backlog.next()
        {
            return Some((operation, false));
        }
        if group.has_upkeep { None } else { state.backlog.upkeep().map(|(operation, _)| (operation, true)) }
    }
}

/// Operations that share a commit; of upkeep, one at most.
struct Group {
    finishes: Vec<Finish>,
    has_upkeep: bool,
}

/// What the thread works with.
struct Work {
    path: PathBuf,
    /// None after a failure: SQLite's own idea of what stands on the disk may be wrong then.
    connection: Option<Connection>,
    process: Process,
    log: Arc<Log>,
    complained: Complained,
}

impl Work {
    fn run(&mut self, waiting: &Waiting) {
        loop {
            match waiting.first(&self.log) {
                Next::Stop => return,
                Next::RestartLog => self.log.restart(self.connection.as_ref()),
                Next::Operation(operation, is_upkeep) => self.commit(operation, is_upkeep, waiting),
            }
        }
    }

    /// Runs the first operation and those that wait behind it, commits them together, and answers.
    fn commit(&mut self, first: Operation, is_upkeep: bool, waiting: &Waiting) {
        let mut connection = match self.connection.take().map_or_else(|| reconnect_writer(&self.path), Ok) {
            Ok(connection) => connection,
            Err(error) => {
                self.complained.of(&error);
                return first(Err(error))(Ok(()));
            }
        };
        let mut group = Group { finishes: Vec::new(), has_upkeep: is_upkeep };
        let committed = write_group(&mut connection, &self.process, first, waiting, &mut group);
        match &committed {
            Ok(()) => {
                self.log.committed();
                self.connection = Some(connection);
            }
            // The connection is closed; the next commit opens another one.
            Err(detail) => self.complained.of(detail),
        }
        for finish in group.finishes {
            finish(committed.clone());
        }
    }
}

/// Runs operations in one transaction and commits it.
fn write_group(
    connection: &mut Connection,
    process: &Process,
    first: Operation,
    waiting: &Waiting,
    group: &mut Group,
) -> std::result::Result<(), String> {
    let transaction = match connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate) {
        Ok(transaction) => transaction,
        Err(error) => {
            let detail = error.to_string();
            group.finishes.push(first(Err(error.into())));
            // Who waits behind it is told so too: each would wait as long for the same answer.
            while let Some((operation, is_upkeep)) = waiting.more(group) {
                group.has_upkeep |= is_upkeep;
                group.finishes.push(operation(Err(unavailable(&detail))));
            }
            return Err(detail);
        }
    };
    let turn = Turn { transaction: &transaction, process, used: RefCell::default() };
    group.finishes.push(first(Ok(&turn)));
    // A full disk may undo the whole transaction: nothing more may run in it then, since it would commit by itself.
    while !transaction.is_autocommit() {
        let Some((operation, is_upkeep)) = waiting.more(group) else { break };
        group.has_upkeep |= is_upkeep;
        group.finishes.push(operation(Ok(&turn)));
    }
    if transaction.is_autocommit() {
        return Err("the transaction was undone".to_owned());
    }
    turn.write_usage().map_err(|error| error.to_string())?;
    drop(turn);
    transaction.commit().map_err(|error| error.to_string())
}

/// Says at most once a second that the store fails.
#[derive(Default)]
struct Complained {
    last: Option<Instant>,
    unsaid: u64,
}

impl Complained {
    fn of(&mut self, error: &dyn std::fmt::Display) {
        self.unsaid += 1;
        if self.last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
            tracing::error!(%error, commits = self.unsaid, "the store could not commit");
            (self.last, self.unsaid) = (Some(Instant::now()), 0);
        }
    }
}

/// Runs one operation in a commit of its own.
#[cfg(test)]
pub fn turn<T>(connection: &mut Connection, operation: impl FnOnce(&Turn<'_>) -> Result<T>) -> Result<T> {
    let number = connection.query_row("SELECT coalesce(max(id), 0) FROM work", [], |row| row.get(0))?;
    let process = Process { node: 1, count: Cell::new(number) };
    let transaction = connection.transaction()?;
    let result = operation(&Turn { transaction: &transaction, process: &process, used: RefCell::default() });
    transaction.commit()?;
    result
}
