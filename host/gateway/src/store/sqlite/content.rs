//! What is in messages and answers, apart from the rows that it stands in: counted, sent to one endpoint only, and forgotten
//! before its time.

use rusqlite::{Connection, OptionalExtension, params};

use super::{accept, again, expire, order, queue, rows, writer::Turn};
use crate::{
    clock::Timestamp,
    id::{AppId, AttemptId, EndpointId, MessageId},
    store::{
        Result,
        flow::{Accepted, Admitted, DeliveryCounts, DeliveryState, EXPUNGED, Message, WorkKind},
        key::{self, Key, Subject, key},
        query::first_key,
        used::Used,
    },
};

pub fn stats(
    c: &Connection,
    app: &AppId,
    endpoint: &EndpointId,
    (since, until): (Timestamp, Timestamp),
) -> rusqlite::Result<DeliveryCounts> {
    c.prepare_cached(
        "SELECT state, count(*) AS count FROM delivery
         WHERE endpoint_id = ? AND message_id >= ? AND message_id < ? AND app_id = ? GROUP BY state",
    )?
    .query_map(params![key(endpoint), first_key(since), first_key(until), key(app)], |row| {
        let count: i64 = row.get("count")?;
        Ok((rows::state(row, "state", DeliveryState::from_code)?, u64::try_from(count).unwrap_or(0)))
    })?
    .collect()
}

/// A message that only one endpoint gets: its delivery is there already, held until fan-out settles it.
pub fn accept_for(turn: &Turn<'_>, message: &Message, endpoint: &EndpointId) -> Result<Admitted<MessageId>> {
    let admitted = accept::message(turn, message, None, false)?;
    if let Accepted::New(_) = admitted.accepted {
        turn.prepare_cached(
            "INSERT INTO delivery (app_id, message_id, endpoint_id, state, reason, attempts, manual, updated_ms)
             VALUES (?, ?, ?, ?, 'it is being prepared', 0, 1, ?)",
        )?
        .execute(params![
            key(&message.app),
            key(&message.id),
            key(endpoint),
            DeliveryState::Held.code(),
            message.created_at.as_millis(),
        ])?;
    }
    Ok(admitted)
}

/// Forgets what a message says, wherever it was copied to; what still waits ends. False if there is no such message.
pub fn expunge(turn: &Turn<'_>, app: &AppId, message: &MessageId, now: Timestamp) -> Result<bool> {
    const WHY: &str = "the message's content was removed";
    // First of all: whoever fans it out at this moment is waited for, or finds the work gone.
    queue::remove(turn, WorkKind::FanOut, &Subject::Message(message.clone()))?;
    let bytes: Option<i64> = turn
        .prepare_cached("SELECT length(payload) FROM message WHERE app_id = ? AND id = ?")?
        .query_row([key(app), key(message)], |row| row.get(0))
        .optional()?;
    let Some(bytes) = bytes else { return Ok(false) };
    turn.prepare_cached(
        "UPDATE message SET payload = x'', cancelled = 1, content_until_ms = NULL WHERE app_id = ? AND id = ?",
    )?
    .execute([key(app), key(message)])?;
    turn.used(app, Used { message_bytes: -bytes, ..Used::default() });
    turn.prepare_cached("DELETE FROM dead_letter WHERE subject = ? AND app_id = ?")?
        .execute([key(message), key(app)])?;
    let open = turn
        .prepare_cached("SELECT endpoint_id FROM delivery WHERE message_id = ? AND state IN (?, ?)")?
        .query_map(params![key(message), DeliveryState::Waiting.code(), DeliveryState::Held.code()], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<Key>>>()?;
    for endpoint in open {
        again::end_open(turn, app, message, &key::id::<EndpointId>(endpoint), (DeliveryState::Cancelled, WHY), now)?;
    }
    order::message_ends(turn, app, message, now)?;
    turn.prepare_cached("UPDATE delivery SET body_id = NULL WHERE message_id = ?")?.execute([key(message)])?;
    turn.prepare_cached("DELETE FROM body WHERE message_id = ?")?.execute([key(message)])?;
    expire::calls_on(turn, app, key(message))?;
    Ok(true)
}

/// Forgets what a receiver answered. False if there is no such attempt.
pub fn expunge_attempt(turn: &Turn<'_>, app: &AppId, message: &MessageId, attempt: &AttemptId) -> Result<bool> {
    let changed = turn
        .prepare_cached("UPDATE attempt SET response = ? WHERE message_id = ? AND id = ? AND app_id = ?")?
        .execute(params![EXPUNGED, key(message), key(attempt), key(app)])?;
    Ok(changed == 1)
}

/// Forgets the contents whose own time has come.
pub fn expire_contents(turn: &Turn<'_>, app: &AppId, now: Timestamp, rows: i64) -> Result<usize> {
    let found = turn
        .prepare_cached(
            "SELECT id FROM message WHERE app_id = ? AND content_until_ms < ? ORDER BY content_until_ms LIMIT ?",
        )?
        .query_map(params![key(app), now.as_millis(), rows], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<Key>>>()?;
    for message in &found {
        expunge(turn, app, &key::id(*message), now)?;
    }
    Ok(found.len())
}
