//! Connections that only read, beside the one that writes.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::{
    connection::connect,
    error::{store_error, unavailable},
};
use crate::store::{Result, StoreError};

/// Connections of one group.
const READERS: usize = 4;

/// A few connections that only read, handed out in turn.
pub struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    free: Arc<Semaphore>,
}

impl Readers {
    pub fn open(path: &Path) -> Result<Self> {
        let open = || connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let idle = (0..READERS).map(|_| open()).collect::<Result<Vec<_>>>()?;
        Ok(Self { idle: Arc::new(Mutex::new(idle)), free: Arc::new(Semaphore::new(READERS)) })
    }

    pub async fn run<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let closed = |_| StoreError::Unavailable { detail: "the store is closed".into() };
        let permit = self.free.clone().acquire_owned().await.map_err(closed)?;
        let idle = self.idle.clone();
        tokio::task::spawn_blocking(move || {
            let lock = || idle.lock().unwrap_or_else(PoisonError::into_inner);
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
