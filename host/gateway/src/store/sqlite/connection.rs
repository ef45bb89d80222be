//! Connections to the store's file: who may open it, how each one is set up, and the schema that it finds there.

use std::{
    fs::{File, TryLockError},
    path::Path,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::error::unavailable;
use crate::store::{Result, StoreError};

/// The statements that bring a store from version N to N + 1, in order. Never edited once released.
pub const MIGRATIONS: &[&str] = &[include_str!("../migrations/sqlite_0001.sql")];

/// How long a connection waits for another process that has the database locked.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes this process the one that works on the store.
pub fn lock(path: &Path) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed =
        |error: &dyn std::fmt::Display| StoreError::Unavailable { detail: format!("{}: {error}", path.display()) };
    let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(failed(&"another hookloom process works on this store")),
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}

/// The writer's connection to a store that is created or migrated first.
pub fn connect_writer(path: &Path) -> Result<Connection> {
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    prepare_writer(&connection).map_err(unavailable)?;
    migrate(&mut connection, MIGRATIONS)?;
    Ok(connection)
}

/// Another connection for the writer of a store that is open, after a failure.
pub fn reconnect_writer(path: &Path) -> Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    prepare_writer(&connection).map_err(unavailable)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(unavailable)?;
    Ok(connection)
}

fn prepare_writer(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 67108864;
         PRAGMA cache_size = -65536;",
    )
}

/// A connection, set up as all of them are.
pub fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| StoreError::Unavailable { detail: format!("{}: {error}", path.display()) })?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(unavailable)?;
    connection.set_prepared_statement_cache_capacity(128);
    // Without this, a statement whose plan may depend on a value (`kind = ?` beside an index for one kind) is compiled anew
    // each time it is run.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(unavailable)?;
    connection.pragma_update(None, "cache_size", -16_384).map_err(unavailable)?;
    Ok(connection)
}

/// Brings the schema up to date, in one commit; several processes that open the store at once do it one after the other.
pub fn migrate(connection: &mut Connection, migrations: &[&str]) -> Result<()> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(unavailable)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(unavailable)?;
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done > migrations.len() {
        return Err(StoreError::Unavailable {
            detail: format!("the store has schema version {version}, this program knows {}: upgrade", migrations.len()),
        });
    }
    for migration in &migrations[done..] {
        transaction.execute_batch(migration).map_err(unavailable)?;
    }
    transaction.pragma_update(None, "user_version", migrations.len() as i64).map_err(unavailable)?;
    transaction.commit().map_err(unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_is_compiled_as_the_repositorys_configuration_says() {
        let connection = Connection::open_in_memory().unwrap();
        let mut statement = connection.prepare("PRAGMA compile_options").unwrap();
        let options: Vec<String> =
            statement.query_map([], |row| row.get(0)).unwrap().collect::<rusqlite::Result<_>>().unwrap();
        assert!(
            options.iter().any(|option| option == "DEFAULT_MEMSTATUS=0"),
            "this build has not seen .cargo/config.toml, which cargo looks for from the folder that it is called in: call it \
             within the repository"
        );
    }
}
