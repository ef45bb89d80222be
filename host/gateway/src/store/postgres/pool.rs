//! A few connections, handed out in turn. A lost one is made anew when it is asked for.

use std::{
    ops::Deref,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::connect::{Connection, Connector, unavailable};
use crate::store::Result;

/// How long to wait for a connection that is free or can be made. Then the caller hears that the store is unavailable.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Some connections.
pub struct Pool {
    connector: Connector,
    idle: Arc<Mutex<Vec<Connection>>>,
    free: Arc<Semaphore>,
}

impl Pool {
    /// At most `size` connections, made when they are needed.
    pub fn new(connector: Connector, size: usize) -> Self {
        Self { connector, idle: Arc::default(), free: Arc::new(Semaphore::new(size)) }
    }

    /// A connection that nobody else uses.
    pub async fn get(&self) -> Result<Lease> {
        timeout(WAIT_MAX, async {
            let permit = self.free.clone().acquire_owned().await.map_err(unavailable)?;
            while let Some(connection) = self.pop() {
                if !connection.is_lost() {
                    return Ok(self.lease(connection, permit));
                }
            }
            Ok(self.lease(self.connector.connect(None).await?, permit))
        })
        .await
        .map_err(|_| unavailable("the database can't be reached, or all connections are busy"))?
    }

    fn pop(&self) -> Option<Connection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn lease(&self, connection: Connection, permit: OwnedSemaphorePermit) -> Lease {
        Lease {
            connection: Some(connection),
            idle: self.idle.clone(),
            permit: Some(permit),
            in_transaction: AtomicBool::new(false),
            number: i64::try_from(self.free.available_permits()).unwrap_or(0),
        }
    }
}

/// A connection that goes back to its pool when it is dropped.
pub struct Lease {
    // Both are there until it is dropped.
    connection: Option<Connection>,
    permit: Option<OwnedSemaphorePermit>,
    idle: Arc<Mutex<Vec<Connection>>>,
    in_transaction: AtomicBool,
    number: i64,
}

impl Lease {
    /// A number that tells the pool's connections in use apart, more or less.
    pub fn number(&self) -> i64 {
        self.number
    }

    /// Begins a transaction. Dropped without an end, it is rolled back before anybody else gets the connection.
    pub async fn begin(&self) -> Result<()> {
        self.in_transaction.store(true, Ordering::Relaxed);
        self.batch("BEGIN").await
    }

    /// Ends the transaction: `COMMIT` or `ROLLBACK`.
    pub async fn end(&self, how: &'static str) -> Result<()> {
        self.batch(how).await?;
        self.in_transaction.store(false, Ordering::Relaxed);
        Ok(())
    }
}

impl Deref for Lease {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("it is taken only when the lease is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some(connection), permit) = (self.connection.take(), self.permit.take()) else { return };
        let idle = self.idle.clone();
        let give_back = move |connection: Connection| {
            if !connection.is_lost() {
                idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            }
            drop(permit);
        };
        if !self.in_transaction.load(Ordering::Relaxed) {
            return give_back(connection);
        }
        // The caller gave up in the middle. Without a runtime the connection is closed, which rolls back as well.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if connection.batch("ROLLBACK").await.is_ok() {
                    give_back(connection);
                }
            });
        }
    }
}
