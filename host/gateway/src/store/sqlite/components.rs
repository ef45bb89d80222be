//! Uploaded components: bytes under their digest, kept as long as a version has them.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    queue::{NewWork, enqueue},
    writer::Turn,
};
use crate::{
    clock::Timestamp,
    id::AppId,
    store::{
        Result,
        flow::WorkKind,
        key::{Lane, Subject},
    },
};

/// Bytes of a piece. Removing one takes a fraction of a millisecond; of 24 MiB at once, 30 ms.
const PIECE_BYTES: usize = 256 << 10;

/// Keeps a component, once.
pub fn keep(c: &Connection, digest: &str, bytes: &[u8], now: Timestamp) -> Result<()> {
    let added = c
        .prepare_cached("INSERT INTO component (digest, created_ms) VALUES (?, ?) ON CONFLICT DO NOTHING")?
        .execute(params![digest, now.as_millis()])?;
    if added == 0 {
        return Ok(());
    }
    let component = c.last_insert_rowid();
    for (position, piece) in bytes.chunks(PIECE_BYTES).enumerate() {
        c.prepare_cached("INSERT INTO component_piece (component_id, position, bytes) VALUES (?, ?, ?)")?
            .execute(params![component, i64::try_from(position).unwrap_or(i64::MAX), piece])?;
    }
    Ok(())
}

/// A component's bytes.
pub fn read(c: &Connection, digest: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    let component: Option<i64> = c
        .prepare_cached("SELECT id FROM component WHERE digest = ?")?
        .query_row([digest], |row| row.get(0))
        .optional()?;
    let Some(component) = component else { return Ok(None) };
    let mut statement =
        c.prepare_cached("SELECT bytes FROM component_piece WHERE component_id = ? ORDER BY position")?;
    let mut pieces = statement.query([component])?;
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next()? {
        bytes.extend_from_slice(piece.get_ref("bytes")?.as_blob()?);
    }
    Ok(Some(bytes))
}

/// Lets go of a component if no version has it any more: it is gone at once, its bytes are erased bit by bit.
pub fn let_go(c: &Turn<'_>, app: &AppId, digest: &str, now: Timestamp) -> Result<()> {
    let removed: Option<i64> = c.prepare_cached(LET_GO)?.query_row([digest], |row| row.get(0)).optional()?;
    if let Some(component) = removed {
        let subject = Subject::Component(component);
        enqueue(c, &NewWork { kind: WorkKind::Erase, lane: Lane::live(app), app, subject: &subject, due: now }, false)?;
    }
    Ok(())
}

pub(super) const LET_GO: &str = "UPDATE component SET digest = NULL WHERE digest = ?1 AND NOT EXISTS
     (SELECT 1 FROM resource WHERE kind = 'version' AND json_extract(data, '$.component') = ?1) RETURNING id";
