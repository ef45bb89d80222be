//! On SQLite: a folder of its own for each test.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use hookloom::{
    clock::Timestamp,
    store::{Store, StoreError, sqlite::SqliteStore},
};

#[path = "suite.rs"]
#[expect(clippy::duplicate_mod, reason = "one contract for both databases")]
mod suite;

/// Where the store is kept.
pub struct Backend {
    folder: tempfile::TempDir,
}

impl Backend {
    pub async fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub async fn open(&self, now: Timestamp) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(&self.path(), now).unwrap())
    }

    /// How many rows each table has.
    pub async fn rows(&self) -> BTreeMap<String, i64> {
        let c = rusqlite::Connection::open(self.path()).unwrap();
        let mut tables =
            c.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'").unwrap();
        let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let count =
            |table: &String| c.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        tables.iter().map(|table| (table.clone(), count(table))).collect()
    }

    /// There is no lease to end: who opens the store is the only one.
    pub async fn died(&self) {}

    fn path(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }
}

#[tokio::test]
async fn a_second_process_can_not_work_on_the_same_store_but_may_change_configuration() {
    let (backend, now) = (Backend::new().await, Timestamp::from_millis(0));
    let store = backend.open(now).await;
    assert!(matches!(SqliteStore::open(&backend.path(), now), Err(StoreError::Unavailable { .. })));
    let beside = SqliteStore::attach(&backend.path(), now).unwrap();
    assert!(beside.set_meta("key", b"value", false).await.unwrap());
    assert_eq!(store.meta("key").await.unwrap().as_deref(), Some(&b"value"[..]));
}
