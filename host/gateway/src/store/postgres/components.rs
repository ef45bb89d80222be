//! Uploaded components: bytes under their digest, kept as long as a version has them.

use super::{
    connect::Connection,
    queue::{NewWork, enqueue},
    rows::{get, params},
    turn::Turn,
};
use crate::{
    clock::Timestamp,
    id::AppId,
    store::{
        Result,
        error::inconsistent,
        flow::WorkKind,
        key::{Lane, Subject},
    },
};

/// Bytes of a piece. Removing one takes a fraction of a millisecond; of 24 MiB at once, 30 ms.
const PIECE_BYTES: usize = 256 << 10;

/// Keeps a component, once. Whoever lets go of the same one at this moment comes before or after, not between.
pub async fn keep(c: &Connection, digest: &str, bytes: &[u8], now: Timestamp) -> Result<()> {
    let row = c
        .first(
            "INSERT INTO component AS old (digest, created_ms) VALUES (?, ?)
             ON CONFLICT (digest) WHERE digest IS NOT NULL DO UPDATE SET created_ms = old.created_ms
             RETURNING id, NOT EXISTS (SELECT 1 FROM component_piece WHERE component_id = id) AS is_new",
            params![digest, now.as_millis()],
        )
        .await?;
    let Some(row) = row else { return Err(inconsistent("an inserted component is not there")) };
    if !get::<bool>(&row, "is_new")? {
        return Ok(());
    }
    let component: i64 = get(&row, "id")?;
    for (position, piece) in bytes.chunks(PIECE_BYTES).enumerate() {
        let position = i64::try_from(position).unwrap_or(i64::MAX);
        let sql = "INSERT INTO component_piece (component_id, position, bytes) VALUES (?, ?, ?)";
        c.execute(sql, params![component, position, piece]).await?;
    }
    Ok(())
}

/// A component's bytes.
pub async fn read(c: &Connection, digest: &str) -> Result<Option<Vec<u8>>> {
    let Some(row) = c.first("SELECT id FROM component WHERE digest = ?", params![digest]).await? else {
        return Ok(None);
    };
    let component: i64 = get(&row, "id")?;
    let sql = "SELECT bytes FROM component_piece WHERE component_id = ? ORDER BY position";
    let mut bytes = Vec::new();
    for piece in &c.rows(sql, params![component]).await? {
        bytes.extend_from_slice(get(piece, "bytes")?);
    }
    Ok(Some(bytes))
}

/// Lets go of a component if no version has it any more: it is gone at once, its bytes are erased bit by bit.
pub async fn let_go(c: &Turn, app: &AppId, digest: &str, now: Timestamp) -> Result<()> {
    // The lock first: the next statement then sees every version that was added with it.
    c.exists("SELECT 1 FROM component WHERE digest = ? FOR UPDATE", params![digest]).await?;
    let Some(row) = c.first(LET_GO, params![digest]).await? else { return Ok(()) };
    let subject = Subject::Component(get(&row, "id")?);
    enqueue(c, &NewWork { kind: WorkKind::Erase, lane: Lane::live(app), app, subject: &subject, due: now }, false)
        .await?;
    Ok(())
}

const LET_GO: &str = "UPDATE component SET digest = NULL WHERE digest = ?1 AND NOT EXISTS
     (SELECT 1 FROM resource WHERE kind = 'version' AND data::json ->> 'component' = ?1) RETURNING id";
