//! A store outlives the release that made it: it is migrated, refused, or copied and put back.

use std::path::{Path, PathBuf};

use rusqlite::OpenFlags;

use super::{
    SqliteStore, backup,
    connection::{MIGRATIONS, connect, migrate},
    queue, restore,
};
use crate::{
    clock::Timestamp,
    id::EventId,
    store::{Store, flow::WorkKind, in_flight, key::key},
};

/// A store of this release in a folder, with an event in it that a process had in hand when it died.
async fn in_flight(folder: &Path) -> (PathBuf, EventId) {
    let path = folder.join("store.db");
    let store = SqliteStore::open(&path, Timestamp::from_millis(0)).unwrap();
    let id = in_flight::in_flight(&store).await;
    (path, id)
}

/// A later release, whose schema has something more of what flows.
const LATER: &[&str] = &[MIGRATIONS[0], "ALTER TABLE work ADD COLUMN note TEXT NOT NULL DEFAULT 'old'"];

#[tokio::test]
async fn a_store_of_the_previous_release_with_events_in_flight_starts_under_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let (path, event) = in_flight(folder.path()).await;
    // Several processes of the later release at once: one migrates, the others find nothing to do.
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || {
                let mut c = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
                migrate(&mut c, LATER)
            })
        })
        .collect();
    starts.into_iter().for_each(|start| start.join().unwrap().unwrap());
    let c = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    assert_eq!(queue::free_all(&c).unwrap(), 1);
    let (subject, note): (Vec<u8>, String) =
        c.query_row("SELECT subject, note FROM work WHERE node = 0", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!((subject.as_slice(), note.as_str()), (key(&event).as_slice(), "old"));
    drop(c);
    let refused = SqliteStore::open(&path, Timestamp::from_millis(0)).err().unwrap().to_string();
    assert!(refused.contains("schema version 2, this program knows 1: upgrade"), "{refused}");
}

#[tokio::test]
async fn a_migration_that_fails_leaves_the_store_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (path, event) = in_flight(folder.path()).await;
    let broken = [LATER[0], LATER[1], "ALTER TABLE nothing ADD COLUMN x TEXT"];
    let mut c = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    assert!(migrate(&mut c, &broken).is_err());
    drop(c);
    let store = SqliteStore::open(&path, Timestamp::from_millis(0)).unwrap();
    let store: &dyn Store = &store;
    let claims = store.claim_due(WorkKind::Map, Timestamp::from_millis(1), 1).await.unwrap();
    assert_eq!(claims[0].subject.to_string(), event.to_string());
}

#[tokio::test]
async fn a_copy_is_not_put_beside_what_an_earlier_store_left() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = in_flight(folder.path()).await;
    let copy = folder.path().join("copy");
    backup(&path, &copy, u64::MAX).unwrap();
    let target = folder.path().join("other.db");
    std::fs::write(folder.path().join("other.db-wal"), b"of another store").unwrap();
    let refused = restore(&copy, &target).unwrap_err().to_string();
    assert!(refused.contains("other.db-wal exists already"), "{refused}");
    assert!(!target.exists());
}
