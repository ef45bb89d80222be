//! Copies of an embedded store: taken while a gateway works on it, put back where there is none.

use std::{fs::File, path::Path};

use rusqlite::OpenFlags;

use super::{MIGRATIONS, connect, unavailable};
use crate::store::{Result, StoreError};

/// Copies the store in `path` to the new file `to`: one moment of it, checked and synced. Secrets stay encrypted in it; the key
/// is not part of it.
///
/// # Errors
/// [`StoreError::Unavailable`] if there is no store, `to` exists, or it can't be written.
pub fn backup(path: &Path, to: &Path) -> Result<()> {
    absent(to)?;
    let store = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let partial = beside(to);
    let _ = std::fs::remove_file(&partial);
    // One read transaction, however long it takes; copying page by page would begin anew with every commit of the gateway.
    store.execute("VACUUM INTO ?", [partial.to_string_lossy()]).map_err(unavailable)?;
    check(&partial)?;
    publish(&partial, to)
}

/// Makes a store in `path` from a copy; what was claimed when it was taken goes on at the next start.
///
/// # Errors
/// [`StoreError::Unavailable`] if there is something in `path`, or the copy is damaged or of a newer version.
pub fn restore(from: &Path, path: &Path) -> Result<()> {
    let _lock = super::lock(path)?;
    absent(path)?;
    // A log that an earlier store left here would be taken for this one's.
    for left in ["-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(left);
        absent(Path::new(&name))?;
    }
    check(from)?;
    let partial = beside(path);
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

fn beside(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}
