//! Who stands in line. Messages of a tenant with the same ordering key are fanned out one after the other, and their
//! deliveries attempted one after the other at an endpoint that asks for it: only the first of a line has work. Whoever ends
//! the first calls [`leave`], and what it answers goes on in the same commit.

use super::{
    queue::{self, NewWork},
    rows::{get, pair, params},
    turn::Turn,
};
use crate::{
    clock::Timestamp,
    id::{AppId, EndpointId, MessageId, TypedId},
    store::{
        Result,
        flow::{DeliveryState, LaneHead, WorkKind},
        key::{Key, Lane, Subject, key},
    },
};

/// Puts a subject at the end of its line, unless it stands there already; true if it is the first.
pub async fn join(turn: &Turn, scope: &impl TypedId, ordering_key: &str, subject: &Subject) -> Result<bool> {
    let (scope, subject) = (key(scope), subject.to_bytes());
    lock(turn, &scope, ordering_key).await?;
    turn.execute(
        "INSERT INTO queue_order (scope, key, subject) VALUES (?, ?, ?) ON CONFLICT (scope, subject) DO NOTHING",
        params![scope, ordering_key, subject],
    )
    .await?;
    let row = turn
        .first(
            "SELECT subject FROM queue_order WHERE scope = ? AND key = ? ORDER BY seq LIMIT 1",
            params![scope, ordering_key],
        )
        .await?;
    row.map_or(Ok(false), |row| Ok(get::<Vec<u8>>(&row, 0)? == subject))
}

/// One transaction at a time works on a line. The lock is held until the commit, so the next one sees all of it; the order is
/// that of the commits.
async fn lock(turn: &Turn, scope: &Key, ordering_key: &str) -> Result<()> {
    turn.alone(scope)?;
    let sql = "SELECT pg_advisory_xact_lock(hashtextextended(encode(?, 'hex') || ?, 0))";
    turn.rows(sql, params![scope, ordering_key]).await?;
    Ok(())
}

/// Locks the line in which a subject stands; false if it stands in none.
async fn lock_line_of(turn: &Turn, scope: &Key, subject: &[u8]) -> Result<bool> {
    let row =
        turn.first("SELECT key FROM queue_order WHERE scope = ? AND subject = ?", params![scope, subject]).await?;
    match row {
        Some(row) => lock(turn, scope, &get::<String>(&row, 0)?).await.map(|()| true),
        None => Ok(false),
    }
}

/// How a subject stands in a scope's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    None,
    First,
    Behind,
}

/// Where a subject stands.
pub async fn place(turn: &Turn, scope: &impl TypedId, subject: &Subject) -> Result<Place> {
    lock_line_of(turn, &key(scope), &subject.to_bytes()).await?;
    let is_first: Option<bool> = turn
        .first(
            "SELECT NOT EXISTS (SELECT 1 FROM queue_order AS other
                                WHERE other.scope = it.scope AND other.key = it.key AND other.seq < it.seq)
             FROM queue_order AS it WHERE scope = ? AND subject = ?",
            params![key(scope), subject.to_bytes()],
        )
        .await?
        .as_ref()
        .map(|row| get(row, 0))
        .transpose()?;
    Ok(is_first.map_or(Place::None, |is_first| if is_first { Place::First } else { Place::Behind }))
}

/// Takes a message out of its tenant's line; the next one's fan-out may go on.
pub async fn message_ends(turn: &Turn, app: &AppId, message: &MessageId, now: Timestamp) -> Result<Option<LaneHead>> {
    let (_, next) = leave(turn, app, &Subject::Message(message.clone())).await?;
    let Some(subject) = next.and_then(|next| Subject::from_bytes(WorkKind::FanOut, &next)) else { return Ok(None) };
    let new = NewWork { kind: WorkKind::FanOut, lane: Lane::live(app), app, subject: &subject, due: now };
    queue::enqueue(turn, &new, false).await?;
    Ok(Some(new.head()))
}

/// Takes a delivery out of its endpoint's line; the next one may go on, if it waits. Answers whether it stood there.
pub async fn delivery_ends(
    turn: &Turn,
    app: &AppId,
    message: &MessageId,
    endpoint: &EndpointId,
    now: Timestamp,
) -> Result<(bool, Option<LaneHead>)> {
    let (stood, next) = leave(turn, endpoint, &Subject::Delivery(message.clone(), endpoint.clone())).await?;
    let Some(subject) = next.and_then(|next| Subject::from_bytes(WorkKind::Deliver, &next)) else {
        return Ok((stood, None));
    };
    let Some(next) = subject.message() else { return Ok((stood, None)) };
    let due: Option<Option<i64>> = turn
        .first(
            "SELECT next_attempt_ms FROM delivery WHERE message_id = ? AND endpoint_id = ? AND state = ?",
            params![key(next), key(endpoint), DeliveryState::Waiting.code()],
        )
        .await?
        .as_ref()
        .map(|row| get(row, 0))
        .transpose()?;
    // One that is held or ended and blocks the line keeps blocking it.
    let Some(due) = due else { return Ok((stood, None)) };
    let due = due.map_or(now, Timestamp::from_millis);
    let new = NewWork { kind: WorkKind::Deliver, lane: Lane::live(endpoint), app, subject: &subject, due };
    queue::enqueue(turn, &new, false).await?;
    Ok((stood, Some(new.head())))
}

/// Takes a subject out of its line. Answers whether it stood there, and who is the first now, if that is somebody else than
/// before.
async fn leave(turn: &Turn, scope: &impl TypedId, subject: &Subject) -> Result<(bool, Option<Vec<u8>>)> {
    let scope = key(scope);
    if !lock_line_of(turn, &scope, &subject.to_bytes()).await? {
        return Ok((false, None));
    }
    let left: Option<(String, i64)> = turn
        .first(
            "DELETE FROM queue_order WHERE scope = ? AND subject = ? RETURNING key, seq",
            params![scope, subject.to_bytes()],
        )
        .await?
        .as_ref()
        .map(pair)
        .transpose()?;
    let Some((ordering_key, left)) = left else { return Ok((false, None)) };
    let first: Option<(Vec<u8>, i64)> = turn
        .first(
            "SELECT subject, seq FROM queue_order WHERE scope = ? AND key = ? ORDER BY seq LIMIT 1",
            params![scope, ordering_key],
        )
        .await?
        .as_ref()
        .map(pair)
        .transpose()?;
    Ok((true, first.filter(|(_, seq)| *seq > left).map(|(subject, _)| subject)))
}

/// The first of an endpoint's lines that has no work: it ended or is held, and blocks its line.
pub async fn blocking(turn: &Turn, endpoint: &EndpointId) -> Result<Option<Subject>> {
    let subject: Option<Vec<u8>> = turn
        .first(
            "SELECT subject FROM queue_order AS it WHERE scope = ?1
                 AND seq = (SELECT min(seq) FROM queue_order AS other WHERE other.scope = ?1 AND other.key = it.key)
                 AND NOT EXISTS (SELECT 1 FROM work WHERE kind = ?2 AND work.subject = it.subject) LIMIT 1",
            params![key(endpoint), WorkKind::Deliver.code()],
        )
        .await?
        .as_ref()
        .map(|row| get(row, 0))
        .transpose()?;
    Ok(subject.and_then(|subject| Subject::from_bytes(WorkKind::Deliver, &subject)))
}
