//! Many waiting messages, without publishing each: the rows of one that waits are written again under other ids.

use std::{fs::File, path::Path};

use anyhow::{Context, Result, ensure};
use rusqlite::Connection;

/// Copies the only message in a store, with its delivery and the work for it, `count` times.
pub fn copies(store: &Path, count: u64) -> Result<()> {
    let connection = Connection::open(store)?;
    let message: Vec<u8> = connection
        .query_row("SELECT message_id FROM delivery ORDER BY updated_ms LIMIT 1", [], |row| row.get(0))
        .context("a message that waits")?;
    connection.execute_batch(&format!(
        "PRAGMA synchronous = OFF;
         CREATE TEMP TABLE copy AS WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count})
             SELECT n, substr(x'{}', 1, 6) || unhex(printf('%020x', n)) AS id FROM n;
         BEGIN",
        hex(&message)
    ))?;
    let is = format!("= x'{}'", hex(&message));
    copy(&connection, "message", &format!("id {is}"), &[("id", "copy.id"), ("uid", "NULL")])?;
    copy(&connection, "delivery", &format!("message_id {is}"), &[("message_id", "copy.id")])?;
    let work = [("id", "(SELECT max(id) FROM work) + copy.n"), ("subject", "copy.id || substr(subject, 17)")];
    let copied = copy(&connection, "work", &format!("substr(subject, 1, 16) {is}"), &work)?;
    ensure!(copied as u64 == count, "{copied} copies of the work instead of {count}");
    connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)")?;
    drop(connection);
    // Else the system would write it some time later, while something is measured.
    File::open(store)?.sync_all()?;
    Ok(())
}

fn copy(connection: &Connection, table: &str, which: &str, changed: &[(&str, &str)]) -> Result<usize> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?)")?;
    let columns: Vec<String> = statement.query_map([table], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let values: Vec<&str> = columns
        .iter()
        .map(|column| changed.iter().find(|(name, _)| name == column).map_or(column.as_str(), |(_, new)| *new))
        .collect();
    let (columns, values) = (columns.join(", "), values.join(", "));
    // The row first, so that the inner select sees it alone and `max(id)` is read before anything is written.
    let row = format!("(SELECT * FROM {table} WHERE {which})");
    Ok(connection.execute(&format!("INSERT INTO {table} ({columns}) SELECT {values} FROM {row} AS row_, copy"), [])?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
