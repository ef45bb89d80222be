//! The embedded store as a whole: its log, its backups, and what goes wrong under it.

use std::{sync::Arc, time::Duration};

use rusqlite::OpenFlags;

use super::{SqliteStore, backup, checkpoint::Pace, connection, resources, restore};
use crate::{
    clock::Timestamp,
    store::{Result, Store, StoreError},
};

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

async fn fill(store: &SqliteStore, bytes: usize) -> Result<()> {
    store
        .transact(move |tx| {
            tx.execute("INSERT INTO body (message_id, bytes) VALUES (x'00', zeroblob(?))", [bytes as i64])?;
            Ok(())
        })
        .await
}

#[tokio::test]
async fn the_log_stays_below_its_bound_under_constant_writing_with_readers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let (lock, connection) = (connection::lock(&path).unwrap(), connection::connect_writer(&path).unwrap());
    let pace = Pace { pause: (Duration::from_millis(20), Duration::from_millis(20)), frames_max: 100 };
    let store = Arc::new(SqliteStore::run(&path, connection, at(0), Some(lock), pace).unwrap());
    let reading = store.clone();
    let reader = tokio::spawn(async move {
        loop {
            let count = "SELECT count(*), sum(length(bytes)) FROM body";
            reading.list(move |c| c.query_row(count, [], |row| row.get::<_, i64>(0))).await.unwrap();
        }
    });
    let log = || std::fs::metadata(folder.path().join("store.db-wal")).map_or(0, |file| file.len());
    let (mut largest, mut written) = (0, 0);
    while written < 4_000_000 {
        fill(&store, 4_000).await.unwrap();
        written += 4_000;
        largest = largest.max(log());
    }
    reader.abort();
    // Every commit writes some pages, so that the log of all of them would be larger than what they hold.
    assert!(largest < written / 2, "the log had {largest} bytes of {written} that were written");
}

#[tokio::test]
async fn a_backup_taken_under_load_restores_with_all_that_was_answered_before() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("store.db"), folder.path().join("copy.db"));
    let store = Arc::new(SqliteStore::open(&path, at(0)).unwrap());
    let (stop, answered) = (Arc::new(std::sync::atomic::AtomicBool::new(false)), Arc::new(std::sync::Mutex::new(0)));
    let load = tokio::spawn({
        let (store, stop, answered) = (store.clone(), stop.clone(), answered.clone());
        async move {
            for n in 1_i64.. {
                store.set_meta(&format!("k{n}"), b"v", true).await.unwrap();
                *answered.lock().unwrap() = n;
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
            }
        }
    });
    while *answered.lock().unwrap() < 20 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let before = *answered.lock().unwrap();
    let (from, to) = (path.clone(), copy.clone());
    tokio::task::spawn_blocking(move || backup(&from, &to, u64::MAX)).await.unwrap().unwrap();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    load.await.unwrap();
    assert!(backup(&path, &copy, u64::MAX).is_err(), "it overwrites nothing");
    assert!(restore(&copy, &path).is_err(), "a gateway works there");
    drop(store);
    assert!(restore(&copy, &path).is_err(), "there is a store");

    let restored = folder.path().join("restored.db");
    std::fs::write(folder.path().join("damaged.db"), b"nonsense").unwrap();
    assert!(restore(&folder.path().join("damaged.db"), &restored).is_err());
    restore(&copy, &restored).unwrap();
    let restored = SqliteStore::open(&restored, at(1)).unwrap();
    for n in 1..=before {
        assert!(restored.meta(&format!("k{n}")).await.unwrap().is_some(), "{n} of {before}");
    }
}

#[tokio::test]
async fn after_a_full_disk_the_store_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("store.db"), at(0)).unwrap();
    let pages: i64 = store.read(|c| c.query_row("PRAGMA page_count", [], |row| row.get(0))).await.unwrap();
    let limit = async |pages: i64| {
        let pragma = format!("PRAGMA max_page_count = {pages}");
        store.transact(move |tx| Ok(tx.query_row(&pragma, [], |row| row.get::<_, i64>(0))?)).await.unwrap()
    };
    limit(pages + 1).await;
    let full = fill(&store, 100_000).await;
    assert!(matches!(full, Err(StoreError::Unavailable { .. })), "{full:?}");
    assert_eq!(store.meta("k").await.unwrap(), None, "it can be read");
    limit(1 << 30).await;
    fill(&store, 100_000).await.unwrap();
    store.ready().await.unwrap();
}

#[tokio::test]
async fn after_a_commit_that_failed_another_connection_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("store.db"), at(0)).unwrap();
    // Whoever ends the transaction behind the writer's back does what a failing disk does.
    let undone = store.transact(|tx| Ok(tx.execute_batch("ROLLBACK")?)).await;
    assert!(matches!(undone, Err(StoreError::Unavailable { .. })), "{undone:?}");
    fill(&store, 10).await.unwrap();
    assert!(store.set_meta("k", b"v", true).await.unwrap());
}

#[tokio::test]
async fn what_fails_in_the_middle_of_a_commit_leaves_nothing_behind_and_undoes_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("store.db"), at(0)).unwrap();
    // The first one holds the writer up until all others wait, so that they share a commit.
    let (open, gate) = std::sync::mpsc::sync_channel::<()>(1);
    let first = store.transact(move |_| {
        let _ = gate.recv();
        Ok(())
    });
    let release = async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(open);
    };
    let add = |key: &'static str, end: fn() -> Result<()>| {
        store.transact(move |tx| {
            resources::set_meta(tx, key, b"v", true)?;
            end()
        })
    };
    let (_, one, two, three, four, ()) = tokio::join!(
        first,
        add("one", || Ok(())),
        add("two", || Err(StoreError::KeyReused)),
        add("three", || panic!("in the middle")),
        add("four", || Ok(())),
        release
    );
    assert!(one.is_ok() && four.is_ok(), "{one:?} {four:?}");
    assert!(matches!(two, Err(StoreError::KeyReused)), "{two:?}");
    assert!(matches!(three, Err(StoreError::Inconsistent { .. })), "{three:?}");
    for (key, kept) in [("one", true), ("two", false), ("three", false), ("four", true)] {
        assert_eq!(store.meta(key).await.unwrap().is_some(), kept, "{key}");
    }
}

#[tokio::test]
async fn upkeep_shares_a_commit_with_no_other_upkeep() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = SqliteStore::open(&path, at(0)).unwrap();
    // The first one holds the writer up until all others wait.
    let (open, gate) = std::sync::mpsc::sync_channel::<()>(1);
    let first = store.transact(move |_| {
        let _ = gate.recv();
        Ok(())
    });
    // Each looks, as a stranger, how many of the others are committed.
    let upkeep = |n: i64| {
        let path = path.clone();
        store.upkeep(move |tx| {
            tx.execute("INSERT INTO meta VALUES (?, x'00')", [format!("upkeep {n}")])?;
            let stranger = connection::connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            let count = "SELECT count(*) FROM meta WHERE key LIKE 'upkeep%'";
            Ok(stranger.query_row(count, [], |row| row.get::<_, i64>(0))?)
        })
    };
    let release = async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(open);
    };
    let (first, one, two, three, ()) = tokio::join!(first, upkeep(1), upkeep(2), upkeep(3), release);
    first.unwrap();
    assert_eq!((one.unwrap(), two.unwrap(), three.unwrap()), (0, 1, 2));
}
