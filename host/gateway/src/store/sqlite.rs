//! The embedded store: SQLite in WAL mode, every commit synchronous.
//!
//! One thread writes (`writer`; group commit: under load many operations share a sync, an idle store commits a lone
//! operation at once). Another one copies what was committed from the log into the file (`checkpoint`). Reads run beside
//! them on a few connections of their own (`readers`). `operations` hands each operation of the trait to one of them, with the
//! module that knows it.

mod accept;
mod again;
mod backlog;
mod backup;
mod checkpoint;
mod components;
mod connection;
mod content;
mod erase;
mod error;
mod evidence;
mod expire;
mod finish;
mod lists;
mod operations;
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
#[cfg(test)]
mod tests;
mod trail;
mod writer;

use std::{fs::File, path::Path, sync::Arc};

use rusqlite::{Connection, params};
use tokio::sync::broadcast;

use crate::{
    clock::Timestamp,
    id::AppId,
    store::{Result, Ring, key::key},
};
use backlog::Rank;
pub use backup::{backup, restore};
use checkpoint::{Checkpointer, Log, PACE, Pace};
use connection::{connect_writer, lock};
use error::unavailable;
use readers::Readers;
use writer::{Turn, Writer};

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
    /// [`StoreError::Unavailable`](crate::store::StoreError::Unavailable) if the file can't be opened, is in use by another
    /// process, was written by a newer version, or lies on a network file system.
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
