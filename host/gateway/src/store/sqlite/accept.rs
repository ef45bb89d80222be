//! Accepting: the row, its body and the work that makes it go on, in one transaction.

use rusqlite::{Connection, OptionalExtension, params};

use super::{resources, work::enqueue};
use crate::{
    clock::Timestamp,
    id::{EventId, MessageId},
    store::{
        Result, StoreError,
        flow::{Accepted, Idempotency, Message, NewEvent, WorkKind},
        resource::ResourceKind,
    },
};

/// How long a repeated idempotency key is recognized.
const IDEMPOTENCY_MS: i64 = 24 * 60 * 60 * 1000;

pub fn event(c: &Connection, event: &NewEvent) -> Result<Accepted<EventId>> {
    resources::require(c, ResourceKind::App, event.app.as_str())?;
    if let Some(key) = &event.dedupe_key {
        let first: Option<String> = c
            .prepare_cached("SELECT id FROM event WHERE source_id = ? AND dedupe_key = ?")?
            .query_row(params![event.source.as_str(), key], |row| row.get(0))
            .optional()?;
        if let Some(first) = first {
            return Ok(Accepted::Repeat(first.parse().map_err(inconsistent)?));
        }
    }
    let body = insert_body(c, &event.body)?;
    let headers = serde_json::to_string(&event.headers).map_err(inconsistent)?;
    c.prepare_cached(
        "INSERT INTO event (id, app_id, source_id, received_ms, headers, body_id, dedupe_key, state)
         VALUES (?, ?, ?, ?, ?, ?, ?, 'accepted')",
    )?
    .execute(params![
        event.id.as_str(),
        event.app.as_str(),
        event.source.as_str(),
        event.received_at.as_millis(),
        headers,
        body,
        event.dedupe_key,
    ])?;
    enqueue(c, WorkKind::Map, &event.app, event.id.as_str(), event.received_at)?;
    Ok(Accepted::New(event.id.clone()))
}

pub fn message(c: &Connection, message: &Message, idempotency: Option<&Idempotency>) -> Result<Accepted<MessageId>> {
    resources::require(c, ResourceKind::App, message.app.as_str())?;
    if let Some(idempotency) = idempotency
        && let Some(first) = repeated(c, message, idempotency)?
    {
        return Ok(Accepted::Repeat(first));
    }
    insert_message(c, message)?;
    if let Some(idempotency) = idempotency {
        c.prepare_cached(
            "INSERT INTO idempotency (app_id, key, request, message_id, created_ms) VALUES (?, ?, ?, ?, ?)",
        )?
        .execute(params![
            message.app.as_str(),
            idempotency.key,
            idempotency.request,
            message.id.as_str(),
            message.created_at.as_millis(),
        ])?;
    }
    Ok(Accepted::New(message.id.clone()))
}

/// Adds a message, its body and the work to fan it out.
pub fn insert_message(c: &Connection, message: &Message) -> Result<()> {
    let body = insert_body(c, message.payload.as_bytes())?;
    let channels = serde_json::to_string(&message.channels).map_err(inconsistent)?;
    let origin = serde_json::to_value(message.origin).map_err(inconsistent)?;
    let added = c
        .prepare_cached(
            "INSERT INTO message
                 (id, app_id, uid, event_type, channels, origin, medium, created_ms, deliver_at_ms, event_id, operational,
                  body_id)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            message.id.as_str(),
            message.app.as_str(),
            message.uid,
            message.event_type,
            channels,
            origin.as_str(),
            message.medium,
            message.created_at.as_millis(),
            message.deliver_at.map(Timestamp::as_millis),
            message.event.as_ref().map(EventId::as_str),
            message.operational,
            body,
        ])?;
    if added == 0 {
        let name = message.uid.clone().unwrap_or_else(|| message.id.to_string());
        return Err(StoreError::Exists { kind: "message", name });
    }
    enqueue(c, WorkKind::FanOut, &message.app, message.id.as_str(), message.created_at)
}

/// Adds a body and answers its number.
pub fn insert_body(c: &Connection, bytes: &[u8]) -> Result<i64> {
    c.prepare_cached("INSERT INTO body (bytes) VALUES (?)")?.execute([bytes])?;
    Ok(c.last_insert_rowid())
}

/// The message that an earlier request under this key made.
fn repeated(c: &Connection, message: &Message, idempotency: &Idempotency) -> Result<Option<MessageId>> {
    let outdated = message.created_at.as_millis() - IDEMPOTENCY_MS;
    c.prepare_cached("DELETE FROM idempotency WHERE created_ms <= ?")?.execute([outdated])?;
    let first: Option<([u8; 32], String)> = c
        .prepare_cached("SELECT request, message_id FROM idempotency WHERE app_id = ? AND key = ?")?
        .query_row(params![message.app.as_str(), idempotency.key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match first {
        None => Ok(None),
        Some((request, _)) if request != idempotency.request => Err(StoreError::KeyReused),
        Some((_, id)) => Ok(Some(id.parse().map_err(inconsistent)?)),
    }
}

/// For values that we wrote ourselves and can't read back.
pub fn inconsistent(error: impl ToString) -> StoreError {
    StoreError::Inconsistent { detail: error.to_string() }
}
