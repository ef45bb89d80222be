//! Accepting: the row and the work that makes it go on, in one transaction.

use rusqlite::{OptionalExtension, params};

use super::{
    order,
    queue::{NewWork, enqueue},
    resources,
    writer::Turn,
};
use crate::{
    clock::Timestamp,
    id::{EventId, MessageId},
    store::{
        Result, StoreError,
        error::inconsistent,
        flow::{Accepted, Admitted, Claim, EventState, Idempotency, Message, NewEvent, WorkKind},
        key::{self, Key, Lane, Subject, key},
        resource::ResourceKind,
        used::Used,
    },
};

/// How long a repeated idempotency key is recognized.
pub const IDEMPOTENCY_MS: i64 = 24 * 60 * 60 * 1000;

pub fn event(turn: &Turn<'_>, event: &NewEvent, hot: bool) -> Result<Admitted<EventId>> {
    resources::require(turn, ResourceKind::App, event.app.as_str())?;
    if let Some(dedupe_key) = &event.dedupe_key {
        let first: Option<Key> = turn
            .prepare_cached("SELECT id FROM event WHERE source_id = ? AND dedupe_key = ?")?
            .query_row(params![key(&event.source), dedupe_key], |row| row.get(0))
            .optional()?;
        if let Some(first) = first {
            return Ok(Admitted { accepted: Accepted::Repeat(key::id(first)), claim: None });
        }
    }
    let headers = serde_json::to_string(&event.headers).map_err(inconsistent)?;
    turn.prepare_cached(
        "INSERT INTO event (app_id, id, source_id, received_ms, headers, dedupe_key, state, body)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        key(&event.app),
        key(&event.id),
        key(&event.source),
        event.received_at.as_millis(),
        headers,
        event.dedupe_key,
        EventState::Accepted.code(),
        event.body,
    ])?;
    turn.used(&event.app, Used { events: 1, event_bytes: size(&event.body), ..Used::default() });
    let subject = Subject::Event(event.id.clone());
    let (lane, due) = (Lane::live(&event.source), event.received_at);
    let work = NewWork { kind: WorkKind::Map, lane, app: &event.app, subject: &subject, due };
    let claim = enqueue(turn, &work, hot)?;
    Ok(Admitted { accepted: Accepted::New(event.id.clone()), claim })
}

pub fn message(
    turn: &Turn<'_>,
    message: &Message,
    idempotency: Option<&Idempotency>,
    hot: bool,
) -> Result<Admitted<MessageId>> {
    resources::require(turn, ResourceKind::App, message.app.as_str())?;
    if let Some(idempotency) = idempotency
        && let Some(first) = repeated(turn, message, idempotency)?
    {
        return Ok(Admitted { accepted: Accepted::Repeat(first), claim: None });
    }
    let claim = insert_message(turn, message, hot)?;
    if let Some(idempotency) = idempotency {
        turn.prepare_cached(
            "INSERT OR REPLACE INTO idempotency (app_id, key, request, message_id, created_ms) VALUES (?, ?, ?, ?, ?)",
        )?
        .execute(params![
            key(&message.app),
            idempotency.key,
            idempotency.request,
            key(&message.id),
            message.created_at.as_millis(),
        ])?;
    }
    Ok(Admitted { accepted: Accepted::New(message.id.clone()), claim })
}

/// Adds a message and the work to fan it out, or its place in line.
pub fn insert_message(turn: &Turn<'_>, message: &Message, hot: bool) -> Result<Option<Claim>> {
    let channels = serde_json::to_string(&message.channels).map_err(inconsistent)?;
    let origin = serde_json::to_value(message.origin).map_err(inconsistent)?;
    let added = turn
        .prepare_cached(
            "INSERT INTO message (app_id, id, uid, event_type, channels, origin, medium, created_ms, deliver_at_ms,
                                  event_id, operational, ordering_key, content_until_ms, cancelled, payload)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            key(&message.app),
            key(&message.id),
            message.uid,
            message.event_type,
            channels,
            origin.as_str(),
            message.medium,
            message.created_at.as_millis(),
            message.deliver_at.map(Timestamp::as_millis),
            message.event.as_ref().map(key),
            message.operational,
            message.ordering_key,
            message.content_until.map(Timestamp::as_millis),
            message.payload.as_bytes(),
        ])?;
    if added == 0 {
        let name = message.uid.clone().unwrap_or_else(|| message.id.to_string());
        return Err(StoreError::Exists { kind: "message", name });
    }
    let message_bytes = size(message.payload.as_bytes());
    turn.used(&message.app, Used { messages: 1, message_bytes, ..Used::default() });
    let subject = Subject::Message(message.id.clone());
    if let Some(ordering_key) = &message.ordering_key
        && !order::join(turn, &message.app, ordering_key, &subject)?
    {
        return Ok(None);
    }
    let (lane, due) = (Lane::live(&message.app), message.created_at);
    enqueue(turn, &NewWork { kind: WorkKind::FanOut, lane, app: &message.app, subject: &subject, due }, hot)
}

/// The message that an earlier request under this key made.
fn repeated(turn: &Turn<'_>, message: &Message, idempotency: &Idempotency) -> Result<Option<MessageId>> {
    let outdated = message.created_at.as_millis() - IDEMPOTENCY_MS;
    let first: Option<([u8; 32], Key)> = turn
        .prepare_cached("SELECT request, message_id FROM idempotency WHERE app_id = ? AND key = ? AND created_ms > ?")?
        .query_row(params![key(&message.app), idempotency.key, outdated], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match first {
        None => Ok(None),
        Some((request, _)) if request != idempotency.request => Err(StoreError::KeyReused),
        Some((_, first)) => Ok(Some(key::id(first))),
    }
}

/// A size as it is counted.
pub fn size(bytes: &[u8]) -> i64 {
    i64::try_from(bytes.len()).unwrap_or(i64::MAX)
}
