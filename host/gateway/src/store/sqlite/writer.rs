//! The one thread that writes: it takes the operations that wait, runs them in one transaction, commits once, and answers
//! only then. Tenants take turns ([`Backlog`]).
//!
//! An operation that fails undoes itself alone. Nearly all that fail have changed nothing by then, so nothing is prepared for
//! the others: after one of them the whole transaction is undone and made again, each operation in a savepoint. A savepoint for
//! every operation would double what each costs, since pages are copied for it.
//!
//! After a commit that failed the connection is closed and another one opened: a failed sync may have lost pages that SQLite
//! believes written.

mod turn;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rusqlite::{Connection, TransactionBehavior};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
};

use super::{
    backlog::{Backlog, Rank},
    checkpoint::Log,
    connection::reconnect_writer,
    error::unavailable,
};
use crate::store::{Result, StoreError};
use turn::Process;
pub use turn::Turn;
#[cfg(test)]
pub use turn::turn;

/// Operations that wait for the writer; more make the callers wait.
const QUEUE_MAX: usize = 1024;

/// Pieces of upkeep that wait.
const UPKEEP_MAX: usize = 16;

/// Operations that share one commit.
const GROUP_MAX: usize = 256;

/// What somebody wants done, and how to answer.
trait Operation: Send {
    /// Does it, or does it again after all was undone; false if it failed.
    fn run(&mut self, turn: &Turn<'_>) -> bool;
    /// It can't be done.
    fn refuse(&mut self, error: StoreError);
    /// Answers the caller, now that it is known whether the commit succeeded.
    fn answer(self: Box<Self>, committed: std::result::Result<(), String>);
}

/// An operation that answers through a channel.
struct Wanted<T, F> {
    operation: F,
    /// How it went the last time.
    result: Result<T>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T: Send, F: FnMut(&Turn<'_>) -> Result<T> + Send> Operation for Wanted<T, F> {
    fn run(&mut self, turn: &Turn<'_>) -> bool {
        self.result = catch_unwind(AssertUnwindSafe(|| (self.operation)(turn)))
            .unwrap_or_else(|_| Err(StoreError::Inconsistent { detail: "a store operation panicked".into() }));
        self.result.is_ok()
    }

    fn refuse(&mut self, error: StoreError) {
        self.result = Err(error);
    }

    fn answer(self: Box<Self>, committed: std::result::Result<(), String>) {
        let result = match committed {
            Ok(()) => self.result,
            Err(detail) => Err(StoreError::Unavailable { detail }),
        };
        // The caller may have hung up; what is committed stays committed.
        let _ = self.reply.send(result);
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
    /// The thread sleeps: only then it is woken, which costs a system call.
    sleeps: bool,
    closed: bool,
}

/// An operation and its place in the queue, which is free again when it is taken.
type Queued = (Box<dyn Operation>, OwnedSemaphorePermit);

impl Writer {
    /// Starts the thread. It works as this node; those who wait are answered on the runtime that this is called on, if on any.
    pub fn start(path: &Path, connection: Connection, node: i64, log: Arc<Log>) -> Result<Self> {
        let state = Mutex::new(State { backlog: Backlog::new(), sleeps: false, closed: false });
        let waiting = Arc::new(Waiting { state, changed: Condvar::new() });
        let process = Process::new(node);
        let (connection, complained) = (Some(connection), Complained::default());
        let runtime = Handle::try_current().ok();
        let mut work = Work { path: path.to_owned(), connection, process, log, complained, runtime };
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

    /// Runs an operation, again if need be, and answers when it is committed.
    pub async fn transact<T: Send + 'static>(
        &self,
        rank: Rank,
        operation: impl FnMut(&Turn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let stopped = || StoreError::Unavailable { detail: "the store is closed".into() };
        let (reply, answer) = oneshot::channel();
        let wanted = Wanted { operation, result: Err(stopped()), reply };
        let free = if rank == Rank::Upkeep { &self.free_upkeep } else { &self.free };
        let place = free.clone().acquire_owned().await.map_err(|_| stopped())?;
        let sleeps = {
            let mut state = self.waiting.lock();
            state.backlog.push(rank, (Box::new(wanted), place));
            state.sleeps
        };
        if sleeps {
            self.waiting.changed.notify_one();
        }
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
    Commit(Group),
    RestartLog,
    Stop,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the first operations of a commit.
    fn first(&self, log: &Log) -> Next {
        let mut state = self.lock();
        loop {
            if log.is_too_long() {
                return Next::RestartLog;
            }
            let mut group = Group::default();
            if state.fill(&mut group) {
                return Next::Commit(group);
            }
            if state.closed {
                return Next::Stop;
            }
            state.sleeps = true;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.sleeps = false;
        }
    }

    /// Adds what came since to a commit that goes on; false if nothing did.
    fn more(&self, group: &mut Group) -> bool {
        self.lock().fill(group)
    }
}

impl State {
    fn fill(&mut self, group: &mut Group) -> bool {
        let before = group.operations.len();
        while group.operations.len() < GROUP_MAX
            && let Some((operation, _)) = self.backlog.next()
        {
            group.operations.push(operation);
        }
        // It ends a commit, so that nobody who came before waits for it.
        if group.operations.len() == before
            && !group.has_upkeep
            && let Some((operation, _)) = self.backlog.upkeep()
        {
            group.has_upkeep = true;
            group.operations.push(operation);
        }
        group.operations.len() > before
    }
}

/// Operations that share a commit; of upkeep, one at most.
#[derive(Default)]
struct Group {
    operations: Vec<Box<dyn Operation>>,
    has_upkeep: bool,
}

/// Why a group is not committed.
enum Undone {
    /// One operation failed and left something behind: each is to have a savepoint.
    Entangled,
    /// The store can't.
    Failed(String),
}

impl From<rusqlite::Error> for Undone {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What the thread works with.
struct Work {
    path: PathBuf,
    /// None after a failure: SQLite's own idea of what stands on the disk may be wrong then.
    connection: Option<Connection>,
    process: Process,
    log: Arc<Log>,
    complained: Complained,
    runtime: Option<Handle>,
}

impl Work {
    fn run(&mut self, waiting: &Waiting) {
        loop {
            match waiting.first(&self.log) {
                Next::Stop => return,
                Next::RestartLog => self.log.restart(self.connection.as_ref()),
                Next::Commit(group) => self.commit(group, waiting),
            }
        }
    }

    /// Runs the first operations and those that come meanwhile, commits them together, and answers.
    fn commit(&mut self, mut group: Group, waiting: &Waiting) {
        let mut connection = match self.connection.take().map_or_else(|| reconnect_writer(&self.path), Ok) {
            Ok(connection) => connection,
            Err(error) => {
                self.complained.of(&error);
                return self.answer(group, &Err(error.to_string()));
            }
        };
        let mut committed = write_group(&mut connection, &self.process, waiting, &mut group, Care::AllAtOnce);
        if let Err(Undone::Entangled) = committed {
            committed = write_group(&mut connection, &self.process, waiting, &mut group, Care::Apart);
        }
        let committed = match committed {
            Ok(()) => {
                self.log.committed();
                self.connection = Some(connection);
                Ok(())
            }
            // The connection is closed; the next commit opens another one.
            Err(undone) => {
                let detail = match undone {
                    Undone::Failed(detail) => detail,
                    Undone::Entangled => "an operation could not be undone".to_owned(),
                };
                self.complained.of(&detail);
                Err(detail)
            }
        };
        self.answer(group, &committed);
    }

    /// Answers on the runtime, where those who wait are: to wake each of them from here would cost a system call each, and
    /// hold up the next commit.
    fn answer(&self, group: Group, committed: &std::result::Result<(), String>) {
        let committed = committed.clone();
        let answer = move || group.operations.into_iter().for_each(|operation| operation.answer(committed.clone()));
        match &self.runtime {
            Some(runtime) => drop(runtime.spawn(async move { answer() })),
            None => answer(),
        }
    }
}

/// How operations that share a transaction are kept apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    /// Not at all.
    AllAtOnce,
    /// By savepoints.
    Apart,
}

/// Runs operations in one transaction and commits it.
fn write_group(
    connection: &mut Connection,
    process: &Process,
    waiting: &Waiting,
    group: &mut Group,
    care: Care,
) -> std::result::Result<(), Undone> {
    let transaction = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(transaction) => transaction,
        Err(error) => {
            // Who waits behind it is told so too: each would wait as long for the same answer.
            while waiting.more(group) {}
            return Err(error.into());
        }
    };
    let turn = Turn::new(&transaction, process);
    let mut next = 0;
    // A full disk may undo the whole transaction: nothing more may run in it then, since it would commit by itself.
    while !transaction.is_autocommit() {
        let Some(operation) = group.operations.get_mut(next) else {
            if waiting.more(group) { continue } else { break }
        };
        next += 1;
        match care {
            Care::Apart => turn.run_apart(&mut **operation),
            Care::AllAtOnce if turn.run(&mut **operation) || transaction.is_autocommit() => {}
            Care::AllAtOnce => return Err(Undone::Entangled),
        }
    }
    if transaction.is_autocommit() {
        return Err(Undone::Failed("the transaction was undone".to_owned()));
    }
    turn.write_usage()?;
    drop(turn);
    Ok(transaction.commit()?)
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
