//! What people set in motion again, move, or end before its time.

use super::{
    order::{self, Place},
    queue::{self, NewWork, enqueue},
    rows,
    rows::{get, params},
    turn::Turn,
};
use crate::{
    clock::Timestamp,
    id::{AppId, EndpointId, EventId, MessageId, SourceId},
    store::{
        Result,
        flow::{DeliveryState, EventState, LaneHead, Rescheduled, WorkKind},
        key::{self, Key, Lane, Subject, key},
    },
};

pub async fn event(turn: &Turn, app: &AppId, event: &EventId, now: Timestamp) -> Result<Option<LaneHead>> {
    let source: Option<Key> = turn
        .first(
            "UPDATE event SET state = ?, reason = NULL WHERE app_id = ? AND id = ? AND state = ? RETURNING source_id",
            params![EventState::Accepted.code(), key(app), key(event), EventState::Held.code()],
        )
        .await?
        .as_ref()
        .map(|row| get(row, 0))
        .transpose()?;
    let Some(source) = source else { return Ok(None) };
    let lane = Lane::replay(&key::id::<SourceId>(source));
    let subject = Subject::Event(event.clone());
    go_on(turn, &NewWork { kind: WorkKind::Map, lane, app, subject: &subject, due: now }).await.map(Some)
}

pub async fn message(turn: &Turn, app: &AppId, message: &MessageId, now: Timestamp) -> Result<Option<LaneHead>> {
    let is_held = turn
        .exists(
            "SELECT 1 FROM delivery WHERE message_id = ? AND app_id = ? AND state = ?",
            params![key(message), key(app), DeliveryState::Held.code()],
        )
        .await?;
    if !is_held {
        return Ok(None);
    }
    fan_out(turn, app, message, now).await.map(Some)
}

/// Fans a message out once more: its held deliveries are settled.
pub async fn fan_out(turn: &Turn, app: &AppId, message: &MessageId, now: Timestamp) -> Result<LaneHead> {
    let subject = Subject::Message(message.clone());
    go_on(turn, &NewWork { kind: WorkKind::FanOut, lane: Lane::replay(app), app, subject: &subject, due: now }).await
}

pub async fn resend(
    turn: &Turn,
    app: &AppId,
    message: &MessageId,
    endpoint: &EndpointId,
    now: Timestamp,
) -> Result<Option<LaneHead>> {
    let changed = turn.execute("UPDATE delivery SET state = ?1, reason = NULL, attempts = 0, next_attempt_ms = ?2, manual = true, updated_ms = ?2
             WHERE message_id = ?3 AND endpoint_id = ?4 AND app_id = ?5 AND state NOT IN (?6, ?7)
                 AND EXISTS (SELECT 1 FROM message WHERE app_id = ?5 AND id = ?3 AND octet_length(payload) > 0)", params![
            DeliveryState::Waiting.code(),
            now.as_millis(),
            key(message),
            key(endpoint),
            key(app),
            DeliveryState::Held.code(),
            DeliveryState::Dropped.code(),
        ]).await?;
    if changed == 0 {
        return Ok(None);
    }
    let subject = Subject::Delivery(message.clone(), endpoint.clone());
    let lane = Lane::replay(endpoint);
    let work = NewWork { kind: WorkKind::Deliver, lane, app, subject: &subject, due: now };
    if order::place(turn, endpoint, &subject).await? == Place::Behind {
        return Ok(Some(work.head()));
    }
    go_on(turn, &work).await.map(Some)
}

pub async fn skip(
    turn: &Turn,
    app: &AppId,
    message: &MessageId,
    endpoint: &EndpointId,
    now: Timestamp,
) -> Result<(bool, Option<LaneHead>)> {
    let may_leave = turn
        .exists(
            "SELECT 1 FROM delivery WHERE message_id = ? AND endpoint_id = ? AND app_id = ? AND state <> ?",
            params![key(message), key(endpoint), key(app), DeliveryState::Waiting.code()],
        )
        .await?;
    if may_leave { order::delivery_ends(turn, app, message, endpoint, now).await } else { Ok((false, None)) }
}

pub async fn reschedule(
    turn: &Turn,
    app: &AppId,
    message: &MessageId,
    at: Option<Timestamp>,
    now: Timestamp,
) -> Result<Rescheduled> {
    let (app_key, message_key) = (key(app), key(message));
    let scheduled: Option<bool> = turn
        .first(
            "SELECT deliver_at_ms IS NOT NULL AND NOT cancelled FROM message WHERE app_id = ? AND id = ? FOR UPDATE",
            params![app_key, message_key],
        )
        .await?
        .as_ref()
        .map(|row| get(row, 0))
        .transpose()?;
    match scheduled {
        None => return Ok(Rescheduled::Missing),
        Some(false) => return Ok(Rescheduled::NotScheduled),
        Some(true) => {}
    }
    let deliveries = turn
        .rows("SELECT endpoint_id, state, attempts FROM delivery WHERE message_id = ?", params![message_key])
        .await?
        .iter()
        .map(|row| {
            let state = rows::state(row, "state", DeliveryState::from_code)?;
            Ok((rows::id::<EndpointId>(row, "endpoint_id")?, state, get::<u32>(row, "attempts")?))
        })
        .collect::<Result<Vec<_>>>()?;
    for (endpoint, state, attempts) in &deliveries {
        let begun = *attempts > 0 || matches!(state, DeliveryState::Delivered | DeliveryState::Dead);
        if begun || was_claimed(turn, message, endpoint).await? {
            return Ok(Rescheduled::Begun);
        }
    }
    let waiting = deliveries.iter().filter(|(_, state, _)| *state == DeliveryState::Waiting).map(|(id, ..)| id);
    match at {
        Some(at) => {
            turn.execute(
                "UPDATE message SET deliver_at_ms = ? WHERE app_id = ? AND id = ?",
                params![at.as_millis(), app_key, message_key],
            )
            .await?;
            for endpoint in waiting {
                put_off(turn, message, endpoint, at, now).await?;
            }
        }
        None => {
            turn.execute(
                "UPDATE message SET cancelled = true WHERE app_id = ? AND id = ?",
                params![app_key, message_key],
            )
            .await?;
            for endpoint in waiting {
                end(turn, app, message, endpoint, DeliveryState::Cancelled, "the message was cancelled", now).await?;
            }
        }
    }
    Ok(Rescheduled::Done)
}

pub async fn end_waiting(
    turn: &Turn,
    endpoint: &EndpointId,
    state: DeliveryState,
    reason: &str,
    limit: usize,
    now: Timestamp,
) -> Result<usize> {
    let mut ended = 0;
    while ended < limit {
        // The first of a line makes the next one the first, so all of a line come by here.
        let mut next = None;
        for lane in [Lane::live(endpoint), Lane::replay(endpoint)] {
            next = match next {
                Some(next) => Some(next),
                None => queue::first(turn, WorkKind::Deliver, lane).await?,
            };
        }
        let next = match next {
            Some(next) => next,
            None => match order::blocking(turn, endpoint).await? {
                Some(blocking) => blocking,
                None => break,
            },
        };
        let Subject::Delivery(message, _) = &next else { break };
        let app: Option<Key> = turn
            .first(
                "SELECT app_id FROM delivery WHERE message_id = ? AND endpoint_id = ?",
                params![key(message), key(endpoint)],
            )
            .await?
            .as_ref()
            .map(|row| get(row, 0))
            .transpose()?;
        match app {
            Some(app) => end(turn, &key::id(app), message, endpoint, state, reason, now).await?,
            None => queue::remove(turn, WorkKind::Deliver, &next).await?,
        }
        ended += 1;
    }
    Ok(ended)
}

/// Ends a delivery that waits or is held, also one that somebody has in hand, and takes it out of its line.
pub async fn end_open(
    turn: &Turn,
    app: &AppId,
    message: &MessageId,
    endpoint: &EndpointId,
    (state, reason): (DeliveryState, &str),
    now: Timestamp,
) -> Result<()> {
    turn.execute(
        "UPDATE delivery SET state = ? WHERE message_id = ? AND endpoint_id = ? AND state = ?",
        params![DeliveryState::Waiting.code(), key(message), key(endpoint), DeliveryState::Held.code()],
    )
    .await?;
    end(turn, app, message, endpoint, state, reason, now).await
}

/// Ends a delivery that nobody has in hand, if it waits, and takes it out of its line.
async fn end(
    turn: &Turn,
    app: &AppId,
    message: &MessageId,
    endpoint: &EndpointId,
    state: DeliveryState,
    reason: &str,
    now: Timestamp,
) -> Result<()> {
    turn.execute(
        "UPDATE delivery SET state = ?, reason = ?, next_attempt_ms = NULL, manual = false, updated_ms = ?
         WHERE message_id = ? AND endpoint_id = ? AND state = ?",
        params![state.code(), reason, now.as_millis(), key(message), key(endpoint), DeliveryState::Waiting.code(),],
    )
    .await?;
    queue::remove(turn, WorkKind::Deliver, &Subject::Delivery(message.clone(), endpoint.clone())).await?;
    order::delivery_ends(turn, app, message, endpoint, now).await?;
    Ok(())
}

async fn put_off(turn: &Turn, message: &MessageId, endpoint: &EndpointId, at: Timestamp, now: Timestamp) -> Result<()> {
    turn.execute(
        "UPDATE delivery SET next_attempt_ms = ?, updated_ms = ? WHERE message_id = ? AND endpoint_id = ?",
        params![at.as_millis(), now.as_millis(), key(message), key(endpoint)],
    )
    .await?;
    let subject = Subject::Delivery(message.clone(), endpoint.clone()).to_bytes();
    turn.execute(
        "UPDATE work SET due_ms = ? WHERE kind = ? AND subject = ?",
        params![at.as_millis(), WorkKind::Deliver.code(), subject],
    )
    .await?;
    Ok(())
}

async fn was_claimed(turn: &Turn, message: &MessageId, endpoint: &EndpointId) -> Result<bool> {
    let subject = Subject::Delivery(message.clone(), endpoint.clone()).to_bytes();
    // The lock keeps others from claiming it until the commit.
    let sql = "SELECT tries > 0 OR node <> 0 AS was_claimed FROM work WHERE kind = ? AND subject = ? FOR UPDATE";
    let row = turn.first(sql, params![WorkKind::Deliver.code(), subject]).await?;
    row.map_or(Ok(false), |row| get(&row, "was_claimed"))
}

async fn go_on(turn: &Turn, work: &NewWork<'_>) -> Result<LaneHead> {
    enqueue(turn, work, false).await?;
    Ok(work.head())
}
