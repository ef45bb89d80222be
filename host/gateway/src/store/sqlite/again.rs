//! What people set in motion again, move, or end before its time.

use rusqlite::{OptionalExtension, params};

use super::{
    order::{self, Place},
    queue::{self, NewWork, enqueue},
    rows,
    writer::Turn,
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

pub fn event(turn: &Turn<'_>, app: &AppId, event: &EventId, now: Timestamp) -> Result<Option<LaneHead>> {
    let source: Option<Key> = turn
        .prepare_cached(
            "UPDATE event SET state = ?, reason = NULL WHERE app_id = ? AND id = ? AND state = ? RETURNING source_id",
        )?
        .query_row(params![EventState::Accepted.code(), key(app), key(event), EventState::Held.code()], |row| {
            row.get(0)
        })
        .optional()?;
    let Some(source) = source else { return Ok(None) };
    let lane = Lane::replay(&key::id::<SourceId>(source));
    let subject = Subject::Event(event.clone());
    go_on(turn, &NewWork { kind: WorkKind::Map, lane, app, subject: &subject, due: now }).map(Some)
}

pub fn message(turn: &Turn<'_>, app: &AppId, message: &MessageId, now: Timestamp) -> Result<Option<LaneHead>> {
    let is_held = turn
        .prepare_cached("SELECT 1 FROM delivery WHERE message_id = ? AND app_id = ? AND state = ?")?
        .exists(params![key(message), key(app), DeliveryState::Held.code()])?;
    if !is_held {
        return Ok(None);
    }
    fan_out(turn, app, message, now).map(Some)
}

/// Fans a message out once more: its held deliveries are settled.
pub fn fan_out(turn: &Turn<'_>, app: &AppId, message: &MessageId, now: Timestamp) -> Result<LaneHead> {
    let subject = Subject::Message(message.clone());
    go_on(turn, &NewWork { kind: WorkKind::FanOut, lane: Lane::replay(app), app, subject: &subject, due: now })
}

pub fn resend(
    turn: &Turn<'_>,
    app: &AppId,
    message: &MessageId,
    endpoint: &EndpointId,
    now: Timestamp,
) -> Result<Option<LaneHead>> {
    let changed = turn
        .prepare_cached(
            "UPDATE delivery SET state = ?1, reason = NULL, attempts = 0, next_attempt_ms = ?2, manual = 1, updated_ms = ?2
             WHERE message_id = ?3 AND endpoint_id = ?4 AND app_id = ?5 AND state NOT IN (?6, ?7)
                 AND EXISTS (SELECT 1 FROM message WHERE app_id = ?5 AND id = ?3 AND length(payload) > 0)",
        )?
        .execute(params![
            DeliveryState::Waiting.code(),
            now.as_millis(),
            key(message),
            key(endpoint),
            key(app),
            DeliveryState::Held.code(),
            DeliveryState::Dropped.code(),
        ])?;
    if changed == 0 {
        return Ok(None);
    }
    let subject = Subject::Delivery(message.clone(), endpoint.clone());
    let lane = Lane::replay(endpoint);
    let work = NewWork { kind: WorkKind::Deliver, lane, app, subject: &subject, due: now };
    if order::place(turn, endpoint, &subject)? == Place::Behind {
        return Ok(Some(work.head()));
    }
    go_on(turn, &work).map(Some)
}

pub fn skip(
    turn: &Turn<'_>,
    app: &AppId,
    message: &MessageId,
    endpoint: &EndpointId,
    now: Timestamp,
) -> Result<(bool, Option<LaneHead>)> {
    let may_leave = turn
        .prepare_cached(
            "SELECT 1 FROM delivery WHERE message_id = ? AND endpoint_id = ? AND app_id = ? AND state <> ?",
        )?
        .exists(params![key(message), key(endpoint), key(app), DeliveryState::Waiting.code()])?;
    if may_leave { order::delivery_ends(turn, app, message, endpoint, now) } else { Ok((false, None)) }
}

pub fn reschedule(
    turn: &Turn<'_>,
    app: &AppId,
    message: &MessageId,
    at: Option<Timestamp>,
    now: Timestamp,
) -> Result<Rescheduled> {
    let (app_key, message_key) = (key(app), key(message));
    let scheduled: Option<bool> = turn
        .prepare_cached("SELECT deliver_at_ms IS NOT NULL AND cancelled = 0 FROM message WHERE app_id = ? AND id = ?")?
        .query_row([app_key, message_key], |row| row.get(0))
        .optional()?;
    match scheduled {
        None => return Ok(Rescheduled::Missing),
        Some(false) => return Ok(Rescheduled::NotScheduled),
        Some(true) => {}
    }
    let deliveries = turn
        .prepare_cached("SELECT endpoint_id, state, attempts FROM delivery WHERE message_id = ?")?
        .query_map([message_key], |row| {
            let state = rows::state(row, "state", DeliveryState::from_code)?;
            Ok((rows::id::<EndpointId>(row, "endpoint_id")?, state, row.get::<_, u32>("attempts")?))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    for (endpoint, state, attempts) in &deliveries {
        let begun = *attempts > 0 || matches!(state, DeliveryState::Delivered | DeliveryState::Dead);
        if begun || was_claimed(turn, message, endpoint)? {
            return Ok(Rescheduled::Begun);
        }
    }
    let waiting = deliveries.iter().filter(|(_, state, _)| *state == DeliveryState::Waiting).map(|(id, ..)| id);
    match at {
        Some(at) => {
            turn.prepare_cached("UPDATE message SET deliver_at_ms = ? WHERE app_id = ? AND id = ?")?
                .execute(params![at.as_millis(), app_key, message_key])?;
            for endpoint in waiting {
                put_off(turn, message, endpoint, at, now)?;
            }
        }
        None => {
            turn.prepare_cached("UPDATE message SET cancelled = 1 WHERE app_id = ? AND id = ?")?
                .execute([app_key, message_key])?;
            for endpoint in waiting {
                end(turn, app, message, endpoint, DeliveryState::Cancelled, "the message was cancelled", now)?;
            }
        }
    }
    Ok(Rescheduled::Done)
}

pub fn end_waiting(
    turn: &Turn<'_>,
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
            next = next.or(queue::first(turn, WorkKind::Deliver, lane)?);
        }
        let next = match next {
            Some(next) => next,
            None => match order::blocking(turn, endpoint)? {
                Some(blocking) => blocking,
                None => break,
            },
        };
        let Subject::Delivery(message, _) = &next else { break };
        let app: Option<Key> = turn
            .prepare_cached("SELECT app_id FROM delivery WHERE message_id = ? AND endpoint_id = ?")?
            .query_row([key(message), key(endpoint)], |row| row.get(0))
            .optional()?;
        match app {
            Some(app) => end(turn, &key::id(app), message, endpoint, state, reason, now)?,
            None => queue::remove(turn, WorkKind::Deliver, &next)?,
        }
        ended += 1;
    }
    Ok(ended)
}

/// Ends a delivery that waits or is held, also one that somebody has in hand, and takes it out of its line.
pub fn end_open(
    turn: &Turn<'_>,
    app: &AppId,
    message: &MessageId,
    endpoint: &EndpointId,
    (state, reason): (DeliveryState, &str),
    now: Timestamp,
) -> Result<()> {
    turn.prepare_cached("UPDATE delivery SET state = ? WHERE message_id = ? AND endpoint_id = ? AND state = ?")?
        .execute(params![DeliveryState::Waiting.code(), key(message), key(endpoint), DeliveryState::Held.code()])?;
    end(turn, app, message, endpoint, state, reason, now)
}

/// Ends a delivery that nobody has in hand, if it waits, and takes it out of its line.
fn end(
    turn: &Turn<'_>,
    app: &AppId,
    message: &MessageId,
    endpoint: &EndpointId,
    state: DeliveryState,
    reason: &str,
    now: Timestamp,
) -> Result<()> {
    turn.prepare_cached(
        "UPDATE delivery SET state = ?, reason = ?, next_attempt_ms = NULL, manual = 0, updated_ms = ?
         WHERE message_id = ? AND endpoint_id = ? AND state = ?",
    )?
    .execute(params![
        state.code(),
        reason,
        now.as_millis(),
        key(message),
        key(endpoint),
        DeliveryState::Waiting.code(),
    ])?;
    queue::remove(turn, WorkKind::Deliver, &Subject::Delivery(message.clone(), endpoint.clone()))?;
    order::delivery_ends(turn, app, message, endpoint, now)?;
    Ok(())
}

fn put_off(turn: &Turn<'_>, message: &MessageId, endpoint: &EndpointId, at: Timestamp, now: Timestamp) -> Result<()> {
    turn.prepare_cached(
        "UPDATE delivery SET next_attempt_ms = ?, updated_ms = ? WHERE message_id = ? AND endpoint_id = ?",
    )?
    .execute(params![at.as_millis(), now.as_millis(), key(message), key(endpoint)])?;
    let subject = Subject::Delivery(message.clone(), endpoint.clone()).to_bytes();
    turn.prepare_cached("UPDATE work SET due_ms = ? WHERE kind = ? AND subject = ?")?.execute(params![
        at.as_millis(),
        WorkKind::Deliver.code(),
        subject
    ])?;
    Ok(())
}

fn was_claimed(turn: &Turn<'_>, message: &MessageId, endpoint: &EndpointId) -> Result<bool> {
    let subject = Subject::Delivery(message.clone(), endpoint.clone()).to_bytes();
    Ok(turn
        .prepare_cached("SELECT 1 FROM work WHERE kind = ? AND subject = ? AND (tries > 0 OR node <> 0)")?
        .exists(params![WorkKind::Deliver.code(), subject])?)
}

fn go_on(turn: &Turn<'_>, work: &NewWork<'_>) -> Result<LaneHead> {
    enqueue(turn, work, false)?;
    Ok(work.head())
}
