//! Who stands in line. Messages of a tenant with the same ordering key are fanned out one after the other, and their
//! deliveries attempted one after the other at an endpoint that asks for it: only the first of a line has work. Whoever ends
//! the first calls [`leave`], and what it answers goes on in the same commit.

use rusqlite::{OptionalExtension, params};

use super::{
    queue::{self, NewWork},
    writer::Turn,
};
use crate::{
    clock::Timestamp,
    id::{AppId, EndpointId, MessageId, TypedId},
    store::{
        Result,
        flow::{DeliveryState, LaneHead, WorkKind},
        key::{Lane, Subject, key},
    },
};

/// Puts a subject at the end of its line, unless it stands there already; true if it is the first.
pub fn join(turn: &Turn<'_>, scope: &impl TypedId, ordering_key: &str, subject: &Subject) -> Result<bool> {
    let (scope, subject) = (key(scope), subject.to_bytes());
    turn.prepare_cached(
        "INSERT INTO queue_order (scope, key, seq, subject) VALUES (?, ?, ?, ?) ON CONFLICT (scope, subject) DO NOTHING",
    )?
    .execute(params![scope, ordering_key, turn.number(), subject])?;
    let first: Vec<u8> = turn
        .prepare_cached("SELECT subject FROM queue_order WHERE scope = ? AND key = ? ORDER BY seq LIMIT 1")?
        .query_row(params![scope, ordering_key], |row| row.get(0))?;
    Ok(first == subject)
}

/// How a subject stands in a scope's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    None,
    First,
    Behind,
}

/// Where a subject stands.
pub fn place(turn: &Turn<'_>, scope: &impl TypedId, subject: &Subject) -> Result<Place> {
    let is_first: Option<bool> = turn
        .prepare_cached(
            "SELECT NOT EXISTS (SELECT 1 FROM queue_order AS other
                                WHERE other.scope = it.scope AND other.key = it.key AND other.seq < it.seq)
             FROM queue_order AS it WHERE scope = ? AND subject = ?",
        )?
        .query_row(params![key(scope), subject.to_bytes()], |row| row.get(0))
        .optional()?;
    Ok(is_first.map_or(Place::None, |is_first| if is_first { Place::First } else { Place::Behind }))
}

/// Takes a message out of its tenant's line; the next one's fan-out may go on.
pub fn message_ends(turn: &Turn<'_>, app: &AppId, message: &MessageId, now: Timestamp) -> Result<Option<LaneHead>> {
    let (_, next) = leave(turn, app, &Subject::Message(message.clone()))?;
    let Some(subject) = next.and_then(|next| Subject::from_bytes(WorkKind::FanOut, &next)) else { return Ok(None) };
    let new = NewWork { kind: WorkKind::FanOut, lane: Lane::live(app), app, subject: &subject, due: now };
    queue::enqueue(turn, &new, false)?;
    Ok(Some(new.head()))
}

/// Takes a delivery out of its endpoint's line; the next one may go on, if it waits. Answers whether it stood there.
pub fn delivery_ends(
    turn: &Turn<'_>,
    app: &AppId,
    message: &MessageId,
    endpoint: &EndpointId,
    now: Timestamp,
) -> Result<(bool, Option<LaneHead>)> {
    let (stood, next) = leave(turn, endpoint, &Subject::Delivery(message.clone(), endpoint.clone()))?;
    let Some(subject) = next.and_then(|next| Subject::from_bytes(WorkKind::Deliver, &next)) else {
        return Ok((stood, None));
    };
    let Some(next) = subject.message() else { return Ok((stood, None)) };
    let due: Option<Option<i64>> = turn
        .prepare_cached("SELECT next_attempt_ms FROM delivery WHERE message_id = ? AND endpoint_id = ? AND state = ?")?
        .query_row(params![key(next), key(endpoint), DeliveryState::Waiting.code()], |row| row.get(0))
        .optional()?;
    // One that is held or ended and blocks the line keeps blocking it.
    let Some(due) = due else { return Ok((stood, None)) };
    let due = due.map_or(now, Timestamp::from_millis);
    let new = NewWork { kind: WorkKind::Deliver, lane: Lane::live(endpoint), app, subject: &subject, due };
    queue::enqueue(turn, &new, false)?;
    Ok((stood, Some(new.head())))
}

/// Takes a subject out of its line. Answers whether it stood there, and who is the first now, if that is somebody else than
/// before.
fn leave(turn: &Turn<'_>, scope: &impl TypedId, subject: &Subject) -> Result<(bool, Option<Vec<u8>>)> {
    let (scope, subject) = (key(scope), subject.to_bytes());
    // Nearly none stands in a line, and to look costs a fraction of what `DELETE … RETURNING` prepares.
    let left: Option<(String, i64)> = turn
        .prepare_cached("SELECT key, seq FROM queue_order WHERE scope = ? AND subject = ?")?
        .query_row(params![scope, subject], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((ordering_key, left)) = left else { return Ok((false, None)) };
    turn.prepare_cached("DELETE FROM queue_order WHERE scope = ? AND key = ? AND seq = ?")?.execute(params![
        scope,
        ordering_key,
        left
    ])?;
    let first: Option<(Vec<u8>, i64)> = turn
        .prepare_cached("SELECT subject, seq FROM queue_order WHERE scope = ? AND key = ? ORDER BY seq LIMIT 1")?
        .query_row(params![scope, ordering_key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok((true, first.filter(|(_, seq)| *seq > left).map(|(subject, _)| subject)))
}

/// The first of an endpoint's lines that has no work: it ended or is held, and blocks its line.
pub fn blocking(turn: &Turn<'_>, endpoint: &EndpointId) -> Result<Option<Subject>> {
    let subject: Option<Vec<u8>> = turn
        .prepare_cached(
            "SELECT subject FROM queue_order AS it WHERE scope = ?1
                 AND seq = (SELECT min(seq) FROM queue_order AS other WHERE other.scope = ?1 AND other.key = it.key)
                 AND NOT EXISTS (SELECT 1 FROM work WHERE kind = ?2 AND work.subject = it.subject) LIMIT 1",
        )?
        .query_row(params![key(endpoint), WorkKind::Deliver.code()], |row| row.get(0))
        .optional()?;
    Ok(subject.and_then(|subject| Subject::from_bytes(WorkKind::Deliver, &subject)))
}
