//! Copies of an embedded store: taken while a gateway works on it, put back where there is none.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rusqlite::{Connection, OpenFlags};

use super::{
    connection::{MIGRATIONS, connect, lock},
    error::unavailable,
};
use crate::store::{Result, StoreError};

/// Steps of SQLite's machine after which the length of the store's log is looked at again while it is copied; a row takes some ten.
const STEPS_BETWEEN_LOOKS: i32 = 1_000;

/// Copies the store in `path` to the new file `to`: one moment of it, checked and synced. Secrets stay encrypted in it; the key
/// is not part of it.
///
/// The store's log keeps that moment until it is copied, and so grows by all that is written meanwhile. When it has more than
/// `log_bytes_max`, the copy is given up: a full disk would end the gateway's accepting.
///
/// # Errors
/// [`StoreError::Unavailable`] if there is no store, `to` exists, it can't be written, or the log grew too long.
pub fn backup(path: &Path, to: &Path, log_bytes_max: u64) -> Result<()> {
    absent(to)?;
    let store = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let partial = beside(to, ".partial");
    let _ = std::fs::remove_file(&partial);
    // SQLite follows links, and its log lies beside what they lead to.
    let log = beside(&path.canonicalize().map_err(unavailable)?, "-wal");
    copy(store, &partial, Log { file: log, bytes_max: log_bytes_max }).inspect_err(|_| {
        let _ = std::fs::remove_file(&partial);
    })?;
    check(&partial)?;
    publish(&partial, to)
}

/// The log beside a store, and how long it may become.
struct Log {
    file: PathBuf,
    bytes_max: u64,
}

impl Log {
    fn is_too_long(&self) -> bool {
        std::fs::metadata(&self.file).is_ok_and(|file| file.len() > self.bytes_max)
    }
}

/// Copies in one read transaction, however long it takes: copying page by page would begin anew with every commit of the gateway.
fn copy(mut store: Connection, to: &Path, log: Log) -> Result<()> {
    let (bytes_max, given_up) = (log.bytes_max, Arc::new(AtomicBool::new(false)));
    let gives_up = given_up.clone();
    let look = move || {
        let is_too_long = log.is_too_long();
        gives_up.fetch_or(is_too_long, Ordering::Relaxed);
        is_too_long
    };
    store.progress_handler(STEPS_BETWEEN_LOOKS, Some(look)).map_err(unavailable)?;
    let result = store.execute("VACUUM INTO ?", [to.to_string_lossy()]);
    if result.is_err() && given_up.load(Ordering::Relaxed) {
        let detail = format!(
            "the store's log grew beyond {bytes_max} bytes while it was copied, and nothing was kept: copy it at a quieter time, or \
             allow more with --log-mib-max"
        );
        return Err(StoreError::Unavailable { detail });
    }
    result.map(drop).map_err(unavailable)
}

/// Makes a store in `path` from a copy; what was claimed when it was taken goes on at the next start.
///
/// # Errors
/// [`StoreError::Unavailable`] if there is something in `path`, or the copy is damaged or of a newer version.
pub fn restore(from: &Path, path: &Path) -> Result<()> {
    let _lock = lock(path)?;
    absent(path)?;
    // A log that an earlier store left here would be taken for this one's.
    for left in ["-wal", "-shm", "-journal"] {
        absent(&beside(path, left))?;
    }
    check(from)?;
    let partial = beside(path, ".partial");
    std::fs::copy(from, &partial).map_err(unavailable)?;
    publish(&partial, path)
}

fn absent(path: &Path) -> Result<()> {
    match path.try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => Err(StoreError::Unavailable { detail: format!("{} exists already", path.display()) }),
        Err(error) => Err(unavailable(error)),
    }
}

/// Refuses a file that is no store, is damaged or of a newer version.
fn check(path: &Path) -> Result<()> {
    let refused = |detail: String| StoreError::Unavailable { detail: format!("{}: {detail}", path.display()) };
    let copy = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let version: i64 = copy.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(unavailable)?;
    if !(1..=MIGRATIONS.len() as i64).contains(&version) {
        return Err(refused(format!("it has schema version {version}, this program knows 1 to {}", MIGRATIONS.len())));
    }
    let found: String = copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(unavailable)?;
    if found == "ok" { Ok(()) } else { Err(refused(found)) }
}

/// Gives a written file its name, so that it is there in full or not at all.
fn publish(partial: &Path, to: &Path) -> Result<()> {
    let synced = File::open(partial).and_then(|file| file.sync_all());
    synced.and_then(|()| std::fs::rename(partial, to)).map_err(unavailable)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(unavailable)
}

/// A file whose name goes on after this one's.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, store::sqlite::SqliteStore};

    #[test]
    fn a_copy_during_which_the_log_grows_too_long_is_given_up_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (path, to) = (folder.path().join("store.db"), folder.path().join("copy.db"));
        let _store = SqliteStore::open(&path, Timestamp::from_millis(0)).unwrap();
        // So much that it takes longer than to the first look.
        let rows =
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000) SELECT i, hex(i) FROM n";
        Connection::open(&path).unwrap().execute(&format!("CREATE TABLE filler AS {rows}"), []).unwrap();
        // The log lies beside the store, wherever a link to it is.
        let link = folder.path().join("link.db");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let files = || std::fs::read_dir(folder.path()).unwrap().count();
        let before = files();
        for from in [&path, &link] {
            let given_up = backup(from, &to, 0).unwrap_err().to_string();
            assert!(given_up.contains("--log-mib-max"), "{given_up}");
            assert_eq!(files(), before);
        }
        backup(&path, &to, u64::MAX).unwrap();
        assert!(to.exists());
    }
}
