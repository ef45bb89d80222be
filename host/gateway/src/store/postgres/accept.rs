//! Accepting: the row and the work that makes it go on, in one transaction.

use super::{
    connect::unavailable,
    order,
    queue::{NewWork, enqueue},
    resources,
    rows::{self, get, params},
    turn::Turn,
};
use crate::{
    clock::Timestamp,
    id::{EventId, MessageId},
    store::{
        Result, StoreError,
        error::inconsistent,
        flow::{Accepted, Admitted, Claim, EventState, Idempotency, Message, NewEvent, WorkKind},
        key::{Lane, Subject, key},
        resource::ResourceKind,
        used::Used,
    },
};

/// How long a repeated idempotency key is recognized.
pub const IDEMPOTENCY_MS: i64 = 24 * 60 * 60 * 1000;

pub async fn event(turn: &Turn, event: &NewEvent, hot: bool) -> Result<Admitted<EventId>> {
    resources::require(turn, ResourceKind::App, event.app.as_str()).await?;
    let headers = serde_json::to_string(&event.headers).map_err(inconsistent)?;
    // Waits for others that accept the same key at this moment.
    let added = turn
        .execute(
            "INSERT INTO event (app_id, id, source_id, received_ms, headers, dedupe_key, state, body)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (source_id, dedupe_key) WHERE dedupe_key IS NOT NULL DO NOTHING",
            params![
                key(&event.app),
                key(&event.id),
                key(&event.source),
                event.received_at.as_millis(),
                headers,
                event.dedupe_key,
                EventState::Accepted.code(),
                event.body,
            ],
        )
        .await?;
    if added == 0 {
        // A statement of its own: it sees what the other one has committed.
        let row = turn
            .first(
                "SELECT id FROM event WHERE source_id = ? AND dedupe_key = ?",
                params![key(&event.source), event.dedupe_key],
            )
            .await?;
        let Some(row) = row else { return Err(unavailable("the event was removed while it was repeated")) };
        return Ok(Admitted { accepted: Accepted::Repeat(rows::id(&row, "id")?), claim: None });
    }
    turn.used(&event.app, Used { events: 1, event_bytes: size(&event.body), ..Used::default() });
    let subject = Subject::Event(event.id.clone());
    let (lane, due) = (Lane::live(&event.source), event.received_at);
    let work = NewWork { kind: WorkKind::Map, lane, app: &event.app, subject: &subject, due };
    let claim = enqueue(turn, &work, hot).await?;
    Ok(Admitted { accepted: Accepted::New(event.id.clone()), claim })
}

pub async fn message(
    turn: &Turn,
    message: &Message,
    idempotency: Option<&Idempotency>,
    hot: bool,
) -> Result<Admitted<MessageId>> {
    resources::require(turn, ResourceKind::App, message.app.as_str()).await?;
    if let Some(idempotency) = idempotency
        && let Some(first) = repeated(turn, message, idempotency).await?
    {
        return Ok(Admitted { accepted: Accepted::Repeat(first), claim: None });
    }
    let claim = insert_message(turn, message, hot).await?;
    Ok(Admitted { accepted: Accepted::New(message.id.clone()), claim })
}

/// Adds a message and the work to fan it out, or its place in line.
pub async fn insert_message(turn: &Turn, message: &Message, hot: bool) -> Result<Option<Claim>> {
    let channels = serde_json::to_string(&message.channels).map_err(inconsistent)?;
    let origin = serde_json::to_value(message.origin).map_err(inconsistent)?;
    let added = turn
        .execute(
            "INSERT INTO message (app_id, id, uid, event_type, channels, origin, medium, created_ms, deliver_at_ms,
                                  event_id, operational, ordering_key, content_until_ms, cancelled, payload)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, false, ?) ON CONFLICT DO NOTHING",
            params![
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
            ],
        )
        .await?;
    if added == 0 {
        let name = message.uid.clone().unwrap_or_else(|| message.id.to_string());
        return Err(StoreError::Exists { kind: "message", name });
    }
    let message_bytes = size(message.payload.as_bytes());
    turn.used(&message.app, Used { messages: 1, message_bytes, ..Used::default() });
    let subject = Subject::Message(message.id.clone());
    if let Some(ordering_key) = &message.ordering_key
        && !order::join(turn, &message.app, ordering_key, &subject).await?
    {
        return Ok(None);
    }
    let (lane, due) = (Lane::live(&message.app), message.created_at);
    enqueue(turn, &NewWork { kind: WorkKind::FanOut, lane, app: &message.app, subject: &subject, due }, hot).await
}

/// Takes the key for this message, or answers the message that an earlier request under it made.
async fn repeated(turn: &Turn, message: &Message, idempotency: &Idempotency) -> Result<Option<MessageId>> {
    let outdated = message.created_at.as_millis() - IDEMPOTENCY_MS;
    // Waits for others that take the same key at this moment.
    let taken = turn
        .execute(
            "INSERT INTO idempotency AS old (app_id, key, request, message_id, created_ms) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (app_id, key) DO UPDATE SET request = excluded.request, message_id = excluded.message_id,
                 created_ms = excluded.created_ms WHERE old.created_ms <= ?6",
            params![
                key(&message.app),
                idempotency.key,
                idempotency.request,
                key(&message.id),
                message.created_at.as_millis(),
                outdated
            ],
        )
        .await?;
    if taken == 1 {
        return Ok(None);
    }
    // A statement of its own: it sees what the other one has committed.
    let row = turn
        .first(
            "SELECT request, message_id FROM idempotency WHERE app_id = ? AND key = ?",
            params![key(&message.app), idempotency.key],
        )
        .await?;
    let Some(row) = row else { return Err(unavailable("the idempotency key was removed while it was used")) };
    if get::<[u8; 32]>(&row, "request")? != idempotency.request {
        return Err(StoreError::KeyReused);
    }
    rows::id(&row, "message_id").map(Some)
}

/// A size as it is counted.
pub fn size(bytes: &[u8]) -> i64 {
    i64::try_from(bytes.len()).unwrap_or(i64::MAX)
}
