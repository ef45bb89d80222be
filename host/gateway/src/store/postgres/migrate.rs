//! What is checked and brought about before a database is worked with.

use super::{
    connect::{Connector, unavailable},
    pool::Lease,
    rows::{get, params},
};
use crate::store::Result;

/// The statements that bring a store from version N to N + 1, in order. Never edited once released.
pub(super) const MIGRATIONS: &[Migration] =
    &[Migration { sql: include_str!("../migrations/postgres_0001.sql"), needs: 1 }];

/// One step of the schema.
#[derive(Clone, Copy)]
pub(super) struct Migration {
    pub(super) sql: &'static str,
    /// The oldest version of a program that works with the schema after it. Each must leave the release before it working,
    /// since nodes are replaced one after the other, and may be started again meanwhile.
    pub(super) needs: usize,
}

/// The lock that only one starting node has: the letters `hook`.
const LOCK: i64 = 0x686f_6f6b;

/// The oldest PostgreSQL that has all we use.
const VERSION_MIN: i64 = 130_000;

/// Settings that would lose what was answered, and the values that do.
const RELAXED: [(&str, &str); 3] = [("fsync", "off"), ("full_page_writes", "off"), ("synchronous_commit", "off")];

/// Refuses a database that is too old, has another encoding, or doesn't keep what it has confirmed.
pub async fn check(c: &Lease, relaxed: bool) -> Result<()> {
    let setting = async |name: &str| -> Result<String> {
        let row = c.first("SELECT current_setting(?) AS value", params![name]).await?;
        row.map_or(Ok(String::new()), |row| get(&row, "value"))
    };
    let version = setting("server_version_num").await?;
    if version.parse().is_ok_and(|version: i64| version < VERSION_MIN) {
        return Err(unavailable(format!(
            "PostgreSQL 13 or newer is needed, this is {}",
            setting("server_version").await?
        )));
    }
    let encoding = setting("server_encoding").await?;
    if encoding != "UTF8" {
        return Err(unavailable(format!("the database's encoding must be UTF8, it is {encoding}")));
    }
    for (name, value) in RELAXED {
        if setting(name).await? != value {
            continue;
        }
        if !relaxed {
            return Err(unavailable(format!(
                "the database has {name} = {value}: it could lose what was accepted. Switch it on, or set \
                 `store.dangerous_relaxed_durability` if that may be"
            )));
        }
        tracing::warn!("the database has {name} = {value}: what was accepted may be lost");
    }
    Ok(())
}

/// Brings the schema up to date. Nodes that start at the same time do it one after the other, and all but the first find
/// nothing to do.
pub(super) async fn migrate(connector: &Connector, migrations: &[Migration]) -> Result<()> {
    // A connection of its own: waiting for the lock and a migration may take longer than a statement may.
    let c = connector.connect(None).await?;
    c.batch("SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; BEGIN")
        .await?;
    c.unhurried("SELECT pg_advisory_xact_lock(?)", params![LOCK]).await?;
    c.batch("CREATE TABLE IF NOT EXISTS schema_version (version bigint NOT NULL, needs bigint NOT NULL)").await?;
    let row = c.first("SELECT version, needs FROM schema_version ORDER BY version DESC LIMIT 1", params![]).await?;
    let number = |name| row.as_ref().map_or(Ok(0), |row| get::<i64>(row, name));
    let (version, needs) = (number("version")?, number("needs")?);
    let [done, needs] = [version, needs].map(|number| usize::try_from(number).unwrap_or(usize::MAX));
    if needs > migrations.len() {
        return Err(unavailable(format!(
            "the store has schema version {version}, this program knows {}: upgrade",
            migrations.len()
        )));
    }
    if done > migrations.len() {
        tracing::info!(version, "the store is of a newer release, beside which this one can work");
    }
    for (number, Migration { sql, needs }) in migrations.iter().enumerate().skip(done) {
        tracing::info!(version = number + 1, "migrating the store");
        c.unhurried_batch(sql).await?;
        c.batch(&format!("INSERT INTO schema_version VALUES ({}, {needs})", number + 1)).await?;
    }
    c.batch("COMMIT").await
}
