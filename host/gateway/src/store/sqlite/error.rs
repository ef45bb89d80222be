//! What SQLite's errors mean to the store's callers.

use crate::store::StoreError;

/// That the database can't be used now.
pub fn unavailable(error: impl ToString) -> StoreError {
    StoreError::Unavailable { detail: error.to_string() }
}

/// Tells a database that can't be used now from one that we use wrongly.
pub fn store_error(error: rusqlite::Error) -> StoreError {
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
