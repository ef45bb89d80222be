//! The one thread that writes: it takes the operations that wait, runs each in a savepoint of one transaction, commits once,
//! and answers only then.

use std::{
    cell::{Cell, RefCell},
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    thread::JoinHandle,
};

use rusqlite::{Connection, Transaction, params};
use tokio::sync::{mpsc, oneshot};

use super::{store_error, unavailable};
use crate::{
    id::AppId,
    store::{
        Result, StoreError,
        key::{Key, key},
    },
};

/// Operations that wait for the writer; more make the callers wait.
const QUEUE_MAX: usize = 1024;

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
            "INSERT INTO usage (app_id, events, event_bytes, messages, message_bytes) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (app_id) DO UPDATE SET events = events + excluded.events,
                 event_bytes = event_bytes + excluded.event_bytes, messages = messages + excluded.messages,
                 message_bytes = message_bytes + excluded.message_bytes",
        )?;
        for of_app in used.chunk_by(|(one, _), (other, _)| one == other) {
            let sum = |part: fn(&Used) -> i64| of_app.iter().map(|(_, used)| part(used)).sum::<i64>();
            statement.execute(params![
                of_app[0].0,
                sum(|used| used.events),
                sum(|used| used.event_bytes),
                sum(|used| used.messages),
                sum(|used| used.message_bytes),
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
    // Taken on drop, so that the thread sees the queue's end before it is joined.
    operations: Option<mpsc::Sender<Operation>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread. It works as this node.
    pub fn start(connection: Connection, node: i64) -> Result<Self> {
        let (operations, queue) = mpsc::channel(QUEUE_MAX);
        let process = Process { node, count: Cell::new(0) };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write_loop(connection, &process, queue))
            .map_err(unavailable)?;
        Ok(Self { operations: Some(operations), thread: Some(thread) })
    }

    /// Runs an operation and answers when it is committed.
    pub async fn transact<T: Send + 'static>(
        &self,
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
        self.operations.as_ref().ok_or_else(stopped)?.send(operation).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.operations.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer thread panicked");
        }
    }
}

fn write_loop(mut connection: Connection, process: &Process, mut queue: mpsc::Receiver<Operation>) {
    while let Some(first) = queue.blocking_recv() {
        let (finishes, committed) = write_group(&mut connection, process, first, &mut queue);
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
    process: &Process,
    first: Operation,
    queue: &mut mpsc::Receiver<Operation>,
) -> (Vec<Finish>, std::result::Result<(), String>) {
    let transaction = match connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate) {
        Ok(transaction) => transaction,
        Err(error) => return (vec![first(Err(error.into()))], Ok(())),
    };
    let turn = Turn { transaction: &transaction, process, used: RefCell::default() };
    let mut finishes = vec![first(Ok(&turn))];
    // A full disk may undo the whole transaction: nothing more may run in it then, since it would commit by itself.
    while finishes.len() < GROUP_MAX && !transaction.is_autocommit() {
        let Ok(operation) = queue.try_recv() else { break };
        finishes.push(operation(Ok(&turn)));
    }
    let counted = if transaction.is_autocommit() {
        Err("the transaction was undone".to_owned())
    } else {
        turn.write_usage().map_err(|error| error.to_string())
    };
    drop(turn);
    let committed = match counted {
        Ok(()) => transaction.commit().map_err(|error| error.to_string()),
        // Dropped, the transaction is undone.
        Err(detail) => Err(detail),
    };
    (finishes, committed)
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
